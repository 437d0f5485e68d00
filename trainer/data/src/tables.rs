//! A table, in whichever format it is.

use crate::columns::Reading;
use crate::error::DataError;
use crate::files::{Files, cannot, open};
use crate::options::{Limits, TableFormat};
use crate::parquet;
use crate::text::{Fields, Records};

/// The rows of a file, one at a time.
pub(crate) enum TableRows<'a> {
    Text(Box<Records<'a>>),
    Parquet(parquet::Rows),
}

impl TableRows<'_> {
    /// Opens a file, and reads the names of its columns.
    pub(crate) fn open(
        files: &dyn Files,
        uri: &str,
        reading: &Reading,
        limits: &Limits,
    ) -> Result<Self, DataError> {
        let opened = match reading.format {
            TableFormat::Csv => {
                let source = open(files, uri, limits.file_bytes)?;
                Records::new(source, reading, limits).map(|records| Self::Text(Box::new(records)))
            }
            TableFormat::Parquet => {
                let opened = files.open_anywhere(uri);
                let opened = opened.map_err(|e| cannot("open", &e).in_file(uri))?;
                parquet::Rows::open(opened, limits).map(Self::Parquet)
            }
        };
        opened.map_err(|e| e.in_file(uri))
    }

    /// The names of the columns.
    pub(crate) fn header(&self) -> &[String] {
        match self {
            Self::Text(records) => records.header(),
            Self::Parquet(rows) => rows.header(),
        }
    }
}

impl Fields for TableRows<'_> {
    fn select(&mut self, columns: &mut dyn Iterator<Item = usize>) {
        match self {
            Self::Text(records) => records.select(columns),
            Self::Parquet(rows) => rows.select(columns),
        }
    }

    fn next(&mut self) -> Result<Option<u64>, DataError> {
        match self {
            Self::Text(records) => records.next(),
            Self::Parquet(rows) => rows.next(),
        }
    }

    fn bytes(&self, index: usize) -> &[u8] {
        match self {
            Self::Text(records) => records.bytes(index),
            Self::Parquet(rows) => rows.bytes(index),
        }
    }

    fn number(&self, index: usize) -> Option<f64> {
        match self {
            Self::Text(records) => records.number(index),
            Self::Parquet(rows) => rows.number(index),
        }
    }
}
