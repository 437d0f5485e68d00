//! Reports on classes against scikit-learn.

use serde_json::Value;
use trainyard_core::metrics::{
    BlockResult, ClassificationReport, Objective, TaskKind, has_scores, report, summarize,
    summarize_with_report,
};

const MULTICLASS: TaskKind = TaskKind::Multiclass { classes: 6 };

fn fixture(task: &str) -> Value {
    let mut all: Value = serde_json::from_str(include_str!("../fixtures/reports.json")).unwrap();
    all[task].take()
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{value}: {e}"))
}

fn near(actual: &[f64], expected: &[f64], what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (actual, expected) in actual.iter().zip(expected) {
        assert!(
            (actual - expected).abs() <= 1e-12,
            "{what}: {actual}, not {expected}"
        );
    }
}

/// Results in blocks of `rows` rows each, with the scores of all classes or without.
fn blocks(objective: Objective, fixture: &Value, rows: usize, scores: bool) -> Vec<BlockResult> {
    let floats =
        |field: &str| -> Vec<f32> { numbers(&fixture[field]).iter().map(|n| *n as f32).collect() };
    let (outputs, labels) = (floats("outputs"), floats("labels"));
    let blocks = outputs
        .chunks(rows * objective.kind.outputs())
        .zip(labels.chunks(rows));
    blocks
        .map(|(outputs, labels)| {
            BlockResult::with_scores(objective, outputs, labels, scores).unwrap()
        })
        .collect()
}

fn names(kind: TaskKind) -> Vec<String> {
    let classes = kind.outputs().max(2);
    (0..classes).map(|class| format!("class {class}")).collect()
}

/// Precision, recall, F1 and support of each class.
fn check_classes(report: &ClassificationReport, fixture: &Value) {
    let of = |field: &str| numbers(&fixture["classes"][field]);
    let classes = &report.classes;
    let all = |value: fn(&trainyard_contract::ClassMetrics) -> f64| {
        classes.iter().map(value).collect::<Vec<_>>()
    };
    near(&all(|class| class.precision), &of("precision"), "precision");
    near(&all(|class| class.recall), &of("recall"), "recall");
    near(&all(|class| class.f1), &of("f1"), "f1");
    near(
        &all(|class| class.support as f64),
        &of("support"),
        "support",
    );
}

fn check_calibration(report: &ClassificationReport, fixture: &Value) {
    let (calibration, expected) = (
        report.calibration.as_ref().unwrap(),
        &fixture["calibration"],
    );
    let of = |value: fn(&trainyard_contract::CalibrationBin) -> f64| {
        calibration.bins.iter().map(value).collect::<Vec<_>>()
    };
    near(
        &of(|bin| bin.observed),
        &numbers(&expected["observed"]),
        "observed",
    );
    near(
        &of(|bin| bin.predicted),
        &numbers(&expected["predicted"]),
        "predicted",
    );
    let error = expected["expectedCalibrationError"].as_f64().unwrap();
    near(
        &[calibration.expected_calibration_error],
        &[error],
        "error of the calibration",
    );
}

#[test]
fn reports_equal_scikit_learn() {
    for kind in [TaskKind::Binary, MULTICLASS] {
        let fixture = fixture(if kind == MULTICLASS {
            "multiclass"
        } else {
            "binary"
        });
        let objective = Objective::from(kind);
        for rows in [200, 64, 1] {
            let blocks = blocks(objective, &fixture, rows, true);
            let (metrics, report) = summarize_with_report(&objective, &names(kind), &blocks, true);
            let report = report.expect("a report");
            check_classes(&report, &fixture);
            check_calibration(&report, &fixture);
            let matrix: Vec<Vec<u64>> =
                serde_json::from_value(fixture["confusionMatrix"].clone()).unwrap();
            assert_eq!(report.confusion_matrix, matrix);
            near(
                &[metrics.auc.unwrap()],
                &[fixture["auc"].as_f64().unwrap()],
                "auc",
            );
            if kind == MULTICLASS {
                let aucs: Vec<f64> = report
                    .classes
                    .iter()
                    .filter_map(|class| class.auc)
                    .collect();
                near(&aucs, &numbers(&fixture["aucs"]), "auc of each class");
                for (k, expected) in fixture["topK"].as_object().unwrap() {
                    near(
                        &[report.top_k[&k.parse().unwrap()]],
                        &[expected.as_f64().unwrap()],
                        k,
                    );
                }
                assert_eq!(report.suggested_threshold, None);
            }
        }
    }
}

