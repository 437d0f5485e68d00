//! Volumes that a job names: for its data and for its checkpoints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A volume in the job's namespace, under the names of Kubernetes' own volume sources.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Volume {
    /// Files in a ConfigMap (up to 1 MiB in all).
    ConfigMap(ConfigMapVolume),
    /// A PersistentVolumeClaim.
    PersistentVolumeClaim(PersistentVolumeClaimVolume),
    /// A folder of the node that a pod runs on.
    HostPath(HostPathVolume),
    /// A folder that starts empty and lives as long as its pod.
    EmptyDir(EmptyDirVolume),
}

/// Files in a ConfigMap.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapVolume {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A PersistentVolumeClaim.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersistentVolumeClaimVolume {
    /// Name of the claim.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
    /// True mounts it read-only.
    #[serde(default)]
    pub read_only: bool,
}

/// A folder of the node.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostPathVolume {
    /// Absolute path on the node.
    #[schemars(length(min = 1, max = 4096), regex(pattern = "^/"))]
    pub path: String,
}

/// An empty folder.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDirVolume {}
