//! Golden rows: inputs of a model and the outputs that the trainer computed for them.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use trainyard_checkpoint::zeros;

use super::tensors::{self, Named, Reader};

/// Relative tolerance of golden outputs.
pub const RTOL: f32 = 1e-5;
/// Absolute tolerance of golden outputs that are 0.
const ATOL: f32 = 1e-6;

/// The absolute tolerance of outputs: a small output is the sum of numbers as large as the largest one, so that is what its
/// last bits depend on.
pub fn tolerance(outputs: &[f32]) -> f32 {
    let largest = outputs
        .iter()
        .fold(0f32, |most, value| most.max(value.abs()));
    ATOL + RTOL * largest
}

/// Whether an output is right: NaN is not within any tolerance.
pub fn is_within(found: f32, expected: f32, rtol: f32, atol: f32) -> bool {
    (found - expected).abs() <= atol + rtol * expected.abs()
}

/// Normalized inputs and what the trainer's own network makes of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Golden {
    /// Shape of the inputs, `[n, ...]`.
    pub input_shape: Vec<u64>,
    /// The inputs, row after row.
    pub inputs: Vec<f32>,
    /// Shape of the outputs, `[n, width]`.
    pub output_shape: Vec<u64>,
    /// The outputs, row after row.
    pub outputs: Vec<f32>,
    /// A right output differs by at most `atol + rtol * |expected|`.
    pub rtol: f32,
    /// See `rtol`.
    pub atol: f32,
}

impl Golden {
    /// Writes the rows as tensors `inputs` and `outputs`, the tolerance as metadata.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let (rtol, atol) = (self.rtol.to_string(), self.atol.to_string());
        tensors::write(
            path,
            &[("rtol", &rtol), ("atol", &atol)],
            &[
                Named {
                    name: "inputs",
                    shape: &self.input_shape,
                    values: &self.inputs,
                },
                Named {
                    name: "outputs",
                    shape: &self.output_shape,
                    values: &self.outputs,
                },
            ],
        )
    }

    /// Reads an artifact's golden rows.
    ///
    /// # Errors
    /// If the file cannot be read, or holds something else.
    pub fn read(path: &Path) -> Result<Self> {
        let read = || -> Result<Self> {
            let mut file = Reader::open(path)?;
            let shape = |name: &str| -> Result<Vec<u64>> {
                let shape = file.shape(name);
                let shape = shape.with_context(|| format!("tensor {name} is missing"))?;
                ensure!(
                    !shape.is_empty() && !shape.contains(&0),
                    "tensor {name} of shape {shape:?} has no rows"
                );
                Ok(shape)
            };
            let (input_shape, output_shape) = (shape("inputs")?, shape("outputs")?);
            ensure!(
                input_shape[0] == output_shape[0],
                "inputs and outputs differ in their rows"
            );
            let number = |name: &str| -> Result<f32> {
                let text = file
                    .metadata(name)
                    .with_context(|| format!("{name} is missing"))?;
                text.parse().with_context(|| format!("{name} is no number"))
            };
            let (rtol, atol) = (number("rtol")?, number("atol")?);
            let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
            while let Some(name) = file.next_name().map(str::to_owned) {
                // Of a shape that the header was checked to have bytes for.
                let floats: u64 = file.shape(&name).unwrap_or_default().iter().product();
                let mut values = zeros(usize::try_from(floats)?)?;
                file.read_next(&mut values)?;
                match name.as_str() {
                    "inputs" => inputs = values,
                    "outputs" => outputs = values,
                    _ => {}
                }
            }
            Ok(Golden {
                input_shape,
                inputs,
                output_shape,
                outputs,
                rtol,
                atol,
            })
        };
        read().with_context(|| path.display().to_string())
    }
}
