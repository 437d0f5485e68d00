//! Training data for a schema that was fitted elsewhere: that of the model a job begins with.

use std::collections::HashMap;

use trainyard_core::metrics::Task;
use trainyard_core::schema::{
    ArrayInput, Column, ColumnKind, ColumnsInput, InputKind, InputSchema, Missing,
};

use crate::classes::CategoryIndex;
use crate::columns::Reading;
use crate::error::{DataError, quoted};
use crate::images::{Form, LABEL};
use crate::options::{
    ColumnOptions, ColumnType, LoadOptions, MissingPolicy, Normalization, SourceSpec, TableOptions,
};

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
        && CategoryIndex::of(&schema.label).find(positive) != Some(1)
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
    if schema.label.link != options.link {
        return Err(DataError::options(
            "the initial model was trained with another `loss`, so its outputs stand for something else",
            "use the loss of the initial model",
        ));
    }
    schema.label.threshold = options.threshold.or(schema.label.threshold);
    if schema.label.scale.is_some() && options.target == Normalization::None {
        return Err(DataError::options(
            "`targetNormalization` is None, and the initial model scales its target",
            "leave it out: the initial model's is used",
        ));
    }
    match (&mut schema.input, &options.train) {
        (InputKind::Columns(input), SourceSpec::Table(csv)) => {
            unscaled(scales(input), options)?;
            agree(input, csv).map_err(|e| e.in_file(csv.file()))?;
            let said: HashMap<&str, &ColumnOptions> = csv
                .columns
                .iter()
                .map(|column| (column.name.as_str(), column))
                .collect();
            for column in &input.columns {
                if let Some(said) = said.get(column.name.as_str()) {
                    agree_on(column, said, input.missing).map_err(|e| e.in_file(csv.file()))?;
                }
            }
            let reading = Reading::from(csv);
            input.delimiter = reading.delimiter;
            input.decimal = reading.notation.decimal;
            input.thousands = reading.notation.thousands;
            input.encoding = reading.encoding;
            input.headerless = reading.headerless;
            input.missing = reading.missing;
            input.unnamed = reading.unnamed;
            input.missing_values = reading.missing_values.to_vec();
            if csv.missing == MissingPolicy::Impute {
                // What the model fills in is what it was fitted with.
                for column in &mut input.columns {
                    column.missing.get_or_insert(Missing::Mean);
                }
            }
            schema.label.name = csv.label.clone();
        }
        (InputKind::Array(input), SourceSpec::Npy { .. } | SourceSpec::Idx { .. }) => {
            unscaled(is_scaled(input), options)?;
        }
        (InputKind::Array(input), SourceSpec::Images(images)) => {
            unscaled(is_scaled(input), options)?;
            let form = Form::of(input)?;
            let said = Form::from(images);
            if let (Some(size), Some(own)) = (said.size, form.size)
                && size != own
            {
                let (height, width) = (own.height, own.width);
                let problem = format!(
                    "the initial model sees images of {height} x {width} pixels (height x width)"
                );
                let remedy = "set `height` and `width` to these";
                return Err(DataError::options(problem, remedy));
            }
            if said.color.is_some_and(|color| form.color != Some(color)) {
                return Err(DataError::options(
                    "`color` is not that of the initial model's images",
                    "leave it out: images become what the initial model sees",
                ));
            }
            input.resize = images.size.is_some();
            schema.label.name = LABEL.to_owned();
        }
        (InputKind::Columns(_), _) => {
            return Err(DataError::options(
                "the initial model reads named columns",
                "train on a table (csv or parquet)",
            ));
        }
        (InputKind::Array(_), _) => {
            return Err(DataError::options(
                "the initial model reads arrays",
                "train on arrays or images (npy, idx, images)",
            ));
        }
    }
    Ok(schema)
}

/// Whether an array's numbers are scaled.
fn is_scaled(input: &ArrayInput) -> bool {
    input.mean.iter().any(|mean| *mean != 0.0) || input.std.iter().any(|std| *std != 1.0)
}

/// That the initial model learned its target as it is, where this job would scale it.
pub(crate) fn unscaled_target(schema: &InputSchema, options: &LoadOptions) -> Option<String> {
    let is_meant = options.task == Task::Regression
        && options.schema.is_some()
        && options.target == Normalization::Standardize
        && options.link.is_none();
    (is_meant && schema.label.scale.is_none()).then(|| {
        "the initial model learned its target as it is, and so does this job: `targetNormalization` has no effect".into()
    })
}

