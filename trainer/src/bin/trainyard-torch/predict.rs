//! `trainyard predict`: what a model makes of a file's rows.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::json;
use trainyard::commands::{PredictArgs, print};
use trainyard::ui::format::{significant, thousands};
use trainyard_core::metrics::Metrics;
use trainyard_core::prediction::Prediction;
use trainyard_data::{
    DataError, Encoded, ErrorKind as DataErrorKind, encode_array, encode_csv, encode_labels,
};
use trainyard_runtime::artifact;
use trainyard_runtime::exit::{BadInput, ExitCode};
use trainyard_runtime::memory;
use trainyard_runtime::output;
use trainyard_runtime::storage::Location;
use trainyard_torch::artifact::Artifact;
use trainyard_torch::capability;

/// Rows up to which a terminal gets a table.
const TABLE_ROWS: usize = 10_000;

/// Runs the command. May start the program again, with the kernels pinned that the job has asked for.
///
/// # Errors
/// [`BadInput`] for a damaged artifact or an unsuitable file, naming the place.
pub fn run(args: PredictArgs) -> Result<ExitCode> {
    let place = artifact_at(&args.artifact)?;
    pin(&place)?;
    let files = place.fetch(&[artifact::MODEL, artifact::PARAMETERS])?;
    let artifact = Artifact::open(files.path())?;
    let encoded = encode(&artifact, &args)?;
    warn(&encoded);
    artifact.check_memory(encoded.table.rows)?;
    let predictions = Predictions::compute(&artifact, &encoded, args.limit)?;
    let plain = !print::on_terminal() || predictions.rows.len() > TABLE_ROWS;
    let exit = print::to_stdout(ExitCode::Done, |out| match (args.json, plain) {
        (true, _) => predictions.write_json(out),
        (false, true) => predictions.write_csv(out),
        (false, false) => predictions.write_table(out),
    })?;
    if let (false, Some(metrics)) = (args.json, &predictions.metrics) {
        let metrics = print::metrics(metrics);
        let (labelled, total) = (predictions.labelled as u64, predictions.total as u64);
        let rows = match total - labelled {
            0 => format!("{} rows", thousands(total)),
            _ => format!(
                "the {} of {} rows that have a label",
                thousands(labelled),
                thousands(total)
            ),
        };
        let positive = predictions.positive;
        let of = positive.map_or(String::new(), |class| format!(" (positive class: {class})"));
        output::say(format_args!("metrics on {rows}: {metrics}{of}"));
    }
    Ok(exit)
}

/// The artifact at a place, or that of the run at it.
fn artifact_at(place: &Location) -> Result<Location> {
    let holds = |place: &Location| -> Result<bool> {
        let files = place.fetch(&[artifact::MODEL])?;
        Ok(files.path().join(artifact::MODEL).exists())
    };
    if holds(place)? {
        return Ok(place.clone());
    }
    let inner = place.artifact();
    if holds(&inner)? {
        if let Location::Folder(path) = &inner
            && path.is_symlink()
        {
            bail!(BadInput(format!(
                "{inner} is a symbolic link, which is not followed: give the folder that it leads to"
            )));
        }
        return Ok(inner);
    }
    if let Location::Folder(path) = place
        && path.join("log").is_dir()
    {
        bail!(BadInput(format!(
            "{place} is a run without an artifact: go on with the run, or export a checkpoint with \
             trainyard export {place} --out DIR"
        )));
    }
    Ok(place.clone())
}

/// Pins the kernels of the job, so that a row gets the bits that training gave it.
fn pin(place: &Location) -> Result<()> {
    // Nothing that was fetched may be left behind by the program that is started instead.
    let files = place.fetch(&[artifact::PROVENANCE])?;
    let provenance = artifact::provenance(files.path()).ok();
    drop(files);
    capability::pin_if_supported(provenance.and_then(|p| capability::of_spec(&p.spec)))
}

