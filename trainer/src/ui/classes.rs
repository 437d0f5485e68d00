//! What a classifier gets right and wrong, for people.

use trainyard_core::manifest::Reports;
use trainyard_core::metrics::{ClassificationReport, Metric, Metrics};

use super::format::{significant, thousands};
use super::table;
use super::text::{Line, Tone, clean};

/// The most classes that are shown; of more, those with the lowest F1.
const SHOWN: usize = 20;
/// The most classes whose confusion matrix is shown.
const CONFUSED: usize = 10;
/// The longest name of a class that is shown whole.
const LONGEST: usize = 24;
/// By how much F1 must improve for a threshold to be worth a word.
const WORTH: f64 = 0.005;

/// The classes of `set` and their confusion matrix, in lines.
pub fn lines(set: &str, report: &ClassificationReport, fancy: bool) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut shown: Vec<_> = report.classes.iter().collect();
    let all = shown.len();
    if all > SHOWN {
        shown.sort_by(|a, b| a.f1.total_cmp(&b.f1));
        shown.truncate(SHOWN);
        let text = format!("  of {all} classes, the {SHOWN} with the lowest f1");
        lines.push(Line::default().with(Tone::Quiet, text));
    }
    if !shown.is_empty() {
        let header = [set, "precision", "recall", "f1", "support"].map(str::to_owned);
        let rows = shown.iter().map(|class| {
            let scores =
                [class.precision, class.recall, class.f1].map(|score| format!("{score:.4}"));
            let name = [short(&class.class)].into_iter();
            name.chain(scores)
                .chain([thousands(class.support)])
                .collect()
        });
        lines.extend(table::lines(header.into(), rows.collect(), fancy));
    }
    if !report.confusion_matrix.is_empty() && all <= CONFUSED {
        lines.push(Line::default());
        let names = || report.classes.iter().map(|class| short(&class.class));
        let header = std::iter::once("true \\ predicted".to_owned()).chain(names());
        let rows = names().zip(&report.confusion_matrix).map(|(name, row)| {
            std::iter::once(name)
                .chain(row.iter().map(|rows| thousands(*rows)))
                .collect()
        });
        lines.extend(table::lines(header.collect(), rows.collect(), fancy));
    }
    let tops = report
        .top_k
        .iter()
        .map(|(k, share)| format!("top-{k} accuracy {share:.4}"));
    let calibration = report.calibration.as_ref().map(|calibration| {
        let error = significant(calibration.expected_calibration_error);
        format!("expected calibration error {error}")
    });
    let others: Vec<String> = tops.chain(calibration).collect();
    if !others.is_empty() {
        lines.push(Line::default());
        lines.push(Line::default().with(Tone::Plain, format!("  {}", others.join(", "))));
    }
    lines
}

/// A threshold that is better by validation than the job's, in words.
pub fn suggestion(reports: &Reports, validation: &Metrics) -> Option<String> {
    let report = reports.validation.as_ref()?;
    let (found, now) = (report.suggested_threshold?, validation.get(Metric::F1)?);
    (found.f1 > now + WORTH).then(|| {
        format!(
            "{} gives f1 {:.4} on the validation rows, now {now:.4}",
            significant(found.threshold),
            found.f1
        )
    })
}

fn short(name: &str) -> String {
    let name = clean(name);
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainyard_contract::{Calibration, ClassMetrics, SuggestedThreshold};

    fn class(name: &str, f1: f64) -> ClassMetrics {
        ClassMetrics {
            class: name.into(),
            support: 1200,
            precision: 0.5,
            recall: 0.25,
            f1,
            auc: None,
        }
    }

    fn shown(report: &ClassificationReport) -> String {
        let lines = lines("test", report, false);
        let lines: Vec<String> = lines.iter().map(|line| line.paint(false)).collect();
        lines.join("\n")
    }

    #[test]
    fn classes_and_what_they_are_taken_for_are_tables() {
        let report = ClassificationReport {
            classes: vec![class("benign", 0.96), class("malignant", 0.8)],
            confusion_matrix: vec![vec![1199, 1], vec![200, 1000]],
            top_k: [(2, 1.0)].into(),
            calibration: Some(Calibration {
                expected_calibration_error: 0.012_34,
                bins: Vec::new(),
            }),
            suggested_threshold: None,
        };
        let expected = "  test        precision   recall       f1   support
  -------------------------------------------------
  benign         0.5000   0.2500   0.9600     1,200
  malignant      0.5000   0.2500   0.8000     1,200

  true \\ predicted   benign   malignant
  -------------------------------------
  benign              1,199           1
  malignant             200       1,000

  top-2 accuracy 1.0000, expected calibration error 0.01234";
        assert_eq!(shown(&report), expected);
        assert!(expected.is_ascii());
    }

    #[test]
    fn of_many_classes_those_are_shown_that_need_attention() {
        let classes: Vec<ClassMetrics> = (0..50)
            .map(|n| class(&format!("class {n}"), f64::from(n) / 50.0))
            .collect();
        let text = shown(&ClassificationReport {
            classes: classes.into_iter().rev().collect(),
            confusion_matrix: vec![vec![0; 50]; 50],
            ..ClassificationReport::default()
        });
        assert!(
            text.starts_with("  of 50 classes, the 20 with the lowest f1\n"),
            "{text}"
        );
        assert!(
            text.contains("class 19") && !text.contains("class 20") && !text.contains("predicted"),
            "{text}"
        );
        assert!(shown(&ClassificationReport::default()).is_empty());
        let long = ClassificationReport {
            classes: vec![class(&"x".repeat(100), 0.5)],
            ..ClassificationReport::default()
        };
        assert!(shown(&long).contains(&format!("{}... ", "x".repeat(LONGEST))));
    }

    #[test]
    fn a_threshold_is_worth_a_word_if_it_helps() {
        let reports = Reports {
            validation: Some(ClassificationReport {
                suggested_threshold: Some(SuggestedThreshold {
                    threshold: 0.231_04,
                    precision: 0.5,
                    recall: 0.5,
                    f1: 0.5,
                }),
                ..ClassificationReport::default()
            }),
            test: None,
        };
        let suggestion = |now: f64| {
            let validation = Metrics {
                f1: Some(now),
                ..Metrics::default()
            };
            suggestion(&reports, &validation)
        };
        let said = "0.2310 gives f1 0.5000 on the validation rows, now 0.1000";
        assert_eq!(suggestion(0.1).as_deref(), Some(said));
        assert_eq!(suggestion(0.499), None);
    }
}
