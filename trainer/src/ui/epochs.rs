//! The epochs that were validated, as they come.

use trainyard_core::control::Progress;
use trainyard_core::metrics::{Metric, Metrics};

use super::format::{metric, thousands};
use super::text::{Line, Tone};

/// A longer job shows only every second, third, ... epoch, so that it leaves about this many lines.
const LINES: u64 = 25;
const COLUMN: usize = 11;

/// An epoch and what validation said.
#[derive(Clone, Debug, PartialEq)]
pub struct Validated {
    /// Epoch, from 0.
    pub epoch: u64,
    /// The step at its end.
    pub step: u64,
    /// Metrics on the validation rows.
    pub metrics: Metrics,
}

/// Finds the validated epochs in a stream of progress.
#[derive(Clone, Debug, Default)]
pub struct Epochs {
    latest: Option<Validated>,
}

impl Epochs {
    /// The epoch that was validated since the last call, if its number is beyond doubt; otherwise a
    /// later call tells it.
    ///
    /// Progress has the metrics of the latest pass without its epoch. Around an epoch's end they
    /// may be that epoch's or those of the one before.
    pub fn observe(&mut self, progress: &Progress) -> Option<Validated> {
        let metrics = progress.validation.as_ref()?;
        let steps = progress
            .total_steps
            .checked_div(progress.epochs)
            .filter(|&steps| steps > 0)?;
        let finished = match progress.phase.as_str() {
            "Validating" => progress.epoch.checked_sub(1)?, // this one's metrics are being computed
            "Training" if !progress.step.is_multiple_of(steps) => progress.epoch,
            "RestoringBest" | "Evaluating" | "Completing" | "Finished" => progress.epoch,
            _ => return None,
        };
        let epoch = finished.checked_sub(1)?;
        // After going back to a checkpoint the same epochs come again, with the same metrics.
        if self
            .latest
            .as_ref()
            .is_some_and(|latest| epoch <= latest.epoch)
        {
            return None;
        }
        let validated = Validated {
            epoch,
            step: finished * steps,
            metrics: metrics.clone(),
        };
        self.latest = Some(validated.clone());
        Some(validated)
    }
}

/// The table of epochs, line by line.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: Vec<Metric>,
    last: Option<u64>,
}

