//! Gradients of leaves and results of evaluation blocks.

use std::sync::Arc;

use tch::Tensor;
use trainyard_core::control::{Block, EVALUATION_BLOCK_ROWS, RowSet};
use trainyard_core::layout::Layout;
use trainyard_core::metrics::{BlockResult, Loss, Objective, Task};
use trainyard_core::round::Tally;
use trainyard_core::sampling::{Plan, permutation};
use trainyard_core::tree::{self, Node, Tree};
use trainyard_data::Dataset;

use super::infer::evaluate_rows;
use super::{EngineError, use_threads};
use crate::arena::floats;
use crate::network::{DropoutKey, Network, summed_loss};

/// What all engines of a worker share.
#[derive(Debug)]
pub struct Workload {
    /// The task.
    pub task: Task,
    /// The loss of a row.
    pub loss: Loss,
    /// The leaves.
    pub tree: Tree,
    /// The steps.
    pub plan: Plan,
    /// The arena's layout.
    pub layout: Layout,
    /// Threads that compute a leaf.
    pub threads_per_leaf: u32,
    /// The network.
    pub network: Network,
    /// The data.
    pub data: Dataset,
}

/// The gradient of a node's leaves, flat over the arena, with their rows and loss.
#[derive(Debug)]
pub struct Gradient {
    /// The node.
    pub node: Node,
    /// Sum over its leaves.
    pub sum: Vec<f32>,
    /// Rows and loss sum.
    pub tally: Tally,
}

/// A computing thread's share of libtorch: variables over both arenas and scratch memory. Where a leaf
/// has several threads, libtorch keeps the others.
#[derive(Debug)]
pub struct Engine {
    work: Arc<Workload>,
    variables: [Vec<Tensor>; 2],
    order: (u64, Vec<u32>),
    features: Vec<f32>,
    labels: Vec<f32>,
    weights: Vec<f32>,
    spare: Vec<Vec<f32>>,
}

