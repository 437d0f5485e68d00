//! Leaves that several threads compute together.

use std::collections::BTreeSet;

use rustix::thread::{CpuSet, sched_getaffinity};

use super::check;
use crate::common::{Spec, example, folder, reference};

/// The number of a processor that this process may use.
fn processor() -> usize {
    let allowed = sched_getaffinity(None).expect("they are known");
    let mut all = 0..CpuSet::MAX_CPU;
    all.find(|cpu| allowed.is_set(*cpu)).expect("one at least")
}

/// Products, sums and convolutions so large that libtorch gives each thread a part.
fn large() -> [Spec; 2] {
    let mlp = example("digits/mlp.yaml")
        .epochs(1)
        .set("model.mlp.hidden", "[512, 512]")
        .set("training.batchSize", 512);
    let cnn = example("digits/cnn.yaml")
        .epochs(1)
        .set("training.batchSize", 256);
    [mlp, cnn]
}

/// Whoever computes them, and on one processor too: the number of threads is exact.
#[test]
fn t30_each_number_of_threads_a_leaf_has_one_digest() {
    let only = processor().to_string();
    let mut digests = BTreeSet::new();
    for spec in large() {
        for threads in [1, 2, 4] {
            let spec = spec.clone().set("training.threadsPerLeaf", threads);
            let expected = reference::train(&spec);
            digests.insert(expected.sha.clone());
            for (workers, servers) in [(2, 2), (3, 1)] {
                check(&spec, &expected, workers, servers);
            }
            let mut pinned = spec.clone();
            pinned.wrapper = ["taskset", "--cpu-list", &only].map(str::to_owned).into();
            check(&pinned, &expected, 2, 1);
            // What a shell or a pod may have set.
            let limited = spec.env("OMP_THREAD_LIMIT", "1").env("OMP_DYNAMIC", "TRUE");
            check(&limited, &expected, 1, 1);
        }
    }
    assert!(digests.len() > 2, "the number of threads changes nothing");
}

/// It is part of the job, and of what the bits depend on.
#[test]
fn t30_the_number_of_threads_is_recorded_and_may_not_change() {
    let spec = example("breast-cancer/job.yaml").epochs(1);
    let folder = folder();
    let two = spec.clone().set("training.threadsPerLeaf", 2);
    let ended = two.start(folder.path()).finish();
    assert!(ended["modelSha256"].is_string());
    let provenance = std::fs::read_to_string(folder.path().join("artifact/provenance.json"));
    let provenance = provenance.expect("a file");
    assert!(provenance.contains(", 2 threads a leaf"), "{provenance}");
    let other = spec.clone().resume().start(folder.path()).wait();
    assert_eq!(other.code(), Some(2), "{other}");
    assert!(format!("{other}").contains("threadsPerLeaf"), "{other}");
    // As jobs were before the field was there.
    let (one, none) = (spec.clone().set("training.threadsPerLeaf", 1), spec);
    let digest = |spec: &Spec| {
        let job = trainyard::run::read_job(&spec.file, &spec.sets).expect("a good manifest");
        job.spec_digest
    };
    assert_eq!(digest(&one), digest(&none));
    assert_ne!(digest(&two), digest(&none));
}
