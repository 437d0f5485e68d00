//! A run's folder with a real checkpoint, made of an example's data and the storage's own writers.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use serde_json::{Value, json};
use tch::Tensor;
use tempfile::TempDir;
use trainyard_checkpoint::{
    FolderStorage, JobIdentity, Log, Manifest, Section, ShardId, Storage, write_shard,
};
use trainyard_core::coordinator::Record;
use trainyard_core::manifest::{CoordinatorState, FinalMetrics};
use trainyard_core::metrics::{Metrics, Objective, summarize};
use trainyard_data::{Dataset, Folder, load};
use trainyard_runtime::job::Job;
use trainyard_torch::engine::{evaluate_table, use_threads};
use trainyard_torch::network::Network;

/// A run's folder.
pub struct Run {
    pub folder: TempDir,
    pub job: Job,
    pub data: Dataset,
    pub train: Metrics,
    pub model_sha256: String,
}

/// What to train.
pub struct Example {
    pub name: &'static str,
    pub folder: &'static str,
    pub task: &'static str,
    pub model: Value,
    pub source: Value,
}

pub fn breast_cancer() -> Example {
    Example {
        name: "breast-cancer",
        folder: "breast-cancer",
        task: "binaryClassification",
        model: json!({"mlp": {"hidden": [128, 64, 32], "activation": "relu"}}),
        source: json!({"csv": {"uri": "breast-cancer.csv", "label": "diagnosis"}}),
    }
}

pub fn diabetes() -> Example {
    Example {
        name: "diabetes",
        folder: "diabetes",
        task: "regression",
        model: json!({"mlp": {"hidden": [32, 16], "activation": "tanh", "dropout": 0.3}}),
        source: json!({"csv": {"uri": "diabetes.csv", "label": "progression", "categorical": ["sex"]}}),
    }
}

pub fn digits() -> Example {
    let blocks =
        json!([{"channels": 8, "groups": 4, "pool": 2}, {"channels": 16, "kernelSize": 5}]);
    Example {
        name: "digits",
        folder: "digits",
        task: "multiclassClassification",
        model: json!({"cnn": {"blocks": blocks, "hidden": [32], "activation": "gelu", "dropout": 0.2}}),
        source: json!({"npy": {"features": "digits-features.npy", "labels": "digits-labels.npy"}}),
    }
}

impl Example {
    /// Where the example's files are.
    pub fn file(&self, name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../examples")
            .join(self.folder)
            .join(name)
    }

    fn job(&self) -> Job {
        let task: Value = [(self.task.to_owned(), json!({}))].into_iter().collect();
        let manifest = json!({
            "apiVersion": "trainyard.dev/v1alpha1",
            "kind": "TrainingJob",
            "metadata": {"name": self.name},
            "spec": {
                "task": task,
                "model": self.model,
                "data": {"volume": {"emptyDir": {}}, "train": self.source},
                "training": {
                    "epochs": 2, "batchSize": 32, "microBatches": 4, "seed": 7,
                    "optimizer": {"adam": {"learningRate": 0.001}},
                },
                "checkpoint": {"storage": {"volume": {"emptyDir": {}}}},
            },
        });
        Job::from_json(&manifest.to_string()).expect("a job")
    }
}

impl Run {
    /// A folder with one complete checkpoint of the initial parameters, in two shards.
    pub fn complete(example: &Example) -> Self {
        let mut run = Run::empty(example);
        run.commit(40, true);
        run
    }

