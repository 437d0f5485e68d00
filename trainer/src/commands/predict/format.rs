//! Predictions as CSV, as JSON lines, or as a table for a terminal.

use std::collections::BTreeMap;
use std::io::Write;

use crate::commands::print;
use crate::ui::format::significant;
use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::json;
use trainyard_core::prediction::Prediction;
use trainyard_runtime::exit::BadInput;

use super::Told;

/// Rows up to which a terminal gets a table.
const TABLE_ROWS: usize = 10_000;

/// What is written of a row.
pub struct Format<'a> {
    /// Names of the classes; empty for a regression.
    pub classes: &'a [String],
    /// Names of the columns that are carried through.
    pub ids: &'a [String],
    /// Whether rows are told by their lines, or by their places.
    pub has_lines: bool,
    /// Whether rows may have labels.
    pub has_labels: bool,
    /// Whether CSV has a column for the probability of each class.
    pub probabilities: bool,
}

/// A row of the file and what the model predicts for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row<'a> {
    /// Line of the file, or index of the array's row.
    pub place: u64,
    /// Texts of the columns that are carried through.
    pub ids: &'a [String],
    pub prediction: Prediction,
    /// The label, if the file has it: the index of a class, or a target.
    pub label: Option<f64>,
}

/// Writes rows as they come.
pub struct Writer<'a> {
    format: Format<'a>,
    kind: Kind,
    out: &'a mut dyn Write,
}

enum Kind {
    Csv,
    Json,
    /// Rows that wait for the last, as their columns are as wide as the widest cell.
    Table(Vec<Waiting>),
}

/// A row of a table that is not written yet: its cells for the table and for CSV.
struct Waiting {
    shown: Vec<String>,
    csv: Vec<String>,
}

impl<'a> Writer<'a> {
    /// Begins to write; `is_table` says whether a terminal is at the other end.
    pub fn new(
        format: Format<'a>,
        json: bool,
        is_table: bool,
        out: &'a mut dyn Write,
    ) -> Result<Self> {
        let kind = match (json, is_table) {
            (true, _) => Kind::Json,
            (false, true) => Kind::Table(Vec::new()),
            (false, false) => Kind::Csv,
        };
        format.check_ids(&kind)?;
        let mut writer = Self { format, kind, out };
        if matches!(writer.kind, Kind::Csv) {
            writer.csv(&writer.format.header())?;
        }
        Ok(writer)
    }

    pub fn write(&mut self, row: &Row<'_>) -> Result<()> {
        match &mut self.kind {
            Kind::Json => {
                let line = serde_json::to_string(&self.format.line(row))?;
                Ok(writeln!(self.out, "{line}")?)
            }
            Kind::Csv => {
                let cells = self.format.csv(row);
                self.csv(&cells)
            }
            Kind::Table(rows) => {
                // Probabilities are compared by their decimals, values by their digits.
                rows.push(Waiting {
                    shown: self.format.cells(row, |p| format!("{p:.4}"), significant),
                    csv: self.format.csv(row),
                });
                if rows.len() <= TABLE_ROWS {
                    return Ok(());
                }
                let rows = std::mem::take(rows);
                self.kind = Kind::Csv;
                self.csv(&self.format.header())?;
                rows.iter().try_for_each(|row| self.csv(&row.csv))
            }
        }
    }

    /// Writes what is left, and in JSON the metrics.
    pub fn finish(self, told: &Told, positive: Option<&str>) -> Result<()> {
        match self.kind {
            Kind::Csv => {}
            Kind::Table(rows) => {
                let header = self.format.header();
                let names: Vec<&str> = header.iter().map(String::as_str).collect();
                let mut table = print::table(&names, &self.format.numbers());
                for row in rows {
                    table.add_row(row.shown);
                }
                writeln!(self.out, "{}", table.trim_fmt())?;
            }
            Kind::Json => {
                if let Some(metrics) = &told.metrics {
                    let labelled = told.labelled - told.unjudged;
                    let line = json!({
                        "rows": told.rows, "labelled": labelled, "positive": positive, "metrics": metrics,
                        "report": told.report,
                    });
                    writeln!(self.out, "{line}")?;
                }
            }
        }
        Ok(())
    }

    fn csv(&mut self, cells: &[String]) -> Result<()> {
        for (place, cell) in cells.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(self.out, "{comma}{}", print::csv_field(cell))?;
        }
        Ok(writeln!(self.out)?)
    }
}

