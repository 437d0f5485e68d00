mod encode;
mod fit;
mod plan;
mod read;
mod training;
mod values;

use std::sync::Arc;

pub(crate) use encode::Unknown;
pub(crate) use plan::{InferredTypes, LabelColumn, Plan, PlannedColumn, SplitColumn};
pub(crate) use values::{ColumnType, NO_CATEGORY, RawValues, pairs_of};

use trainyard_core::schema::{ColumnsInput, Encoding, Missing};

use crate::classes::RawLabels;
use crate::error::DataError;
use crate::number::{self, Notation};
use crate::options::{MissingPolicy, TableFormat, TableOptions};
use crate::table::ENCODED;

/// How the fields of a file are read.
#[derive(Clone)]
pub(crate) struct Reading {
    /// What kind of file it is.
    pub format: TableFormat,
    /// The byte between fields.
    pub delimiter: u8,
    /// How numbers are written.
    pub notation: Notation,
    /// How bytes stand for letters.
    pub encoding: Encoding,
    /// Whether there is no header.
    pub headerless: bool,
    /// What to do about missing values in columns that have no policy of their own, and about missing labels.
    pub missing: Missing,
    /// Whether `NA` and `NaN` are missing in a categorical column too.
    pub na_is_missing: bool,
    /// Whether columns without a name are used.
    pub unnamed: bool,
    /// Further texts that stand for a missing value.
    pub missing_values: Arc<[String]>,
}

impl From<&TableOptions> for Reading {
    fn from(options: &TableOptions) -> Self {
        Reading {
            format: options.format,
            delimiter: options.delimiter,
            notation: Notation {
                decimal: options.decimal,
                thousands: options.thousands,
            },
            encoding: options.encoding,
            headerless: options.headerless,
            missing: match options.missing {
                MissingPolicy::Error => Missing::Error,
                MissingPolicy::Mean => Missing::Mean,
                // Each column has a policy of its own; what is left is the label.
                MissingPolicy::DropRow | MissingPolicy::Impute => Missing::DropRow,
            },
            na_is_missing: options.na_is_missing,
            unnamed: options.unnamed,
            missing_values: options
                .missing_values
                .iter()
                .map(|text| text.trim().to_owned())
                .collect(),
        }
    }
}

impl From<&ColumnsInput> for Reading {
    fn from(input: &ColumnsInput) -> Self {
        Reading {
            format: TableFormat::Csv,
            delimiter: input.delimiter,
            notation: Notation {
                decimal: input.decimal,
                thousands: input.thousands,
            },
            encoding: input.encoding,
            headerless: input.headerless,
            missing: input.missing,
            na_is_missing: input.na_is_missing,
            unnamed: input.unnamed,
            missing_values: input.missing_values.as_slice().into(),
        }
    }
}

impl Reading {
    /// How a file of this format is read with the columns of a fit. In Parquet numbers are not written as in a text.
    pub(crate) fn fitted(input: &ColumnsInput, format: TableFormat) -> Self {
        let text = Self::from(input);
        match format {
            TableFormat::Csv => text,
            TableFormat::Parquet => Self {
                format,
                notation: Notation::PLAIN,
                headerless: false,
                ..text
            },
        }
    }

    /// An error whose line, if it has one, is that of a record.
    pub(crate) fn placed(&self, error: DataError) -> DataError {
        match self.format {
            TableFormat::Csv => error,
            TableFormat::Parquet => error.by_row(),
        }
    }

    /// The place of an error in the header.
    pub(crate) fn in_header(&self, error: DataError) -> DataError {
        match self.format {
            TableFormat::Csv => error.on_line(1),
            TableFormat::Parquet => error,
        }
    }

    /// Whether every number stands for itself, as a number or written as one.
    fn is_direct(&self, is_number: bool) -> bool {
        (is_number || self.notation == Notation::PLAIN) && self.missing_values.is_empty()
    }

    /// Whether a number, a label or the like is missing.
    pub(crate) fn is_missing(&self, text: &str) -> bool {
        number::is_missing(text) || self.missing_values.iter().any(|value| value == text)
    }

    /// Whether the value of a column of this type is missing.
    pub(crate) fn is_missing_in(&self, kind: &ColumnType, text: &str) -> bool {
        match kind {
            ColumnType::Category { .. } if !self.na_is_missing => {
                text.is_empty() || self.missing_values.iter().any(|value| value == text)
            }
            _ => self.is_missing(text),
        }
    }
}

