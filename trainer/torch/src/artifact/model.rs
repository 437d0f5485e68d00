//! An artifact's model, ready to predict.

use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use tch::Tensor;
use trainyard_core::control::EVALUATION_BLOCK_ROWS;
use trainyard_core::layout::Layout;
use trainyard_core::metrics::{
    BlockResult, ClassificationReport, Metrics, TaskKind, summarize_with_report,
};
use trainyard_data::Table;
use trainyard_runtime::arch::Architecture;
use trainyard_runtime::artifact::{ModelFile, ModelFiles};

use super::script;
use crate::engine::{outputs, use_threads};
use crate::network::Network;

/// A model that can predict.
#[derive(Debug)]
pub struct Artifact {
    /// What `model.json` says.
    pub model: ModelFile,
    kind: TaskKind,
    architecture: Architecture,
    network: Network,
    parameters: Vec<Tensor>,
}

/// Rows that are computed together for an answer. Of fewer, zeros take the place of the others: kernels are chosen by the number
/// of rows, so it is always the same.
pub const BLOCK_ROWS: usize = 16;

impl Artifact {
    /// Reads `model.json` and the parameters, and checks their digest. Holds the parameters once more while they
    /// become libtorch's. Has libtorch use one
    /// thread, as in evaluation: the bits of an output depend on it.
    ///
    /// # Errors
    /// As [`ModelFiles::read`], or of libtorch.
    pub fn open(path: &Path) -> Result<Self> {
        let files = ModelFiles::read(path)?;
        use_threads(1);
        Ok(Artifact {
            kind: files.kind(),
            network: Network::new(&files.architecture, &files.layout),
            parameters: tensors(&files.parameters, &files.layout)?,
            architecture: files.architecture,
            model: files.model,
        })
    }

    /// What the outputs mean.
    pub fn kind(&self) -> TaskKind {
        self.kind
    }

    /// Checks that the memory at hand takes the blocks of so many rows.
    ///
    /// # Errors
    /// If it does not.
    pub fn check_memory(&self, rows: usize) -> Result<()> {
        script::check_memory(&self.architecture, rows.min(EVALUATION_BLOCK_ROWS as usize))
    }

    /// Outputs, `rows x width`, block by block in the blocks in which training evaluates: a row's
    /// bits are then those that training has seen, if its file is the same.
    pub fn outputs<'a>(
        &'a self,
        table: &'a Table,
    ) -> impl Iterator<Item = Result<(Range<usize>, Vec<f32>)>> + 'a {
        let block = EVALUATION_BLOCK_ROWS as usize;
        (0..table.rows).step_by(block).map(move |start| {
            let rows = start..(start + block).min(table.rows);
            Ok((
                rows.clone(),
                outputs(&self.network, &self.parameters, table, rows)?,
            ))
        })
    }

    /// Outputs, `rows x width`, in blocks of [`BLOCK_ROWS`]: a row's bits do not depend on how many others there are.
    /// Its place in a block can make a difference in the last bits where a layer's width is no multiple of 16.
    ///
    /// # Errors
    /// Of libtorch.
    pub fn answers(&self, table: &Table) -> Result<Vec<f32>> {
        let mut block = Table {
            rows: BLOCK_ROWS,
            width: table.width,
            ..Table::default()
        };
        let mut all = Vec::new();
        for features in table.features.chunks(BLOCK_ROWS * table.width.max(1)) {
            block.features.clear();
            block.features.extend_from_slice(features);
            block.features.resize(BLOCK_ROWS * table.width, 0.0);
            let outputs = outputs(&self.network, &self.parameters, &block, 0..BLOCK_ROWS)?;
            let rows = features.len() / table.width.max(1);
            all.extend_from_slice(&outputs[..outputs.len() / BLOCK_ROWS * rows]);
        }
        Ok(all)
    }

    /// The result of one block of outputs, with the `scores` of all classes, if they are wanted.
    ///
    /// # Errors
    /// If the labels are not the task's.
    pub fn score(&self, outputs: &[f32], labels: &[f32], scores: bool) -> Result<BlockResult> {
        let objective = self.model.objective();
        Ok(BlockResult::with_scores(
            objective, outputs, labels, scores,
        )?)
    }

    /// Metrics of the results of blocks, and the report of a classification.
    pub fn summarize(&self, blocks: &[BlockResult]) -> (Metrics, Option<ClassificationReport>) {
        let (objective, classes) = (self.model.objective(), &self.model.output.classes);
        summarize_with_report(&objective, classes, blocks, false)
    }
}

/// The parameters of an arena in name order, as tensors of their own memory.
pub(super) fn tensors(arena: &[f32], layout: &Layout) -> Result<Vec<Tensor>> {
    let tensor = |placed: &trainyard_core::layout::Placed| -> Result<Tensor> {
        let shape: Vec<i64> = placed.param.shape.iter().map(|&d| d as i64).collect();
        Ok(Tensor::f_from_slice(&arena[placed.range()])?.f_view(shape.as_slice())?)
    };
    layout.params().map(tensor).collect()
}