impl Format<'_> {
    /// Refuses a column that is carried through and has the name of one that is written. In JSON they stand apart.
    fn check_ids(&self, kind: &Kind) -> Result<()> {
        let header = self.header();
        let own = header.get(self.ids.len()..).unwrap_or_default();
        match self.ids.iter().find(|id| own.contains(id)) {
            Some(id) if !matches!(kind, Kind::Json) => bail!(BadInput(format!(
                "--id {id}: the predictions have a column of that name too; rename it in the file, or write --json"
            ))),
            _ => Ok(()),
        }
    }

    /// The names of the columns.
    fn header(&self) -> Vec<String> {
        let mut header = self.ids.to_vec();
        header.push(if self.has_lines { "line" } else { "row" }.into());
        header.push("prediction".into());
        if !self.classes.is_empty() {
            header.push("probability".into());
        }
        if self.probabilities {
            let names = self.classes.iter();
            header.extend(names.map(|class| format!("probability_{class}")));
        }
        if self.has_labels {
            header.push("label".into());
        }
        header
    }

    /// The columns that are numbers.
    fn numbers(&self) -> Vec<usize> {
        let first = self.ids.len();
        let is_class = |column: &usize| {
            !self.classes.is_empty()
                && (*column == first + 1 || self.has_labels && *column + 1 == self.header().len())
        };
        (first..self.header().len())
            .filter(|column| !is_class(column))
            .collect()
    }

    /// The cells of a row, as many as the header has.
    fn cells(
        &self,
        row: &Row<'_>,
        probability: impl Fn(f32) -> String,
        value: impl Fn(f64) -> String,
    ) -> Vec<String> {
        let mut cells = row.ids.to_vec();
        cells.push(row.place.to_string());
        match &row.prediction {
            Prediction::Class {
                class,
                probabilities,
            } => {
                cells.push(self.class(*class).to_owned());
                cells.push(probability(at(probabilities, *class)));
                if self.probabilities {
                    cells.extend(probabilities.iter().map(|p| probability(*p)));
                }
            }
            Prediction::Value(predicted) => cells.push(value(*predicted)),
        }
        if self.has_labels {
            cells.push(self.label(row).unwrap_or_default());
        }
        cells
    }

    /// The cells of a row as they stand in CSV.
    fn csv(&self, row: &Row<'_>) -> Vec<String> {
        self.cells(row, |p| p.to_string(), |value| value.to_string())
    }

    fn class(&self, index: usize) -> &str {
        self.classes.get(index).map_or("", String::as_str)
    }

    fn label(&self, row: &Row<'_>) -> Option<String> {
        let label = row.label?;
        Some(match row.prediction {
            Prediction::Class { .. } => self.class(label as usize).to_owned(),
            Prediction::Value(_) => label.to_string(),
        })
    }

    fn line<'b>(&'b self, row: &'b Row<'_>) -> Line<'b> {
        let (line, index) = match self.has_lines {
            true => (Some(row.place), None),
            false => (None, Some(row.place)),
        };
        let class = |index: usize| Answer::Class(self.class(index));
        let names = || self.classes.iter().map(String::as_str);
        let (prediction, probability, probabilities) = match &row.prediction {
            Prediction::Value(value) => (Answer::Value(*value), None, None),
            Prediction::Class {
                class: index,
                probabilities,
            } => (
                class(*index),
                Some(at(probabilities, *index)),
                Some(names().zip(probabilities.iter().copied()).collect()),
            ),
        };
        Line {
            ids: self
                .ids
                .iter()
                .map(String::as_str)
                .zip(row.ids.iter().map(String::as_str))
                .collect(),
            line,
            row: index,
            prediction,
            probability,
            probabilities,
            label: row.label.map(|label| match row.prediction {
                Prediction::Class { .. } => class(label as usize),
                Prediction::Value(_) => Answer::Value(label),
            }),
        }
    }
}

/// The probability of the class predicted.
fn at(probabilities: &[f32], class: usize) -> f32 {
    probabilities.get(class).copied().unwrap_or(f32::NAN)
}

/// A row as a line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    ids: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<u64>,
    prediction: Answer<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probabilities: Option<BTreeMap<&'a str, f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<Answer<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Answer<'a> {
    Class(&'a str),
    Value(f64),
}
