//! The tensors that leave this crate.

use trainyard_core::facts::DataFacts;

use crate::error::DataError;
use crate::options::Limits;

/// Bytes of one encoded value.
pub(crate) const ENCODED: u64 = size_of::<f32>() as u64;

/// Encoded rows, ready to be copied into a tensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Number of rows.
    pub rows: usize,
    /// Inputs of one row: the product of [`DataFacts::input_shape`].
    pub width: usize,
    /// Normalized inputs, row after row: `rows x width`; images are `[channels, height, width]`
    /// within a row.
    pub features: Vec<f32>,
    /// One label a row: 0 or 1 (binary), the index of the class (multiclass), the target
    /// (regression). Empty where a source for prediction holds none, NaN where one of its rows has none.
    pub labels: Vec<f32>,
    /// What the loss of each row counts in training; empty where all count 1.
    pub weights: Vec<f32>,
}

impl Table {
    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> u64 {
        let values = self.features.len() + self.labels.len() + self.weights.len();
        ENCODED * values as u64
    }

    /// The inputs of one row.
    ///
    /// # Panics
    /// When `row` is not below [`Table::rows`].
    pub fn row(&self, row: usize) -> &[f32] {
        &self.features[row * self.width..(row + 1) * self.width]
    }

    /// Replaces `out` with the inputs of the rows named, in their order, `rows.len() x width`.
    ///
    /// # Panics
    /// When an index is not below [`Table::rows`].
    pub fn gather(&self, rows: &[u32], out: &mut Vec<f32>) {
        out.clear();
        out.reserve(rows.len() * self.width);
        for &row in rows {
            out.extend_from_slice(self.row(row as usize));
        }
    }

    /// Replaces `out` with the labels of the rows named, in their order.
    ///
    /// # Panics
    /// When an index is not below [`Table::rows`], or the table has no labels.
    pub fn gather_labels(&self, rows: &[u32], out: &mut Vec<f32>) {
        out.clear();
        out.extend(rows.iter().map(|&row| self.labels[row as usize]));
    }
}

impl Table {
    /// Replaces `out` with the weights of the rows named, in their order; with nothing where all count 1.
    ///
    /// # Panics
    /// When an index is not below [`Table::rows`].
    pub fn gather_weights(&self, rows: &[u32], out: &mut Vec<f32>) {
        out.clear();
        if !self.weights.is_empty() {
            out.extend(rows.iter().map(|&row| self.weights[row as usize]));
        }
    }
}

/// A loaded dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// Rows to train on; at least one.
    pub train: Table,
    /// Rows to validate on; at least one where there are any.
    pub validation: Option<Table>,
    /// Rows of the test at the end; at least one where there are any.
    pub test: Option<Table>,
    /// What a server must know, and how inputs and labels are encoded.
    pub facts: DataFacts,
    /// What a user should know but need not mend, a sentence each.
    pub warnings: Vec<String>,
}

/// Rows encoded for prediction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encoded {
    /// The rows; `labels` is empty where the source has no label column.
    pub table: Table,
    /// The targets of a regression as the file has them; `labels` are scaled like the model's outputs.
    pub targets: Vec<f64>,
    /// For text, the texts of each row in the columns that were asked for, row after row.
    pub ids: Vec<String>,
    /// For text, the 1-based line on which each row starts; empty for arrays.
    pub lines: Vec<u64>,
    /// For text, the lines of the rows that [`Missing::DropRow`](crate::Missing) left out.
    pub dropped: Vec<u64>,
}

impl Encoded {
    /// The texts of a row in the columns that were asked for, of which there are so many.
    pub fn ids_of(&self, row: usize, columns: usize) -> &[String] {
        self.ids
            .get(row * columns..(row + 1) * columns)
            .unwrap_or_default()
    }

    /// The label of a row as it is shown: the index of its class, or its target; NaN where it has none. `None` if the
    /// source has no labels.
    pub fn label(&self, row: usize) -> Option<f64> {
        match self.targets.is_empty() {
            true => self.table.labels.get(row).copied().map(f64::from),
            false => self.targets.get(row).copied(),
        }
    }
}

/// Labels read by themselves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labels {
    /// As [`Table::labels`] holds them.
    pub encoded: Vec<f32>,
    /// As [`Encoded::targets`] holds them.
    pub targets: Vec<f64>,
}

/// Zeros for `rows x width` values, or an error where that is more than the limit or the memory.
pub(crate) fn allocate(rows: usize, width: usize, limits: &Limits) -> Result<Vec<f32>, DataError> {
    let too_much = || {
        let problem = format!("{rows} rows of {width} inputs do not fit the memory or the limit");
        DataError::limit(
            problem,
            "use fewer rows or columns, or a machine with more memory",
        )
    };
    let values = rows
        .checked_mul(width)
        .filter(|&n| n as u64 <= limits.values);
    let values = values.ok_or_else(too_much)?;
    limits.check_memory((values as u64).saturating_mul(ENCODED))?;
    // So large a reservation is refused here, where it can be told.
    let mut probe: Vec<f32> = Vec::new();
    probe.try_reserve_exact(values).map_err(|_| too_much())?;
    drop(probe);
    // Memory that the system hands out is zero: whoever writes a row first touches it.
    Ok(vec![0.0; values])
}
