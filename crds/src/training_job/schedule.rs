//! Learning-rate schedules (`spec.training.schedule`). Every length is in optimizer steps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the learning rate changes over the job. In the first `warmupSteps` steps it rises linearly: step `t` (from 0) has `(t + 1) / (warmupSteps + 1)` of the
/// schedule's first learning rate. `oneCycle` has its own warm-up, `pctStart`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Schedule {
    /// The same learning rate all along.
    Constant(ConstantLr),
    /// Multiplied by `gamma` every `stepSize` steps.
    Step(StepLr),
    /// Multiplied by `gamma` at every step.
    Exponential(ExponentialLr),
    /// Half a cosine from the learning rate down to `minLearningRate` at the last step.
    Cosine(CosineLr),
    /// One cycle: up to `maxLearningRate`, then down far below the start, both along a cosine.
    OneCycle(OneCycleLr),
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule::Constant(ConstantLr::default())
    }
}

/// A constant learning rate.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConstantLr {
    /// Steps of linear warm-up.
    #[serde(default)]
    #[schemars(range(max = 1_000_000_000))]
    pub warmup_steps: u32,
}

/// Decay in steps.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepLr {
    /// Steps from one decay to the next.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub step_size: u32,
    /// Factor of each decay.
    #[serde(default = "default_step_gamma")]
    #[schemars(range(min = 0.0, max = 1.0), extend("exclusiveMinimum" = true))]
    pub gamma: f64,
    /// Steps of linear warm-up.
    #[serde(default)]
    #[schemars(range(max = 1_000_000_000))]
    pub warmup_steps: u32,
}

/// Exponential decay.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExponentialLr {
    /// Factor at each step.
    #[schemars(range(min = 0.0, max = 1.0), extend("exclusiveMinimum" = true))]
    pub gamma: f64,
    /// Steps of linear warm-up.
    #[serde(default)]
    #[schemars(range(max = 1_000_000_000))]
    pub warmup_steps: u32,
}

/// Cosine decay.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CosineLr {
    /// Steps of linear warm-up.
    #[schemars(range(max = 1_000_000_000))]
    pub warmup_steps: u32,
    /// Learning rate at the last step.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub min_learning_rate: f64,
}

/// One-cycle policy, as `torch.optim.lr_scheduler.OneCycleLR` with cosine annealing in two phases.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OneCycleLr {
    /// Highest learning rate of the cycle. The optimizer's own learning rate is not used.
    #[schemars(range(min = 0.0, max = 1000.0), extend("exclusiveMinimum" = true))]
    pub max_learning_rate: f64,
    /// Share of the steps in which the learning rate rises.
    #[serde(default = "default_pct_start")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub pct_start: f64,
    /// The cycle starts at `maxLearningRate / divFactor`.
    #[serde(default = "default_div_factor")]
    #[schemars(range(min = 1.0, max = 1e12))]
    pub div_factor: f64,
    /// The cycle ends at the start's learning rate divided by this.
    #[serde(default = "default_final_div_factor")]
    #[schemars(range(min = 1.0, max = 1e12))]
    pub final_div_factor: f64,
}

fn default_step_gamma() -> f64 {
    0.1
}

fn default_pct_start() -> f64 {
    0.3
}

fn default_div_factor() -> f64 {
    25.0
}

fn default_final_div_factor() -> f64 {
    1e4
}
