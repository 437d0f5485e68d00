//! Coming to a stop at one version everywhere, with a checkpoint of it.
//!
//! Workers run ahead of what the coordinator knows, so it first asks each where it stopped
//! beginning steps, then lets all finish up to the furthest of these, and then the servers hold
//! one version that nobody changes.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Coordinator, Outcome, PeerId, Phase};
use crate::control::{FromCoordinator, Release};

/// A halt in progress.
#[derive(Clone, Debug)]
pub struct Halting {
    id: u64,
    deadline: Duration,
    /// Servers that asked to leave; empty if the whole job is to stop.
    leaving: BTreeSet<u32>,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Waiting for these workers to say where they stopped.
    Asking { open: BTreeSet<PeerId>, next: u64 },
    /// Waiting for all servers to reach the version.
    Reaching(u64),
    /// Waiting for the commit of the version.
    Saving(u64),
    /// It cannot be saved; the previous checkpoint stands.
    Unsaved,
}

impl Halting {
    pub(super) fn halted(&mut self, id: u64, peer: PeerId, reached: u64) {
        if let (Stage::Asking { open, next }, true) = (&mut self.stage, id == self.id)
            && open.remove(&peer)
        {
            *next = (*next).max(reached);
        }
    }

    pub(super) fn lost(&mut self, peer: PeerId) {
        if let Stage::Asking { open, .. } = &mut self.stage {
            open.remove(&peer);
        }
    }

    pub(super) fn cannot_save(&mut self) {
        self.stage = Stage::Unsaved;
    }

    /// Whether it waits for workers: for what they say, or for steps that they have begun.
    pub(super) fn waits_for_workers(&self) -> bool {
        matches!(self.stage, Stage::Asking { .. } | Stage::Reaching(_))
    }

    /// Whether this is the version that is being saved.
    pub(super) fn saves(&self, version: u64) -> bool {
        matches!(self.stage, Stage::Saving(saving) if saving == version)
    }
}

impl Coordinator {
    /// Begins a halt, or widens one: a stop of the job outweighs the leave of a server.
    pub(super) fn halt(&mut self, now: Duration, leaving: Option<u32>) {
        match &mut self.phase {
            Phase::Over(_) | Phase::Superseded | Phase::Completing => return,
            Phase::Halting(halting) => {
                match leaving {
                    Some(index) if !halting.leaving.is_empty() => {
                        halting.leaving.insert(index);
                    }
                    Some(_) => {}
                    None => halting.leaving.clear(),
                }
                return;
            }
            _ => {}
        }
        let version = self.record.step;
        let stage = match &self.phase {
            Phase::Training => Stage::Asking {
                open: BTreeSet::new(),
                next: self.furthest(),
            },
            Phase::Validating(_) => Stage::Reaching(version),
            _ if version == 0 || self.is_committed(version) => Stage::Saving(version),
            _ => Stage::Unsaved,
        };
        let asks = matches!(stage, Stage::Asking { .. });
        self.ids += 1;
        self.phase = Phase::Halting(Halting {
            id: self.ids,
            deadline: now + self.config.grace,
            leaving: leaving.into_iter().collect(),
            stage,
        });
        if asks {
            self.limit = 0;
            for peer in self.peers.joined_workers() {
                self.ask(peer);
            }
        }
    }

    /// Asks a worker where it stopped, if a halt wants to know. A newcomer is asked too: it may have
    /// begun steps before it lost its connection.
    pub(super) fn ask(&mut self, peer: PeerId) {
        if let Phase::Halting(Halting {
            id,
            stage: Stage::Asking { open, .. },
            ..
        }) = &mut self.phase
        {
            open.insert(peer);
            let id = *id;
            self.send(peer, FromCoordinator::Halt { id });
        }
    }

    /// The furthest version that any server is known to have reached.
    fn furthest(&self) -> u64 {
        self.peers.furthest().max(self.record.step)
    }

    pub(super) fn advance_halt(&mut self, now: Duration) {
        let furthest = self.furthest();
        let Phase::Halting(halting) = &mut self.phase else {
            return;
        };
        if now > halting.deadline {
            halting.stage = Stage::Unsaved;
        }
        match &halting.stage {
            Stage::Asking { open, next } if open.is_empty() => {
                halting.stage = Stage::Reaching((*next).max(furthest));
            }
            // A worker that we lost sight of went on; the others finish what it began.
            Stage::Reaching(version) if furthest > *version => {
                halting.stage = Stage::Reaching(furthest)
            }
            _ => {}
        }
        if let Stage::Reaching(version) = halting.stage {
            self.limit = version;
            if self.version() >= version {
                self.save(version);
            }
        }
        self.leave_when_saved();
    }

    /// A server has moved past the version to be saved, in part at least: go on to the next.
    pub(super) fn snapshot_missed(&mut self, version: u64) {
        if let Phase::Halting(halting) = &mut self.phase
            && halting.saves(version)
        {
            halting.stage = Stage::Reaching((version + 1).min(self.gate));
            if !self.checkpoint_due(version) {
                self.pending.remove(&version);
            }
        }
    }

    /// Asks for a checkpoint of `version`, unless one exists or is on its way.
    fn save(&mut self, version: u64) {
        let automatic = self.pending.contains_key(&version) && self.checkpoint_due(version);
        if let Phase::Halting(halting) = &mut self.phase {
            halting.stage = Stage::Saving(version);
        }
        if version > 0 && !automatic && !self.is_saved(version) {
            let record = self.record.clone();
            self.pending.entry(version).or_default().record = Some(record);
            self.send_servers(FromCoordinator::Snapshot { version });
        }
    }

    fn leave_when_saved(&mut self) {
        let Phase::Halting(halting) = &self.phase else {
            return;
        };
        let saved = match halting.stage {
            Stage::Saving(version) => version == 0 || self.is_committed(version),
            Stage::Unsaved => false,
            Stage::Asking { .. } | Stage::Reaching(_) => return,
        };
        if !saved && !matches!(halting.stage, Stage::Unsaved) {
            return;
        }
        let leaving = halting.leaving.clone();
        if leaving.is_empty() {
            return self.finish(&Release::Stopped, Outcome::Stopped { saved });
        }
        for index in &leaving {
            if let Some(peer) = self.peers.server_peer(*index) {
                self.send(peer, FromCoordinator::Release(Release::Drained));
            }
        }
        let leads = leaving.contains(&0);
        self.phase = Phase::Idle(leaving);
        if leads {
            self.release_drained();
            self.end(Outcome::Drained);
        }
    }
}
