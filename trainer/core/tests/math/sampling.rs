//! Sampling: every sample of an epoch exactly once, in an order that is a function of the seed.

use proptest::prelude::*;
use trainyard_core::assignment::leaf_range;
use trainyard_core::sampling::{Plan, SamplingError, permutation, split};
use trainyard_core::tree::Tree;

proptest! {
    /// Through steps, leaves and whatever members share them: each row of an epoch is used once.
    #[test]
    fn t05_every_sample_once(
        rows in 1_u64..500, batch in 1_u64..600, epochs in 1_u64..4, power in 0_u32..6, members: Vec<u8>, seed: u64,
    ) {
        let tree = Tree::new(1 << power).unwrap();
        let plan = Plan::new(rows, batch, epochs, seed).unwrap();
        let mut used = vec![vec![0; rows as usize]; epochs as usize];
        for step in 0..plan.total_steps() {
            let position = plan.position(step);
            let order = permutation(seed, position.epoch, rows).unwrap();
            let first = position.rows.start;
            // The number of members changes from step to step.
            let members = 1 + usize::from(*members.get(step as usize).unwrap_or(&0)) % 40;
            for rank in 0..members {
                for leaf in leaf_range(tree.leaves(), members, rank) {
                    let rows = tree.rows(leaf, position.rows.end - first);
                    for row in &order[(first + rows.start) as usize..(first + rows.end) as usize] {
                        used[position.epoch as usize][*row as usize] += 1;
                    }
                }
            }
        }
        prop_assert!(used.iter().flatten().all(|&count| count == 1));
    }

    #[test]
    fn t05_steps_tile_the_epochs(rows in 1..=u64::from(u32::MAX), batch: u64, epochs in 1_u64..1000, step: u64) {
        let plan = Plan::new(rows, batch.max(1), epochs, 0).unwrap();
        let step = step % plan.total_steps();
        let position = plan.position(step);
        prop_assert!(position.epoch < epochs);
        prop_assert_eq!(position.epoch * plan.steps_per_epoch() + position.step_in_epoch, step);
        prop_assert!(!position.rows.is_empty() && position.rows.end <= rows);
        prop_assert!(position.rows.end - position.rows.start <= batch.max(1));
        let next = plan.position(step + 1);
        let start = if position.rows.end == rows { 0 } else { position.rows.end };
        prop_assert_eq!(next.rows.start, start);
    }

    #[test]
    fn split_is_a_partition(seed: u64, rows in 2_u64..2000, fraction in 0.001_f64..0.999) {
        let validation_rows = (rows as f64 * fraction).round() as u64;
        match split(seed, rows, fraction) {
            Ok((train, validation)) => {
                prop_assert_eq!(validation.len() as u64, validation_rows);
                prop_assert!(train.is_sorted() && validation.is_sorted());
                let mut all = [train, validation].concat();
                all.sort_unstable();
                prop_assert_eq!(all, (0..rows as u32).collect::<Vec<_>>());
            }
            Err(error) => {
                prop_assert!(validation_rows == 0 || validation_rows == rows, "{}", error);
            }
        }
    }
}

#[test]
fn orders_differ_by_seed_and_epoch() {
    let order = |seed, epoch| permutation(seed, epoch, 40).unwrap();
    assert_ne!(order(7, 0), order(7, 1));
    assert_ne!(order(7, 0), order(8, 0));
    assert_eq!(permutation(7, 0, 0).unwrap(), [0; 0]);
}

#[test]
fn every_order_is_as_likely() {
    let mut counts = std::collections::BTreeMap::new();
    for epoch in 0..24_000 {
        *counts.entry(permutation(5, epoch, 4).unwrap()).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 24);
    assert!(
        counts.values().all(|count| (830..1170).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn a_plan_counts_the_short_last_batch() {
    let plan = Plan::new(455, 32, 10, 7).unwrap();
    assert_eq!((plan.steps_per_epoch(), plan.total_steps()), (15, 150));
    assert_eq!(plan.position(14).rows, 448..455);
    assert_eq!(plan.position(15).rows, 0..32);
    assert_eq!(
        (plan.position(31).epoch, plan.position(31).step_in_epoch),
        (2, 1)
    );
}

#[test]
fn impossible_sizes_are_named() {
    let too_many = u64::from(u32::MAX) + 1;
    assert_eq!(
        Plan::new(too_many, 1, 1, 0),
        Err(SamplingError::TooManyRows(too_many))
    );
    assert_eq!(
        permutation(0, 0, too_many),
        Err(SamplingError::TooManyRows(too_many))
    );
    assert_eq!(
        split(0, too_many, 0.5),
        Err(SamplingError::TooManyRows(too_many))
    );
    assert_eq!(Plan::new(0, 1, 1, 0), Err(SamplingError::Zero("rows")));
    assert_eq!(Plan::new(1, 0, 1, 0), Err(SamplingError::Zero("batchSize")));
    assert_eq!(Plan::new(1, 1, 0, 0), Err(SamplingError::Zero("epochs")));
    let steps = Plan::new(2, 1, u64::MAX, 0);
    assert_eq!(
        steps,
        Err(SamplingError::TooManySteps {
            epochs: u64::MAX,
            steps: 2
        })
    );
    for fraction in [0.0, 1.0, -0.1, f64::INFINITY] {
        assert_eq!(
            split(0, 10, fraction),
            Err(SamplingError::Fraction(fraction))
        );
    }
    assert!(matches!(
        split(0, 10, f64::NAN),
        Err(SamplingError::Fraction(_))
    ));
    let message = split(0, 4, 0.1).unwrap_err().to_string();
    assert!(
        message.contains("0.1 splits 4 rows into 4 for training and 0"),
        "{message}"
    );

    let careless = Plan {
        rows: 3,
        batch_size: 0,
        epochs: u64::MAX,
        seed: 0,
    };
    assert_eq!(careless.total_steps(), u64::MAX);
    assert_eq!(careless.position(4).rows, 1..2);
}
