//! The same job as a plain loop in one place: what every simulated run must come to.

use trainyard_core::control::{Block, EVALUATION_BLOCK_ROWS, RowSet};
use trainyard_core::metrics::{Metric, Metrics, TaskKind, summarize};
use trainyard_core::round::Tally;
use trainyard_core::tree::Node;

use super::toy::Toy;

pub struct Reference {
    /// Parameters of every version.
    pub parameters: Vec<Vec<f32>>,
    /// Optimizer state of every version, slot after slot.
    pub state: Vec<Vec<f32>>,
    /// What every step sums.
    pub tallies: Vec<Tally>,
    /// Mean loss and validation metrics of every epoch.
    pub epochs: Vec<(f64, Option<Metrics>)>,
    /// Step of the best epoch.
    pub best: Option<u64>,
    pub stopped_early: bool,
    /// Version whose parameters are the result.
    pub result: u64,
    pub train: Metrics,
    pub validation: Option<Metrics>,
}

pub fn evaluate(toy: &Toy, parameters: &[f32], set: RowSet, rows: u64) -> Metrics {
    let blocks = 0..rows.div_ceil(EVALUATION_BLOCK_ROWS);
    let blocks: Vec<_> = blocks
        .map(|block| toy.block(parameters, Block(set, block)))
        .collect();
    summarize(TaskKind::Regression, &blocks)
}

impl Reference {
    pub fn run(toy: &Toy) -> Reference {
        let mut this = Reference {
            parameters: vec![toy.initial()],
            state: vec![toy.optimizer.initial_state(toy.layout.len())],
            tallies: Vec::new(),
            epochs: Vec::new(),
            best: None,
            stopped_early: false,
            result: 0,
            train: Metrics::default(),
            validation: None,
        };
        let epoch_steps = toy.plan.steps_per_epoch();
        let mut best: Option<(f64, u64, Metrics)> = None;
        let mut stale = 0;
        for epoch in 0..toy.plan.epochs {
            for step in epoch * epoch_steps..(epoch + 1) * epoch_steps {
                this.step(toy, step);
            }
            let tallies = &this.tallies[(epoch * epoch_steps) as usize..];
            let (rows, loss) = tallies
                .iter()
                .fold((0, 0.0), |(r, l), t| (r + t.rows, l + t.loss));
            assert_eq!(rows, toy.plan.rows, "an epoch uses every row once");
            let version = (epoch + 1) * epoch_steps;
            let validation = (toy.validation_rows > 0).then(|| {
                evaluate(
                    toy,
                    &this.parameters[version as usize],
                    RowSet::Validation,
                    toy.validation_rows,
                )
            });
            this.epochs.push((loss / rows as f64, validation.clone()));
            this.result = version;
            this.validation = validation.clone();
            let (Some(early), Some(metrics)) = (&toy.early, validation) else {
                continue;
            };
            let value = metrics.get(early.metric);
            let sign = if early.metric == Metric::R2 {
                -1.0
            } else {
                1.0
            };
            let improved = match (&best, value) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some((old, _, _)), Some(new)) => sign * new < sign * old - early.min_delta,
            };
            if let (true, Some(value)) = (improved, value) {
                best = Some((value, version, metrics));
                stale = 0;
            } else if value.is_some() || early.counts_undefined {
                stale += 1;
                this.stopped_early = stale >= early.patience && version < toy.plan.total_steps();
            }
            if this.stopped_early {
                break;
            }
        }
        this.best = best.as_ref().map(|(_, step, _)| *step);
        if let (Some((_, step, metrics)), true) =
            (best, toy.early.as_ref().is_some_and(|e| e.restore_best))
        {
            this.result = step;
            this.validation = Some(metrics);
        }
        this.train = evaluate(
            toy,
            &this.parameters[this.result as usize],
            RowSet::Train,
            toy.plan.rows,
        );
        this
    }

    fn step(&mut self, toy: &Toy, step: u64) {
        let old = &self.parameters[step as usize];
        let (sum, tally) = toy.node(old, step, Node::ROOT);
        let mut state = self.state[step as usize].clone();
        let mut new = vec![0.0; old.len()];
        let rate = toy.rate.at(step);
        toy.optimizer
            .apply(
                step,
                rate,
                tally.rows as f32,
                old,
                &sum,
                &mut state,
                &mut new,
            )
            .unwrap();
        self.parameters.push(new);
        self.state.push(state);
        self.tallies.push(tally);
    }

    /// Steps of the whole job.
    pub fn steps(&self) -> u64 {
        self.tallies.len() as u64
    }

    /// Parameters and state of a chunk at a version.
    pub fn chunk(&self, toy: &Toy, chunk: u32, version: u64) -> (&[f32], Vec<f32>) {
        let range = toy.chunk_range(chunk);
        let state = &self.state[version as usize];
        let slots = 0..toy.optimizer.slots().len();
        let state = slots.flat_map(|slot| {
            let offset = slot * toy.layout.len();
            state[offset + range.start..offset + range.end]
                .iter()
                .copied()
        });
        (
            &self.parameters[version as usize][range.clone()],
            state.collect(),
        )
    }
}
