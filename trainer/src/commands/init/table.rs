//! A first manifest for a table.

use std::collections::HashSet;
use std::fmt::Write as _;

use anyhow::{Result, bail};
use trainyard_data::{Advice, ColumnReport, ColumnType, Encoding, TableFormat, TableReport};
use trainyard_runtime::exit::BadInput;

use super::{InitArgs, Task, Written, inspect, relative, tail, task_field, yaml};

/// Whole numbers with at most so many different values are taken for classes.
const MOST_CLASSES_OF_NUMBERS: usize = 10;
/// Texts with at most so many different values are taken for classes.
const MOST_CLASSES: usize = 100;

/// A manifest for a CSV or Parquet file.
///
/// # Errors
/// [`BadInput`] if the file is no table or has no such label.
pub(super) fn write(args: &InitArgs) -> Result<Written> {
    let Some(name) = &args.label else {
        bail!(BadInput(format!(
            "say which column of {} to predict, with --label COLUMN; trainyard inspect shows the columns",
            args.data.display()
        )));
    };
    let mut missing_values = args.missing_value.clone();
    missing_values.sort_unstable();
    missing_values.dedup();
    let mut report = inspect::read_table(&args.data, &missing_values)?;
    let found = markers(&report, name);
    if !found.is_empty() {
        missing_values.extend(found);
        report = inspect::read_table(&args.data, &missing_values)?;
    }
    let label = label(&report, name, args)?;
    let task = task_of(label, args.task)?;
    let (excluded, used) = choose(&report, label)?;
    let draft = Draft {
        args,
        report: &report,
        label,
        excluded,
        used,
        missing_values,
        uri: relative(&args.data, &args.output)?,
        task,
    };
    let excluded = draft.excluded.iter();
    let mut told: Vec<String> = excluded
        .map(|(column, reason)| format!("left out: {}: {reason}", column.name))
        .collect();
    if let Some(written) = inspect::notation(&report) {
        told.push(format!("read by the values they hold: {written}"));
    }
    if !draft.missing_values.is_empty() {
        told.push(format!(
            "taken for missing: {}",
            draft.missing_values.join(", ")
        ));
    }
    let manifest = draft.manifest()?;
    Ok(Written { manifest, told })
}

/// Texts that stand for missing values in some column of numbers or dates, and are no value of a column of texts.
fn markers(report: &TableReport, label: &str) -> Vec<String> {
    let found = |advice: &Advice| match advice {
        Advice::MissingValues(texts) => Some(texts.clone()),
        _ => None,
    };
    let is_text = |column: &&ColumnReport| {
        let typed = matches!(column.kind, Some(ColumnType::Number | ColumnType::Date));
        !typed || column.name == label
    };
    let used: HashSet<&String> = report
        .columns
        .iter()
        .filter(is_text)
        .flat_map(|column| &column.markers)
        .collect();
    let advice = report.columns.iter().flat_map(|column| &column.advice);
    let mut texts: Vec<String> = advice.filter_map(found).flatten().collect();
    texts.retain(|text| !used.contains(text));
    texts.sort_unstable();
    texts.dedup();
    texts
}

fn label<'a>(report: &'a TableReport, name: &str, args: &InitArgs) -> Result<&'a ColumnReport> {
    let found = report.columns.iter().find(|column| column.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = report.columns.iter().map(|column| &*column.name).collect();
        let shown = names
            .iter()
            .take(30)
            .copied()
            .collect::<Vec<_>>()
            .join(", ");
        let more = if names.len() > 30 { ", ..." } else { "" };
        BadInput(format!(
            "{} has no column {:?}: its columns are {shown}{more}",
            args.data.display(),
            name
        ))
        .into()
    })
}

/// What a manifest is made of.
struct Draft<'a> {
    args: &'a InitArgs,
    report: &'a TableReport,
    label: &'a ColumnReport,
    /// Columns that are left out, with the reason.
    excluded: Vec<(&'a ColumnReport, String)>,
    /// Columns that are inputs.
    used: Vec<&'a ColumnReport>,
    missing_values: Vec<String>,
    uri: String,
    task: Task,
}

