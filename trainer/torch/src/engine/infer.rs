//! Outputs of a network, without gradients.

use std::ops::Range;

use tch::Tensor;
use trainyard_core::control::EVALUATION_BLOCK_ROWS;
use trainyard_core::metrics::{BlockResult, Objective};
use trainyard_data::Table;

use super::EngineError;
use crate::arena::floats;
use crate::network::Network;

/// Outputs of a network for some rows of a table, `rows x outputs`, without gradients.
///
/// # Errors
/// Of libtorch.
pub fn outputs(
    network: &Network,
    parameters: &[Tensor],
    table: &Table,
    rows: Range<usize>,
) -> Result<Vec<f32>, EngineError> {
    let _guard = tch::no_grad_guard();
    let features = &table.features[rows.start * table.width..rows.end * table.width];
    let input =
        Tensor::f_from_slice(features)?.f_view(network.batch_shape(rows.len()).as_slice())?;
    let outputs = network.forward(parameters, &input, None).f_contiguous()?;
    Ok(floats(&outputs).to_vec())
}

/// The result of one block of rows, `rows` of `table`; with the `scores` of all classes, if they are wanted.
///
/// # Errors
/// Of libtorch, or if the labels are not the task's.
pub fn evaluate_rows(
    network: &Network,
    parameters: &[Tensor],
    table: &Table,
    rows: Range<usize>,
    objective: Objective,
    scores: bool,
) -> Result<BlockResult, EngineError> {
    let outputs = outputs(network, parameters, table, rows.clone())?;
    BlockResult::with_scores(objective, &outputs, &table.labels[rows], scores)
        .map_err(|error| EngineError::Torch(error.to_string()))
}

/// Metrics of a network on a whole table, in the same blocks and order as in training.
///
/// # Errors
/// Of libtorch.
pub fn evaluate_table(
    network: &Network,
    parameters: &[Tensor],
    table: &Table,
    objective: Objective,
) -> Result<Vec<BlockResult>, EngineError> {
    let block = EVALUATION_BLOCK_ROWS as usize;
    let starts = (0..table.rows).step_by(block);
    starts
        .map(|start| {
            evaluate_rows(
                network,
                parameters,
                table,
                start..(start + block).min(table.rows),
                objective,
                false,
            )
        })
        .collect()
}
