//! Commits manifests, off the coordinator's thread: storage may be slow, heartbeats may not.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use trainyard_checkpoint::{Log, Manifest, ShardRecord, load_range};
use trainyard_core::coordinator::{Event, Record};
use trainyard_core::facts::DataFacts;
use trainyard_core::layout::{CHUNK, Layout, ModelHasher};
use trainyard_core::metrics::Metrics;

use crate::job::Job;
use crate::state::{CoordinatorState, FinalMetrics};

/// What to commit.
pub enum Work {
    /// A checkpoint.
    Commit {
        /// The version.
        version: u64,
        /// Shard records as JSON.
        shards: Vec<Value>,
        /// The record at that version.
        record: Box<Record>,
        /// Whether it is the best so far.
        best: bool,
        /// Facts of the data.
        facts: Box<DataFacts>,
        /// Numeric capability.
        capability: String,
    },
    /// A committed checkpoint again, with a later record and as the best.
    Amend {
        /// The manifest.
        source: Box<Value>,
        /// The record, now with validation metrics.
        record: Box<Record>,
    },
    /// The result.
    Complete {
        /// The manifest that holds the result's parameters.
        source: Box<Value>,
        /// The final record.
        record: Box<Record>,
        /// Metrics on the training rows.
        train: Box<Metrics>,
        /// Metrics on the validation rows.
        validation: Option<Box<Metrics>>,
    },
}

/// Owns the log while a coordinator of this generation works.
pub struct Committer {
    job: Job,
    generation: u32,
    log: Log,
    watch: Duration,
}

impl Committer {
    /// A committer that has claimed the log. It looks every `watch` whether it still holds it.
    pub fn new(job: Job, generation: u32, log: Log, watch: Duration) -> Self {
        Committer {
            job,
            generation,
            log,
            watch,
        }
    }

    /// Does what comes, in order, until the senders are gone or `tell` says that nobody listens.
    pub fn run(mut self, work: &Receiver<Work>, tell: impl Fn(Event) -> bool) {
        loop {
            let done = match work.recv_timeout(self.watch) {
                Ok(work) => self.carry_out(work),
                Err(RecvTimeoutError::Timeout) => match self.log.check_fence() {
                    Err(error @ trainyard_checkpoint::Error::Fenced { .. }) => Err(error.into()),
                    // Unreachable storage matters when there is something to store.
                    _ => continue,
                },
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let event = done.unwrap_or_else(|error| match error.downcast_ref() {
                Some(trainyard_checkpoint::Error::Fenced { .. }) => Event::Fenced,
                _ => Event::CommitFailed {
                    message: format!("the checkpoint could not be committed: {error:#}"),
                },
            });
            if !tell(event) {
                return;
            }
        }
    }

    fn carry_out(&mut self, work: Work) -> Result<Event> {
        match work {
            Work::Commit {
                version,
                shards,
                record,
                best,
                facts,
                capability,
            } => {
                let manifest = self.manifest(version, shards, *record, best, *facts, capability)?;
                self.log.commit(manifest.clone())?;
                let keep = self.job.manifest.spec.checkpoint.keep as usize;
                if let Err(error) = self.log.clean(keep) {
                    tracing::warn!(%error, "old checkpoints could not be cleaned");
                }
                Ok(Event::Committed {
                    version,
                    manifest: serde_json::to_value(&manifest)?,
                })
            }
            Work::Amend { source, record } => {
                let mut manifest: Manifest = serde_json::from_value(*source)?;
                manifest.generation = self.generation.into();
                manifest.best = true;
                manifest.coordinator = kept(*record, None)?;
                self.log.commit(manifest.clone())?;
                let version = manifest.step;
                Ok(Event::Committed {
                    version,
                    manifest: serde_json::to_value(&manifest)?,
                })
            }
            Work::Complete {
                source,
                record,
                train,
                validation,
            } => {
                let metrics = FinalMetrics {
                    train: *train,
                    validation: validation.map(|metrics| *metrics).unwrap_or_default(),
                };
                let mut manifest: Manifest = serde_json::from_value(*source)?;
                let layout = self.job.layout(&manifest.facts)?;
                manifest.generation = self.generation.into();
                manifest.complete = true;
                manifest.coordinator = kept(*record, Some(metrics))?;
                manifest.model_sha256 = Some(self.model_sha256(&manifest, &layout)?);
                self.log.commit(manifest)?;
                Ok(Event::Completed)
            }
        }
    }

    fn manifest(
        &self,
        version: u64,
        shards: Vec<Value>,
        record: Record,
        best: bool,
        facts: DataFacts,
        capability: String,
    ) -> Result<Manifest> {
        let layout = self.job.layout(&facts)?;
        let shards: Vec<ShardRecord> = shards
            .into_iter()
            .map(serde_json::from_value)
            .collect::<Result<_, _>>()
            .context("a server sent a shard record that cannot be decoded")?;
        let epoch = self.job.plan(facts.train_rows)?.position(version).epoch;
        Ok(Manifest {
            identity: self.log.identity().clone(),
            generation: self.generation.into(),
            step: version,
            epoch,
            complete: false,
            best,
            floats: layout.len() as u64,
            shards,
            layout_digest: layout.digest(),
            capability,
            facts,
            coordinator: kept(record, None)?,
            spec: self.job.to_json()?,
            model_sha256: None,
        })
    }

    /// Hashes the model piece by piece, so that no process needs room for all of it.
    fn model_sha256(&self, manifest: &Manifest, layout: &Layout) -> Result<String> {
        let mut hasher = ModelHasher::new(layout);
        for shard in &manifest.shards {
            let range = shard.start as usize..shard.end as usize;
            let slice = load_range(self.log.storage().as_ref(), manifest, range)?;
            for piece in slice.parameters.chunks(CHUNK) {
                hasher.update(piece)?;
            }
        }
        Ok(hasher.finish()?)
    }
}

/// The coordinator's part of a manifest.
fn kept(record: Record, metrics: Option<FinalMetrics>) -> Result<Value> {
    Ok(serde_json::to_value(CoordinatorState { record, metrics })?)
}