    /// A folder that a coordinator has claimed.
    pub fn empty(example: &Example) -> Self {
        let job = example.job();
        let files = Folder::new(example.file(""));
        let data = load(&files, &job.load_options().expect("options")).expect("data");
        let folder = tempfile::tempdir().expect("a folder");
        let run = Run {
            folder,
            job,
            data,
            train: Metrics::default(),
            model_sha256: String::new(),
        };
        run.log();
        run
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn log(&self) -> Log {
        let storage: Arc<dyn Storage> =
            Arc::new(FolderStorage::open(self.path()).expect("a storage"));
        let identity = JobIdentity {
            job: self.job.name.clone(),
            spec_digest: self.job.spec_digest.clone(),
        };
        let mut log = Log::open(storage, identity).expect("a log");
        log.claim(1, "test").expect("a claim");
        log
    }

    /// Commits parameters that depend on the step alone.
    pub fn commit(&mut self, step: u64, complete: bool) {
        let mut log = self.log();
        let facts = &self.data.facts;
        let layout = self.job.layout(facts).expect("a layout");
        let mut arena = vec![0.0; layout.len()];
        layout
            .initialize(step, 0..layout.len(), &mut arena)
            .expect("parameters");
        self.train = self.metrics(&arena);
        self.model_sha256 = layout.model_sha256(&arena).expect("a digest");
        let slot = vec![0.5; layout.len()];
        let cut = layout.len() / 3;
        let shard = |index: u32, range: std::ops::Range<usize>| {
            let sections = [
                Section {
                    name: "parameters",
                    parts: vec![&arena[range.clone()]],
                },
                Section {
                    name: "exp_avg",
                    parts: vec![&slot[range.clone()]],
                },
            ];
            let id = ShardId {
                generation: 1,
                step,
                index,
                of: 2,
            };
            write_shard(log.storage().as_ref(), id, range, &sections).expect("a shard")
        };
        let shards = vec![shard(0, 0..cut), shard(1, cut..layout.len())];
        let state = CoordinatorState {
            record: Record {
                step,
                samples: step * 32,
                ..Record::default()
            },
            metrics: complete.then(|| FinalMetrics {
                train: self.train.clone(),
                ..FinalMetrics::default()
            }),
        };
        let manifest = Manifest {
            identity: log.identity().clone(),
            generation: 1,
            step,
            epoch: 2,
            complete,
            imported: false,
            best: false,
            floats: layout.len() as u64,
            shards,
            layout_digest: layout.digest(),
            capability: "test".into(),
            facts: facts.clone(),
            coordinator: state,
            spec: self.job.to_json().expect("a spec"),
            model_sha256: complete.then(|| self.model_sha256.clone()),
        };
        log.commit(manifest).expect("a commit");
    }

    /// What a worker would report of these parameters, block by block.
    fn metrics(&self, arena: &[f32]) -> Metrics {
        use_threads(1);
        let facts = &self.data.facts;
        let (architecture, layout) = (
            self.job.architecture(facts).expect("a model"),
            self.job.layout(facts).expect("a layout"),
        );
        let tensor = |placed: &trainyard_core::layout::Placed| {
            let shape: Vec<i64> = placed.param.shape.iter().map(|&d| d as i64).collect();
            Tensor::from_slice(&arena[placed.range()]).view(shape.as_slice())
        };
        let parameters: Vec<Tensor> = layout.params().map(tensor).collect();
        let objective = Objective::new(self.job.loss(), &facts.schema);
        let network = Network::new(&architecture, &layout);
        summarize(
            objective,
            &evaluate_table(&network, &parameters, &self.data.train, objective).expect("blocks"),
        )
    }

    /// Exports to `artifact` in this folder, by the command.
    pub fn export(&self) -> PathBuf {
        let artifact = self.path().join("artifact");
        let output = trainyard(&[&"export", &self.path(), &"--out", &artifact]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        artifact
    }
}

/// Runs the program.
pub fn trainyard(args: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainyard"));
    // What `predict` would start itself again for.
    command.envs([("OMP_NUM_THREADS", "1"), ("MKL_NUM_THREADS", "1")]);
    for arg in args {
        command.arg(arg);
    }
    command.output().expect("the program runs")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// JSON lines of an output.
pub fn lines(output: &Output) -> Vec<Value> {
    text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect()
}

/// Asserts that a command was refused as bad input, in one line that names all of `parts`.
pub fn refused(output: &Output, parts: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    for part in parts {
        assert!(stderr.contains(part), "{part:?} is not in {stderr:?}");
    }
}
