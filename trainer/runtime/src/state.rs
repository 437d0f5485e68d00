//! What the coordinator keeps of a training in a checkpoint's manifest.

use anyhow::{Context, Result};
use serde::{Deserialize, Deserializer, Serialize};
use trainyard_checkpoint::Manifest;
use trainyard_core::coordinator::Record;
use trainyard_core::metrics::Metrics;

/// The coordinator's part of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CoordinatorState {
    /// The course of the training up to the manifest's step.
    pub record: Record,
    /// Metrics of the model, once the job is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<FinalMetrics>,
}

/// Metrics of a model on all its data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FinalMetrics {
    /// On the training rows.
    pub train: Metrics,
    /// On the validation rows; empty without any. Null is read as empty.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub validation: Metrics,
}

impl CoordinatorState {
    /// What a manifest says.
    ///
    /// # Errors
    /// If it cannot be decoded.
    pub fn of(manifest: &Manifest) -> Result<Self> {
        serde_json::from_value(manifest.coordinator.clone()).with_context(|| {
            format!(
                "the record of the training in the checkpoint of step {} cannot be decoded",
                manifest.step
            )
        })
    }
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Metrics, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
