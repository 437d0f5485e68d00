//! What the operator reports about a job (`status`).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{bare, structural};

/// What the operator reports about a job.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = structural)]
pub struct TrainingJobStatus {
    /// Where the job is in its life, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Conditions of the job, one a type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]),
        schema_with = "bare::<Vec<Condition>>"
    )]
    pub conditions: Vec<Condition>,
    /// `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Generation of the training group. It is raised before a lost server is replaced; nothing of an older one is accepted.
    #[serde(default)]
    #[schemars(range(max = 9_007_199_254_740_991_u64))]
    pub generation: u64,
    /// Image of the trainer, resolved once for the life of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Version of the contract between the operator and the image, recorded with the image; 1 if it is absent. An operator leaves the pods of a job alone whose contract is newer than its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<u32>,
    /// Which defaults that determine the model the job is trained with, recorded when it was first seen; 1 if it is absent. They never change for a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<u32>,
    /// How far training is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Highest generation in which all servers ran. A server that is missing in it has taken its state with it; one that is missing earlier never had any.
    #[serde(default)]
    #[schemars(range(max = 9_007_199_254_740_991_u64))]
    pub started_generation: u64,
    /// How often pods were replaced.
    #[serde(default)]
    pub restarts: RestartCounts,
    /// The job's servers.
    #[serde(default)]
    pub servers: RoleStatus,
    /// The job's workers.
    #[serde(default)]
    pub workers: WorkersStatus,
    /// The last checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointStatus>,
    /// The export of the artifact, once training is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<ExportStatus>,
    /// What is worth knowing of the data and the settings, a sentence each, such as rows that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 512)), extend("x-kubernetes-list-type" = "atomic"))]
    pub warnings: Vec<String>,
    /// URI of the finished model's artifact, as the pods see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// When the first pod was created, or the job was last resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bare::<Time>")]
    pub start_time: Option<Time>,
    /// When the job finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bare::<Time>")]
    pub completion_time: Option<Time>,
    /// Digest of the finished model, in hexadecimal: name, shape, type and bytes of its parameters and buffers in name order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub model_sha256: Option<String>,
}

/// Where a job is in its life.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema)]
pub enum Phase {
    /// Not all servers and no worker run yet.
    Pending,
    /// Training.
    Running,
    /// Something was lost and is being replaced.
    Restarting,
    /// Stopped by `suspend`.
    Suspended,
    /// Training is complete, and a finisher pod exports the artifact.
    Exporting,
    /// Finished, with a model.
    Succeeded,
    /// Ended without a model.
    Failed,
}

impl Phase {
    /// Whether the job has ended; it stays so.
    pub fn is_terminal(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::Failed)
    }
}

/// How far training is. Values that are not finite are left out.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Optimizer steps done.
    #[serde(default)]
    #[schemars(range(max = 9_007_199_254_740_991_u64))]
    pub step: u64,
    /// Optimizer steps of the whole job.
    #[serde(default)]
    #[schemars(range(max = 9_007_199_254_740_991_u64))]
    pub total_steps: u64,
    /// Epochs done.
    #[serde(default)]
    pub epoch: u32,
    /// Mean training loss of the epoch so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Rows trained on in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples_per_second: Option<f64>,
    /// Validation metrics of the last epoch, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub validation: BTreeMap<String, f64>,
    /// Metrics on the test rows, by name, once the training is complete.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub test: BTreeMap<String, f64>,
    /// When these values were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bare::<Time>")]
    pub time: Option<Time>,
}

/// How often pods were replaced.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestartCounts {
    /// Failures, which count against `backoffLimit`.
    #[serde(default)]
    pub failures: u32,
    /// Evictions, preemptions, drained and lost nodes, and pods that asked to be started again, which do not.
    #[serde(default)]
    pub disruptions: u32,
    /// Servers, workers and finishers that were replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2048), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub members: Vec<MemberRestarts>,
}

/// The replacements of one server, worker or finisher.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberRestarts {
    /// Role and index: `server-0`, `worker-3`, `finisher-0`.
    pub name: String,
    /// Attempt that is current, from 0; it ends the name of the pod.
    #[serde(default)]
    pub attempt: u32,
    /// Pods that ended in a row without a healthy period; the wait before the next one doubles with each.
    #[serde(default)]
    pub streak: u32,
    /// The next pod is not created before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bare::<Time>")]
    pub not_before: Option<Time>,
    /// How the last pod ended.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub reason: String,
}

/// The export of an artifact.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportStatus {
    /// When training was found complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bare::<Time>")]
    pub start_time: Option<Time>,
    /// Finisher pods that failed; the export is given up after the third.
    #[serde(default)]
    pub failures: u32,
}

/// The servers of a job.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleStatus {
    /// Pods that exist and have not finished.
    #[serde(default)]
    pub replicas: u32,
    /// Pods that are ready.
    #[serde(default)]
    pub ready: u32,
    /// Indexes of those whose current pod has been ready, as in `0-3,7`. One of them that is missing is lost, and is counted whenever that is noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub started_indexes: Option<String>,
}

/// The workers of a job.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkersStatus {
    /// Pods that exist and have not finished.
    #[serde(default)]
    pub replicas: u32,
    /// Pods whose container runs.
    #[serde(default)]
    pub ready: u32,
    /// Label selector of the workers' pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Indexes of those whose current pod has started, as in `0-3,7`. One of them that is missing is lost, and is counted whenever that is noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub started_indexes: Option<String>,
}

/// A checkpoint.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    /// Optimizer steps that it holds.
    #[serde(default)]
    #[schemars(range(max = 9_007_199_254_740_991_u64))]
    pub step: u64,
    /// When it was committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bare::<Time>")]
    pub time: Option<Time>,
}
