//! The checkpoints of a run.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use serde::Serialize;
use trainyard_checkpoint::{Error, History, HistoryPoint, Log, Manifest, Storage, verify_shard};
use trainyard_core::metrics::Metrics;
use trainyard_runtime::artifact::{MetricsFile, is_published};
use trainyard_runtime::storage::Location;

use super::super::open_log;
use super::super::print;
use crate::ui::format::{significant, thousands};

/// What a run's folder holds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    kind: &'static str,
    path: String,
    job: String,
    spec_digest: String,
    /// The class that f1 and auc are of, for binary classification.
    #[serde(skip_serializing_if = "Option::is_none")]
    positive: Option<String>,
    /// Generation of the newest coordinator.
    generation: Option<u64>,
    /// Oldest first.
    checkpoints: Vec<Checkpoint>,
    /// Digests of the state by step, those of checkpoints that are gone included; empty if it was not read.
    history: Vec<HistoryPoint>,
    /// Entries and histories of the log that cannot be read.
    damaged: Vec<Damaged>,
    /// The run's artifact, if it is there.
    artifact: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checkpoint {
    step: u64,
    epoch: u64,
    generation: u64,
    complete: bool,
    best: bool,
    shards: usize,
    bytes: u64,
    /// Mean training loss of the epoch in progress, or the last finished one.
    loss: Option<f64>,
    train: Option<Metrics>,
    validation: Option<Metrics>,
    model_sha256: Option<String>,
    capability: String,
    /// Why it cannot be loaded.
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct Damaged {
    key: String,
    reason: String,
}

impl Report {
    /// Reads the log and looks at the shards: their sizes, or with `verify` all their bytes. The history, which
    /// may be long, is read if `with_history`.
    ///
    /// # Errors
    /// If there is no log, or the storage fails.
    pub fn read(place: &Location, verify: bool, with_history: bool) -> Result<Self> {
        let log = open_log(place)?;
        let sizes = sizes(&log)?;
        let artifact = is_published(log.storage().as_ref())?;
        let checkpoint = |manifest| Checkpoint::read(&log, manifest, &sizes, verify);
        let history = match with_history {
            true => log.history()?,
            false => History::default(),
        };
        let damaged = |s: &trainyard_checkpoint::Skipped| Damaged {
            key: s.key.clone(),
            reason: s.reason.clone(),
        };
        Ok(Report {
            kind: "run",
            path: place.to_string(),
            positive: log
                .latest()
                .and_then(|manifest| manifest.facts.schema.positive().map(str::to_owned)),
            job: log.identity().job.clone(),
            spec_digest: log.identity().spec_digest.clone(),
            generation: log.current_claim().map(|claim| claim.generation),
            checkpoints: log.manifests().map(checkpoint).collect::<Result<_>>()?,
            damaged: log
                .damaged()
                .iter()
                .chain(&history.damaged)
                .map(damaged)
                .collect(),
            history: history.points,
            artifact: artifact.then(|| place.artifact().to_string()),
        })
    }

    /// Whether something can be loaded, or nothing was ever committed.
    pub fn is_sound(&self) -> bool {
        let nothing = self.checkpoints.is_empty() && self.damaged.is_empty();
        nothing
            || self
                .checkpoints
                .iter()
                .any(|checkpoint| checkpoint.problem.is_none())
    }

    /// Writes a table, and what is damaged below it.
    pub fn write(&self, out: &mut dyn Write) -> Result<()> {
        let generation = self.generation.map_or(String::new(), |generation| {
            format!("  generation {generation}")
        });
        writeln!(
            out,
            "{}  run in {}{generation}",
            print::bold(&self.job),
            self.path
        )?;
        match self.checkpoints.is_empty() {
            true => writeln!(out, "no checkpoint yet")?,
            false => writeln!(out, "\n{}\n", self.table().trim_fmt())?,
        }
        if let Some(positive) = &self.positive {
            writeln!(out, "positive class: {positive}")?;
        }
        for checkpoint in &self.checkpoints {
            if let Some(sha256) = &checkpoint.model_sha256 {
                writeln!(out, "modelSha256 of step {}: {sha256}", checkpoint.step)?;
            }
        }
        if let Some(artifact) = &self.artifact {
            writeln!(out, "artifact: {}", artifact)?;
        }
        for checkpoint in &self.checkpoints {
            if let Some(problem) = &checkpoint.problem {
                writeln!(out, "damaged: step {}: {problem}", checkpoint.step)?;
            }
        }
        for damaged in &self.damaged {
            writeln!(out, "damaged: {}", damaged.reason)?;
        }
        Ok(())
    }

    fn table(&self) -> comfy_table::Table {
        let header = [
            "step",
            "epoch",
            "generation",
            "shards",
            "size",
            "loss",
            "validation",
            "",
        ];
        let mut table = print::table(&header, &[0, 1, 2, 3, 4, 5]);
        for c in &self.checkpoints {
            let marks = [
                (c.complete, "complete"),
                (c.best, "best"),
                (c.problem.is_some(), "damaged"),
            ];
            let marks: Vec<&str> = marks
                .iter()
                .filter(|(set, _)| *set)
                .map(|(_, mark)| *mark)
                .collect();
            table.add_row([
                thousands(c.step),
                c.epoch.to_string(),
                c.generation.to_string(),
                c.shards.to_string(),
                print::size(c.bytes),
                c.loss.map_or(String::new(), significant),
                c.validation.as_ref().map_or(String::new(), print::metrics),
                marks.join(", "),
            ]);
        }
        table
    }
}

impl Checkpoint {
    fn read(
        log: &Log,
        manifest: &Manifest,
        sizes: &BTreeMap<String, u64>,
        verify: bool,
    ) -> Result<Self> {
        let state = &manifest.coordinator;
        let loss = state.record.loss_at(manifest.step);
        let loss = loss.filter(|loss| loss.is_finite());
        let metrics = MetricsFile::of(state.clone(), &manifest.facts.schema);
        Ok(Checkpoint {
            step: manifest.step,
            epoch: manifest.epoch,
            generation: manifest.generation,
            complete: manifest.complete,
            best: manifest.best,
            shards: manifest.shards.len(),
            // Of records that nobody has compared with the files yet.
            bytes: manifest
                .shards
                .iter()
                .fold(0, |sum, shard| sum.saturating_add(shard.bytes)),
            loss,
            train: metrics.train,
            validation: metrics.validation,
            model_sha256: manifest.model_sha256.clone(),
            capability: manifest.capability.clone(),
            problem: problem(log.storage().as_ref(), manifest, sizes, verify)?,
        })
    }
}

/// Sizes of all stored shards.
fn sizes(log: &Log) -> Result<BTreeMap<String, u64>> {
    let objects = log.storage().list("checkpoints/")?;
    Ok(objects
        .into_iter()
        .map(|object| (object.key, object.bytes))
        .collect())
}

fn problem(
    storage: &dyn Storage,
    manifest: &Manifest,
    sizes: &BTreeMap<String, u64>,
    verify: bool,
) -> Result<Option<String>> {
    for shard in &manifest.shards {
        let (key, bytes) = (&shard.key, shard.bytes);
        match sizes.get(key) {
            None => return Ok(Some(format!("shard {key} is missing"))),
            Some(found) if *found != bytes => {
                return Ok(Some(format!("shard {key} has {found} of {bytes} bytes")));
            }
            Some(_) if verify => match verify_shard(storage, shard) {
                Ok(()) => {}
                Err(Error::Storage(error)) => return Err(error.into()),
                Err(error) => return Ok(Some(error.to_string())),
            },
            Some(_) => {}
        }
    }
    Ok(None)
}
