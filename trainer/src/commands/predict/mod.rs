//! `trainyard predict`: what a model makes of a file's rows.
//!
//! Rows are read, computed and written part by part, so that a file may have any number of them.

mod format;
mod output;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use trainyard_core::control::EVALUATION_BLOCK_ROWS;
use trainyard_core::metrics::{BlockResult, ClassificationReport, Metrics, TaskKind, has_scores};
use trainyard_data::{
    DataError, Encoded, ErrorKind as DataErrorKind, Folder, Labels, Limits, Opened, Rows,
    encode_labels,
};
use trainyard_infer::Model;
use trainyard_runtime::artifact;
use trainyard_runtime::exit::{BadInput, ExitCode};
use trainyard_runtime::memory;
use trainyard_runtime::output as says;

use super::{PredictArgs, print};
use crate::ui::classes;
use crate::ui::format::thousands;
use format::{Format, Row, Writer};

/// Inputs of the rows that are held at once, about: 64 MiB.
const PART: usize = 16 << 20;
/// The column with the path of an image.
const IMAGE: &str = "image";
/// Blocks that are held at once, at most.
const PART_BLOCKS: usize = 64;
/// The most rows of a binary task that metrics are of: each holds 5 bytes, as the AUC needs all scores.
const JUDGED: u64 = 32 << 20;

/// Runs the command.
///
/// # Errors
/// [`BadInput`] for a damaged artifact or an unsuitable file, naming the place.
pub fn run(args: PredictArgs) -> Result<ExitCode> {
    let place = artifact::artifact_at(&args.artifact)?;
    let files = place.fetch(&[artifact::MODEL, artifact::PARAMETERS])?;
    let mut model = Model::open(files.path())?;
    if let Some(threshold) = args.threshold {
        decide_above(threshold, &mut model)?;
    }
    let model = model;
    let limits = memory::limits();
    let working = Folder::working();
    let mut source = Source::open(&model, &args, &working, &limits)?;
    let mut told = Told::default();
    let inputs = [&args.csv, &args.parquet, &args.npy, &args.labels].map(Option::as_deref);
    let images = args.images.iter().map(Path::new);
    let inputs: Vec<&Path> = inputs.into_iter().flatten().chain(images).collect();
    let exit = output::write(args.output.as_deref(), &inputs, |out| {
        told = predict(&model, &mut source, &args, limits.threads, out)?;
        Ok(())
    })?;
    warn(&source.rows.warnings(), &told);
    if !args.json {
        judge(&model, &told);
    }
    Ok(exit)
}

/// Has the positive class predicted above a probability that is not the model's own.
fn decide_above(threshold: f64, model: &mut Model) -> Result<()> {
    if model.kind() != TaskKind::Binary {
        bail!(BadInput(
            "--threshold is for models with two classes: leave it out".to_owned()
        ));
    }
    if !(threshold > 0.0 && threshold < 1.0) {
        bail!(BadInput(format!(
            "--threshold is {threshold}: give a probability between 0 and 1"
        )));
    }
    model.file.input_schema.label.threshold = Some(threshold);
    Ok(())
}

/// What there is to say when all rows are written.
#[derive(Default)]
struct Told {
    rows: u64,
    /// Rows left out, and the line of the first.
    dropped: (u64, Option<u64>),
    labelled: u64,
    /// Rows with a label that metrics are not of.
    unjudged: u64,
    metrics: Option<Metrics>,
    report: Option<ClassificationReport>,
}

/// How good the predictions are of the rows that have a label.
struct Judged {
    rows: BlockResult,
    /// The same with the scores of all classes, as long as these are few enough to be held.
    scored: Option<Vec<BlockResult>>,
}

impl Judged {
    fn new(kind: TaskKind) -> Self {
        Self {
            rows: BlockResult::empty(kind),
            scored: has_scores(kind, 1).then(Vec::new),
        }
    }

    fn add(&mut self, model: &Model, outputs: &[f32], labels: &[f32]) -> Result<()> {
        self.rows.merge(model.score(outputs, labels, false)?);
        if !has_scores(model.kind(), self.rows.rows) {
            self.scored = None;
        }
        if let Some(scored) = &mut self.scored {
            scored.push(model.score(outputs, labels, true)?);
        }
        Ok(())
    }

    /// The metrics and the report, if there are any rows.
    fn summarize(self, model: &Model) -> Option<(Metrics, Option<ClassificationReport>)> {
        let is_any = self.rows.rows > 0;
        let judged = self.scored.unwrap_or_else(|| vec![self.rows]);
        is_any.then(|| model.summarize(&judged))
    }
}

