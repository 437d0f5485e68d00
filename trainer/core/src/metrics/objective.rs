//! What a model is trained for: the loss of a row, and what its outputs stand for.

use serde::{Deserialize, Serialize};

use super::TaskKind;
use super::loss::{bce_with_logits, cross_entropy, huber, poisson, squared_error};
use crate::schema::{InputSchema, Link, TargetScale};

/// The loss of a row. Those of PyTorch, of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Loss {
    /// Cross-entropy of classes; binary with logits for two.
    CrossEntropy {
        /// Share of the label that is spread over all classes.
        label_smoothing: f64,
    },
    /// `(output - target)^2`.
    MeanSquaredError {},
    /// `|output - target|`.
    MeanAbsoluteError {},
    /// `(output - target)^2 / 2` up to `delta`, beyond it `delta * (|output - target| - delta / 2)`.
    Huber {
        /// Where the loss becomes linear.
        delta: f64,
    },
    /// `exp(output) - target * output`: the output is the logarithm of what is expected.
    Poisson {},
}

/// What a model's outputs mean, and how they are judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// The task.
    pub kind: TaskKind,
    /// The loss of a row.
    pub loss: Loss,
    /// How targets are scaled.
    pub scale: Option<TargetScale>,
    /// The logit above which the positive class is predicted.
    pub cutoff: f32,
}

impl From<TaskKind> for Objective {
    /// That of a task of which nothing else is said.
    fn from(kind: TaskKind) -> Self {
        Self {
            kind,
            loss: Loss::of(kind),
            scale: None,
            cutoff: 0.0,
        }
    }
}

impl Loss {
    /// The loss of a task of which nothing else is said.
    pub fn of(kind: TaskKind) -> Self {
        match kind {
            TaskKind::Binary | TaskKind::Multiclass { .. } => Loss::CrossEntropy {
                label_smoothing: 0.0,
            },
            TaskKind::Regression => Loss::MeanSquaredError {},
        }
    }

    /// What the outputs of a regression with this loss are.
    pub fn link(self) -> Option<Link> {
        (self == Loss::Poisson {}).then_some(Link::Log)
    }
}

impl Objective {
    /// That of a model with this loss on data of this schema.
    pub fn new(loss: Loss, schema: &InputSchema) -> Self {
        Self {
            kind: schema.task.kind(schema.outputs()),
            loss,
            scale: schema.label.scale,
            cutoff: schema.label.cutoff(),
        }
    }

    /// The loss of a row of a classification: its logits, and its label or the index of its class.
    pub(super) fn of_class(&self, logits: &[f32], label: f32) -> f64 {
        let Loss::CrossEntropy { label_smoothing } = self.loss else {
            return f64::NAN;
        };
        match self.kind {
            TaskKind::Binary => {
                let logit = logits.first().copied().unwrap_or(f32::NAN);
                bce_with_logits(logit, label, label_smoothing)
            }
            _ => cross_entropy(logits, label as usize, label_smoothing),
        }
    }

    /// The loss of a row of a regression.
    pub(super) fn of_value(&self, output: f32, target: f32) -> f64 {
        match self.loss {
            Loss::MeanSquaredError {} => squared_error(output, target),
            Loss::MeanAbsoluteError {} => (f64::from(output) - f64::from(target)).abs(),
            Loss::Huber { delta } => huber(output, target, delta),
            Loss::Poisson {} => poisson(output, target),
            Loss::CrossEntropy { .. } => f64::NAN,
        }
    }

    /// What is predicted, in the units of the target.
    pub(super) fn prediction(&self, output: f32) -> f64 {
        match self.loss {
            Loss::Poisson {} => libm::exp(output.into()),
            _ => self.in_units(output),
        }
    }

    /// A scaled target in its own units.
    pub(super) fn in_units(&self, target: f32) -> f64 {
        match self.scale {
            Some(TargetScale { mean, std }) => f64::from(target) * std + mean,
            None => target.into(),
        }
    }
}
