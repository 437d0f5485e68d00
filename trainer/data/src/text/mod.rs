//! Strict, bounded reading of CSV records.
//!
//! A file is cut into [`Blocks`] of whole records, and a [`Cursor`] reads the fields of a block. What is not as the rules
//! have it is refused: a quote that is never closed (the rest of the file would be one field), text after a closing
//! quote, NUL bytes, records without bound.

mod blocks;
mod cursor;
mod encoding;

use std::collections::HashSet;
use std::io::Read;

pub(crate) use blocks::Blocks;
pub(crate) use cursor::{Cursor, Format};

use crate::columns::Reading;
use crate::error::{DataError, excerpt, quoted};
use crate::number;
use crate::options::Limits;

/// Records with their fields, one at a time.
pub(crate) trait Fields {
    /// Names the columns that will be asked for.
    fn select(&mut self, _: &mut dyn Iterator<Item = usize>) {}

    /// Moves to the next record and returns the line it starts on.
    fn next(&mut self) -> Result<Option<u64>, DataError>;

    /// A field of the current record, as it is.
    fn bytes(&self, index: usize) -> &[u8];

    /// The number that a field of the current record is, if that can be told quickly.
    fn number(&self, index: usize) -> Option<f64> {
        number::quick(self.bytes(index))
    }

    /// Whether a field is a number by itself, and not a text that is written in a notation.
    fn is_number(&self, _: usize) -> bool {
        false
    }

    /// A field of the current record, without surrounding blanks.
    fn field(&self, index: usize) -> Result<&str, DataError> {
        let bytes = self.bytes(index);
        std::str::from_utf8(bytes).map(str::trim).map_err(|_| {
            let shown = excerpt(&String::from_utf8_lossy(bytes));
            DataError::data(format!("\"{shown}\" is not UTF-8"), UTF8_REMEDY)
        })
    }
}

/// Records of a CSV file after its header.
pub(crate) struct Records<'a> {
    blocks: Blocks<'a>,
    /// The block that is read.
    cursor: Cursor,
    header: Vec<String>,
    /// The line of the current record, if it is a row that nobody has asked for: the first of a file without a header.
    waiting: Option<u64>,
}

impl<'a> Records<'a> {
    /// Reads the header, or without one the first row. Errors name lines and columns; the caller adds the file.
    pub(crate) fn new(
        source: Box<dyn Read + Send + 'a>,
        reading: &Reading,
        limits: &Limits,
    ) -> Result<Self, DataError> {
        let delimiter = reading.delimiter;
        if !delimiter.is_ascii() || matches!(delimiter, b'"' | b'\r' | b'\n' | 0) {
            return Err(DataError::options(
                format!("0x{delimiter:02x} cannot be the delimiter"),
                "use a character such as \",\", \";\" or a tab",
            ));
        }
        let format = Format::new(delimiter, reading.encoding, limits);
        let mut records = Self {
            blocks: Blocks::new(source, delimiter, limits)?,
            cursor: Cursor::new(blocks::Block::default(), format),
            header: Vec::new(),
            waiting: None,
        };
        match reading.headerless {
            false => records.read_header()?,
            true => records.count_columns()?,
        }
        records.cursor.expect(records.header.len());
        Ok(records)
    }

    /// Names of the columns.
    pub(crate) fn header(&self) -> &[String] {
        &self.header
    }

    /// What is not read yet: the rest of a block, and the blocks that follow. No row may wait.
    pub(crate) fn into_blocks(self) -> (Cursor, Blocks<'a>) {
        (self.cursor, self.blocks)
    }

    fn read_header(&mut self) -> Result<(), DataError> {
        let remedy = "the first line must name the columns";
        let Some(line) = self.advance()? else {
            return Err(DataError::data("the file is empty", remedy));
        };
        let mut names = HashSet::new();
        for index in 0..self.cursor.len() {
            let Ok(name) = std::str::from_utf8(self.cursor.bytes(index)) else {
                let problem = format!("the name of column {} is not UTF-8", index + 1);
                return Err(DataError::data(problem, UTF8_REMEDY).on_line(line));
            };
            let name = name.trim().to_owned();
            // Columns without a name are left out.
            if !name.is_empty() && !names.insert(name.clone()) {
                let problem = format!("two columns are named {}", quoted(&name));
                return Err(DataError::data(problem, "rename one of them").on_line(line));
            }
            self.header.push(name);
        }
        Ok(())
    }

    /// Names the columns by their positions in the first row.
    fn count_columns(&mut self) -> Result<(), DataError> {
        self.waiting = self.advance()?;
        if self.waiting.is_none() {
            return Err(DataError::data("the file is empty", "add rows"));
        }
        let positions = 1..=self.cursor.len();
        self.header = positions
            .map(|position| format!("column {position}"))
            .collect();
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<u64>, DataError> {
        loop {
            if let Some(line) = self.cursor.next()? {
                return Ok(Some(line));
            }
            match self.blocks.next()? {
                None => return Ok(None),
                Some(block) => self.cursor = Cursor::new(block, self.cursor.format()),
            }
        }
    }
}

impl Fields for Records<'_> {
    fn next(&mut self) -> Result<Option<u64>, DataError> {
        match self.waiting.take() {
            Some(line) => Ok(Some(line)),
            None => self.advance(),
        }
    }

    fn bytes(&self, index: usize) -> &[u8] {
        self.cursor.bytes(index)
    }
}

const UTF8_REMEDY: &str =
    "save the file as UTF-8, or set `encoding` to Windows1252 or Latin1 if it is one of them";
