//! A job small enough to run thousands of times: linear regression in exact f32 bits, with the real
//! sampling, tree, optimizers, schedules and metrics.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::time::Duration;

use trainyard_core::control::{Block, EVALUATION_BLOCK_ROWS, RowSet};
use trainyard_core::coordinator::{Config, EarlyStopping};
use trainyard_core::facts::DataFacts;
use trainyard_core::layout::{Init, Layout, Param};
use trainyard_core::metrics::{BlockResult, Metric, Task, TaskKind, squared_error};
use trainyard_core::optimizer::Optimizer;
use trainyard_core::round::Tally;
use trainyard_core::sampling::{Plan, permutation};
use trainyard_core::schedule::{LearningRate, Schedule};
use trainyard_core::schema::{ArrayInput, InputKind, InputSchema, Label};
use trainyard_core::shard::Rules;
use trainyard_core::tree::{self, Node, Tree, reduce};

use super::rng::{Rng, mix};

pub const HEARTBEAT: u64 = 100_000;
pub const TIMEOUT: u64 = 500_000;
pub const GRACE: u64 = 4_000_000;

pub type Gradient = (Vec<f32>, Tally);

pub struct Toy {
    pub plan: Plan,
    pub tree: Tree,
    pub optimizer: Optimizer,
    pub rate: LearningRate,
    pub early: Option<EarlyStopping>,
    /// One parameter and its padding, in chunks of a few floats.
    pub layout: Layout,
    features: usize,
    pub servers: u32,
    /// Lanes from a worker to a server, at most.
    pub connections: u32,
    pub every: u64,
    pub keep: usize,
    pub validation_rows: u64,
    seed: u64,
    orders: Vec<Vec<u32>>,
}

impl Toy {
    pub fn random(rng: &mut Rng) -> Toy {
        let seed = rng.next();
        let many = rng.chance(4);
        let rows = if many {
            rng.within(1100, 2100)
        } else {
            rng.within(1, 40)
        };
        let batch = if many {
            rng.within(300, 900)
        } else {
            rng.within(1, 16)
        };
        let epochs = rng.within(1, 5);
        let plan = Plan::new(rows, batch, epochs, seed).unwrap();
        let validation_rows = match rng.within(0, 9) {
            0..=2 => 0,
            3 => rng.within(1025, 3000),
            _ => rng.within(1, 30),
        };
        let early = (validation_rows > 0 && rng.chance(60)).then(|| EarlyStopping {
            metric: *rng.pick(&[Metric::Loss, Metric::Rmse, Metric::R2]).unwrap(),
            patience: rng.within(1, 2),
            min_delta: *rng.pick(&[0.0, 0.05]).unwrap(),
            restore_best: rng.chance(70),
            counts_undefined: rng.chance(50),
        });
        let optimizer = match rng.within(0, 3) {
            0 => Optimizer::Sgd {
                momentum: 0.0,
                dampening: 0.0,
                nesterov: false,
                weight_decay: 0.0,
            },
            1 => Optimizer::Sgd {
                momentum: 0.9,
                dampening: 0.0,
                nesterov: true,
                weight_decay: 0.01,
            },
            2 => Optimizer::AdamW {
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-8,
                weight_decay: 0.01,
            },
            _ => Optimizer::Adagrad {
                lr_decay: 0.01,
                weight_decay: 0.0,
                initial_accumulator_value: 0.1,
                epsilon: 1e-10,
            },
        };
        let schedule = match rng.within(0, 1) {
            0 => Schedule::Constant,
            _ => Schedule::Cosine {
                min_learning_rate: 0.001,
            },
        };
        let rate = LearningRate {
            base: *rng.pick(&[0.01, 0.1, 0.3]).unwrap(),
            warmup_steps: rng.within(0, 3),
            schedule,
            total_steps: plan.total_steps(),
        };
        let features = rng.within(1, 9);
        let weights = Param {
            name: "w".into(),
            shape: vec![features],
            init: Init::Constant(0.0),
        };
        let chunk = *rng.pick(&[2, 3, 4, 5, 6, 8, 16]).unwrap();
        let layout = Layout::new(vec![weights]).unwrap();
        let layout = layout.in_chunks_of(NonZeroUsize::new(chunk).unwrap());
        let orders = (0..epochs)
            .map(|epoch| permutation(seed, epoch, rows).unwrap())
            .collect();
        Toy {
            tree: Tree::new(1 << rng.within(0, 4)).unwrap(),
            optimizer,
            rate,
            early,
            layout: layout.unwrap(),
            features: features as usize,
            servers: rng.within(1, 4) as u32,
            connections: rng.within(1, 3) as u32,
            every: rng.within(1, 12),
            keep: rng.within(1, 2) as usize,
            validation_rows,
            seed,
            orders,
            plan,
        }
    }

    pub fn config(&self, generation: u32) -> Config {
        Config {
            generation,
            servers: self.servers,
            leaves: self.tree.leaves(),
            batch_size: self.plan.batch_size,
            epochs: self.plan.epochs,
            seed: self.plan.seed,
            task: Task::Regression,
            checkpoint_every: self.every,
            early_stopping: self.early.clone(),
            spec_digest: "spec".into(),
            heartbeat_timeout: Duration::from_micros(TIMEOUT),
            grace: Duration::from_micros(GRACE),
        }
    }

