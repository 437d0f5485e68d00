//! Encoding rows with fitted columns.

use trainyard_core::schema::{Column, ColumnKind, ColumnsInput};

use super::values::{NO_CATEGORY, RawValues};
use super::{Frame, RawColumn};
use crate::classes::CategoryIndex;
use crate::date;
use crate::error::{DataError, quoted};
use crate::options::Limits;
use crate::scale::Scale;
use crate::table::allocate;
use crate::warnings::{ByColumn, columns, plural};

impl Frame {
    /// Encodes `rows`, one after the other; with the categories that the fit does not know.
    pub(crate) fn encode(
        &self,
        input: &ColumnsInput,
        rows: &[u32],
        limits: &Limits,
    ) -> Result<(Vec<f32>, Unknown), DataError> {
        let width = input.width();
        if width > limits.columns {
            return Err(DataError::limit(
                format!(
                    "one-hot encoding makes {width} inputs of a row, over {}",
                    limits.columns
                ),
                "exclude columns that hold many categories",
            ));
        }
        let mut out = allocate(rows.len(), width, limits)?;
        let mut offset = 0;
        let mut unknown = Unknown::default();
        for (place, (raw, fitted)) in self.columns.iter().zip(&input.columns).enumerate() {
            let own = offset..offset + fitted.width();
            offset = own.end;
            let cells = out.chunks_exact_mut(width);
            let cells = cells
                .zip(rows)
                .map(|(row, &index)| (&mut row[own.clone()], index));
            if let Some((values, first)) = self.encode_column(raw, fitted, cells)? {
                unknown.insert(place, raw.name(), values, first);
            }
        }
        Ok((out, unknown))
    }

    /// Encodes a column into its cells of each row, which are zeros. Returns how many categories the fit does not know, and
    /// the first.
    fn encode_column<'b>(
        &self,
        raw: &RawColumn,
        fitted: &Column,
        cells: impl Iterator<Item = (&'b mut [f32], u32)>,
    ) -> Result<Option<(usize, FirstUnknown)>, DataError> {
        let number = |row: u32, fill: f64| match &raw.values {
            RawValues::Numbers(values) => {
                let value = values[row as usize];
                if value.is_nan() { fill } else { value }
            }
            RawValues::Codes { .. } => fill,
        };
        let scaled = |value: f64, (mean, std): (f64, f64), row: u32| {
            let value = Scale { mean, std }.apply(value);
            let finite = value.is_finite().then_some(value);
            finite.ok_or_else(|| self.too_far(raw, row))
        };
        // The indicator comes last.
        let width = fitted.kind.width();
        let cells = cells.map(|(cells, row)| {
            if fitted.missing_indicator && raw.values.is_missing(row as usize) {
                cells[width] = 1.0;
            }
            (cells, row)
        });
        match (&fitted.kind, &raw.values) {
            (
                ColumnKind::Numeric { mean, std, fill }
                | ColumnKind::Ordinal {
                    mean, std, fill, ..
                },
                RawValues::Numbers(_),
            ) => {
                for (cells, row) in cells {
                    cells[0] = scaled(number(row, *fill), (*mean, *std), row)?;
                }
            }
            (ColumnKind::Boolean { fill }, RawValues::Numbers(_)) => {
                for (cells, row) in cells {
                    cells[0] = number(row, *fill) as f32;
                }
            }
            (ColumnKind::Date { parts, fill, .. }, RawValues::Numbers(_)) => {
                for (cells, row) in cells {
                    let seconds = number(row, *fill);
                    for (cell, input) in cells.iter_mut().zip(parts) {
                        let part = date::part(input.part, seconds)
                            .ok_or_else(|| self.too_far(raw, row))?;
                        *cell = scaled(part, (input.mean, input.std), row)?;
                    }
                }
            }
            (
                ColumnKind::Categorical {
                    categories,
                    numeric,
                    fill,
                },
                RawValues::Codes { names, codes },
            ) => {
                let index = CategoryIndex::new(categories, *numeric);
                let known: Vec<Option<usize>> =
                    names.names().iter().map(|name| index.find(name)).collect();
                let fill = fill.as_ref().and_then(|fill| index.find(fill));
                let mut values = 0;
                let mut first = None;
                for (cells, row) in cells {
                    let code = codes[row as usize];
                    let category = match code {
                        NO_CATEGORY => fill,
                        code => {
                            let category = known[code as usize];
                            if category.is_none() {
                                values += 1;
                                first.get_or_insert((row, code));
                            }
                            category
                        }
                    };
                    if let Some(category) = category {
                        cells[category] = 1.0;
                    }
                }
                let first = first.map(|(row, code)| FirstUnknown {
                    line: self.lines[row as usize],
                    category: names.names()[code as usize].clone(),
                });
                return Ok(first.map(|first| (values, first)));
            }
            _ => return Err(DataError::options("the columns do not fit the schema", "")),
        }
        Ok(None)
    }

    /// The place of an error in an encoded row.
    pub(crate) fn at_row(&self, error: DataError, row: u32) -> DataError {
        match self.lines.get(row as usize) {
            Some(&line) => error.on_line(line),
            None => error,
        }
    }

    fn too_far(&self, column: &RawColumn, row: u32) -> DataError {
        let problem =
            "the value is so far from the training rows' that its scaled form is infinite";
        let error = DataError::data(problem, "mend the value").in_column(column.name());
        self.at_row(error, row)
    }
}

/// Categories that the fit does not know, with the first of each column.
pub(crate) type Unknown = ByColumn<FirstUnknown>;

/// The first category of a column that the fit does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FirstUnknown {
    /// Where it stands.
    line: u64,
    category: String,
}

impl Unknown {
    /// One sentence, however many columns have some.
    pub(crate) fn told(&self) -> Option<String> {
        let (column, first) = self.columns().next()?;
        let names: Vec<&str> = self.columns().map(|(name, _)| name).collect();
        let verbs = ["is a category", "are categories"];
        let (values, are) = plural(self.values(), "value", "values", verbs);
        Some(format!(
            "{values} of {} {are} that the model does not know, the first {} in {} on line {}; all such are encoded \
             as zeros",
            columns(&names),
            quoted(&first.category),
            columns(&[column]),
            first.line,
        ))
    }
}
