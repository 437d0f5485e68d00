//! Evaluation: losses and metrics, the same bits whoever computes which rows.
//!
//! Rows are evaluated in fixed blocks. A block's result is a function of its outputs and labels;
//! [`summarize`] merges the results in block order. All of it is in f64 and through `libm`, or in
//! integers, so that it does not depend on the host either.

use serde::{Deserialize, Serialize};

mod block;
mod loss;
mod score;

pub use block::{BlockResult, Detail, MetricsError};
pub use loss::{bce_with_logits, cross_entropy, squared_error};

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

/// One of the [`Metrics`], by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Mean loss of a row; lower is better.
    Loss,
    /// Share of rows classified right.
    Accuracy,
    /// Binary: area under the ROC curve.
    Auc,
    /// F1 score.
    F1,
    /// Regression: root of the mean squared error; lower is better.
    Rmse,
    /// Regression: coefficient of determination.
    R2,
}

impl Metric {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Metric; 6] = [
        Metric::Loss,
        Metric::Accuracy,
        Metric::Auc,
        Metric::F1,
        Metric::Rmse,
        Metric::R2,
    ];

    /// Its name in manifests, results and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Loss => "loss",
            Metric::Accuracy => "accuracy",
            Metric::Auc => "auc",
            Metric::F1 => "f1",
            Metric::Rmse => "rmse",
            Metric::R2 => "r2",
        }
    }

    /// Whether `a` improves on `b` by more than `min_delta`. Nothing is better than, or beaten by, NaN.
    pub fn better(self, a: f64, b: f64, min_delta: f64) -> bool {
        match self {
            Metric::Loss | Metric::Rmse => a < b - min_delta,
            Metric::Accuracy | Metric::Auc | Metric::F1 | Metric::R2 => a > b + min_delta,
        }
    }
}

/// Metrics of a set of rows. One that the task does not have, that is undefined on these rows
/// (such as AUC with one class only), or that is not finite is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metrics {
    /// Mean loss of a row.
    #[serde(skip_serializing_if = "not_finite")]
    pub loss: Option<f64>,
    /// Share of rows classified right.
    #[serde(skip_serializing_if = "not_finite")]
    pub accuracy: Option<f64>,
    /// Binary: area under the ROC curve.
    #[serde(skip_serializing_if = "not_finite")]
    pub auc: Option<f64>,
    /// Binary: F1 of class 1. Multiclass: its mean over the classes that were seen or predicted.
    #[serde(skip_serializing_if = "not_finite")]
    pub f1: Option<f64>,
    /// Regression: root of the mean squared error.
    #[serde(skip_serializing_if = "not_finite")]
    pub rmse: Option<f64>,
    /// Regression: coefficient of determination.
    #[serde(skip_serializing_if = "not_finite")]
    pub r2: Option<f64>,
}

fn not_finite(value: &Option<f64>) -> bool {
    !value.is_some_and(f64::is_finite)
}

impl Metrics {
    /// All metrics that are there and finite, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (Metric, f64)> {
        Metric::ALL
            .into_iter()
            .filter_map(|metric| Some((metric, self.get(metric)?)))
    }

    /// A metric, if it is there and finite.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        let value = match metric {
            Metric::Loss => self.loss,
            Metric::Accuracy => self.accuracy,
            Metric::Auc => self.auc,
            Metric::F1 => self.f1,
            Metric::Rmse => self.rmse,
            Metric::R2 => self.r2,
        };
        value.filter(|value| value.is_finite())
    }
}

/// Merges the results of all blocks, in their order, into metrics.
///
/// Blocks of another task than `task` ([`BlockResult::fits`]) are left out; without rows there are no
/// metrics.
pub fn summarize(task: TaskKind, blocks: &[BlockResult]) -> Metrics {
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
        TaskKind::Binary => score::binary(&blocks),
        TaskKind::Multiclass { classes } => score::multiclass(&blocks, classes),
        TaskKind::Regression => score::regression(&blocks, loss),
    };
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    Metrics {
        loss: finite(Some(loss)),
        accuracy: finite(metrics.accuracy),
        auc: finite(metrics.auc),
        f1: finite(metrics.f1),
        rmse: finite(metrics.rmse),
        r2: finite(metrics.r2),
    }
}
