//! What a table holds: for a report, and for a first manifest.

use std::fs::File;
use std::io::{Cursor, Read};
use std::os::unix::fs::FileExt;

use serde::Serialize;
use trainyard_core::schema::Encoding;

use crate::columns::{self, PlannedColumn, Reading};
use crate::error::DataError;
use crate::files::{Opened, plain};
use crate::infer::{Summaries, Summary};
use crate::number;
use crate::options::{ColumnType, Limits, TableFormat, TableOptions};
use crate::parquet;
use crate::text::{Fields, Records};

/// Bytes that are looked at to tell the delimiter.
const HEAD: usize = 1 << 16;
/// Values that a report shows of a column.
const SHOWN: usize = 5;
/// Delimiters that are told from a header; of equally frequent ones the first.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// What stands before decimals and between thousands, the likeliest first.
const NOTATIONS: [(u8, Option<u8>); 5] = [
    (b'.', None),
    (b',', None),
    (b',', Some(b'.')),
    (b',', Some(b' ')),
    (b'.', Some(b',')),
];
/// Whole numbers with at most so many different values may be categories.
const FEW_NUMBERS: usize = 10;

/// What a table holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TableReport {
    /// What kind of file it is.
    pub format: TableFormat,
    /// The character between the fields of a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// The character before decimals, if it is no point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decimal: Option<char>,
    /// The character between thousands, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thousands: Option<char>,
    /// How the bytes of a text stand for letters.
    #[serde(skip_serializing_if = "is_utf8")]
    pub encoding: Encoding,
    /// Rows below the header.
    pub rows: u64,
    /// The columns that have a name, in their order.
    pub columns: Vec<ColumnReport>,
    /// Positions, from 1, of the columns without a name.
    pub unnamed: Vec<usize>,
}

fn is_utf8(encoding: &Encoding) -> bool {
    *encoding == Encoding::Utf8
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnReport {
    /// Its name.
    pub name: String,
    /// The type of its values, if there is one that fits.
    #[serde(rename = "type")]
    pub kind: Option<ColumnType>,
    /// How its dates are written.
    pub date_format: Option<String>,
    /// Values that are there.
    pub values: u64,
    /// Values that are missing.
    pub missing: u64,
    /// Values that are numbers.
    pub numbers: u64,
    /// Texts that often stand for a missing value, though they may not here.
    pub markers: Vec<String>,
    /// How many different values there are, if they are at most 1000.
    pub distinct: Option<usize>,
    /// Whether all numbers are whole.
    pub whole: bool,
    /// The least and the greatest number.
    pub range: Option<(f64, f64)>,
    /// The most frequent values and how often they occur; none if there are more than 1000 different ones.
    pub top: Vec<(String, u64)>,
    /// What to do about the column.
    pub advice: Vec<Advice>,
}

/// What to do about a column.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Advice {
    /// It cannot be read.
    #[serde(rename_all = "camelCase")]
    Unreadable {
        /// Where the first value is that does not fit the others.
        line: u64,
        /// What is wrong there.
        problem: String,
    },
    /// These texts seem to stand for missing values.
    MissingValues(Vec<String>),
    /// Its dates could be written in any of these formats.
    DateFormat(Vec<String>),
    /// It numbers the rows, from which nothing can be learned.
    NumbersRows,
    /// It has no value, or a single one.
    Constant,
    /// It has few different whole numbers, or numbers with leading zeros, which may be categories.
    MayBeCategories,
}

/// Tells what a CSV or Parquet file holds; its first bytes tell which it is. A stream is text. The delimiter of a text is told from the header, and the
/// notation of its numbers and its encoding from its first 64 KiB;
/// `missing_values` stand for missing values beside an empty field, `NA` and `NaN`. `name` stands for the file in errors.
///
/// # Errors
/// If it is no such file, with the place.
pub fn inspect_table(
    name: &str,
    opened: Opened,
    missing_values: &[String],
    limits: &Limits,
) -> Result<TableReport, DataError> {
    let mut head = [0; 4];
    let report = match opened {
        Opened::File(file) if file.read_exact_at(&mut head, 0).is_ok() && head == *b"PAR1" => {
            inspect_parquet(file, missing_values, limits)
        }
        Opened::File(file) => inspect_csv(file, missing_values, limits),
        Opened::Stream(stream) => inspect_csv(stream, missing_values, limits),
    };
    report.map_err(|e| e.in_file(name))
}

