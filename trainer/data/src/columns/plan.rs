//! Which column of a file is what.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use trainyard_core::metrics::Task;
use trainyard_core::schema::{Column, ColumnsInput, DatePart, Missing};

use super::{ColumnType, Reading};
use crate::date::{DateFormat, default_parts};
use crate::error::{DataError, few, quoted};
use crate::options::{self, ColumnOptions, MissingPolicy, TableFormat, TableOptions};
use crate::warnings;

/// What to read from a file.
pub(crate) struct Plan {
    pub columns: Vec<PlannedColumn>,
    /// Position and name of the label column.
    pub label: Option<(usize, String)>,
    /// Position and name of the column of weights.
    pub weight: Option<(usize, String)>,
    /// The columns that splits go by, whether they are inputs or not.
    pub split: Vec<PlannedColumn>,
    /// Positions of columns whose texts are kept.
    pub ids: Vec<usize>,
    /// Whether the rows are to be predicted: they may lack the label, and no manifest can be changed.
    pub predicts: bool,
    pub reading: Reading,
    pub task: Task,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// The columns of the file that it was made for.
    pub header: Arc<[String]>,
}

/// One input column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlannedColumn {
    pub index: usize,
    pub name: String,
    pub kind: ColumnType,
    /// What to do about its missing values.
    pub missing: Missing,
    /// What stands for a missing value with [`Missing::Constant`].
    pub fill_value: Option<String>,
    /// Whether one more input says where the value was missing.
    pub missing_indicator: bool,
    /// Whether the type is as the options or a fit have it, and not told from the values.
    pub declared: bool,
    /// Whether the options say that it holds dates, and not in which format.
    pub dates: bool,
}

/// The types of columns of which the options say none, by name. A column that is not among them is read as numbers.
pub(crate) type InferredTypes = HashMap<String, ColumnType>;

