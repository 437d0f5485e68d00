//! Fitting columns on training rows, and encoding any rows with the fit.

use trainyard_core::schema::{Column, ColumnKind, ColumnsInput};

use super::{Frame, NO_CATEGORY, RawColumn, RawValues, Reading};
use crate::error::{DataError, quoted};
use crate::options::{Limits, Normalization};
use crate::scale::Scale;
use crate::table::allocate;
use crate::warnings::{columns, plural};

impl Frame {
    /// Fits every column on `rows`, which are the training rows.
    pub(crate) fn fit(
        &self,
        rows: &[u32],
        normalization: Normalization,
        reading: Reading,
    ) -> Result<ColumnsInput, DataError> {
        let columns = self.columns.iter().map(|column| {
            let kind = column.fit(rows, normalization).ok_or_else(|| {
                DataError::data(
                    "no training row has a value in this column",
                    "fill in values, or exclude the column",
                )
                .in_column(&column.name)
            })?;
            Ok(Column {
                name: column.name.clone(),
                kind,
            })
        });
        Ok(ColumnsInput {
            delimiter: reading.delimiter,
            missing: reading.missing,
            na_is_missing: reading.na_is_missing && self.has_categories(),
            unnamed: reading.unnamed,
            columns: columns.collect::<Result<_, DataError>>()?,
        })
    }

    fn has_categories(&self) -> bool {
        let mut columns = self.columns.iter();
        columns.any(|column| matches!(column.values, RawValues::Codes { .. }))
    }

    /// Encodes `rows`, one after the other; with a sentence if there are categories that the fit does not
    /// know.
    pub(crate) fn encode(
        &self,
        input: &ColumnsInput,
        rows: &[u32],
        limits: &Limits,
    ) -> Result<(Vec<f32>, Option<String>), DataError> {
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
        let mut unknowns = Vec::new();
        for (raw, fitted) in self.columns.iter().zip(&input.columns) {
            let cells = out.chunks_exact_mut(width).zip(rows);
            match (&raw.values, &fitted.kind) {
                (RawValues::Numbers(values), ColumnKind::Numeric { mean, std, fill }) => {
                    let scale = Scale {
                        mean: *mean,
                        std: *std,
                    };
                    for (cell, &row) in cells {
                        let value = values[row as usize];
                        let value = scale.apply(if value.is_nan() { *fill } else { value });
                        if !value.is_finite() {
                            return Err(self.too_far(raw, row));
                        }
                        cell[offset] = value;
                    }
                }
                (RawValues::Codes { names, codes }, ColumnKind::Categorical { categories }) => {
                    let known: Vec<Option<usize>> = names
                        .names()
                        .iter()
                        .map(|n| categories.binary_search(n).ok())
                        .collect();
                    let mut unknown = Unknown {
                        column: &raw.name,
                        names: names.names(),
                        values: 0,
                        first: None,
                    };
                    for (cell, &row) in cells {
                        let code = codes[row as usize];
                        if code == NO_CATEGORY {
                            continue;
                        }
                        match known[code as usize] {
                            Some(category) => cell[offset + category] = 1.0,
                            None => unknown.add(row, code),
                        }
                    }
                    unknowns.push(unknown);
                }
                _ => return Err(DataError::options("the columns do not fit the schema", "")),
            }
            offset += fitted.kind.width();
        }
        Ok((out, self.told(&unknowns)))
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
        let error = DataError::data(problem, "mend the value").in_column(&column.name);
        self.at_row(error, row)
    }
}

impl RawColumn {
    /// `None` if no training row has a value.
    fn fit(&self, rows: &[u32], normalization: Normalization) -> Option<ColumnKind> {
        match &self.values {
            RawValues::Numbers(values) => {
                let present = rows
                    .iter()
                    .map(|&row| values[row as usize])
                    .filter(|value| !value.is_nan());
                let fitted = Scale::fit(present)?;
                let scale = match normalization {
                    Normalization::Standardize => fitted,
                    Normalization::None => Scale::IDENTITY,
                };
                Some(ColumnKind::Numeric {
                    mean: scale.mean,
                    std: scale.std,
                    fill: fitted.mean,
                })
            }
            RawValues::Codes { names, codes } => {
                let mut used = vec![false; names.names().len()];
                for &row in rows {
                    if let Some(used) = used.get_mut(codes[row as usize] as usize) {
                        *used = true;
                    }
                }
                let names = names.names().iter().zip(used);
                let mut categories: Vec<String> = names
                    .filter(|(_, used)| *used)
                    .map(|(name, _)| name.clone())
                    .collect();
                categories.sort_unstable();
                (!categories.is_empty()).then_some(ColumnKind::Categorical { categories })
            }
        }
    }
}

/// Categories of a column that the fit does not know.
struct Unknown<'a> {
    column: &'a str,
    /// Of all categories, by code.
    names: &'a [String],
    values: usize,
    /// The first such row, and the code of its category.
    first: Option<(u32, u32)>,
}

impl Unknown<'_> {
    fn add(&mut self, row: u32, code: u32) {
        self.values += 1;
        self.first.get_or_insert((row, code));
    }
}

impl Frame {
    /// One sentence about unknown categories, however many columns have some.
    fn told(&self, unknowns: &[Unknown<'_>]) -> Option<String> {
        let found: Vec<&Unknown<'_>> = unknowns.iter().filter(|u| u.values > 0).collect();
        let first = found.first()?;
        let (row, code) = first.first?;
        let (line, name) = (
            self.lines.get(row as usize)?,
            first.names.get(code as usize)?,
        );
        let names: Vec<&str> = found.iter().map(|unknown| unknown.column).collect();
        let values: usize = found.iter().map(|unknown| unknown.values).sum();
        let verbs = ["is a category", "are categories"];
        let (values, are) = plural(values, "value", "values", verbs);
        Some(format!(
            "{values} of {} {are} that the model does not know, the first {} in {} on line {line}; all such are \
             encoded as zeros",
            columns(&names),
            quoted(name),
            columns(&[first.column]),
        ))
    }
}
