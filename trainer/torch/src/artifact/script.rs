//! TorchScript by tracing, and the golden rows that prove it.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use tch::{CModule, Tensor};
use trainyard_core::layout::Layout;
use trainyard_core::philox::{Purpose, Stream};
use trainyard_runtime::arch::Architecture;
use trainyard_runtime::artifact::{Golden, RTOL, is_within, tolerance};

use crate::arena::floats;
use crate::network::Network;

/// Golden rows; fewer where a row is large.
const ROWS: usize = 16;
/// Rows that are traced: a batch of one could be taken for a dimension to squeeze or broadcast.
const TRACED: usize = 2;
/// Floats that the golden inputs may have, but for a single row.
const FLOATS: usize = 1 << 20;

/// Draws inputs uniform in `[-2, 2]`, where normalized values lie, and computes the outputs.
/// `stream` must be an index that no parameter has: parameters' streams have their indices.
///
/// # Errors
/// Of libtorch, or if an output is not finite.
pub fn compute_golden(
    network: &Network,
    parameters: &[Tensor],
    architecture: &Architecture,
    seed: u64,
    stream: u64,
) -> Result<Golden> {
    let row_shape = &architecture.input_shape;
    let width: usize = row_shape.iter().map(|&d| d as usize).product();
    let rows = (FLOATS / width.max(1)).clamp(1, ROWS);
    architecture.check_memory(rows.max(TRACED))?;
    let mut inputs = vec![0.0; rows * width];
    Stream::new(seed, Purpose::Init, stream, 0, 0).fill_uniform(&mut inputs, -2.0, 2.0);
    let _guard = tch::no_grad_guard();
    let input = Tensor::f_from_slice(&inputs)?.f_view(network.batch_shape(rows).as_slice())?;
    let output = network.forward(parameters, &input, None).f_contiguous()?;
    let outputs = floats(&output).to_vec();
    ensure!(
        outputs.iter().all(|value| value.is_finite()),
        "the model's outputs are NaN or infinite: train it again with a lower learning rate"
    );
    Ok(Golden {
        input_shape: std::iter::once(rows as u64)
            .chain(row_shape.iter().copied())
            .collect(),
        inputs,
        output_shape: output.size().iter().map(|&d| d as u64).collect(),
        atol: tolerance(&outputs),
        outputs,
        rtol: RTOL,
    })
}

/// Runs a TorchScript file on the golden rows: all at once, and the first alone, since its
/// batch size must not be that of the trace.
///
/// # Errors
/// If it cannot be run, or an output is out of tolerance.
pub fn check_golden(golden: &Golden, script: &Path) -> Result<()> {
    let module =
        CModule::load(script).with_context(|| format!("{} cannot be loaded", script.display()))?;
    let rows = golden.input_shape.first().copied().unwrap_or(0);
    for count in [rows, rows.min(1)] {
        check_rows(golden, &module, count as usize)?;
    }
    Ok(())
}

fn check_rows(golden: &Golden, module: &CModule, count: usize) -> Result<()> {
    let _guard = tch::no_grad_guard();
    let width: usize = golden
        .input_shape
        .iter()
        .skip(1)
        .map(|&d| d as usize)
        .product();
    let mut shape: Vec<i64> = golden.input_shape.iter().map(|&d| d as i64).collect();
    if let Some(rows) = shape.first_mut() {
        *rows = count as i64;
    }
    let input = Tensor::f_from_slice(&golden.inputs[..count * width])?.f_view(shape.as_slice())?;
    let output = module.forward_ts(&[input])?.f_contiguous()?;
    let columns: usize = golden
        .output_shape
        .iter()
        .skip(1)
        .map(|&d| d as usize)
        .product();
    let expected = &golden.outputs[..count * columns];
    ensure!(
        output.size() == [count as i64, columns as i64],
        "it returns the shape {:?}",
        output.size()
    );
    for (index, (&got, &expected)) in floats(&output).iter().zip(expected).enumerate() {
        if !is_within(got, expected, golden.rtol, golden.atol) {
            bail!("output {index} is {got}, the golden one {expected}");
        }
    }
    Ok(())
}

/// Traces the network in evaluation mode. The parameters become constants of the module.
///
/// # Errors
/// Of libtorch.
pub(super) fn trace(network: &Network, parameters: &[Tensor], path: &Path) -> Result<()> {
    let _guard = tch::no_grad_guard();
    let example = Tensor::f_zeros(
        network.batch_shape(TRACED).as_slice(),
        (tch::Kind::Float, tch::Device::Cpu),
    )?;
    let mut forward = |inputs: &[Tensor]| vec![network.forward(parameters, &inputs[0], None)];
    let mut module = CModule::create_by_tracing("Model", "forward", &[example], &mut forward)?;
    module.f_set_eval()?;
    let values: usize = parameters.iter().map(Tensor::numel).sum();
    let overhead = (32 + parameters.len()) << 10; // code and headers: measured, and doubled
    check_room(path, (4 * values + overhead) as u64)?;
    module.save(path)?;
    Ok(())
}

/// Checks that a file of this size fits on the disk: libtorch ends the process where one does not.
fn check_room(path: &Path, bytes: u64) -> Result<()> {
    let file = File::create(path)?;
    let room = fallocate(&file, FallocateFlags::empty(), 0, bytes);
    fs::remove_file(path)?;
    match room {
        // Not every file system can tell.
        Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) | Ok(()) => Ok(room?),
        Err(_) => Ok(()),
    }
}

/// The parameters of an arena in name order, as tensors of their own memory.
pub(super) fn to_torch(arena: &[f32], layout: &Layout) -> Result<Vec<Tensor>> {
    let tensor = |placed: &trainyard_core::layout::Placed| -> Result<Tensor> {
        let shape: Vec<i64> = placed.param.shape.iter().map(|&d| d as i64).collect();
        Ok(Tensor::f_from_slice(&arena[placed.range()])?.f_view(shape.as_slice())?)
    };
    layout.params().map(tensor).collect()
}
