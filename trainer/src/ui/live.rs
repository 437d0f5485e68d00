//! The two lines that move while a job runs.

use std::time::Duration;

use trainyard_core::control::Progress;

use super::format::{count, duration, rate, significant, thousands};
use super::text::{Line, Tone, flow};

const MARGIN: usize = 2;
/// A longer bar says no more.
const LONGEST_BAR: usize = 60;
/// A shorter one says nothing.
const SHORTEST_BAR: usize = 6;

/// What the moving lines show.
#[derive(Copy, Clone, Debug)]
pub struct Live<'a> {
    /// Where the job is.
    pub progress: &'a Progress,
    /// Workers the job was started with.
    pub workers: u32,
    /// Smoothed pace.
    pub samples_per_second: Option<f64>,
    /// Time left.
    pub eta: Option<Duration>,
}

/// The moving lines, none wider than `width - 1` (the last column would wrap on some terminals).
pub fn lines(live: &Live, width: usize) -> Vec<Line> {
    let width = width.saturating_sub(1);
    let mut lines = Vec::new();
    if live.progress.total_steps > 0 {
        lines.push(bar_line(live, width));
    }
    lines.extend(flow(facts(live), Some(width), MARGIN).into_iter().next());
    lines.into_iter().map(|line| line.clip(width)).collect()
}

fn bar_line(live: &Live, width: usize) -> Line {
    let Progress {
        step, total_steps, ..
    } = *live.progress;
    let percent = u128::from(step) * 100 / u128::from(total_steps.max(1));
    let mut figures = Line::default()
        .with(Tone::Strong, format!("{percent:>3}%"))
        .with(
            Tone::Plain,
            format!("  {}/{}", thousands(step), thousands(total_steps)),
        );
    if let Some(eta) = live.eta.filter(|_| step < total_steps) {
        figures = figures
            .with(Tone::Quiet, "  ETA ")
            .with(Tone::Plain, duration(eta));
    }
    let margin = Line::default().with(Tone::Plain, " ".repeat(MARGIN));
    let room = width
        .saturating_sub(MARGIN + 1 + figures.width())
        .min(LONGEST_BAR);
    let mut line = if room >= SHORTEST_BAR {
        let (done, rest) = bar(step, total_steps, room);
        margin
            .with(Tone::Accent, done)
            .with(Tone::Quiet, rest)
            .with(Tone::Plain, " ")
    } else {
        margin
    };
    line.0.extend(figures.0);
    line
}

/// A bar's two parts, `width` columns together. It is full only when all steps are done.
pub fn bar(step: u64, total: u64, width: usize) -> (String, String) {
    let halves =
        (u128::from(step.min(total)) * 2 * width as u128 / u128::from(total.max(1))) as usize;
    let (whole, half) = (halves / 2, halves % 2);
    let done = "━".repeat(whole) + if half == 1 { "╸" } else { "" };
    (done, "─".repeat(width - whole - half))
}

/// The second line in pieces, the most important first: those that do not fit are left out.
fn facts(live: &Live) -> Vec<Line> {
    let Progress {
        epoch,
        epochs,
        loss,
        workers,
        step,
        total_steps,
        ..
    } = *live.progress;
    let mut pieces = Vec::new();
    if let Some(activity) = activity(&live.progress.phase) {
        pieces.push(Line::default().with(Tone::Warning, activity));
    }
    if total_steps == 0 {
        return pieces;
    }
    let labelled = |label: &str, value: String| {
        Line::default()
            .with(Tone::Quiet, format!("{label} "))
            .with(Tone::Plain, value)
    };
    // At the very end the epoch in progress would be one past the last.
    let current = if step >= total_steps {
        epochs
    } else {
        (epoch + 1).min(epochs)
    };
    pieces.push(labelled(
        "epoch",
        format!("{}/{}", thousands(current), thousands(epochs)),
    ));
    pieces.extend(loss.map(|loss| labelled("loss", significant(loss))));
    if workers < live.workers && workers > 0 {
        let short = format!(
            "{workers} of {}",
            count(live.workers.into(), "worker", "workers")
        );
        pieces.push(Line::default().with(Tone::Warning, short));
    }
    pieces.extend(live.samples_per_second.map(|samples| {
        Line::default()
            .with(Tone::Plain, rate(samples))
            .with(Tone::Quiet, " samples/s")
    }));
    pieces
}