impl Engine {
    /// An engine on variables over the even and the odd arena.
    pub fn new(work: Arc<Workload>, variables: [Vec<Tensor>; 2]) -> Self {
        Engine {
            work,
            variables,
            order: (u64::MAX, Vec::new()),
            features: Vec::new(),
            labels: Vec::new(),
            weights: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// The summed gradient of the leaves below `node` at `step`, added in the tree's order, into
    /// `out` (arena length, zero in the padding).
    ///
    /// # Errors
    /// If a loss is not finite.
    pub fn gradient(
        &mut self,
        step: u64,
        node: Node,
        mut out: Vec<f32>,
    ) -> Result<Gradient, EngineError> {
        use_threads(self.work.threads_per_leaf);
        out.resize(self.work.layout.len(), 0.0);
        let tally = self.subtree(step, node, &mut out)?;
        Ok(Gradient {
            node,
            sum: out,
            tally,
        })
    }

    fn subtree(&mut self, step: u64, node: Node, out: &mut Vec<f32>) -> Result<Tally, EngineError> {
        if let Some(leaf) = self.leaf_of(node) {
            return self.leaf(step, leaf, out, false);
        }
        let (left, right) = node.children();
        let tally = self.subtree(step, left, out)?;
        if let Some(leaf) = self.leaf_of(right) {
            return Ok(tally + self.leaf(step, leaf, out, true)?);
        }
        let mut other = self.spare.pop().unwrap_or_default();
        other.resize(out.len(), 0.0);
        let right = self.subtree(step, right, &mut other);
        if right.is_ok() {
            tree::add(out, &other);
        }
        self.spare.push(other);
        Ok(tally + right?)
    }

    fn leaf_of(&self, node: Node) -> Option<u32> {
        node.get().checked_sub(self.work.tree.leaves())
    }

    /// Writes, or adds, the gradient of one leaf's summed loss.
    fn leaf(
        &mut self,
        step: u64,
        leaf: u32,
        out: &mut [f32],
        accumulate: bool,
    ) -> Result<Tally, EngineError> {
        let work = Arc::clone(&self.work);
        let position = work.plan.position(step);
        let batch = position.rows;
        let cut = work.tree.rows(leaf, batch.end - batch.start);
        let rows = batch.start + cut.start..batch.start + cut.end;
        if rows.is_empty() {
            // Zeros are added too: elsewhere they come as a push, and -0 + 0 is 0.
            match accumulate {
                false => out.fill(0.0),
                true => out.iter_mut().for_each(|value| *value += 0.0),
            }
            return Ok(Tally::default());
        }
        self.shuffle(position.epoch)?;
        let table = &work.data.train;
        let indices = &self.order.1[rows.start as usize..rows.end as usize];
        table.gather(indices, &mut self.features);
        table.gather_labels(indices, &mut self.labels);
        table.gather_weights(indices, &mut self.weights);
        let input = Tensor::f_from_slice(&self.features)?
            .f_view(work.network.batch_shape(indices.len()).as_slice())?;
        let parameters = &self.variables[(step % 2) as usize];
        let key = DropoutKey {
            seed: work.plan.seed,
            step,
            leaf,
        };
        let outputs = work.network.forward(parameters, &input, Some(key));
        let loss = summed_loss(work.task, work.loss, &outputs, &self.labels, &self.weights);
        let value = loss.f_double_value(&[])?;
        if !value.is_finite() {
            return Err(EngineError::NonFinite {
                place: format!("leaf {leaf}"),
                value: value.to_string(),
            });
        }
        let gradients = Tensor::f_run_backward(&[&loss], parameters, false, false)?;
        for (placed, gradient) in work.layout.params().zip(&gradients) {
            let gradient = gradient.f_contiguous()?;
            let target = &mut out[placed.range()];
            match accumulate {
                false => target.copy_from_slice(floats(&gradient)),
                true => tree::add(target, floats(&gradient)),
            }
        }
        Ok(Tally {
            rows: indices.len() as u64,
            loss: value,
        })
    }

    fn shuffle(&mut self, epoch: u64) -> Result<(), EngineError> {
        if self.order.0 != epoch {
            let plan = &self.work.plan;
            let order = permutation(plan.seed, epoch, plan.rows);
            self.order = (
                epoch,
                order.map_err(|error| EngineError::Torch(error.to_string()))?,
            );
        }
        Ok(())
    }

    /// Evaluates one block at `version`; with the `scores` of all classes, if they are wanted.
    ///
    /// # Errors
    /// If its loss is not finite.
    pub fn evaluate(
        &mut self,
        version: u64,
        block: Block,
        scores: bool,
    ) -> Result<BlockResult, EngineError> {
        use_threads(1);
        let Block(set, number) = block;
        let work = Arc::clone(&self.work);
        let name = set.name();
        let table = match set {
            RowSet::Train => Some(&work.data.train),
            RowSet::Validation => work.data.validation.as_ref(),
            RowSet::Test => work.data.test.as_ref(),
        };
        let outside = || EngineError::Torch(format!("there is no {name} block {number}"));
        let table = table.ok_or_else(outside)?;
        let start = number
            .checked_mul(EVALUATION_BLOCK_ROWS)
            .ok_or_else(outside)?;
        let end = start
            .saturating_add(EVALUATION_BLOCK_ROWS)
            .min(table.rows as u64);
        if start >= end {
            return Err(outside());
        }
        let objective = Objective::new(work.loss, &work.data.facts.schema);
        let parameters = &self.variables[(version % 2) as usize];
        let result = evaluate_rows(
            &work.network,
            parameters,
            table,
            start as usize..end as usize,
            objective,
            scores && set != RowSet::Train,
        )?;
        if !result.loss_sum.is_finite() {
            return Err(EngineError::NonFinite {
                place: format!("{name} block {number}"),
                value: result.loss_sum.to_string(),
            });
        }
        Ok(result)
    }
}
