//! Training steps of whole jobs, against plain loops over the same leaves on the same cores.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use tch::nn;
use trainyard::run::read_job;
use trainyard_core::tree::Tree;
use trainyard_data::{Dataset, Folder};
use trainyard_runtime::job::Job;

use crate::machine;
use crate::plain::Loop;
use crate::process::Processes;
use crate::ratio::{Pace, Target, ms, report};

/// Pairs of a comparison that has a target, and of any other.
const ROUNDS: [usize; 2] = [5, 3];

/// A perceptron of ten million parameters on 784 features.
const HIDDEN: [i64; 3] = [2048, 2048, 2048];
const FEATURES: usize = 784;
const CLASSES: usize = 10;
const ROWS: usize = 8192;
const BATCH: i64 = 1024;

/// A job that can be run, with what the plain loop needs of it.
struct Workload {
    job: Job,
    dataset: Dataset,
    data: PathBuf,
    folder: tempfile::TempDir,
}

impl Workload {
    fn new(file: &Path, set: &[&str]) -> Result<Self> {
        let set: Vec<String> = set.iter().map(|set| set.to_string()).collect();
        let job = read_job(file, &set)?;
        let data = file.parent().unwrap_or(Path::new(".")).to_path_buf();
        let dataset = trainyard_data::load(&Folder::new(&data), &job.load_options()?)?;
        Ok(Workload {
            job,
            dataset,
            data,
            folder: tempfile::tempdir()?,
        })
    }

    /// Milliseconds a step of the real job, from a fresh start.
    fn pace(&self, window: Duration) -> Result<Pace> {
        let folder = tempfile::tempdir_in(self.folder.path())?;
        let chunks = self.job.layout(&self.dataset.facts)?.chunks();
        Processes::start(&self.job, chunks, folder.path(), &self.data)?.pace(window)
    }
}

/// Milliseconds a step of a plain loop on `threads` threads of libtorch, over at least `window`.
fn plain_pace(plain: &mut Loop, tree: Tree, threads: usize, window: Duration) -> Pace {
    tch::set_num_threads(threads as i32);
    plain.step(tree);
    let begin = Instant::now();
    let (mut steps, mut best) = (0, f64::INFINITY);
    while begin.elapsed() < window {
        let step = Instant::now();
        plain.step(tree);
        best = best.min(ms(step.elapsed()));
        steps += 1;
    }
    Pace {
        mean: ms(begin.elapsed()) / f64::from(steps),
        best,
    }
}

/// Writes the manifest and the data of the large perceptron.
fn large(folder: &Path, leaves: u32, threads: usize, checkpoint_every: u32) -> Result<PathBuf> {
    let features: Vec<f32> = (0..ROWS * FEATURES)
        .map(|i| ((i * 2_654_435_761) % 1009) as f32 / 1009.0 - 0.5)
        .collect();
    let labels: Vec<f32> = (0..ROWS).map(|row| (row % CLASSES) as f32).collect();
    write_npy(
        &folder.join("x.npy"),
        &format!("({ROWS}, {FEATURES})"),
        &features,
    )?;
    write_npy(&folder.join("y.npy"), &format!("({ROWS},)"), &labels)?;
    let manifest = format!(
        "apiVersion: trainyard.dev/v1alpha1
kind: TrainingJob
metadata: {{name: large}}
spec:
  task: {{multiclassClassification: {{}}}}
  model: {{mlp: {{hidden: {HIDDEN:?}, activation: relu}}}}
  data:
    volume: {{configMap: {{name: large}}}}
    train: {{npy: {{features: x.npy, labels: y.npy}}}}
  training:
    epochs: 100000
    batchSize: {BATCH}
    microBatches: {leaves}
    threadsPerLeaf: {threads}
    optimizer: {{sgd: {{learningRate: 0.001}}}}
    seed: 7
  servers: {{replicas: 1}}
  workers: {{replicas: 1}}
  checkpoint: {{everySteps: {checkpoint_every}, keep: 2}}
"
    );
    let path = folder.join("job.yaml");
    std::fs::write(&path, manifest)?;
    Ok(path)
}

/// NumPy's format, version 1.0.
fn write_npy(path: &Path, shape: &str, values: &[f32]) -> Result<()> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(format!("{header:<width$}\n", width = length - 1).bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    Ok(std::fs::write(path, bytes)?)
}

fn large_loop(workload: &Workload) -> Result<Loop> {
    let Dataset { train, .. } = &workload.dataset;
    Ok(Loop::new(
        workload.job.task,
        &HIDDEN,
        CLASSES as i64,
        train,
        BATCH,
        nn::Sgd::default(),
        1e-3,
    )?)
}

