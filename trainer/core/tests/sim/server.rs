//! What a server does: the shell of the trainer without sockets and threads.

use super::faults::Client;
use super::liars::Lie;
use super::shard::{Notice, Shard};
use super::toy::TIMEOUT;
use super::world::{Event, Kind, Link, Pid, Way, World};
use std::collections::VecDeque;
use std::sync::Arc;
use trainyard_core::control::{Role, ToCoordinator};
use trainyard_core::coordinator::Reports;
use trainyard_core::manifest::Manifest;
use trainyard_core::shard::{Judgement, Part, Push, Pusher, Snapshot};

/// A push that has come in.
pub struct Pending {
    /// When.
    pub since: u64,
    pub pusher: Pusher,
    pub push: Push,
    pub values: Vec<f32>,
    /// What is wrong with it, if anything is.
    pub lie: Option<Lie>,
}

impl World {
    pub fn set_up(&mut self, process: Pid, manifest: Option<&Manifest>) {
        let Role::Server(index) = self.processes[process].role else {
            panic!("only servers are opened");
        };
        let range = self.toy.shard(index);
        let (version, parts) = match manifest {
            Some(manifest) => {
                let Some(parts) = self.load(process, manifest) else {
                    return;
                };
                let own = range.start as usize..range.end as usize;
                (manifest.step, parts[own].to_vec())
            }
            None => {
                let part = |chunk| {
                    let (parameters, state) = self.reference.chunk(&self.toy, chunk, 0);
                    (Arc::new(parameters.to_vec()), Arc::new(state))
                };
                (0, range.clone().map(part).collect())
            }
        };
        self.shut(process);
        let chunks = range.len() as u32;
        let opened = Box::new(Shard::new(self.toy.rules(index), version, &parts));
        if let Kind::Server { shard, reports } = &mut self.processes[process].kind {
            (*shard, *reports) = (Some(opened), Reports::new(&self.toy.plan));
        }
        // Its writer does not wait for the one of the generation before.
        self.processes[process].written = self.now;
        self.report(process, ToCoordinator::Ready { version, chunks });
    }

    /// What a manifest holds. Where that cannot be had the job fails, unless this is an order of the
    /// past to a process that is replaced.
    pub fn load(&mut self, process: Pid, manifest: &Manifest) -> Option<Vec<Part>> {
        let Role::Server(index) = self.processes[process].role else {
            panic!("only servers load");
        };
        let away = self.storage_is_away(Client::Server(index));
        let parts = self.storage.load(manifest).filter(|_| !away);
        if parts.is_none() {
            let message = "the checkpoint cannot be loaded".into();
            self.report(process, ToCoordinator::Failed { message });
        }
        parts
    }

    pub fn snapshot(&mut self, process: Pid, version: u64) {
        let Kind::Server {
            shard: Some(shard), ..
        } = &self.processes[process].kind
        else {
            return;
        };
        if shard.rules.chunks.is_empty() {
            return;
        }
        match shard.snapshot(version) {
            Some(snapshot) => self.write(process, snapshot),
            None => {
                self.tally.missed += 1;
                self.report(process, ToCoordinator::SnapshotMissed { version });
            }
        }
    }

    pub fn write(&mut self, server: Pid, snapshot: Snapshot) {
        let generation = self.processes[server].generation;
        // One thread writes, in order. Real servers wait while two are not yet written.
        let behind = self.processes[server].written > self.now + 2 * self.storage_delay;
        let delay = if behind {
            0
        } else {
            self.rng.within(500, self.storage_delay)
        };
        let time = self.processes[server].written.max(self.now) + delay;
        self.processes[server].written = time;
        self.at(
            time,
            Event::Written {
                server,
                generation,
                snapshot,
            },
        );
    }

    pub fn written(&mut self, server: Pid, generation: u32, snapshot: Snapshot) {
        let Role::Server(index) = self.processes[server].role else {
            return;
        };
        let version = snapshot.version;
        let message = if self.storage_is_away(Client::Server(index)) {
            let message = "storage is away".into();
            ToCoordinator::ShardFailed { version, message }
        } else {
            // What was being written when the generation ended is there in the end.
            let floats = self.toy.floats(index);
            let record = self.storage.write(generation, index, floats, snapshot);
            ToCoordinator::ShardWritten { version, record }
        };
        if self.processes[server].generation != generation {
            return; // it is said to the uplink of that generation, which goes nowhere
        }
        if let Kind::Server { reports, .. } = &mut self.processes[server].kind {
            reports.keep(version, message.clone());
        }
        self.report(server, message);
    }