/// The columns of a file as read, before any encoding.
pub(crate) struct Frame {
    /// Input columns, as the plan orders them.
    pub columns: Vec<RawColumn>,
    /// Labels, if the plan has a label column.
    pub labels: Option<RawLabels>,
    /// What each row counts in training, if the plan has a column for it.
    pub weights: Option<Vec<f64>>,
    /// The columns that splits go by.
    pub split: Vec<RawColumn>,
    /// The texts of each row in the columns that are kept, row after row.
    pub ids: Vec<String>,
    /// Line on which each row starts.
    pub lines: Vec<u64>,
    /// Lines of the rows left out for a missing value.
    pub dropped: Vec<u64>,
    /// The files that the rows are of, if they are of several.
    files: Vec<FileRows>,
    /// What the user should know: first what the plan says.
    pub warnings: Vec<String>,
    /// How many of these are the plan's.
    planned_warnings: usize,
    /// The header of the first file.
    header: Arc<[String]>,
    /// Whether `lines` are the places of rows, from 0.
    by_row: bool,
    /// Bytes of all categories' and classes' names.
    names: u64,
}

/// The rows of one of several files.
struct FileRows {
    name: String,
    /// The first of its rows.
    row: usize,
    /// The first of its rows that were left out, among those of all files.
    dropped: usize,
}

/// One input column.
pub(crate) struct RawColumn {
    /// What was planned for it.
    pub planned: PlannedColumn,
    /// Its values.
    pub values: RawValues,
}

impl RawColumn {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.planned.name
    }
}

impl Frame {
    /// The rows that come next are of this file, of several.
    fn begin_file(&mut self, name: &str) {
        self.files.push(FileRows {
            name: name.to_owned(),
            row: self.lines.len(),
            dropped: self.dropped.len(),
        });
    }

    /// The file of a row, if there are several.
    fn file_of(&self, row: usize) -> Option<&str> {
        let file = self.files.iter().rfind(|file| file.row <= row);
        file.map(|file| file.name.as_str())
    }

    /// The place of the first row that was left out, in words.
    pub(crate) fn first_dropped(&self) -> Option<String> {
        let line = self.dropped.first()?;
        let file = self.files.iter().rfind(|file| file.dropped == 0);
        let place = self.place(*line);
        Some(match file {
            Some(file) => format!("{place} of {}", file.name),
            None => place,
        })
    }

    /// A line, or the place of a row, in words.
    fn place(&self, line: u64) -> String {
        match self.by_row {
            true => format!("row {line} (from 0)"),
            false => format!("line {line}"),
        }
    }

    /// No rows yet.
    pub(crate) fn empty(plan: &Plan) -> Self {
        let raw = |planned: &PlannedColumn| RawColumn {
            planned: planned.clone(),
            values: planned.kind.values(),
        };
        Self {
            columns: plan.columns.iter().map(raw).collect(),
            split: plan.split.iter().map(raw).collect(),
            labels: plan.label.as_ref().map(|_| RawLabels::new(plan.task)),
            weights: plan.weight.as_ref().map(|_| Vec::new()),
            ids: Vec::new(),
            lines: Vec::new(),
            dropped: Vec::new(),
            files: Vec::new(),
            warnings: plan.warnings.clone(),
            planned_warnings: plan.warnings.len(),
            header: Arc::clone(&plan.header),
            by_row: plan.reading.format == TableFormat::Parquet,
            names: 0,
        }
    }

    /// Bytes that a row takes, as read and encoded. A category is encoded as at least one input; more are
    /// counted when it is known how many.
    fn row_bytes(&self) -> u64 {
        let values: u64 = self
            .columns
            .iter()
            .map(|column| column.values.value_bytes() + ENCODED)
            .sum();
        let (line, label) = (size_of::<u64>() as u64, size_of::<f64>() as u64);
        values + line + label
    }

    /// Bytes that its rows hold as read, and the names of categories.
    pub(crate) fn bytes(&self) -> u64 {
        let value = |column: &RawColumn| column.values.value_bytes() * column.values.len() as u64;
        let lines = size_of_val(&self.lines[..]) + size_of_val(&self.dropped[..]);
        self.columns.iter().map(value).sum::<u64>() + lines as u64 + self.names
    }
}
