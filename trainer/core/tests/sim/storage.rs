//! The checkpoints of a simulated job: shards, and a fenced log of manifests.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};
use trainyard_core::coordinator::{Action, Event, Record, Start};

use super::reference::{Reference, evaluate};
use super::shard::{Part, Snapshot};
use super::toy::{Toy, bits};

#[derive(Default)]
pub struct Storage {
    shards: BTreeMap<(u32, u64, u32), Rc<Snapshot>>,
    live: Vec<Value>,
    /// Generation and life of the coordinator that may commit.
    pub claim: (u32, u64),
    pub complete: bool,
}

fn number(value: &Value, key: &str) -> u64 {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} in {value}"))
}

impl Storage {
    /// Stores a shard; returns its record.
    pub fn write(&mut self, generation: u32, index: u32, snapshot: Snapshot) -> Value {
        let record = json!({ "generation": generation, "step": snapshot.version, "index": index });
        self.shards
            .insert((generation, snapshot.version, index), Rc::new(snapshot));
        record
    }

    /// Parameters and state of all chunks in a manifest; nothing if a part is gone.
    pub fn load(&self, manifest: &Value) -> Option<Vec<Part>> {
        let step = number(manifest, "step");
        let mut parts = Vec::new();
        for record in manifest["shards"].as_array()? {
            let (generation, index) = (number(record, "generation"), number(record, "index"));
            assert_eq!(
                number(record, "step"),
                step,
                "a shard of another step in {manifest}"
            );
            let shard = self.shards.get(&(generation as u32, step, index as u32))?;
            parts.extend(shard.parts.iter().cloned());
        }
        Some(parts)
    }

    pub fn latest(&self) -> Option<&Value> {
        self.live.last()
    }

    pub fn start(&self) -> Option<Start> {
        let manifest = self.live.last()?;
        let record: Record = serde_json::from_value(manifest["record"].clone()).unwrap();
        let best = record.best.as_ref().map(|best| best.step);
        let best = self
            .live
            .iter()
            .rev()
            .find(|m| best == Some(number(m, "step")));
        Some(Start {
            facts: serde_json::from_value(manifest["facts"].clone()).unwrap(),
            capability: "cpu".into(),
            record,
            best: best.cloned(),
            manifest: manifest.clone(),
        })
    }

    /// Carries out a commit and checks that it holds what the reference holds at that step.
    pub fn commit(
        &mut self,
        toy: &Toy,
        reference: &Reference,
        claim: (u32, u64),
        work: Action,
    ) -> Event {
        if claim != self.claim {
            return Event::Fenced;
        }
        let manifest = match work {
            Action::Commit {
                version,
                shards,
                record,
                best,
            } => json!({
                "step": version, "shards": shards, "record": *record, "best": best, "facts": toy.facts(),
            }),
            Action::Amend { source, record } => {
                let mut manifest = *source;
                manifest["record"] = json!(*record);
                manifest["best"] = true.into();
                manifest
            }
            Action::Complete {
                source,
                record,
                train,
                validation,
            } => {
                let parameters = self.check(toy, reference, &source);
                assert_eq!(
                    number(&source, "step"),
                    reference.result,
                    "step of the result"
                );
                let again = evaluate(
                    toy,
                    &parameters,
                    trainyard_core::control::RowSet::Train,
                    toy.plan.rows,
                );
                assert_eq!(again, reference.train);
                assert_eq!(*train, reference.train, "metrics on the training rows");
                assert_eq!(
                    validation.map(|v| *v),
                    reference.validation,
                    "metrics on the validation rows"
                );
                check_record(reference, &record, toy);
                assert_eq!(record.step, reference.steps(), "steps of the job");
                self.complete = true;
                return Event::Completed;
            }
            other => panic!("{other:?} is no work"),
        };
        self.check(toy, reference, &manifest);
        let record: Record = serde_json::from_value(manifest["record"].clone()).unwrap();
        assert_eq!(
            record.step,
            number(&manifest, "step"),
            "the record is of the checkpoint's step"
        );
        check_record(reference, &record, toy);
        self.live.push(manifest.clone());
        self.clean(toy.keep);
        Event::Committed {
            version: record.step,
            manifest,
        }
    }

    /// The manifest's parameters, after they and the state were compared with the reference.
    fn check(&self, toy: &Toy, reference: &Reference, manifest: &Value) -> Vec<f32> {
        let version = number(manifest, "step");
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
        parts
            .iter()
            .flat_map(|(parameters, _)| parameters.iter().copied())
            .collect()
    }

    /// As the trainer's log does: the newest, the best, complete ones, and the shards they name.
    fn clean(&mut self, keep: usize) {
        let count = self.live.len();
        let best = self
            .live
            .iter()
            .rposition(|manifest| manifest["best"] == true);
        let mut at = 0..count;
        self.live.retain(|_| {
            at.next()
                .is_some_and(|i| i + keep >= count || Some(i) == best)
        });
        let named: Vec<&Value> = self
            .live
            .iter()
            .flat_map(|m| m["shards"].as_array().unwrap())
            .collect();
        let newest = number(&self.live[self.live.len() - 1], "step");
        let generation = self.claim.0;
        self.shards.retain(|(g, step, index), _| {
            let record = json!({ "generation": g, "step": step, "index": index });
            named.contains(&&record) || !(*g < generation || (*g == generation && *step < newest))
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