impl Draft<'_> {
    fn manifest(&self) -> Result<String> {
        let mut out = self
            .args
            .head(&self.uri, self.task, "mlp: {hidden: [64, 32]}");
        let format = match self.report.format {
            TableFormat::Csv => "csv",
            TableFormat::Parquet => "parquet",
        };
        let (uri, label) = (yaml(&self.uri), yaml(&self.label.name));
        write!(
            out,
            "      {format}:\n        uri: {uri}\n        label: {label}\n"
        )?;
        self.reading(&mut out)?;
        out += &tail(self.report.rows);
        Ok(out)
    }

    /// How the table is read, where it is not the default.
    fn reading(&self, out: &mut String) -> Result<()> {
        if let Some(delimiter) = self.report.delimiter.filter(|delimiter| *delimiter != ',') {
            let delimiter = serde_json::to_string(&delimiter)?;
            writeln!(out, "        delimiter: {delimiter}")?;
        }
        let marks = [
            ("decimal", self.report.decimal),
            ("thousands", self.report.thousands),
        ];
        for (field, mark) in marks {
            if let Some(mark) = mark {
                writeln!(out, "        {field}: {}", serde_json::to_string(&mark)?)?;
            }
        }
        match self.report.encoding {
            Encoding::Utf8 => {}
            Encoding::Latin1 => writeln!(out, "        encoding: Latin1")?,
            Encoding::Windows1252 => writeln!(out, "        encoding: Windows1252")?,
        }
        if !self.excluded.is_empty() {
            writeln!(out, "        exclude:")?;
        }
        for (column, reason) in &self.excluded {
            let reason = reason.replace(char::is_control, " ");
            writeln!(out, "          - {} # {reason}", yaml(&column.name))?;
        }
        let typed = self
            .used
            .iter()
            .filter_map(|column| Some((column, typed(column)?)));
        for (index, (column, fields)) in typed.enumerate() {
            if index == 0 {
                writeln!(out, "        columns:")?;
            }
            writeln!(
                out,
                "          - {{name: {}, {fields}}}{}",
                yaml(&column.name),
                remark(column)
            )?;
        }
        if self.used.iter().any(|column| column.missing > 0) || self.label.missing > 0 {
            writeln!(
                out,
                "        # The most frequent value of categories and booleans, the median of everything else; rows \
                 without a label are left out.\n        missing: Impute"
            )?;
        }
        if !self.missing_values.is_empty() {
            let texts: Vec<String> = self.missing_values.iter().map(|text| yaml(text)).collect();
            writeln!(out, "        missingValues: [{}]", texts.join(", "))?;
        }
        Ok(())
    }
}

/// What is predicted: what was said, or as the label's values are.
///
/// # Errors
/// [`BadInput`] if the label cannot be that.
fn task_of(label: &ColumnReport, said: Option<Task>) -> Result<Task> {
    let classes = label.distinct.unwrap_or(usize::MAX);
    let is_number = label.kind == Some(ColumnType::Number);
    let odd = label.advice.iter().find_map(|advice| match advice {
        Advice::Unreadable { line, problem } => Some(format!("on line {line}: {problem}")),
        Advice::MissingValues(texts) => Some(format!(
            "it holds {} beside numbers or dates; if that stands for a missing value, say --missing-value",
            texts.join(", ")
        )),
        _ => None,
    });
    if let (Some(odd), true) = (
        odd,
        2 * label.numbers > label.values || label.kind == Some(ColumnType::Date),
    ) {
        bail!(BadInput(format!(
            "column {:?} cannot be the label: {odd}",
            label.name
        )));
    }
    let most = match is_number {
        true if label.whole => MOST_CLASSES_OF_NUMBERS,
        true => 0,
        false => MOST_CLASSES,
    };
    let told = match classes {
        2 => Task::BinaryClassification,
        _ if classes > most && is_number => Task::Regression,
        3.. if (classes <= most && 2 * classes as u64 <= label.values) || said.is_some() => {
            Task::MulticlassClassification
        }
        _ => {
            let why = match classes {
                0 | 1 => "it has not two different values".to_owned(),
                _ if label
                    .distinct
                    .is_some_and(|distinct| distinct <= MOST_CLASSES) =>
                {
                    "its texts are nearly all different".to_owned()
                }
                _ => format!(
                    "it has more than {MOST_CLASSES} different texts, which are too many for classes"
                ),
            };
            let name = &label.name;
            bail!(BadInput(format!(
                "column {name:?} cannot be the label: {why}; name another column"
            )));
        }
    };
    let task = said.unwrap_or(told);
    let problem = match task {
        Task::Regression if !is_number => "its values are not all numbers",
        Task::BinaryClassification if classes != 2 => "it has not two different values",
        _ => return Ok(task),
    };
    bail!(BadInput(format!(
        "column {:?} cannot be the label of a {}: {problem}; choose another --task",
        label.name,
        task_field(task)
    )));
}

