//! CSV files: read into columns, fitted, encoded.

mod encode;
mod plan;

use std::io::Read;

pub(crate) use plan::{LabelColumn, Plan};

use trainyard_core::metrics::Task;
use trainyard_core::schema::{ColumnsInput, Missing};

use crate::classes::{Interner, RawLabels};
use crate::error::DataError;
use crate::number;
use crate::options::{CsvOptions, Limits};
use crate::table::ENCODED;
use crate::text::Records;

/// How the fields of a file are read.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    /// The byte between fields.
    pub delimiter: u8,
    /// What to do about missing values.
    pub missing: Missing,
    /// Whether `NA` and `NaN` are missing in a categorical column too.
    pub na_is_missing: bool,
    /// Whether columns without a name are used.
    pub unnamed: bool,
}

impl From<&CsvOptions> for Reading {
    fn from(options: &CsvOptions) -> Self {
        Reading {
            delimiter: options.delimiter,
            missing: options.missing,
            na_is_missing: options.na_is_missing,
            unnamed: options.unnamed,
        }
    }
}

impl From<&ColumnsInput> for Reading {
    fn from(input: &ColumnsInput) -> Self {
        Reading {
            delimiter: input.delimiter,
            missing: input.missing,
            na_is_missing: input.na_is_missing,
            unnamed: input.unnamed,
        }
    }
}

/// The columns of a file as read, before any encoding.
pub(crate) struct Frame {
    /// Input columns, as the plan orders them.
    pub columns: Vec<RawColumn>,
    /// Labels, if the plan has a label column.
    pub labels: Option<RawLabels>,
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
    /// Its name.
    pub name: String,
    /// Its values.
    pub values: RawValues,
}

/// Values of an input column.
pub(crate) enum RawValues {
    /// Numbers; NaN where missing.
    Numbers(Vec<f64>),
    /// Categories; [`NO_CATEGORY`] where missing.
    Codes { names: Interner, codes: Vec<u32> },
}

/// The code of a missing category.
pub(crate) const NO_CATEGORY: u32 = u32::MAX;

impl Frame {
    /// Reads every record of `source`.
    pub(crate) fn read<'a>(
        source: Box<dyn Read + 'a>,
        delimiter: u8,
        limits: &Limits,
        plan: impl FnOnce(&[String]) -> Result<Plan, DataError>,
    ) -> Result<Self, DataError> {
        let mut records = Records::new(source, delimiter, limits)?;
        let plan = plan(records.header()).map_err(|e| e.on_line(1))?;
        let mut frame = Self::empty(&plan);
        let row_bytes = frame.row_bytes();
        while let Some(line) = records.next()? {
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
                .push(&records, &plan, limits)
                .map_err(|e| e.on_line(line))?
            {
                frame.lines.push(line);
            } else {
                frame.truncate(rows);
                frame.dropped.push(line);
            }
        }
        if frame.lines.is_empty() {
            return Err(match frame.dropped.len() {
                0 => DataError::data("the file has a header but no rows", "add rows"),
                rows => plan.nothing_left(rows),
            });
        }
        Ok(frame)
    }

    fn empty(plan: &Plan) -> Self {
        let columns = plan.columns.iter().map(|column| RawColumn {
            name: column.name.clone(),
            values: match column.categorical {
                true => RawValues::Codes {
                    names: Interner::default(),
                    codes: Vec::new(),
                },
                false => RawValues::Numbers(Vec::new()),
            },
        });
        Self {
            columns: columns.collect(),
            labels: plan.label.as_ref().map(|_| RawLabels::new(plan.task)),
            lines: Vec::new(),
            dropped: Vec::new(),
            warnings: plan.warnings.clone(),
            names: 0,
        }
    }

    /// Bytes that a row takes, as read and encoded. A category is encoded as at least one input; more are
    /// counted when it is known how many.
    fn row_bytes(&self) -> u64 {
        let value = |column: &RawColumn| match &column.values {
            RawValues::Numbers(_) => size_of::<f64>(),
            RawValues::Codes { .. } => size_of::<u32>(),
        } as u64;
        let values: u64 = self
            .columns
            .iter()
            .map(|column| value(column) + ENCODED)
            .sum();
        let (line, label) = (size_of::<u64>() as u64, size_of::<f64>() as u64);
        values + line + label
    }

    /// Bytes that its rows hold as read, and the names of categories.
    pub(crate) fn bytes(&self) -> u64 {
        let value = |column: &RawColumn| match &column.values {
            RawValues::Numbers(values) => size_of_val(&values[..]),
            RawValues::Codes { codes, .. } => size_of_val(&codes[..]),
        } as u64;
        let lines = size_of_val(&self.lines[..]) + size_of_val(&self.dropped[..]);
        self.columns.iter().map(value).sum::<u64>() + lines as u64 + self.names
    }

    /// Adds the current record; false if it is to be left out.
    fn push(&mut self, records: &Records, plan: &Plan, limits: &Limits) -> Result<bool, DataError> {
        let mut whole = true;
        for (column, planned) in self.columns.iter_mut().zip(&plan.columns) {
            let names = &mut self.names;
            let missing = (|| {
                let text = records.field(planned.index)?;
                column.values.push(text, plan, limits, names)
            })()
            .map_err(|e| e.in_column(&planned.name))?;
            if missing {
                match plan.reading.missing {
                    Missing::Mean => {}
                    Missing::DropRow => whole = false,
                    Missing::Error => {
                        let text = records.field(planned.index)?;
                        return Err(plan.missing_value(text).in_column(&planned.name));
                    }
                }
            }
        }
        let (true, Some((index, name)), Some(labels)) = (whole, &plan.label, &mut self.labels)
        else {
            return Ok(whole);
        };
        (|| {
            let text = records.field(*index)?;
            if number::is_missing(text) {
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
                RawLabels::Targets(targets) => match number::parse(text) {
                    Ok(value) => targets.extend(value),
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
        for column in &mut self.columns {
            match &mut column.values {
                RawValues::Numbers(values) => values.truncate(rows),
                RawValues::Codes { codes, .. } => codes.truncate(rows),
            }
        }
    }
}

impl RawValues {
    /// Adds one field of a file that is read as `plan` says; true if its value is missing. `bytes` grows with
    /// the names of categories.
    fn push(
        &mut self,
        text: &str,
        plan: &Plan,
        limits: &Limits,
        bytes: &mut u64,
    ) -> Result<bool, DataError> {
        match self {
            Self::Numbers(values) => {
                let value = number::parse(text)
                    .map_err(|problem| DataError::data(problem, plan.not_a_number()))?;
                values.push(value.unwrap_or(f64::NAN));
                Ok(value.is_none())
            }
            Self::Codes { names, codes } => {
                let na_is_missing = plan.reading.na_is_missing;
                let missing = text.is_empty() || na_is_missing && number::is_missing(text);
                codes.push(if missing {
                    NO_CATEGORY
                } else {
                    names.intern(text, limits, bytes)?
                });
                Ok(missing)
            }
        }
    }
}

fn missing_label(task: Task) -> DataError {
    let remedy = match task {
        Task::Regression => "fill it in, or set `missing` to DropRow",
        _ => "fill it in (a class cannot be called NA or NaN), or set `missing` to DropRow",
    };
    DataError::data("the label is missing", remedy)
}
