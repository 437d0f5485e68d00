//! The course of a job: steps, validation at the ends of epochs, the result.

use std::sync::Arc;

use super::evaluation::{Evaluation, Unfit};
use super::{Action, Commit, Coordinator, PeerId, Phase};
use crate::control::{Block, FromCoordinator, RowSet};
use crate::manifest::{FinalMetrics, Reports};
use crate::metrics::{self, BlockResult, ClassificationReport, Loss, Metrics, Objective};
use crate::round::Tally;

impl Coordinator {
    pub(super) fn begin_when_ready(&mut self) {
        if self.plan.is_some() && self.peers.all_servers_ready() {
            self.phase = Phase::Training;
            self.train();
        }
    }

    /// Counts a step.
    pub(super) fn reduced(&mut self, step: u64, tally: Tally) {
        let (Some(plan), true) = (&self.plan, step == self.record.step) else {
            return;
        };
        if !tally.loss.is_finite() {
            // Each leaf's is: whoever adds them up gets the same.
            let value = tally.loss.to_string();
            return self.fail(self.not_finite_message(step, "sum over the batch", &value));
        }
        self.record.fold(plan, tally);
        let version = self.record.step;
        if self.checkpoint_due(version) {
            let record = self.record.clone();
            self.pending.entry(version).or_default().record = Some(record);
        }
    }

    /// How the job fails where a loss is no number.
    pub(super) fn not_finite_message(&self, step: u64, place: &str, value: &str) -> String {
        let kept = match &self.committed {
            Some(manifest) => format!("the checkpoint of step {} is kept", manifest.step),
            None => "no checkpoint was saved".into(),
        };
        format!(
            "the loss is {value} at step {step}, {place}: check the data or lower the learning rate, and begin anew \
             (no job is resumed with other settings; {kept})"
        )
    }

    pub(super) fn validates(&self) -> bool {
        self.facts
            .as_ref()
            .is_some_and(|facts| facts.validation_rows > 0)
    }

    pub(super) fn train(&mut self) {
        let Some(plan) = &self.plan else { return };
        let (total, epoch_steps) = (plan.total_steps(), plan.steps_per_epoch());
        let version = self.version();
        let boundary = version.is_multiple_of(epoch_steps) && version == self.record.step;
        if version > 0 && boundary && self.validates() && self.record.awaits_validation() {
            self.phase = Phase::Validating(self.evaluation(version, &[RowSet::Validation]));
        } else if version >= total || self.record.stopped_early {
            self.begin_final(version);
        } else {
            let next_boundary = (version / epoch_steps + 1) * epoch_steps;
            self.limit = if self.validates() {
                next_boundary
            } else {
                total
            };
        }
    }

    fn evaluation(&mut self, version: u64, sets: &[RowSet]) -> Evaluation {
        self.ids += 1;
        let facts = self.facts.as_ref();
        let rows = sets
            .iter()
            .map(|&set| (set, facts.map_or(0, |facts| facts.rows(set))));
        Evaluation::new(self.ids, version, rows)
    }

    /// What the outputs mean, and how they are judged. The losses of blocks are summed already.
    fn objective(&self) -> Option<Objective> {
        let facts = self.facts.as_ref()?;
        let kind = self.config.task.kind(facts.outputs);
        Some(Objective::new(Loss::of(kind), &facts.schema))
    }

    /// Takes results of the evaluation in progress. A peer whose results cannot be true is sent
    /// away: others compute its blocks.
    pub(super) fn evaluated(&mut self, peer: PeerId, id: u64, results: Vec<(Block, BlockResult)>) {
        let outputs = self.facts.as_ref().map_or(1, |facts| facts.outputs);
        let task = self.config.task.kind(outputs);
        let (Phase::Validating(pass) | Phase::Final(pass)) = &mut self.phase else {
            return;
        };
        if pass.id != id {
            return;
        }
        let step = pass.version;
        for (block, result) in results {
            let Err(unfit) = pass.accept(peer, task, block, result) else {
                continue;
            };
            let Block(set, number) = block;
            let place = format!("{} block {number}", set.name());
            return match unfit {
                Unfit::NotFinite(value) => {
                    self.claims_not_finite(peer, step, &place, &value.to_string())
                }
                Unfit::Inconsistent => {
                    let reason = format!("the result of {place} is inconsistent");
                    self.refuse(peer, reason, true)
                }
            };
        }
    }

    /// The metrics of a set, if the pass is finished.
    fn summarize(&self, pass: &Evaluation, set: RowSet) -> Option<Metrics> {
        let objective = self.objective().filter(|_| pass.is_complete())?;
        Some(metrics::summarize(objective, &pass.results(set)))
    }

