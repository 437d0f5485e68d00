//! The files of an artifact.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use trainyard_crds::training_job::Model;
use trainyard_data::{ColumnKind, InputKind};
use trainyard_runtime::artifact::{
    self, DataProvenance, MetricsFile, ModelFile, ModelFiles, Provenance, Verified,
};
use trainyard_runtime::exit::BadInput;
use trainyard_runtime::storage::Location;

use super::super::print;
use crate::ui::classes;
use crate::ui::format::{significant, thousands};

/// Inputs that the text shows; JSON has all.
const SHOWN_INPUTS: usize = 24;

/// What an artifact holds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    kind: &'static str,
    path: String,
    parameter_count: u64,
    model: ModelFile,
    metrics: MetricsFile,
    provenance: Provenance,
    files: Vec<File>,
}

/// A file as it was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct File {
    name: String,
    bytes: Option<u64>,
    sha256: Option<String>,
    /// What is wrong with it.
    problem: Option<String>,
}

impl From<Verified> for File {
    fn from(file: Verified) -> Self {
        File {
            name: file.name,
            bytes: file.bytes,
            sha256: file.sha256,
            problem: file.problem,
        }
    }
}

impl Report {
    /// Reads all files, which are in the folder `path` and belong to `place`, and checks their
    /// digests, and that of the parameters.
    ///
    /// # Errors
    /// [`BadInput`] if what describes the model cannot be read.
    pub fn read(path: &Path, place: &Location) -> Result<Self> {
        let provenance = artifact::provenance(path)?;
        let files = artifact::verify_files(path, &provenance);
        let damaged: Vec<String> = files
            .iter()
            .filter_map(|f| Some(format!("{}: {}", f.name, f.problem.as_ref()?)))
            .collect();
        // What cannot be opened says more when the digests have named the file at fault.
        let opened = ModelFiles::read(path).map_err(|error| match damaged.is_empty() {
            true => error,
            false => BadInput(format!("{error:#} (damaged: {})", damaged.join("; "))).into(),
        })?;
        // Where they cannot be read, the digest has told so.
        let metrics = artifact::metrics(path).ok();
        let mut files: Vec<File> = files.into_iter().map(File::from).collect();
        if opened.model.model_sha256 != provenance.model_sha256 {
            let problem = format!("it tells of the model {}", provenance.model_sha256);
            files.push(File {
                name: artifact::PROVENANCE.into(),
                bytes: None,
                sha256: None,
                problem: Some(problem),
            });
        }
        let count = |p: &artifact::ParameterShape| p.shape.iter().product::<u64>();
        Ok(Report {
            kind: "artifact",
            path: place.to_string(),
            parameter_count: opened.model.parameters.iter().map(count).sum(),
            model: opened.model,
            metrics: metrics.unwrap_or_default(),
            provenance,
            files,
        })
    }

    /// Whether every file is as it was written.
    pub fn is_sound(&self) -> bool {
        self.files.iter().all(|file| file.problem.is_none())
    }

    /// Writes it for people.
    pub fn write(&self, out: &mut dyn Write) -> Result<()> {
        let (model, provenance) = (&self.model, &self.provenance);
        writeln!(
            out,
            "{}  artifact in {}",
            print::bold(&model.job),
            self.path
        )?;
        let task = serde_json::to_value(model.task)?;
        let shape: Vec<String> = model.input_shape.iter().map(u64::to_string).collect();
        let checkpoint = &provenance.checkpoint;
        let state = if checkpoint.complete {
            "finished"
        } else {
            "unfinished"
        };
        let rows = [
            ("task", task.as_str().unwrap_or_default().to_owned()),
            ("model", describe(&model.architecture)),
            ("inputs", shape.join(" x ")),
            ("outputs", self.outputs()),
            ("parameters", thousands(self.parameter_count)),
            ("modelSha256", model.model_sha256.clone()),
            (
                "artifact",
                provenance.artifact_sha256.as_ref().map_or_else(
                    || format!("format {}, without a digest", provenance.format_version),
                    |digest| format!("digest {digest}"),
                ),
            ),
            (
                "step",
                format!(
                    "{} (epoch {}, {state})",
                    thousands(checkpoint.step),
                    checkpoint.epoch
                ),
            ),
            (
                "train",
                self.metrics
                    .train
                    .as_ref()
                    .map_or("not measured".into(), print::metrics),
            ),
            (
                "validation",
                self.metrics
                    .validation
                    .as_ref()
                    .map_or("not measured".into(), print::metrics),
            ),
            ("data", rows_of(&provenance.data)),
            ("spec", format!("digest {}", provenance.spec_digest)),
            ("capability", provenance.capability.clone()),
            (
                "written by",
                format!(
                    "trainyard {}, libtorch {}",
                    provenance.versions.trainyard, provenance.versions.libtorch
                ),
            ),
        ];
        let test = self.metrics.test.as_ref();
        let test = test.map(|found| ("test", print::metrics(found)));
        for (name, value) in rows.into_iter().chain(test) {
            writeln!(out, "  {name:<12} {value}")?;
        }
        let (reports, validation) = (&self.metrics.reports, &self.metrics.validation);
        let suggestion = validation.as_ref();
        let suggestion = suggestion.and_then(|found| classes::suggestion(reports, found));
        if let Some(text) = suggestion {
            writeln!(out, "  {:<12} {text}", "threshold")?;
        }
        if let Some((set, report)) = reports.decisive() {
            writeln!(out)?;
            for line in classes::lines(set, report, false) {
                writeln!(out, "{}", line.paint(false))?;
            }
        }
        writeln!(out, "\n{}", self.parameters().trim_fmt())?;
        writeln!(out, "\n{}", self.inputs().trim_fmt())?;
        writeln!(out, "\n{}", self.files().trim_fmt())?;
        Ok(())
    }

