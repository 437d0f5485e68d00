//! Encoding rows with fitted columns.

use std::ops::Range;

use trainyard_core::schema::{Column, ColumnKind, ColumnsInput, DateInput};

use super::values::{NO_CATEGORY, RawValues};
use super::{Frame, RawColumn};
use crate::classes::CategoryIndex;
use crate::date::Moment;
use crate::error::{DataError, quoted};
use crate::options::Limits;
use crate::parallel;
use crate::scale::Scale;
use crate::table::allocate;
use crate::warnings::{ByColumn, columns, plural};

/// Rows that are encoded before the next column is: their inputs stay in a core's cache.
const BLOCK: usize = 512;
/// Rows that a thread encodes before it takes others.
const PART: usize = 16 * BLOCK;

/// How a column becomes inputs.
struct Encoder<'a> {
    raw: &'a RawColumn,
    /// Its inputs among those of a row.
    own: Range<usize>,
    has_indicator: bool,
    how: How<'a>,
}

enum How<'a> {
    Number {
        values: &'a [f64],
        scale: Scale,
        fill: f64,
    },
    Date {
        values: &'a [f64],
        parts: &'a [DateInput],
        fill: f64,
    },
    Category {
        codes: &'a [u32],
        /// The place of each name among the categories.
        places: Vec<Option<usize>>,
        fill: Option<usize>,
    },
}

impl Frame {
    /// Encodes `rows`, one after the other; with the categories that the fit does not know. `done` is given the inputs part by
    /// part, in the order of the rows, while others are encoded.
    pub(crate) fn encode(
        &self,
        input: &ColumnsInput,
        rows: &[u32],
        limits: &Limits,
        done: &mut dyn FnMut(&[f32]),
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
        let mut start = 0;
        let mut encoders = Vec::with_capacity(self.columns.len());
        for (raw, fitted) in self.columns.iter().zip(&input.columns) {
            let own = start..start + fitted.width();
            start = own.end;
            encoders.push(Encoder::new(raw, fitted, own)?);
        }
        let mut parts = rows.chunks(PART).zip(out.chunks_mut(PART * width));
        let mut unknown = Unknown::default();
        parallel::pipeline(
            limits.threads,
            || Ok(parts.next()),
            |(rows, out)| {
                let unknown = self.encode_part(&encoders, width, rows, out)?;
                Ok((&*out, unknown))
            },
            |(part, further)| {
                done(part);
                unknown.add(further);
                Ok(())
            },
        )?;
        Ok((out, unknown))
    }

    fn encode_part(
        &self,
        encoders: &[Encoder<'_>],
        width: usize,
        rows: &[u32],
        out: &mut [f32],
    ) -> Result<Unknown, DataError> {
        let mut unknown = Unknown::default();
        for (rows, out) in rows.chunks(BLOCK).zip(out.chunks_mut(BLOCK * width)) {
            for (place, encoder) in encoders.iter().enumerate() {
                let cells = out.chunks_exact_mut(width).zip(rows.iter().copied());
                encoder.encode(self, cells, |row, code| {
                    let first = || self.first_unknown(encoder.raw, row, code);
                    unknown.count(place, encoder.raw.name(), first);
                })?;
            }
        }
        Ok(unknown)
    }

    fn first_unknown(&self, raw: &RawColumn, row: u32, code: u32) -> FirstUnknown {
        let category = match &raw.values {
            RawValues::Codes { names, .. } => names.names()[code as usize].clone(),
            RawValues::Numbers(_) => String::new(),
        };
        FirstUnknown {
            place: self.place(self.lines[row as usize]),
            file: self.file_of(row as usize).map(str::to_owned),
            category,
        }
    }

    /// The place of an error in an encoded row.
    pub(crate) fn at_row(&self, error: DataError, row: u32) -> DataError {
        let error = match self.file_of(row as usize) {
            Some(file) => error.in_file(file),
            None => error,
        };
        let error = match self.lines.get(row as usize) {
            Some(&line) => error.on_line(line),
            None => error,
        };
        if self.by_row { error.by_row() } else { error }
    }

    fn too_far(&self, column: &RawColumn, row: u32) -> DataError {
        let problem =
            "the value is so far from the training rows' that its scaled form is infinite";
        let error = DataError::data(problem, "mend the value").in_column(column.name());
        self.at_row(error, row)
    }
}

impl<'a> Encoder<'a> {
    fn new(raw: &'a RawColumn, fitted: &'a Column, own: Range<usize>) -> Result<Self, DataError> {
        let scaled = |values, mean, std, fill| How::Number {
            values,
            scale: Scale { mean, std },
            fill,
        };
        let how = match (&fitted.kind, &raw.values) {
            (
                &ColumnKind::Numeric { mean, std, fill }
                | &ColumnKind::Ordinal {
                    mean, std, fill, ..
                },
                RawValues::Numbers(values),
            ) => scaled(values, mean, std, fill),
            (&ColumnKind::Boolean { fill }, RawValues::Numbers(values)) => {
                let Scale { mean, std } = Scale::IDENTITY;
                scaled(values, mean, std, fill)
            }
            (ColumnKind::Date { parts, fill, .. }, RawValues::Numbers(values)) => How::Date {
                values,
                parts,
                fill: *fill,
            },
            (
                ColumnKind::Categorical {
                    categories,
                    numeric,
                    fill,
                },
                RawValues::Codes { names, codes },
            ) => {
                let index = CategoryIndex::new(categories, *numeric);
                let names = names.names().iter();
                How::Category {
                    codes,
                    places: names.map(|name| index.find(name)).collect(),
                    fill: fill.as_ref().and_then(|fill| index.find(fill)),
                }
            }
            _ => return Err(DataError::options("the columns do not fit the schema", "")),
        };
        Ok(Self {
            raw,
            own,
            has_indicator: fitted.missing_indicator,
            how,
        })
    }

