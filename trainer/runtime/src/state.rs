//! What the coordinator keeps of a training in a checkpoint's manifest.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use trainyard_checkpoint::Manifest;
pub use trainyard_contract::FinalMetrics;
use trainyard_core::coordinator::Record;

/// The coordinator's part of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CoordinatorState {
    /// The course of the training up to the manifest's step.
    pub record: Record,
    /// Metrics of the model, once the job is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<FinalMetrics>,
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
