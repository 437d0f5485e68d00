//! Loading: read, split, fit on the training rows, encode.

use trainyard_core::facts::DataFacts;
use trainyard_core::sampling;
use trainyard_core::schema::InputSchema;

use crate::digest::{digest, schema_json};
use crate::error::DataError;
use crate::files::Files;
use crate::given;
use crate::options::{LoadOptions, Validation};
use crate::source::Source;
use crate::table::{Dataset, Table};
use crate::warnings;

/// Reads, splits, fits and encodes what `options` name.
///
/// - A [`Validation::Fraction`] is chosen by [`sampling::split`], from the options' seed alone.
/// - Normalization and categories are fitted on the training rows only. Classes are those of the
///   whole training source, so that the width of the model does not depend on the seed; a class
///   without training rows is warned of.
/// - With a [`schema`](LoadOptions::schema) nothing is fitted: rows become what they would become for a
///   prediction, and a label that it does not know is refused.
/// - A [`Validation::Source`] is encoded with the fit. Its CSV options give its URI, label column
///   and delimiter; columns and missing-value policy are the training source's.
///
/// # Errors
/// [`DataError`] names the file, the line and the column where there are any, what was expected
/// and what to do. The first problem of a file is told, and nothing is loaded.
pub fn load(files: &dyn Files, options: &LoadOptions) -> Result<Dataset, DataError> {
    let limits = &options.limits;
    let given = match &options.schema {
        Some(schema) => Some(given::adapted(schema, options)?),
        None => None,
    };
    let source = match &given {
        Some(schema) => {
            let listed = given::listed(&options.train);
            Source::read_fitted(files, &options.train, schema, &listed, limits)?
        }
        None => Source::read(files, &options.train, options.task, limits)?,
    };
    let (train_rows, validation_rows) = split(&source, options)?;
    let schema = match given {
        Some(schema) => schema,
        None => InputSchema {
            task: options.task,
            label: source.fit_label(options.task, options.positive.as_deref())?,
            input: source.fit_input(&train_rows, options.normalization, limits)?,
        },
    };
    let mut warnings = source.warnings(&schema.label, &schema.input);
    warnings.extend(source.training_warnings(&schema.input, &train_rows));
    let unseen = source.unseen_classes(&schema.label, &train_rows);
    warnings.extend(warnings::unlearned(&unseen));
    let beside = limits.beside(source.bytes());
    let train = source.encode(&schema, &train_rows, &beside, &mut warnings)?;
    let validation = match &options.validation {
        Validation::None => None,
        Validation::Fraction(_) => {
            let unseen = source.unseen_classes(&schema.label, &validation_rows);
            warnings.extend(warnings::unjudged(&unseen));
            let beside = beside.beside(train.bytes());
            Some(source.encode(&schema, &validation_rows, &beside, &mut warnings)?)
        }
        Validation::Source(spec) => {
            drop(source);
            let beside = limits.beside(train.bytes());
            let source = Source::read_fitted(files, spec, &schema, &[], &beside)?;
            let rows = source.all_rows();
            warnings.extend(source.warnings(&schema.label, &schema.input));
            let beside = beside.beside(source.bytes());
            let table = source.encode(&schema, &rows, &beside, &mut warnings)?;
            let unseen = source.unseen_classes(&schema.label, &rows);
            warnings.extend(warnings::unjudged(&unseen));
            Some(table)
        }
    };
    let facts = facts(schema, &train, validation.as_ref())?;
    Ok(Dataset {
        train,
        validation,
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
    schema: InputSchema,
    train: &Table,
    validation: Option<&Table>,
) -> Result<DataFacts, DataError> {
    let json = schema_json(&schema)
        .map_err(|e| DataError::data(format!("cannot write the input schema: {e}"), ""))?;
    let tables: Vec<&Table> = std::iter::once(train).chain(validation).collect();
    Ok(DataFacts {
        train_rows: train.rows as u64,
        validation_rows: validation.map_or(0, |table| table.rows as u64),
        input_shape: schema.input_shape(),
        outputs: schema.outputs(),
        digest: digest(&json, &tables),
        schema,
    })
}
