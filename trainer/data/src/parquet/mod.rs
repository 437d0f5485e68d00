//! Tables in Apache Parquet.
//!
//! The `parquet` crate decodes. A value stands for what its text would in a CSV file: a table gives the same model in
//! either format.

mod cells;
mod chunks;
mod frame;
mod records;

use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as Physical};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

pub(crate) use records::Rows;

use chunks::Chunks;

use crate::columns::{ColumnType, InferredTypes};
use crate::date::{DateFormat, default_parts};
use crate::error::{DataError, quoted};
use crate::files::Opened;
use crate::options::Limits;

/// A file whose columns can be read.
pub(crate) struct Table {
    reader: SerializedFileReader<Chunks>,
    /// The names of the columns; those within structs have the names of both, with a point between.
    header: Vec<String>,
    leaves: Vec<Leaf>,
    /// Bytes of the file that are held.
    held: u64,
}

/// What the values of a column are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Leaf {
    Number(Number),
    Boolean,
    /// Seconds since 1970-01-01T00:00:00 UTC, after a division.
    Date {
        per_second: f64,
    },
    Text,
    /// Several values a row, or something else that is not read here.
    Other(&'static str),
}

/// How a number is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Signed,
    Unsigned,
    Float,
    Half,
    /// Divided by this power of ten.
    Decimal(i32),
}

impl Table {
    /// Reads what the file says of its columns.
    ///
    /// # Errors
    /// If it is no Parquet file, or damaged.
    pub(crate) fn open(opened: Opened, limits: &Limits) -> Result<Self, DataError> {
        let chunks = Chunks::new(opened, limits)?;
        let held = chunks.held();
        decode(|| {
            let reader = SerializedFileReader::new(chunks)?;
            let schema = reader.metadata().file_metadata().schema_descr();
            let columns = schema.columns().iter();
            let header = columns.clone().map(|column| column.path().string());
            let header: Vec<String> = header.collect();
            let leaves = columns.map(|column| Leaf::of(column)).collect();
            Ok(Self {
                header,
                leaves,
                held,
                reader,
            })
        })
        .and_then(|table: Self| table.checked(limits))
    }

    fn checked(self, limits: &Limits) -> Result<Self, DataError> {
        if self.header.len() > limits.columns {
            let problem = format!("the file has more than {} columns", limits.columns);
            return Err(DataError::limit(problem, "write fewer"));
        }
        let mut names = std::collections::HashSet::new();
        match self.header.iter().find(|name| !names.insert(*name)) {
            Some(name) => {
                let problem = format!("two columns are named {}", quoted(name));
                Err(DataError::data(problem, "rename one of them"))
            }
            None => Ok(self),
        }
    }

    pub(crate) fn header(&self) -> &[String] {
        &self.header
    }

    /// Rows, as the file says.
    pub(crate) fn rows(&self) -> u64 {
        let rows = self.reader.metadata().file_metadata().num_rows();
        u64::try_from(rows).unwrap_or_default()
    }

    /// The types of the columns that are neither numbers nor texts.
    pub(crate) fn types(&self) -> InferredTypes {
        let columns = self.header.iter().zip(&self.leaves);
        let types = columns.filter_map(|(name, leaf)| {
            let kind = match leaf {
                Leaf::Boolean => ColumnType::Boolean,
                Leaf::Date { .. } => ColumnType::Date {
                    parts: default_parts(&DateFormat::Iso8601),
                    format: DateFormat::Iso8601,
                },
                Leaf::Number(_) | Leaf::Text | Leaf::Other(_) => return None,
            };
            Some((name.clone(), kind))
        });
        types.collect()
    }

    /// Places of the columns that can be read.
    pub(crate) fn readable(&self) -> Vec<usize> {
        let leaves = self.leaves.iter().enumerate();
        let readable = leaves.filter(|(_, leaf)| !matches!(leaf, Leaf::Other(_)));
        readable.map(|(place, _)| place).collect()
    }

    /// The columns of text.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &String> {
        let columns = self.header.iter().zip(&self.leaves);
        columns
            .filter(|(_, leaf)| **leaf == Leaf::Text)
            .map(|(name, _)| name)
    }
}

impl Leaf {
    fn of(column: &ColumnDescriptor) -> Self {
        if column.max_rep_level() > 0 {
            return Self::Other("holds lists");
        }
        let per_second = |unit: &TimeUnit| match unit {
            TimeUnit::MILLIS => 1e3,
            TimeUnit::MICROS => 1e6,
            TimeUnit::NANOS => 1e9,
        };
        let logical = column.logical_type_ref();
        match (column.physical_type(), logical, column.converted_type()) {
            (Physical::BOOLEAN, ..) => Self::Boolean,
            (_, Some(LogicalType::Decimal(decimal)), _) => {
                Self::Number(Number::Decimal(decimal.scale))
            }
            (_, None, ConvertedType::DECIMAL) => Self::Number(Number::Decimal(column.type_scale())),
            (Physical::INT32, Some(LogicalType::Date), _)
            | (Physical::INT32, None, ConvertedType::DATE) => Self::Date {
                per_second: 1.0 / 86_400.0,
            },
            (Physical::INT64, Some(LogicalType::Timestamp(time)), _) => Self::Date {
                per_second: per_second(&time.unit),
            },
            (Physical::INT64, None, ConvertedType::TIMESTAMP_MILLIS) => {
                Self::Date { per_second: 1e3 }
            }
            (Physical::INT64, None, ConvertedType::TIMESTAMP_MICROS) => {
                Self::Date { per_second: 1e6 }
            }
            (Physical::INT96, ..) => Self::Date { per_second: 1e9 },
            (Physical::INT32 | Physical::INT64, Some(LogicalType::Integer(int)), _)
                if !int.is_signed =>
            {
                Self::Number(Number::Unsigned)
            }
            (
                Physical::INT32 | Physical::INT64,
                None,
                ConvertedType::UINT_8
                | ConvertedType::UINT_16
                | ConvertedType::UINT_32
                | ConvertedType::UINT_64,
            ) => Self::Number(Number::Unsigned),
            (Physical::INT32 | Physical::INT64, ..) => Self::Number(Number::Signed),
            (Physical::FLOAT | Physical::DOUBLE, ..) => Self::Number(Number::Float),
            (Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Float16), _) => {
                Self::Number(Number::Half)
            }
            (Physical::BYTE_ARRAY, ..) => Self::Text,
            (Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::String), _) => Self::Text,
            (Physical::FIXED_LEN_BYTE_ARRAY, ..) => Self::Other("holds bytes"),
        }
    }
}

/// Runs what decodes a file. The crate panics on some damaged files, which must not end the process.
fn decode<T>(work: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T, DataError> {
    let damaged = |why: String| {
        let problem = format!("the file is no Parquet, or damaged: {why}");
        DataError::data(problem, "write it anew")
    };
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(decoded)) => Ok(decoded),
        Ok(Err(error)) => Err(damaged(crate::error::excerpt(&error.to_string()))),
        Err(_) => Err(damaged("its parts do not fit together".into())),
    }
}

/// Columns of one table have as many rows each.
fn unequal() -> DataError {
    let problem = "the file is damaged: the column has not as many rows as the file says";
    DataError::data(problem, "write it anew")
}
