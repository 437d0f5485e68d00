//! Golden rows: inputs of a model and the outputs that the trainer computed for them.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::tensors::{self, Named};

/// Relative tolerance of golden outputs.
pub const RTOL: f32 = 1e-5;
/// Absolute tolerance of golden outputs.
pub const ATOL: f32 = 1e-6;

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
            let mut contents = tensors::read(&std::fs::read(path)?)?;
            let mut take = |name: &str| {
                contents
                    .tensors
                    .remove(name)
                    .with_context(|| format!("tensor {name} is missing"))
            };
            let (inputs, outputs) = (take("inputs")?, take("outputs")?);
            let number = |name: &str| -> Result<f32> {
                let text = contents
                    .metadata
                    .get(name)
                    .with_context(|| format!("{name} is missing"))?;
                text.parse().with_context(|| format!("{name} is no number"))
            };
            ensure!(
                inputs.shape.first() == outputs.shape.first(),
                "inputs and outputs differ in their rows"
            );
            Ok(Golden {
                rtol: number("rtol")?,
                atol: number("atol")?,
                input_shape: inputs.shape,
                inputs: inputs.values,
                output_shape: outputs.shape,
                outputs: outputs.values,
            })
        };
        read().with_context(|| path.display().to_string())
    }
}
