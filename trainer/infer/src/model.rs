//! An artifact's model, ready to predict.

use std::path::Path;
use std::thread;

use anyhow::Result;
use trainyard_core::metrics::{
    BlockResult, ClassificationReport, Metrics, TaskKind, summarize_with_report,
};
use trainyard_core::prediction::Prediction;
use trainyard_runtime::arch::Architecture;
use trainyard_runtime::artifact::{Answer, ModelFile, ModelFiles};

use crate::network::{Network, Scratch};

/// Rows that a thread computes before it takes others: enough to fill the kernels, and few enough that their numbers between
/// layers stay in its caches.
const BLOCK: usize = 48;

/// A model that can predict.
#[derive(Debug)]
pub struct Model {
    /// What `model.json` says.
    pub file: ModelFile,
    kind: TaskKind,
    architecture: Architecture,
    network: Network,
}

impl Model {
    /// Reads `model.json` and the parameters, and checks their digest. Holds the parameters twice until it returns.
    ///
    /// # Errors
    /// As [`ModelFiles::read`].
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self::new(ModelFiles::read(path)?))
    }

    /// Of files that were read.
    pub fn new(files: ModelFiles) -> Self {
        Model {
            kind: files.kind(),
            network: Network::new(&files.architecture, &files.layout, &files.parameters),
            architecture: files.architecture,
            file: files.model,
        }
    }

    /// What the outputs mean.
    pub fn kind(&self) -> TaskKind {
        self.kind
    }

    /// The layers.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Checks that the memory at hand takes `rows` rows on so many threads.
    ///
    /// # Errors
    /// If it does not.
    pub fn check_memory(&self, rows: usize, threads: usize) -> Result<()> {
        self.architecture.check_memory(rows.min(BLOCK * threads))
    }

    /// Adds the outputs of rows, `rows x outputs`, to `out`.
    pub fn outputs_with(&self, inputs: &[f32], scratch: &mut Scratch, out: &mut Vec<f32>) {
        for block in inputs.chunks(BLOCK * self.network.inputs().max(1)) {
            self.network.forward(block, scratch, out);
        }
    }

    /// Outputs of rows, `rows x outputs`, computed by so many threads: how many makes no difference.
    pub fn outputs(&self, inputs: &[f32], threads: usize) -> Vec<f32> {
        let row = self.network.inputs().max(1);
        let rows = inputs.len() / row;
        let share = rows.div_ceil(threads.max(1)).next_multiple_of(BLOCK);
        let compute = |inputs: &[f32]| {
            let mut out = Vec::new();
            self.outputs_with(inputs, &mut Scratch::default(), &mut out);
            out
        };
        if share >= rows {
            return compute(inputs);
        }
        thread::scope(|scope| {
            let shares = inputs.chunks(share * row);
            let running: Vec<_> = shares
                .map(|inputs| scope.spawn(move || compute(inputs)))
                .collect();
            let mut outputs = Vec::with_capacity(rows * self.kind.outputs());
            for thread in running {
                match thread.join() {
                    Ok(part) => outputs.extend(part),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            outputs
        })
    }

    /// What the outputs of a row mean.
    pub fn predict(&self, outputs: &[f32]) -> Prediction {
        Prediction::of(self.kind, &self.file.input_schema.label, outputs)
    }

    /// The class or the value that the outputs of a row stand for.
    pub fn answer(&self, outputs: &[f32]) -> Answer {
        let classes = &self.file.input_schema.label.classes;
        match self.predict(outputs) {
            Prediction::Value(value) => Answer::Value(value),
            Prediction::Class { class, .. } => {
                Answer::Class(classes.get(class).cloned().unwrap_or_default())
            }
        }
    }

    /// The result of one block of outputs, with the `scores` of all classes, if they are wanted.
    ///
    /// # Errors
    /// If the labels are not the task's.
    pub fn score(&self, outputs: &[f32], labels: &[f32], scores: bool) -> Result<BlockResult> {
        let objective = self.file.objective();
        Ok(BlockResult::with_scores(
            objective, outputs, labels, scores,
        )?)
    }

    /// Metrics of the results of blocks, and the report of a classification.
    pub fn summarize(&self, blocks: &[BlockResult]) -> (Metrics, Option<ClassificationReport>) {
        let (objective, classes) = (self.file.objective(), &self.file.output.classes);
        summarize_with_report(&objective, classes, blocks, false)
    }
}