impl Table {
    /// The lines for an epoch: none, its row, or the header and its row.
    pub fn row(&mut self, validated: &Validated, epochs: u64, width: Option<usize>) -> Vec<Line> {
        let done = validated.epoch + 1;
        let stride = epochs.div_ceil(LINES).max(1);
        if self.last.is_some_and(|last| last / stride == done / stride) && done < epochs {
            return Vec::new();
        }
        self.last = Some(done);
        let number = format!(
            "{:>2$}/{}",
            thousands(done),
            thousands(epochs),
            thousands(epochs).len()
        );
        let first = (number.chars().count() + "epoch ".len()).max("validation".len());
        let mut lines = Vec::new();
        if self.columns.is_empty() {
            let room = width.unwrap_or(usize::MAX).saturating_sub(1 + 2 + first);
            self.columns = validated
                .metrics
                .iter()
                .map(|(column, _)| column)
                .take(room / COLUMN)
                .collect();
            let columns: String = self
                .columns
                .iter()
                .map(|column| format!("{:>COLUMN$}", column.name()))
                .collect();
            lines.push(
                Line::default().with(Tone::Quiet, format!("  {:<first$}{columns}", "validation")),
            );
        }
        let label = first - number.chars().count();
        let mut row = Line::default()
            .with(Tone::Quiet, format!("  {:<label$}", "epoch"))
            .with(Tone::Plain, number);
        for column in &self.columns {
            let value = validated
                .metrics
                .get(*column)
                .map_or("-".into(), |value| metric(column.name(), value));
            row = row.with(Tone::Plain, format!("{value:>COLUMN$}"));
        }
        lines.push(row);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(loss: f64) -> Metrics {
        Metrics {
            loss: Some(loss),
            accuracy: Some(0.956_14),
            ..Metrics::default()
        }
    }

    fn progress(phase: &str, step: u64, loss: f64) -> Progress {
        Progress {
            phase: phase.into(),
            step,
            total_steps: 300,
            epoch: step / 15,
            epochs: 20,
            validation: Some(metrics(loss)),
            ..Progress::default()
        }
    }

    fn seen(epochs: &mut Epochs, phase: &str, step: u64, loss: f64) -> Option<(u64, u64, f64)> {
        let validated = epochs.observe(&progress(phase, step, loss))?;
        Some((validated.epoch, validated.step, validated.metrics.loss?))
    }

    #[test]
    fn t23_each_epoch_is_told_once_and_with_its_own_metrics() {
        let mut epochs = Epochs::default();
        let none = Progress {
            validation: None,
            ..progress("Validating", 15, 0.0)
        };
        assert_eq!(epochs.observe(&none), None);
        assert_eq!(seen(&mut epochs, "Training", 15, 0.5), None); // told by the next step
        assert_eq!(seen(&mut epochs, "Training", 16, 0.5), Some((0, 15, 0.5)));
        assert_eq!(seen(&mut epochs, "Training", 17, 0.5), None);
        // Step 30 is applied, but the metrics are still the first epoch's.
        assert_eq!(seen(&mut epochs, "Training", 30, 0.5), None);
        assert_eq!(seen(&mut epochs, "Validating", 30, 0.5), None);
        // The second epoch was missed between two observations; the third is being validated.
        assert_eq!(seen(&mut epochs, "Validating", 45, 0.4), Some((1, 30, 0.4)));
        assert_eq!(seen(&mut epochs, "Training", 46, 0.3), Some((2, 45, 0.3)));
        // Back to a checkpoint, and over the same ground.
        assert_eq!(seen(&mut epochs, "Training", 20, 0.5), None);
        assert_eq!(seen(&mut epochs, "Training", 46, 0.3), None);
        assert_eq!(seen(&mut epochs, "Stopping", 60, 0.3), None);
        assert_eq!(
            seen(&mut epochs, "Evaluating", 300, 0.1),
            Some((19, 300, 0.1))
        );
        assert_eq!(seen(&mut epochs, "Completing", 300, 0.1), None);
    }

    #[test]
    fn epochs_of_one_step_are_told_while_the_next_is_validated() {
        let mut epochs = Epochs::default();
        let at = |phase: &str, step| Progress {
            total_steps: 20,
            epoch: step,
            ..progress(phase, step, 1.0 / step as f64)
        };
        assert_eq!(epochs.observe(&at("Training", 3)), None);
        assert_eq!(
            epochs
                .observe(&at("Validating", 4))
                .map(|validated| validated.epoch),
            Some(2)
        );
    }

    #[test]
    fn unknown_totals_are_harmless() {
        let mut epochs = Epochs::default();
        let odd = |total_steps, epochs| Progress {
            total_steps,
            epochs,
            ..progress("Training", 7, 0.5)
        };
        for (total, count) in [(0, 0), (0, 20), (5, 0), (5, 20)] {
            assert_eq!(epochs.observe(&odd(total, count)), None);
        }
    }

    fn rows(epochs: u64, width: Option<usize>, done: &[u64]) -> Vec<String> {
        let mut table = Table::default();
        done.iter()
            .flat_map(|&done| {
                let validated = Validated {
                    epoch: done - 1,
                    step: 0,
                    metrics: metrics(0.121_31),
                };
                table.row(&validated, epochs, width)
            })
            .map(|line| line.paint(false))
            .collect()
    }

    #[test]
    fn the_header_comes_once() {
        assert_eq!(
            rows(20, Some(80), &[9, 10]),
            [
                "  validation        loss   accuracy",
                "  epoch  9/20     0.1213     0.9561",
                "  epoch 10/20     0.1213     0.9561",
            ]
        );
    }

    #[test]
    fn columns_that_do_not_fit_are_left_out() {
        assert_eq!(rows(20, Some(30), &[9])[1], "  epoch  9/20     0.1213");
        assert_eq!(rows(20, Some(0), &[9])[1], "  epoch  9/20");
    }

    #[test]
    fn a_long_job_shows_about_25_epochs_and_the_last() {
        let all: Vec<u64> = (1..=1003).collect();
        let shown = rows(1003, None, &all);
        assert!((25..=29).contains(&shown.len()), "{}", shown.len());
        assert!(shown.last().is_some_and(|row| row.contains("1,003/1,003")));
        assert_eq!(rows(20, None, &(1..=20).collect::<Vec<_>>()).len(), 21);
    }

    #[test]
    fn a_metric_that_is_undefined_for_once_leaves_a_dash() {
        let mut table = Table::default();
        let mut validated = Validated {
            epoch: 0,
            step: 15,
            metrics: metrics(0.5),
        };
        table.row(&validated, 20, None);
        validated = Validated {
            epoch: 1,
            metrics: Metrics {
                accuracy: None,
                ..metrics(0.5)
            },
            ..validated
        };
        assert_eq!(
            table.row(&validated, 20, None)[0].paint(false),
            "  epoch  2/20     0.5000          -"
        );
    }
}