    /// Encodes the column into the inputs of each row, which are zeros. `unknown` is told of each category that the fit
    /// does not know, with its row.
    fn encode<'b>(
        &self,
        frame: &Frame,
        rows: impl Iterator<Item = (&'b mut [f32], u32)>,
        mut unknown: impl FnMut(u32, u32),
    ) -> Result<(), DataError> {
        let known = |value: f64, fill: f64| if value.is_nan() { fill } else { value };
        let scaled = |value: f64, scale: Scale, row: u32| {
            let value = scale.apply(value);
            let finite = value.is_finite().then_some(value);
            finite.ok_or_else(|| frame.too_far(self.raw, row))
        };
        let rows = rows.map(|(inputs, row)| {
            let cells = &mut inputs[self.own.clone()];
            if self.has_indicator
                && self.raw.values.is_missing(row as usize)
                && let Some(last) = cells.last_mut()
            {
                *last = 1.0;
            }
            (cells, row)
        });
        match &self.how {
            How::Number {
                values,
                scale,
                fill,
            } => {
                for (cells, row) in rows {
                    cells[0] = scaled(known(values[row as usize], *fill), *scale, row)?;
                }
            }
            How::Date {
                values,
                parts,
                fill,
            } => {
                for (cells, row) in rows {
                    let moment = Moment::at(known(values[row as usize], *fill));
                    for (cell, input) in cells.iter_mut().zip(*parts) {
                        let part = moment.part(input.part);
                        let part = part.ok_or_else(|| frame.too_far(self.raw, row))?;
                        let (mean, std) = (input.mean, input.std);
                        *cell = scaled(part, Scale { mean, std }, row)?;
                    }
                }
            }
            How::Category {
                codes,
                places,
                fill,
            } => {
                for (cells, row) in rows {
                    let code = codes[row as usize];
                    let place = match code {
                        NO_CATEGORY => *fill,
                        code => {
                            let place = places[code as usize];
                            if place.is_none() {
                                unknown(row, code);
                            }
                            place
                        }
                    };
                    if let Some(place) = place {
                        cells[place] = 1.0;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Categories that the fit does not know, with the first of each column.
pub(crate) type Unknown = ByColumn<FirstUnknown>;

/// The first category of a column that the fit does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FirstUnknown {
    /// Where it stands; the file only if there are several.
    place: String,
    file: Option<String>,
    category: String,
}

impl Unknown {
    /// One sentence, however many columns have some.
    pub(crate) fn told(&self) -> Option<String> {
        let (column, first) = self.columns().next()?;
        let names: Vec<&str> = self.columns().map(|(name, _)| name).collect();
        let verbs = ["is a category", "are categories"];
        let (values, are) = plural(self.values(), "value", "values", verbs);
        let of_file = first
            .file
            .as_ref()
            .map_or(String::new(), |file| format!(" of {file}"));
        Some(format!(
            "{values} of {} {are} that the model does not know, the first {} in {} on {}{of_file}; all such are \
             encoded as zeros",
            columns(&names),
            quoted(&first.category),
            columns(&[column]),
            first.place,
        ))
    }
}
