//! The same training in one process, written a second time: plain tensors instead of
//! an arena, updates parameter by parameter instead of chunk by chunk, its own cut into leaves, its
//! own tree, its own epochs. It shares with the program what defines the job (layers, losses, data,
//! random streams) and the optimizers' kernels, which other tests compare with PyTorch.

use std::ops::Range;

use tch::Tensor;
use trainyard_core::layout::{Layout, model_sha256};
use trainyard_core::metrics::{self, BlockResult, Metrics, Objective};
use trainyard_core::sampling::permutation;
use trainyard_data::{Dataset, Folder, Table};
use trainyard_runtime::job::Job;
use trainyard_torch::engine::use_threads;
use trainyard_torch::network::{DropoutKey, Network, summed_loss};

use super::Spec;

/// What a job must come to.
#[derive(Clone, Debug)]
pub struct Reference {
    /// Digest of the result.
    pub sha: String,
    /// Steps taken.
    pub steps: u64,
    /// Epochs finished.
    pub epochs: u64,
    /// Samples used.
    pub samples: u64,
    /// Mean training loss of each epoch.
    pub losses: Vec<f64>,
    /// Validation metrics of each epoch.
    pub validation: Vec<Metrics>,
    /// Of the last parameters on the test rows, if there are any.
    pub test: Option<Metrics>,
}

struct Leaf {
    gradients: Vec<Vec<f32>>,
    loss: f64,
}

struct Trainer {
    job: Job,
    data: Dataset,
    network: Network,
    layout: Layout,
    parameters: Vec<Vec<f32>>,
    state: Vec<Vec<f32>>,
}

/// Trains the job of `spec`.
pub fn train(spec: &Spec) -> Reference {
    let job = trainyard::run::read_job(&spec.file, &spec.sets).expect("a good manifest");
    let folder = Folder::new(spec.file.parent().expect("a folder"));
    let data =
        trainyard_data::load(&folder, &job.load_options().expect("options")).expect("good data");
    let architecture = job.architecture(&data.facts).expect("a model that fits");
    let layout = job.layout(&data.facts).expect("a layout");
    let mut arena = vec![0.0; layout.len()];
    layout
        .initialize(job.manifest.spec.training.seed, 0..layout.len(), &mut arena)
        .expect("as long as the layout");
    let parameters: Vec<Vec<f32>> = layout
        .params()
        .map(|placed| arena[placed.range()].to_vec())
        .collect();
    let state = parameters
        .iter()
        .map(|values| job.optimizer.initial_state(values.len()))
        .collect();
    let network = Network::new(&architecture, &layout);
    Trainer {
        job,
        data,
        network,
        layout,
        parameters,
        state,
    }
    .train()
}

impl Trainer {
    fn train(mut self) -> Reference {
        let training = self.job.manifest.spec.training.clone();
        let rows = self.data.train.rows as u64;
        let batch = u64::from(training.batch_size);
        let plan = self.job.plan(rows).expect("a plan");
        let rate = self.job.learning_rate(plan.total_steps());
        let early = self.job.early_stopping();
        let mut best: Option<(f64, Vec<Vec<f32>>)> = None;
        let mut stale = 0;
        let mut result = Reference {
            sha: String::new(),
            steps: 0,
            epochs: 0,
            samples: 0,
            losses: vec![],
            validation: vec![],
            test: None,
        };
        for epoch in 0..u64::from(training.epochs) {
            let order = permutation(training.seed, epoch, rows).expect("few rows");
            let mut loss = 0.0;
            for rows in order.chunks(batch as usize) {
                let root = self.node(result.steps, rows, 0..training.micro_batches as usize);
                loss += root.loss;
                self.update(
                    result.steps,
                    rate.at(result.steps),
                    rows.len(),
                    &root.gradients,
                );
                result.steps += 1;
                result.samples += rows.len() as u64;
            }
            result.losses.push(loss / rows as f64);
            result.epochs += 1;
            let Some(metrics) = self.validate() else {
                continue;
            };
            result.validation.push(metrics.clone());
            let Some(early) = &early else { continue };
            let value = metrics.get(early.metric).expect("a metric of the task");
            let better = best
                .as_ref()
                .is_none_or(|(best, _)| early.metric.better(value, *best, early.min_delta));
            stale = if better { 0 } else { stale + 1 };
            if better {
                best = Some((value, self.parameters.clone()));
            }
            if stale >= early.patience {
                break;
            }
        }
        if let (Some((_, parameters)), true) = (best, early.is_some_and(|early| early.restore_best))
        {
            self.parameters = parameters;
        }
        result.sha = self.sha();
        result.test = self.data.test.as_ref().map(|table| self.evaluate(table));
        result
    }

