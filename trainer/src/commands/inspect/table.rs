//! What a file of data holds.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use trainyard_data::{
    Advice, ColumnReport, ColumnType, Encoding, Opened, TableReport, inspect_table,
};
use trainyard_runtime::exit::BadInput;
use trainyard_runtime::memory::limits;

use super::super::print;
use crate::ui::format::{count, significant, thousands};

/// Looks at every value of the table at `path`.
///
/// # Errors
/// [`BadInput`] if it is neither CSV nor Parquet; also if it cannot be read.
pub fn read(path: &Path, missing_values: &[String]) -> Result<TableReport> {
    let shown = path.display().to_string();
    let file = trainyard_files::open(path).with_context(|| format!("cannot open {shown}"))?;
    inspect_table(&shown, Opened::File(file), missing_values, &limits())
        .map_err(|error| BadInput(error.to_string()).into())
}

/// Prints a line for each column, and what to do about some of them.
pub fn write(report: &TableReport, out: &mut dyn Write) -> Result<()> {
    let columns = report.columns.len() + report.unnamed.len();
    let (rows, columns) = (
        thousands(report.rows),
        count(columns as u64, "column", "columns"),
    );
    let separated = match report.delimiter {
        None => String::new(),
        Some('\t') => ", separated by tabs".to_owned(),
        Some(delimiter) => format!(", separated by '{delimiter}'"),
    };
    let written = notation(report).map_or(String::new(), |written| format!(", {written}"));
    let encoding = match report.encoding {
        Encoding::Utf8 => String::new(),
        other => format!(", {other:?}"),
    };
    writeln!(
        out,
        "{rows} rows of {columns}{separated}{written}{encoding}\n"
    )?;
    let header = ["column", "type", "missing", "different", "values"];
    let mut table = print::table(&header, &[2, 3]);
    for column in &report.columns {
        table.add_row([
            column.name.clone(),
            kind(column),
            thousands(column.missing),
            column
                .distinct
                .map_or("over 1,000".into(), |distinct| thousands(distinct as u64)),
            values(column),
        ]);
    }
    writeln!(out, "{table}")?;
    let advised = report.columns.iter().flat_map(|column| {
        column
            .advice
            .iter()
            .map(|advice| format!("{}: {}", column.name, told(advice)))
    });
    let unnamed = report.unnamed.iter().map(|position| {
        format!(
            "column {position} has no name in the header: it is left out (see `unnamedColumns`)"
        )
    });
    for (index, line) in advised.chain(unnamed).enumerate() {
        if index == 0 {
            writeln!(out)?;
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// How numbers are written, if not in the usual way.
pub fn notation(report: &TableReport) -> Option<String> {
    match (report.decimal, report.thousands) {
        (None, None) => None,
        (decimal, None) => Some(format!("numbers as 1234{}5", decimal.unwrap_or('.'))),
        (decimal, Some(thousands)) => {
            let decimal = decimal.unwrap_or('.');
            Some(format!("numbers as 1{thousands}234{decimal}5"))
        }
    }
}

fn kind(column: &ColumnReport) -> String {
    match (column.kind, &column.date_format) {
        (Some(ColumnType::Date), Some(format)) => format!("Date ({format})"),
        (Some(kind), _) => format!("{kind:?}"),
        (None, _) => "text".into(),
    }
}

/// The range of numbers, or the most frequent values.
fn values(column: &ColumnReport) -> String {
    if let (Some(ColumnType::Number), Some((least, greatest))) = (column.kind, column.range) {
        let number = |value: f64| match column.whole && value.abs() < 1e15 {
            true => value.to_string(),
            false => significant(value),
        };
        return format!("{} to {}", number(least), number(greatest));
    }
    let shown: Vec<String> = column
        .top
        .iter()
        .map(|(text, times)| format!("{text} ({times})"))
        .collect();
    let more = column
        .distinct
        .is_none_or(|distinct| distinct > shown.len());
    format!(
        "{}{}",
        shown.join(", "),
        if more && !shown.is_empty() {
            ", ..."
        } else {
            ""
        }
    )
}

/// What to do about a column, as a sentence.
fn told(advice: &Advice) -> String {
    match advice {
        Advice::Unreadable { line, problem } => format!(
            "line {line}: {problem}; list it under `exclude`, or under `categorical` if its values are categories"
        ),
        Advice::MissingValues(texts) => {
            format!(
                "{} may stand for missing values: list them under `missingValues`",
                texts.join(", ")
            )
        }
        Advice::DateFormat(formats) => {
            format!(
                "the dates can be read as {}: name one as `dateFormat`",
                formats.join(" or ")
            )
        }
        Advice::NumbersRows => "it numbers the rows: list it under `exclude`".into(),
        Advice::Constant => "nothing can be learned from it: list it under `exclude`".into(),
        Advice::MayBeCategories => {
            "if these numbers are names and not amounts, give it the type Category under `columns`"
                .into()
        }
    }
}
