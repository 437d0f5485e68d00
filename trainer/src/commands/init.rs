//! `trainyard init`: a first manifest for a file of data.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use trainyard_crds::{MAX_NAME, manifest};
use trainyard_data::{Advice, ColumnReport, ColumnType, Encoding, TableFormat, TableReport};
use trainyard_runtime::exit::{BadInput, ExitCode};

use super::{inspect, print};

/// Whole numbers with at most so many different values are taken for classes.
const MOST_CLASSES_OF_NUMBERS: usize = 10;
/// Texts with at most so many different values are taken for classes.
const MOST_CLASSES: usize = 100;

/// Arguments of `trainyard init`.
#[derive(Args, Debug)]
pub struct InitArgs {
    /// CSV or Parquet file to learn from.
    data: PathBuf,
    /// Column to predict.
    #[arg(long, value_name = "COLUMN")]
    label: String,
    /// What to predict [default: as the label's values are].
    #[arg(long, value_enum)]
    task: Option<Task>,
    /// Manifest to write.
    #[arg(long, short, value_name = "FILE", default_value = "job.yaml")]
    output: PathBuf,
    /// Name of the job [default: the name of the data file].
    #[arg(long)]
    name: Option<String>,
    /// A text that stands for a missing value, beside those that are found. May be repeated.
    #[arg(long, value_name = "TEXT")]
    missing_value: Vec<String>,
    /// Replace the manifest if it exists.
    #[arg(long)]
    overwrite: bool,
}

/// What a model predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Task {
    /// One of two classes.
    BinaryClassification,
    /// One of several classes.
    MulticlassClassification,
    /// A number.
    Regression,
}

/// Writes the manifest.
///
/// # Errors
/// [`BadInput`] if the file is no table or has no such label, or if there is a manifest.
pub fn run(args: InitArgs) -> Result<ExitCode> {
    let output = args.output.display();
    if args.output.exists() && !args.overwrite {
        bail!(BadInput(format!(
            "{output} exists: name another file with --output, or replace it with --overwrite"
        )));
    }
    if let (Ok(data), Ok(output)) = (args.data.canonicalize(), args.output.canonicalize())
        && data == output
    {
        bail!(BadInput(format!(
            "{} is the file of data: write to another",
            args.output.display()
        )));
    }
    let mut missing_values = args.missing_value.clone();
    missing_values.sort_unstable();
    missing_values.dedup();
    let mut report = inspect::read_table(&args.data, &missing_values)?;
    let found = markers(&report, &args.label);
    if !found.is_empty() {
        missing_values.extend(found);
        report = inspect::read_table(&args.data, &missing_values)?;
    }
    let label = label(&report, &args)?;
    let task = task_of(label, args.task)?;
    let (excluded, used) = choose(&report, label)?;
    let draft = Draft {
        report: &report,
        label,
        excluded,
        used,
        missing_values,
        uri: relative(&args.data, &args.output)?,
        name: args.name.clone().unwrap_or_else(|| name_of(&args.data)),
        task,
    };
    let text = draft.manifest()?;
    if let Err(error) = manifest::read("it", &text) {
        let data = args.data.display();
        bail!(BadInput(format!(
            "no manifest can be written for {data}: {error}; write one by hand, or rename or remove columns"
        )));
    }
    std::fs::write(&args.output, &text).with_context(|| format!("cannot write {output}"))?;
    print::to_stdout(ExitCode::Done, |out| {
        for (column, reason) in &draft.excluded {
            writeln!(out, "left out: {}: {reason}", column.name)?;
        }
        if !draft.missing_values.is_empty() {
            writeln!(
                out,
                "taken for missing: {}",
                draft.missing_values.join(", ")
            )?;
        }
        Ok(writeln!(
            out,
            "{output} is written; train with: trainyard run {output}"
        )?)
    })
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

fn label<'a>(report: &'a TableReport, args: &InitArgs) -> Result<&'a ColumnReport> {
    let found = report
        .columns
        .iter()
        .find(|column| column.name == args.label);
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
            args.label
        ))
        .into()
    })
}

