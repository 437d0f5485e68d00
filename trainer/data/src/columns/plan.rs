//! Which column of a file is what.

use std::borrow::Cow;
use std::collections::HashSet;

use trainyard_core::metrics::Task;
use trainyard_core::schema::{ColumnKind, ColumnsInput};

use super::Reading;
use crate::error::{DataError, few, quoted};
use crate::options::CsvOptions;
use crate::warnings;

/// What to read from a file.
pub(crate) struct Plan {
    pub columns: Vec<PlannedColumn>,
    /// Position and name of the label column.
    pub label: Option<(usize, String)>,
    /// Whether the rows are to be predicted: they may lack the label, and no manifest can be changed.
    pub predicts: bool,
    pub reading: Reading,
    pub task: Task,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// One input column.
pub(crate) struct PlannedColumn {
    pub index: usize,
    pub name: String,
    pub categorical: bool,
}

impl Plan {
    /// For training: every column but the label and those excluded.
    pub(crate) fn training(
        header: &[String],
        options: &CsvOptions,
        task: Task,
    ) -> Result<Self, DataError> {
        let header = &*named(header, options.unnamed)?;
        let label = find(header, &options.label, "label")?;
        for name in &options.exclude {
            find(header, name, "exclude")?;
        }
        for name in &options.categorical {
            find(header, name, "categorical")?;
        }
        let excluded: HashSet<&str> = options.exclude.iter().map(String::as_str).collect();
        let categorical: HashSet<&str> = options.categorical.iter().map(String::as_str).collect();
        let both = |name: &str, fields: &str| {
            let problem = format!("{} is named in {fields}", quoted(name));
            Err(DataError::options(problem, "keep it in one of them"))
        };
        if excluded.contains(options.label.as_str()) {
            return both(&options.label, "both `label` and `exclude`");
        }
        if categorical.contains(options.label.as_str()) {
            return both(&options.label, "both `label` and `categorical`");
        }
        if let Some(name) = options
            .exclude
            .iter()
            .find(|n| categorical.contains(n.as_str()))
        {
            return both(name, "both `exclude` and `categorical`");
        }
        let (mut columns, mut unnamed) = (Vec::new(), Vec::new());
        for (index, name) in header.iter().enumerate() {
            if index == label || excluded.contains(name.as_str()) {
                continue;
            }
            if name.is_empty() {
                unnamed.push(index + 1);
                continue;
            }
            let categorical = categorical.contains(name.as_str());
            columns.push(PlannedColumn {
                index,
                name: name.clone(),
                categorical,
            });
        }
        if columns.is_empty() {
            let remedy = "add columns, exclude fewer, or set the delimiter that the file uses";
            return Err(DataError::options(
                "no column is left to learn from",
                remedy,
            ));
        }
        let warnings = warnings::unnamed(&unnamed)
            .into_iter()
            .chain(warnings::pandas_index(
                columns.iter().map(|column| &*column.name),
            ));
        let warnings = warnings.collect();
        Ok(Self {
            columns,
            label: Some((label, options.label.clone())),
            predicts: false,
            reading: options.into(),
            task,
            warnings,
        })
    }