/// What the coordinator does when it is not simply training, in words.
fn activity(phase: &str) -> Option<&str> {
    Some(match phase {
        "Training" | "Finished" | "Stopped" | "Failed" => return None,
        "" => "starting",
        "WaitingForWorkers" => "waiting for workers",
        "WaitingForServers" => "waiting for servers",
        "Validating" => "validating",
        "RestoringBest" => "restoring the best epoch",
        "Evaluating" => "evaluating",
        "Completing" => "writing the result",
        "Stopping" | "Replaced" => "stopping",
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn training() -> Progress {
        Progress {
            phase: "Training".into(),
            step: 120,
            total_steps: 300,
            epoch: 8,
            epochs: 20,
            loss: Some(0.081_274),
            workers: 2,
            ..Progress::default()
        }
    }

    fn shown(progress: &Progress, width: usize) -> Vec<String> {
        let eta = Some(Duration::from_secs(65));
        let live = Live {
            progress,
            workers: 2,
            samples_per_second: Some(12_345.4),
            eta,
        };
        lines(&live, width)
            .iter()
            .map(|line| line.paint(false))
            .collect()
    }

    #[test]
    fn the_bar_fills_in_half_columns() {
        let text = |step, total, width| {
            let (done, rest) = bar(step, total, width);
            done + &rest
        };
        assert_eq!(text(0, 10, 5), "─────");
        assert_eq!(text(1, 10, 5), "╸────");
        assert_eq!(text(5, 10, 5), "━━╸──");
        assert_eq!(text(9, 10, 5), "━━━━╸");
        assert_eq!(text(10, 10, 5), "━━━━━");
        assert_eq!(text(999_999, 1_000_000, 5), "━━━━╸");
        assert_eq!(text(11, 10, 5), "━━━━━");
        assert_eq!(text(u64::MAX, u64::MAX, 3), "━━━");
        assert_eq!(text(0, 0, 3), "───");
    }

    #[test]
    fn a_wide_terminal_shows_everything() {
        let (done, rest) = bar(120, 300, 51);
        assert_eq!(
            shown(&training(), 80),
            [
                format!("  {done}{rest}  40%  120/300  ETA 1m 05s"),
                "  epoch 9/20 · loss 0.08127 · 12,345 samples/s".into(),
            ]
        );
        assert_eq!(shown(&training(), 80)[0].chars().count(), 79);
    }

    #[test]
    fn nothing_is_ever_wider_than_the_terminal() {
        let far = Progress {
            step: u64::MAX / 2,
            total_steps: u64::MAX,
            epochs: u64::MAX,
            ..training()
        };
        let lost = Progress {
            workers: 1,
            phase: "RestoringBest".into(),
            ..training()
        };
        for progress in [training(), far, lost, Progress::default()] {
            for width in 0..200 {
                let lines = shown(&progress, width);
                assert!(lines.len() <= 2);
                assert!(
                    lines.iter().all(|line| line.chars().count() < width.max(1)),
                    "{width}: {lines:?}"
                );
            }
        }
    }

    #[test]
    fn a_narrow_terminal_keeps_the_figures() {
        let lines = shown(&training(), 34);
        assert_eq!(
            lines,
            ["   40%  120/300  ETA 1m 05s", "  epoch 9/20 · loss 0.08127"]
        );
        assert!(shown(&training(), 50)[0].contains('━'));
    }

    #[test]
    fn before_the_data_is_known_only_the_activity_shows() {
        let waiting = Progress {
            phase: "WaitingForWorkers".into(),
            ..Progress::default()
        };
        assert_eq!(shown(&waiting, 80), ["  waiting for workers"]);
        assert_eq!(shown(&Progress::default(), 80), ["  starting"]);
    }

    #[test]
    fn the_end_is_a_hundred_percent_of_the_last_epoch() {
        let done = Progress {
            phase: "Evaluating".into(),
            step: 300,
            epoch: 20,
            ..training()
        };
        let lines = shown(&done, 80);
        assert!(
            lines[0].contains("100%  300/300")
                && !lines[0].contains("ETA")
                && !lines[0].contains('─')
        );
        assert_eq!(
            lines[1],
            "  evaluating · epoch 20/20 · loss 0.08127 · 12,345 samples/s"
        );
        let almost = Progress {
            step: 299,
            ..training()
        };
        assert!(shown(&almost, 80)[0].contains(" 99%"));
    }

    #[test]
    fn a_missing_worker_is_pointed_out() {
        let lost = Progress {
            workers: 1,
            ..training()
        };
        assert_eq!(
            shown(&lost, 80)[1],
            "  epoch 9/20 · loss 0.08127 · 1 of 2 workers · 12,345 samples/s"
        );
    }
}