/// Columns that are left out, with the reason, and the others.
type Choice<'a> = (Vec<(&'a ColumnReport, String)>, Vec<&'a ColumnReport>);

/// Which columns are inputs.
fn choose<'a>(report: &'a TableReport, label: &ColumnReport) -> Result<Choice<'a>> {
    let (mut excluded, mut used) = (Vec::new(), Vec::new());
    let inputs = report.columns.iter();
    for column in inputs.filter(|column| column.name != label.name) {
        match reason(column) {
            Some(reason) => excluded.push((column, reason)),
            None => used.push(column),
        }
    }
    if used.is_empty() {
        // In a short table a column may look so by chance.
        let numbers_rows =
            |(column, _): &(&ColumnReport, String)| column.advice.contains(&Advice::NumbersRows);
        let (kept, rest): (Vec<_>, Vec<_>) = excluded.into_iter().partition(numbers_rows);
        used = kept.into_iter().map(|(column, _)| column).collect();
        excluded = rest;
    }
    if used.is_empty() {
        let why = excluded
            .iter()
            .take(5)
            .map(|(column, why)| format!("; {:?}: {why}", column.name));
        let (label, why) = (&label.name, why.collect::<String>());
        bail!(BadInput(format!(
            "no column is left to predict {label:?} from: add columns, give all columns names, or write the \
             manifest by hand{why}"
        )));
    }
    Ok((excluded, used))
}

/// Why a column is left out.
fn reason(column: &ColumnReport) -> Option<String> {
    column.advice.iter().find_map(|advice| match advice {
        Advice::Unreadable { line, problem } => Some(format!("line {line}: {problem}")),
        Advice::NumbersRows => Some("it numbers the rows".into()),
        Advice::Constant => Some("nothing can be learned from it".into()),
        // Declared missing, unless they are values of another column.
        Advice::MissingValues(texts) => Some(format!(
            "{} beside other values: see missingValues",
            texts.join(", ")
        )),
        Advice::DateFormat(_) | Advice::MayBeCategories => None,
    })
}

/// The type of a column that is not one of numbers, as fields of the manifest.
fn typed(column: &ColumnReport) -> Option<String> {
    match (column.kind?, &column.date_format) {
        (ColumnType::Number, _) => None,
        (ColumnType::Date, Some(format)) => {
            Some(format!("type: Date, dateFormat: {}", yaml(format)))
        }
        (kind, _) => Some(format!("type: {kind:?}")),
    }
}

/// What should be looked at, as a comment.
fn remark(column: &ColumnReport) -> String {
    let remark = column.advice.iter().find_map(|advice| match advice {
        Advice::DateFormat(formats) => {
            Some(format!("or is it {}?", formats.get(1..)?.join(" or ")))
        }
        _ => None,
    });
    remark
        .map(|remark| format!(" # {remark}"))
        .unwrap_or_default()
}
