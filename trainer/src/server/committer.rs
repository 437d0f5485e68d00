//! Commits manifests, off the coordinator's thread: storage may be slow, heartbeats may not.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::Result;
use trainyard_checkpoint::{Log, load_range};
use trainyard_core::coordinator::{Commit, Event, Record};
use trainyard_core::facts::DataFacts;
use trainyard_core::layout::{CHUNK, Layout, ModelHasher};
use trainyard_core::manifest::{CoordinatorState, Manifest, ShardRecord};
use trainyard_runtime::job::Job;

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

    /// Commits what comes, in order, until the senders are gone or `tell` says that nobody listens.
    pub fn run(mut self, commits: &Receiver<Commit>, tell: impl Fn(Event) -> bool) {
        loop {
            let done = match commits.recv_timeout(self.watch) {
                Ok(commit) => self.carry_out(commit),
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

    fn carry_out(&mut self, commit: Commit) -> Result<Event> {
        match commit {
            Commit::Checkpoint {
                version,
                shards,
                record,
                best,
                facts,
                capability,
            } => {
                let manifest = self.manifest(version, shards, record, best, &facts, capability)?;
                let committed = self.commit(manifest)?;
                let keep = self.job.manifest.spec.checkpoint.keep as usize;
                if let Err(error) = self.log.clean(keep) {
                    tracing::warn!(%error, "old checkpoints could not be cleaned");
                }
                Ok(committed)
            }
            Commit::Amend { source, record } => self.commit(Manifest {
                generation: self.generation.into(),
                imported: false,
                best: true,
                coordinator: CoordinatorState {
                    record,
                    metrics: None,
                },
                ..Manifest::clone(&source)
            }),
            Commit::Complete {
                source,
                record,
                metrics,
            } => {
                let layout = self.job.layout(&source.facts)?;
                let model_sha256 = self.model_sha256(&source, &layout)?;
                self.log.commit(Manifest {
                    generation: self.generation.into(),
                    imported: false,
                    complete: true,
                    coordinator: CoordinatorState {
                        record,
                        metrics: Some(*metrics),
                    },
                    model_sha256: Some(model_sha256),
                    ..Manifest::clone(&source)
                })?;
                Ok(Event::Completed)
            }
        }
    }

    fn commit(&mut self, manifest: Manifest) -> Result<Event> {
        let committed = Event::Committed(Arc::new(manifest.clone()));
        self.log.commit(manifest)?;
        Ok(committed)
    }

    fn manifest(
        &self,
        version: u64,
        shards: Vec<ShardRecord>,
        record: Record,
        best: bool,
        facts: &DataFacts,
        capability: String,
    ) -> Result<Manifest> {
        let layout = self.job.layout(facts)?;
        let epoch = self.job.plan(facts.train_rows)?.position(version).epoch;
        Ok(Manifest {
            identity: self.log.identity().clone(),
            generation: self.generation.into(),
            step: version,
            epoch,
            complete: false,
            imported: false,
            best,
            floats: layout.len() as u64,
            shards,
            layout_digest: layout.digest(),
            capability,
            facts: facts.clone(),
            coordinator: CoordinatorState {
                record,
                metrics: None,
            },
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
