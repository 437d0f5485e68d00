//! Optimizers against PyTorch, and their independence of how parameters are cut.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;
use trainyard_core::layout::{Init, Layout, Param};
use trainyard_core::optimizer::{LengthError, Optimizer};

/// What `fixtures/generate.py` wrote.
#[derive(Deserialize)]
struct Fixture {
    start: Vec<f32>,
    gradients: Vec<Vec<f32>>,
    rates: Vec<f64>,
    #[serde(flatten)]
    cases: BTreeMap<String, Case>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Case {
    optimizer: String,
    momentum: f64,
    dampening: f64,
    nesterov: bool,
    weight_decay: f64,
    betas: (f64, f64),
    eps: f64,
    lr_decay: f64,
    initial_accumulator_value: f64,
    /// Parameters after each step.
    trace: Vec<Vec<f32>>,
    /// State after the last.
    slots: BTreeMap<String, Vec<f32>>,
}

impl Case {
    fn optimizer(&self) -> Optimizer {
        let Case {
            momentum,
            dampening,
            nesterov,
            weight_decay,
            lr_decay,
            ..
        } = *self;
        let (beta1, beta2) = self.betas;
        let (epsilon, initial_accumulator_value) = (self.eps, self.initial_accumulator_value);
        match self.optimizer.as_str() {
            "SGD" => Optimizer::Sgd {
                momentum,
                dampening,
                nesterov,
                weight_decay,
            },
            "Adam" => Optimizer::Adam {
                beta1,
                beta2,
                epsilon,
                weight_decay,
            },
            "AdamW" => Optimizer::AdamW {
                beta1,
                beta2,
                epsilon,
                weight_decay,
            },
            "Adagrad" => Optimizer::Adagrad {
                lr_decay,
                weight_decay,
                initial_accumulator_value,
                epsilon,
            },
            other => panic!("unknown optimizer {other}"),
        }
    }
}

fn assert_close(actual: &[f32], expected: &[f32], what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (a, e) in actual.iter().zip(expected) {
        assert!(
            (a - e).abs() <= 1e-6 * e.abs().max(1.0),
            "{what}: {actual:?}, not {expected:?}"
        );
    }
}

#[test]
fn t07_optimizers_equal_pytorch() {
    let fixture: Fixture =
        serde_json::from_str(include_str!("../fixtures/optimizers.json")).unwrap();
    assert_eq!(fixture.cases.len(), 10);
    for (name, case) in &fixture.cases {
        let optimizer = case.optimizer();
        assert_eq!(case.trace.len(), 100, "{name}");
        let mut parameters = fixture.start.clone();
        let mut state = optimizer.initial_state(parameters.len());
        for (step, expected) in case.trace.iter().enumerate() {
            // A power of two, so that the mean is PyTorch's gradient exactly.
            let sum: Vec<f32> = fixture.gradients[step].iter().map(|g| g * 32.0).collect();
            let old = parameters.clone();
            let rate = fixture.rates[step];
            optimizer
                .apply(
                    step as u64,
                    rate,
                    32.0,
                    &old,
                    &sum,
                    &mut state,
                    &mut parameters,
                )
                .unwrap();
            assert_close(&parameters, expected, &format!("{name}, step {step}"));
        }
        let names: Vec<&str> = case.slots.keys().map(String::as_str).collect();
        assert_eq!(optimizer.slots(), names, "{name}");
        for ((name, expected), actual) in
            case.slots.iter().zip(state.chunks_exact(parameters.len()))
        {
            for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
                // Means of gradients cancel, so they are as exact as the gradients are large; sums
                // of squares are compared relative to themselves, for some are very small.
                let largest = fixture
                    .gradients
                    .iter()
                    .map(|g| g[i].abs())
                    .fold(0.0, f32::max);
                let mean = ["exp_avg", "momentum_buffer"].contains(&name.as_str());
                let scale = if mean {
                    largest + case.weight_decay as f32
                } else {
                    e.abs()
                };
                assert!(
                    (a - e).abs() <= 1e-6 * scale,
                    "{name}: {actual:?}, not {expected:?}"
                );
            }
        }
    }
}

