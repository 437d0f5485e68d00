//! Evaluation: losses and metrics, the same bits whoever computes which rows.
//!
//! Rows are evaluated in fixed blocks. A block's result is a function of its outputs and labels;
//! [`summarize`] merges the results in block order. All of it is in f64 and through `libm`, or in
//! integers, so that it does not depend on the host either.

use serde::{Deserialize, Serialize};

mod block;
mod loss;
mod objective;
mod report;
mod score;

pub use block::{BlockResult, Detail, MetricsError};
pub use loss::{bce_with_logits, cross_entropy, huber, poisson, squared_error};
pub use objective::{Loss, Objective};
pub use report::{has_scores, report};
pub use trainyard_contract::{ClassificationReport, Metric, Metrics};

/// What a model predicts; decides how labels are read. The number of classes comes with the data, which
/// makes it a [`TaskKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Task {
    /// Two classes; the label of a row is 0 or 1.
    #[serde(rename = "binaryClassification")]
    Binary,
    /// Two or more classes; the label of a row is the index of its class.
    #[serde(rename = "multiclassClassification")]
    Multiclass,
    /// A number; the label of a row is that number, not normalized.
    Regression,
}

impl Task {
    /// The task with the number of classes filled in.
    pub fn kind(self, outputs: u64) -> TaskKind {
        match self {
            Task::Binary => TaskKind::Binary,
            Task::Multiclass => TaskKind::Multiclass {
                classes: u32::try_from(outputs).unwrap_or(u32::MAX),
            },
            Task::Regression => TaskKind::Regression,
        }
    }
}

/// A [`Task`] on given data, and so what a model's outputs mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// One logit a row; labels 0 and 1. The loss is binary cross-entropy.
    Binary,
    /// One logit a class; labels are class indices. The loss is cross-entropy.
    Multiclass {
        /// Number of classes.
        classes: u32,
    },
    /// One value a row. The loss is the squared error.
    Regression,
}

impl TaskKind {
    /// Outputs of one row.
    pub fn outputs(self) -> usize {
        match self {
            TaskKind::Binary | TaskKind::Regression => 1,
            TaskKind::Multiclass { classes } => classes as usize,
        }
    }

    /// The class that a row's outputs predict: for binary 1 if the logit is above 0 (a probability
    /// above one half), for multiclass the first of the greatest logits (NaN is never greatest).
    /// None for regression, or without outputs.
    pub fn predicted_class(self, outputs: &[f32]) -> Option<u32> {
        match self {
            TaskKind::Binary => outputs.first().map(|&logit| u32::from(logit > 0.0)),
            TaskKind::Multiclass { .. } => {
                let mut best = (0, *outputs.first()?);
                for (class, &logit) in outputs.iter().enumerate() {
                    if logit > best.1 || best.1.is_nan() {
                        best = (class as u32, logit);
                    }
                }
                Some(best.0)
            }
            TaskKind::Regression => None,
        }
    }
}

/// The metrics on the rows of all blocks, and the [`report`] on their classes, which has the AUC of a multiclass task.
pub fn summarize_with_report(
    objective: &Objective,
    names: &[String],
    blocks: &[BlockResult],
    suggest: bool,
) -> (Metrics, Option<ClassificationReport>) {
    let metrics = summarize(*objective, blocks);
    let report = report(objective, names, blocks, suggest);
    let classes = report.iter().flat_map(|report| &report.classes);
    let aucs: Vec<f64> = classes.filter_map(|class| class.auc).collect();
    let mean = (!aucs.is_empty()).then(|| aucs.iter().sum::<f64>() / aucs.len() as f64);
    let auc = metrics.auc.or(mean);
    (Metrics { auc, ..metrics }, report)
}

/// Merges the results of all blocks, in their order, into metrics.
///
/// Blocks of another task than `task` ([`BlockResult::fits`]) are left out; without rows there are no
/// metrics.
pub fn summarize(objective: impl Into<Objective>, blocks: &[BlockResult]) -> Metrics {
    let objective = objective.into();
    let task = objective.kind;
    let blocks: Vec<&BlockResult> = blocks.iter().filter(|block| block.fits(task)).collect();
    let rows = blocks
        .iter()
        .map(|block| block.rows)
        .fold(0, u64::saturating_add);
    if rows == 0 {
        return Metrics::default();
    }
    let loss = blocks.iter().map(|block| block.loss_sum).sum::<f64>() / rows as f64;
    let metrics = match task {
        TaskKind::Binary => score::binary(&blocks, objective.cutoff),
        TaskKind::Multiclass { classes } => score::multiclass(&blocks, classes),
        TaskKind::Regression => score::regression(&blocks),
    };
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    Metrics {
        loss: finite(Some(loss)),
        accuracy: finite(metrics.accuracy),
        precision: finite(metrics.precision),
        recall: finite(metrics.recall),
        f1: finite(metrics.f1),
        auc: finite(metrics.auc),
        pr_auc: finite(metrics.pr_auc),
        rmse: finite(metrics.rmse),
        mae: finite(metrics.mae),
        mape: finite(metrics.mape),
        r2: finite(metrics.r2),
    }
}
