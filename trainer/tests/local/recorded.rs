//! What an older version recorded: digests that no change of the program may change, and a checkpoint
//! that goes on to the model that the older version made of it.
//!
//! The jobs pin `cpuCapability: AVX2`, so that the digests hold on every machine with these kernels whose CPU is of the
//! same maker: under the same pin MKL picks other kernels on those of another.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;
use trainyard_crds::training_job::CpuCapability;
use trainyard_runtime::artifact::PROVENANCE;
use trainyard_torch::capability;
use trainyard_torch::engine::use_threads;

use crate::common::{Spec, example, folder, sha};
use crate::pods::pod::Cluster;

/// `runs.json`.
#[derive(Deserialize)]
struct Recorded {
    /// Build of the libtorch that the bits belong to.
    libtorch: String,
    runs: Vec<RecordedRun>,
    resumed: Resumed,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordedRun {
    example: String,
    set: Vec<String>,
    /// By the maker of the CPU.
    model_sha256: BTreeMap<String, String>,
    spec_digest: String,
    data_digest: String,
    job_id: String,
    steps: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resumed {
    example: String,
    set: Vec<String>,
    step: u64,
    /// By the maker of the CPU.
    model_sha256: BTreeMap<String, String>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recorded")
}

fn recorded() -> Recorded {
    let text = fs::read(fixtures().join("runs.json")).expect("the recorded runs");
    serde_json::from_slice(&text).expect("recorded runs")
}

fn spec(file: &str, sets: &[String]) -> Spec {
    let mut spec = example(file);
    spec.sets = sets.to_vec();
    spec
}

/// An artifact of format 1, which has no golden rows in the original columns, predicts as it did.
#[test]
fn t19_an_artifact_of_format_1_predicts() {
    let artifact = fixtures().join("penguins-format-1");
    let data = example("penguins/penguins.csv").file;
    let run = |args: &[&Path]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trainyard"));
        let output = command.args(args).output().expect("the program runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        (String::from_utf8_lossy(&output.stdout).into_owned(), told)
    };
    let (_, told) = run(&["predict".as_ref(), &artifact, "--csv".as_ref(), &data]);
    assert!(told.contains("loss 0.6176, accuracy 0.8634"), "{told}");
    let (report, _) = run(&["inspect".as_ref(), "--json".as_ref(), &artifact]);
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["model"]["formatVersion"], 1);
    let files = report["files"].as_array().expect("files");
    assert!(
        files.len() == 5 && files.iter().all(|file| file["problem"].is_null()),
        "{report}"
    );
}

/// Whether bits can be compared here: the machine has the kernels, and the libtorch and the maker of the CPU
/// are among those that were recorded. Says so where they cannot.
fn comparable(libtorch: &str, recorded: &BTreeMap<String, String>) -> bool {
    use_threads(1); // the linker leaves out a libtorch that nobody calls
    let reason = if !is_x86_feature_detected!("avx2") {
        "this CPU has no AVX2"
    } else if !capability::describe(Some(CpuCapability::Avx2), 1).contains(libtorch) {
        "this is another build of libtorch"
    } else if !recorded.contains_key(&capability::maker()) {
        "nothing was recorded on CPUs of this maker"
    } else {
        return true;
    };
    println!("skipped: {reason}");
    false
}

#[test]
fn t01_digests_are_what_an_older_version_recorded() {
    let Recorded { libtorch, runs, .. } = recorded();
    assert!(runs.len() >= 8);
    if !comparable(&libtorch, &runs[0].model_sha256) {
        return;
    }
    for run in runs {
        let spec = spec(&run.example, &run.set);
        let job = trainyard::run::read_job(&spec.file, &spec.sets).expect("a good manifest");
        let what = format!("{} {:?}", run.example, run.set);
        assert_eq!(job.spec_digest, run.spec_digest, "specDigest of {what}");
        assert_eq!(format!("{:016x}", job.id), run.job_id, "job id of {what}");
        // As it was begun then: what a manifest does not say may mean another model in a job that begins now.
        let cluster = Cluster::new(spec, 1);
        cluster.edit_job(|job| drop(job.as_object_mut().and_then(|job| job.remove("defaults"))));
        let (mut server, _worker) = (cluster.server(0, 1), cluster.worker(0));
        assert_eq!(server.code(), Some(0), "{what}: {}", server.log());
        let report: Value = serde_json::from_str(&server.message()).expect("JSON");
        let folder = folder();
        let artifact = folder.path().join("artifact");
        let exported = Command::new(env!("CARGO_BIN_EXE_trainyard"))
            .args(["export", &cluster.storage, "--out"])
            .arg(&artifact)
            .output()
            .expect("the program runs");
        assert!(exported.status.success(), "{exported:?}");
        let provenance = fs::read(artifact.join(PROVENANCE)).expect("a file");
        let provenance: Value = serde_json::from_slice(&provenance).expect("JSON");
        assert_eq!(provenance["specDigest"], run.spec_digest, "{what}");
        assert_eq!(provenance["data"]["digest"], run.data_digest, "{what}");
        assert_eq!(report["step"], run.steps, "{what}");
        let expected = &run.model_sha256[&capability::maker()];
        assert_eq!(report["modelSha256"], *expected, "{what}");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("a copy")),
        }
    }
}

#[test]
fn t03_a_checkpoint_of_an_older_version_goes_on_to_the_same_model() {
    let Recorded {
        libtorch, resumed, ..
    } = recorded();
    let log = fs::read_to_string(fixtures().join("diabetes/log/000000000022.json"));
    let log: Value = serde_json::from_str(&log.expect("a log")).expect("JSON");
    let manifest = &log["entry"]["record"]["commit"]["manifest"];
    assert_eq!(manifest["step"], resumed.step);
    if !comparable(&libtorch, &resumed.model_sha256) {
        return;
    }
    let fixture = fixtures().join("diabetes");
    // In its folder, and as another job that goes on from it.
    for (workers, servers, other) in [(1, 1, false), (3, 2, false), (2, 1, true)] {
        let folder = folder();
        let mut spec = spec(&resumed.example, &resumed.set).on(workers, servers);
        if other {
            spec.sets.push("metadata.name=other".into());
            spec = spec.set(
                "resumeFrom",
                format!("{{\"uri\": \"{}\"}}", fixture.display()),
            );
        } else {
            copy(&fixture, folder.path());
            spec = spec.resume();
        }
        let ended = spec.start(folder.path()).wait();
        let started = &ended.named("started")[0];
        assert_eq!(started["resumedFrom"], resumed.step, "{ended}");
        assert_eq!(
            sha(&ended.summary()),
            resumed.model_sha256[&capability::maker()]
        );
        // The older version did not say the maker of the CPU; whoever goes on adds it.
        let provenance = fs::read(folder.path().join("artifact").join(PROVENANCE));
        let provenance: Value = serde_json::from_slice(&provenance.expect("a file")).expect("JSON");
        let words = provenance["capability"].as_str().expect("words");
        assert!(words.contains(&capability::maker()), "{words}");
    }
}
