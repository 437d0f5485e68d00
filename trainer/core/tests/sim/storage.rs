//! The checkpoints of a simulated job: shards, and a fenced log of manifests.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use trainyard_core::control::RowSet;
use trainyard_core::coordinator::{Commit, Event, Record, Start};
use trainyard_core::facts::DataFacts;
use trainyard_core::manifest::{CoordinatorState, JobIdentity, Manifest, ShardRecord};
use trainyard_core::shard::{Part, Snapshot};

use super::reference::{Reference, evaluate};
use super::shard;
use super::toy::{Toy, bits};

#[derive(Default)]
pub struct Storage {
    /// By key: the generation that wrote it, and what it holds.
    shards: BTreeMap<String, (u32, Rc<Snapshot>)>,
    live: Vec<Arc<Manifest>>,
    /// Generation and life of the coordinator that may commit.
    pub claim: (u32, u64),
    pub complete: bool,
}

impl Storage {
    /// Stores a shard; returns its record.
    pub fn write(
        &mut self,
        generation: u32,
        index: u32,
        floats: Range<usize>,
        snapshot: Snapshot,
    ) -> ShardRecord {
        let key = format!("{}-g{generation}/{index}", snapshot.version);
        self.shards
            .insert(key.clone(), (generation, Rc::new(snapshot)));
        ShardRecord {
            key,
            start: floats.start as u64,
            end: floats.end as u64,
            slots: Vec::new(),
            bytes: 4 * floats.len() as u64,
            sha256: String::new(),
            subtrees: Vec::new(),
        }
    }

    /// Parameters and state of all chunks in a manifest; nothing if a part is gone.
    pub fn load(&self, manifest: &Manifest) -> Option<Vec<Part>> {
        let mut parts = Vec::new();
        for ShardRecord { key, .. } in &manifest.shards {
            let (_, shard) = self.shards.get(key)?;
            assert_eq!(shard.version, manifest.step, "{key} is of another step");
            parts.extend(shard.parts.iter().cloned());
        }
        Some(parts)
    }

    pub fn latest(&self) -> Option<&Manifest> {
        self.live.last().map(Arc::as_ref)
    }

    pub fn start(&self) -> Option<Start> {
        let manifest = Arc::clone(self.live.last()?);
        let best = manifest.coordinator.record.best.as_ref();
        let best = best.map(|best| best.step);
        let best = self.live.iter().rev().find(|m| best == Some(m.step));
        Some(Start {
            best: best.cloned(),
            manifest,
        })
    }

    /// Carries out a commit and checks that it holds what the reference holds at that step.
    pub fn commit(
        &mut self,
        toy: &Toy,
        reference: &Reference,
        claim: (u32, u64),
        commit: Commit,
    ) -> Event {
        if claim != self.claim {
            return Event::Fenced;
        }
        let manifest = match commit {
            Commit::Checkpoint {
                version,
                shards,
                record,
                best,
                facts,
                capability,
            } => Manifest {
                identity: JobIdentity {
                    job: "toy".into(),
                    spec_digest: "spec".into(),
                },
                generation: claim.0.into(),
                step: version,
                epoch: version / toy.plan.steps_per_epoch(),
                complete: false,
                imported: false,
                best,
                floats: toy.layout.len() as u64,
                shards,
                layout_digest: "layout".into(),
                capability,
                facts: DataFacts::clone(&facts),
                coordinator: CoordinatorState {
                    record,
                    metrics: None,
                },
                spec: serde_json::Value::Null,
                model_sha256: None,
            },
            Commit::Amend { source, record } => {
                let mut manifest = Manifest::clone(&source);
                manifest.coordinator.record = record;
                manifest.best = true;
                manifest
            }
            Commit::Complete {
                source,
                record,
                metrics,
            } => {
                let parameters = self.check(toy, reference, &source);
                assert_eq!(source.step, reference.result, "step of the result");
                let again = evaluate(toy, &parameters, RowSet::Train, toy.plan.rows);
                assert_eq!(again, reference.train);
                assert_eq!(metrics.train, reference.train, "metrics of training");
                let validation = reference.validation.clone().unwrap_or_default();
                assert_eq!(metrics.validation, validation, "metrics of validation");
                check_record(reference, &record, toy);
                assert_eq!(record.step, reference.steps(), "steps of the job");
                self.complete = true;
                return Event::Completed;
            }
        };
        self.check(toy, reference, &manifest);
        assert_eq!(manifest.facts, toy.facts());
        let record = &manifest.coordinator.record;
        assert_eq!(record.step, manifest.step, "the step of the record");
        check_record(reference, record, toy);
        let manifest = Arc::new(manifest);
        self.live.push(Arc::clone(&manifest));
        self.clean(toy.keep);
        Event::Committed(manifest)
    }

    /// The manifest's parameters, after they and the state were compared with the reference.
    fn check(&self, toy: &Toy, reference: &Reference, manifest: &Manifest) -> Vec<f32> {
        manifest.check().expect("the shards cover the arena");
        let version = manifest.step;
        let parts = self.load(manifest).expect("all parts are there");
        assert_eq!(
            parts.len(),
            toy.chunks() as usize,
            "a checkpoint holds every chunk"
        );
        for (chunk, (parameters, state)) in (0..).zip(&parts) {
            let (ours, slots) = reference.chunk(toy, chunk, version);
            assert_eq!(
                bits(parameters),
                bits(ours),
                "parameters of chunk {chunk} at {version}"
            );
            assert_eq!(
                bits(state),
                bits(&slots),
                "state of chunk {chunk} at {version}"
            );
        }
        shard::parameters(&parts)
    }

    /// As the trainer's log does: the newest, the best, complete ones, and the shards they name.
    fn clean(&mut self, keep: usize) {
        let count = self.live.len();
        let best = self.live.iter().rposition(|manifest| manifest.best);
        let mut at = 0..count;
        self.live.retain(|_| {
            at.next()
                .is_some_and(|i| i + keep >= count || Some(i) == best)
        });
        let live = &self.live;
        let named = |key: &str| live.iter().flat_map(|m| &m.shards).any(|s| s.key == key);
        let newest = live[live.len() - 1].step;
        let ours = self.claim.0;
        self.shards.retain(|key, (generation, shard)| {
            let old = *generation < ours || (*generation == ours && shard.version < newest);
            !old || named(key)
        });
    }
}

/// Losses, metrics and decisions are those of the reference up to the record's step.
fn check_record(reference: &Reference, record: &Record, toy: &Toy) {
    let used: u64 = reference.tallies[..record.step as usize]
        .iter()
        .map(|tally| tally.rows)
        .sum();
    assert_eq!(record.samples, used, "samples after step {}", record.step);
    assert_eq!(
        record.history.len() as u64,
        record.step / toy.plan.steps_per_epoch()
    );
    for (epoch, (loss, validation)) in record.history.iter().zip(&reference.epochs) {
        assert_eq!(
            epoch.train_loss.to_bits(),
            loss.to_bits(),
            "loss of epoch {}",
            epoch.epoch
        );
        if epoch.validation.is_some() || epoch.step < record.step {
            assert_eq!(
                &epoch.validation, validation,
                "validation of epoch {}",
                epoch.epoch
            );
        }
    }
    if record.step == reference.steps() && !record.awaits_validation() {
        assert_eq!(record.stopped_early, reference.stopped_early);
        assert_eq!(record.best.as_ref().map(|best| best.step), reference.best);
    } else {
        assert!(
            !record.stopped_early,
            "stopped at step {} of {}",
            record.step,
            reference.steps()
        );
    }
}
