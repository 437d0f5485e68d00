//! The coordinator: membership, limits, validation, checkpoints and the end of a job.
//!
//! A pure state machine. The shell in server 0 feeds it [`Event`]s with the time and carries out
//! the [`Action`]s; the simulation does the same with a made-up world. One function,
//! `Coordinator::advance`, decides what comes next from the state alone, so that a job resumed
//! from a checkpoint and a job that never stopped take the same path.

mod claims;
mod evaluation;
mod halting;
mod inquiry;
mod interface;
mod joining;
mod peers;
mod reports;
mod saving;
mod stall;
mod training;
mod warnings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::control::{FromCoordinator, Progress, Release, Role, ToCoordinator};
use crate::facts::DataFacts;
use crate::manifest::Manifest;
use crate::sampling::Plan;
use claims::Claim;
use evaluation::Evaluation;
use halting::Halting;
use peers::Peers;
use saving::Pending;
use stall::Stall;
use warnings::Warnings;

pub use crate::record::{Best, EarlyStopping, EpochRecord, HISTORY_LIMIT, Record};
pub use interface::{Action, Commit, Config, Event, Outcome, PeerId, Start};
pub use reports::Reports;
pub use saving::checkpoint_due;

/// Epochs in a message. It bounds the message.
const EPOCHS_AT_ONCE: usize = 64;

#[derive(Clone, Debug)]
enum Phase {
    /// Facts or servers are missing.
    Gathering,
    /// Steps are taken up to the limit.
    Training,
    /// An epoch's end is being validated.
    Validating(Evaluation),
    /// The best epoch's parameters are being published.
    Restoring,
    /// The training rows are being evaluated on the final parameters.
    Final(Evaluation),
    /// The complete manifest is being committed.
    Completing,
    /// Coming to a stop.
    Halting(Halting),
    /// These servers were released; a successor will bring a new generation.
    Idle(BTreeSet<u32>),
    /// A newer generation is known.
    Superseded,
    /// Everyone was released; how it ended, in a word.
    Over(&'static str),
}

/// The state machine. See the module's documentation.
#[derive(Clone, Debug)]
pub struct Coordinator {
    config: Config,
    facts: Option<Arc<DataFacts>>,
    plan: Option<Plan>,
    capability: Option<String>,
    /// The checkpoint that the job was resumed from.
    start: Option<Arc<Manifest>>,
    peers: Peers,
    record: Record,
    limit: u64,
    /// The highest limit so far: nothing at or past it was ever begun.
    gate: u64,
    phase: Phase,
    pending: BTreeMap<u64, Pending>,
    /// The newest committed checkpoint.
    committed: Option<Arc<Manifest>>,
    /// The version whose commit is under way.
    committing: Option<u64>,
    /// The checkpoint of `record.best`.
    best_manifest: Option<Arc<Manifest>>,
    /// Evaluations and halts so far: their names.
    ids: u64,
    /// The latest tick.
    ticked: Duration,
    /// When peers were last told that we are alive.
    beaten: Duration,
    actions: Vec<Action>,
    /// What the user should know.
    warnings: Warnings,
    /// What workers say that another must confirm.
    claims: Vec<Claim>,
    /// When a worker was last lost that had nothing of that kind to say.
    left: Option<Duration>,
    stall: Stall,
}

impl Coordinator {
    /// A coordinator at the start of its generation.
    pub fn new(config: Config, start: Option<Start>) -> Self {
        let mut this = Coordinator {
            peers: Peers::new(config.servers, config.heartbeat_timeout),
            config,
            facts: None,
            plan: None,
            capability: None,
            start: None,
            record: Record::default(),
            limit: 0,
            gate: 0,
            phase: Phase::Gathering,
            pending: BTreeMap::new(),
            committed: None,
            committing: None,
            best_manifest: None,
            ids: 0,
            ticked: Duration::ZERO,
            beaten: Duration::ZERO,
            actions: Vec::new(),
            warnings: Warnings::default(),
            claims: Vec::new(),
            left: None,
            stall: Stall::default(),
        };
        if let Some(Start { manifest, best }) = start {
            this.capability = Some(manifest.capability.clone());
            this.record = manifest.coordinator.record.clone();
            let best_step = this.record.best.as_ref().map(|best| best.step);
            this.best_manifest = best.filter(|best| Some(best.step) == best_step);
            this.committed = Some(Arc::clone(&manifest));
            this.adopt(Arc::new(manifest.facts.clone()));
            this.start = Some(manifest);
        }
        this
    }

