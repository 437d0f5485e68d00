//! Rows that a client sends: columns of numbers and texts, encoded by a fitted schema.

use std::borrow::Cow;
use std::cell::OnceCell;

use trainyard_core::schema::{ColumnKind, ColumnsInput, InputKind, InputSchema};

use crate::columns::{Frame, LabelColumn, Plan, Reading};
use crate::error::DataError;
use crate::options::{Limits, TableFormat};
use crate::text::Fields;

/// The values of a column, one for each row.
#[derive(Clone, Debug, PartialEq)]
pub enum Values<'a> {
    /// Numbers; NaN where they are missing.
    Numbers(Cow<'a, [f64]>),
    /// Texts, each as it would stand in a CSV file of the model's kind.
    Texts(Vec<Cow<'a, [u8]>>),
}

impl Values<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Texts(texts) => texts.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Encodes rows again and again: what a schema decides is decided once.
pub struct RowEncoder {
    input: ColumnsInput,
    plan: Plan,
    limits: Limits,
}

impl RowEncoder {
    /// For a model of named columns.
    ///
    /// # Errors
    /// If its inputs are an array.
    pub fn new(schema: &InputSchema, limits: &Limits) -> Result<Self, DataError> {
        let InputKind::Columns(input) = &schema.input else {
            let problem = "the model reads an array, not named columns";
            return Err(DataError::options(problem, "give its numbers"));
        };
        let reading = Reading::fitted(input, TableFormat::Csv);
        let header: Vec<String> = input.columns.iter().map(|c| c.name.clone()).collect();
        let label = (schema.label.name.as_str(), LabelColumn::Optional);
        let fit = (input, &reading);
        let plan = Plan::fitted(&header, fit, label, None, &[], &[], schema.task)?;
        Ok(Self {
            input: input.clone(),
            plan,
            limits: Limits {
                threads: 1,
                ..limits.clone()
            },
        })
    }

    /// Inputs of rows, one row after the other, of columns in the order of the schema. A number that is not missing stands for itself,
    /// whatever notation the files had.
    ///
    /// # Errors
    /// If a column has not as many values as the first, or a value cannot be encoded: with its column and its row. Also if a row
    /// would be left out, since each wants an answer.
    pub fn encode(&self, columns: &[Values<'_>]) -> Result<Vec<f32>, DataError> {
        let rows = columns.first().map_or(0, Values::len);
        for (column, values) in self.input.columns.iter().zip(columns) {
            if values.len() != rows {
                let problem = format!("{} values for {rows} rows", values.len());
                let error = DataError::data(problem, "give one for each row");
                return Err(error.in_column(&column.name));
            }
        }
        let mut given = ClientRows {
            columns,
            input: &self.input,
            texts: vec![OnceCell::new(); columns.len()],
            rows,
            taken: 0,
        };
        let frame = Frame::part(&mut given, &self.plan, rows, &self.limits)?;
        if let Some(row) = frame.dropped.first() {
            let problem =
                "a value is missing, and rows with missing values were left out of training";
            let error = DataError::data(problem, "give it, or leave out the row").on_line(*row);
            return Err(match self.missing_in(columns, *row as usize) {
                Some(name) => error.in_column(name),
                None => error,
            });
        }
        let places: Vec<u32> = (0..rows as u32).collect();
        let (inputs, _) = frame.encode(&self.input, &places, &self.limits, &mut |_| ())?;
        Ok(inputs)
    }

    /// The first column of a row whose value is missing.
    fn missing_in(&self, columns: &[Values<'_>], row: usize) -> Option<&str> {
        let mut named = self.input.columns.iter().zip(columns);
        let found = named.find(|(column, values)| match values {
            Values::Numbers(numbers) => numbers.get(row).is_some_and(|number| number.is_nan()),
            Values::Texts(texts) => {
                let text = texts
                    .get(row)
                    .and_then(|text| std::str::from_utf8(text).ok());
                let kind = crate::columns::ColumnType::fitted(&column.kind).ok();
                text.zip(kind)
                    .is_some_and(|(text, kind)| self.plan.reading.is_missing_in(&kind, text.trim()))
            }
        });
        found.map(|(column, _)| column.name.as_str())
    }
}

/// Reads rows one after the other.
struct ClientRows<'a> {
    columns: &'a [Values<'a>],
    input: &'a ColumnsInput,
    /// The texts of the current row's numbers, of those that were asked for.
    texts: Vec<OnceCell<String>>,
    rows: usize,
    /// Rows so far.
    taken: usize,
}

impl Fields for ClientRows<'_> {
    /// A row's line is its place, from 0.
    fn next(&mut self) -> Result<Option<u64>, DataError> {
        if self.taken == self.rows {
            return Ok(None);
        }
        self.taken += 1;
        for text in &mut self.texts {
            text.take();
        }
        Ok(Some(self.taken as u64 - 1))
    }

    fn bytes(&self, index: usize) -> &[u8] {
        let row = self.taken.saturating_sub(1);
        match &self.columns[index] {
            Values::Texts(texts) => &texts[row],
            Values::Numbers(numbers) => {
                // As a file would have it. Categories are compared as they are written everywhere.
                let text = || {
                    let text = numbers[row].to_string();
                    let column = self.input.columns.get(index).map(|column| &column.kind);
                    match (column, self.input.decimal) {
                        (_, b'.') => text,
                        (Some(ColumnKind::Numeric { .. }), decimal) => {
                            text.replace('.', &char::from(decimal).to_string())
                        }
                        _ => text,
                    }
                };
                self.texts[index].get_or_init(text).as_bytes()
            }
        }
    }

    fn number(&self, index: usize) -> Option<f64> {
        let row = self.taken.saturating_sub(1);
        match &self.columns[index] {
            Values::Texts(texts) => crate::number::quick(&texts[row]),
            Values::Numbers(numbers) => numbers.get(row).copied().filter(|x| x.is_finite()),
        }
    }

    fn is_number(&self, index: usize) -> bool {
        matches!(self.columns[index], Values::Numbers(_))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cells::Cells;
    use crate::predict::{Outcome, encode_each};

    fn schema(columns: Value, more: Value) -> InputSchema {
        let mut input = json!({"delimiter": 59, "missing": "error", "columns": columns});
        let fields = input.as_object_mut().expect("fields");
        fields.extend(more.as_object().expect("fields").clone());
        let label = json!({"name": "y", "classes": [], "numeric": false});
        let schema = json!({"task": "regression", "input": {"columns": input}, "label": label});
        serde_json::from_value(schema).expect("a schema")
    }

    fn columns() -> Value {
        json!([
            {"name": "age", "type": "numeric", "mean": 2.0, "std": 3.0, "fill": 7.0, "missing": "mean"},
            {"name": "zone", "type": "categorical", "categories": ["1", "2", "10"], "numeric": true, "missing": "mean"},
            {"name": "paid", "type": "boolean", "fill": 0.5},
            {"name": "size", "type": "ordinal", "categories": ["S", "M"], "mean": 0.0, "std": 1.0, "fill": 0.0, "missing": "dropRow"},
        ])
    }

    fn text<'a>(texts: &[&'a str]) -> Values<'a> {
        Values::Texts(texts.iter().map(|text| text.as_bytes().into()).collect())
    }

    fn numbers(numbers: &[f64]) -> Values<'_> {
        Values::Numbers(numbers.into())
    }

    #[test]
    fn s10_numbers_and_texts_become_what_a_file_would() {
        for (decimal, thousands, age) in [(46, Value::Null, "1.125"), (44, json!(46), "1,125")] {
            let schema = schema(
                columns(),
                json!({"decimal": decimal, "thousands": thousands}),
            );
            let encoder = RowEncoder::new(&schema, &Limits::default()).expect("columns");
            let given = [
                numbers(&[1.125, f64::NAN]),
                numbers(&[2.0, 10.0]),
                numbers(&[1.0, 0.0]),
                text(&["S", "M"]),
            ];
            let typed = encoder.encode(&given).expect("rows");
            let cells = Cells {
                columns: ["age", "zone", "paid", "size"].map(String::from).into(),
                rows: vec![
                    [age, "2", "1", "S"].map(String::from).into(),
                    ["", "10.0", "no", "M"].map(String::from).into(),
                ],
            };
            let rows = encode_each(&schema, "cells", &cells, &Limits::default()).expect("columns");
            let rows: Vec<f32> = rows
                .into_iter()
                .flat_map(|row| match row {
                    Outcome::Inputs(inputs) => inputs,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(typed, rows);
        }
    }

    #[test]
    fn s10_what_cannot_be_encoded_is_told_with_its_column_and_its_row() {
        let schema = schema(columns(), json!({"missingValues": ["-999"]}));
        let encoder = RowEncoder::new(&schema, &Limits::default()).expect("columns");
        let good = || {
            vec![
                numbers(&[1.0, 2.0]),
                text(&["1", "2"]),
                text(&["yes", "no"]),
                text(&["S", "M"]),
            ]
        };
        assert!(encoder.encode(&good()).is_ok());
        for (place, values, row, problem) in [
            (0, text(&["1", "x"]), Some(1), "expected a number"),
            (0, numbers(&[f64::INFINITY, 1.0]), Some(0), "expected a"),
            (2, numbers(&[0.0, f64::NAN]), Some(1), "missing"),
            (2, text(&["yes", "maybe"]), Some(1), "expected a boolean"),
            (3, text(&["M", ""]), Some(1), "missing"),
            (3, text(&["XL", "M"]), Some(0), "expected one of"),
            (
                1,
                Values::Texts(vec![b"1".into(), b"\xff".into()]),
                Some(1),
                "UTF-8",
            ),
            (3, text(&["M"]), None, "1 values for 2 rows"),
        ] {
            let mut given = good();
            given[place] = values;
            let error = encoder.encode(&given).expect_err(problem);
            let name = ["age", "zone", "paid", "size"][place];
            assert_eq!(
                (error.column.as_deref(), error.line),
                (Some(name), row),
                "{error}"
            );
            assert!(error.problem.contains(problem), "{error}");
        }
        // A marker of a missing value is one as a number, too.
        let mut given = good();
        given[0] = numbers(&[-999.0, 7.0]);
        let rows = encoder.encode(&given).expect("filled in");
        assert_eq!(rows[0], rows[rows.len() / 2]);
    }
}