/// The path of the data as the manifest names it: relative to the manifest's folder if it is below that.
fn relative(data: &Path, manifest: &Path) -> Result<String> {
    let whole = |path: &Path| {
        path.canonicalize()
            .with_context(|| format!("cannot resolve {}", path.display()))
    };
    let folder = match manifest.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let (data, folder) = (whole(data)?, whole(folder)?);
    let uri = data.strip_prefix(folder).unwrap_or(&data);
    let uri = uri.to_str().map(str::to_owned);
    uri.ok_or_else(|| {
        BadInput(format!(
            "the path {} is not UTF-8: rename the file",
            data.display()
        ))
        .into()
    })
}

/// A name for the job: the file's, as far as Kubernetes allows it.
fn name_of(data: &Path) -> String {
    let stem = data
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let stem = stem
        .split('.')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let plain: String = stem
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let named = plain
        .trim_matches('-')
        .trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    let mut name: String = named.chars().take(MAX_NAME).collect();
    while name.ends_with('-') {
        name.pop();
    }
    match name.is_empty() {
        true => "job".into(),
        false => name,
    }
}

/// What a manifest is made of.
struct Draft<'a> {
    report: &'a TableReport,
    label: &'a ColumnReport,
    /// Columns that are left out, with the reason.
    excluded: Vec<(&'a ColumnReport, String)>,
    /// Columns that are inputs.
    used: Vec<&'a ColumnReport>,
    missing_values: Vec<String>,
    uri: String,
    name: String,
    task: Task,
}

impl Draft<'_> {
    fn manifest(&self) -> Result<String> {
        let mut out = String::new();
        let (name, field) = (yaml(&self.name), task_field(self.task));
        write!(
            out,
            "# A first manifest for {uri}. Train with: trainyard run, and this file.\n\
             apiVersion: trainyard.dev/v1alpha1\n\
             kind: TrainingJob\n\
             metadata:\n  name: {name}\n\
             spec:\n  task: {{{field}: {{}}}}\n  model:\n    mlp: {{hidden: [64, 32]}}\n  data:\n    \
             # On a cluster: volume, a volume with the file.\n    train:\n      {format}:\n        uri: {uri}\n        \
             label: {label}\n",
            format = match self.report.format {
                TableFormat::Csv => "csv",
                TableFormat::Parquet => "parquet",
            },
            uri = yaml(&self.uri),
            label = yaml(&self.label.name),
        )?;
        self.reading(&mut out)?;
        let stops = match self.report.rows {
            0..1000 => 20,
            _ => 10,
        };
        write!(
            out,
            "    validation: {{fraction: 0.2}}\n  training:\n    epochs: 200\n    batchSize: {}\n    optimizer: \
             {{adam: {{learningRate: 0.001}}}}\n    # Stops when the loss of the validation rows has not become \
             less for so many epochs, and takes the best.\n    earlyStopping: {{metric: loss, patience: {stops}}}\n    \
             seed: 1\n  servers: {{replicas: 1}}\n  workers: {{replicas: 2}}\n  checkpoint:\n    \
             # On a cluster: storage, a bucket or a volume.\n    everySteps: 1000\n    keep: 3\n",
            match self.report.rows {
                0..10_000 => 32,
                10_000..100_000 => 128,
                _ => 512,
            }
        )?;
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

fn task_field(task: Task) -> &'static str {
    match task {
        Task::BinaryClassification => "binaryClassification",
        Task::MulticlassClassification => "multiclassClassification",
        Task::Regression => "regression",
    }
}

/// A text as YAML: as it is where it means itself, else in quotes.
fn yaml(text: &str) -> String {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !WORDS.contains(&&*text.to_ascii_lowercase());
    match plain {
        true => text.to_owned(),
        // A JSON string is a YAML string.
        false => serde_json::Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_kubernetes_allows() {
        for (file, name) in [
            ("data/House Prices_2024.csv.gz", "house-prices-2024"),
            ("1.csv", "job"),
            ("--x--.csv", "x"),
            ("7up.csv", "up"),
        ] {
            assert_eq!(name_of(Path::new(file)), name, "{file}");
        }
        let long = format!("{}-b.csv", "a".repeat(39));
        assert_eq!(name_of(Path::new(&long)), "a".repeat(39));
    }

    #[test]
    fn texts_that_mean_something_else_are_quoted() {
        for (text, written) in [
            ("age", "age"),
            ("no", "\"no\""),
            ("a b", "\"a b\""),
            ("1", "\"1\""),
            ("x: \"y\"", "\"x: \\\"y\\\"\""),
        ] {
            assert_eq!(yaml(text), written);
        }
    }
}
