//! Encoding rows for prediction with a fitted schema.

use std::io::Read;

use trainyard_core::schema::{InputKind, InputSchema};

use crate::array::Array;
use crate::columns::{Frame, LabelColumn, Plan};
use crate::error::DataError;
use crate::files::plain;
use crate::options::Limits;
use crate::source::Source;
use crate::table::{Encoded, Labels, Table};

/// Encodes a CSV file for prediction, with the bits that training would give the same rows.
///
/// Columns are found by name, others are ignored. The label column may be absent, and then the table has
/// no labels; where a row's is blank, it is NaN. `name` stands for the file in errors.
///
/// # Errors
/// As [`load`](crate::load()); also if the model's inputs are an array.
pub fn encode_csv(
    schema: &InputSchema,
    name: &str,
    reader: impl Read,
    limits: &Limits,
) -> Result<Encoded, DataError> {
    let InputKind::Columns(input) = &schema.input else {
        let problem = "the model reads arrays, not CSV";
        return Err(DataError::options(problem, "give an NPY or IDX file").in_file(name));
    };
    let frame = plain(reader, limits.file_bytes)
        .and_then(|source| {
            Frame::read(source, input.delimiter, limits, |header| {
                let label = (schema.label.name.as_str(), LabelColumn::Optional);
                Plan::fitted(header, input, label, None, &[], &[], schema.task)
            })
        })
        .map_err(|e| e.in_file(name))?;
    let source = Source::of_frame(name, frame, schema.label.name.clone(), input.into());
    let mut encoded = Encoded::default();
    encoded.warnings.extend(source.filled());
    let rows = source.all_rows();
    encoded.targets = source.targets();
    let beside = limits.beside(source.bytes());
    encoded.table = source.encode(schema, &rows, &beside, &mut encoded.warnings)?;
    (encoded.lines, encoded.dropped) = source.into_lines();
    Ok(encoded)
}

/// Encodes an NPY or IDX array (its first bytes tell) for prediction, with the bits that
/// training would give the same rows. `name` stands for the file in errors.
///
/// # Errors
/// As [`load`](crate::load()); also if the model's inputs are columns.
pub fn encode_array(
    schema: &InputSchema,
    name: &str,
    reader: impl Read,
    limits: &Limits,
) -> Result<Encoded, DataError> {
    let InputKind::Array(input) = &schema.input else {
        let problem = "the model reads named columns, not an array";
        return Err(DataError::options(problem, "give a CSV file").in_file(name));
    };
    let encode = || {
        let array = Array::read(plain(reader, limits.file_bytes)?, None, limits)?;
        array.check_values()?;
        let rows: Vec<u32> = (0..array.rows() as u32).collect();
        let features = array.encode(input, &rows, &limits.beside(array.bytes()))?;
        let table = Table {
            rows: rows.len(),
            width: array.width(),
            features,
            labels: Vec::new(),
            weights: Vec::new(),
        };
        Ok(Encoded {
            table,
            ..Encoded::default()
        })
    };
    encode().map_err(|e: DataError| e.in_file(name))
}

/// Encodes an NPY or IDX array of labels, one a row, as [`Table::labels`] holds them.
///
/// # Errors
/// As [`load`](crate::load()); also for a label that is none of the classes.
pub fn encode_labels(
    schema: &InputSchema,
    name: &str,
    reader: impl Read,
    limits: &Limits,
) -> Result<Labels, DataError> {
    let encode = || {
        let array = Array::read(plain(reader, limits.file_bytes)?, None, limits)?;
        let labels = array.labels(schema.task, limits)?;
        let rows: Vec<u32> = (0..labels.len() as u32).collect();
        let encoded = labels.encode(&schema.label, &rows);
        Ok(Labels {
            encoded: encoded.map_err(|unknown| unknown.error_by_row(&schema.label))?,
            targets: labels.targets(),
        })
    };
    encode().map_err(|e: DataError| e.in_file(name))
}