    fn outputs(&self) -> String {
        let (output, schema) = (&self.model.output, &self.model.input_schema);
        let mut text = format!("{} of {}", output.kind, schema.label.name);
        if !output.classes.is_empty() {
            text += &format!(": {}", few(&output.classes));
        }
        if let Some(positive) = schema.positive() {
            text += &format!(" (positive: {positive})");
        }
        text
    }

    fn parameters(&self) -> comfy_table::Table {
        let mut table = print::table(&["parameter", "shape", "count"], &[2]);
        for parameter in &self.model.parameters {
            let shape: Vec<String> = parameter.shape.iter().map(u64::to_string).collect();
            let count = thousands(parameter.shape.iter().product());
            table.add_row([parameter.name.clone(), shape.join(" x "), count]);
        }
        table
    }

    fn inputs(&self) -> comfy_table::Table {
        let mut table = print::table(&["input", "type", "mean", "std"], &[2, 3]);
        let mut add = |rows: &mut dyn Iterator<Item = [String; 4]>| {
            for row in Iterator::take(&mut *rows, SHOWN_INPUTS) {
                table.add_row(row);
            }
            let more = rows.count();
            if more > 0 {
                table.add_row([
                    format!("and {more} more"),
                    "see --json".into(),
                    String::new(),
                    String::new(),
                ]);
            }
        };
        match &self.model.input_schema.input {
            InputKind::Columns(columns) => add(&mut columns
                .columns
                .iter()
                .flat_map(|column| inputs_of(&column.name, &column.kind))),
            InputKind::Array(array) => {
                let group = if array.shape.len() == 1 {
                    "feature"
                } else {
                    "channel"
                };
                add(&mut array.mean.iter().zip(&array.std).enumerate().map(
                    |(index, (mean, std))| {
                        [
                            format!("{group} {index}"),
                            array.dtype.clone(),
                            significant(*mean),
                            significant(*std),
                        ]
                    },
                ));
            }
        }
        table
    }

    fn files(&self) -> comfy_table::Table {
        let mut table = print::table(&["file", "size", "SHA-256", ""], &[1]);
        for file in &self.files {
            table.add_row([
                file.name.clone(),
                file.bytes.map_or(String::new(), print::size),
                file.sha256.as_ref().map_or(String::new(), |sha256| {
                    format!("{}...", &sha256[..12.min(sha256.len())])
                }),
                file.problem
                    .as_ref()
                    .map_or("ok".into(), |problem| format!("damaged: {problem}")),
            ]);
        }
        table
    }
}

/// Rows of each set, and the digest of all.
fn rows_of(data: &DataProvenance) -> String {
    let mut rows = format!("{} + {}", data.train_rows, data.validation_rows);
    if data.test_rows > 0 {
        rows += &format!(" + {}", data.test_rows);
    }
    format!("{rows} rows, digest {}", data.digest)
}

/// The lines of a column: one, or one for each part of a date.
fn inputs_of(name: &str, kind: &ColumnKind) -> Vec<[String; 4]> {
    let row = |what: String, scale: Option<(f64, f64)>| {
        let [mean, std] = scale.map_or_else(Default::default, |(mean, std)| {
            [significant(mean), significant(std)]
        });
        [name.to_owned(), what, mean, std]
    };
    match kind {
        ColumnKind::Numeric { mean, std, .. } => vec![row("numeric".into(), Some((*mean, *std)))],
        ColumnKind::Categorical { categories, .. } => {
            vec![row(format!("one of {}", few(categories)), None)]
        }
        ColumnKind::Boolean { .. } => vec![row("boolean".into(), None)],
        ColumnKind::Ordinal {
            categories,
            mean,
            std,
            ..
        } => vec![row(
            format!("place in {}", few(categories)),
            Some((*mean, *std)),
        )],
        ColumnKind::Date { format, parts, .. } => {
            let parts = parts.iter().map(|input| {
                row(
                    format!("{:?} of a date ({format})", input.part),
                    Some((input.mean, input.std)),
                )
            });
            parts.collect()
        }
    }
}

fn few(names: &[String]) -> String {
    let mut shown: Vec<String> = names.iter().take(10).cloned().collect();
    if names.len() > shown.len() {
        shown.push(format!("and {} more", names.len() - shown.len()));
    }
    shown.join(", ")
}

/// `mlp 128-64-32, relu`.
fn describe(model: &Model) -> String {
    let join = |widths: Vec<String>| widths.join("-");
    let name = |activation| {
        serde_json::to_value(activation)
            .ok()
            .and_then(|v| v.as_str().map(str::to_owned))
            .unwrap_or_default()
    };
    let (kind, widths, activation, dropout) = match model {
        Model::Mlp(mlp) => (
            "mlp",
            mlp.hidden.iter().map(u32::to_string).collect(),
            mlp.activation,
            mlp.dropout,
        ),
        Model::Cnn(cnn) => {
            let blocks = cnn.blocks.iter().map(|block| {
                format!(
                    "{}x{}x{}",
                    block.channels, block.kernel_size, block.kernel_size
                )
            });
            (
                "cnn",
                blocks
                    .chain(cnn.hidden.iter().map(u32::to_string))
                    .collect(),
                cnn.activation,
                cnn.dropout,
            )
        }
    };
    let mut text = format!("{kind} {}, {}", join(widths), name(activation));
    if dropout > 0.0 {
        text.push_str(&format!(", dropout {dropout}"));
    }
    text
}
