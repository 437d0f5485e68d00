//! Training data for a schema that was fitted elsewhere: that of the model a job begins with.

use std::collections::BTreeSet;

use trainyard_core::schema::{ColumnKind, ColumnsInput, InputKind, InputSchema};

use crate::classes::ClassIndex;
use crate::error::{DataError, quoted};
use crate::options::{CsvOptions, LoadOptions, Normalization, SourceSpec};

/// The schema for the data of `options`: columns, categories, classes and scaling as given, the rest as
/// the options have it.
///
/// # Errors
/// If the two contradict each other, with the field to change.
pub(crate) fn adapted(
    given: &InputSchema,
    options: &LoadOptions,
) -> Result<InputSchema, DataError> {
    let mut schema = given.clone();
    if let Some(positive) = options.positive.as_deref()
        && ClassIndex::new(&schema.label).find(positive) != Some(1.0)
    {
        return Err(DataError::options(
            format!(
                "the positive class is {}, not that of the initial model",
                quoted(positive)
            ),
            format!(
                "set `positive` to {}",
                quoted(schema.positive().unwrap_or_default())
            ),
        ));
    }
    match (&mut schema.input, &options.train) {
        (InputKind::Columns(input), SourceSpec::Csv(csv)) => {
            unscaled(scales(input), options)?;
            agree(input, csv).map_err(|e| e.in_file(&csv.uri))?;
            input.delimiter = csv.delimiter;
            input.missing = csv.missing;
            input.unnamed = csv.unnamed;
            schema.label.name = csv.label.clone();
        }
        (InputKind::Array(input), SourceSpec::Npy { .. } | SourceSpec::Idx { .. }) => {
            let is_scaled = input.mean.iter().any(|mean| *mean != 0.0)
                || input.std.iter().any(|std| *std != 1.0);
            unscaled(is_scaled, options)?;
        }
        (InputKind::Columns(_), _) => {
            return Err(DataError::options(
                "the initial model reads named columns",
                "train on CSV files",
            ));
        }
        (InputKind::Array(_), _) => {
            return Err(DataError::options(
                "the initial model reads arrays",
                "train on NPY or IDX files",
            ));
        }
    }
    Ok(schema)
}

/// Columns that the manifest names, with the field that does. The file must have all.
pub(crate) fn listed(train: &SourceSpec) -> Vec<(&str, &'static str)> {
    let SourceSpec::Csv(csv) = train else {
        return Vec::new();
    };
    let excluded = csv.exclude.iter().map(|name| (name.as_str(), "exclude"));
    let categorical = csv
        .categorical
        .iter()
        .map(|name| (name.as_str(), "categorical"));
    excluded.chain(categorical).collect()
}

/// Refuses `normalization: None` where the initial model scales.
fn unscaled(scales: bool, options: &LoadOptions) -> Result<(), DataError> {
    match scales && options.normalization == Normalization::None {
        true => Err(DataError::options(
            "`normalization` is None, and the initial model scales its inputs",
            "leave it out: the initial model's is used",
        )),
        false => Ok(()),
    }
}

/// Whether columns of numbers are scaled.
fn scales(input: &ColumnsInput) -> bool {
    let is_scaled = |kind: &ColumnKind| match kind {
        ColumnKind::Numeric { mean, std, .. } => (*mean, *std) != (0.0, 1.0),
        ColumnKind::Categorical { .. } => false,
    };
    input.columns.iter().any(|column| is_scaled(&column.kind))
}

/// Checks that a manifest says of no column what is not so.
fn agree(input: &ColumnsInput, csv: &CsvOptions) -> Result<(), DataError> {
    let of_kind = |categorical: bool| -> BTreeSet<&str> {
        let columns = input.columns.iter();
        let columns =
            columns.filter(|c| matches!(c.kind, ColumnKind::Categorical { .. }) == categorical);
        columns.map(|column| column.name.as_str()).collect()
    };
    let (numbers, categories) = (of_kind(false), of_kind(true));
    let is_read = |name: &str| numbers.contains(name) || categories.contains(name);
    if is_read(&csv.label) {
        let problem = format!("the initial model reads column {}", quoted(&csv.label));
        return Err(DataError::options(
            problem,
            "name another column as the `label`",
        ));
    }
    if let Some(name) = csv.exclude.iter().find(|name| is_read(name)) {
        let problem = format!("the initial model reads column {}", quoted(name));
        return Err(DataError::options(
            problem,
            "do not list it under `exclude`",
        ));
    }
    let listed = |name: &&String| numbers.contains(name.as_str());
    if let Some(name) = csv.categorical.iter().find(listed) {
        let problem = format!("column {} has numbers in the initial model", quoted(name));
        return Err(DataError::options(
            problem,
            "do not list it under `categorical`",
        ));
    }
    let unlisted = |name: &&&str| !csv.categorical.iter().any(|listed| listed == **name);
    match categories.iter().find(unlisted) {
        Some(name) => Err(DataError::options(
            format!(
                "column {} is categorical in the initial model",
                quoted(name)
            ),
            "list it under `categorical`",
        )),
        None => Ok(()),
    }
}
