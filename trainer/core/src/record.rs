//! What the job has learned so far: losses, validation metrics, the best epoch.
//!
//! A [`Record`] travels in every checkpoint, so that a resumed job reports and decides as if it
//! had never stopped.

use serde::{Deserialize, Serialize};

use crate::metrics::{Metric, Metrics};
use crate::round::Tally;
use crate::sampling::Plan;

/// Epochs kept in [`Record::history`]; older ones are dropped, so a manifest stays small.
pub const HISTORY_LIMIT: usize = 512;

/// When to stop before the last epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct EarlyStopping {
    /// The validation metric to watch.
    pub metric: Metric,
    /// Epochs without improvement before the job stops.
    pub patience: u64,
    /// Smallest change that counts as an improvement.
    pub min_delta: f64,
    /// Whether the best epoch's parameters are the result.
    pub restore_best: bool,
    /// Whether an epoch whose metric is undefined counts as one without improvement.
    pub counts_undefined: bool,
}

/// One finished epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EpochRecord {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Version at its end.
    pub step: u64,
    /// Mean loss over the epoch's samples, each at the parameters it was used with.
    pub train_loss: f64,
    /// Metrics on the validation rows at the epoch's last parameters.
    pub validation: Option<Metrics>,
}

/// The epoch with the best validation metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Best {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Version at its end.
    pub step: u64,
    /// The metric's value.
    pub value: f64,
    /// All metrics of that epoch.
    pub metrics: Metrics,
}

/// Accumulated facts about training up to a version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Steps folded in: the version this record describes.
    pub step: u64,
    /// Samples used.
    pub samples: u64,
    /// Sum of losses of the epoch in progress.
    pub epoch_loss: f64,
    /// Samples of the epoch in progress.
    pub epoch_samples: u64,
    /// Finished epochs, oldest first, at most [`HISTORY_LIMIT`].
    pub history: Vec<EpochRecord>,
    /// The best epoch so far, when early stopping is on.
    pub best: Option<Best>,
    /// Epochs since the best one.
    pub stale_epochs: u64,
    /// Whether early stopping has ended the job before its last epoch.
    pub stopped_early: bool,
}

impl Record {
    /// Adds the reduced tally of step `self.step`.
    pub fn fold(&mut self, plan: &Plan, tally: Tally) {
        let epoch = plan.position(self.step).epoch;
        self.step += 1;
        self.samples += tally.rows;
        self.epoch_samples += tally.rows;
        self.epoch_loss += tally.loss;
        if self.step.is_multiple_of(plan.steps_per_epoch()) {
            if self.history.len() == HISTORY_LIMIT {
                self.history.remove(0);
            }
            self.history.push(EpochRecord {
                epoch,
                step: self.step,
                train_loss: self.epoch_loss / self.epoch_samples.max(1) as f64,
                validation: None,
            });
            self.epoch_loss = 0.0;
            self.epoch_samples = 0;
        }
    }

    /// All that it counts: steps, samples and epochs.
    pub(crate) fn counts(&self) -> impl Iterator<Item = u64> {
        let own = [
            self.step,
            self.samples,
            self.epoch_samples,
            self.stale_epochs,
        ];
        let epochs = self.history.iter().flat_map(|e| [e.epoch, e.step]);
        let best = self.best.iter().flat_map(|best| [best.epoch, best.step]);
        own.into_iter().chain(epochs).chain(best)
    }

    /// Whether the epoch that ended at this version still waits for its validation pass.
    pub fn awaits_validation(&self) -> bool {
        self.history
            .last()
            .is_some_and(|last| last.step == self.step && last.validation.is_none())
    }