    /// Takes one event; returns what to do, in order.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Action> {
        if matches!(self.phase, Phase::Over(_) | Phase::Superseded) {
            return self.ended(&event);
        }
        match event {
            Event::Message(peer, message) => self.message(now, peer, message),
            Event::Undecodable { peer, role, error } => self.undecodable(peer, role, &error),
            Event::Closed(peer) => self.lost(peer),
            Event::StepReduced { step, tally } => self.reduced(step, tally),
            Event::Committed(manifest) => self.committed(manifest),
            Event::Completed => self.finish(&Release::Done, Outcome::Done),
            Event::CommitFailed { message } => self.fail(message),
            // Whoever still follows this coordinator finds the other one.
            Event::Fenced => {
                self.peers
                    .take_all()
                    .into_iter()
                    .for_each(|peer| self.actions.push(Action::Close(peer)));
                self.end(Outcome::Drained);
            }
            Event::Tick => self.tick(now),
        }
        self.advance(now);
        std::mem::take(&mut self.actions)
    }

    /// Parts with the silent, and tells the others that we are alive.
    fn tick(&mut self, now: Duration) {
        let slept = now.saturating_sub(self.ticked);
        self.ticked = now;
        if slept > self.config.heartbeat_timeout / 2 {
            self.peers.forgive(now); // we have not listened
            self.stall.forgive(now);
        }
        for (peer, since) in self.peers.silent(now) {
            if let Some(role) = self.peers.role(peer) {
                self.stall.silent(role, since);
            }
            self.dismiss(peer);
        }
        self.watch_for_stalls(now);
        if matches!(self.phase, Phase::Over(_)) {
            return;
        }
        if now >= self.beaten + self.config.heartbeat_timeout / 5 {
            self.beaten = now;
            for peer in self.peers.all() {
                self.send(peer, FromCoordinator::Heartbeat);
            }
        }
    }

    /// What is left to do once everyone was released: the actions of a constructor that failed, and
    /// turning away who comes late.
    fn ended(&mut self, event: &Event) -> Vec<Action> {
        if let Event::Message(peer, _) | Event::Undecodable { peer, .. } = event {
            self.actions.push(Action::Close(*peer));
        }
        std::mem::take(&mut self.actions)
    }

    /// Where the job is.
    pub fn progress(&self) -> Progress {
        let plan = self.plan.as_ref();
        let step = self.record.step;
        Progress {
            phase: self.phase_name().into(),
            generation: self.config.generation,
            step,
            total_steps: plan.map_or(0, Plan::total_steps),
            epoch: plan.map_or(0, |p| p.position(step).epoch.min(self.config.epochs)),
            epochs: self.config.epochs,
            samples: self.record.samples,
            loss: self.record.loss().filter(|loss| loss.is_finite()),
            validation: self.record.validation().cloned(),
            workers: self.peers.members().len().min(self.config.leaves as usize) as u32,
            servers: self.peers.servers_ready(),
            checkpoint: self.committed.as_ref().map(|manifest| manifest.step),
            warnings: self.warnings.all(),
            stuck: self.stall.stuck(self.ticked, self.config.heartbeat_timeout),
        }
    }

    /// The finished epochs so far.
    pub fn record(&self) -> &Record {
        &self.record
    }

