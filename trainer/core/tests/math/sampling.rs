//! Sampling: every sample of an epoch exactly once, in an order that is a function of the seed.

use proptest::prelude::*;
use serde_json::Value;
use trainyard_core::assignment::leaf_range;
use trainyard_core::sampling::{Parts, Plan, SamplingError, Shares, SplitBy, permutation, split};
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
        match aside(seed, fraction, SplitBy::Random(rows)) {
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

/// Training and validation rows.
fn aside(
    seed: u64,
    validation: f64,
    by: SplitBy<'_>,
) -> Result<(Vec<u32>, Vec<u32>), SamplingError> {
    let shares = Shares {
        validation: Some(validation),
        test: None,
    };
    split(seed, shares, by).map(|parts| (parts.train, parts.validation))
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
        aside(0, 0.5, SplitBy::Random(too_many)),
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
            aside(0, fraction, SplitBy::Random(10)),
            Err(SamplingError::Fraction {
                part: "validation",
                fraction
            })
        );
    }
    assert!(matches!(
        aside(0, f64::NAN, SplitBy::Random(10)),
        Err(SamplingError::Fraction { .. })
    ));
    let message = aside(0, 0.1, SplitBy::Random(4)).unwrap_err().to_string();
    assert!(
        message.contains("of 4 rows none are left for validation"),
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

proptest! {
    /// Both sides have each class's share, as near as whole rows allow, and a class of two rows or more can be learned.
    #[test]
    fn a_stratified_split_has_each_class_on_both_sides(
        seed: u64,
        classes in prop::collection::vec(0_u32..5, 4..400),
        fraction in 0.01_f64..0.9,
    ) {
        let Ok((train, validation)) = aside(seed, fraction, SplitBy::Classes(&classes)) else {
            return Ok(());
        };
        prop_assert_eq!(validation.len(), (classes.len() as f64 * fraction).round() as usize);
        prop_assert_eq!(train.len() + validation.len(), classes.len());
        for class in 0..5 {
            let of = |rows: &[u32]| rows.iter().filter(|row| classes[**row as usize] == class).count() as f64;
            let exact = (of(&train) + of(&validation)) * validation.len() as f64 / classes.len() as f64;
            prop_assert!((of(&validation) - exact).abs() < 1.0, "{} of {}", of(&validation), exact);
        }
        let alike = vec![0; classes.len()];
        prop_assert_eq!(
            aside(seed, fraction, SplitBy::Classes(&alike)).unwrap(),
            aside(seed, fraction, SplitBy::Random(classes.len() as u64)).unwrap()
        );
    }

    #[test]
    fn a_split_by_groups_divides_none(seed: u64, groups in prop::collection::vec(0_u32..9, 4..200), fraction in 0.05_f64..0.9) {
        // Groups are numbered as they occur.
        let mut names: Vec<u32> = Vec::new();
        let groups: Vec<u32> = groups
            .iter()
            .map(|group| match names.iter().position(|name| name == group) {
                Some(place) => place as u32,
                None => {
                    names.push(*group);
                    names.len() as u32 - 1
                }
            })
            .collect();
        let Ok((train, validation)) = aside(seed, fraction, SplitBy::Groups(&groups)) else {
            return Ok(());
        };
        let of = |rows: &[u32]| rows.iter().map(|row| groups[*row as usize]).collect::<std::collections::BTreeSet<_>>();
        prop_assert!(of(&train).is_disjoint(&of(&validation)));
        prop_assert_eq!(of(&validation).len(), (names.len() as f64 * fraction).ceil() as usize);
    }
}

#[test]
fn a_split_in_order_validates_on_what_comes_last() {
    let values = [3.0, 1.0, 2.0, 5.0, 2.0];
    let (train, validation) = aside(1, 0.4, SplitBy::Order(&values)).unwrap();
    assert_eq!((train, validation), (vec![1, 2, 4], vec![0, 3]));
}

/// Three parts are a partition too, each with its share; and whether there is a test set or not, what is trained on and
/// validated on comes from the rows that the test leaves.
#[test]
fn c18_a_test_set_is_set_aside_first() {
    let classes: Vec<u32> = (0..100).map(|row| u32::from(row % 10 == 0)).collect();
    let groups: Vec<u32> = (0..100).map(|row| row / 5).collect();
    let values: Vec<f64> = (0..100).map(|row| f64::from((row * 37) % 100)).collect();
    let all = [
        SplitBy::Random(100),
        SplitBy::Classes(&classes),
        SplitBy::Groups(&groups),
        SplitBy::Order(&values),
    ];
    for by in all {
        let shares = Shares {
            validation: Some(0.2),
            test: Some(0.1),
        };
        let Parts {
            train,
            validation,
            test,
        } = split(5, shares, by).unwrap();
        assert_eq!(
            [train.len(), validation.len(), test.len()],
            [70, 20, 10],
            "{by:?}"
        );
        let mut rows = [train.clone(), validation.clone(), test.clone()].concat();
        rows.sort_unstable();
        assert_eq!(rows, (0..100).collect::<Vec<u32>>());
        let of = |rows: &[u32], of: &[u32]| {
            rows.iter()
                .map(|row| of[*row as usize])
                .collect::<Vec<u32>>()
        };
        match by {
            SplitBy::Random(_) => {}
            SplitBy::Classes(_) => {
                let rare = |rows: &[u32]| of(rows, &classes).iter().sum::<u32>();
                assert_eq!([rare(&train), rare(&validation), rare(&test)], [7, 2, 1]);
            }
            SplitBy::Groups(_) => {
                assert!(
                    of(&test, &groups)
                        .iter()
                        .all(|group| !of(&validation, &groups).contains(group))
                );
            }
            SplitBy::Order(_) => {
                let least =
                    |rows: &[u32]| rows.iter().map(|row| values[*row as usize] as u32).min();
                assert_eq!(
                    [least(&train), least(&validation), least(&test)],
                    [Some(0), Some(70), Some(90)]
                );
            }
        }
        let alone = split(
            5,
            Shares {
                validation: None,
                test: Some(0.1),
            },
            by,
        )
        .unwrap();
        assert_eq!((alone.test, alone.validation), (test, vec![]), "{by:?}");
    }
}

/// The rows of each class that validate, as scikit-learn's `StratifiedShuffleSplit` has them where no remainders are equal.
#[test]
fn shares_of_classes_equal_scikit_learn() {
    let all: Value = serde_json::from_str(include_str!("../fixtures/splits.json")).unwrap();
    for (name, case) in all.as_object().unwrap() {
        let numbers = |field: &str| -> Vec<u64> {
            case[field]
                .as_array()
                .unwrap()
                .iter()
                .map(|n| n.as_u64().unwrap())
                .collect()
        };
        let counts = numbers("counts");
        let classes = counts
            .iter()
            .zip(0_u32..)
            .flat_map(|(&count, class)| vec![class; count as usize]);
        let classes: Vec<u32> = classes.collect();
        let fraction = case["validation"].as_f64().unwrap() / classes.len() as f64;
        let (_, validation) = aside(3, fraction, SplitBy::Classes(&classes)).unwrap();
        let mut shares = vec![0; counts.len()];
        validation
            .iter()
            .for_each(|row| shares[classes[*row as usize] as usize] += 1);
        assert_eq!(shares, numbers("shares"), "{name}");
    }
}
