//! When and where the state of a job is saved (`spec.checkpoint`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Volume;

/// When and where the state of the job is saved.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// Optimizer steps from one checkpoint to the next. A job also saves its state when it stops, is suspended or finishes.
    #[serde(default = "default_every_steps")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub every_steps: u32,
    /// Number of checkpoints that are kept. The best one, if validation has found one, is kept besides.
    #[serde(default = "default_keep")]
    #[schemars(range(min = 1, max = 1000))]
    pub keep: u32,
    /// Where checkpoints are kept. A job on a cluster needs it; a local run without it keeps them in its own folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Checkpoint {
            every_steps: default_every_steps(),
            keep: default_keep(),
            storage: None,
        }
    }
}

/// A place for checkpoints.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Storage {
    /// A volume that every server can mount.
    Volume(Volume),
    /// A bucket of an S3-compatible store.
    S3(S3Storage),
}

/// A bucket of an S3-compatible store.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3Storage {
    /// Name of the bucket.
    #[schemars(
        length(min = 3, max = 63),
        regex(pattern = r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$")
    )]
    pub bucket: String,
    /// Prefix of every key, without a slash at its end.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub prefix: String,
    /// URL of the store; without it AWS, in `region`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = "^https?://"))]
    pub endpoint: Option<String>,
    /// Region of the bucket.
    #[serde(default = "default_region")]
    #[schemars(length(min = 1, max = 64))]
    pub region: String,
    /// Secret in the job's namespace with the keys `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`. Without it the pods' own identity is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub credentials_secret: Option<String>,
}

fn default_every_steps() -> u32 {
    50
}

fn default_keep() -> u32 {
    3
}

pub(super) fn default_region() -> String {
    "us-east-1".into()
}