/// Runs the two in turns.
fn in_turns(
    rounds: usize,
    mut ours: impl FnMut() -> Result<Pace>,
    mut reference: impl FnMut() -> Result<Pace>,
) -> Result<[Vec<Pace>; 2]> {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        times[0].push(ours()?);
        times[1].push(reference()?);
    }
    Ok(times)
}

/// A step of ten million parameters.
pub fn report_step() -> Result<()> {
    println!(
        "a step of a perceptron of 10 million parameters, batch {BATCH}, 1 server and 1 worker / a plain loop"
    );
    let window = Duration::from_secs(4);
    for (leaves, threads) in [(8, 1), (4, 1), (1, 1), (1, machine::cores())] {
        let folder = tempfile::tempdir()?;
        let workload = Workload::new(&large(folder.path(), leaves, threads, 1_000_000)?, &[])?;
        let mut plain = large_loop(&workload)?;
        let (tree, one) = (workload.job.tree, Tree::new(1)?);
        let mut full = Vec::new();
        let met = Target::AtMost(1.15);
        let (target, full_target, rounds) = match (leaves, threads) {
            (8, _) => (met, Target::None, ROUNDS[0]),
            (1, 2..) => (Target::None, met, ROUNDS[0]),
            _ => (Target::None, Target::None, ROUNDS[1]),
        };
        let [a, b] = in_turns(
            rounds,
            || workload.pace(window),
            || {
                full.push(plain_pace(&mut plain, one, machine::cores(), window / 2));
                Ok(plain_pace(&mut plain, tree, machine::cores(), window / 2))
            },
        )?;
        if leaves > 1 {
            report(
                &format!("V = {leaves}, same leaves one by one"),
                &a,
                &b,
                "ms",
                target,
            );
        }
        report(
            &format!("V = {leaves}, {threads} threads a leaf, price of determinism: full batch"),
            &a,
            &full,
            "ms",
            full_target,
        );
    }
    Ok(())
}

/// The breast-cancer example.
pub fn report_job() -> Result<()> {
    println!(
        "steps a second of the breast-cancer job, 1 server and 1 worker / a plain loop over the same leaves"
    );
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/breast-cancer/job.yaml");
    let window = Duration::from_secs(2);
    let cases = [
        (
            "as it is",
            "spec.checkpoint.everySteps=50",
            Target::AtLeast(0.5),
            ROUNDS[0],
        ),
        (
            "without checkpoints",
            "spec.checkpoint.everySteps=100000000",
            Target::None,
            ROUNDS[1],
        ),
    ];
    for (what, checkpoints, target, rounds) in cases {
        let workload = Workload::new(&file, &["spec.training.epochs=1000000", checkpoints])?;
        let train = &workload.dataset.train;
        let mut plain = Loop::new(
            workload.job.task,
            &[128, 64, 32],
            1,
            train,
            32,
            nn::Adam::default(),
            1e-3,
        )?;
        let tree = workload.job.tree;
        let [a, b] = in_turns(
            rounds,
            || Ok(Pace::from(workload.pace(window)?.mean).rate()),
            || {
                // So small products are often faster on one thread: the reference is the better one.
                let mut on = |threads| plain_pace(&mut plain, tree, threads, window / 2);
                let times = [1, machine::cores()].map(|threads| on(threads).mean);
                Ok(Pace::from(times[0].min(times[1])).rate())
            },
        )?;
        report(what, &a, &b, "/s", target);
    }
    Ok(())
}

/// What a checkpoint costs the steps around it.
pub fn report_checkpoint() -> Result<()> {
    const EVERY: u32 = 10;
    println!(
        "step time with a checkpoint every {EVERY} steps / without, 10 million parameters, 8 leaves"
    );
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let with = Workload::new(&large(folders[0].path(), 8, 1, EVERY)?, &[])?;
    let without = Workload::new(&large(folders[1].path(), 8, 1, 1_000_000)?, &[])?;
    let window = Duration::from_secs(8);
    let [a, b] = in_turns(ROUNDS[1], || with.pace(window), || without.pace(window))?;
    report("1 server, 1 worker", &a, &b, "ms", Target::None);
    let stall: Vec<Pace> = a
        .iter()
        .zip(&b)
        .map(|(with, without)| Pace::from(f64::from(EVERY) * (with.mean - without.mean)))
        .collect();
    let step: Vec<Pace> = b.iter().map(|pace| Pace::from(pace.mean)).collect();
    report(
        "stall of one checkpoint / a step",
        &stall,
        &step,
        "ms",
        Target::AtMost(1.0),
    );
    Ok(())
}