fn inspect_parquet(
    file: File,
    missing_values: &[String],
    limits: &Limits,
) -> Result<TableReport, DataError> {
    let mut rows = parquet::Rows::open(Opened::File(file), limits)?;
    let readable = rows.table().readable();
    rows.select(&mut readable.iter().copied());
    let options = TableOptions {
        missing_values: missing_values.to_vec(),
        ..TableOptions::parquet("", "")
    };
    let header = rows.header().to_vec();
    let columns = readable.iter().map(|&place| (place, &header[place]));
    report(rows, columns, &options, limits)
}

fn inspect_csv(
    reader: impl Read + Send,
    missing_values: &[String],
    limits: &Limits,
) -> Result<TableReport, DataError> {
    let mut source = plain(reader, limits.file_bytes)?;
    let mut head = Vec::new();
    let read = source.by_ref().take(HEAD as u64).read_to_end(&mut head);
    read.map_err(|e| crate::files::cannot("read", &e))?;
    let options = TableOptions {
        missing_values: missing_values.to_vec(),
        ..TableOptions::csv("", "")
    };
    let options = told_from(&head, options, limits);
    let source = Box::new(Cursor::new(head).chain(source));
    let records = Records::new(source, &Reading::from(&options), limits)?;
    let header = records.header().to_vec();
    let named = header
        .iter()
        .enumerate()
        .filter(|(_, name)| !name.is_empty());
    let unnamed = header.iter().zip(1..).filter(|(name, _)| name.is_empty());
    let is_plain = options.decimal == b'.';
    Ok(TableReport {
        delimiter: Some(char::from(options.delimiter)),
        decimal: (!is_plain).then_some(char::from(options.decimal)),
        thousands: options.thousands.map(char::from),
        encoding: options.encoding,
        unnamed: unnamed.map(|(_, position)| position).collect(),
        ..report(records, named, &options, limits)?
    })
}

/// What the columns hold, each with its place and name.
fn report<'a>(
    rows: impl Fields,
    columns: impl Iterator<Item = (usize, &'a String)>,
    options: &TableOptions,
    limits: &Limits,
) -> Result<TableReport, DataError> {
    let reading = Reading::from(options);
    let columns: Vec<PlannedColumn> = columns
        .map(|(index, name)| PlannedColumn::undeclared(index, name))
        .collect();
    let mut summaries = Summaries::new(&columns, options.format);
    summaries
        .add("", rows, &columns, &reading, limits)
        .map_err(|e| reading.placed(e))?;
    Ok(TableReport {
        format: options.format,
        delimiter: None,
        decimal: None,
        thousands: None,
        encoding: Encoding::Utf8,
        rows: summaries.rows,
        columns: summaries.columns.iter().map(column).collect(),
        unnamed: Vec::new(),
    })
}

/// How a text is written, as its first bytes tell.
fn told_from(head: &[u8], options: TableOptions, limits: &Limits) -> TableOptions {
    let lines = match (head.len(), head.iter().rposition(|byte| *byte == b'\n')) {
        (HEAD, Some(end)) => &head[..=end],
        _ => head,
    };
    let options = TableOptions {
        delimiter: sniff(head),
        encoding: match std::str::from_utf8(lines) {
            Ok(_) => Encoding::Utf8,
            Err(_) => Encoding::Windows1252,
        },
        ..options
    };
    let notations = NOTATIONS
        .into_iter()
        .filter(|(decimal, _)| *decimal != options.delimiter);
    let noted = notations.map(|(decimal, thousands)| {
        let options = TableOptions {
            decimal,
            thousands,
            ..options.clone()
        };
        (numbers_in(lines, &options, limits), options)
    });
    // Of those in which as many columns are numbers, the first.
    let best = noted.reduce(|best, other| if other.0 > best.0 { other } else { best });
    best.map_or(options, |(_, options)| options)
}

