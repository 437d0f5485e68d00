//! The process of server 0 as the home of a coordinator: its events, its actions, its committer.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use trainyard_contract::Stuck;
use trainyard_core::control::{FromCoordinator, Role, ToCoordinator};
use trainyard_core::coordinator::{Action, Commit, Coordinator, Event as Input, Outcome, PeerId};
use trainyard_core::round::Tally;

use super::faults::Client;
use super::liars::FALSEHOOD;
use super::toy::TIMEOUT;
use super::world::{ConnId, Event, Kind, Pid, World};

pub struct Host {
    pub life: u64,
    pub coordinator: Coordinator,
    generation: u32,
    peers: BTreeMap<PeerId, ConnId>,
    next_peer: u64,
    work: VecDeque<Commit>,
    step: u64,
    looked: u64,
}

impl Host {
    pub fn accept(&mut self, connection: ConnId, local: bool) -> PeerId {
        let peer = PeerId(if local { 0 } else { self.next_peer });
        self.next_peer += 1;
        self.peers.insert(peer, connection);
        peer
    }
}

impl World {
    /// Begins a coordinator in a process.
    pub fn coordinate(&mut self, process: Pid) {
        let generation = self.processes[process].generation;
        if self.storage.claim.0 > generation {
            return self.replaced(process);
        }
        if self.storage_is_away(Client::Committer) {
            // The log cannot be opened.
            return match self.processes[process].replaced {
                true => self.replaced(process),
                false => self.run_ends(),
            };
        }
        self.lives += 1;
        self.storage.claim = (generation, self.lives);
        if self.storage.complete {
            self.done = true;
            return;
        }
        let start = self.storage.start();
        let step = start.as_ref().map_or(0, |start| start.manifest.step);
        let coordinator = Coordinator::new(self.toy.config(generation), start);
        let host = Host {
            life: self.lives,
            coordinator,
            generation,
            peers: BTreeMap::new(),
            next_peer: 1,
            work: VecDeque::new(),
            step,
            looked: self.now,
        };
        self.hosts.insert(process, host);
        self.open(process, process, true);
        self.join(process);
        self.after(
            0,
            Event::Tick {
                host: process,
                life: self.lives,
            },
        );
    }

    /// A process that finds itself replaced leaves.
    fn replaced(&mut self, process: Pid) {
        self.tally.fenced += 1;
        self.end(process, false);
    }

    /// Ends the coordinator in a process, if it has one.
    pub fn end_life(&mut self, process: Pid) {
        let Some(host) = self.hosts.remove(&process) else {
            return;
        };
        for connection in host.peers.values() {
            self.cut(*connection, false);
        }
        self.processes[process].connection = None;
        self.shut(process);
        if let Kind::Server { shard, .. } = &mut self.processes[process].kind {
            *shard = None;
        }
    }

    pub fn tick(&mut self, host: Pid, life: u64) {
        if self.hosts.get(&host).is_some_and(|host| host.life == life) {
            self.after(50_000, Event::Tick { host, life });
            self.feed_coordinator(host, Input::Tick);
            self.look_at_log(host, life);
        }
    }

    /// Whoever has not committed for long looks whether another has claimed the log.
    fn look_at_log(&mut self, process: Pid, life: u64) {
        let Some(host) = self
            .hosts
            .get_mut(&process)
            .filter(|host| host.life == life)
        else {
            return;
        };
        if self.now < host.looked + TIMEOUT {
            return;
        }
        host.looked = self.now;
        if self.storage.claim != (host.generation, life) {
            self.tally.fenced += 1;
            self.feed_coordinator(process, Input::Fenced);
        }
    }

    pub fn up(&mut self, id: ConnId, message: ToCoordinator) {
        if message != ToCoordinator::Heartbeat {
            self.trace(|| format!("{} -> {message:?}", self.name(id)));
        }
        let connection = &self.connections[id];
        let (host, life, peer) = (connection.host, connection.life, connection.peer);
        if !connection.torn_up && self.hosts.get(&host).is_some_and(|host| host.life == life) {
            self.feed_coordinator(host, Input::Message(peer, message));
        }
    }

    pub fn up_closed(&mut self, id: ConnId) {
        let connection = &self.connections[id];
        let (host, life, peer) = (connection.host, connection.life, connection.peer);
        if self.hosts.get(&host).is_some_and(|host| host.life == life) {
            self.feed_coordinator(host, Input::Closed(peer));
        }
    }

    /// Chunk 0 was reduced in this process.
    pub fn reduced(&mut self, process: Pid, step: u64, tally: Tally) {
        self.feed_coordinator(process, Input::StepReduced { step, tally });
    }

    fn feed_coordinator(&mut self, process: Pid, input: Input) {
        let now = Duration::from_micros(self.now);
        let Some(host) = self.hosts.get_mut(&process) else {
            return;
        };
        let actions = host.coordinator.handle(now, input);
        let (life, progress) = (host.life, host.coordinator.progress());
        assert!(
            progress.step >= host.step,
            "progress rolls back within a generation"
        );
        assert!(
            progress.step <= self.reference.steps(),
            "more steps than the reference"
        );
        host.step = progress.step;
        if self.leader == Some(process) {
            self.entered(&progress.phase);
            self.replace_stuck(&progress.stuck);
        }
        for action in actions {
            if self
                .hosts
                .get(&process)
                .is_some_and(|host| host.life == life)
            {
                self.carry_out(process, action);
            }
        }
    }