    fn phase_name(&self) -> &'static str {
        match &self.phase {
            Phase::Gathering if self.facts.is_none() => "WaitingForWorkers",
            Phase::Gathering => "WaitingForServers",
            Phase::Training if self.peers.members().is_empty() => "WaitingForWorkers",
            Phase::Training => "Training",
            Phase::Validating(_) => "Validating",
            Phase::Restoring => "RestoringBest",
            Phase::Final(_) => "Evaluating",
            Phase::Completing => "Completing",
            Phase::Halting(_) | Phase::Idle(_) => "Stopping",
            Phase::Superseded => "RollingBack",
            Phase::Over(ending) => ending,
        }
    }

    fn warn(&mut self, text: String) {
        self.warnings.found(text);
    }

    fn send(&mut self, peer: PeerId, message: FromCoordinator) {
        self.actions.push(Action::Send(peer, message));
    }

    fn send_servers(&mut self, message: FromCoordinator) {
        for peer in self.peers.server_peers() {
            self.send(peer, message.clone());
        }
    }

    // ---- events -----------------------------------------------------------------------------

    fn message(&mut self, now: Duration, peer: PeerId, message: ToCoordinator) {
        self.peers.heard(peer, now);
        if let ToCoordinator::Join(join) = message {
            return self.join(now, peer, join);
        }
        let Some(role) = self.peers.role(peer) else {
            self.actions.push(Action::Close(peer));
            return;
        };
        match (role, message) {
            (Role::Server(index), ToCoordinator::Ready { version, chunks }) => {
                self.server_ready(peer, index, version, chunks);
            }
            (Role::Server(index), ToCoordinator::Applied { version }) => {
                match self.can_hold(index, version) {
                    Ok(()) => self.peers.applied(peer, version),
                    Err(reason) => self.refuse(peer, reason, true),
                }
            }
            (Role::Server(index), ToCoordinator::ShardWritten { version, record }) => {
                self.shard_written(index, version, record);
            }
            (Role::Server(index), ToCoordinator::ShardFailed { version, message }) => {
                self.shard_failed(index, version, &message);
            }
            (Role::Server(_), ToCoordinator::SnapshotMissed { version }) => {
                self.snapshot_missed(version)
            }
            (Role::Server(index), ToCoordinator::Drain) => self.halt(now, Some(index)),
            (Role::Worker(_), ToCoordinator::Ready { .. }) => self.peers.worker_ready(peer, now),
            (Role::Worker(_), ToCoordinator::Blocks { id, results }) => {
                self.evaluated(peer, id, results)
            }
            (Role::Worker(_), ToCoordinator::Halted { id, next }) => {
                // Nobody can have begun what nobody was let begin.
                let next = next.min(self.gate);
                if let Phase::Halting(halting) = &mut self.phase {
                    halting.halted(id, peer, next);
                }
            }
            (Role::Worker(_), ToCoordinator::NonFinite { step, place, value }) => {
                self.claims_not_finite(peer, step, &place, &value);
            }
            (Role::Worker(_), ToCoordinator::Failed { message }) => {
                self.claims_failure(peer, message)
            }
            (Role::Worker(_), ToCoordinator::ServersAwaited { id, servers }) => {
                self.stall.servers_awaited(peer, id, servers)
            }
            (Role::Server(_), ToCoordinator::LeavesMissing { id, leaves, saving }) => {
                self.stall.leaves_missing(peer, id, leaves, saving)
            }
            (Role::Worker(_), ToCoordinator::Drain) => self.peers.drain(peer, self.version()),
            (Role::Observer, ToCoordinator::Stop) => self.halt(now, None),
            // Nobody else holds what it holds.
            (Role::Server(_), ToCoordinator::Failed { message }) => self.fail(message),
            _ => {}
        }
    }

    /// Turns away a peer whose message cannot be decoded: it runs another version of the program, and
    /// would send the same again.
    fn undecodable(&mut self, peer: PeerId, role: Role, error: &str) {
        let sender = role.name().unwrap_or_else(|| "an observer".into());
        let reason = format!(
            "a message of {sender} cannot be decoded ({error}): run the same version of Trainyard in all \
             processes of the job"
        );
        self.refuse(peer, reason, false);
    }

    fn server_ready(&mut self, peer: PeerId, index: u32, version: u64, chunks: u32) {
        let start = self.record.step;
        if matches!(self.phase, Phase::Gathering) && version != start {
            return self.fail(format!(
                "server {index} holds step {version}, the job begins at step {start}"
            ));
        }
        if chunks == 0 {
            self.warn(
                "the model has fewer parts than there are servers: some hold none of it".into(),
            );
        }
        self.peers.server_ready(peer, version, chunks);
    }

    /// The highest version that a server can hold: every step that may be begun is applied, or the best
    /// parameters are published after them.
    fn attainable(&self) -> u64 {
        self.gate.max(self.record.step).saturating_add(1)
    }

    /// Checks what a server says that it holds.
    pub(super) fn can_hold(&self, index: u32, version: u64) -> Result<(), String> {
        let attainable = self.attainable();
        match version <= attainable {
            true => Ok(()),
            false => Err(format!(
                "server {index} says that it holds version {version}, and none past {attainable} can exist"
            )),
        }
    }

    fn lost(&mut self, peer: PeerId) {
        if let Phase::Halting(halting) = &mut self.phase {
            halting.lost(peer);
        }
        self.stall.lost(peer);
        self.forget_claims(peer);
        self.peers.remove(peer);
    }

    // ---- decisions --------------------------------------------------------------------------

    /// The version that all servers have reached and whose losses are counted.
    fn version(&self) -> u64 {
        self.peers.version().min(self.record.step)
    }

    /// Decides what comes next, from the state alone.
    fn advance(&mut self, now: Duration) {
        self.settle_claims(now);
        self.commit_whole();
        match &self.phase {
            Phase::Gathering => self.begin_when_ready(),
            Phase::Training => self.train(),
            Phase::Validating(_) => self.finish_validation(),
            Phase::Restoring => self.finish_restore(),
            Phase::Final(_) => self.finish_final(),
            Phase::Halting(_) => self.advance_halt(now),
            Phase::Completing | Phase::Idle(_) | Phase::Superseded | Phase::Over(_) => {}
        }
        self.release_drained();
        self.send_views();
        self.distribute();
        self.tell_epochs();
    }

    /// Tells every observer of the epochs that it has not heard of.
    fn tell_epochs(&mut self) {
        let validates = self.validates();
        for (peer, next) in self.peers.observers() {
            for epochs in self
                .record
                .finished(*next, validates)
                .chunks(EPOCHS_AT_ONCE)
            {
                *next = epochs.last().map_or(*next, |last| last.epoch + 1);
                let epochs = epochs.to_vec();
                let message = FromCoordinator::Epochs { epochs };
                self.actions.push(Action::Send(peer, message));
            }
        }
    }

    /// A terminating worker may go at the end of a step, or when no step is under way.
    fn release_drained(&mut self) {
        if matches!(self.phase, Phase::Halting(_)) {
            return; // what it has begun is to be saved: it is let go with the rest
        }
        let training = matches!(self.phase, Phase::Training);
        for peer in self.peers.drained(self.version(), training) {
            self.send(peer, FromCoordinator::Release(Release::Drained));
            self.dismiss(peer);
        }
    }

    fn send_views(&mut self) {
        let over = matches!(self.phase, Phase::Superseded | Phase::Over(_));
        if over || self.plan.is_none() || !self.peers.all_servers_ready() {
            return;
        }
        self.gate = self.gate.max(self.limit);
        for (peer, passes) in self.peers.changed_passes(self.config.leaves, self.gate) {
            self.send(peer, FromCoordinator::Passes(passes));
        }
        for (peer, view) in self.peers.changed_views(self.config.leaves, self.limit) {
            self.send(peer, FromCoordinator::View(view));
        }
    }

    fn fail(&mut self, message: String) {
        if !matches!(self.phase, Phase::Over(_)) {
            self.finish(
                &Release::Failed {
                    message: message.clone(),
                },
                Outcome::Failed(message),
            );
        }
    }

    fn finish(&mut self, release: &Release, outcome: Outcome) {
        for peer in self.peers.take_all() {
            self.send(peer, FromCoordinator::Release(release.clone()));
            self.actions.push(Action::Close(peer));
        }
        self.end(outcome);
    }

    /// The work is over.
    fn end(&mut self, outcome: Outcome) {
        self.phase = Phase::Over(match outcome {
            Outcome::Done => "Finished",
            Outcome::Stopped { .. } => "Stopped",
            Outcome::Drained => "Replaced",
            Outcome::Failed(_) => "Failed",
        });
        self.actions.push(Action::Finish(outcome));
    }
}