/// How many columns of a text are numbers, if it is written like this.
fn numbers_in(lines: &[u8], options: &TableOptions, limits: &Limits) -> usize {
    let reading = Reading::from(options);
    let count = || -> Result<usize, DataError> {
        let records = Records::new(Box::new(Cursor::new(lines)), &reading, limits)?;
        let header = records.header().to_vec();
        let told = report(records, header.iter().enumerate(), options, limits)?;
        let numbers = told
            .columns
            .iter()
            .filter(|column| column.kind == Some(ColumnType::Number));
        Ok(numbers.count())
    };
    count().unwrap_or_default() // what is wrong is told of the whole file
}

/// The delimiter that is most frequent in the first line, outside quotes.
fn sniff(head: &[u8]) -> u8 {
    let mut counts = [0u32; DELIMITERS.len()];
    let mut quoted = false;
    for &byte in head {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' | b'\r' if !quoted => break,
            _ if quoted => {}
            _ => {
                if let Some(place) = DELIMITERS.iter().position(|&delimiter| delimiter == byte) {
                    counts[place] += 1;
                }
            }
        }
    }
    let most = (0..DELIMITERS.len())
        .rev()
        .max_by_key(|&place| counts[place]);
    DELIMITERS[most.unwrap_or(0)]
}

fn column(summary: &Summary) -> ColumnReport {
    let mut advice = Vec::new();
    let formats: Vec<String> = summary
        .date_formats()
        .iter()
        .map(ToString::to_string)
        .collect();
    let (kind, date_format) = match summary.guess() {
        Ok(columns::ColumnType::Number) => (Some(ColumnType::Number), None),
        Ok(columns::ColumnType::Category { .. }) => (Some(ColumnType::Category), None),
        Ok(columns::ColumnType::Boolean) => (Some(ColumnType::Boolean), None),
        Ok(columns::ColumnType::Ordinal(_)) => (Some(ColumnType::Ordinal), None),
        Ok(columns::ColumnType::Date { format, .. }) => {
            (Some(ColumnType::Date), Some(format.to_string()))
        }
        Err(_) if formats.len() > 1 => {
            advice.push(Advice::DateFormat(formats.clone()));
            (Some(ColumnType::Date), formats.first().cloned())
        }
        Err(doubt) => match summary.markers() {
            Some(markers) => {
                advice.push(Advice::MissingValues(markers));
                match summary.date_format() {
                    Some(format) => (Some(ColumnType::Date), Some(format.to_string())),
                    None => (Some(ColumnType::Number), None),
                }
            }
            None => {
                advice.push(Advice::Unreadable {
                    line: doubt.line.unwrap_or_default(),
                    problem: doubt.problem,
                });
                (None, None)
            }
        },
    };
    let distinct = summary.counts.len();
    let few = !summary.many && distinct <= FEW_NUMBERS && 2 * distinct as u64 <= summary.values;
    if summary.numbers_rows() {
        advice.push(Advice::NumbersRows);
    } else if !summary.many && distinct <= 1 {
        advice.push(Advice::Constant);
    } else if kind == Some(ColumnType::Number)
        && summary.whole
        && (few && distinct > 2 || summary.leading_zero)
    {
        advice.push(Advice::MayBeCategories);
    }
    ColumnReport {
        name: summary.name.clone(),
        kind,
        date_format,
        values: summary.values,
        missing: summary.missing,
        numbers: summary.numbers,
        markers: summary.marks().cloned().collect(),
        whole: summary.whole,
        distinct: (!summary.many).then_some(distinct),
        range: summary.range,
        top: top(summary),
        advice,
    }
}

/// The most frequent values. Of many only the first to occur were counted, so there are none.
fn top(summary: &Summary) -> Vec<(String, u64)> {
    let mut top: Vec<(String, u64)> = summary
        .counts
        .iter()
        .map(|(text, count)| (text.clone(), *count))
        .collect();
    let value = |text: &str| number::parse(text).unwrap_or(f64::INFINITY);
    top.sort_by(|(a, times_a), (b, times_b)| {
        times_b
            .cmp(times_a)
            .then(value(a).total_cmp(&value(b)))
            .then(a.cmp(b))
    });
    top.truncate(if summary.many { 0 } else { SHOWN });
    top
}
