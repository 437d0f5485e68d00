//! Rows made from a schema: what a program must make of them tells whether it reads, encodes and computes as another does.
//!
//! They are ordinary values around those of the training rows, every category, what is missing or unknown, and what is wrong. No
//! training row is among them.

use trainyard_core::schema::{ArrayInput, Column, ColumnKind, ColumnsInput};

use crate::array::Dtype;
use crate::cells::Cells;
use crate::date::DateFormat;

/// The most rows.
const MOST: usize = 256;
/// The most rows of ordinary values; the others have one that is missing, unknown or wrong.
const ORDINARY: usize = 128;
/// The most cells of all rows together, and the most inputs that they become.
const VALUES: usize = 1 << 20;
/// Places of numbers, in deviations from the mean.
const DEVIATIONS: [f64; 7] = [0.0, 1.0, -1.0, 0.25, -2.0, 3.0, -0.5];
/// Days between the date that stands for a missing one and others.
const DAYS: [i64; 7] = [0, 1, -1, 40, -400, 1461, 6];

/// Rows of texts for a model of named columns.
pub fn golden_cells(input: &ColumnsInput) -> Cells {
    let columns = &input.columns;
    let most = (VALUES / columns.len().max(input.width()).max(1)).clamp(1, MOST);
    let values: Vec<Vec<String>> = columns
        .iter()
        .map(|column| ordinary(column, input))
        .collect();
    let longest = values.iter().map(Vec::len).max().unwrap_or(1);
    // Each column goes on at its own pace, so that values meet in many ways.
    let row = |place: usize| -> Vec<String> {
        let cells = values.iter().zip(0..);
        let cells = cells.map(|(values, column): (_, usize)| {
            values[(place + place / values.len() * column) % values.len()].clone()
        });
        cells.collect()
    };
    let ordinary = longest.max(DEVIATIONS.len()).min(ORDINARY).min(most);
    let mut rows: Vec<Vec<String>> = (0..ordinary).map(row).collect();
    let special: Vec<Vec<String>> = columns
        .iter()
        .map(|column| special(column, input))
        .collect();
    let kinds = special.iter().map(Vec::len).max().unwrap_or(0);
    'all: for kind in 0..kinds {
        for (column, texts) in special.iter().enumerate() {
            let Some(text) = texts.get(kind) else {
                continue;
            };
            if rows.len() == most {
                break 'all;
            }
            let mut changed = row(rows.len());
            changed[column].clone_from(text);
            rows.push(changed);
        }
    }
    Cells {
        columns: columns.iter().map(|column| column.name.clone()).collect(),
        rows,
    }
}

/// Texts that rows for a prediction have in a column.
fn ordinary(column: &Column, input: &ColumnsInput) -> Vec<String> {
    let number = |value: f64| {
        let text = value.to_string();
        match input.decimal {
            b'.' => text,
            decimal => text.replace('.', &char::from(decimal).to_string()),
        }
    };
    let texts = match &column.kind {
        ColumnKind::Numeric { mean, std, .. } => {
            let values = DEVIATIONS.iter().map(|deviations| mean + deviations * std);
            let finite = values.filter(|value| (*value as f32).is_finite());
            finite.map(number).collect()
        }
        ColumnKind::Categorical { categories, .. } | ColumnKind::Ordinal { categories, .. } => {
            categories.iter().take(ORDINARY).cloned().collect()
        }
        ColumnKind::Boolean { .. } => ["true", "false", "yes", "0"].map(str::to_owned).to_vec(),
        ColumnKind::Date { format, fill, .. } => {
            let format = DateFormat::new(format).ok();
            let write = |days: &i64| {
                format
                    .as_ref()?
                    .write_seconds(fill.trunc() + (days * 86_400) as f64)
            };
            DAYS.iter().filter_map(write).collect()
        }
    };
    match texts.is_empty() {
        true => vec![String::new()],
        false => texts,
    }
}

/// Texts for which there is a rule: what is missing, what training has not seen, what is no value of the type.
fn special(column: &Column, input: &ColumnsInput) -> Vec<String> {
    let mut texts = vec![String::new()];
    texts.push(match &column.kind {
        ColumnKind::Categorical {
            categories,
            numeric,
            ..
        } => {
            let mut unseen = if *numeric { "-98765.25" } else { "unseen" }.to_owned();
            while categories.contains(&unseen) {
                unseen.push('1');
            }
            unseen
        }
        _ => "no such value".to_owned(),
    });
    texts.extend(input.missing_values.first().cloned());
    texts
}

/// Values of rows of an array, as a file of its kind has them.
#[derive(Clone, Debug, PartialEq)]
pub struct RawArray {
    /// `u1` for bytes, `f4` for single-precision numbers in little-endian order.
    pub dtype: String,
    /// Rows, and the shape of one.
    pub shape: Vec<u64>,
    /// The elements, row after row.
    pub bytes: Vec<u8>,
}

/// Rows of numbers for a model of arrays: bytes if it was trained on bytes, else f32.
pub fn golden_array(input: &ArrayInput) -> RawArray {
    let width = input.width().max(1);
    let rows = (VALUES / width).clamp(1, MOST / 8);
    let group = (width / input.mean.len().max(1)).max(1);
    let is_bytes = input.dtype == Dtype::U8.name();
    let mut bytes = Vec::new();
    for element in 0..rows * width {
        let (row, place) = (element / width, element % width);
        let (mean, std) = (input.mean[place / group], input.std[place / group]);
        // Differs from row to row and from place to place, without a pattern that channels or columns share.
        let deviations = DEVIATIONS[(place * 5 + place / 7 + row * 3 + row / 7) % DEVIATIONS.len()];
        let value = mean + deviations * std;
        match is_bytes {
            true => bytes.push(value.round().clamp(0.0, 255.0) as u8),
            false => bytes.extend(
                (value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32).to_le_bytes(),
            ),
        }
    }
    let dtype = if is_bytes { Dtype::U8 } else { Dtype::F32 };
    RawArray {
        dtype: dtype.name().to_owned(),
        shape: [&[rows as u64], &input.shape[..]].concat(),
        bytes,
    }
}