fn encode(artifact: &Artifact, args: &PredictArgs) -> Result<Encoded> {
    let (schema, limits) = (&artifact.model.input_schema, memory::limits());
    let path = args
        .csv
        .as_ref()
        .or(args.npy.as_ref())
        .context("give --csv or --npy")?;
    let name = match path == Path::new("-") {
        true => "standard input".into(),
        false => path.display().to_string(),
    };
    let file = open(path)?;
    let encoded = match args.csv {
        Some(_) => encode_csv(schema, &name, file, &limits),
        None => encode_array(schema, &name, file, &limits),
    };
    let mut encoded = encoded.map_err(data_error)?;
    if let Some(path) = &args.labels {
        let name = path.display().to_string();
        let limits = memory::limits(); // beside the rows
        let labels = encode_labels(schema, &name, open(path)?, &limits).map_err(data_error)?;
        let (rows, found) = (encoded.table.rows, labels.encoded.len());
        if rows != found {
            bail!(BadInput(format!(
                "{name}: {found} labels for {rows} rows; give one label a row"
            )));
        }
        (encoded.table.labels, encoded.targets) = (labels.encoded, labels.targets);
    }
    Ok(encoded)
}

/// Opens a file, or standard input for `-`.
fn open(path: &Path) -> Result<Box<dyn Read>> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    let shown = path.display();
    let bad = |why: String| anyhow::Error::from(BadInput(format!("{shown}: {why}")));
    // Looked at before opening: to open a named pipe waits for its writer, which is as wanted, but
    // a folder can be opened and not read.
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(bad("there is no such file; check the path".into()));
        }
        Err(error) => return Err(bad(format!("it cannot be read: {error}"))),
        Ok(meta) if meta.is_dir() => return Err(bad("it is a folder; give a file".into())),
        Ok(_) => {}
    }
    let file = File::open(path).map_err(|error| bad(format!("it cannot be opened: {error}")))?;
    Ok(Box::new(file))
}

fn data_error(error: DataError) -> anyhow::Error {
    match error.kind {
        DataErrorKind::Io => error.into(),
        DataErrorKind::Data | DataErrorKind::Limit | DataErrorKind::Options => {
            BadInput(error.to_string()).into()
        }
    }
}

fn warn(encoded: &Encoded) {
    for warning in &encoded.warnings {
        output::warn(warning);
    }
    if let Some(first) = encoded.dropped.first() {
        let rows = match encoded.dropped.len() {
            1 => "1 row with a missing value is left out".into(),
            count => format!("{count} rows with missing values are left out"),
        };
        output::warn(format_args!(
            "{rows}, as in training; the first is on line {first}"
        ));
    }
}

/// A row of the file and what the model predicts for it.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    /// Line of the file, or index of the array's row.
    place: u64,
    prediction: Prediction,
    /// The label, if the file has it.
    label: Option<f32>,
}

struct Predictions<'a> {
    classes: &'a [String],
    /// The class that f1 and auc are of.
    positive: Option<&'a str>,
    /// `line` or `row`.
    place: &'static str,
    rows: Vec<Row>,
    total: usize,
    labelled: usize,
    metrics: Option<Metrics>,
}

impl<'a> Predictions<'a> {
    fn compute(artifact: &'a Artifact, encoded: &Encoded, limit: Option<usize>) -> Result<Self> {
        let (table, kind) = (&encoded.table, artifact.kind());
        let labelled = table.labels.iter().filter(|label| !label.is_nan()).count();
        let limit = limit.unwrap_or(usize::MAX);
        let (mut rows, mut blocks) = (Vec::new(), Vec::new());
        for block in artifact.outputs(table) {
            let (range, outputs) = block?;
            for (row, outputs) in range
                .clone()
                .zip(outputs.chunks_exact(kind.outputs().max(1)))
            {
                if row < limit {
                    let place = encoded.lines.get(row).copied().unwrap_or(row as u64);
                    rows.push(Row {
                        place,
                        prediction: Prediction::of(
                            kind,
                            &artifact.model.input_schema.label,
                            outputs,
                        ),
                        label: encoded.label(row).filter(|label| !label.is_nan()),
                    });
                }
            }
            if labelled > 0 {
                let (outputs, labels) = with_labels(&outputs, &table.labels[range]);
                blocks.push(artifact.score(&outputs, &labels)?);
            } else if range.end >= limit {
                break;
            }
        }
        Ok(Predictions {
            classes: &artifact.model.output.classes,
            positive: artifact.model.input_schema.positive(),
            place: if encoded.lines.is_empty() {
                "row"
            } else {
                "line"
            },
            rows,
            total: table.rows,
            labelled,
            metrics: (labelled > 0).then(|| artifact.summarize(&blocks)),
        })
    }