    pub fn facts(&self) -> DataFacts {
        DataFacts {
            train_rows: self.plan.rows,
            validation_rows: self.validation_rows,
            test_rows: 0,
            input_shape: vec![self.features as u64],
            outputs: 1,
            digest: format!("{:x}", self.seed),
            schema: InputSchema {
                task: Task::Regression,
                input: InputKind::Array(ArrayInput {
                    shape: vec![self.features as u64],
                    dtype: "f4".into(),
                    mean: vec![0.0; self.features],
                    std: vec![1.0; self.features],
                    resize: false,
                }),
                label: Label {
                    name: "label".into(),
                    classes: Vec::new(),
                    numeric: true,
                    scale: None,
                    link: None,
                    threshold: None,
                },
            },
        }
    }

    pub fn chunks(&self) -> u32 {
        self.layout.chunks()
    }

    pub fn chunk_range(&self, chunk: u32) -> Range<usize> {
        self.layout.chunk_range(chunk)
    }

    /// Chunks of a server.
    pub fn shard(&self, index: u32) -> Range<u32> {
        self.layout.shard(index, self.servers)
    }

    /// Floats of the arena that a server's chunks hold.
    pub fn floats(&self, index: u32) -> Range<usize> {
        self.layout.floats(&self.shard(index))
    }

    /// What never changes about a server's shard.
    pub fn rules(&self, index: u32) -> Rules {
        Rules {
            layout: self.layout.clone(),
            chunks: self.shard(index),
            tree: self.tree,
            plan: self.plan.clone(),
            optimizer: self.optimizer.clone(),
            learning_rate: self.rate.clone(),
            checkpoint_every: self.every,
            early_stopping: self.early.is_some(),
        }
    }

    fn unit(&self, what: u64, row: u64, column: u64) -> f32 {
        let bits = mix(self.seed ^ mix(what ^ mix(row ^ mix(column))));
        (bits >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn initial(&self) -> Vec<f32> {
        let mut arena: Vec<f32> = (0..self.features)
            .map(|i| self.unit(1, 0, i as u64))
            .collect();
        arena.resize(self.layout.len(), 0.0);
        arena
    }

    /// Loss of one row and, if asked for, its gradient added to `gradient`.
    fn row(
        &self,
        parameters: &[f32],
        set: u64,
        row: u64,
        gradient: Option<&mut [f32]>,
    ) -> (f32, f32) {
        let x = |i: usize| self.unit(2 + set, row, i as u64);
        let mut output = 0.0_f32;
        let mut label = 0.3 * self.unit(4 + set, row, 0);
        for (i, p) in parameters.iter().take(self.features).enumerate() {
            output += p * x(i);
            label += self.unit(6, 0, i as u64) * x(i);
        }
        if let Some(gradient) = gradient {
            for (i, g) in gradient.iter_mut().take(self.features).enumerate() {
                *g += 2.0 * (output - label) * x(i);
            }
        }
        (output, label)
    }

    /// The rows of a leaf.
    pub fn rows(&self, step: u64, leaf: u32) -> &[u32] {
        let position = self.plan.position(step);
        let batch = &self.orders[position.epoch as usize];
        let batch = &batch[position.rows.start as usize..position.rows.end as usize];
        let cut = self.tree.rows(leaf, batch.len() as u64);
        &batch[cut.start as usize..cut.end as usize]
    }

    fn leaf(&self, parameters: &[f32], step: u64, leaf: u32) -> Gradient {
        let mut gradient = vec![0.0; self.layout.len()];
        let mut tally = Tally::default();
        for row in self.rows(step, leaf) {
            let (output, label) = self.row(parameters, 0, (*row).into(), Some(&mut gradient));
            tally.rows += 1;
            tally.loss += squared_error(output, label);
        }
        (gradient, tally)
    }

    /// The value of a node as a worker computes it.
    pub fn node(&self, parameters: &[f32], step: u64, node: Node) -> Gradient {
        reduce(
            self.tree,
            node,
            &mut |leaf| self.leaf(parameters, step, leaf),
            &mut |left: &mut Gradient, right| {
                tree::add(&mut left.0, &right.0);
                left.1 = left.1 + right.1;
            },
        )
    }

    pub fn block(&self, parameters: &[f32], Block(set, number): Block) -> BlockResult {
        let (set, rows) = match set {
            RowSet::Train => (0, self.plan.rows),
            RowSet::Validation => (1, self.validation_rows),
            RowSet::Test => (2, 0),
        };
        let start = number * EVALUATION_BLOCK_ROWS;
        let range = start..(start + EVALUATION_BLOCK_ROWS).min(rows);
        let (outputs, labels): (Vec<f32>, Vec<f32>) = range
            .map(|row| self.row(parameters, set, row, None))
            .unzip();
        BlockResult::from_outputs(TaskKind::Regression, &outputs, &labels).unwrap()
    }
}

pub fn bits(floats: &[f32]) -> Vec<u32> {
    floats.iter().map(|f| f.to_bits()).collect()
}
