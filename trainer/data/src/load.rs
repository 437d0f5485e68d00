//! Loading: read, split, fit on the training rows, encode.

use trainyard_core::control::RowSet;
use trainyard_core::facts::DataFacts;
use trainyard_core::metrics::Task;
use trainyard_core::sampling::{self, Parts, Shares, SplitBy};
use trainyard_core::schema::{InputSchema, Label};

use crate::columns::{RawValues, SplitColumn};
use crate::digest::{TableDigest, schema_json};
use crate::error::DataError;
use crate::files::Files;
use crate::given;
use crate::options::{HeldOut, Limits, LoadOptions, SourceSpec, SplitRule};
use crate::source::Source;
use crate::table::{Dataset, Table};
use crate::warnings;

/// Reads, splits, fits and encodes what `options` name.
///
/// - A [`HeldOut::Fraction`](crate::HeldOut::Fraction) is chosen by [`sampling::split`], from the options' seed alone.
/// - Normalization and categories are fitted on the training rows only. Classes are those of the
///   whole training source, so that the width of the model does not depend on the seed; a class
///   without training rows is warned of.
/// - With a [`schema`](LoadOptions::schema) nothing is fitted: rows become what they would become for a
///   prediction, and a label that it does not know is refused.
/// - A [`HeldOut::Source`](crate::HeldOut::Source) is encoded with the fit. Its CSV options give its URI, label column
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
    let splits = split_columns(options);
    let source = match &given {
        Some(schema) => {
            let listed = given::listed(&options.train);
            Source::read_fitted(files, &options.train, schema, &listed, &splits, limits)?
        }
        None => Source::read(files, &options.train, &splits, options.task, limits)?,
    };
    let label = match &given {
        Some(schema) => schema.label.clone(),
        None => source.fit_label(options)?,
    };
    let parts = split(&source, &label, options)?;
    let train_rows = &parts.train;
    let schema = match given {
        Some(schema) => schema,
        None => InputSchema {
            task: options.task,
            label: Label {
                scale: source.fit_scale(options, train_rows),
                ..label
            },
            input: source.fit_input(train_rows, options.normalization, limits)?,
        },
    };
    source.check_targets(&schema.label)?;
    let mut warnings = source.warnings(&schema.label, &schema.input);
    warnings.extend(source.training_warnings(&schema.label, &schema.input, train_rows));
    warnings.extend(given::unscaled_target(&schema, options));
    let unseen = source.unseen_classes(&schema.label, train_rows);
    warnings.extend(warnings::unlearned(&unseen));
    let beside = limits.beside(source.bytes());
    let json = schema_json(&schema)
        .map_err(|e| DataError::data(format!("cannot write the input schema: {e}"), ""))?;
    let mut digest = TableDigest::new(&json);
    let into = Some(&mut digest);
    let mut train = source.encode(&schema, train_rows, &beside, &mut warnings, into)?;
    train.weights = source.weights(
        train_rows,
        &schema.label,
        &train.labels,
        &options.class_weights,
    )?;
    digest.end(&train);
    let mut held_out = |rows: &[u32], set: RowSet, held: u64| -> Result<Option<Table>, DataError> {
        if rows.is_empty() {
            return Ok(None);
        }
        let unseen = source.unseen_classes(&schema.label, rows);
        warnings.extend(warnings::unjudged(&unseen, set));
        let beside = beside.beside(held);
        source
            .encode(&schema, rows, &beside, &mut warnings, None)
            .map(Some)
    };
    let mut held = train.bytes();
    let mut validation = held_out(&parts.validation, RowSet::Validation, held)?;
    held += validation.as_ref().map_or(0, Table::bytes);
    let mut test = held_out(&parts.test, RowSet::Test, held)?;
    held += test.as_ref().map_or(0, Table::bytes);
    drop(source);
    let others = [
        (&options.validation, &mut validation, RowSet::Validation),
        (&options.test, &mut test, RowSet::Test),
    ];
    for (spec, table, set) in others {
        if let Some(spec) = spec.source() {
            let beside = limits.beside(held);
            let read = other_source(files, spec, &schema, (set, &beside), &mut warnings)?;
            held += read.bytes();
            *table = Some(read);
        }
    }
    let facts = facts(schema, digest, &train, [validation.as_ref(), test.as_ref()]);
    Ok(Dataset {
        train,
        validation,
        test,
        facts,
        warnings,
    })
}