    fn class(&self, index: usize) -> &str {
        self.classes.get(index).map_or("", String::as_str)
    }

    fn label(&self, row: &Row) -> Option<String> {
        let label = row.label?;
        Some(match row.prediction.class {
            Some(_) => self.class(label as usize).to_owned(),
            None => label.to_string(),
        })
    }

    /// The column names, and one text for each column of a row.
    fn header(&self) -> Vec<&str> {
        let mut header = vec![self.place, "prediction"];
        if !self.classes.is_empty() {
            header.push("probability");
        }
        if self.metrics.is_some() {
            header.push("label");
        }
        header
    }

    fn cells(&self, row: &Row, number: impl Fn(f32) -> String) -> Vec<String> {
        let mut cells = vec![row.place.to_string()];
        match row.prediction.class {
            Some(class) => {
                cells.push(self.class(class).to_owned());
                cells.push(number(row.prediction.answer()));
            }
            None => cells.push(number(row.prediction.answer())),
        }
        if self.metrics.is_some() {
            cells.push(self.label(row).unwrap_or_default());
        }
        cells
    }

    fn write_table(&self, out: &mut dyn Write) -> Result<()> {
        let numbers: &[usize] = if self.classes.is_empty() {
            &[0, 1, 2]
        } else {
            &[0, 2]
        };
        let mut table = print::table(&self.header(), numbers);
        for row in &self.rows {
            // Probabilities are compared by their decimals, values by their digits.
            let number = |value: f32| match row.prediction.class {
                Some(_) => format!("{value:.4}"),
                None => significant(value.into()),
            };
            table.add_row(self.cells(row, number));
        }
        Ok(writeln!(out, "{}", table.trim_fmt())?)
    }

    fn write_csv(&self, out: &mut dyn Write) -> Result<()> {
        writeln!(out, "{}", self.header().join(","))?;
        for row in &self.rows {
            let cells = self.cells(row, |value| value.to_string());
            let cells: Vec<String> = cells.iter().map(|cell| print::csv_field(cell)).collect();
            writeln!(out, "{}", cells.join(","))?;
        }
        Ok(())
    }

    fn write_json(&self, out: &mut dyn Write) -> Result<()> {
        for row in &self.rows {
            writeln!(out, "{}", serde_json::to_string(&self.line(row))?)?;
        }
        if let Some(metrics) = &self.metrics {
            writeln!(
                out,
                "{}",
                json!({
                    "rows": self.total, "labelled": self.labelled, "positive": self.positive, "metrics": metrics,
                })
            )?;
        }
        Ok(())
    }

    fn line(&self, row: &Row) -> Line<'_> {
        let place = Some(row.place);
        let (line, index) = if self.place == "line" {
            (place, None)
        } else {
            (None, place)
        };
        let each = || {
            self.classes
                .iter()
                .map(String::as_str)
                .zip(row.prediction.values.iter().copied())
                .collect()
        };
        match row.prediction.class {
            Some(class) => Line {
                line,
                row: index,
                prediction: Answer::Class(self.class(class)),
                probability: Some(row.prediction.answer()),
                probabilities: Some(each()),
                label: row
                    .label
                    .map(|label| Answer::Class(self.class(label as usize))),
            },
            None => Line {
                line,
                row: index,
                prediction: Answer::Value(row.prediction.answer()),
                probability: None,
                probabilities: None,
                label: row.label.map(Answer::Value),
            },
        }
    }
}

/// The outputs and labels of the rows that have a label.
fn with_labels(outputs: &[f32], labels: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let width = outputs.len().checked_div(labels.len()).unwrap_or(0).max(1);
    let rows = outputs.chunks_exact(width).zip(labels);
    let (outputs, labels): (Vec<&[f32]>, Vec<f32>) = rows
        .filter(|(_, label)| !label.is_nan())
        .map(|(outputs, label)| (outputs, *label))
        .unzip();
    (outputs.concat(), labels)
}

/// A row as a line of JSON.
#[derive(Serialize)]
struct Line<'a> {
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
    Value(f32),
}
