//! The epochs that were finished, in a table that grows.

use trainyard_core::metrics::Metric;

use super::event::Epoch;
use super::format::{metric, thousands};
use super::text::{Line, Tone};

/// A longer job shows only every second, third, ... epoch, so that it leaves about this many lines.
const LINES: u64 = 25;
const COLUMN: usize = 11;
/// Metrics of validation that are shown; the summary has all.
const MOST: usize = 4;
/// Between what is of training and what is of validation.
const GAP: usize = 2;

/// The table of epochs, line by line: the training loss of each, and what validation said.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Metrics of validation; none before the first row.
    columns: Option<Vec<Metric>>,
    last: Option<u64>,
}

impl Table {
    /// The lines for an epoch: none, its row, or the header and its row.
    pub fn row(&mut self, epoch: &Epoch, width: Option<usize>) -> Vec<Line> {
        let (done, epochs) = (epoch.epoch + 1, epoch.epochs);
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
        let label = format!("  epoch {number}");
        let mut lines = Vec::new();
        let columns = self.columns.get_or_insert_with(|| {
            let room = width
                .unwrap_or(usize::MAX)
                .saturating_sub(1 + label.len() + GAP);
            let metrics = epoch.validation.iter().flat_map(|metrics| metrics.iter());
            let columns: Vec<_> = metrics.map(|(metric, _)| metric).take(MOST).collect();
            let shown = columns.len().min((room / COLUMN).saturating_sub(1));
            let columns = columns[..shown].to_vec();
            lines = header(label.len(), &columns);
            columns
        });
        let mut row = Line::default()
            .with(Tone::Quiet, "  epoch ")
            .with(Tone::Plain, number);
        let validated = columns.iter().map(|column| {
            let value = epoch.validation.as_ref()?.get(*column)?;
            Some(metric(column.name(), value))
        });
        let trained = metric(Metric::Loss.name(), epoch.train_loss);
        row = row.with(Tone::Plain, format!("{trained:>COLUMN$}"));
        for (index, value) in validated.enumerate() {
            let (value, width) = (value.unwrap_or("-".into()), column(index));
            row = row.with(Tone::Plain, format!("{value:>width$}"));
        }
        lines.push(row);
        lines
    }
}

/// Width of a column of validation.
fn column(index: usize) -> usize {
    if index == 0 { COLUMN + GAP } else { COLUMN }
}

/// What the columns are measured on, and what they are.
fn header(label: usize, columns: &[Metric]) -> Vec<Line> {
    let mut sets = format!("{:label$}{:>COLUMN$}", "", "training");
    let mut names = format!("{:label$}{:>COLUMN$}", "", Metric::Loss.name());
    for (index, name) in columns.iter().enumerate() {
        let width = column(index);
        if index == 0 {
            sets += &format!("{:>width$}", "validation");
        }
        names += &format!("{:>width$}", name.name());
    }
    [sets, names]
        .map(|text| Line::default().with(Tone::Quiet, text))
        .into()
}

#[cfg(test)]
mod tests {
    use trainyard_core::metrics::Metrics;

    use super::*;

    fn epoch(done: u64, epochs: u64) -> Epoch {
        let validation = Metrics {
            loss: Some(0.121_31),
            accuracy: Some(0.956_14),
            ..Metrics::default()
        };
        Epoch {
            epoch: done - 1,
            epochs,
            train_loss: 0.25,
            validation: Some(validation),
            ..Epoch::default()
        }
    }

    fn rows(epochs: u64, width: Option<usize>, done: &[u64]) -> Vec<String> {
        let mut table = Table::default();
        done.iter()
            .flat_map(|&done| table.row(&epoch(done, epochs), width))
            .map(|line| line.paint(false))
            .collect()
    }

    #[test]
    fn the_header_comes_once() {
        assert_eq!(
            rows(20, Some(80), &[9, 10]),
            [
                "                training   validation",
                "                    loss         loss   accuracy",
                "  epoch  9/20     0.2500       0.1213     0.9561",
                "  epoch 10/20     0.2500       0.1213     0.9561",
            ]
        );
    }

    #[test]
    fn t23_without_validation_the_training_loss_is_shown() {
        let epoch = Epoch {
            validation: None,
            ..epoch(9, 20)
        };
        let lines = Table::default().row(&epoch, Some(80));
        let lines: Vec<String> = lines.iter().map(|line| line.paint(false)).collect();
        assert_eq!(
            lines,
            [
                "                training",
                "                    loss",
                "  epoch  9/20     0.2500",
            ]
        );
    }

    #[test]
    fn columns_that_do_not_fit_are_left_out() {
        assert_eq!(
            rows(20, Some(42), &[9])[2],
            "  epoch  9/20     0.2500       0.1213"
        );
        assert_eq!(rows(20, Some(0), &[9])[2], "  epoch  9/20     0.2500");
    }

    #[test]
    fn a_long_job_shows_about_25_epochs_and_the_last() {
        let all: Vec<u64> = (1..=1003).collect();
        let shown = rows(1003, None, &all);
        assert!((25..=30).contains(&shown.len()), "{}", shown.len());
        assert!(shown.last().is_some_and(|row| row.contains("1,003/1,003")));
        assert_eq!(rows(20, None, &(1..=20).collect::<Vec<_>>()).len(), 22);
    }

    #[test]
    fn a_metric_that_is_undefined_for_once_leaves_a_dash() {
        let mut table = Table::default();
        table.row(&epoch(1, 20), None);
        let mut undefined = epoch(2, 20);
        if let Some(metrics) = &mut undefined.validation {
            metrics.accuracy = None;
        }
        assert_eq!(
            table.row(&undefined, None)[0].paint(false),
            "  epoch  2/20     0.2500       0.1213          -"
        );
    }
}
