//! The JSON files of an artifact.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use trainyard_core::coordinator::{Best, EpochRecord};
use trainyard_core::layout::Layout;
use trainyard_core::manifest::{CoordinatorState, FinalMetrics, Reports};
use trainyard_core::metrics::{Loss, Metrics, Objective};
use trainyard_crds::training_job::Model;
use trainyard_data::{InputSchema, Link, Task};

/// The version of the format that is written, and the newest that is read.
pub const FORMAT: u32 = 2;

/// `model.json`: all that is needed to run the parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelFile {
    /// [`FORMAT`].
    pub format_version: u32,
    /// Name of the job.
    pub job: String,
    /// What the model predicts; the same as in the input schema.
    pub task: Task,
    /// The network, without its output layer, as in `spec.model`.
    pub architecture: Model,
    /// How a file's rows become inputs, with the normalization that was fitted in training.
    pub input_schema: InputSchema,
    /// Shape of one input row.
    pub input_shape: Vec<u64>,
    /// What the network returns.
    pub output: Output,
    /// The loss of a row, if it is not the task's usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// The parameters in name order.
    pub parameters: Vec<ParameterShape>,
    /// Digest of the parameters: names, shapes and values.
    pub model_sha256: String,
}

impl ModelFile {
    /// What the outputs mean, and how they are judged.
    pub fn objective(&self) -> Objective {
        let kind = self.task.kind(self.output.width);
        Objective::new(self.loss.unwrap_or(Loss::of(kind)), &self.input_schema)
    }
}

/// What the network returns for a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// `logits`, `values`, or `logarithms` of values. Values are scaled as the input schema says of the label.
    pub kind: String,
    /// Numbers a row: 1 for binary (the logit of class 1) and regression, else one a class.
    pub width: u64,
    /// Names of the classes by index; empty for regression.
    pub classes: Vec<String>,
}

/// Name and shape of a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterShape {
    /// Such as `layers.0.weight`.
    pub name: String,
    /// Outermost dimension first.
    pub shape: Vec<u64>,
}

impl Output {
    /// The output of a model with this schema.
    pub fn of(schema: &InputSchema) -> Self {
        let kind = match (schema.task, schema.label.link) {
            (Task::Regression, Some(Link::Log)) => "logarithms",
            (Task::Regression, None) => "values",
            _ => "logits",
        };
        Output {
            kind: kind.into(),
            width: schema.outputs(),
            classes: schema.label.classes.clone(),
        }
    }
}

impl ParameterShape {
    /// The parameters of a layout in name order.
    pub fn all(layout: &Layout) -> Vec<Self> {
        let shape = |p: &trainyard_core::layout::Placed| ParameterShape {
            name: p.param.name.clone(),
            shape: p.param.shape.clone(),
        };
        layout.params().map(shape).collect()
    }
}

/// `metrics.json`: how well the model does, as training has found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricsFile {
    /// On the training rows; only a finished job has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<Metrics>,
    /// On the validation rows, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Metrics>,
    /// On the test rows, if there are any; only a finished job has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Metrics>,
    /// What a classifier gets right and wrong; only a finished job has them.
    #[serde(default, skip_serializing_if = "Reports::is_empty")]
    pub reports: Reports,
    /// The class that `f1` and `auc` are of, for binary classification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive: Option<String>,
    /// How training went.
    pub training: History,
}

/// How training went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// Steps done, also those after the best epoch.
    pub steps: u64,
    /// Samples used.
    pub samples: u64,
    /// Whether early stopping ended it.
    pub stopped_early: bool,
    /// The best epoch, where early stopping was on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
    /// The epochs, oldest first.
    pub epochs: Vec<EpochRecord>,
}

impl MetricsFile {
    /// What a checkpoint has of it.
    pub fn of(state: CoordinatorState, schema: &InputSchema) -> Self {
        let CoordinatorState { record, metrics } = state;
        let is_finished = metrics.is_some();
        let FinalMetrics {
            train,
            validation,
            test,
            reports,
        } = metrics.unwrap_or_default();
        let found = |metrics: Metrics| (!metrics.is_empty()).then_some(metrics);
        // Before the end, the metrics of the last epoch are those of these parameters only if
        // nothing was learned since.
        let latest = record
            .history
            .last()
            .filter(|last| last.step == record.step);
        let latest = latest.and_then(|last| last.validation.clone());
        MetricsFile {
            train: is_finished.then_some(train),
            validation: found(validation).or(latest),
            test: found(test),
            reports,
            positive: schema.positive().map(str::to_owned),
            training: History {
                steps: record.step,
                samples: record.samples,
                stopped_early: record.stopped_early,
                best: record.best,
                epochs: record.history,
            },
        }
    }
}

