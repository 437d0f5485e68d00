//! The two roles of a job: servers and workers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PodSettings;

/// Parameter servers.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Servers {
    /// Number of servers. Each holds a share of the parameters.
    #[serde(default = "default_server_replicas")]
    #[schemars(range(min = 1, max = 256))]
    pub replicas: u32,
    /// Settings of the servers' pods.
    #[serde(flatten)]
    pub pod: PodSettings,
}

impl Default for Servers {
    fn default() -> Self {
        Servers {
            replicas: default_server_replicas(),
            pod: PodSettings::default(),
        }
    }
}

/// Workers. Their number may change while the job runs; the model does not depend on it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::rules::workers::<PodSettings>()))]
pub struct Workers {
    /// Number of workers wanted. `kubectl scale` and a HorizontalPodAutoscaler set it.
    #[serde(default = "default_worker_replicas")]
    #[schemars(range(min = 1, max = 1024))]
    pub replicas: u32,
    /// Least `replicas` that may be asked for: a bound for `kubectl scale` and autoscalers. Training itself goes on with the workers that are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub min_replicas: Option<u32>,
    /// Most `replicas` that may be asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub max_replicas: Option<u32>,
    /// Settings of the workers' pods.
    #[serde(flatten)]
    pub pod: PodSettings,
}

impl Default for Workers {
    fn default() -> Self {
        Workers {
            replicas: default_worker_replicas(),
            min_replicas: None,
            max_replicas: None,
            pod: PodSettings::default(),
        }
    }
}

fn default_server_replicas() -> u32 {
    1
}

fn default_worker_replicas() -> u32 {
    2
}
