//! Loading: read, split, fit on the training rows, encode.

use trainyard_core::facts::DataFacts;
use trainyard_core::metrics::Task;
use trainyard_core::sampling::{self, SplitBy};
use trainyard_core::schema::{InputSchema, Label};

use crate::columns::RawValues;
use crate::digest::{digest, schema_json};
use crate::error::DataError;
use crate::files::Files;
use crate::given;
use crate::options::{LoadOptions, SplitRule, Validation};
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
        None => {
            let split = options.validation.split_column();
            Source::read(files, &options.train, split, options.task, limits)?
        }
    };
    let label = match &given {
        Some(schema) => schema.label.clone(),
        None => source.fit_label(options)?,
    };
    let (train_rows, validation_rows) = split(&source, &label, options)?;
    let schema = match given {
        Some(schema) => schema,
        None => InputSchema {
            task: options.task,
            label: Label {
                scale: source.fit_scale(options, &train_rows),
                ..label
            },
            input: source.fit_input(&train_rows, options.normalization, limits)?,
        },
    };
    source.check_targets(&schema.label)?;
    let mut warnings = source.warnings(&schema.label, &schema.input);
    warnings.extend(source.training_warnings(&schema.input, &train_rows));
    let unseen = source.unseen_classes(&schema.label, &train_rows);
    warnings.extend(warnings::unlearned(&unseen));
    let beside = limits.beside(source.bytes());
    let mut train = source.encode(&schema, &train_rows, &beside, &mut warnings)?;
    train.weights = source.weights(
        &train_rows,
        &schema.label,
        &train.labels,
        &options.class_weights,
    )?;
    let validation = match &options.validation {
        Validation::None => None,
        Validation::Fraction(_) | Validation::Split(..) => {
            let unseen = source.unseen_classes(&schema.label, &validation_rows);
            warnings.extend(warnings::unjudged(&unseen));
            let beside = beside.beside(train.bytes());
            Some(source.encode(&schema, &validation_rows, &beside, &mut warnings)?)
        }
        Validation::Source(spec) => {
            drop(source);
            let beside = limits.beside(train.bytes());
            let source = Source::read_fitted(files, spec, &schema, &[], &beside)?;
            source.check_targets(&schema.label)?;
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
fn split(
    source: &Source,
    label: &Label,
    options: &LoadOptions,
) -> Result<(Vec<u32>, Vec<u32>), DataError> {
    let by = |fraction: f64, by: SplitBy<'_>| {
        sampling::split(options.seed, fraction, by).map_err(|e| {
            DataError::options(format!("validation fraction: {e}"), "").in_file(source.file())
        })
    };
    match &options.validation {
        Validation::None | Validation::Source(_) => Ok((source.all_rows(), Vec::new())),
        Validation::Fraction(fraction) => by(*fraction, SplitBy::Random(source.rows() as u64)),
        Validation::Split(_, SplitRule::Stratified) if options.task == Task::Regression => {
            let problem = "`stratify` is for classes, and the task is a regression";
            Err(DataError::options(problem, "leave it out"))
        }
        Validation::Split(fraction, SplitRule::Stratified) => {
            by(*fraction, SplitBy::Classes(&source.classes(label)?))
        }
        Validation::Split(fraction, SplitRule::Group(_) | SplitRule::Order(_)) => {
            match source.split_values() {
                Some(RawValues::Codes { codes, .. }) => by(*fraction, SplitBy::Groups(codes)),
                Some(RawValues::Numbers(values)) => by(*fraction, SplitBy::Order(values)),
                None => Err(DataError::options(
                    "the data begin with a model, and are split by a column",
                    "split them beforehand into two files",
                )),
            }
        }
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
