//! Learning rates against PyTorch's schedulers.

use std::collections::BTreeMap;

use proptest::prelude::*;
use trainyard_core::schedule::{LearningRate, Schedule};

const STEPS: u64 = 100;

fn one_cycle(pct_start: f64, div_factor: f64, final_div_factor: f64) -> Schedule {
    Schedule::OneCycle {
        max_learning_rate: 0.4,
        pct_start,
        div_factor,
        final_div_factor,
    }
}

/// The cases of `fixtures/generate.py`.
fn schedule(name: &str) -> Schedule {
    match name {
        "constant" => Schedule::Constant,
        "step" => Schedule::Step {
            step_size: 30,
            gamma: 0.5,
        },
        "exponential" => Schedule::Exponential { gamma: 0.97 },
        "cosine" => Schedule::Cosine {
            min_learning_rate: 0.001,
        },
        "one_cycle" => one_cycle(0.3, 25.0, 1e4),
        "one_cycle_other" => one_cycle(0.15, 4.0, 50.0),
        other => panic!("unknown schedule {other}"),
    }
}

#[test]
fn t07_schedules_equal_pytorch() {
    let mut fixture: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(include_str!("../fixtures/schedules.json")).unwrap();
    let base = fixture.remove("base").unwrap().as_f64().unwrap();
    assert_eq!(fixture.len(), 18);
    for (name, expected) in fixture {
        let (kind, warmup) = name.split_once(' ').unwrap();
        let expected: Vec<f64> = serde_json::from_value(expected).unwrap();
        assert_eq!(expected.len() as u64, STEPS);
        let rate = LearningRate {
            base,
            warmup_steps: warmup.parse().unwrap(),
            schedule: schedule(kind),
            total_steps: STEPS,
        };
        for (step, expected) in expected.into_iter().enumerate() {
            let actual = rate.at(step as u64);
            // Both are f64; PyTorch's chained products drift by a few bits.
            assert!(
                (actual - expected).abs() <= 1e-12 * expected.abs(),
                "{name}, step {step}: {actual}, not {expected}"
            );
        }
    }
}

proptest! {
    /// Whatever the lengths, degenerate ones included, a rate is finite and within its bounds, also
    /// long after the end.
    #[test]
    fn rates_are_finite(
        name in prop::sample::select(vec!["constant", "step", "exponential", "cosine", "one_cycle"]),
        warmup_steps in 0_u64..8, total_steps in 0_u64..8, step: u64, early in 0_u64..16,
    ) {
        let rate = LearningRate { base: 0.05, warmup_steps, schedule: schedule(name), total_steps };
        for step in [step, early] {
            let at = rate.at(step);
            prop_assert!((0.0..=0.4).contains(&at), "{at}");
        }
    }

    #[test]
    fn one_cycle_is_finite_at_its_edges(
        total_steps in 0_u64..12, step in 0_u64..20, pct_start in prop::sample::select(vec![0.0, 0.1, 0.25, 0.5, 1.0]),
    ) {
        let schedule = one_cycle(pct_start, 25.0, 1e4);
        let rate = LearningRate { base: 1.0, warmup_steps: 0, schedule, total_steps };
        prop_assert!((0.0..=0.4).contains(&rate.at(step)), "{}", rate.at(step));
    }
}

#[test]
fn warm_up_rises_to_the_schedule() {
    let schedule = Schedule::Cosine {
        min_learning_rate: 0.0,
    };
    let rate = LearningRate {
        base: 1.0,
        warmup_steps: 4,
        schedule,
        total_steps: 8,
    };
    let rates: Vec<f64> = (0..5).map(|step| rate.at(step)).collect();
    assert_eq!(rates, [0.2, 0.4, 0.6, 0.8, 1.0]);
    assert!(rate.at(8) < 1e-15 && rate.at(1000) < 1e-15);
    let never = LearningRate {
        schedule: Schedule::Step {
            step_size: 0,
            gamma: 0.5,
        },
        ..rate
    };
    assert_eq!(never.at(u64::MAX), 1.0);
}
