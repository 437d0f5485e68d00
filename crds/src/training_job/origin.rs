//! What a job begins from, if it does not begin anew.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A model whose parameters are the first ones of a job.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InitialModel {
    /// URI of an artifact, or of a run's folder: a path, absolute or relative to the manifest's folder, or `s3://BUCKET/PREFIX/NAME`, in the store of
    /// `checkpoint.storage.s3`, else of `data.s3`. Of a run, the parameters of its result are taken, or of its newest checkpoint if it is not complete.
    #[schemars(length(min = 1, max = 1024))]
    pub uri: String,
    /// SHA-256 of the parameters, as `trainyard inspect` shows it. If it is left out, a local run reads it from the model; if it is set, another
    /// model is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 64, max = 64), regex(pattern = "^[0-9a-f]{64}$"))]
    pub model_sha256: Option<String>,
}

/// Another job's checkpoint, from which a job goes on.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResumeFrom {
    /// URI of a run's folder: a path, absolute or relative to the manifest's folder, or `s3://BUCKET/PREFIX/NAME`, in the store of `checkpoint.storage.s3`, else of
    /// `data.s3`.
    #[schemars(length(min = 1, max = 1024))]
    pub uri: String,
}
