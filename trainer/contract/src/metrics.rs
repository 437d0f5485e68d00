//! Metrics of a model, as [`Progress`](crate::Progress) and [`Report`](crate::Report) have them.

use serde::{Deserialize, Deserializer, Serialize};

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
    /// All metrics that are there and finite, by name, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let Metrics {
            loss,
            accuracy,
            auc,
            f1,
            rmse,
            r2,
        } = *self;
        let named = [
            ("loss", loss),
            ("accuracy", accuracy),
            ("auc", auc),
            ("f1", f1),
            ("rmse", rmse),
            ("r2", r2),
        ];
        named
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.filter(|v| v.is_finite())?)))
    }

    /// The metric of that name, if it is there and finite.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
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
        assert_eq!(metrics.iter().collect::<Vec<_>>(), [("accuracy", 0.5)]);
        assert_eq!(
            (metrics.get("accuracy"), metrics.get("loss")),
            (Some(0.5), None)
        );
    }

    #[test]
    fn null_and_unknown_names_are_passed_over() {
        let metrics: Metrics =
            serde_json::from_value(json!({"loss": null, "auc": 0.25, "perplexity": 3.0}))
                .expect("metrics");
        assert_eq!(metrics.iter().collect::<Vec<_>>(), [("auc", 0.25)]);
    }

    #[test]
    fn missing_validation_is_read_as_empty() {
        let expected = FinalMetrics {
            train: Metrics {
                loss: Some(0.25),
                ..Metrics::default()
            },
            validation: Metrics::default(),
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
