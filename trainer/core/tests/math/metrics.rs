//! Losses and metrics against PyTorch and scikit-learn, and their independence of who computed what.

use proptest::prelude::*;
use serde_json::Value;
use trainyard_core::metrics::{
    BlockResult, Loss, Metric, Metrics, MetricsError, Objective, TaskKind, bce_with_logits,
    cross_entropy, summarize,
};
use trainyard_core::schema::{Label, TargetScale};

const MULTICLASS: TaskKind = TaskKind::Multiclass { classes: 5 };

fn fixture(task: &str) -> Value {
    let mut all: Value = serde_json::from_str(include_str!("../fixtures/metrics.json")).unwrap();
    all[task].take()
}

fn floats(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Results of blocks of `rows` rows each.
fn evaluate(task: TaskKind, outputs: &[f32], labels: &[f32], rows: usize) -> Vec<BlockResult> {
    let outputs = outputs.chunks(rows * task.outputs());
    let blocks = outputs.zip(labels.chunks(rows));
    blocks
        .map(|(outputs, labels)| BlockResult::from_outputs(task, outputs, labels).unwrap())
        .collect()
}

/// Every metric of the fixture, and no other.
fn check(task: TaskKind, name: &str, tolerance: f64) {
    let fixture = fixture(name);
    let (outputs, labels) = (floats(&fixture["outputs"]), floats(&fixture["labels"]));
    for rows in [labels.len(), 16, 1] {
        let metrics = summarize(task, &evaluate(task, &outputs, &labels, rows));
        for metric in Metric::ALL {
            match (metrics.get(metric), fixture[metric.name()].as_f64()) {
                (Some(actual), Some(expected)) => {
                    let error = (actual - expected).abs();
                    assert!(
                        error <= tolerance * expected.abs(),
                        "{name} {metric:?}: {actual}, not {expected}"
                    );
                }
                (actual, expected) => assert_eq!(actual, expected, "{name} {metric:?}"),
            }
        }
    }
}

#[test]
fn metrics_equal_scikit_learn() {
    check(TaskKind::Binary, "binary", 1e-12);
    check(MULTICLASS, "multiclass", 1e-12);
    check(TaskKind::Regression, "regression", 1e-11);
}

proptest! {
    /// AUC as it is defined: over all pairs, ties counting one half.
    #[test]
    fn auc_counts_pairs(rows in prop::collection::vec((-4_i8..4, any::<bool>()), 1..60), block in 1_usize..20) {
        let outputs: Vec<f32> = rows.iter().map(|(score, _)| f32::from(*score)).collect();
        let labels: Vec<f32> = rows.iter().map(|(_, label)| f32::from(*label)).collect();
        let (mut pairs, mut won) = (0.0, 0.0);
        for (high, _) in rows.iter().filter(|row| row.1) {
            for (low, _) in rows.iter().filter(|row| !row.1) {
                pairs += 1.0;
                won += if high > low { 1.0 } else if high == low { 0.5 } else { 0.0 };
            }
        }
        let metrics = summarize(TaskKind::Binary, &evaluate(TaskKind::Binary, &outputs, &labels, block));
        prop_assert_eq!(metrics.auc, (pairs > 0.0).then(|| won / pairs));
    }

    /// JSON carries a result exactly, whatever the model gave.
    #[test]
    fn results_survive_json(bits in prop::collection::vec(any::<u32>(), 1..20), task in 0_usize..3) {
        let task = [TaskKind::Binary, TaskKind::Multiclass { classes: 1 }, TaskKind::Regression][task];
        let outputs: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        let labels = vec![0.0; outputs.len()];
        let result = BlockResult::from_outputs(task, &outputs, &labels).unwrap();
        prop_assert!(result.fits(task));
        let text = serde_json::to_string(&result).unwrap();
        let back: BlockResult = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(result.loss_sum.to_bits(), back.loss_sum.to_bits());
        prop_assert_eq!(serde_json::to_string(&back).unwrap(), text);
    }
}

#[test]
fn losses_neither_overflow_nor_cancel() {
    assert_eq!(bce_with_logits(0.0, 1.0, 0.0), 2.0_f64.ln());
    assert_eq!(bce_with_logits(1000.0, 0.0, 0.0), 1000.0);
    assert_eq!(bce_with_logits(-1000.0, 0.0, 0.0), 0.0);
    assert!(bce_with_logits(40.0, 1.0, 0.0) > 0.0);
    assert!(bce_with_logits(f32::NAN, 0.0, 0.0).is_nan());
    assert_eq!(cross_entropy(&[1000.0, 1000.0], 0, 0.0), 2.0_f64.ln());
    assert_eq!(cross_entropy(&[0.0, 3e38], 0, 0.0), f64::from(3e38_f32));
    assert!(cross_entropy(&[f32::NAN, 0.0], 1, 0.0).is_nan());
    assert!(cross_entropy(&[0.0], 1, 0.0).is_nan());
}

#[test]
fn undefined_metrics_are_absent() {
    let metrics = |task, outputs: &[f32], labels: &[f32]| {
        summarize(
            task,
            &[BlockResult::from_outputs(task, outputs, labels).unwrap()],
        )
    };
    let one_class = metrics(TaskKind::Binary, &[-1.0, 2.0], &[0.0, 0.0]);
    assert_eq!(
        (one_class.auc, one_class.f1, one_class.accuracy),
        (None, Some(0.0), Some(0.5))
    );
    let same_label = metrics(TaskKind::Regression, &[1.0, 3.0], &[2.0, 2.0]);
    assert_eq!(
        (same_label.r2, same_label.rmse, same_label.loss),
        (None, Some(1.0), Some(1.0))
    );
    let broken = metrics(TaskKind::Binary, &[f32::NAN, 1.0], &[0.0, 1.0]);
    assert_eq!(
        (broken.loss, broken.auc, broken.accuracy),
        (None, None, Some(1.0))
    );
    for task in [TaskKind::Binary, MULTICLASS, TaskKind::Regression] {
        assert_eq!(metrics(task, &[], &[]), Metrics::default());
        assert_eq!(summarize(task, &[]), Metrics::default());
    }
    let infinite = Metrics {
        loss: Some(f64::INFINITY),
        f1: Some(0.5),
        ..Metrics::default()
    };
    assert_eq!(infinite.get(Metric::Loss), None);
    assert_eq!(serde_json::to_string(&infinite).unwrap(), r#"{"f1":0.5}"#);
    assert_eq!(
        serde_json::from_str::<Metrics>("{}").unwrap(),
        Metrics::default()
    );
}

#[test]
fn predicted_classes() {
    assert_eq!(TaskKind::Binary.predicted_class(&[0.0]), Some(0));
    assert_eq!(TaskKind::Binary.predicted_class(&[1e-9]), Some(1));
    assert_eq!(
        MULTICLASS.predicted_class(&[1.0, 3.0, 3.0, 2.0, f32::NAN]),
        Some(1)
    );
    assert_eq!(MULTICLASS.predicted_class(&[f32::NAN, -1.0]), Some(1));
    assert_eq!(MULTICLASS.predicted_class(&[]), None);
    assert_eq!(TaskKind::Regression.predicted_class(&[1.0]), None);
}

#[test]
fn bad_rows_are_named() {
    let short = BlockResult::from_outputs(MULTICLASS, &[0.0; 9], &[0.0, 1.0]);
    assert_eq!(
        short,
        Err(MetricsError::Outputs {
            rows: 2,
            expected: 10,
            actual: 9
        })
    );
    for (task, label) in [
        (TaskKind::Binary, 0.5),
        (TaskKind::Binary, f32::NAN),
        (MULTICLASS, 5.0),
    ] {
        let outputs = vec![0.0; 2 * task.outputs()];
        let error = BlockResult::from_outputs(task, &outputs, &[0.0, label]).unwrap_err();
        assert!(
            matches!(error, MetricsError::Label { row: 1, .. }),
            "{error}"
        );
    }
    for label in [-1.0, 0.5, f32::NAN, f32::INFINITY] {
        let result = BlockResult::from_outputs(MULTICLASS, &[0.0; 5], &[label]);
        assert!(
            matches!(result, Err(MetricsError::Label { row: 0, .. })),
            "{label}"
        );
    }
}

/// A result from elsewhere may be of another task or contradict itself: it is left out.
#[test]
fn results_that_do_not_fit_are_left_out() {
    let good = BlockResult::from_outputs(MULTICLASS, &[0.0; 10], &[0.0, 1.0]).unwrap();
    let text = serde_json::to_string(&good).unwrap();
    for (from, to) in [
        (r#""rows":2"#, r#""rows":3"#),
        (r#""correct":[1,"#, r#""correct":[2,"#),
        (r#""labelled":[1,"#, r#""labelled":[18446744073709551615,"#),
        (r#""predicted":[2,0,"#, r#""predicted":[2,"#),
    ] {
        assert!(text.contains(from), "{text}");
        let bad: BlockResult = serde_json::from_str(&text.replace(from, to)).unwrap();
        assert!(!bad.fits(MULTICLASS), "{to}");
        let both = summarize(MULTICLASS, &[bad, good.clone()]);
        assert_eq!(both, summarize(MULTICLASS, std::slice::from_ref(&good)));
    }
    assert!(!good.fits(TaskKind::Binary) && !good.fits(TaskKind::Multiclass { classes: 4 }));
}

/// Blocks that were merged one after the other have the metrics of all, to the bit; what does not fit is left out.
#[test]
fn merged_blocks_have_the_metrics_of_all() {
    for (task, name) in [
        (TaskKind::Binary, "binary"),
        (MULTICLASS, "multiclass"),
        (TaskKind::Regression, "regression"),
    ] {
        let fixture = fixture(name);
        let (outputs, labels) = (floats(&fixture["outputs"]), floats(&fixture["labels"]));
        let blocks = evaluate(task, &outputs, &labels, 7);
        let mut all = BlockResult::empty(task);
        assert!(all.fits(task), "{name}");
        blocks.iter().for_each(|block| all.merge(block.clone()));
        assert!(all.fits(task) && all.rows == labels.len() as u64, "{name}");
        let other = if name == "binary" {
            TaskKind::Regression
        } else {
            TaskKind::Binary
        };
        all.merge(BlockResult::from_outputs(other, &[1.0], &[1.0]).unwrap());
        assert_eq!(summarize(task, &[all]), summarize(task, &blocks), "{name}");
    }
}

/// However the sum of equal targets is rounded, and whatever blocks they come in.
#[test]
fn r2_of_equal_targets_is_undefined() {
    for (target, rows) in [
        (123_456.7_f32, 50),
        (300_001.3, 33),
        (98_765.4, 7),
        (7.1, 3000),
    ] {
        let labels = vec![target; rows];
        let outputs: Vec<f32> = (0..rows).map(|row| target + row as f32).collect();
        for block in [rows, 16, 1] {
            let blocks = evaluate(TaskKind::Regression, &outputs, &labels, block);
            let metrics = summarize(TaskKind::Regression, &blocks);
            assert_eq!(metrics.r2, None, "{target} in blocks of {block}");
            assert!(metrics.rmse.is_some());
        }
    }
}

#[test]
fn better_knows_the_direction() {
    let (loss, rmse, auc) = (Metric::Loss, Metric::Rmse, Metric::Auc);
    assert!(loss.better(0.5, 0.6, 0.0) && !loss.better(0.6, 0.5, 0.0));
    assert!(rmse.better(0.5, 0.6, 0.05) && !rmse.better(0.5, 0.6, 0.2));
    for metric in [Metric::Accuracy, auc, Metric::F1, Metric::R2] {
        assert!(metric.better(0.6, 0.5, 0.0) && !metric.better(0.5, 0.6, 0.0));
        assert!(!metric.better(0.6, 0.5, 0.2));
    }
    assert!(!loss.better(0.5, 0.5, 0.0) && !auc.better(0.5, 0.5, 0.0));
    for (a, b) in [(f64::NAN, 0.5), (0.5, f64::NAN)] {
        assert!(!loss.better(a, b, 0.0) && !auc.better(a, b, 0.0));
    }
}

#[test]
fn metrics_of_a_scaled_target_are_in_its_units() {
    let label = |scale| Label {
        name: "y".into(),
        classes: Vec::new(),
        numeric: true,
        scale,
        link: None,
        threshold: None,
    };
    let scale = TargetScale {
        mean: 300_000.0,
        std: 80_000.0,
    };
    let (targets, guesses) = (
        [250_000.0, 300_000.0, 420_000.0],
        [260_000.0, 290_000.0, 400_000.0],
    );
    let metrics = |scale: Option<TargetScale>| {
        let outputs = guesses.map(|guess: f64| label(scale).scaled(guess));
        let labels = targets.map(|target: f64| label(scale).scaled(target));
        let objective = Objective {
            scale,
            ..TaskKind::Regression.into()
        };
        let block = BlockResult::from_outputs(objective, &outputs, &labels).unwrap();
        summarize(objective, &[block])
    };
    let (with, without) = (metrics(Some(scale)), metrics(None));
    for metric in [Metric::Rmse, Metric::Mae, Metric::Mape, Metric::R2] {
        let (with, without) = (with.get(metric).unwrap(), without.get(metric).unwrap());
        assert!(
            (with / without - 1.0).abs() < 1e-6,
            "{metric:?}: {with} {without}"
        );
    }
    assert!(
        (without.rmse.unwrap() - 2e8_f64.sqrt()).abs() < 1e-6,
        "{without:?}"
    );
    let scaled = label(Some(scale));
    assert_eq!(scaled.unscaled(scaled.scaled(420_000.0)), 420_000.0);
}

#[test]
fn losses_equal_pytorch() {
    let all = fixture("losses");
    let row = |name: &str| floats(&all[name]);
    let (outputs, logits) = (row("outputs"), row("logits"));
    let check = |loss: Loss, kind: TaskKind, labels: &str, expected: &str| {
        let objective = Objective {
            loss,
            ..kind.into()
        };
        let width = kind.outputs();
        let values = if width == 1 { &outputs } else { &logits };
        let expected = all[expected].as_array().unwrap();
        for (row, (values, label)) in values.chunks(width).zip(row(labels)).enumerate() {
            let block = BlockResult::from_outputs(objective, values, &[label]).unwrap();
            let expected = expected[row].as_f64().unwrap();
            let error = (block.loss_sum - expected).abs();
            assert!(
                error <= 1e-12 * expected.abs().max(1.0),
                "{loss:?} of row {row}: {} not {expected}",
                block.loss_sum
            );
        }
    };
    check(
        Loss::MeanAbsoluteError {},
        TaskKind::Regression,
        "targets",
        "meanAbsoluteError",
    );
    check(
        Loss::Huber { delta: 1.5 },
        TaskKind::Regression,
        "targets",
        "huber",
    );
    check(Loss::Poisson {}, TaskKind::Regression, "counts", "poisson");
    let smoothed = Loss::CrossEntropy {
        label_smoothing: 0.1,
    };
    check(smoothed, TaskKind::Binary, "binary", "smoothedBinary");
    check(
        smoothed,
        TaskKind::Multiclass { classes: 4 },
        "classes",
        "smoothed",
    );
}
