mod encode;
mod fit;
mod plan;
mod values;

use std::io::Read;
use std::sync::Arc;

pub(crate) use encode::Unknown;
pub(crate) use plan::{InferredTypes, LabelColumn, Plan, PlannedColumn};
pub(crate) use values::{ColumnType, NO_CATEGORY, RawValues, pairs_of};

use trainyard_core::metrics::Task;
use trainyard_core::schema::{ColumnsInput, Encoding, Missing};

use crate::classes::RawLabels;
use crate::error::{DataError, quoted};
use crate::number::{self, Notation};
use crate::options::{CsvOptions, Limits, MissingPolicy};
use crate::table::ENCODED;
use crate::text::Records;

/// How the fields of a file are read.
#[derive(Clone)]
pub(crate) struct Reading {
    /// The byte between fields.
    pub delimiter: u8,
    /// How numbers are written.
    pub notation: Notation,
    /// How bytes stand for letters.
    pub encoding: Encoding,
    /// Whether there is no header.
    pub headerless: bool,
    /// What to do about missing values in columns that have no policy of their own, and about missing labels.
    pub missing: Missing,
    /// Whether `NA` and `NaN` are missing in a categorical column too.
    pub na_is_missing: bool,
    /// Whether columns without a name are used.
    pub unnamed: bool,
    /// Further texts that stand for a missing value.
    pub missing_values: Arc<[String]>,
}

impl From<&CsvOptions> for Reading {
    fn from(options: &CsvOptions) -> Self {
        Reading {
            delimiter: options.delimiter,
            notation: Notation {
                decimal: options.decimal,
                thousands: options.thousands,
            },
            encoding: options.encoding,
            headerless: options.headerless,
            missing: match options.missing {
                MissingPolicy::Error => Missing::Error,
                MissingPolicy::Mean => Missing::Mean,
                // Each column has a policy of its own; what is left is the label.
                MissingPolicy::DropRow | MissingPolicy::Impute => Missing::DropRow,
            },
            na_is_missing: options.na_is_missing,
            unnamed: options.unnamed,
            missing_values: options
                .missing_values
                .iter()
                .map(|text| text.trim().to_owned())
                .collect(),
        }
    }
}

impl From<&ColumnsInput> for Reading {
    fn from(input: &ColumnsInput) -> Self {
        Reading {
            delimiter: input.delimiter,
            notation: Notation {
                decimal: input.decimal,
                thousands: input.thousands,
            },
            encoding: input.encoding,
            headerless: input.headerless,
            missing: input.missing,
            na_is_missing: input.na_is_missing,
            unnamed: input.unnamed,
            missing_values: input.missing_values.as_slice().into(),
        }
    }
}

impl Reading {
    /// Whether a number, a label or the like is missing.
    pub(crate) fn is_missing(&self, text: &str) -> bool {
        number::is_missing(text) || self.missing_values.iter().any(|value| value == text)
    }

    /// Whether the value of a column of this type is missing.
    pub(crate) fn is_missing_in(&self, kind: &ColumnType, text: &str) -> bool {
        match kind {
            ColumnType::Category { .. } if !self.na_is_missing => {
                text.is_empty() || self.missing_values.iter().any(|value| value == text)
            }
            _ => self.is_missing(text),
        }
    }
}

/// The columns of a file as read, before any encoding.
pub(crate) struct Frame {
    /// Input columns, as the plan orders them.
    pub columns: Vec<RawColumn>,
    /// Labels, if the plan has a label column.
    pub labels: Option<RawLabels>,
    /// What each row counts in training, if the plan has a column for it.
    pub weights: Option<Vec<f64>>,
    /// The column that the split goes by.
    pub split: Option<RawColumn>,
    /// The texts of each row in the columns that are kept, row after row.
    pub ids: Vec<String>,
    /// Line on which each row starts.
    pub lines: Vec<u64>,
    /// Lines of the rows left out for a missing value.
    pub dropped: Vec<u64>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Bytes of all categories' and classes' names.
    names: u64,
}

/// One input column.
pub(crate) struct RawColumn {
    /// What was planned for it.
    pub planned: PlannedColumn,
    /// Its values.
    pub values: RawValues,
}

impl RawColumn {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.planned.name
    }
}

