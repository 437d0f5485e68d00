//! What a manifest asks for and never comes to pass.

use anyhow::Result;
use trainyard_core::coordinator::HISTORY_LIMIT;
use trainyard_crds::training_job as api;

use super::Job;

impl Job {
    /// What the user should know of this job on so many training rows, a sentence each: settings
    /// that have no effect. `worker` is the index of who asks.
    ///
    /// # Errors
    /// If the numbers make no plan.
    pub fn warnings(&self, train_rows: u64, worker: u32) -> Result<Vec<String>> {
        let training = self.training();
        let steps = self.plan(train_rows)?.total_steps();
        let mut warnings = Vec::new();
        if worker >= self.tree.leaves() {
            warnings.push(format!(
                "training.microBatches is {0}, so at most {0} workers compute at a time: the others are spare",
                self.tree.leaves()
            ));
        }
        if u64::from(training.batch_size) > train_rows {
            warnings.push(format!(
                "training.batchSize is {}, but there are {} training rows: each step takes all of them",
                training.batch_size, train_rows
            ));
        }
        warnings.extend(self.schedule_warning(steps));
        let early = training.early_stopping.as_ref();
        if let Some(early) = early.filter(|early| early.patience >= training.epochs) {
            warnings.push(format!(
                "training.earlyStopping.patience is {}, and there are {} epochs: the job cannot stop early",
                early.patience, training.epochs
            ));
        }
        if training.epochs as usize > HISTORY_LIMIT {
            warnings.push(format!(
                "training.epochs is {}: metrics.json will have the last {HISTORY_LIMIT} epochs",
                training.epochs
            ));
        }
        Ok(warnings)
    }

    /// What of the schedule a job of so many steps does not reach.
    fn schedule_warning(&self, steps: u64) -> Option<String> {
        let training = self.training();
        let (_, warmup) = super::schedule(&training.schedule);
        if warmup > 0 && warmup >= steps {
            return Some(format!(
                "training.schedule warms up for {warmup} steps, and the job has {steps}: the full learning rate \
                 is never reached"
            ));
        }
        let rate = self.learning_rate(steps);
        match &training.schedule {
            api::Schedule::Exponential(_) if rate.at(steps.saturating_sub(1)) == 0.0 => Some(
                "training.schedule.exponential lowers the learning rate to 0 before the job ends: gamma is the \
                 factor of each step, not of each epoch"
                    .into(),
            ),
            api::Schedule::Cosine(cosine) if cosine.min_learning_rate > rate.base => Some(format!(
                "training.schedule.cosine.minLearningRate is {}, above the learning rate {}, which rises to it",
                cosine.min_learning_rate, rate.base
            )),
            api::Schedule::Step(step) if u64::from(step.step_size) >= steps - warmup => {
                Some(format!(
                    "training.schedule.step.stepSize is {}, and {} steps follow warm-up: the learning rate never \
                     changes",
                    step.step_size,
                    steps - warmup
                ))
            }
            api::Schedule::OneCycle(cycle) => {
                let base = rate.base;
                let meant = base != cycle.max_learning_rate && base != usual(&training.optimizer);
                meant.then(|| {
                    format!(
                        "the optimizer's learningRate {base} is not used: training.schedule.oneCycle sets the rate"
                    )
                })
            }
            _ => None,
        }
    }
}

/// The learning rate of an optimizer that was told none.
fn usual(optimizer: &api::Optimizer) -> f64 {
    match optimizer {
        api::Optimizer::Sgd(_) => api::Sgd::default().learning_rate,
        api::Optimizer::Adam(_) => api::Adam::default().learning_rate,
        api::Optimizer::AdamW(_) => api::AdamW::default().learning_rate,
        api::Optimizer::Adagrad(_) => api::Adagrad::default().learning_rate,
    }
}
