//! Optimizers (`spec.training.optimizer`), with the names and defaults of `torch.optim`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rule by which gradients change parameters.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Optimizer {
    /// Stochastic gradient descent, with momentum if asked for.
    Sgd(Sgd),
    /// Adam; weight decay is added to the gradient.
    Adam(Adam),
    /// AdamW: Adam with decoupled weight decay.
    AdamW(AdamW),
    /// Adagrad.
    Adagrad(Adagrad),
}

impl Optimizer {
    /// The learning rate that a schedule starts from.
    pub fn learning_rate(&self) -> f64 {
        match self {
            Optimizer::Sgd(o) => o.learning_rate,
            Optimizer::Adam(o) => o.learning_rate,
            Optimizer::AdamW(o) => o.learning_rate,
            Optimizer::Adagrad(o) => o.learning_rate,
        }
    }
}

/// Stochastic gradient descent.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = crate::rules::sgd()))]
pub struct Sgd {
    /// Learning rate.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub learning_rate: f64,
    /// Momentum factor.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub momentum: f64,
    /// Dampening of the momentum.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub dampening: f64,
    /// True uses Nesterov momentum, which needs a momentum above 0 and no dampening.
    pub nesterov: bool,
    /// L2 penalty.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub weight_decay: f64,
}

impl Default for Sgd {
    fn default() -> Self {
        Sgd {
            learning_rate: 1e-3,
            momentum: 0.0,
            dampening: 0.0,
            nesterov: false,
            weight_decay: 0.0,
        }
    }
}

/// Adam.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Adam {
    /// Learning rate.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub learning_rate: f64,
    /// Decay of the average of gradients.
    #[schemars(range(min = 0.0, max = 1.0), extend("exclusiveMaximum" = true))]
    pub beta1: f64,
    /// Decay of the average of squared gradients.
    #[schemars(range(min = 0.0, max = 1.0), extend("exclusiveMaximum" = true))]
    pub beta2: f64,
    /// Added to the denominator.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub epsilon: f64,
    /// L2 penalty.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub weight_decay: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Adam {
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
        }
    }
}

/// AdamW.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AdamW {
    /// Learning rate.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub learning_rate: f64,
    /// Decay of the average of gradients.
    #[schemars(range(min = 0.0, max = 1.0), extend("exclusiveMaximum" = true))]
    pub beta1: f64,
    /// Decay of the average of squared gradients.
    #[schemars(range(min = 0.0, max = 1.0), extend("exclusiveMaximum" = true))]
    pub beta2: f64,
    /// Added to the denominator.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub epsilon: f64,
    /// Weight decay, times the learning rate taken from the parameters at each step.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        AdamW {
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 1e-2,
        }
    }
}

/// Adagrad.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Adagrad {
    /// Learning rate.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub learning_rate: f64,
    /// Decay of the learning rate: at step t (from 0) it is divided by 1 + t * lrDecay.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub lr_decay: f64,
    /// L2 penalty.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub weight_decay: f64,
    /// Value that the sum of squared gradients starts from.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub initial_accumulator_value: f64,
    /// Added to the denominator.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub epsilon: f64,
}

impl Default for Adagrad {
    fn default() -> Self {
        Adagrad {
            learning_rate: 1e-2,
            lr_decay: 0.0,
            weight_decay: 0.0,
            initial_accumulator_value: 0.0,
            epsilon: 1e-10,
        }
    }
}
