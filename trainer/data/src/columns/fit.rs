//! Fitting columns on training rows.

use trainyard_core::schema::{Column, ColumnKind, ColumnsInput, DateInput, Missing};

use super::values::{ColumnType, RawValues};
use super::{Frame, RawColumn, Reading};
use crate::classes::{CategoryIndex, class_number, order};
use crate::date::Moment;
use crate::error::{DataError, quoted};
use crate::number::Notation;
use crate::options::{Limits, Normalization};
use crate::parallel;
use crate::scale::Scale;

impl Frame {
    /// Fits every column on `rows`, which are the training rows.
    pub(crate) fn fit(
        &self,
        rows: &[u32],
        normalization: Normalization,
        reading: &Reading,
        limits: &Limits,
    ) -> Result<ColumnsInput, DataError> {
        // Each column's sums are those of its rows in their order, whoever computes them.
        let columns = parallel::map(limits.threads, self.columns.iter().collect(), |column| {
            let kind = column
                .fit(rows, normalization)
                .map_err(|error| error.in_column(column.name()))?;
            let planned = &column.planned;
            Ok(Column {
                name: planned.name.clone(),
                kind,
                missing: (planned.missing != reading.missing).then_some(planned.missing),
                missing_indicator: planned.missing_indicator,
            })
        });
        Ok(ColumnsInput {
            delimiter: reading.delimiter,
            decimal: reading.notation.decimal,
            thousands: reading.notation.thousands,
            encoding: reading.encoding,
            headerless: reading.headerless,
            missing: reading.missing,
            na_is_missing: reading.na_is_missing && self.has_categories(),
            unnamed: reading.unnamed,
            missing_values: reading.missing_values.to_vec(),
            columns: columns.into_iter().collect::<Result<_, DataError>>()?,
        })
    }

    fn has_categories(&self) -> bool {
        let mut columns = self.columns.iter();
        columns.any(|column| matches!(column.values, RawValues::Codes { .. }))
    }
}

impl RawColumn {
    fn fit(&self, rows: &[u32], normalization: Normalization) -> Result<ColumnKind, DataError> {
        match &self.values {
            RawValues::Numbers(values) => self.fit_numbers(values, rows, normalization),
            RawValues::Codes { names, codes } => self.fit_categories(names.names(), codes, rows),
        }
    }

    fn fit_numbers(
        &self,
        values: &[f64],
        rows: &[u32],
        normalization: Normalization,
    ) -> Result<ColumnKind, DataError> {
        let present = rows
            .iter()
            .map(|&row| values[row as usize])
            .filter(|value| !value.is_nan());
        let fitted = Scale::fit(present.clone()).ok_or_else(no_value)?;
        let scaled = |fitted: Scale| match normalization {
            Normalization::Standardize => fitted,
            Normalization::None => Scale::IDENTITY,
        };
        let scale = scaled(fitted);
        let fill = match self.planned.missing {
            Missing::Error | Missing::Mean | Missing::DropRow => fitted.mean,
            Missing::Median => median(present.clone()),
            Missing::MostFrequent => most_frequent(present.clone()),
            Missing::Constant => self.constant()?,
        };
        Ok(match &self.planned.kind {
            ColumnType::Number | ColumnType::Category { .. } => ColumnKind::Numeric {
                mean: scale.mean,
                std: scale.std,
                fill,
            },
            ColumnType::Boolean => ColumnKind::Boolean { fill },
            ColumnType::Ordinal(categories) => ColumnKind::Ordinal {
                categories: categories.clone(),
                mean: scale.mean,
                std: scale.std,
                fill,
            },
            ColumnType::Date { format, parts } => {
                let inputs = parts.iter().map(|&part| {
                    // What was read as a date has every part.
                    let values = present
                        .clone()
                        .filter_map(|value| Moment::at(value).part(part));
                    let scale = scaled(Scale::fit(values)?);
                    Some(DateInput {
                        part,
                        mean: scale.mean,
                        std: scale.std,
                    })
                });
                ColumnKind::Date {
                    format: format.to_string(),
                    parts: inputs.collect::<Option<_>>().ok_or_else(no_value)?,
                    fill,
                }
            }
        })
    }

    fn fit_categories(
        &self,
        names: &[String],
        codes: &[u32],
        rows: &[u32],
    ) -> Result<ColumnKind, DataError> {
        let mut counts = vec![0u64; names.len()];
        for &row in rows {
            if let Some(count) = counts.get_mut(codes[row as usize] as usize) {
                *count += 1;
            }
        }
        let seen = names.iter().zip(&counts).filter(|(_, count)| **count > 0);
        let mut used: Vec<String> = seen.clone().map(|(name, _)| name.clone()).collect();
        let constant = match self.planned.missing {
            Missing::Constant => Some(self.planned.fill_value.clone().unwrap_or_default()),
            _ => None,
        };
        used.extend(constant.clone());
        if used.is_empty() {
            return Err(no_value());
        }
        let by_value = self.planned.kind == ColumnType::Category { by_value: true };
        if let (true, Some(text)) = (by_value, &constant)
            && class_number(text).is_none()
            && used
                .iter()
                .all(|name| name == text || class_number(name).is_some())
            && used.len() > 1
        {
            let problem = format!(
                "`fillValue` is {}, and all categories are numbers",
                quoted(text)
            );
            let remedy = "give a number, or set `missing` to Mean, which is none of them, and `missingIndicator`";
            return Err(DataError::options(problem, remedy));
        }
        let (categories, numeric) = match by_value {
            true => order(&used),
            false => {
                used.sort_unstable();
                used.dedup();
                (used, false)
            }
        };
        let index = CategoryIndex::new(&categories, numeric);
        let fill = match self.planned.missing {
            Missing::Error | Missing::Mean | Missing::Median | Missing::DropRow => None,
            Missing::Constant => constant.as_deref().and_then(|name| index.find(name)),
            Missing::MostFrequent => {
                let mut totals = vec![0u64; categories.len()];
                for (name, count) in seen {
                    totals[index.find(name).expect("it is one of them")] += count;
                }
                // The last of equal ones in reverse is the first.
                (0..totals.len()).rev().max_by_key(|&place| totals[place])
            }
        };
        let fill = fill.map(|place| categories[place].clone());
        Ok(ColumnKind::Categorical {
            categories,
            numeric,
            fill,
        })
    }

    /// The number of [`Missing::Constant`].
    fn constant(&self) -> Result<f64, DataError> {
        let text = self.planned.fill_value.as_deref().unwrap_or_default();
        self.planned
            .kind
            .number(text, Notation::PLAIN)
            .map_err(|problem| {
                DataError::options(
                    format!("`fillValue` is {}: {problem}", quoted(text)),
                    "give a value as the column has them",
                )
            })
    }
}

fn no_value() -> DataError {
    DataError::data(
        "no training row has a value in this column",
        "fill in values, or exclude the column",
    )
}

/// The median of at least one value: of two in the middle, their mean, as numpy has it.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    let middle = values.len() / 2;
    let even = values.len().is_multiple_of(2);
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    match below
        .iter()
        .copied()
        .max_by(f64::total_cmp)
        .filter(|_| even)
    {
        Some(lower) => (lower + *upper) / 2.0,
        None => *upper,
    }
}

/// The most frequent of at least one value; of several, the least.
fn most_frequent(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.map(|value| value + 0.0).collect();
    values.sort_unstable_by(f64::total_cmp);
    let runs = values.chunk_by(|a, b| a == b);
    // Of equal ones the last would be taken.
    let longest = runs.rev().max_by_key(|run| run.len());
    longest.map_or(0.0, |run| run[0])
}