impl Frame {
    /// Reads every record of `source`.
    pub(crate) fn read<'a>(
        source: Box<dyn Read + 'a>,
        reading: &Reading,
        limits: &Limits,
        plan: impl FnOnce(&[String]) -> Result<Plan, DataError>,
    ) -> Result<Self, DataError> {
        let mut records = Records::new(source, reading, limits)?;
        let plan = plan(records.header()).map_err(|e| e.on_line(1))?;
        let frame = Self::part(&mut records, &plan, usize::MAX, limits)?;
        if frame.lines.is_empty() {
            return Err(plan.no_rows(frame.dropped.len()));
        }
        Ok(frame)
    }

    /// Reads records until there are `most` rows; fewer, or none, at the end of the file.
    pub(crate) fn part(
        records: &mut Records<'_>,
        plan: &Plan,
        most: usize,
        limits: &Limits,
    ) -> Result<Self, DataError> {
        let mut frame = Self::empty(plan);
        let row_bytes = frame.row_bytes();
        while frame.lines.len() < most
            && let Some(line) = records.next()?
        {
            let rows = frame.lines.len();
            let all = rows as u64 + frame.dropped.len() as u64 + 1;
            limits
                .check_memory(row_bytes.saturating_mul(all).saturating_add(frame.names))
                .map_err(|e| e.on_line(line))?;
            let values = (rows as u64 + 1).saturating_mul(plan.columns.len() as u64);
            if rows >= u32::MAX as usize || values > limits.values {
                let problem = format!("more than {rows} rows of {} columns", plan.columns.len());
                return Err(DataError::limit(problem, "split the file").on_line(line));
            }
            if frame
                .push(records, plan, limits)
                .map_err(|e| e.on_line(line))?
            {
                frame.keep_ids(records, plan).map_err(|e| e.on_line(line))?;
                frame.lines.push(line);
            } else {
                frame.truncate(rows);
                frame.dropped.push(line);
            }
        }
        Ok(frame)
    }

    fn keep_ids(&mut self, records: &Records<'_>, plan: &Plan) -> Result<(), DataError> {
        for index in &plan.ids {
            let text = records.field(*index)?;
            self.names += (text.len() + size_of::<String>()) as u64;
            self.ids.push(text.to_owned());
        }
        Ok(())
    }

    fn empty(plan: &Plan) -> Self {
        let raw = |planned: &PlannedColumn| RawColumn {
            planned: planned.clone(),
            values: planned.kind.values(),
        };
        Self {
            columns: plan.columns.iter().map(raw).collect(),
            split: plan.split.as_ref().map(raw),
            labels: plan.label.as_ref().map(|_| RawLabels::new(plan.task)),
            weights: plan.weight.as_ref().map(|_| Vec::new()),
            ids: Vec::new(),
            lines: Vec::new(),
            dropped: Vec::new(),
            warnings: plan.warnings.clone(),
            names: 0,
        }
    }

    /// Bytes that a row takes, as read and encoded. A category is encoded as at least one input; more are
    /// counted when it is known how many.
    fn row_bytes(&self) -> u64 {
        let values: u64 = self
            .columns
            .iter()
            .map(|column| column.values.value_bytes() + ENCODED)
            .sum();
        let (line, label) = (size_of::<u64>() as u64, size_of::<f64>() as u64);
        values + line + label
    }

    /// Bytes that its rows hold as read, and the names of categories.
    pub(crate) fn bytes(&self) -> u64 {
        let value = |column: &RawColumn| column.values.value_bytes() * column.values.len() as u64;
        let lines = size_of_val(&self.lines[..]) + size_of_val(&self.dropped[..]);
        self.columns.iter().map(value).sum::<u64>() + lines as u64 + self.names
    }

    /// Adds the current record; false if it is to be left out.
    fn push(&mut self, records: &Records, plan: &Plan, limits: &Limits) -> Result<bool, DataError> {
        let mut whole = true;
        for column in self.columns.iter_mut().chain(&mut self.split) {
            let planned = &column.planned;
            let at_column = |error: DataError| error.in_column(&planned.name);
            let text = records.field(planned.index).map_err(at_column)?;
            if !plan.reading.is_missing_in(&planned.kind, text) {
                let remedy = || plan.remedy(planned);
                column
                    .values
                    .push(
                        text,
                        &planned.kind,
                        plan.reading.notation,
                        remedy,
                        limits,
                        &mut self.names,
                    )
                    .map_err(at_column)?;
                continue;
            }
            column.values.push_missing();
            match planned.missing {
                Missing::Error => return Err(at_column(plan.missing_value(text))),
                Missing::DropRow => whole = false,
                _ => {}
            }
        }
        if let (Some((index, name)), Some(weights)) = (&plan.weight, &mut self.weights) {
            let text = records.field(*index).map_err(|e| e.in_column(name))?;
            match plan.reading.is_missing(text) {
                false => {
                    let weight = weight(text, plan.reading.notation);
                    weights.push(weight.map_err(|e| e.in_column(name))?);
                }
                true if plan.reading.missing == Missing::DropRow => whole = false,
                true => return Err(missing_weight().in_column(name)),
            }
        }
        let (true, Some((index, name)), Some(labels)) = (whole, &plan.label, &mut self.labels)
        else {
            return Ok(whole);
        };
        (|| {
            let text = records.field(*index)?;
            if plan.reading.is_missing(text) {
                if plan.predicts {
                    labels.push_none();
                    return Ok(true);
                }
                return match plan.reading.missing {
                    Missing::DropRow => Ok(false),
                    _ => Err(missing_label(plan.task)),
                };
            }
            match labels {
                RawLabels::Codes { names, codes } => {
                    codes.push(names.intern(text, limits, &mut self.names)?);
                }
                RawLabels::Targets(targets) => match plan.reading.notation.parse(text) {
                    Ok(value) => targets.push(value),
                    Err(problem) => {
                        let remedy = "mend the value; regression needs a number as its label";
                        return Err(DataError::data(problem, remedy));
                    }
                },
            }
            Ok(true)
        })()
        .map_err(|e: DataError| e.in_column(name))
    }

    fn truncate(&mut self, rows: usize) {
        for column in self.columns.iter_mut().chain(&mut self.split) {
            column.values.truncate(rows);
        }
        if let Some(weights) = &mut self.weights {
            weights.truncate(rows);
        }
    }
}

/// What a row counts.
fn weight(text: &str, notation: Notation) -> Result<f64, DataError> {
    let value = notation.parse(text).and_then(|value| match value >= 0.0 {
        true => Ok(value),
        false => Err(format!(
            "expected a weight of 0 or more, found {}",
            quoted(text)
        )),
    });
    value.map_err(|problem| DataError::data(problem, "correct the value"))
}

fn missing_weight() -> DataError {
    DataError::data(
        "the weight is missing",
        "fill it in, or set `missing` to Impute or DropRow, which leave the row out",
    )
}

fn missing_label(task: Task) -> DataError {
    let remedy = match task {
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