/// The rows of a source of its own, encoded with the fit.
fn other_source(
    files: &dyn Files,
    spec: &SourceSpec,
    schema: &InputSchema,
    (set, limits): (RowSet, &Limits),
    warnings: &mut Vec<String>,
) -> Result<Table, DataError> {
    let source = Source::read_fitted(files, spec, schema, &[], &[], limits)?;
    source.check_targets(&schema.label)?;
    let rows = source.all_rows();
    warnings.extend(source.warnings(&schema.label, &schema.input));
    let beside = limits.beside(source.bytes());
    let table = source.encode(schema, &rows, &beside, warnings, None)?;
    let unseen = source.unseen_classes(&schema.label, &rows);
    warnings.extend(warnings::unjudged(&unseen, set));
    Ok(table)
}

/// The columns that shares of the training source are set aside by.
fn split_columns(options: &LoadOptions) -> Vec<SplitColumn<'_>> {
    let rules = [
        (&options.validation, &options.split),
        (&options.test, options.test_split()),
    ];
    let used = rules.iter().filter(|(part, _)| part.fraction().is_some());
    let mut columns: Vec<SplitColumn<'_>> = used.filter_map(|(_, rule)| rule.column()).collect();
    columns.dedup();
    columns
}

/// The rows of each part of the training source.
fn split(source: &Source, label: &Label, options: &LoadOptions) -> Result<Parts, DataError> {
    let shares = Shares {
        validation: options.validation.fraction(),
        test: options.test.fraction(),
    };
    if shares == Shares::default() {
        let train = source.all_rows();
        return Ok(Parts {
            train,
            ..Parts::default()
        });
    }
    let stratifies = |rule: &SplitRule| *rule == SplitRule::Stratified;
    let classes = match stratifies(&options.split) || stratifies(options.test_split()) {
        true if options.task == Task::Regression => {
            let problem = "`stratify` is for classes, and the task is a regression";
            return Err(DataError::options(problem, "leave it out"));
        }
        true => source.classes(label)?,
        false => Vec::new(),
    };
    let by = |rule: &SplitRule| {
        let values = rule.column().and_then(|by| source.split_values(by));
        match (rule, values) {
            (SplitRule::Stratified, _) => Ok(SplitBy::Classes(&classes)),
            (SplitRule::Group(_), Some(RawValues::Codes { codes, .. })) => {
                Ok(SplitBy::Groups(codes))
            }
            (SplitRule::Order(_), Some(RawValues::Numbers(values))) => Ok(SplitBy::Order(values)),
            (SplitRule::Random, _) => Ok(SplitBy::Random(source.rows() as u64)),
            _ => Err(DataError::options("the column of a split was not read", "")),
        }
    };
    let rule = |part: &HeldOut, rule| match part.fraction() {
        Some(_) => by(rule),
        None => Ok(SplitBy::Random(source.rows() as u64)),
    };
    let validation = rule(&options.validation, &options.split)?;
    let test = rule(&options.test, options.test_split())?;
    sampling::split_by(options.seed, shares, validation, test)
        .map_err(|e| DataError::options(e.to_string(), "").in_file(source.file()))
}

/// What is known of the data. The `digest` has the schema and the training rows.
fn facts(
    schema: InputSchema,
    mut digest: TableDigest,
    train: &Table,
    held_out: [Option<&Table>; 2],
) -> DataFacts {
    held_out
        .into_iter()
        .flatten()
        .for_each(|table| digest.table(table));
    let [validation_rows, test_rows] =
        held_out.map(|table| table.map_or(0, |table| table.rows as u64));
    DataFacts {
        train_rows: train.rows as u64,
        validation_rows,
        test_rows,
        input_shape: schema.input_shape(),
        outputs: schema.outputs(),
        digest: digest.finish(),
        schema,
    }
}
