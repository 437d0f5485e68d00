//! Optimizers: our own f32 kernels, with the arithmetic of PyTorch's.
//!
//! An update is a pure function of (step, learning rate, summed gradient, weight, parameters,
//! state), element by element with IEEE `+ - * /` and `sqrt` alone: nothing is fused or reordered,
//! so the bits depend neither on how the arena is cut nor on the width of a vector. Scalars (bias
//! corrections, decayed rates) are computed in f64 through `libm` and rounded to f32 once.

use serde::{Deserialize, Serialize};

/// How parameters follow from gradients. Fields are PyTorch's arguments of the same names
/// (`beta1`, `beta2` for `betas`, `epsilon` for `eps`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Optimizer {
    /// `torch.optim.SGD`. The first step's momentum buffer is the gradient itself.
    Sgd {
        /// Momentum; 0 for none, and then there is no state.
        momentum: f64,
        /// Dampening of momentum. PyTorch wants 0 with Nesterov.
        dampening: f64,
        /// Nesterov momentum. PyTorch wants `momentum` above 0 with it.
        nesterov: bool,
        /// L2 penalty, added to the gradient.
        weight_decay: f64,
    },
    /// `torch.optim.Adam`.
    Adam {
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the denominator.
        epsilon: f64,
        /// L2 penalty, added to the gradient.
        weight_decay: f64,
    },
    /// `torch.optim.AdamW`: Adam with decoupled weight decay.
    AdamW {
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the denominator.
        epsilon: f64,
        /// Shrinks parameters by `lr * weight_decay` before the update.
        weight_decay: f64,
    },
    /// `torch.optim.Adagrad`.
    Adagrad {
        /// Decay of the learning rate: `lr / (1 + step * lr_decay)`.
        lr_decay: f64,
        /// L2 penalty, added to the gradient.
        weight_decay: f64,
        /// What the sum of squares starts from.
        initial_accumulator_value: f64,
        /// Added to the denominator.
        epsilon: f64,
    },
}

/// Slices given to [`Optimizer::apply`] disagree in length; nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} holds {actual} floats, {expected} are needed")]
pub struct LengthError {
    /// The argument.
    pub name: &'static str,
    /// Its length.
    pub actual: usize,
    /// What it must be.
    pub expected: usize,
}

impl Optimizer {
    /// Names of the state tensors, as PyTorch's `state_dict` has them, each as large as the
    /// parameters.
    pub fn slots(&self) -> &'static [&'static str] {
        match self {
            Optimizer::Sgd { momentum: 0.0, .. } => &[],
            Optimizer::Sgd { .. } => &["momentum_buffer"],
            Optimizer::Adam { .. } | Optimizer::AdamW { .. } => &["exp_avg", "exp_avg_sq"],
            Optimizer::Adagrad { .. } => &["sum"],
        }
    }

    /// What every element of a slot is before step 0.
    pub fn initial(&self, _slot: usize) -> f32 {
        match self {
            Optimizer::Adagrad {
                initial_accumulator_value,
                ..
            } => *initial_accumulator_value as f32,
            _ => 0.0,
        }
    }

    /// The state of `n` parameters before step 0, as [`Optimizer::apply`] takes it.
    pub fn initial_state(&self, n: usize) -> Vec<f32> {
        let mut state = Vec::with_capacity(self.slots().len() * n);
        for slot in 0..self.slots().len() {
            state.resize((slot + 1) * n, self.initial(slot));
        }
        state
    }

    /// One step over a run of `n` parameters: `new = update(old, sum / weight)`, state in place.
    ///
    /// `step` is 0-based. `sum` is the gradient of the summed loss and `weight` the rows it sums
    /// over. `state` is slot-major: slot `j` of [`Optimizer::slots`] is `state[j * n..(j + 1) * n]`.
    /// Applied part by part the result has the same bits as applied to the whole.
    ///
    /// As in PyTorch, an `epsilon` that is 0 (or rounds to it: below 1e-45) makes NaN of a parameter
    /// whose gradient was always 0. Padding is no parameter: call
    /// [`clear_padding`](crate::layout::Layout::clear_padding) on what this makes of it.
    ///
    /// # Errors
    /// If `sum` or `new` is not `n` long, or `state` not `slots * n`. Nothing is written then.
    #[allow(
        clippy::too_many_arguments,
        reason = "a kernel of plain slices is the clearest form"
    )]
    pub fn apply(
        &self,
        step: u64,
        lr: f64,
        weight: f32,
        old: &[f32],
        sum: &[f32],
        state: &mut [f32],
        new: &mut [f32],
    ) -> Result<(), LengthError> {
        let n = old.len();
        let lengths = [
            ("sum", sum.len(), n),
            ("state", state.len(), self.slots().len() * n),
            ("new", new.len(), n),
        ];
        for (name, actual, expected) in lengths {
            if actual != expected {
                return Err(LengthError {
                    name,
                    actual,
                    expected,
                });
            }
        }
        let run = Run {
            weight,
            old,
            sum,
            new,
        };
        match *self {
            Optimizer::Sgd {
                momentum,
                dampening,
                nesterov,
                weight_decay,
            } => {
                sgd(
                    run,
                    state,
                    step == 0,
                    lr,
                    [momentum, dampening, weight_decay],
                    nesterov,
                );
            }
            Optimizer::Adam {
                beta1,
                beta2,
                epsilon,
                weight_decay,
            } => {
                adam(
                    run,
                    state,
                    step,
                    lr,
                    [beta1, beta2, epsilon],
                    weight_decay,
                    0.0,
                );
            }
            Optimizer::AdamW {
                beta1,
                beta2,
                epsilon,
                weight_decay,
            } => {
                adam(
                    run,
                    state,
                    step,
                    lr,
                    [beta1, beta2, epsilon],
                    0.0,
                    weight_decay,
                );
            }
            Optimizer::Adagrad {
                lr_decay,
                weight_decay,
                epsilon,
                ..
            } => {
                let rate = lr / (1.0 + step as f64 * lr_decay);
                adagrad(run, state, rate, weight_decay, epsilon);
            }
        }
        Ok(())
    }
}