/// The suggestion is as good as the best of scikit-learn's thresholds, and gives what it says.
#[test]
fn a_suggested_threshold_gives_the_best_f1() {
    let fixture = fixture("binary");
    let objective = Objective::from(TaskKind::Binary);
    let blocks = blocks(objective, &fixture, 50, false);
    let names = names(TaskKind::Binary);
    let found = report(&objective, &names, &blocks, true)
        .unwrap()
        .suggested_threshold
        .expect("a threshold");
    let expected =
        ["precision", "recall", "f1"].map(|field| fixture["threshold"][field].as_f64().unwrap());
    near(
        &[found.precision, found.recall, found.f1],
        &expected,
        "threshold",
    );
    let cutoff = (found.threshold / (1.0 - found.threshold)).ln() as f32;
    let with = summarize(
        Objective {
            cutoff,
            ..objective
        },
        &blocks,
    );
    assert_eq!(
        [with.precision, with.recall, with.f1],
        [found.precision, found.recall, found.f1].map(Some)
    );
    assert!(
        with.f1 > summarize(objective, &blocks).f1,
        "it is better than one half here"
    );
    let of_test_rows = report(&objective, &names, &blocks, false).unwrap();
    assert_eq!(
        of_test_rows.suggested_threshold, None,
        "none is chosen on test rows"
    );
}

#[test]
fn a_threshold_where_there_is_none_or_any_will_do() {
    let objective = Objective::from(TaskKind::Binary);
    let suggested = |outputs: &[f32], labels: &[f32]| {
        let block = BlockResult::from_outputs(objective, outputs, labels).unwrap();
        report(&objective, &names(TaskKind::Binary), &[block], true)
            .unwrap()
            .suggested_threshold
    };
    assert_eq!(
        suggested(&[0.5, -1.0], &[0.0, 0.0]),
        None,
        "no row of class 1"
    );
    assert_eq!(suggested(&[1e30, -1e30], &[1.0, 0.0]).unwrap().f1, 1.0);
    assert_eq!(
        suggested(&[200.0, 100.0], &[1.0, 0.0]),
        None,
        "probabilities that no number tells apart"
    );
    assert_eq!(suggested(&[0.0, -0.0], &[1.0, 1.0]).unwrap().recall, 1.0);
}

/// Counts alone still say how each class does; a report has no more classes, and no more scores, than it can hold.
#[test]
fn what_needs_scores_is_left_out_without() {
    let fixture = fixture("multiclass");
    let objective = Objective::from(MULTICLASS);
    let counted = report(
        &objective,
        &names(MULTICLASS),
        &blocks(objective, &fixture, 64, false),
        true,
    )
    .unwrap();
    check_classes(&counted, &fixture);
    assert!(
        counted.confusion_matrix.is_empty()
            && counted.top_k.is_empty()
            && counted.calibration.is_none()
    );
    let of = |classes| TaskKind::Multiclass { classes };
    assert!(has_scores(of(10), 10_000) && has_scores(of(256), 1 << 14));
    assert!(
        !has_scores(of(257), 1)
            && !has_scores(of(256), (1 << 14) + 1)
            && !has_scores(of(10), u64::MAX)
    );
    assert!(
        !has_scores(TaskKind::Binary, 1),
        "those of a binary task come anyway"
    );
    let many = of(2000);
    let labels = vec![3.0; 2];
    let block = BlockResult::from_outputs(many, &vec![0.0; 4000], &labels).unwrap();
    assert!(
        report(&many.into(), &names(many), &[block], true)
            .unwrap()
            .classes
            .is_empty()
    );
}

#[test]
fn there_is_no_report_on_a_regression_or_on_nothing() {
    let regression = BlockResult::from_outputs(TaskKind::Regression, &[1.0], &[2.0]).unwrap();
    assert_eq!(
        report(
            &TaskKind::Regression.into(),
            &[],
            std::slice::from_ref(&regression),
            true
        ),
        None
    );
    assert_eq!(
        report(&MULTICLASS.into(), &names(MULTICLASS), &[regression], true),
        None
    );
    assert_eq!(
        report(
            &TaskKind::Binary.into(),
            &names(TaskKind::Binary),
            &[],
            true
        ),
        None
    );
}

/// A result that came from elsewhere may be anything.
#[test]
fn scores_that_contradict_themselves_fit_no_task() {
    let objective = Objective::from(MULTICLASS);
    let good = BlockResult::with_scores(objective, &[0.0; 12], &[0.0, 1.0], true).unwrap();
    assert!(good.fits(MULTICLASS) && !good.fits(TaskKind::Binary));
    assert!(!good.fits(TaskKind::Multiclass { classes: 5 }));
    let text = serde_json::to_string(&good).unwrap();
    assert_eq!(serde_json::from_str::<BlockResult>(&text).unwrap(), good);
    for (what, bad) in [
        ("a row too many", text.replace("\"rows\":2", "\"rows\":3")),
        (
            "no such class",
            text.replace("\"labels\":[0,1]", "\"labels\":[0,6]"),
        ),
        (
            "a row without its class",
            text.replace("\"labels\":[0,1]", "\"labels\":[0]"),
        ),
        (
            "a logit too few",
            text.replace("\"logits\":[0,", "\"logits\":["),
        ),
    ] {
        let bad: BlockResult = serde_json::from_str(&bad).unwrap();
        assert!(bad != good && !bad.fits(MULTICLASS), "{what}");
    }
}
