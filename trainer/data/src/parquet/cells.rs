//! The values of a column, decoded.

use std::borrow::Cow;
use std::sync::Arc;

use parquet::basic::Type as Physical;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType, DoubleType, FixedLenByteArray, Int96};
use parquet::errors::Result;
use parquet::file::reader::FileReader;

use super::{Leaf, Number, Table, decode};
use crate::date::iso_text;
use crate::error::DataError;

/// Values of some rows, one a row.
pub(super) enum Cells {
    /// NaN where missing.
    Numbers(Vec<f64>),
    /// 0 or 1; NaN where missing.
    Booleans(Vec<f64>),
    /// Seconds since 1970-01-01T00:00:00 UTC; NaN where missing.
    Dates(Vec<f64>),
    Texts(Vec<Option<ByteArray>>),
}

impl Cells {
    /// The text of a value as it would stand in a CSV file; none if it is missing.
    pub(super) fn text(&self, row: usize) -> Option<Cow<'_, [u8]>> {
        let number = |values: &[f64]| values.get(row).copied().filter(|value| !value.is_nan());
        let owned = |text: String| Some(Cow::Owned(text.into_bytes()));
        match self {
            Self::Texts(texts) => Some(Cow::Borrowed(texts.get(row)?.as_ref()?.data())),
            Self::Numbers(values) => owned(number(values)?.to_string()),
            Self::Booleans(values) => Some(Cow::Borrowed(match number(values)? == 0.0 {
                true => b"false",
                false => b"true",
            })),
            Self::Dates(values) => owned(iso_text(number(values)?)),
        }
    }

    /// Rows.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Numbers(values) | Self::Booleans(values) | Self::Dates(values) => values.len(),
            Self::Texts(texts) => texts.len(),
        }
    }
}

/// Decodes a column, some rows at a time.
pub(super) struct Cursor {
    table: Arc<Table>,
    leaf: usize,
    /// The row group that comes next.
    group: usize,
    reader: Option<ColumnReader>,
    /// Room for the levels of rows.
    levels: Vec<i16>,
}

impl Cursor {
    /// At its beginning.
    pub(super) fn new(table: Arc<Table>, leaf: usize) -> Self {
        Self {
            table,
            leaf,
            group: 0,
            reader: None,
            levels: Vec::new(),
        }
    }

    /// The next rows of the column, at most `most`; none at its end.
    ///
    /// # Errors
    /// If the column holds what is not read here, or the file is damaged.
    pub(super) fn next(&mut self, most: usize) -> std::result::Result<Option<Cells>, DataError> {
        self.decode(|reader, leaf, max_def| cells(reader, leaf, max_def, most))
    }

    /// Adds the next rows of a column of 64-bit floats, at most `most`, with NaN where they are missing; how many, and none at
    /// its end. They are decoded to where they stay.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub(super) fn append_floats(
        &mut self,
        most: usize,
        out: &mut Vec<f64>,
    ) -> std::result::Result<Option<usize>, DataError> {
        let mut levels = std::mem::take(&mut self.levels);
        let added = self.decode(|reader, _, max_def| match reader {
            ColumnReader::DoubleColumnReader(reader) => {
                levels.clear();
                floats(reader, max_def, most, &mut levels, out)
            }
            _ => Ok(None),
        });
        self.levels = levels;
        added
    }

    /// Whether the column has 64-bit floats.
    pub(super) fn has_floats(&self) -> bool {
        let schema = self.table.reader.metadata().file_metadata().schema_descr();
        let is_double = schema.column(self.leaf).physical_type() == Physical::DOUBLE;
        is_double && self.table.leaves[self.leaf] == Leaf::Number(Number::Float)
    }

    /// What `work` makes of the next values of a row group that has some left; none at the end of the column.
    fn decode<T>(
        &mut self,
        mut work: impl FnMut(&mut ColumnReader, Leaf, i16) -> Result<Option<T>>,
    ) -> std::result::Result<Option<T>, DataError> {
        let leaf = self.table.leaves[self.leaf];
        if let Leaf::Other(what) = leaf {
            let problem = format!("the column {what}, which cannot be an input");
            return Err(DataError::data(problem, "list it under `exclude`"));
        }
        loop {
            if let Some(reader) = &mut self.reader {
                let max_def = self.table.max_def(self.leaf);
                if let Some(made) = decode(|| work(reader, leaf, max_def))? {
                    return Ok(Some(made));
                }
            }
            if self.group == self.table.reader.num_row_groups() {
                return Ok(None);
            }
            let (group, place) = (self.group, self.leaf);
            let reader = &self.table.reader;
            self.reader = Some(decode(|| {
                reader.get_row_group(group)?.get_column_reader(place)
            })?);
            self.group += 1;
        }
    }
}

impl Table {
    /// The level of a value that is there.
    fn max_def(&self, leaf: usize) -> i16 {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        schema.column(leaf).max_def_level()
    }
}