    /// The sum over leaves, which are halved until one is left.
    fn node(&self, step: u64, rows: &[u32], leaves: Range<usize>) -> Leaf {
        if leaves.len() == 1 {
            return self.leaf(step, rows, leaves.start);
        }
        let middle = leaves.start + leaves.len() / 2;
        let mut left = self.node(step, rows, leaves.start..middle);
        let right = self.node(step, rows, middle..leaves.end);
        for (left, right) in left
            .gradients
            .iter_mut()
            .flatten()
            .zip(right.gradients.iter().flatten())
        {
            *left += right;
        }
        left.loss += right.loss;
        left
    }

    fn leaf(&self, step: u64, batch: &[u32], leaf: usize) -> Leaf {
        let threads = self.job.manifest.spec.training.threads_per_leaf;
        use_threads(threads);
        let training = &self.job.manifest.spec.training;
        let leaves = training.micro_batches as usize;
        let rows = &batch[leaf * batch.len() / leaves..(leaf + 1) * batch.len() / leaves];
        let zeros = || {
            self.parameters
                .iter()
                .map(|values| vec![0.0; values.len()])
                .collect()
        };
        if rows.is_empty() {
            return Leaf {
                gradients: zeros(),
                loss: 0.0,
            };
        }
        let table = &self.data.train;
        let features: Vec<f32> = rows
            .iter()
            .flat_map(|&row| table.row(row as usize).iter().copied())
            .collect();
        let labels: Vec<f32> = rows.iter().map(|&row| table.labels[row as usize]).collect();
        let mut weights = Vec::new();
        table.gather_weights(rows, &mut weights);
        let input =
            Tensor::from_slice(&features).view(self.network.batch_shape(rows.len()).as_slice());
        let variables: Vec<Tensor> = self
            .tensors()
            .into_iter()
            .map(|tensor| tensor.set_requires_grad(true))
            .collect();
        let key = DropoutKey {
            seed: training.seed,
            step,
            leaf: leaf as u32,
        };
        let loss = summed_loss(
            self.job.task,
            self.job.loss(),
            &self.network.forward(&variables, &input, Some(key)),
            &labels,
            &weights,
        );
        loss.backward();
        let gradient = |variable: &Tensor| {
            Vec::<f32>::try_from(variable.grad().flatten(0, -1)).expect("floats")
        };
        Leaf {
            gradients: variables.iter().map(gradient).collect(),
            loss: loss.double_value(&[]),
        }
    }

    /// The parameters as tensors of their own, in name order.
    fn tensors(&self) -> Vec<Tensor> {
        let tensor = |(values, placed): (&Vec<f32>, &trainyard_core::layout::Placed)| {
            let shape: Vec<i64> = placed.param.shape.iter().map(|&size| size as i64).collect();
            Tensor::from_slice(values).view(shape.as_slice())
        };
        self.parameters
            .iter()
            .zip(self.layout.params())
            .map(tensor)
            .collect()
    }

    fn update(&mut self, step: u64, rate: f64, rows: usize, gradients: &[Vec<f32>]) {
        for ((values, state), gradient) in self
            .parameters
            .iter_mut()
            .zip(&mut self.state)
            .zip(gradients)
        {
            let old = values.clone();
            self.job
                .optimizer
                .apply(step, rate, rows as f32, &old, gradient, state, values)
                .expect("equal lengths");
        }
    }

    fn validate(&self) -> Option<Metrics> {
        self.data
            .validation
            .as_ref()
            .map(|table| self.evaluate(table))
    }

    fn evaluate(&self, table: &Table) -> Metrics {
        use_threads(1);
        let objective = Objective::new(self.job.loss(), &self.data.facts.schema);
        let block = |start: usize| {
            let rows = start..(start + 1024).min(table.rows);
            let features = &table.features[rows.start * table.width..rows.end * table.width];
            let input =
                Tensor::from_slice(features).view(self.network.batch_shape(rows.len()).as_slice());
            let outputs = tch::no_grad(|| self.network.forward(&self.tensors(), &input, None));
            let outputs = Vec::<f32>::try_from(outputs.flatten(0, -1)).expect("floats");
            BlockResult::from_outputs(objective, &outputs, &table.labels[rows])
                .expect("labels of the task")
        };
        let blocks: Vec<BlockResult> = (0..table.rows).step_by(1024).map(block).collect();
        metrics::summarize(objective, &blocks)
    }

    fn sha(&self) -> String {
        let bytes: Vec<Vec<u8>> = self
            .parameters
            .iter()
            .map(|values| {
                values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect()
            })
            .collect();
        let tensors = self.layout.params().zip(&bytes);
        let tensors = tensors.map(|(placed, bytes)| {
            (
                placed.param.name.as_str(),
                placed.param.shape.as_slice(),
                bytes.as_slice(),
            )
        });
        model_sha256(tensors).expect("tensors in name order")
    }
}