    /// For rows encoded by a fitted schema: its columns by name, wherever they stand. The names in `listed`
    /// must be in the header as well.
    pub(crate) fn fitted(
        header: &[String],
        input: &ColumnsInput,
        label: (&str, LabelColumn),
        excluded: &[String],
        listed: &[(&str, &str)],
        task: Task,
    ) -> Result<Self, DataError> {
        let header = &*named(header, input.unnamed)?;
        let mut columns = Vec::with_capacity(input.columns.len());
        let positions: std::collections::HashMap<&str, usize> = header
            .iter()
            .enumerate()
            .map(|(i, n)| (n.as_str(), i))
            .collect();
        for (name, field) in listed {
            find(header, name, field)?;
        }
        for column in &input.columns {
            let Some(&index) = positions.get(column.name.as_str()) else {
                return Err(no_column(header, &column.name, "the model needs it"));
            };
            columns.push(PlannedColumn {
                index,
                name: column.name.clone(),
                categorical: matches!(column.kind, ColumnKind::Categorical { .. }),
            });
        }
        let (name, rule) = label;
        let used: HashSet<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let unknown = header.iter().filter(|column| {
            let known = used.contains(column.as_str()) || excluded.contains(column);
            !known && !column.is_empty() && *column != name
        });
        let unknown: Vec<String> = unknown.cloned().collect();
        // A file to predict may have any.
        let ignored = match rule {
            LabelColumn::Required => warnings::ignored(&unknown),
            LabelColumn::Optional => None,
        };
        let label = match (positions.get(name), rule) {
            (Some(&index), _) => Some((index, name.to_owned())),
            (None, LabelColumn::Optional) => None,
            (None, LabelColumn::Required) => {
                return Err(no_column(header, name, "`label` names it"));
            }
        };
        Ok(Self {
            columns,
            label,
            predicts: matches!(rule, LabelColumn::Optional),
            reading: input.into(),
            task,
            warnings: ignored.into_iter().collect(),
        })
    }
}

impl Plan {
    /// The field `text` stands for no value, and that is an error.
    pub(crate) fn missing_value(&self, text: &str) -> DataError {
        let problem = match text {
            "" => "the value is missing".into(),
            text => format!("the value is missing: {} stands for none", quoted(text)),
        };
        let remedy = match self.predicts {
            true => "fill it in; the model was trained with `missing: Error`",
            false => "fill it in, set `missing` to Mean or DropRow, or exclude the column",
        };
        DataError::data(problem, remedy)
    }

    /// Every one of `rows` rows was left out.
    pub(crate) fn nothing_left(&self, rows: usize) -> DataError {
        let remedy = match self.predicts {
            true => "fill them in; the model was trained with `missing: DropRow`",
            false => "fill them in, exclude the column, or set `missing` to Mean",
        };
        DataError::data(
            format!("each of the {rows} rows has a missing value"),
            remedy,
        )
    }

    /// What to do about a field that is no number.
    pub(crate) fn not_a_number(&self) -> &'static str {
        match self.predicts {
            true => "mend the value; the column had numbers in training",
            false => "mend the value, or list the column under `categorical` or `exclude`",
        }
    }
}

/// Whether a file must have its label column, and each row a label.
#[derive(Clone, Copy)]
pub(crate) enum LabelColumn {
    Required,
    Optional,
}

/// The names in a header; if `unnamed`, with `column N` for columns without one, N counted from 1.
fn named(header: &[String], unnamed: bool) -> Result<Cow<'_, [String]>, DataError> {
    if !unnamed {
        return Ok(header.into());
    }
    let names = header.iter().enumerate().map(|(index, name)| {
        if !name.is_empty() {
            return Ok(name.clone());
        }
        let name = format!("column {}", index + 1);
        if header.contains(&name) {
            let problem = format!(
                "column {} has no name, and another is called that",
                index + 1
            );
            return Err(DataError::options(problem, "give it a name in the header"));
        }
        Ok(name)
    });
    Ok(Cow::Owned(names.collect::<Result<_, _>>()?))
}

fn find(header: &[String], name: &str, field: &str) -> Result<usize, DataError> {
    header
        .iter()
        .position(|n| n == name)
        .ok_or_else(|| no_column(header, name, &format!("`{field}` names it")))
}

fn no_column(header: &[String], name: &str, why: &str) -> DataError {
    // As this program calls a column without a name, and as pandas does.
    let ours = name.strip_prefix("column ").and_then(|n| n.parse().ok());
    let pandas = || name.strip_prefix("Unnamed: ")?.parse::<usize>().ok();
    let position = ours.or_else(|| pandas()?.checked_add(1));
    let unnamed = position.filter(|n| header.get(n.wrapping_sub(1)).is_some_and(String::is_empty));
    let remedy = match unnamed {
        Some(n) => format!(
            "column {n} has no name in the header: it is left out, unless `unnamedColumns` is Include, which calls it \
             column {n}"
        ),
        None => format!("the header names {}; is the delimiter right?", few(header)),
    };
    DataError::options(
        format!("no column is named {} ({why})", quoted(name)),
        remedy,
    )
}
