//! `TrainingJob`: train one model on a dataset with parameter servers and workers.

mod checkpoint;
mod data;
mod model;
mod optimizer;
mod origin;
mod pod;
mod roles;
mod schedule;
mod status;
mod training;
mod volume;

pub use checkpoint::{Checkpoint, S3Storage, Storage};
pub use data::{
    Color, ColumnMissing, ColumnType, CsvSource, Data, Dataset, DatePart, Encoding, HeldOut,
    IdxSource, ImageFolder, ImageSource, MissingPolicy, Normalization, NpySource, ParquetSource,
    S3Connection, Split, TableColumn, TableFile, UnnamedColumns,
};
pub use model::{Activation, ClassWeights, Cnn, ConvBlock, Mlp, Model, RegressionLoss, Task};
pub use optimizer::{Adagrad, Adam, AdamW, Optimizer, Sgd};
pub use origin::{InitialModel, ResumeFrom};
pub use pod::{ImagePullPolicy, PodSettings};
pub use roles::{Servers, Workers};
pub use schedule::{ConstantLr, CosineLr, ExponentialLr, OneCycleLr, Schedule, StepLr};
pub use status::{
    CheckpointStatus, ExportStatus, MemberRestarts, Phase, Progress, RestartCounts, RoleStatus,
    TrainingJobStatus, WorkersStatus,
};
pub use training::{Consistency, CpuCapability, EarlyStopping, Metric, Training};
pub use volume::{
    ConfigMapVolume, EmptyDirVolume, HostPathVolume, PersistentVolumeClaimVolume, Volume,
};

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{rules, schema};

/// What to train, on which data, with how many servers and workers.
///
/// While a job exists only `suspend`, `backoffLimit`, `activeDeadlineSeconds`, `ttlSecondsAfterFinished`, `cleanPodPolicy` and the workers'
/// `replicas`, `minReplicas` and `maxReplicas` may change.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "trainyard.dev",
    version = "v1alpha1",
    kind = "TrainingJob",
    plural = "trainingjobs",
    shortname = "tj",
    category = "all",
    category = "trainyard",
    namespaced,
    status = "TrainingJobStatus",
    derive = "PartialEq",
    validation = rules::root(),
    doc = "A TrainingJob trains one model. The model does not depend on how many servers and workers computed it.",
    scale(
        spec_replicas_path = ".spec.workers.replicas",
        status_replicas_path = ".status.workers.replicas",
        label_selector_path = ".status.workers.selector"
    ),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Step",
        type_ = "integer",
        json_path = ".status.progress.step",
        description = "Optimizer steps done"
    ),
    printcolumn(
        name = "Total",
        type_ = "integer",
        json_path = ".status.progress.totalSteps",
        description = "Optimizer steps of the whole job"
    ),
    printcolumn(
        name = "Loss",
        type_ = "number",
        json_path = ".status.progress.loss",
        description = "Mean training loss of the epoch so far"
    ),
    printcolumn(
        name = "Workers",
        type_ = "integer",
        json_path = ".status.workers.ready",
        description = "Workers that run"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::structural, extend("x-kubernetes-validations" = rules::spec()))]
pub struct TrainingJobSpec {
    /// Container image of the trainer. If it is left out the operator's default is resolved once, written into `status.image`, and kept for the
    /// life of the job. A local run does not use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// What the model learns to predict. It decides the loss, the output layer and the default metrics.
    pub task: Task,

    /// Architecture of the model, without its output layer, which follows from the task and the data.
    pub model: Model,

    /// Where the training and validation data are and how they are read.
    pub data: Data,

    /// How the model is trained.
    pub training: Training,

    /// The model whose parameters are the first ones (fine-tuning). The optimizer, the schedule and the epochs begin anew. Columns, categories,
    /// classes and normalization are those of this model; `task`, `model` and the data must fit it. Local runs only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_model: Option<InitialModel>,

    /// The checkpoints of an earlier job with the same task, model, data (URIs and content) and training, which this job goes on from to the model that the earlier
    /// one would have become. Without effect once this job has checkpoints of its own. Local runs only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_from: Option<ResumeFrom>,

    /// Parameter servers: they hold the parameters and apply the optimizer.
    #[serde(default)]
    pub servers: Servers,

    /// Workers: they read the data and compute gradients.
    #[serde(default)]
    pub workers: Workers,

    /// When and where the state of the job is saved.
    #[serde(default)]
    pub checkpoint: Checkpoint,

    /// How many times pods of this job may fail before the job does. Evictions and lost nodes do not count.
    #[serde(default = "defaults::backoff_limit")]
    #[schemars(range(max = 1_000_000))]
    pub backoff_limit: u32,

    /// Seconds after its start at which a job that has not finished is failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub active_deadline_seconds: Option<u32>,

    /// Seconds after which a finished job is deleted. A job without it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1_000_000_000))]
    pub ttl_seconds_after_finished: Option<u32>,

    /// Which pods are deleted when the job finishes.
    #[serde(default)]
    pub clean_pod_policy: CleanPodPolicy,

    /// True stops the job after a checkpoint and deletes its pods; false continues it from there.
    #[serde(default)]
    pub suspend: bool,
}

/// Which pods are deleted when a job finishes.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum CleanPodPolicy {
    /// Pods that still run; finished ones stay, with their logs.
    #[default]
    Running,
    /// All pods.
    All,
    /// Pods that never started: they would take a place, perhaps a new node's, for a job that is over. All others stay.
    None,
}

impl TrainingJobSpec {
    /// Which set of the defaults that determine the model this spec is trained with, if it may be `newest`: an older one where
    /// nothing in it depends on what a newer set has changed, so that its digests stay what they were.
    pub fn defaults(&self, newest: u32) -> u32 {
        let of_columns = match &self.data.train {
            Dataset::Csv(csv) => csv.defaults(),
            Dataset::Parquet(_) | Dataset::Npy(_) | Dataset::Idx(_) | Dataset::Images(_) => 1,
        };
        let early = self.training.early_stopping.as_ref();
        let of_metric = early.map_or(1, |early| match early.metric {
            Metric::Loss | Metric::Accuracy | Metric::F1 | Metric::Rmse => 1,
            Metric::Auc | Metric::R2 => 2,
            Metric::Precision | Metric::Recall | Metric::PrAuc | Metric::Mae | Metric::Mape => 4,
        });
        let of_task = match &self.task {
            Task::Regression { .. } => 4,
            Task::BinaryClassification {
                positive: _,
                class_weights: None,
                label_smoothing: None,
                threshold: None,
            }
            | Task::MulticlassClassification {
                class_weights: None,
                label_smoothing: None,
            } => 1,
            Task::BinaryClassification { .. } | Task::MulticlassClassification { .. } => 4,
        };
        // Of classes, a fraction has each its share.
        let of_split = match &self.data.validation {
            Some(HeldOut::Split(_)) => 4,
            Some(HeldOut::Fraction(_)) if !matches!(self.task, Task::Regression { .. }) => 4,
            _ => 1,
        };
        let of_test = if self.data.test.is_some() { 4 } else { 1 };
        let all = [of_columns, of_task, of_metric, of_split, of_test];
        newest.min(all.into_iter().max().unwrap_or(1))
    }
}

mod defaults {
    pub fn backoff_limit() -> u32 {
        6
    }
}

impl TrainingJob {
    /// Name of the job; empty for an object that has none, which [`crate::manifest::read`] never returns.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }
}