    pub fn push(&mut self, link: Link, push: &Push, values: Vec<f32>) {
        if !self.stands(link) && !self.draining.contains(&link.number) {
            return;
        }
        // To the server it is of another generation by now.
        if self.processes[link.server].generation != link.generation {
            return;
        }
        let Some(pusher) = self.pusher(link) else {
            return;
        };
        self.arrive(
            link,
            Pending {
                since: self.now,
                pusher,
                push: *push,
                values,
                lie: None,
            },
        );
    }

    /// A push comes in behind those that wait on its connection.
    pub fn arrive(&mut self, link: Link, pending: Pending) {
        let waiting = self.waiting.entry(link.number).or_default();
        waiting.push_back(pending);
        if waiting.len() == 1 {
            self.take_waiting(link);
        }
    }

    /// Takes what waits on a connection, until one waits for the gate.
    pub fn take_waiting(&mut self, link: Link) {
        while let Some(pending) = self
            .waiting
            .get_mut(&link.number)
            .and_then(VecDeque::pop_front)
        {
            if self.processes[link.server].generation != link.generation {
                break; // to the server it is of another generation by now
            }
            let Kind::Server {
                shard: Some(shard), ..
            } = &mut self.processes[link.server].kind
            else {
                break;
            };
            let Pending {
                since,
                pusher,
                ref push,
                lie,
                ..
            } = pending;
            match shard.gate.judge(pusher, push, shard.version()) {
                Judgement::Pass => {}
                Judgement::Wait(_) if self.now < since + TIMEOUT => {
                    let waiting = self.waiting.entry(link.number).or_default();
                    waiting.push_front(pending);
                    return self.after(1_000, Event::Retry(link));
                }
                Judgement::Wait(refusal) | Judgement::Refuse(refusal) => {
                    return self.refused(link, lie, &refusal.to_string());
                }
            }
            match shard.push(&self.toy, &self.reference, push, pending.values) {
                Ok(notices) => self.notice(link.server, notices),
                Err(refusal) if lie.is_some() => {
                    return self.refused(link, lie, &refusal.to_string());
                }
                Err(refusal) => panic!("{refusal}"),
            }
        }
        self.waiting.remove(&link.number);
    }

    pub fn notice(&mut self, server: Pid, notices: Vec<Notice>) {
        for notice in notices {
            match notice {
                Notice::Late => self.tally.late += 1,
                Notice::Reduced { step, tally } => self.reduced(server, step, tally),
                Notice::Applied(version) => self.report(server, ToCoordinator::Applied { version }),
                Notice::Snapshot(snapshot) => self.write(server, snapshot),
                Notice::Published(chunk) => self.publish(server, chunk),
            }
        }
    }

    fn publish(&mut self, server: Pid, chunk: u32) {
        let pulls = |link: &Link| link.server == server && link.way == Way::Pull;
        for link in self.links_where(pulls) {
            let Kind::Server {
                shard: Some(shard), ..
            } = &mut self.processes[server].kind
            else {
                return;
            };
            if shard.offer(link.number, chunk) {
                let delay = self.rng.within(0, 500);
                self.after(delay, Event::Feed(link));
            }
        }
    }

    /// Sends what a chunk has now; what it had between is never sent.
    pub fn feed(&mut self, link: Link) {
        if !self.stands(link) {
            return;
        }
        let Kind::Server {
            shard: Some(shard), ..
        } = &mut self.processes[link.server].kind
        else {
            return;
        };
        match shard.send(&self.toy, &self.reference, link.number) {
            None => {}
            // The chunk has been sent in its newest version with an offer before this one.
            Some((_, versions)) if versions.is_empty() => self.after(0, Event::Feed(link)),
            Some((chunk, versions)) => {
                let delay = self.rng.within(100, 3_000);
                self.after(delay, Event::Params(link, chunk, versions));
            }
        }
    }
}
