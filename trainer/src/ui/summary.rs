//! The end of a job.

use serde::Serialize;
use trainyard_core::manifest::FinalMetrics;
use trainyard_core::metrics::Metric;

use super::classes;
use super::format::{count, elapsed, metric, thousands};
use super::table;
use super::text::{Line, Tone, clean, fold};

/// What a finished job leaves: the `finished` event, the last line of `trainyard run --json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Name of the job.
    pub job: String,
    /// Steps taken, from the first run on.
    pub steps: u64,
    /// Epochs finished.
    pub epochs: u64,
    /// Whether early stopping ended the job before its last epoch.
    pub stopped_early: bool,
    /// The epoch, from 0, at whose end the parameters are the model's: the best one with early stopping
    /// and `restoreBest`, otherwise the last.
    pub model_epoch: u64,
    /// The class that `f1` and `auc` are of, for binary classification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positive: Option<String>,
    /// Metrics of the model that was left.
    pub metrics: FinalMetrics,
    /// SHA-256 of the model (hex): equal for equal models.
    pub model_sha256: String,
    /// Folder of the artifact.
    pub artifact: String,
    /// The final checkpoint.
    pub checkpoint: String,
    /// Time since the start of this run.
    pub elapsed_seconds: f64,
}

/// The summary for people. `fancy` is for a terminal; plain text is ASCII.
pub fn lines(summary: &Summary, width: Option<usize>, fancy: bool) -> Vec<Line> {
    let steps = count(summary.steps, "step", "steps");
    let epochs = count(summary.epochs, "epoch", "epochs");
    let work = format!("{steps} in {epochs}, {}", elapsed(summary.elapsed_seconds));
    let head = Line::default()
        .with(Tone::Good, if fancy { "✓ " } else { "" })
        .with(Tone::Strong, clean(&summary.job))
        .with(Tone::Plain, " finished");
    let mut lines = if width.is_none_or(|width| head.width() + 2 + work.len() < width) {
        vec![head.with(Tone::Plain, format!(": {work}"))]
    } else {
        vec![head, Line::default().with(Tone::Plain, format!("  {work}"))]
    };
    lines.extend(course(summary, width));
    lines.push(Line::default());
    lines.extend(metrics(&summary.metrics, fancy));
    lines.push(Line::default());
    if let Some((set, report)) = summary.metrics.reports.decisive() {
        lines.extend(classes::lines(set, report, fancy));
        lines.push(Line::default());
    }
    let suggestion = classes::suggestion(&summary.metrics.reports, &summary.metrics.validation);
    lines.extend(
        suggestion
            .iter()
            .flat_map(|text| fact("threshold", text, width)),
    );
    if let Some(positive) = &summary.positive {
        lines.extend(fact("positive", &clean(positive), width));
    }
    lines.extend(digest(&clean(&summary.model_sha256), width));
    lines.extend(fact("artifact", &clean(&summary.artifact), width));
    lines.extend(fact("checkpoint", &clean(&summary.checkpoint), width));
    lines
}

/// That the job ended before its last epoch, or with the model of another.
fn course(summary: &Summary, width: Option<usize>) -> Vec<Line> {
    let model = summary.model_epoch + 1;
    let text = match (summary.stopped_early, model < summary.epochs) {
        (true, true) => format!(
            "stopped early; the model is of the best epoch, {}",
            thousands(model)
        ),
        (false, true) => format!("the model is of the best epoch, {}", thousands(model)),
        (true, false) => "stopped early; the model is of the last epoch".into(),
        (false, false) => return Vec::new(),
    };
    let room = width.map(|width| width.saturating_sub(1));
    let lines = fold(&text, room, 2).into_iter();
    lines
        .map(|line| Line::default().with(Tone::Plain, format!("  {line}")))
        .collect()
}

/// Metrics in rows, what they were measured on in columns.
fn metrics(metrics: &FinalMetrics, fancy: bool) -> Vec<Line> {
    let sets = [
        ("training", &metrics.train),
        ("validation", &metrics.validation),
        ("test", &metrics.test),
    ];
    let sets: Vec<_> = sets
        .into_iter()
        .filter(|(name, found)| *name == "training" || !found.is_empty())
        .collect();
    let header = std::iter::once("").chain(sets.iter().map(|(name, _)| *name));
    let there = |kind: &Metric| sets.iter().any(|(_, found)| found.get(*kind).is_some());
    let rows = Metric::ALL.into_iter().filter(there).map(|kind| {
        let name = kind.name();
        let shown = |value: Option<f64>| value.map_or("-".into(), |value| metric(name, value));
        let values = sets.iter().map(|(_, found)| shown(found.get(kind)));
        std::iter::once(name.to_owned()).chain(values).collect()
    });
    table::lines(header.map(str::to_owned).collect(), rows.collect(), fancy)
}

/// A labelled value; on a line of its own where it does not fit beside the label. A value that does
/// not fit there either stays whole, so that it can be copied.
fn fact(label: &str, value: &str, width: Option<usize>) -> Vec<Line> {
    let label = Line::default().with(Tone::Quiet, format!("  {label:<11}"));
    let beside = label.clone().with(Tone::Plain, format!("  {value}"));
    if width.is_none_or(|width| beside.width() < width) {
        return vec![beside];
    }
    vec![
        label,
        Line::default().with(Tone::Plain, format!("    {value}")),
    ]
}