fn any_optimizer() -> impl Strategy<Value = Optimizer> {
    let (m, w) = (0.1..0.99, 0.0..0.1);
    prop_oneof![
        (
            prop_oneof![Just(0.0), m.clone()],
            0.0..0.5,
            any::<bool>(),
            w.clone()
        )
            .prop_map(
                |(momentum, dampening, nesterov, weight_decay)| Optimizer::Sgd {
                    momentum,
                    dampening,
                    nesterov,
                    weight_decay
                }
            ),
        (m.clone(), m.clone(), w.clone()).prop_map(|(beta1, beta2, weight_decay)| {
            Optimizer::Adam {
                beta1,
                beta2,
                epsilon: 1e-8,
                weight_decay,
            }
        }),
        (m.clone(), m, w.clone()).prop_map(|(beta1, beta2, weight_decay)| {
            Optimizer::AdamW {
                beta1,
                beta2,
                epsilon: 1e-8,
                weight_decay,
            }
        }),
        (0.0..0.1, w).prop_map(|(lr_decay, weight_decay)| Optimizer::Adagrad {
            lr_decay,
            weight_decay,
            initial_accumulator_value: 0.1,
            epsilon: 1e-10
        }),
    ]
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    /// Three steps over the whole, and over parts cut anywhere (so that vectors and their remainders fall
    /// differently): the same bits in parameters and state.
    #[test]
    fn parts_equal_the_whole(
        optimizer in any_optimizer(),
        n in 1_usize..200,
        cut in 0_usize..200,
        weight in 1_u32..4000,
        values in prop::collection::vec(-10.0_f32..10.0, 800),
    ) {
        let weight = weight as f32;
        let slots = optimizer.slots().len();
        let mut whole = (values[..n].to_vec(), optimizer.initial_state(n));
        let cut = cut.min(n);
        let mut parts = [0..cut, cut..n].map(|range| {
            (values[range.clone()].to_vec(), optimizer.initial_state(range.len()), range)
        });
        for step in 0..3 {
            let sum = &values[200 * (step + 1)..][..n];
            let old = whole.0.clone();
            optimizer.apply(step as u64, 0.01, weight, &old, sum, &mut whole.1, &mut whole.0).unwrap();
            for (parameters, state, range) in &mut parts {
                let old = parameters.clone();
                let sum = &sum[range.clone()];
                optimizer.apply(step as u64, 0.01, weight, &old, sum, state, parameters).unwrap();
                prop_assert_eq!(bits(parameters), bits(&whole.0[range.clone()]));
                for slot in 0..slots {
                    let whole = &whole.1[slot * n..][range.clone()];
                    prop_assert_eq!(bits(&state[slot * range.len()..][..range.len()]), bits(whole));
                }
            }
        }
    }

    /// The weight divides the sum once, by IEEE division.
    #[test]
    fn the_weight_divides(optimizer in any_optimizer(), weight in 1_u32..5000, sum: [f32; 7], old: [f32; 7]) {
        let weight = weight as f32;
        let mean = sum.map(|value| value / weight);
        let mut news = [[0.0; 7]; 2];
        for (new, (weight, sum)) in news.iter_mut().zip([(weight, sum), (1.0, mean)]) {
            let mut state = optimizer.initial_state(7);
            optimizer.apply(0, 0.1, weight, &old, &sum, &mut state, new).unwrap();
        }
        // A bad gradient gives a bad parameter; which NaN it is does not matter.
        for (a, b) in news[0].iter().zip(news[1]) {
            prop_assert!(a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan());
        }
    }
}

/// One step of each kernel, computed here operation by operation: a fused or reordered operation in the
/// kernel would differ in the last bit of some element.
#[test]
fn kernels_are_unfused() {
    let n = 1000;
    let old: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin()).collect();
    let sum: Vec<f32> = (0..n).map(|i| (i as f32 * 1.73).cos() * 5.0).collect();
    let mut new = vec![0.0; n];

    let adam = Optimizer::Adam {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
    };
    let mut state = adam.initial_state(n);
    adam.apply(0, 0.01, 3.0, &old, &sum, &mut state, &mut new)
        .unwrap();
    let (fresh1, fresh2) = ((1.0 - 0.9_f64) as f32, (1.0 - 0.999_f64) as f32);
    let rate = (0.01 / (1.0 - 0.9_f64)) as f32;
    let correction = (1.0 / (1.0 - 0.999_f64).sqrt()) as f32;
    for i in 0..n {
        let decay = 0.01_f32 * old[i];
        let g = sum[i] / 3.0 + decay;
        let mean = fresh1 * (g - 0.0) + 0.0;
        let weighted = fresh2 * g;
        let square = 0.0 + weighted * g;
        let denominator = square.sqrt() * correction;
        let denominator = denominator + 1e-8_f32;
        let change = rate * mean;
        let change = change / denominator;
        assert_eq!(new[i].to_bits(), (old[i] - change).to_bits(), "{i}");
        assert_eq!(
            (state[i].to_bits(), state[n + i].to_bits()),
            (mean.to_bits(), square.to_bits())
        );
    }

    let sgd = Optimizer::Sgd {
        momentum: 0.0,
        dampening: 0.0,
        nesterov: false,
        weight_decay: 0.0,
    };
    sgd.apply(0, 0.01, 3.0, &old, &sum, &mut [], &mut new)
        .unwrap();
    for i in 0..n {
        let change = 0.01_f32 * (sum[i] / 3.0);
        assert_eq!(new[i].to_bits(), (old[i] - change).to_bits(), "{i}");
    }
}