    /// Stores the validation metrics of the epoch that just ended and applies early stopping. `last`
    /// says that none follows: there is nothing left to stop.
    pub fn validated(&mut self, metrics: Metrics, early: Option<&EarlyStopping>, last: bool) {
        let Some(ended) = self.history.last_mut() else {
            return;
        };
        let (epoch, step) = (ended.epoch, ended.step);
        ended.validation = Some(metrics.clone());
        let Some(early) = early else { return };
        let value = metrics.get(early.metric);
        let improved = match (value, &self.best) {
            (Some(new), Some(best)) => early.metric.better(new, best.value, early.min_delta),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if let (true, Some(value)) = (improved, value) {
            self.best = Some(Best {
                epoch,
                step,
                value,
                metrics,
            });
            self.stale_epochs = 0;
        } else if value.is_some() || early.counts_undefined {
            self.stale_epochs += 1;
            self.stopped_early = self.stale_epochs >= early.patience && !last;
        }
    }

    /// The finished epochs from number `from` on, of those that are kept. If `validated`, an epoch is
    /// finished when its validation pass is.
    pub fn finished(&self, from: u64, validated: bool) -> &[EpochRecord] {
        let pending = validated
            && self
                .history
                .last()
                .is_some_and(|last| last.validation.is_none());
        let end = self.history.len() - usize::from(pending);
        let start = self.history.partition_point(|record| record.epoch < from);
        self.history.get(start..end).unwrap_or_default()
    }

    /// Mean training loss of the epoch in progress, or of the last finished one.
    pub fn loss(&self) -> Option<f64> {
        if self.epoch_samples > 0 {
            return Some(self.epoch_loss / self.epoch_samples as f64);
        }
        self.history.last().map(|last| last.train_loss)
    }

    /// Mean training loss of what ended at `step`: of the epoch, if one ended there, and of the epoch in
    /// progress if the record itself ends there.
    pub fn loss_at(&self, step: u64) -> Option<f64> {
        let ended = self.history.iter().rev().find(|epoch| epoch.step == step);
        let now = || self.loss().filter(|_| self.step == step);
        ended.map(|epoch| epoch.train_loss).or_else(now)
    }

    /// Metrics of the latest validation pass.
    pub fn validation(&self) -> Option<&Metrics> {
        self.history
            .iter()
            .rev()
            .find_map(|epoch| epoch.validation.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t25_an_undefined_metric_ends_a_job_only_where_it_counts() {
        let ended = |counts_undefined: bool| {
            let early = EarlyStopping {
                metric: Metric::Auc,
                patience: 2,
                min_delta: 0.0,
                restore_best: true,
                counts_undefined,
            };
            let mut record = Record::default();
            let mut stopped = Vec::new();
            for (epoch, auc) in [Some(0.5), None, None, None, Some(0.4), None, Some(0.3)]
                .into_iter()
                .enumerate()
            {
                record.history.push(EpochRecord {
                    epoch: epoch as u64 + 1,
                    step: epoch as u64 + 1,
                    train_loss: 1.0,
                    validation: None,
                });
                let metrics = Metrics {
                    auc,
                    ..Metrics::default()
                };
                record.validated(metrics, Some(&early), false);
                stopped.push(record.stopped_early);
            }
            let first = stopped.iter().position(|stopped| *stopped);
            (first, record.best.map(|best| best.epoch))
        };
        assert_eq!(ended(true).0, Some(2), "the second epoch without a value");
        assert_eq!(
            ended(false),
            (Some(6), Some(1)),
            "the second epoch that is worse"
        );
    }

    #[test]
    fn t25_a_loss_is_that_of_the_epoch_that_ended_at_a_step() {
        let ended = |epoch: u64, train_loss: f64| EpochRecord {
            epoch,
            step: epoch * 10,
            train_loss,
            validation: None,
        };
        let record = Record {
            step: 25,
            epoch_loss: 4.0,
            epoch_samples: 8,
            history: vec![ended(1, 3.0), ended(2, 2.0)],
            ..Record::default()
        };
        let losses = [10, 20, 25, 15].map(|step| record.loss_at(step));
        assert_eq!(losses, [Some(3.0), Some(2.0), Some(0.5), None]);
    }
}