/// Writes what the model predicts for all rows.
fn predict(
    model: &Model,
    source: &mut Source<'_>,
    args: &PredictArgs,
    threads: usize,
    out: &mut dyn std::io::Write,
) -> Result<Told> {
    let schema = &model.file.input_schema;
    let kind = model.kind();
    let limit = args.limit.map_or(u64::MAX, |limit| limit as u64);
    let mut told = Told::default();
    let mut judged = Judged::new(kind);
    let Some(first) = source.next()? else {
        return Ok(told);
    };
    model.check_memory(first.table.rows, threads)?;
    let ids = source.ids.clone();
    let format = Format {
        classes: &model.file.output.classes,
        ids: &ids,
        has_lines: source.rows.have_lines(),
        has_labels: !first.table.labels.is_empty(),
        probabilities: args.probabilities,
    };
    let columns = format.ids.len();
    let is_table = args.output.is_none() && print::on_terminal();
    let mut writer = Writer::new(format, args.json, is_table, out)?;
    let mut next = Some(first);
    while let Some(part) = next {
        told.dropped.0 += part.dropped.len() as u64;
        told.dropped.1 = told.dropped.1.or(part.dropped.first().copied());
        let first = told.rows;
        told.rows += part.table.rows as u64;
        let width = kind.outputs().max(1);
        let outputs = model.outputs(&part.table.features, threads);
        for (at, outputs) in outputs.chunks_exact(width).enumerate() {
            let place = first + at as u64;
            if place >= limit {
                break;
            }
            let prediction = model.predict(outputs);
            let line = part.lines.get(at).copied();
            if !prediction.is_finite() {
                let row = match line {
                    Some(line) => format!("line {line}"),
                    None => format!("row {place} (from 0)"),
                };
                bail!(BadInput(format!(
                    "{}: what the model predicts for {row} is no finite number; are its inputs far from those of \
                     the training rows?",
                    source.name
                )));
            }
            writer.write(&Row {
                place: line.unwrap_or(place),
                ids: part.ids_of(at, columns),
                prediction,
                label: part.label(at).filter(|label| !label.is_nan()),
            })?;
        }
        // In the blocks and the order in which training evaluates.
        let block = EVALUATION_BLOCK_ROWS as usize;
        let blocks = outputs.chunks(block * width);
        for (outputs, labels) in blocks.zip(part.table.labels.chunks(block)) {
            let (outputs, labels) = with_labels(outputs, labels);
            told.labelled += labels.len() as u64;
            if kind == TaskKind::Binary && told.labelled > JUDGED {
                told.unjudged += labels.len() as u64;
                continue;
            }
            judged.add(model, &outputs, &labels)?;
        }
        if part.table.labels.is_empty() && told.rows >= limit {
            break;
        }
        next = source.next()?;
    }
    if let Some((metrics, report)) = judged.summarize(model) {
        (told.metrics, told.report) = (Some(metrics), report);
    }
    writer.finish(&told, schema.positive())?;
    Ok(told)
}

/// The rows of a file, with the labels of another one.
struct Source<'a> {
    rows: Rows<'a>,
    /// What stands for the file in errors.
    name: String,
    /// The most rows of a part.
    part: usize,
    labels: Option<(String, Labels)>,
    /// Names of the columns that are carried through.
    ids: Vec<String>,
    /// Rows so far.
    taken: usize,
}

impl<'a> Source<'a> {
    fn open(
        model: &'a Model,
        args: &PredictArgs,
        working: &'a Folder,
        limits: &'a Limits,
    ) -> Result<Self> {
        let schema = &model.file.input_schema;
        if let Some(first) = args.images.first() {
            // A folder may have the name of an image.
            let slash = |path: &String| match Path::new(path).is_dir() {
                true => format!("{}/", path.trim_end_matches('/')),
                false => path.clone(),
            };
            let images: Vec<String> = args.images.iter().map(slash).collect();
            let rows = Rows::images(schema, working, &images, limits);
            let rows = rows.map_err(data_error)?;
            return Ok(Self::new(
                model,
                rows,
                first.clone(),
                None,
                vec![IMAGE.into()],
            ));
        }
        let path = args.csv.as_ref().or(args.parquet.as_ref());
        let path = path.or(args.npy.as_ref());
        let path = path.context("give --csv, --parquet, --npy or --images")?;
        let name = match path == Path::new("-") {
            true => "standard input".into(),
            false => path.display().to_string(),
        };
        let file = open(path)?;
        let rows = match (&args.csv, &args.parquet, file) {
            (Some(_), _, file) => Rows::csv(schema, &name, stream(file), &args.id, limits),
            (_, Some(_), file) => Rows::parquet(schema, &name, file, &args.id, limits),
            (_, _, file) => Rows::array(schema, &name, stream(file), limits),
        };
        let labels = match &args.labels {
            None => None,
            Some(path) => {
                let name = path.display().to_string();
                let labels = encode_labels(schema, &name, stream(open(path)?), limits)
                    .map_err(data_error)?;
                Some((name, labels))
            }
        };
        let rows = rows.map_err(data_error)?;
        Ok(Self::new(model, rows, name, labels, args.id.clone()))
    }

