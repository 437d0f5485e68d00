//! What a server must know of the data it never reads.

use serde::{Deserialize, Serialize};

use crate::json;
use crate::schema::InputSchema;

/// Facts about a job's dataset, computed by every worker from the bytes it loads.
///
/// The first worker that joins hands them to the coordinator; every later worker must agree
/// (`digest` covers the rest), and the checkpoint carries them, so that servers and `export` work
/// without the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataFacts {
    /// Rows used for training.
    pub train_rows: u64,
    /// Rows used for validation; 0 without a validation set.
    pub validation_rows: u64,
    /// Shape of one input row as the model sees it: `[features]`, or `[channels, height, width]`.
    pub input_shape: Vec<u64>,
    /// Width of the model's output: 1 for binary and regression, classes for multiclass.
    pub outputs: u64,
    /// SHA-256 (hex) over the encoded training and validation tensors and the schema.
    pub digest: String,
    /// The input schema with the fitted normalization.
    #[serde(serialize_with = "json::sorted")]
    pub schema: InputSchema,
}