    fn carry_out(&mut self, process: Pid, action: Action) {
        if let Action::Commit(_) = &action {
            self.trace(|| format!("host {process}: {action:?}"));
        }
        let Some(host) = self.hosts.get_mut(&process) else {
            return;
        };
        match action {
            Action::Send(peer, message) => {
                if let Some(connection) = host.peers.get(&peer).copied() {
                    self.tally.restores +=
                        u64::from(matches!(message, FromCoordinator::Restore { .. }));
                    self.send_down(connection, message);
                }
            }
            Action::Close(peer) => {
                if let Some(connection) =
                    host.peers.get(&peer).copied().filter(|_| peer != PeerId(0))
                {
                    host.peers.remove(&peer);
                    self.cut(connection, false);
                }
            }
            Action::Commit(commit) => {
                self.tally.amended += u64::from(matches!(*commit, Commit::Amend { .. }));
                host.work.push_back(*commit);
                let life = host.life;
                if host.work.len() == 1 {
                    let delay = self.rng.within(500, self.storage_delay);
                    self.after(
                        delay,
                        Event::Work {
                            host: process,
                            life,
                        },
                    );
                }
            }
            Action::Regenerate(generation) => {
                assert!(generation > host.generation);
                // The committer finishes what it has been given.
                let claim = (host.generation, host.life);
                for work in std::mem::take(&mut host.work) {
                    self.commit(claim, work);
                }
                self.end_life(process);
                self.processes[process].generation = generation;
                self.coordinate(process);
            }
            Action::Finish(outcome) => self.finished(process, outcome),
        }
    }

    /// The committer is done with the first of its work.
    pub fn work(&mut self, process: Pid, life: u64) {
        let Some(host) = self
            .hosts
            .get_mut(&process)
            .filter(|host| host.life == life)
        else {
            return;
        };
        let Some(work) = host.work.pop_front() else {
            return;
        };
        let (claim, more) = ((host.generation, life), !host.work.is_empty());
        let event = self.commit(claim, work);
        if more {
            let delay = self.rng.within(500, self.storage_delay);
            self.after(
                delay,
                Event::Work {
                    host: process,
                    life,
                },
            );
        }
        self.tally.fenced += u64::from(matches!(event, Input::Fenced));
        self.feed_coordinator(process, event);
    }

    /// Carries out a commit, if storage can be had. Where it cannot, an answer may be all that is lost.
    fn commit(&mut self, claim: (u32, u64), commit: Commit) -> Input {
        let away = self.storage_is_away(Client::Committer);
        if away && self.rng.chance(50) {
            let message = "storage is away".into();
            return Input::CommitFailed { message };
        }
        match self
            .storage
            .commit(&self.toy, &self.reference, claim, commit)
        {
            Input::Committed(_) | Input::Completed if away => {
                let message = "there was no answer".into();
                Input::CommitFailed { message }
            }
            event => event,
        }
    }

    /// All processes end, and the user starts the job again.
    fn run_ends(&mut self) {
        (0..self.processes.len()).for_each(|process| self.end(process, true));
        let delay = self.rng.within(10_000, 400_000);
        self.disturbed = self.disturbed.max(self.now + delay);
        self.after(delay, Event::StartAll);
    }

    fn finished(&mut self, process: Pid, outcome: Outcome) {
        if self.processes[process].replaced {
            return self.replaced(process); // what it says concerns nobody
        }
        let host = &self.hosts[&process];
        let record = host.coordinator.record().clone();
        match outcome {
            Outcome::Done => {
                assert!(self.storage.complete);
                self.tally.early = record.stopped_early.into();
                self.done = true;
            }
            Outcome::Failed(message) => {
                let refused = std::mem::replace(&mut self.refused, false);
                // Nobody else was there to compute the same.
                let misled = message.contains(FALSEHOOD);
                assert!(refused || misled, "the job failed: {message}");
                self.tally.misled += u64::from(misled);
                self.stopping = None;
                self.run_ends();
            }
            Outcome::Drained => self.leave(process),
            Outcome::Stopped { saved } => {
                let asked = self.stopping.take();
                self.tally.stops += 1;
                self.tally.unsaved += u64::from(!saved);
                let asked = asked.expect("nobody asked for a stop");
                // Nothing was in the way: then it must be saved.
                let calm = self.disturbed + 1_500_000 < asked;
                assert!(saved || !calm, "a calm stop is not saved");
                let committed = self.storage.latest().map_or(0, |manifest| manifest.step);
                if saved && calm {
                    assert_eq!(committed, record.step, "the step of the stop is saved");
                }
                self.run_ends();
            }
        }
    }

    /// A server leaves for good; the supervisor replaces it under a new generation.
    pub fn leave(&mut self, process: Pid) {
        let current = self.running(self.processes[process].role) == Some(process);
        let role = self.processes[process].role;
        self.end(process, false);
        if current {
            self.replace(role);
        }
    }

    /// What the supervisor does about processes that do nothing.
    fn replace_stuck(&mut self, stuck: &[Stuck]) {
        for Stuck {
            member, seconds, ..
        } in stuck
        {
            let role = match member.role {
                trainyard_contract::Role::Server => Role::Server(member.index),
                _ => Role::Worker(member.index),
            };
            let process = self.running(role);
            let since = |process: &Pid| self.processes[*process].started + seconds * 1_000_000;
            if let Some(process) = process.filter(|process| since(process) < self.now) {
                self.trace(|| format!("{role:?} is stuck"));
                self.tally.stuck += 1;
                self.end(process, true);
                self.replace(role);
            }
        }
    }

    /// What the supervisor does about a process that is gone.
    pub fn replace(&mut self, role: Role) {
        let delay = self.rng.within(5_000, 300_000);
        self.disturbed = self.disturbed.max(self.now + delay);
        match role {
            Role::Server(index) => {
                self.generation += 1;
                self.after(delay, Event::StartServer(index));
            }
            Role::Worker(index) => self.after(delay, Event::StartWorker(index)),
            Role::Observer => {}
        }
    }
}