    fn new(
        model: &Model,
        rows: Rows<'a>,
        name: String,
        labels: Option<(String, Labels)>,
        ids: Vec<String>,
    ) -> Self {
        let width: u64 = model.file.input_shape.iter().product();
        let block = EVALUATION_BLOCK_ROWS as usize;
        let blocks = PART / (block * width.max(1) as usize);
        Self {
            rows,
            name,
            part: block * blocks.clamp(1, PART_BLOCKS),
            labels,
            ids,
            taken: 0,
        }
    }

    /// The next rows; none at the end.
    fn next(&mut self) -> Result<Option<Encoded>> {
        let part = self.rows.next(self.part).map_err(data_error)?;
        let Some((name, labels)) = &self.labels else {
            return Ok(part);
        };
        let found = labels.encoded.len();
        let rows = self.taken + part.as_ref().map_or(0, |part| part.table.rows);
        if rows > found || part.is_none() && rows < found {
            bail!(BadInput(format!(
                "{name}: {found} labels for {} rows of {}; give one label a row",
                match part {
                    Some(_) => format!("{rows} or more"),
                    None => rows.to_string(),
                },
                self.name
            )));
        }
        let range = self.taken..rows;
        self.taken = rows;
        Ok(part.map(|mut part| {
            part.table.labels = labels.encoded[range.clone()].to_vec();
            part.targets = labels.targets.get(range).unwrap_or_default().to_vec();
            part
        }))
    }
}

/// Opens a file, or standard input for `-`.
fn open(path: &Path) -> Result<Opened> {
    if path == Path::new("-") {
        return Ok(Opened::Stream(Box::new(std::io::stdin())));
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
    Ok(match file.metadata().is_ok_and(|meta| meta.is_file()) {
        true => Opened::File(file),
        false => Opened::Stream(Box::new(file)),
    })
}

/// The bytes of a file one after the other.
fn stream(opened: Opened) -> Box<dyn Read + Send> {
    match opened {
        Opened::File(file) => Box::new(file),
        Opened::Stream(stream) => stream,
    }
}

fn data_error(error: DataError) -> anyhow::Error {
    match error.kind {
        DataErrorKind::Io => error.into(),
        DataErrorKind::Data | DataErrorKind::Limit | DataErrorKind::Options => {
            BadInput(error.to_string()).into()
        }
    }
}

fn warn(warnings: &[String], told: &Told) {
    for warning in warnings {
        says::warn(warning);
    }
    if let (count, Some(first)) = told.dropped {
        let rows = match count {
            1 => "1 row with a missing value is left out".into(),
            count => format!("{} rows with missing values are left out", thousands(count)),
        };
        says::warn(format_args!(
            "{rows}, as in training; the first is on line {first}"
        ));
    }
}

/// Says how good the predictions are, where there are labels.
fn judge(model: &Model, told: &Told) {
    let Some(metrics) = &told.metrics else { return };
    let rows = match (told.unjudged, told.rows - told.labelled) {
        (0, 0) => format!("{} rows", thousands(told.rows)),
        (0, _) => format!(
            "the {} of {} rows that have a label",
            thousands(told.labelled),
            thousands(told.rows)
        ),
        (unjudged, _) => format!(
            "the first {} rows that have a label",
            thousands(told.labelled - unjudged)
        ),
    };
    let positive = model.file.input_schema.positive();
    let of = positive.map_or(String::new(), |class| format!(" (positive class: {class})"));
    says::say(format_args!(
        "metrics on {rows}: {}{of}",
        print::metrics(metrics)
    ));
    if let Some(report) = &told.report {
        says::say("");
        for line in classes::lines("", report, false) {
            says::say(line.paint(false));
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