    /// The metrics of a set of a finished pass, and the report on it, if there is one.
    fn summarize_with_report(
        &self,
        pass: &Evaluation,
        set: RowSet,
    ) -> (Metrics, Option<ClassificationReport>) {
        let (Some(facts), Some(objective)) = (&self.facts, self.objective()) else {
            return (Metrics::default(), None);
        };
        // A threshold that is chosen on the test rows would be tested on them too.
        let suggest = set == RowSet::Validation;
        let names = &facts.schema.label.classes;
        metrics::summarize_with_report(&objective, names, &pass.results(set), suggest)
    }

    pub(super) fn finish_validation(&mut self) {
        let Phase::Validating(pass) = &self.phase else {
            return;
        };
        let version = pass.version;
        let Some(metrics) = self.summarize(pass, RowSet::Validation) else {
            return;
        };
        let early = self.config.early_stopping.as_ref();
        let undefined = early.filter(|early| metrics.get(early.metric).is_none());
        let undefined = undefined.map(|early| (early.metric.name(), early.counts_undefined));
        let last = self
            .plan
            .as_ref()
            .is_some_and(|plan| version >= plan.total_steps());
        self.record.validated(metrics, early, last);
        if let Some((metric, counts)) = undefined {
            let consequence = match counts {
                true => "counts as no improvement",
                false => "neither stops the job nor is the best",
            };
            self.warn(format!(
                "earlyStopping.metric {metric} is undefined on the validation rows (auc takes rows of both classes, \
                 r2 rows of different labels); an epoch without it {consequence}"
            ));
        }
        self.save_validated(version);
        self.phase = Phase::Training;
        self.commit_whole();
        self.train();
    }

    /// Everything is trained: publish the best parameters if they are not the last.
    fn begin_final(&mut self, version: u64) {
        if !self.is_committed(version) {
            return; // its commit is on the way
        }
        let result = self.result_step();
        if result == version {
            return self.evaluate_final(version);
        }
        match self.best_manifest.clone() {
            Some(manifest) if manifest.step == result => {
                self.phase = Phase::Restoring;
                self.send_servers(FromCoordinator::Restore { version: version + 1, manifest });
            }
            _ => self.fail(format!(
                "the checkpoint of the best epoch (step {result}) is gone from the storage: restore it, \
                 or train again with earlyStopping.restoreBest: false"
            )),
        }
    }

    /// The step whose parameters are the result.
    fn result_step(&self) -> u64 {
        let restore = self
            .config
            .early_stopping
            .as_ref()
            .is_some_and(|early| early.restore_best);
        match &self.record.best {
            Some(best) if restore => best.step,
            _ => self.record.step,
        }
    }

    pub(super) fn finish_restore(&mut self) {
        let restored = self.record.step + 1;
        if self.peers.version() >= restored {
            self.evaluate_final(restored);
        }
    }

    fn evaluate_final(&mut self, version: u64) {
        let sets = [RowSet::Train, RowSet::Validation, RowSet::Test];
        let pass = self.evaluation(version, &sets);
        self.phase = Phase::Final(match self.objective() {
            Some(objective) => pass.for_reports(objective.kind),
            None => pass,
        });
    }

    pub(super) fn finish_final(&mut self) {
        let Phase::Final(pass) = &self.phase else {
            return;
        };
        let Some(train) = self.summarize(pass, RowSet::Train) else {
            return;
        };
        let (validation, of_validation) = self.summarize_with_report(pass, RowSet::Validation);
        let (test, of_test) = self.summarize_with_report(pass, RowSet::Test);
        let metrics = FinalMetrics {
            train,
            validation,
            test,
            reports: Reports {
                validation: of_validation,
                test: of_test,
            },
        };
        let result = self.result_step();
        let source = match (&self.best_manifest, &self.committed) {
            (Some(best), _) if best.step == result => Arc::clone(best),
            (_, Some(committed)) => Arc::clone(committed),
            _ => return,
        };
        self.phase = Phase::Completing;
        let complete = Commit::Complete {
            source,
            record: self.record.clone(),
            metrics: Box::new(metrics),
        };
        self.actions.push(Action::Commit(Box::new(complete)));
    }

    pub(super) fn distribute(&mut self) {
        let workers = self.peers.members();
        let (Phase::Validating(pass) | Phase::Final(pass)) = &mut self.phase else {
            return;
        };
        let work = pass.distribute(&workers).into_iter();
        let orders: Vec<_> = work
            .map(|(peer, blocks)| (peer, pass.order(blocks)))
            .collect();
        for (peer, order) in orders {
            self.send(peer, FromCoordinator::Evaluate(order));
        }
    }
}