/// A run of parameters and their summed gradient; all slices have one length.
struct Run<'a> {
    weight: f32,
    old: &'a [f32],
    sum: &'a [f32],
    new: &'a mut [f32],
}

impl Run<'_> {
    /// `new = update(old, gradient)` without state.
    #[inline(always)]
    fn each(self, update: impl Fn(f32, f32) -> f32) {
        for ((new, &old), &sum) in self.new.iter_mut().zip(self.old).zip(self.sum) {
            *new = update(old, sum / self.weight);
        }
    }

    /// `new = update(old, gradient, state)` with one slot.
    #[inline(always)]
    fn each_with(self, state: &mut [f32], update: impl Fn(f32, f32, &mut f32) -> f32) {
        let elements = self.new.iter_mut().zip(self.old).zip(self.sum).zip(state);
        for (((new, &old), &sum), state) in elements {
            *new = update(old, sum / self.weight, state);
        }
    }

    /// `new = update(old, gradient, first, second)` with two slots.
    #[inline(always)]
    fn each_with_two(
        self,
        state: &mut [f32],
        update: impl Fn(f32, f32, &mut f32, &mut f32) -> f32,
    ) {
        let (first, second) = state.split_at_mut(self.old.len());
        let elements = self
            .new
            .iter_mut()
            .zip(self.old)
            .zip(self.sum)
            .zip(first)
            .zip(second);
        for ((((new, &old), &sum), first), second) in elements {
            *new = update(old, sum / self.weight, first, second);
        }
    }
}

// Each variant of a kernel is a loop of its own, without branches, so that it vectorizes. A
// weight decay of 0 is added all the same: it changes no finite value.

fn sgd(run: Run, state: &mut [f32], first: bool, lr: f64, scalars: [f64; 3], nesterov: bool) {
    let [mu, dampening, weight_decay] = scalars;
    let lr = lr as f32;
    let decay = weight_decay as f32;
    let fresh = (1.0 - dampening) as f32;
    let momentum = mu as f32;
    match (mu == 0.0, first, nesterov) {
        (true, _, _) => run.each(|p, g| p - lr * (g + decay * p)),
        (false, true, false) => run.each_with(state, |p, g, buffer| {
            *buffer = g + decay * p;
            p - lr * *buffer
        }),
        (false, true, true) => run.each_with(state, |p, g, buffer| {
            let g = g + decay * p;
            *buffer = g;
            p - lr * (g + momentum * g)
        }),
        (false, false, false) => run.each_with(state, |p, g, buffer| {
            *buffer = momentum * *buffer + fresh * (g + decay * p);
            p - lr * *buffer
        }),
        (false, false, true) => run.each_with(state, |p, g, buffer| {
            let g = g + decay * p;
            *buffer = momentum * *buffer + fresh * g;
            p - lr * (g + momentum * *buffer)
        }),
    }
}

fn adam(
    run: Run,
    state: &mut [f32],
    step: u64,
    lr: f64,
    scalars: [f64; 3],
    l2: f64,
    decoupled: f64,
) {
    let [beta1, beta2, epsilon] = scalars;
    let t = step as f64 + 1.0;
    let rate = (lr / (1.0 - libm::pow(beta1, t))) as f32;
    let correction = (1.0 / libm::sqrt(1.0 - libm::pow(beta2, t))) as f32;
    let shrink = (1.0 - lr * decoupled) as f32;
    let (l2, epsilon) = (l2 as f32, epsilon as f32);
    let fresh1 = (1.0 - beta1) as f32;
    let (beta2, fresh2) = (beta2 as f32, (1.0 - beta2) as f32);
    run.each_with_two(state, |p, g, mean, square| {
        let g = g + l2 * p;
        *mean += fresh1 * (g - *mean);
        *square = beta2 * *square + fresh2 * g * g;
        shrink * p - rate * *mean / (square.sqrt() * correction + epsilon)
    });
}

fn adagrad(run: Run, state: &mut [f32], rate: f64, weight_decay: f64, epsilon: f64) {
    let (rate, decay, epsilon) = (rate as f32, weight_decay as f32, epsilon as f32);
    run.each_with(state, |p, g, sum| {
        let g = g + decay * p;
        *sum += g * g;
        p - rate * g / (sum.sqrt() + epsilon)
    });
}
