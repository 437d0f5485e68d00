//! How the model is trained (`spec.training`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Optimizer, Schedule};

/// How the model is trained. Nothing here depends on the number of servers or workers.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Training {
    /// Passes over the training data.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub epochs: u32,
    /// Rows of one optimizer step, over all workers together.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub batch_size: u32,
    /// Number of parts (leaves) that a batch is cut into, a power of two. It is the most workers that can share a step, and part of what the
    /// model is: another number gives another (equally good) model.
    #[serde(default = "default_micro_batches")]
    #[schemars(
        range(min = 1, max = 1024),
        extend("x-kubernetes-validations" = crate::rules::micro_batches())
    )]
    pub micro_batches: u32,
    /// Threads that compute a leaf together, each on a processor of its own if there are enough; 1 unless told otherwise. It is part of what the
    /// model is, as the number of leaves is: an operation's parts are added in an order that depends on it. Evaluation and inference use one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1, max = 64))]
    pub threads_per_leaf: u32,
    /// Seed of everything random: initialization, shuffling, dropout, the validation split.
    #[serde(default)]
    #[schemars(range(max = 9_007_199_254_740_991_u64))]
    pub seed: u64,
    /// Rule by which gradients change parameters.
    pub optimizer: Optimizer,
    /// How the learning rate changes over the job.
    #[serde(default)]
    pub schedule: Schedule,
    /// How steps of different workers relate.
    #[serde(default)]
    pub consistency: Consistency,
    /// Stops the job when a validation metric has ceased to improve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStopping>,
    /// Pins the kernels that libtorch uses on a CPU, under the names of its `ATEN_CPU_CAPABILITY`, so that machines of different age compute the
    /// same bits. `AVX2` and `AVX512` do so on CPUs of one maker, `DEFAULT` on those of all makers. Without it the first worker's best is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_capability: Option<CpuCapability>,
}

fn default_micro_batches() -> u32 {
    4
}

fn one() -> u32 {
    1
}

/// One thread is what jobs had before the field was there: they keep their digests.
fn is_one(threads: &u32) -> bool {
    *threads == 1
}

/// How steps of different workers relate.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Consistency {
    /// Every step is computed on the parameters of the step before, whoever computes it.
    Sync {},
}

impl Default for Consistency {
    fn default() -> Self {
        Consistency::Sync {}
    }
}

/// When to stop early. It needs `data.validation`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EarlyStopping {
    /// Validation metric that is watched.
    pub metric: Metric,
    /// Epochs without improvement after which the job stops.
    #[serde(default = "default_patience")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub patience: u32,
    /// Change below which a better value does not count as an improvement.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1e12))]
    pub min_delta: f64,
    /// True gives the parameters of the best epoch as the result, false those of the last.
    #[serde(default = "default_restore_best")]
    pub restore_best: bool,
}

fn default_patience() -> u32 {
    5
}

fn default_restore_best() -> bool {
    true
}

/// A metric of validation.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Metric {
    /// The task's loss; lower is better.
    Loss,
    /// Share of rows classified right.
    Accuracy,
    /// Share of the rows predicted to be of a class that are; for several classes the mean over the classes.
    Precision,
    /// Share of the rows of a class that are predicted to be; for several classes the mean over the classes.
    Recall,
    /// F1 score; for several classes the mean over the classes.
    F1,
    /// Area under the ROC curve, for binary classification.
    Auc,
    /// Average precision, the area under the curve of precision and recall, for binary classification.
    PrAuc,
    /// Root of the mean squared error, for regression; lower is better.
    Rmse,
    /// Mean absolute error, for regression; lower is better.
    Mae,
    /// Mean absolute error as a share of the target, for regression; lower is better.
    Mape,
    /// Coefficient of determination, for regression.
    R2,
}

/// CPU kernels of libtorch.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum CpuCapability {
    /// Kernels that every CPU of the architecture runs, with the same bits on CPUs of all makers.
    #[serde(rename = "DEFAULT")]
    Default,
    /// AVX2 kernels.
    #[serde(rename = "AVX2")]
    Avx2,
    /// AVX-512 kernels.
    #[serde(rename = "AVX512")]
    Avx512,
}

impl CpuCapability {
    /// The name that manifests and libtorch use.
    pub fn name(self) -> &'static str {
        match self {
            CpuCapability::Default => "DEFAULT",
            CpuCapability::Avx2 => "AVX2",
            CpuCapability::Avx512 => "AVX512",
        }
    }
}