/// `provenance.json`: what the artifact was made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provenance {
    /// Digest of this file, see [`seal`]: it tells of a change that no other digest does. It comes first, so that it is found first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance_sha256: Option<String>,
    /// [`FORMAT`].
    pub format_version: u32,
    /// Name of the job.
    pub job: String,
    /// Digest of the parameters.
    pub model_sha256: String,
    /// Digest of all in the spec that determines the model.
    pub spec_digest: String,
    /// The data.
    pub data: DataProvenance,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// CPU or accelerator capability that the parameters' bits belong to.
    pub capability: String,
    /// Versions of what wrote it.
    pub versions: Versions,
    /// Digest of all other files: the identity of the artifact, which does not depend on how many processes made it, or which. See
    /// [`identity`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_sha256: Option<String>,
    /// The other files, by name.
    pub files: BTreeMap<String, FileRecord>,
    /// The whole job, with defaults applied.
    pub spec: Value,
}

/// The data a model was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataProvenance {
    /// SHA-256 over the encoded rows and the schema.
    pub digest: String,
    /// Training rows.
    pub train_rows: u64,
    /// Validation rows.
    pub validation_rows: u64,
    /// Test rows.
    #[serde(default)]
    pub test_rows: u64,
}

/// The checkpoint an artifact was exported from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// Steps that the parameters have learned.
    pub step: u64,
    /// Epochs done by then.
    pub epoch: u64,
    /// Generation that committed it.
    pub generation: u64,
    /// Whether the job was finished with it.
    pub complete: bool,
}

/// Versions of what wrote an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Versions {
    /// This program's.
    pub trainyard: String,
    /// The version of libtorch that traced `model.pt`.
    pub libtorch: String,
}

/// Size and digest of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileRecord {
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 (hex).
    pub sha256: String,
}

/// The digest of an artifact with these files: SHA-256 (hex) of the lines `SHA256  NAME`, sorted by name, that `sha256sum` prints
/// for them. Models with equal parameters and other classes, scales or golden rows are different artifacts.
pub fn identity(files: &BTreeMap<String, FileRecord>) -> String {
    let mut hash = Sha256::new();
    for (name, file) in files {
        hash.update(format!("{}  {name}\n", file.sha256));
    }
    base16ct::lower::encode_string(&hash.finalize())
}

/// The hex digits of [`Provenance::provenance_sha256`] in the text of the file.
fn digest_in(text: &[u8]) -> Option<std::ops::Range<usize>> {
    const KEY: &[u8] = b"\"provenanceSha256\"";
    let key = text.windows(KEY.len()).position(|window| window == KEY)?;
    let rest = &text[key + KEY.len()..];
    let start = key + KEY.len() + rest.iter().position(|byte| *byte == b'"')? + 1;
    let range = start..start.checked_add(64)?;
    let is_digest = |digest: &[u8]| digest.iter().all(u8::is_ascii_hexdigit);
    text.get(range.clone())
        .is_some_and(is_digest)
        .then_some(range)
}

/// The SHA-256 (hex) of a `provenance.json` in which the digits of its own digest are zeros; none if it has none.
pub fn seal(text: &[u8]) -> Option<String> {
    let range = digest_in(text)?;
    let mut hash = Sha256::new();
    hash.update(&text[..range.start]);
    hash.update([b'0'; 64]);
    hash.update(&text[range.end..]);
    Some(base16ct::lower::encode_string(&hash.finalize()))
}

impl Provenance {
    /// The text of the file, with its own digest in it.
    ///
    /// # Errors
    /// If it cannot be encoded.
    pub fn to_text(&self) -> Result<Vec<u8>> {
        let unsealed = Provenance {
            provenance_sha256: Some("0".repeat(64)),
            ..self.clone()
        };
        let mut text = serde_json::to_vec_pretty(&unsealed)?;
        text.push(b'\n');
        if let (Some(range), Some(digest)) = (digest_in(&text), seal(&text)) {
            text[range].copy_from_slice(digest.as_bytes());
        }
        Ok(text)
    }
}

/// Decodes `provenance.json`.
///
/// # Errors
/// As [`decode`]; also if it was changed.
pub fn decode_provenance(text: &[u8]) -> Result<Provenance> {
    let provenance: Provenance = decode(text)?;
    if let Some(recorded) = &provenance.provenance_sha256 {
        let found = seal(text);
        if found.as_ref() != Some(recorded) {
            bail!(
                "it was changed: its provenanceSha256 should be {}",
                found.unwrap_or_default()
            );
        }
    }
    Ok(provenance)
}

/// Decodes a versioned JSON file of an artifact.
///
/// # Errors
/// If it is of a newer format, or damaged.
pub fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        format_version: u32,
    }
    let Version { format_version } = serde_json::from_slice(bytes)?;
    if !(1..=FORMAT).contains(&format_version) {
        bail!(
            "it has format {format_version}, this version reads up to {FORMAT}: use the version that wrote it"
        );
    }
    Ok(serde_json::from_slice(bytes)?)
}
