//! Rows of texts under the names of columns, as a client has them.

use crate::error::DataError;
use crate::text::Fields;

/// Rows of texts, each as it would stand in a CSV file of the model's kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cells {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The texts of each row, one for each column.
    pub rows: Vec<Vec<String>>,
}

/// Reads rows one after the other.
pub(crate) struct CellRows<'a> {
    rows: &'a [Vec<String>],
    /// Rows so far.
    taken: usize,
}

impl<'a> CellRows<'a> {
    /// Checks that each row has a text for each of so many columns.
    pub(crate) fn new(columns: usize, rows: &'a [Vec<String>]) -> Result<Self, DataError> {
        let mut other = rows.iter().zip(0u64..);
        match other.find(|(row, _)| row.len() != columns) {
            None => Ok(Self { rows, taken: 0 }),
            Some((row, place)) => {
                let problem = format!("expected {columns} values, found {}", row.len());
                Err(DataError::data(problem, "give one for each column").on_line(place))
            }
        }
    }
}

impl Fields for CellRows<'_> {
    /// A row's line is its place, from 0.
    fn next(&mut self) -> Result<Option<u64>, DataError> {
        let is_there = self.taken < self.rows.len();
        self.taken += usize::from(is_there);
        Ok(is_there.then(|| self.taken as u64 - 1))
    }

    fn bytes(&self, index: usize) -> &[u8] {
        let row = self.taken.checked_sub(1).and_then(|row| self.rows.get(row));
        row.and_then(|row| row.get(index))
            .map_or(&[], |cell| cell.as_bytes())
    }
}
