//! Learning rates, step by step, as PyTorch's schedulers give them.
//!
//! Everything is in f64 and goes through `libm`, so that every server computes the same bits.
//! Rates are closed forms of the step: nothing is carried from one step to the next.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How the learning rate moves after warm-up. Steps are optimizer steps, not epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Schedule {
    /// The base learning rate throughout.
    Constant,
    /// `StepLR`: times `gamma` every `step_size` steps (never if that is 0).
    Step {
        /// Steps between two decays.
        step_size: u64,
        /// Factor of each decay.
        gamma: f64,
    },
    /// `ExponentialLR`: times `gamma` every step.
    Exponential {
        /// Factor of each step.
        gamma: f64,
    },
    /// `CosineAnnealingLR` over the steps that follow warm-up.
    Cosine {
        /// `eta_min`, reached one step after the last.
        min_learning_rate: f64,
    },
    /// `OneCycleLR` (cosine, two phases) over the steps that follow warm-up. Rises from
    /// `max_learning_rate / div_factor`, and falls to that divided by `final_div_factor` at the last
    /// step. The base learning rate plays no part.
    OneCycle {
        /// The peak.
        max_learning_rate: f64,
        /// Share of the steps spent rising.
        pct_start: f64,
        /// Peak over first learning rate.
        div_factor: f64,
        /// First over last learning rate.
        final_div_factor: f64,
    },
}

/// The learning rate of every step of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LearningRate {
    /// The learning rate that the schedule starts from.
    pub base: f64,
    /// Steps of linear warm-up before the schedule's own step 0.
    pub warmup_steps: u64,
    /// What follows warm-up.
    pub schedule: Schedule,
    /// Steps of the run, warm-up included.
    pub total_steps: u64,
}

impl LearningRate {
    /// The learning rate of 0-based `step`.
    ///
    /// With `W` warm-up steps, step `t < W` has `(t + 1) / (W + 1)` of the schedule's first
    /// learning rate, and step `W` is the schedule's step 0. That is PyTorch's
    /// `SequentialLR([LinearLR(start_factor=1/(W+1), total_iters=W), schedule], milestones=[W])`:
    /// no step is wasted on a learning rate of 0, and the full rate is reached at step `W`.
    /// From `total_steps` on, cosine and one-cycle stay at their last value.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            let part = (step as f64 + 1.0) / (self.warmup_steps as f64 + 1.0);
            return part * self.scheduled(0);
        }
        self.scheduled(step - self.warmup_steps)
    }

    fn scheduled(&self, step: u64) -> f64 {
        let steps = self.total_steps.saturating_sub(self.warmup_steps);
        match self.schedule {
            Schedule::Constant => self.base,
            Schedule::Step { step_size, gamma } => {
                self.base * libm::pow(gamma, step.checked_div(step_size).unwrap_or(0) as f64)
            }
            Schedule::Exponential { gamma } => self.base * libm::pow(gamma, step as f64),
            Schedule::Cosine { min_learning_rate } => {
                let done = step.min(steps) as f64 / steps.max(1) as f64;
                anneal(self.base, min_learning_rate, done)
            }
            Schedule::OneCycle {
                max_learning_rate,
                pct_start,
                div_factor,
                final_div_factor,
            } => {
                let first = max_learning_rate / div_factor;
                let last = steps.saturating_sub(1) as f64;
                // PyTorch's phases end on a fraction of a step, and the second starts there.
                let peak = pct_start * steps as f64 - 1.0;
                let at = (step as f64).min(last);
                if at <= peak {
                    anneal(first, max_learning_rate, share(at, 0.0, peak))
                } else {
                    anneal(
                        max_learning_rate,
                        first / final_div_factor,
                        share(at, peak, last),
                    )
                }
            }
        }
    }
}

/// Half a cosine from `start` (share 0) to `end` (share 1).
fn anneal(start: f64, end: f64, share: f64) -> f64 {
    end + (start - end) / 2.0 * (1.0 + libm::cos(PI * share))
}

/// Where `at` lies between `start` and `end`; 1 if they coincide.
fn share(at: f64, start: f64, end: f64) -> f64 {
    if end > start {
        (at - start) / (end - start)
    } else {
        1.0
    }
}
