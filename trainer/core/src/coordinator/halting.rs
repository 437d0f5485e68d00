//! Coming to a stop at one version everywhere, with a checkpoint of it.
//!
//! Workers run ahead of what the coordinator knows, so it first asks each where it stopped
//! beginning steps, then lets all finish up to the furthest of these, and then the servers hold
//! one version that nobody changes.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Action, Coordinator, Outcome, PeerId, Phase};
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
}

impl Coordinator {
    /// Begins a halt, or widens one: a stop of the job outweighs the leave of a server.
    pub(super) fn halt(&mut self, now: Duration, leaving: Option<u32>) {
        match &mut self.phase {
            Phase::Over | Phase::Completing => return,
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
        self.evaluations += 1;
        let id = self.evaluations;
        let workers = self.peers.joined_workers();
        let training = matches!(self.phase, Phase::Training);
        let stage = match (&self.phase, &self.committed) {
            (Phase::Gathering, _) | (Phase::Idle, _) => Stage::Unsaved,
            (Phase::Training, _) => {
                Stage::Asking { open: workers.iter().copied().collect(), next: self.version() }
            }
            _ => Stage::Reaching(self.record.step),
        };
        if training {
            self.limit = 0;
            for peer in workers {
                self.send(peer, FromCoordinator::Halt { id });
            }
        }
        let deadline = now + self.config.grace;
        self.phase = Phase::Halting(Halting { id, deadline, leaving: leaving.into_iter().collect(), stage });
    }

    pub(super) fn advance_halt(&mut self, now: Duration) {
        let Phase::Halting(halting) = &mut self.phase else { return };
        if now > halting.deadline {
            halting.stage = Stage::Unsaved;
        }
        if let Stage::Asking { open, next } = &halting.stage
            && open.is_empty()
        {
            let next = *next;
            halting.stage = Stage::Reaching(next);
            self.limit = next;
        }
        let Phase::Halting(Halting { stage: Stage::Reaching(version), .. }) = self.phase else {
            return self.leave_when_saved();
        };
        if self.version() >= version {
            self.save(version);
        }
        self.leave_when_saved();
    }

    /// Asks for a checkpoint of `version`, unless one exists or is on its way.
    fn save(&mut self, version: u64) {
        let saved = self.committed.as_ref().is_some_and(|(v, _)| *v >= version);
        let automatic = self.pending.contains_key(&version) && self.checkpoint_due(version);
        if let Phase::Halting(halting) = &mut self.phase {
            halting.stage = Stage::Saving(version);
        }
        if version > 0 && !saved && !automatic {
            let record = self.record.clone();
            self.pending.entry(version).or_default().record = Some(record);
            self.send_servers(FromCoordinator::Snapshot { version });
        }
    }

    fn leave_when_saved(&mut self) {
        let Phase::Halting(halting) = &self.phase else { return };
        let saved = match halting.stage {
            Stage::Saving(0) => true,
            Stage::Saving(version) => self.committed.as_ref().is_some_and(|(v, _)| *v >= version),
            Stage::Unsaved => false,
            Stage::Asking { .. } | Stage::Reaching(_) => return,
        };
        let unsaved = matches!(halting.stage, Stage::Unsaved);
        if !saved && !unsaved {
            return;
        }
        let leaving = halting.leaving.clone();
        if leaving.is_empty() {
            return self.finish(Release::Stopped, Outcome::Stopped { saved });
        }
        for index in &leaving {
            let Some(peer) = self.peers.server_peer(*index) else { continue };
            self.send(peer, FromCoordinator::Release(Release::Drained));
        }
        if leaving.contains(&0) {
            self.phase = Phase::Over;
            self.actions.push(Action::Finish(Outcome::Drained));
        } else {
            self.phase = Phase::Idle;
        }
    }
}