impl Plan {
    /// For training: every column but the label and those excluded.
    pub(crate) fn training(
        header: &[String],
        options: &TableOptions,
        splits: &[SplitColumn<'_>],
        inferred: &InferredTypes,
        task: Task,
    ) -> Result<Self, DataError> {
        let header = &*named(header, options.unnamed)?;
        let label = find(header, &options.label, "label")?;
        let excluded: HashSet<&str> = options.exclude.iter().map(String::as_str).collect();
        let said = Said::new(header, options)?;
        let weight = weight_column(header, options.weight.as_deref())?;
        let split = splits.iter().map(|by| said.split(header, *by, inferred));
        let split = split.collect::<Result<Vec<PlannedColumn>, DataError>>()?;
        let is_group = |index: usize| {
            let mut groups = split.iter().filter(|split| split.kind == GROUP);
            groups.any(|group| group.index == index)
        };
        let is_weight = |index: usize| weight.as_ref().is_some_and(|(weight, _)| *weight == index);
        let (mut columns, mut unnamed) = (Vec::new(), Vec::new());
        for (index, name) in header.iter().enumerate() {
            if index == label
                || is_weight(index)
                || is_group(index)
                || excluded.contains(name.as_str())
            {
                continue;
            }
            if name.is_empty() {
                unnamed.push(index + 1);
                continue;
            }
            columns.push(said.planned(index, name, inferred)?);
        }
        if columns.is_empty() {
            let remedy = "add columns, exclude fewer, or set the delimiter that the file uses";
            return Err(DataError::options(
                "no column is left to learn from",
                remedy,
            ));
        }
        // Of a Parquet file only texts leave their type open, and most of them hold categories.
        let is_told = |column: &&PlannedColumn| {
            inferred.contains_key(&column.name)
                && (options.format == TableFormat::Csv
                    || matches!(column.kind, ColumnType::Category { .. }))
        };
        let told = columns.iter().filter(is_told);
        let told: Vec<(&str, &ColumnType)> =
            told.map(|column| (&*column.name, &column.kind)).collect();
        let warnings = warnings::unnamed(&unnamed)
            .into_iter()
            .chain(warnings::inferred(&told))
            .chain(warnings::pandas_index(
                columns.iter().map(|column| &*column.name),
            ));
        let warnings = warnings.collect();
        Ok(Self {
            columns,
            label: Some((label, options.label.clone())),
            weight,
            split,
            ids: Vec::new(),
            predicts: false,
            reading: said.reading,
            task,
            warnings,
            header: header.into(),
        })
    }

    /// For rows encoded by a fitted schema: its columns by name, wherever they stand. The names in `listed`
    /// must be in the header as well.
    pub(crate) fn fitted(
        header: &[String],
        (input, reading): (&ColumnsInput, &Reading),
        label: (&str, LabelColumn),
        weight: Option<&str>,
        excluded: &[String],
        listed: &[(&str, &str)],
        task: Task,
    ) -> Result<Self, DataError> {
        let header = &*named(header, input.unnamed)?;
        let mut columns = Vec::with_capacity(input.columns.len());
        let positions = positions(header);
        for (name, field) in listed {
            find(header, name, field)?;
        }
        for column in &input.columns {
            let Some(&index) = positions.get(column.name.as_str()) else {
                return Err(no_column(header, &column.name, "the model needs it"));
            };
            columns.push(PlannedColumn::fitted(index, column, input)?);
        }
        let (name, rule) = label;
        let used: HashSet<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let unknown = header.iter().filter(|column| {
            let known = used.contains(column.as_str())
                || excluded.contains(column)
                || weight == Some(column.as_str());
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
            weight: weight_column(header, weight)?,
            split: Vec::new(),
            ids: Vec::new(),
            predicts: matches!(rule, LabelColumn::Optional),
            reading: reading.clone(),
            task,
            warnings: ignored.into_iter().collect(),
            header: header.into(),
        })
    }

    /// The same for a further file, whose columns may be in another order.
    ///
    /// # Errors
    /// If one of them is not there.
    pub(crate) fn for_file(&self, header: &[String]) -> Result<Self, DataError> {
        let header = &*named(header, self.reading.unnamed)?;
        let positions: HashMap<&str, usize> = positions(header);
        let position = |name: &str| {
            let position = positions.get(name).copied();
            position.ok_or_else(|| no_column(header, name, "the first file has it"))
        };
        let moved = |column: &PlannedColumn| {
            Ok(PlannedColumn {
                index: position(&column.name)?,
                ..column.clone()
            })
        };
        let all = |columns: &[PlannedColumn]| -> Result<Vec<PlannedColumn>, DataError> {
            columns.iter().map(moved).collect()
        };
        let one = |column: &Option<(usize, String)>| {
            let found = column
                .as_ref()
                .map(|(_, name)| Ok((position(name)?, name.clone())));
            found.transpose()
        };
        let known: HashSet<&String> = self.header.iter().collect();
        let further = header.iter().filter(|name| !known.contains(name));
        let further: Vec<String> = further.filter(|name| !name.is_empty()).cloned().collect();
        Ok(Self {
            columns: all(&self.columns)?,
            split: all(&self.split)?,
            label: one(&self.label)?,
            weight: one(&self.weight)?,
            ids: Vec::new(),
            predicts: self.predicts,
            reading: self.reading.clone(),
            task: self.task,
            warnings: warnings::not_in_first(&further).into_iter().collect(),
            header: Arc::clone(&self.header),
        })
    }

    /// The same, with columns that splits go by.
    pub(crate) fn with_splits(
        self,
        header: &[String],
        splits: &[SplitColumn<'_>],
        options: &TableOptions,
    ) -> Result<Self, DataError> {
        let header = &*named(header, self.reading.unnamed)?;
        let said = Said::new(header, options)?;
        // A column that the model reads is split by as it is read.
        let read = self.columns.iter();
        let inferred: InferredTypes = read
            .map(|column| (column.name.clone(), column.kind.clone()))
            .collect();
        let split = splits.iter().map(|by| said.split(header, *by, &inferred));
        Ok(Self {
            split: split.collect::<Result<_, DataError>>()?,
            ..self
        })
    }
}

/// A column that a split goes by, and the field that names it.
pub(crate) type SplitColumn<'a> = (&'a str, &'static str);

impl Plan {
    /// The same, with the texts of the columns named, which may be inputs or not. `field` names them in errors.
    pub(crate) fn with_ids(
        self,
        header: &[String],
        names: &[String],
        field: &str,
    ) -> Result<Self, DataError> {
        let header = &*named(header, self.reading.unnamed)?;
        let twice = names
            .iter()
            .zip(0..)
            .find(|(name, place)| names[..*place].contains(name));
        if let Some((name, _)) = twice {
            let problem = format!("`{field}` names {} twice", quoted(name));
            return Err(DataError::options(problem, "name each column once"));
        }
        let ids = names.iter().map(|name| find(header, name, field));
        Ok(Self {
            ids: ids.collect::<Result<_, _>>()?,
            ..self
        })
    }

    /// The field `text` stands for no value, and that is an error.
    pub(crate) fn missing_value(&self, text: &str) -> DataError {
        let problem = match text {
            "" => "the value is missing".into(),
            text => format!("the value is missing: {} stands for none", quoted(text)),
        };
        let remedy = match self.predicts {
            true => "fill it in; the model was trained with `missing: Error`",
            false => {
                "fill it in, set `missing` of the column or the table to Impute, Mean or DropRow, or exclude the column"
            }
        };
        DataError::data(problem, remedy)
    }

    /// The label is missing, and that is an error.
    pub(crate) fn missing_label(&self) -> DataError {
        let remedy = match self.task {
            Task::Regression => {
                "fill it in, or set `missing` to Impute or DropRow, which leave the row out"
            }
            _ => {
                "fill it in (a class cannot be called NA or NaN), or set `missing` to Impute or DropRow, which leave the \
                 row out"
            }
        };
        DataError::data("the label is missing", remedy)
    }

    /// What a row counts is missing, and that is an error.
    pub(crate) fn missing_weight() -> DataError {
        DataError::data(
            "the weight is missing",
            "fill it in, or set `missing` to Impute or DropRow, which leave the row out",
        )
    }

    /// Places of all columns that are read.
    pub(crate) fn places(&self) -> impl Iterator<Item = usize> {
        let columns = self.columns.iter().chain(&self.split);
        let others = self.label.iter().chain(&self.weight);
        let others = others
            .map(|(place, _)| *place)
            .chain(self.ids.iter().copied());
        columns.map(|column| column.index).chain(others)
    }

    /// There is no row, or every one of the `rows` that there are was left out.
    pub(crate) fn no_rows(&self, rows: usize) -> DataError {
        if rows == 0 {
            let problem = match self.reading.format {
                TableFormat::Csv => "the file has a header but no rows",
                TableFormat::Parquet => "the file has no rows",
            };
            return DataError::data(problem, "add rows");
        }
        let remedy = match self.predicts {
            true => "fill them in; the model was trained with `missing: DropRow`",
            false => "fill them in, exclude the column, or set `missing` to Mean",
        };
        DataError::data(
            format!("each of the {rows} rows has a missing value"),
            remedy,
        )
    }

    /// What to do about a field that is no value of its column.
    pub(crate) fn remedy(&self, column: &PlannedColumn) -> String {
        let had = match column.kind {
            ColumnType::Number => "numbers",
            ColumnType::Category { .. } => "categories",
            ColumnType::Boolean => "booleans",
            ColumnType::Ordinal(_) => "these categories",
            ColumnType::Date { .. } => "such dates",
        };
        match self.predicts {
            true => format!("mend the value; the column had {had} in training"),
            false => "mend the value, list it under `missingValues` if it stands for none, or give the column another \
                      type under `columns`, or list it under `exclude`"
                .into(),
        }
    }
}

impl PlannedColumn {
    /// A column of which nothing is known.
    pub(crate) fn undeclared(index: usize, name: &str) -> Self {
        Self {
            index,
            name: name.to_owned(),
            kind: ColumnType::Number,
            missing: Missing::Error,
            fill_value: None,
            missing_indicator: false,
            declared: false,
            dates: false,
        }
    }

    /// A column as it was fitted.
    fn fitted(index: usize, column: &Column, input: &ColumnsInput) -> Result<Self, DataError> {
        Ok(Self {
            index,
            name: column.name.clone(),
            kind: ColumnType::fitted(&column.kind).map_err(|e| e.in_column(&column.name))?,
            missing: column.missing.unwrap_or(input.missing),
            fill_value: None, // the fit has it
            missing_indicator: column.missing_indicator,
            declared: true,
            dates: false,
        })
    }
}

/// What the options say of each column.
struct Said<'a> {
    options: &'a TableOptions,
    reading: Reading,
    categorical: HashSet<&'a str>,
    columns: HashMap<&'a str, &'a ColumnOptions>,
}

impl<'a> Said<'a> {
    /// # Errors
    /// If the options name a column that is not there, or one in two ways.
    fn new(header: &[String], options: &'a TableOptions) -> Result<Self, DataError> {
        let mut first: HashMap<&str, &str> = HashMap::from([(options.label.as_str(), "label")]);
        let fields = [
            ("exclude", &options.exclude),
            ("categorical", &options.categorical),
        ];
        let names = fields
            .iter()
            .flat_map(|(field, names)| names.iter().map(move |name| (*field, name)));
        if let Some(weight) = &options.weight
            && first.insert(weight, "weight").is_some()
        {
            let problem = format!("{} is named in both `label` and `weight`", quoted(weight));
            return Err(DataError::options(problem, "keep it in one of them"));
        }
        let columns = options
            .columns
            .iter()
            .map(|column| ("columns", &column.name));
        for (field, name) in names.chain(columns) {
            find(header, name, field)?;
            match first.insert(name, field) {
                Some(other) if other != field => {
                    let problem =
                        format!("{} is named in both `{other}` and `{field}`", quoted(name));
                    return Err(DataError::options(problem, "keep it in one of them"));
                }
                _ => {}
            }
        }
        Ok(Self {
            options,
            reading: options.into(),
            categorical: options.categorical.iter().map(String::as_str).collect(),
            columns: options
                .columns
                .iter()
                .map(|column| (column.name.as_str(), column))
                .collect(),
        })
    }