#[test]
fn lengths_that_disagree_are_named() {
    let adam = Optimizer::Adam {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.0,
    };
    let four = [1.0; 4];
    let mut new = [7.0; 4];
    let mut state = [0.0; 8];
    let error = adam
        .apply(0, 0.1, 1.0, &four, &four[..3], &mut state, &mut new)
        .unwrap_err();
    assert_eq!(
        error,
        LengthError {
            name: "sum",
            actual: 3,
            expected: 4
        }
    );
    let error = adam
        .apply(0, 0.1, 1.0, &four, &four, &mut state[..4], &mut new)
        .unwrap_err();
    assert_eq!(
        error,
        LengthError {
            name: "state",
            actual: 4,
            expected: 8
        }
    );
    let error = adam
        .apply(0, 0.1, 1.0, &four, &four, &mut state, &mut new[..1])
        .unwrap_err();
    assert_eq!(
        error,
        LengthError {
            name: "new",
            actual: 1,
            expected: 4
        }
    );
    assert_eq!((new, state), ([7.0; 4], [0.0; 8]));
}

/// Padding has no gradient, ever. Without an epsilon (or with one that f32 cannot hold) that is 0 / 0,
/// which must not get into the arena; a parameter without gradient is another matter: PyTorch makes
/// NaN of it, and so do we.
#[test]
fn t07_padding_stays_zero_without_an_epsilon() {
    let param = |name: &str, shape: &[u64]| Param {
        name: name.into(),
        shape: shape.into(),
        init: Init::Constant(0.5),
    };
    let layout = Layout::new(vec![
        param("a", &[3, 5]),
        param("b", &[1]),
        param("c", &[17]),
    ])
    .unwrap();
    let n = layout.len();
    let placed = |i: usize| layout.params().any(|placed| placed.range().contains(&i));
    let dead = layout.params().last().unwrap().offset; // a parameter of no use
    let gradient: Vec<f32> = (0..n)
        .map(|i| f32::from(u8::from(placed(i) && i != dead)) * (i as f32 - 7.5))
        .collect();
    for epsilon in [0.0, 1e-50] {
        let (beta1, beta2) = (0.9, 0.999);
        let adam = |weight_decay| Optimizer::Adam {
            beta1,
            beta2,
            epsilon,
            weight_decay,
        };
        let adamw = |weight_decay| Optimizer::AdamW {
            beta1,
            beta2,
            epsilon,
            weight_decay,
        };
        let adagrad = |initial_accumulator_value| Optimizer::Adagrad {
            lr_decay: 0.0,
            weight_decay: 0.0,
            initial_accumulator_value,
            epsilon,
        };
        for optimizer in [
            adam(0.0),
            adam(0.1),
            adamw(0.0),
            adamw(0.1),
            adagrad(0.0),
            adagrad(0.5),
        ] {
            let start = {
                let mut arena = vec![0.0; n];
                layout.initialize(0, 0..n, &mut arena).unwrap();
                arena
            };
            // Alone, without anything between: what a parameter's own update gives.
            let run = |range: std::ops::Range<usize>, padded: bool| {
                let mut old = start[range.clone()].to_vec();
                let mut state = optimizer.initial_state(range.len());
                for step in 0..5 {
                    let (mut new, sum) = (old.clone(), &gradient[range.clone()]);
                    optimizer
                        .apply(step, 0.01, 2.0, &old, sum, &mut state, &mut new)
                        .unwrap();
                    if padded {
                        layout.clear_padding(range.start, &mut new);
                    }
                    old = new;
                }
                (old, state)
            };
            let (arena, state) = run(0..n, true);
            for parameter in layout.params() {
                let (alone, _) = run(parameter.range(), false);
                for (i, alone) in parameter.range().zip(alone) {
                    assert!(
                        arena[i].to_bits() == alone.to_bits()
                            || arena[i].is_nan() && alone.is_nan()
                    );
                    assert!(arena[i].is_finite() || i == dead, "{optimizer:?} {i}");
                }
            }
            for i in (0..n).filter(|&i| !placed(i)) {
                assert_eq!(arena[i].to_bits(), 0, "{optimizer:?} {i}");
                let slots = state.iter().skip(i).step_by(n);
                assert!(
                    slots.clone().all(|value| value.is_finite()),
                    "{optimizer:?} {i}"
                );
            }
            // Only a penalty, or a sum that does not start from 0, gives such a parameter a denominator.
            let divides = matches!(optimizer, Optimizer::Adam { weight_decay, .. } if weight_decay > 0.0)
                || matches!(optimizer, Optimizer::Adagrad { initial_accumulator_value, .. } if initial_accumulator_value > 0.0);
            assert_eq!(arena[dead].is_finite(), divides, "{optimizer:?}");
        }
    }
}