fn cells(
    reader: &mut ColumnReader,
    leaf: Leaf,
    max_def: i16,
    most: usize,
) -> Result<Option<Cells>> {
    let unsigned = leaf == Leaf::Number(Number::Unsigned);
    let scale = match leaf {
        Leaf::Number(Number::Decimal(scale)) => Some(scale),
        _ => None,
    };
    let numbers = match reader {
        ColumnReader::BoolColumnReader(reader) => {
            numbers(reader, max_def, most, |value| f64::from(u8::from(*value)))
        }
        ColumnReader::Int32ColumnReader(reader) => {
            numbers(reader, max_def, most, |value| match (unsigned, scale) {
                (true, _) => f64::from(*value as u32),
                (false, Some(scale)) => decimal((*value).into(), scale),
                (false, None) => f64::from(*value),
            })
        }
        ColumnReader::Int64ColumnReader(reader) => {
            numbers(reader, max_def, most, |value| match (unsigned, scale) {
                (true, _) => *value as u64 as f64,
                (false, Some(scale)) => decimal((*value).into(), scale),
                (false, None) => *value as f64,
            })
        }
        ColumnReader::Int96ColumnReader(reader) => {
            numbers(reader, max_def, most, |value: &Int96| {
                value.to_nanos() as f64
            })
        }
        ColumnReader::FloatColumnReader(reader) => {
            numbers(reader, max_def, most, |value| f64::from(*value))
        }
        ColumnReader::DoubleColumnReader(reader) => numbers(reader, max_def, most, |value| *value),
        ColumnReader::ByteArrayColumnReader(reader) if leaf == Leaf::Text => {
            let texts = values(reader, max_def, most)?;
            return Ok(texts.map(Cells::Texts));
        }
        ColumnReader::FixedLenByteArrayColumnReader(reader) if leaf == Leaf::Text => {
            let texts = values(reader, max_def, most)?;
            let plain = |texts: Vec<Option<FixedLenByteArray>>| {
                let texts = texts.into_iter();
                Cells::Texts(texts.map(|text| text.map(ByteArray::from)).collect())
            };
            return Ok(texts.map(plain));
        }
        ColumnReader::ByteArrayColumnReader(reader) => {
            numbers(reader, max_def, most, |value| of_bytes(value.data(), leaf))
        }
        ColumnReader::FixedLenByteArrayColumnReader(reader) => {
            numbers(reader, max_def, most, |value| of_bytes(value.data(), leaf))
        }
    }?;
    Ok(numbers.map(|mut numbers| match leaf {
        Leaf::Boolean => Cells::Booleans(numbers),
        Leaf::Date { per_second } => {
            numbers.iter_mut().for_each(|value| *value /= per_second);
            Cells::Dates(numbers)
        }
        _ => Cells::Numbers(numbers),
    }))
}

/// A number that is stored as bytes.
fn of_bytes(bytes: &[u8], leaf: Leaf) -> f64 {
    match leaf {
        Leaf::Number(Number::Half) => match bytes {
            &[low, high] => half(u16::from_le_bytes([low, high])),
            _ => f64::NAN,
        },
        Leaf::Number(Number::Decimal(scale)) if bytes.len() <= 16 => {
            // Two's complement, the highest byte first.
            let sign = bytes.first().map_or(0, |byte| (*byte as i8 >> 7) as i128);
            let whole = bytes
                .iter()
                .fold(sign, |whole, byte| whole << 8 | i128::from(*byte));
            decimal(whole, scale)
        }
        _ => f64::INFINITY, // refused as a number
    }
}

/// The number with so many decimals, as its text is read.
fn decimal(whole: i128, scale: i32) -> f64 {
    format!("{whole}e{}", -i64::from(scale))
        .parse()
        .unwrap_or(f64::INFINITY)
}

/// A 16-bit float, of IEEE 754.
fn half(bits: u16) -> f64 {
    let (sign, exponent, fraction) = (bits >> 15, bits >> 10 & 0x1f, f64::from(bits & 0x3ff));
    let size = match exponent {
        0 => fraction * 2_f64.powi(-24),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        exponent => (1.0 + fraction / 1024.0) * 2_f64.powi(i32::from(exponent) - 15),
    };
    if sign == 0 { size } else { -size }
}

/// Values as they are stored, none where missing; `None` at the end of a row group.
fn values<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    max_def: i16,
    most: usize,
) -> Result<Option<Vec<Option<T::T>>>> {
    read(reader, max_def, most, Some, || None)
}

/// Values as numbers, NaN where missing; `None` at the end of a row group.
fn numbers<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    max_def: i16,
    most: usize,
    number: impl Fn(&T::T) -> f64,
) -> Result<Option<Vec<f64>>> {
    read(reader, max_def, most, |value| number(&value), || f64::NAN)
}

/// Adds floats, NaN where missing; how many, or none at the end of a row group.
fn floats(
    reader: &mut ColumnReaderImpl<DoubleType>,
    max_def: i16,
    most: usize,
    levels: &mut Vec<i16>,
    out: &mut Vec<f64>,
) -> Result<Option<usize>> {
    let before = out.len();
    let (rows, mut values, _) = reader.read_records(most, Some(&mut *levels), None, out)?;
    if values < rows {
        // From the last on, each goes to the place of its row.
        out.resize(before + rows, f64::NAN);
        for (row, level) in levels.iter().enumerate().rev() {
            let is_there = *level == max_def && values > 0;
            values -= usize::from(is_there);
            out[before + row] = if is_there {
                out[before + values]
            } else {
                f64::NAN
            };
        }
    }
    Ok((rows > 0).then_some(rows))
}

fn read<T: DataType, V>(
    reader: &mut ColumnReaderImpl<T>,
    max_def: i16,
    most: usize,
    of: impl Fn(T::T) -> V,
    missing: impl Fn() -> V,
) -> Result<Option<Vec<V>>> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    let (rows, _, _) = reader.read_records(most, Some(&mut levels), None, &mut values)?;
    if rows == 0 {
        return Ok(None);
    }
    let mut values = values.into_iter().map(of);
    // Without levels every value is there.
    if max_def == 0 {
        return Ok(Some(values.collect()));
    }
    let is_there = levels.iter().map(|level| *level == max_def);
    let of_row = |is_there: bool| match is_there {
        true => values.next().unwrap_or_else(&missing),
        false => missing(),
    };
    Ok(Some(is_there.map(of_row).collect()))
}
