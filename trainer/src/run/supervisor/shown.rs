//! What the user is shown of the training.

use std::time::Instant;

use trainyard_core::control::Progress;
use trainyard_core::record::EpochRecord;

use super::Supervisor;
use crate::run::earlier;
use crate::ui::{Epoch, Note};

impl Supervisor<'_> {
    pub(super) fn progressed(&mut self, at: Instant, mut progress: Progress) {
        self.heard = true;
        self.heard_at = at;
        self.silence.ends();
        self.furthest = self.furthest.max(progress.step);
        for message in std::mem::take(&mut progress.warnings) {
            if self.warned.insert(message.clone()) {
                self.ui.note(&Note::Warning { message });
            }
        }
        if progress.checkpoint > self.begun_from && self.progress.checkpoint <= self.begun_from {
            // The new run has trained. Were this to fail, the end of the run tries again.
            let _ = earlier::delete(&self.folder.path);
        }
        self.progress = progress;
        self.ui.progress(self.begin.elapsed(), &self.progress);
    }

    /// Shows epochs that were not shown before: those of a generation that went back to a checkpoint
    /// come again.
    pub(super) fn finished_epochs(&mut self, finished: &[EpochRecord]) {
        let epochs = self.job.manifest.spec.training.epochs.into();
        for record in finished
            .iter()
            .filter(|record| record.epoch >= self.next_epoch)
        {
            let steps = record.step / (record.epoch + 1);
            let rate = self.job.learning_rate(steps * epochs);
            self.ui.epoch(&Epoch {
                epoch: record.epoch,
                epochs,
                step: record.step,
                train_loss: record.train_loss,
                learning_rate: rate.at(record.step.saturating_sub(1)),
                validation: record.validation.clone(),
            });
        }
        let last = finished.last().map_or(0, |last| last.epoch + 1);
        self.next_epoch = self.next_epoch.max(last);
    }
}
