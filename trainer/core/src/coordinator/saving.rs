//! Checkpoints: which versions, when their parts are complete, and what became of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Action, Commit, Coordinator, PeerId, Phase, Record};
use crate::control::FromCoordinator;
use crate::manifest::{Manifest, ShardRecord};
use crate::sampling::Plan;

/// A checkpoint whose parts are coming in.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    pub(super) shards: BTreeMap<u32, ShardRecord>,
    pub(super) record: Option<Record>,
}

impl Coordinator {
    /// Versions at which every server writes its part of a checkpoint without being asked.
    pub fn checkpoint_due(&self, version: u64) -> bool {
        let Some(plan) = &self.plan else {
            return false;
        };
        let early = self.config.early_stopping.is_some();
        checkpoint_due(plan, self.config.checkpoint_every, early, version)
    }

    /// Whether a checkpoint of `version`, or of a later one, is committed.
    pub(super) fn is_committed(&self, version: u64) -> bool {
        self.committed
            .as_ref()
            .is_some_and(|committed| committed.step >= version)
    }

    /// The same, or its commit is under way.
    pub(super) fn is_saved(&self, version: u64) -> bool {
        self.is_committed(version)
            || self
                .committing
                .is_some_and(|committing| committing >= version)
    }

    /// Takes note of a part of a checkpoint. A part that no checkpoint needs is ignored: one of a
    /// version that is committed, is no checkpoint, or lies beyond all that can have been reached.
    pub(super) fn shard_written(&mut self, index: u32, version: u64, record: ShardRecord) {
        let asked = matches!(&self.phase, Phase::Halting(halting) if halting.saves(version));
        let wanted = asked || (self.checkpoint_due(version) && !self.is_saved(version));
        // A server may have applied a step that is not counted yet, but not two.
        let reached = version <= self.record.step + 1;
        if wanted && reached && self.peers.owners().contains(&index) {
            self.pending
                .entry(version)
                .or_default()
                .shards
                .insert(index, record);
        }
    }

    pub(super) fn shard_failed(&mut self, index: u32, version: u64, message: &str) {
        match &mut self.phase {
            Phase::Halting(halting) => halting.cannot_save(),
            _ => self.fail(format!(
                "server {index} could not write its part of the checkpoint of step {version}: {message}"
            )),
        }
    }

    /// Says again what a server may have missed while its connection was down.
    pub(super) fn repeat_orders(&mut self, peer: PeerId, index: u32) {
        let order = match (&self.phase, &self.best_manifest) {
            (Phase::Halting(halting), _) => self
                .pending
                .iter()
                .find(|(version, pending)| {
                    halting.saves(**version) && !pending.shards.contains_key(&index)
                })
                .map(|(version, _)| FromCoordinator::Snapshot { version: *version }),
            (Phase::Restoring, Some(manifest)) => {
                let version = self.record.step + 1;
                let behind = self
                    .peers
                    .version_of(index)
                    .is_some_and(|held| held < version);
                behind.then(|| FromCoordinator::Restore {
                    version,
                    manifest: Arc::clone(manifest),
                })
            }
            _ => None,
        };
        if let Some(order) = order {
            self.send(peer, order);
        }
    }

    pub(super) fn committed(&mut self, manifest: Arc<Manifest>) {
        let version = manifest.step;
        self.committing = None;
        self.pending.retain(|v, _| *v > version);
        if self
            .record
            .best
            .as_ref()
            .is_some_and(|best| best.step == version)
        {
            self.best_manifest = Some(Arc::clone(&manifest));
        }
        self.committed = Some(manifest);
    }

    /// Commits the newest checkpoint whose parts are all there, one at a time: where storage is
    /// slower than training, checkpoints between are passed over. The best is not.
    pub(super) fn commit_whole(&mut self) {
        // An epoch's end is committed with its validation metrics, but a halt does not wait for them.
        let validates = self.validates() && !matches!(self.phase, Phase::Halting(_));
        let owners = self.peers.owners();
        if owners.is_empty() || self.committing.is_some() {
            return;
        }
        let whole = |pending: &Pending| {
            let counts = |record: &Record| !(validates && record.awaits_validation());
            let written = owners
                .iter()
                .all(|index| pending.shards.contains_key(index));
            written && pending.record.as_ref().is_some_and(counts)
        };
        let best = self.record.best.as_ref().map(|best| best.step);
        let ready = || {
            self.pending
                .iter()
                .filter(|(_, pending)| whole(pending))
                .map(|(version, _)| *version)
        };
        let Some(version) = ready()
            .find(|version| Some(*version) == best)
            .or_else(|| ready().next_back())
        else {
            return;
        };
        // No version exists before both are known.
        let (Some(facts), Some(capability)) = (&self.facts, &self.capability) else {
            return;
        };
        self.pending.retain(|v, _| *v >= version); // nothing older is committed after it
        if let Some(Pending {
            shards,
            record: Some(record),
        }) = self.pending.remove(&version)
        {
            self.committing = Some(version);
            self.actions
                .push(Action::Commit(Box::new(Commit::Checkpoint {
                    version,
                    shards: shards.into_values().collect(),
                    record,
                    best: Some(version) == best,
                    facts: Arc::clone(facts),
                    capability: capability.clone(),
                })));
        }
    }

    /// Puts the metrics of an epoch's end into its checkpoint.
    pub(super) fn save_validated(&mut self, version: u64) {
        let record = self.record.clone();
        let best = record
            .best
            .as_ref()
            .is_some_and(|best| best.step == version);
        match (self.pending.get_mut(&version), &self.committed) {
            (Some(pending), _) => pending.record = Some(record),
            // A halt committed it before it was validated. As the best it must be known and kept.
            (None, Some(committed)) if best && committed.step == version => {
                self.committing = Some(version);
                let source = Arc::clone(committed);
                let amend = Commit::Amend { source, record };
                self.actions.push(Action::Commit(Box::new(amend)));
            }
            _ => {}
        }
    }
}

/// Versions at which every server writes its part of a checkpoint: multiples of `every`, the end
/// of the job, and with early stopping every epoch's end, because any may prove the best.
pub fn checkpoint_due(plan: &Plan, every: u64, early_stopping: bool, version: u64) -> bool {
    let epoch_end = version.is_multiple_of(plan.steps_per_epoch());
    version > 0
        && (version.is_multiple_of(every.max(1))
            || version == plan.total_steps()
            || (early_stopping && epoch_end))
}