    fn planned(
        &self,
        index: usize,
        name: &str,
        inferred: &InferredTypes,
    ) -> Result<PlannedColumn, DataError> {
        let none = ColumnOptions::default();
        let said = *self.columns.get(name).unwrap_or(&&none);
        let kind = match said.kind {
            Some(kind) => declared(kind, said, inferred.get(name), &self.reading)
                .map_err(|e| e.in_column(name))?,
            None if self.categorical.contains(name) => ColumnType::Category { by_value: false },
            None => inferred.get(name).cloned().unwrap_or(ColumnType::Number),
        };
        let dates = said.kind == Some(options::ColumnType::Date) && said.date_format.is_none();
        let missing = said.missing.unwrap_or(match (self.options.missing, &kind) {
            (MissingPolicy::Error, _) => Missing::Error,
            (MissingPolicy::Mean, _) => Missing::Mean,
            (MissingPolicy::DropRow, _) => Missing::DropRow,
            (MissingPolicy::Impute, ColumnType::Category { .. } | ColumnType::Boolean) => {
                Missing::MostFrequent
            }
            (MissingPolicy::Impute, _) => Missing::Median,
        });
        Ok(PlannedColumn {
            index,
            name: name.to_owned(),
            kind,
            missing,
            fill_value: said.fill_value.clone(),
            missing_indicator: said.missing_indicator,
            declared: (said.kind.is_some() || self.categorical.contains(name)) && !dates,
            dates,
        })
    }
}

/// A type that the options name, with what they say of it; the rest is inferred.
fn declared(
    kind: options::ColumnType,
    said: &ColumnOptions,
    inferred: Option<&ColumnType>,
    reading: &Reading,
) -> Result<ColumnType, DataError> {
    Ok(match kind {
        options::ColumnType::Number => ColumnType::Number,
        options::ColumnType::Category => ColumnType::Category { by_value: true },
        options::ColumnType::Boolean => ColumnType::Boolean,
        options::ColumnType::Ordinal => {
            if let Some(name) = said.categories.iter().find(|name| reading.is_missing(name)) {
                let problem = format!(
                    "`categories` has {}, which stands for a missing value",
                    quoted(name)
                );
                return Err(DataError::options(problem, "leave it out"));
            }
            ColumnType::Ordinal(said.categories.clone())
        }
        options::ColumnType::Date => {
            let format = match (&said.date_format, inferred) {
                (Some(format), _) => DateFormat::new(format)?,
                (None, Some(ColumnType::Date { format, .. })) => format.clone(),
                (None, _) => DateFormat::Iso8601,
            };
            let parts = match said.date_parts.is_empty() {
                true => default_parts(&format),
                false => said.date_parts.clone(),
            };
            if parts.contains(&DatePart::Hour) && !format.has_time() {
                let problem = format!("dates as {format} have no Hour");
                return Err(DataError::options(problem, "leave it out of `dateParts`"));
            }
            ColumnType::Date { format, parts }
        }
    })
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
    let known: HashSet<&str> = header.iter().map(String::as_str).collect();
    let names = header.iter().enumerate().map(|(index, name)| {
        if !name.is_empty() {
            return Ok(name.clone());
        }
        let name = format!("column {}", index + 1);
        if known.contains(name.as_str()) {
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

/// How the column of groups is read.
const GROUP: ColumnType = ColumnType::Category { by_value: false };

impl Said<'_> {
    /// The column that a split goes by.
    fn split(
        &self,
        header: &[String],
        (name, field): SplitColumn<'_>,
        inferred: &InferredTypes,
    ) -> Result<PlannedColumn, DataError> {
        let index = find(header, name, field)?;
        if name == self.options.label {
            let problem = format!("`{field}` names {}, which is the label", quoted(name));
            return Err(DataError::options(problem, "name another column"));
        }
        let mut column = self.planned(index, name, inferred)?;
        match (field, &column.kind) {
            ("groupBy", _) => {
                column.kind = GROUP;
                column.declared = true;
            }
            (_, ColumnType::Number | ColumnType::Date { .. }) => {}
            _ => {
                let problem = format!(
                    "`{field}` names {}, which holds no numbers or dates",
                    quoted(name)
                );
                return Err(DataError::options(problem, "name another column"));
            }
        }
        // As a row without a label.
        column.missing = match self.reading.missing {
            Missing::DropRow => Missing::DropRow,
            _ => Missing::Error,
        };
        Ok(column)
    }
}

/// Where the column of weights is, if one is named.
fn weight_column(
    header: &[String],
    name: Option<&str>,
) -> Result<Option<(usize, String)>, DataError> {
    name.map(|name| Ok((find(header, name, "weight")?, name.to_owned())))
        .transpose()
}

fn positions(header: &[String]) -> HashMap<&str, usize> {
    let places = header.iter().enumerate();
    places.map(|(place, name)| (name.as_str(), place)).collect()
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
