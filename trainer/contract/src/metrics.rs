//! Metrics of a model, as [`Progress`](crate::Progress) and [`Report`](crate::Report) have them.

use serde::{Deserialize, Deserializer, Serialize};

use crate::Reports;

/// One of the [`Metrics`], by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Mean loss of a row; lower is better.
    Loss,
    /// Share of rows classified right.
    Accuracy,
    /// Share of the rows predicted to be of a class that are.
    Precision,
    /// Share of the rows of a class that are predicted to be.
    Recall,
    /// F1 score.
    F1,
    /// Binary: area under the ROC curve.
    Auc,
    /// Binary: average precision, the area under the curve of precision and recall.
    PrAuc,
    /// Regression: root of the mean squared error; lower is better.
    Rmse,
    /// Regression: mean absolute error; lower is better.
    Mae,
    /// Regression: mean absolute error as a share of the target; lower is better.
    Mape,
    /// Regression: coefficient of determination.
    R2,
}

impl Metric {
    /// All of them, those that say most first.
    pub const ALL: [Metric; 11] = [
        Metric::Loss,
        Metric::Accuracy,
        Metric::Auc,
        Metric::F1,
        Metric::PrAuc,
        Metric::Precision,
        Metric::Recall,
        Metric::Rmse,
        Metric::R2,
        Metric::Mae,
        Metric::Mape,
    ];

    /// Its name in manifests, results and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Loss => "loss",
            Metric::Accuracy => "accuracy",
            Metric::Precision => "precision",
            Metric::Recall => "recall",
            Metric::F1 => "f1",
            Metric::Auc => "auc",
            Metric::PrAuc => "prAuc",
            Metric::Rmse => "rmse",
            Metric::Mae => "mae",
            Metric::Mape => "mape",
            Metric::R2 => "r2",
        }
    }

    /// Whether `a` improves on `b` by more than `min_delta`. Nothing is better than, or beaten by, NaN.
    pub fn better(self, a: f64, b: f64, min_delta: f64) -> bool {
        match self {
            Metric::Loss | Metric::Rmse | Metric::Mae | Metric::Mape => a < b - min_delta,
            Metric::Accuracy
            | Metric::Precision
            | Metric::Recall
            | Metric::F1
            | Metric::Auc
            | Metric::PrAuc
            | Metric::R2 => a > b + min_delta,
        }
    }
}

/// Metrics of a set of rows. One that the task does not have, that is undefined on these rows
/// (such as AUC with one class only), or that is not finite is absent.
///
/// Names that this version does not know are passed over when metrics are read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metrics {
    /// Mean loss of a row.
    #[serde(skip_serializing_if = "not_finite")]
    pub loss: Option<f64>,
    /// Share of rows classified right.
    #[serde(skip_serializing_if = "not_finite")]
    pub accuracy: Option<f64>,
    /// Binary: precision of class 1. Multiclass: its mean over the classes that were seen or predicted.
    #[serde(skip_serializing_if = "not_finite")]
    pub precision: Option<f64>,
    /// Binary: recall of class 1. Multiclass: its mean over the classes that were seen or predicted.
    #[serde(skip_serializing_if = "not_finite")]
    pub recall: Option<f64>,
    /// Binary: F1 of class 1. Multiclass: its mean over the classes that were seen or predicted.
    #[serde(skip_serializing_if = "not_finite")]
    pub f1: Option<f64>,
    /// Binary: area under the ROC curve. Multiclass, and at the end of a job alone: its mean over the classes, each against
    /// all others.
    #[serde(skip_serializing_if = "not_finite")]
    pub auc: Option<f64>,
    /// Binary: average precision.
    #[serde(skip_serializing_if = "not_finite")]
    pub pr_auc: Option<f64>,
    /// Regression: root of the mean squared error.
    #[serde(skip_serializing_if = "not_finite")]
    pub rmse: Option<f64>,
    /// Regression: mean absolute error.
    #[serde(skip_serializing_if = "not_finite")]
    pub mae: Option<f64>,
    /// Regression: mean absolute error as a share of the target.
    #[serde(skip_serializing_if = "not_finite")]
    pub mape: Option<f64>,
    /// Regression: coefficient of determination.
    #[serde(skip_serializing_if = "not_finite")]
    pub r2: Option<f64>,
}

fn not_finite(value: &Option<f64>) -> bool {
    !value.is_some_and(f64::is_finite)
}

impl Metrics {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

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
            Metric::Precision => self.precision,
            Metric::Recall => self.recall,
            Metric::F1 => self.f1,
            Metric::Auc => self.auc,
            Metric::PrAuc => self.pr_auc,
            Metric::Rmse => self.rmse,
            Metric::Mae => self.mae,
            Metric::Mape => self.mape,
            Metric::R2 => self.r2,
        };
        value.filter(|value| value.is_finite())
    }
}

/// Metrics of a model on all its data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FinalMetrics {
    /// On the training rows.
    #[serde(default)]
    pub train: Metrics,
    /// On the validation rows; empty without any. Null is read as empty.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub validation: Metrics,
    /// On the test rows; empty without any.
    #[serde(default, skip_serializing_if = "Metrics::is_empty")]
    pub test: Metrics,
    /// What a classifier gets right and wrong.
    #[serde(default, skip_serializing_if = "Reports::is_empty")]
    pub reports: Reports,
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Metrics, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_finite_is_neither_written_nor_named() {
        let metrics = Metrics {
            loss: Some(f64::NAN),
            accuracy: Some(0.5),
            rmse: Some(f64::INFINITY),
            ..Metrics::default()
        };
        let text = serde_json::to_string(&metrics).expect("JSON");
        assert_eq!(text, r#"{"accuracy":0.5}"#);
        assert_eq!(
            metrics.iter().collect::<Vec<_>>(),
            [(Metric::Accuracy, 0.5)]
        );
        assert_eq!(
            (metrics.get(Metric::Accuracy), metrics.get(Metric::Loss)),
            (Some(0.5), None)
        );
    }

    #[test]
    fn null_and_unknown_names_are_passed_over() {
        let metrics: Metrics =
            serde_json::from_value(json!({"loss": null, "auc": 0.25, "perplexity": 3.0}))
                .expect("metrics");
        assert_eq!(metrics.iter().collect::<Vec<_>>(), [(Metric::Auc, 0.25)]);
    }

    #[test]
    fn missing_validation_is_read_as_empty() {
        let expected = FinalMetrics {
            train: Metrics {
                loss: Some(0.25),
                ..Metrics::default()
            },
            ..FinalMetrics::default()
        };
        let train = json!({"loss": 0.25});
        for value in [
            json!({"train": train, "validation": null}),
            json!({"train": train}),
        ] {
            assert_eq!(
                serde_json::from_value::<FinalMetrics>(value).unwrap(),
                expected
            );
        }
    }
}
