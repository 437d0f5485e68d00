//! Loading: read, split, fit on the training rows, encode.

use std::io::Read;

use trainyard_core::facts::DataFacts;
use trainyard_core::sampling;

use crate::array::Array;
use crate::columns::{Frame, LabelColumn, Plan};
use crate::digest::{digest, schema_json};
use crate::error::{DataError, few};
use crate::files::{Files, plain};
use crate::options::{Limits, LoadOptions, Validation};
use crate::schema::{InputKind, InputSchema};
use crate::source::Source;
use crate::table::{Dataset, Encoded, Table};

/// Reads, splits, fits and encodes what `options` name.
///
/// - A [`Validation::Fraction`] is chosen by [`sampling::split`], from the options' seed alone.
/// - Normalization and categories are fitted on the training rows only. Classes are those of the
///   whole training source, so that the width of the model does not depend on the seed; a class
///   without training rows is warned of.
/// - A [`Validation::Source`] is encoded with the fit. Its CSV options give its URI, label column
///   and delimiter; columns and missing-value policy are the training source's.
///
/// # Errors
/// [`DataError`] names the file, the line and the column where there are any, what was expected
/// and what to do. The first problem of a file is told, and nothing is loaded.
pub fn load(files: &dyn Files, options: &LoadOptions) -> Result<Dataset, DataError> {
    let limits = &options.limits;
    let source = Source::read(files, &options.train, options.task, limits)?;
    let (train_rows, validation_rows) = split(&source, options)?;
    let mut warnings = Vec::new();

    let label = source.fit_label(options.task)?;
    let unseen = source.unseen_classes(&label, &train_rows);
    if !unseen.is_empty() {
        warnings.push(format!(
            "no training row has the class {}; the model cannot learn it (another seed or a \
             smaller validation fraction may help)",
            few(&unseen)
        ));
    }
    let input = source.fit_input(&train_rows, options.normalization, limits)?;
    let schema = InputSchema {
        task: options.task,
        input,
        label,
    };
    let train = source.encode(&schema, &train_rows, limits, &mut warnings)?;
    let validation = match &options.validation {
        Validation::None => None,
        Validation::Fraction(_) => {
            Some(source.encode(&schema, &validation_rows, limits, &mut warnings)?)
        }
        Validation::Source(spec) => {
            drop(source);
            let source = Source::read_fitted(files, spec, &schema, limits)?;
            Some(source.encode(&schema, &source.all_rows(), limits, &mut warnings)?)
        }
    };
    let facts = facts(&schema, &train, validation.as_ref())?;
    Ok(Dataset {
        train,
        validation,
        schema,
        facts,
        warnings,
    })
}

/// Training and validation rows of the training source.
fn split(source: &Source, options: &LoadOptions) -> Result<(Vec<u32>, Vec<u32>), DataError> {
    match options.validation {
        Validation::Fraction(fraction) => {
            sampling::split(options.seed, source.rows() as u64, fraction).map_err(|e| {
                DataError::options(format!("validation fraction: {e}"), "").in_file(source.file())
            })
        }
        _ => Ok((source.all_rows(), Vec::new())),
    }
}

fn facts(
    schema: &InputSchema,
    train: &Table,
    validation: Option<&Table>,
) -> Result<DataFacts, DataError> {
    let unwritable =
        |e: serde_json::Error| DataError::data(format!("cannot write the input schema: {e}"), "");
    let tables: Vec<&Table> = std::iter::once(train).chain(validation).collect();
    Ok(DataFacts {
        train_rows: train.rows as u64,
        validation_rows: validation.map_or(0, |table| table.rows as u64),
        input_shape: schema.input_shape(),
        outputs: schema.outputs(),
        digest: digest(&schema_json(schema).map_err(unwritable)?, &tables),
        schema: serde_json::to_value(schema).map_err(unwritable)?,
    })
}

impl InputSchema {
    /// Encodes a CSV file for prediction, with the bits that training would give the same rows.
    ///
    /// Columns are found by name, others are ignored; the label column may be absent, and then
    /// the table has no labels. `name` stands for the file in errors.
    ///
    /// # Errors
    /// As [`load`]; also if the model's inputs are an array.
    pub fn encode_csv(
        &self,
        name: &str,
        reader: impl Read,
        limits: &Limits,
    ) -> Result<Encoded, DataError> {
        let InputKind::Columns(input) = &self.input else {
            let problem = "the model reads arrays, not CSV";
            return Err(DataError::options(problem, "give an NPY or IDX file").in_file(name));
        };
        let frame = plain(reader, limits.file_bytes)
            .and_then(|source| {
                Frame::read(source, input.delimiter, limits, |header| {
                    let label = (self.label.name.as_str(), LabelColumn::Optional);
                    Plan::fitted(header, input, label, self.task)
                })
            })
            .map_err(|e| e.in_file(name))?;
        let (label, missing) = (self.label.name.clone(), input.missing);
        let source = Source::of_frame(name, frame, label, input.delimiter, missing);
        let mut encoded = Encoded::default();
        let rows = source.all_rows();
        encoded.table = source.encode(self, &rows, limits, &mut encoded.warnings)?;
        (encoded.lines, encoded.dropped) = source.into_lines();
        Ok(encoded)
    }

    /// Encodes an NPY or IDX array (its first bytes tell) for prediction, with the bits that
    /// training would give the same rows. `name` stands for the file in errors.
    ///
    /// # Errors
    /// As [`load`]; also if the model's inputs are columns.
    pub fn encode_array(
        &self,
        name: &str,
        reader: impl Read,
        limits: &Limits,
    ) -> Result<Encoded, DataError> {
        let InputKind::Array(input) = &self.input else {
            let problem = "the model reads named columns, not an array";
            return Err(DataError::options(problem, "give a CSV file").in_file(name));
        };
        let encode = || {
            let array = Array::read(plain(reader, limits.file_bytes)?, None, limits)?;
            array.check_values()?;
            let rows: Vec<u32> = (0..array.rows() as u32).collect();
            let features = array.encode(input, &rows, limits)?;
            let table = Table {
                rows: rows.len(),
                width: array.width(),
                features,
                labels: Vec::new(),
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
    /// As [`load`]; also for a label that is none of the classes.
    pub fn encode_labels(
        &self,
        name: &str,
        reader: impl Read,
        limits: &Limits,
    ) -> Result<Vec<f32>, DataError> {
        let encode = || {
            let array = Array::read(plain(reader, limits.file_bytes)?, None, limits)?;
            let labels = array.labels(self.task, limits)?;
            let rows: Vec<u32> = (0..labels.len() as u32).collect();
            labels
                .encode(&self.label, &rows)
                .map_err(|unknown| unknown.error_by_row(&self.label))
        };
        encode().map_err(|e: DataError| e.in_file(name))
    }
}
