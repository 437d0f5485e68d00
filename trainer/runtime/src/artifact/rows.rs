//! Golden rows as a client would send them: texts of the original columns, or numbers of an array, with what must come of each.
//!
//! They prove what the normalized ones cannot: how texts are read, missing values filled in, categories encoded, and outputs turned
//! into classes and values.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use trainyard_data::{Cells, RawArray};

use super::read::bytes;
use super::write_json;

/// Largest file that is read, in bytes.
const LIMIT: u64 = 64 << 20;

/// `golden-rows.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GoldenRows {
    /// Version of the kernels that the bits of the outputs belong to. Artifacts of early versions were computed by libtorch, and have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_version: Option<u32>,
    /// A right output differs by at most `atol + rtol * |expected|`; by nothing where the kernels are of the same version.
    pub rtol: f32,
    /// See `rtol`.
    pub atol: f32,
    /// Names of the columns, in the order of the cells; empty for an array.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// The array, if the inputs are one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<GoldenArray>,
    /// The rows.
    pub rows: Vec<GoldenRow>,
}

/// Numbers of rows, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GoldenArray {
    /// `u1` for bytes, `f4` for single-precision numbers in little-endian order.
    pub dtype: String,
    /// Rows, and the shape of one.
    pub shape: Vec<u64>,
    /// The bytes of the numbers, in Base64.
    pub data: String,
}

/// A row, and what must come of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GoldenRow {
    /// A text for each column, as it would stand in a CSV file; empty for an array.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<String>,
    /// What must come of it.
    #[serde(flatten)]
    pub expected: Expected,
}

/// What must come of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", untagged)]
pub enum Expected {
    /// A prediction.
    Predicted {
        /// The network's outputs.
        outputs: Vec<f32>,
        /// The class, or the value in the units of the target.
        prediction: Answer,
    },
    /// An error that names this column.
    Refused {
        /// The column at fault.
        refused: String,
    },
    /// Nothing: a value is missing, and the row is left out.
    LeftOut {
        /// Always true.
        left_out: bool,
    },
}

/// What a model predicts for a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// Name of a class.
    Class(String),
    /// Value of a regression.
    Value(f64),
}

impl GoldenArray {
    /// For a file.
    pub fn of(raw: &RawArray) -> Self {
        Self {
            dtype: raw.dtype.clone(),
            shape: raw.shape.clone(),
            data: BASE64.encode(&raw.bytes),
        }
    }

    /// From a file.
    fn raw(&self) -> Result<RawArray> {
        Ok(RawArray {
            dtype: self.dtype.clone(),
            shape: self.shape.clone(),
            bytes: BASE64
                .decode(&self.data)
                .context("the array is no Base64")?,
        })
    }
}

/// The inputs of golden rows.
#[derive(Clone, Debug, PartialEq)]
pub enum GoldenInputs {
    /// Texts.
    Cells(Cells),
    /// Numbers.
    Array(RawArray),
}

impl GoldenInputs {
    /// Some of the rows, by their places, which must be there.
    pub fn rows(&self, places: &[usize]) -> Self {
        match self {
            Self::Cells(cells) => Self::Cells(Cells {
                columns: cells.columns.clone(),
                rows: places
                    .iter()
                    .map(|place| cells.rows[*place].clone())
                    .collect(),
            }),
            Self::Array(raw) => {
                let rows = raw.shape.first().map_or(1, |rows| (*rows).max(1) as usize);
                let size = raw.bytes.len() / rows;
                let row = |place: &usize| &raw.bytes[place * size..(place + 1) * size];
                let mut shape = raw.shape.clone();
                if let Some(rows) = shape.first_mut() {
                    *rows = places.len() as u64;
                }
                Self::Array(RawArray {
                    dtype: raw.dtype.clone(),
                    shape,
                    bytes: places.iter().flat_map(row).copied().collect(),
                })
            }
        }
    }
}

impl GoldenRows {
    /// Writes the file.
    ///
    /// # Errors
    /// If it cannot be written, or a number is not finite.
    pub fn write(&self, path: &Path) -> Result<()> {
        for row in &self.rows {
            if let Expected::Predicted {
                outputs,
                prediction,
            } = &row.expected
            {
                let is_finite = !matches!(prediction, Answer::Value(value) if !value.is_finite());
                ensure!(
                    is_finite && outputs.iter().all(|output| output.is_finite()),
                    "an output is no finite number: train the model again with a lower learning rate"
                );
            }
        }
        write_json(path, self)
    }

    /// Reads an artifact's golden rows.
    ///
    /// # Errors
    /// If the file cannot be read, or its parts do not fit together.
    pub fn read(path: &Path) -> Result<Self> {
        let read = || -> Result<Self> {
            let rows: Self = serde_json::from_slice(&bytes(path, LIMIT)?)?;
            ensure!(!rows.rows.is_empty(), "it holds no rows");
            let columns = rows.columns.len();
            match &rows.array {
                None if columns == 0 => bail!("it names no columns"),
                None => {}
                Some(array) => ensure!(
                    columns == 0 && array.shape.first() == Some(&(rows.rows.len() as u64)),
                    "its array has not as many rows"
                ),
            }
            ensure!(
                rows.rows.iter().all(|row| row.cells.len() == columns),
                "a row has not a cell for each column"
            );
            Ok(rows)
        };
        read().with_context(|| path.display().to_string())
    }

    /// The inputs of all rows.
    ///
    /// # Errors
    /// If an array is not written as it should be.
    pub fn inputs(&self) -> Result<GoldenInputs> {
        Ok(match &self.array {
            Some(array) => GoldenInputs::Array(array.raw()?),
            None => GoldenInputs::Cells(Cells {
                columns: self.columns.clone(),
                rows: self.rows.iter().map(|row| row.cells.clone()).collect(),
            }),
        })
    }
}