/// Columns that the manifest names, with the field that does. The file must have all.
pub(crate) fn listed(train: &SourceSpec) -> Vec<(&str, &'static str)> {
    let SourceSpec::Table(csv) = train else {
        return Vec::new();
    };
    let excluded = csv.exclude.iter().map(|name| (name.as_str(), "exclude"));
    let categorical = csv
        .categorical
        .iter()
        .map(|name| (name.as_str(), "categorical"));
    let columns = csv
        .columns
        .iter()
        .map(|column| (column.name.as_str(), "columns"));
    excluded.chain(categorical).chain(columns).collect()
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

/// Whether columns are scaled.
fn scales(input: &ColumnsInput) -> bool {
    let identity = |mean: f64, std: f64| (mean, std) == (0.0, 1.0);
    let is_scaled = |kind: &ColumnKind| match kind {
        ColumnKind::Numeric { mean, std, .. } | ColumnKind::Ordinal { mean, std, .. } => {
            !identity(*mean, *std)
        }
        ColumnKind::Date { parts, .. } => parts.iter().any(|part| !identity(part.mean, part.std)),
        ColumnKind::Categorical { .. } | ColumnKind::Boolean { .. } => false,
    };
    input.columns.iter().any(|column| is_scaled(&column.kind))
}

/// Checks that a manifest says of no column what is not so.
fn agree(input: &ColumnsInput, csv: &TableOptions) -> Result<(), DataError> {
    let columns = input.columns.iter();
    let kinds: HashMap<&str, &ColumnKind> = columns
        .map(|column| (column.name.as_str(), &column.kind))
        .collect();
    let reads = |name: &String, remedy: &str| {
        let problem = format!("the initial model reads column {}", quoted(name));
        Err(DataError::options(problem, remedy))
    };
    if kinds.contains_key(csv.label.as_str()) {
        return reads(&csv.label, "name another column as the `label`");
    }
    let is_read = |name: &&String| kinds.contains_key(name.as_str());
    if let Some(name) = csv.exclude.iter().find(is_read) {
        return reads(name, "do not list it under `exclude`");
    }
    let categorical = csv
        .categorical
        .iter()
        .map(|name| (name, ColumnType::Category, "categorical"));
    let typed = csv
        .columns
        .iter()
        .filter_map(|column| Some((&column.name, column.kind?, "columns")));
    for (name, said, field) in categorical.chain(typed) {
        if let Some(kind) = kinds.get(name.as_str())
            && said != of_kind(kind)
        {
            let has = match kind {
                ColumnKind::Numeric { .. } => "numbers",
                ColumnKind::Categorical { .. } => "categories",
                ColumnKind::Boolean { .. } => "booleans",
                ColumnKind::Ordinal { .. } => "ordered categories",
                ColumnKind::Date { .. } => "dates",
            };
            return Err(DataError::options(
                format!("column {} has {has} in the initial model", quoted(name)),
                format!("do not say otherwise under `{field}`"),
            ));
        }
    }
    Ok(())
}

/// Checks that a manifest says nothing of a column that the model does otherwise.
fn agree_on(column: &Column, said: &ColumnOptions, missing: Missing) -> Result<(), DataError> {
    let differs = match &column.kind {
        ColumnKind::Ordinal { categories, .. }
            if !said.categories.is_empty() && *categories != said.categories =>
        {
            Some("categories")
        }
        ColumnKind::Date { format, .. }
            if said.date_format.as_ref().is_some_and(|said| said != format) =>
        {
            Some("dateFormat")
        }
        ColumnKind::Date { parts, .. }
            if !said.date_parts.is_empty()
                && !parts
                    .iter()
                    .map(|input| input.part)
                    .eq(said.date_parts.iter().copied()) =>
        {
            Some("dateParts")
        }
        _ if said.missing_indicator && !column.missing_indicator => Some("missingIndicator"),
        _ if said
            .missing
            .is_some_and(|said| said != column.missing.unwrap_or(missing)) =>
        {
            Some("missing")
        }
        _ => None,
    };
    match differs {
        None => Ok(()),
        Some(field) => Err(DataError::options(
            format!("`{field}` is not that of the initial model"),
            "leave it out: the initial model's is used",
        )
        .in_column(&column.name)),
    }
}

fn of_kind(kind: &ColumnKind) -> ColumnType {
    match kind {
        ColumnKind::Numeric { .. } => ColumnType::Number,
        ColumnKind::Categorical { .. } => ColumnType::Category,
        ColumnKind::Boolean { .. } => ColumnType::Boolean,
        ColumnKind::Ordinal { .. } => ColumnType::Ordinal,
        ColumnKind::Date { .. } => ColumnType::Date,
    }
}
