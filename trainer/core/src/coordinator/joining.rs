//! Who may join, and what a newcomer is told.

use std::sync::Arc;
use std::time::Duration;

use super::peers::Refusal;
use super::{Action, Config, Coordinator, PeerId, Phase, peers};
use crate::capability;
use crate::control::{FromCoordinator, Join, Role};
use crate::facts::DataFacts;
use crate::sampling::{Plan, SamplingError};

/// The furthest that a peer's generation may be ahead of ours. Supervisors add 1 for each server that is
/// lost, so nobody who means this job comes near; a generation is claimed in the log for good, and whoever
/// brought the last number there is would leave none for the next server.
const LEAP: u32 = 1_000_000;

/// A peer knows a newer generation.
enum Newer {
    /// It is a server that its supervisor has started under that generation: begin again under it.
    Begin(u32),
    /// There cannot be such a generation.
    Unbelievable(String),
    /// It has heard so from a coordinator, which has replaced this one: it is to look for that one.
    Elsewhere,
}

impl Coordinator {
    pub(super) fn join(&mut self, now: Duration, peer: PeerId, join: Join) {
        if self.peers.role(peer).is_some() {
            return self.refuse(peer, "a connection joins once".into(), false);
        }
        if let Err(reason) = self.agrees(&join) {
            return self.refuse(peer, reason, false);
        }
        if let Err(reason) = self.can_be(&join) {
            return self.refuse(peer, reason, true);
        }
        if let Some(newer) = self.newer(&join) {
            return match newer {
                Newer::Begin(generation) => {
                    self.phase = Phase::Superseded;
                    self.actions.push(Action::Regenerate(generation));
                }
                Newer::Unbelievable(reason) => self.refuse(peer, reason, false),
                Newer::Elsewhere => self.dismiss(peer),
            };
        }
        if self.peers.is_successor(&join) {
            if !matches!(self.phase, Phase::Gathering) {
                // The state that is trained on is the other's. This one gives up in time, and is
                // replaced under a newer generation.
                return self.dismiss(peer);
            }
            if let Some(zombie) = self.peers.evict(join.role) {
                self.dismiss(zombie);
            }
        }
        if let Err(Refusal { reason, again }) = self.peers.admissible(&join) {
            return self.refuse(peer, reason, again);
        }
        // The same process again: its former connection is dead, even if we have not heard so.
        if let Some(former) = self.peers.twin(&join) {
            self.dismiss(former);
        }
        self.send(
            peer,
            FromCoordinator::Welcome {
                generation: self.config.generation,
            },
        );
        self.peers.admit(peer, &join, now);
        self.stall.joined(join.role);
        match join.role {
            Role::Worker(_) => self.worker_joined(peer, join),
            Role::Server(index) => self.repeat_orders(peer, index),
            Role::Observer => {}
        }
        self.open_servers();
    }

    /// What a peer that knows a newer generation than ours means to this coordinator.
    fn newer(&self, join: &Join) -> Option<Newer> {
        let ours = self.config.generation;
        let started = matches!(join.role, Role::Server(_)) && join.born > ours;
        let newer = join.generation.max(join.born);
        if join.role == Role::Observer || newer <= ours {
            return None;
        }
        Some(match started {
            _ if newer - ours > LEAP => Newer::Unbelievable(format!(
                "generation {newer} is no successor of generation {ours}, which this job is at"
            )),
            true => Newer::Begin(join.born),
            false => Newer::Elsewhere,
        })
    }

    fn worker_joined(&mut self, peer: PeerId, join: Join) {
        // What `agrees` let in: the first worker's, or the same with the maker of the CPU that an older version left out.
        self.capability = join.capability;
        self.warnings.told(join.warnings);
        if let (None, Some(facts)) = (&self.facts, join.facts) {
            self.adopt(facts);
        }
        self.ask(peer);
    }

    /// Turns a peer away, and says why.
    pub(super) fn refuse(&mut self, peer: PeerId, reason: String, again: bool) {
        self.send(peer, FromCoordinator::Refused { reason, again });
        self.dismiss(peer);
    }

    /// Ends a connection after what was sent to it.
    pub(super) fn dismiss(&mut self, peer: PeerId) {
        self.actions.push(Action::Close(peer));
        self.lost(peer);
    }

    /// Takes over the facts of the data; they stay for the job's life.
    pub(super) fn adopt(&mut self, facts: Arc<DataFacts>) {
        match self.plan_of(&facts) {
            Ok(plan) => self.plan = Some(plan),
            Err(error) => return self.fail(error.to_string()),
        }
        self.facts = Some(facts);
    }

    /// Tells every joined server that has not been told what to set up.
    fn open_servers(&mut self) {
        let Some(facts) = self.facts.clone() else {
            return;
        };
        for peer in self.peers.unopened_servers() {
            let manifest = self.start.clone();
            self.send(
                peer,
                FromCoordinator::Open {
                    facts: Arc::clone(&facts),
                    manifest,
                },
            );
        }
    }

    /// Whether a process computes the same job on the same data in the same way.
    fn agrees(&self, join: &Join) -> Result<(), String> {
        if join.role == Role::Observer {
            return Ok(());
        }
        if join.spec_digest != self.config.spec_digest {
            return Err(format!(
                "specDigest differs: this job has {}, the joining process {}; it was started from another manifest",
                self.config.spec_digest, join.spec_digest
            ));
        }
        if let (Role::Server(index), Some(ready)) = (join.role, join.ready)
            && join.generation == self.config.generation
        {
            self.can_hold(index, ready)?;
        }
        if !matches!(join.role, Role::Worker(_)) {
            return Ok(());
        }
        let (Some(facts), Some(capability)) = (&join.facts, &join.capability) else {
            return Err("a worker must say its data facts and its capability".into());
        };
        if let Some(ours) = &self.capability
            && capability::joined(Some(ours), capability).is_none()
        {
            return Err(format!(
                "capability differs: this job is computed with `{ours}`, the joining worker has `{capability}`; \
                 set training.cpuCapability to one that all machines have, or to DEFAULT if the makers of their CPUs differ"
            ));
        }
        match &self.facts {
            Some(ours) if ours != facts => {
                let (what, ours, theirs) = peers::difference(ours, facts);
                Err(match &self.start {
                    // Nobody has trained on other data since: the files have changed.
                    Some(start) => format!(
                        "the data differ from those of the checkpoint of step {}: {what}: {ours} then, {theirs} \
                         now; restore the files, or begin anew elsewhere",
                        start.step
                    ),
                    None => format!(
                        "the data differ, {what}: this job has {ours}, the joining worker {theirs}; all workers must read the same files"
                    ),
                })
            }
            _ => Ok(()),
        }
    }

    /// Whether there can be data as a worker has found them. All that the job makes of its data is sized by these
    /// facts, if it is the first.
    fn can_be(&self, join: &Join) -> Result<(), String> {
        let (None, Some(facts), Role::Worker(index)) = (&self.facts, &join.facts, join.role) else {
            return Ok(());
        };
        let checked = facts.check().map_err(|error| error.to_string());
        let planned = checked.and_then(|()| self.plan_of(facts).map_err(|error| error.to_string()));
        planned.map(drop).map_err(|error| {
            format!(
                "worker {index} has found {} training rows: {error}; it should have refused them itself: look for \
                 errors of the memory on its machine",
                facts.train_rows
            )
        })
    }

    fn plan_of(&self, facts: &DataFacts) -> Result<Plan, SamplingError> {
        let Config {
            batch_size,
            epochs,
            seed,
            ..
        } = self.config;
        Plan::new(facts.train_rows, batch_size, epochs, seed)
    }
}
