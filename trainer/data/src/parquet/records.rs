//! Rows one at a time, as a text would have them.

use std::cell::OnceCell;
use std::sync::Arc;

use super::Table;
use super::cells::{Cells, Cursor};
use crate::error::DataError;
use crate::files::Opened;
use crate::number;
use crate::options::Limits;
use crate::text::Fields;

/// Rows that are decoded at once.
const ROWS: usize = 4096;

/// The rows of a table, with the columns that were [selected](Fields::select).
pub(crate) struct Rows {
    table: Arc<Table>,
    /// For each column of the file, if it was selected.
    columns: Vec<Option<Column>>,
    /// Rows of the current part.
    part: usize,
    /// The place of the current row in it.
    at: usize,
    /// Rows before the current part.
    before: u64,
    /// Whether there is a current row.
    has_begun: bool,
}

struct Column {
    cursor: Cursor,
    cells: Cells,
    /// The text of the current row, if it was asked for.
    text: OnceCell<Vec<u8>>,
}

impl Rows {
    /// The rows of a file; no column is selected.
    ///
    /// # Errors
    /// As of [`Table::open`].
    pub(crate) fn open(opened: Opened, limits: &Limits) -> Result<Self, DataError> {
        let table = Table::open(opened, limits)?;
        Ok(Self {
            columns: table.header.iter().map(|_| None).collect(),
            table: Arc::new(table),
            part: 0,
            at: 0,
            before: 0,
            has_begun: false,
        })
    }

    /// The table.
    pub(crate) fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The names of the columns.
    pub(crate) fn header(&self) -> &[String] {
        self.table.header()
    }

    /// Decodes the next part of each column.
    fn decode(&mut self) -> Result<(), DataError> {
        self.before += self.part as u64;
        let mut rows = None;
        for (column, name) in self.columns.iter_mut().zip(&self.table.header) {
            let Some(column) = column else { continue };
            let cells = column.cursor.next(ROWS).map_err(|e| e.in_column(name))?;
            column.cells = cells.unwrap_or(Cells::Numbers(Vec::new()));
            let found = column.cells.len();
            if rows.is_some_and(|rows| rows != found) {
                return Err(super::unequal().in_column(name));
            }
            rows = Some(found);
        }
        self.part = rows.unwrap_or_default();
        self.at = 0;
        Ok(())
    }
}

impl Fields for Rows {
    fn select(&mut self, columns: &mut dyn Iterator<Item = usize>) {
        for place in columns {
            self.columns[place].get_or_insert_with(|| Column {
                cursor: Cursor::new(Arc::clone(&self.table), place),
                cells: Cells::Numbers(Vec::new()),
                text: OnceCell::new(),
            });
        }
    }

    fn next(&mut self) -> Result<Option<u64>, DataError> {
        self.at += usize::from(self.has_begun);
        self.has_begun = true;
        if self.at >= self.part {
            self.decode()?;
        }
        for column in self.columns.iter_mut().flatten() {
            column.text.take();
        }
        let is_over = self.part == 0;
        self.has_begun = !is_over;
        Ok((!is_over).then_some(self.before + self.at as u64))
    }

    fn bytes(&self, index: usize) -> &[u8] {
        let Some(Some(column)) = self.columns.get(index) else {
            return &[];
        };
        let text = || column.cells.text(self.at).unwrap_or_default().into_owned();
        column.text.get_or_init(text)
    }

    fn number(&self, index: usize) -> Option<f64> {
        match &self.columns.get(index)?.as_ref()?.cells {
            Cells::Numbers(values) => {
                let value = values.get(self.at).copied()?;
                number::check(value).is_ok().then_some(value)
            }
            _ => None,
        }
    }
}