/// The model's digest, in two halves where it does not fit on a line.
fn digest(hex: &str, width: Option<usize>) -> Vec<Line> {
    match hex.split_at_checked(hex.len() / 2) {
        Some((left, right)) if width.is_some_and(|width| hex.len() + 4 >= width) => {
            let mut lines = fact("modelSha256", left, width);
            let margin = lines.last().map_or(4, Line::width) - left.chars().count();
            lines.push(Line::default().with(Tone::Plain, format!("{:margin$}{right}", "")));
            lines
        }
        _ => fact("modelSha256", hex, width),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use trainyard_core::metrics::Metrics;

    use super::*;

    fn summary() -> Summary {
        let train = Metrics {
            loss: Some(0.012_344),
            accuracy: Some(0.9978),
            auc: Some(0.9999),
            ..Metrics::default()
        };
        let validation = Metrics {
            loss: Some(0.1213),
            accuracy: Some(0.9649),
            auc: None,
            ..Metrics::default()
        };
        Summary {
            job: "breast-cancer".into(),
            steps: 300,
            epochs: 20,
            stopped_early: false,
            model_epoch: 19,
            positive: Some("M".into()),
            metrics: FinalMetrics {
                train,
                validation,
                ..FinalMetrics::default()
            },
            model_sha256: "0123456789abcdef".repeat(4),
            artifact: "runs/breast-cancer/artifact".into(),
            checkpoint: "runs/breast-cancer/checkpoints".into(),
            elapsed_seconds: 65.2,
        }
    }

    fn shown(summary: &Summary, width: Option<usize>) -> Vec<String> {
        lines(summary, width, false)
            .iter()
            .map(|line| line.paint(false))
            .collect()
    }

    #[test]
    fn plain_text_is_a_table_and_facts_in_ascii() {
        let sha = "0123456789abcdef".repeat(4);
        let expected = format!(
            "breast-cancer finished: 300 steps in 20 epochs, 1m 05s

             training   validation
  --------------------------------
  loss        0.01234       0.1213
  accuracy     0.9978       0.9649
  auc          0.9999            -

  positive     M
  modelSha256  {sha}
  artifact     runs/breast-cancer/artifact
  checkpoint   runs/breast-cancer/checkpoints"
        );
        assert_eq!(shown(&summary(), None).join("\n"), expected);
        assert!(expected.is_ascii());
    }

    #[test]
    fn t25_an_early_stop_stands_below_the_head() {
        let summary = Summary {
            stopped_early: true,
            model_epoch: 4,
            ..summary()
        };
        let told = "  stopped early; the model is of the best epoch, 5";
        assert_eq!(shown(&summary, None)[1], told);
        let narrow = shown(&summary, Some(30));
        let folded = ["  stopped early; the model is", "  of the best epoch, 5"];
        assert_eq!(narrow[2..4], folded, "{narrow:?}");
    }

    #[test]
    fn without_validation_there_is_no_column_for_it() {
        let mut summary = summary();
        summary.metrics.validation = Metrics::default();
        let text = shown(&summary, None).join("\n");
        assert!(
            text.contains("training\n") && !text.contains("validation"),
            "{text}"
        );
        summary.metrics.train = Metrics::default();
        shown(&summary, None); // nothing at all is no reason to fail
    }

    #[test]
    fn long_values_move_below_their_labels() {
        let every = |width| {
            shown(&summary(), Some(width))
                .iter()
                .all(|line| line.chars().count() < width)
        };
        assert!(every(50) && every(60) && every(79) && every(80) && every(120));
        let narrow = shown(&summary(), Some(50)).join("\n");
        let half = "0123456789abcdef".repeat(2);
        assert!(
            narrow.contains(&format!("  modelSha256  {half}\n               {half}\n")),
            "{narrow}"
        );
        assert!(shown(&summary(), Some(70)).contains(&format!("    {half}{half}")));
        assert!(shown(&summary(), Some(40)).contains(&"    runs/breast-cancer/checkpoints".into()));
        shown(&summary(), Some(0));
    }

    #[test]
    fn a_strange_digest_is_no_reason_to_fail() {
        let odd = Summary {
            model_sha256: "äöü".into(),
            ..summary()
        };
        shown(&odd, Some(5));
        shown(
            &Summary {
                model_sha256: String::new(),
                ..summary()
            },
            Some(5),
        );
    }

    #[test]
    fn t23_the_summary_has_exactly_the_documented_fields() {
        let mut summary = summary();
        summary.metrics.validation = Metrics::default();
        assert_eq!(
            serde_json::to_value(&summary).unwrap(),
            json!({
                "job": "breast-cancer", "steps": 300, "epochs": 20, "stoppedEarly": false, "modelEpoch": 19,
                "positive": "M",
                "metrics": {
                    "train": {"loss": 0.012_344, "accuracy": 0.9978, "auc": 0.9999},
                    "validation": {},
                },
                "modelSha256": "0123456789abcdef".repeat(4),
                "artifact": "runs/breast-cancer/artifact",
                "checkpoint": "runs/breast-cancer/checkpoints",
                "elapsedSeconds": 65.2,
            })
        );
    }
}
