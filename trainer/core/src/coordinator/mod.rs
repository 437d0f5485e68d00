//! The coordinator: membership, limits, validation, checkpoints and the end of a job.
//!
//! A pure state machine. The shell in server 0 feeds it [`Event`]s with the time and carries out
//! the [`Action`]s; the simulation does the same with a made-up world. One function,
//! `Coordinator::advance`, decides what comes next from the state alone, so that a job resumed
//! from a checkpoint and a job that never stopped take the same path.

mod evaluation;
mod halting;
mod peers;
mod record;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::control::{FromCoordinator, Progress, Release, Role, RowSet, ToCoordinator};
use crate::facts::DataFacts;
use crate::metrics::{self, Metrics, TaskKind};
use crate::round::Tally;
use crate::sampling::Plan;
use evaluation::Evaluation;
use halting::Halting;
use peers::Peers;
pub use record::{Best, EarlyStopping, EpochRecord, HISTORY_LIMIT, Record};

/// A control connection, as the shell numbers it. Numbers are never reused within a session.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// What the model is trained for; the number of classes comes with the facts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// One logit.
    Binary,
    /// One logit a class.
    Multiclass,
    /// One value.
    Regression,
}

impl Task {
    /// The task with the number of classes filled in.
    pub fn kind(self, outputs: u64) -> TaskKind {
        match self {
            Task::Binary => TaskKind::Binary,
            Task::Multiclass => TaskKind::Multiclass {
                classes: u32::try_from(outputs).unwrap_or(u32::MAX),
            },
            Task::Regression => TaskKind::Regression,
        }
    }
}

/// What a coordinator is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The generation in force.
    pub generation: u32,
    /// Servers of the job, this one included.
    pub servers: u32,
    /// Leaves of a step (V).
    pub leaves: u32,
    /// Global batch size.
    pub batch_size: u64,
    /// Passes over the data.
    pub epochs: u64,
    /// Seed of the job.
    pub seed: u64,
    /// The task.
    pub task: Task,
    /// Checkpoint at every multiple of this step.
    pub checkpoint_every: u64,
    /// Early stopping, if asked for.
    pub early_stopping: Option<EarlyStopping>,
    /// What a joining peer must agree with.
    pub spec_digest: String,
    /// A peer silent for this long is lost.
    pub heartbeat_timeout: Duration,
    /// How long a halt may take before the previous checkpoint has to do.
    pub grace: Duration,
}

/// The checkpoint a coordinator starts from.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its manifest, handed to the servers.
    pub manifest: Value,
    /// Its facts.
    pub facts: DataFacts,
    /// Capability it was computed with.
    pub capability: String,
    /// Its record.
    pub record: Record,
    /// The manifest of the best epoch, if there is one.
    pub best: Option<Value>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message from a peer; the first one of a peer must be `Join`.
    Message(PeerId, ToCoordinator),
    /// A control connection ended.
    Closed(PeerId),
    /// Chunk 0 was reduced and applied: step `step` is counted.
    StepReduced {
        /// The step.
        step: u64,
        /// Its rows and loss sum.
        tally: Tally,
    },
    /// A manifest is committed.
    Committed {
        /// Version in the manifest.
        version: u64,
        /// The manifest.
        manifest: Value,
    },
    /// The final manifest is committed.
    Completed,
    /// A manifest could not be committed.
    CommitFailed {
        /// Why, in one sentence.
        message: String,
    },
    /// Time passes.
    Tick,
}

/// How the coordinator's work ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The job is complete.
    Done,
    /// Stopped on request; `saved` says whether the very last step is checkpointed.
    Stopped {
        /// Whether the state at the stop is checkpointed.
        saved: bool,
    },
    /// Server 0 itself was drained.
    Drained,
    /// Trying again will not help.
    Failed(String),
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send a message.
    Send(PeerId, FromCoordinator),
    /// Close a control connection after what was sent to it has left.
    Close(PeerId),
    /// Commit a checkpoint; answer with `Committed` or `CommitFailed`.
    Commit {
        /// The version.
        version: u64,
        /// Shard records in server order, without servers that own nothing.
        shards: Vec<Value>,
        /// The record at that version.
        record: Box<Record>,
        /// Whether `keep` must never delete it.
        best: bool,
    },
    /// Commit the result: the manifest `source` again, marked complete.
    Complete {
        /// The manifest whose parameters are the result.
        source: Box<Value>,
        /// The final record.
        record: Box<Record>,
        /// Metrics on the training rows.
        train: Box<Metrics>,
        /// Metrics on the validation rows.
        validation: Option<Box<Metrics>>,
    },
    /// A peer brings a newer generation: begin again under it.
    Regenerate(u32),
    /// The coordinator's work is over.
    Finish(Outcome),
}

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
    /// A drained server was released; its successor will bring a new generation.
    Idle,
    /// Everyone was released.
    Over,
}

/// A checkpoint whose parts are coming in.
#[derive(Clone, Debug, Default)]
struct Pending {
    shards: BTreeMap<u32, Value>,
    record: Option<Record>,
}

/// The state machine. See the module's documentation.
#[derive(Clone, Debug)]
pub struct Coordinator {
    config: Config,
    facts: Option<DataFacts>,
    plan: Option<Plan>,
    capability: Option<String>,
    start: Option<Value>,
    peers: Peers,
    record: Record,
    limit: u64,
    phase: Phase,
    pending: BTreeMap<u64, Pending>,
    committed: Option<(u64, Value)>,
    best_manifest: Option<Value>,
    evaluations: u64,
    actions: Vec<Action>,
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
            phase: Phase::Gathering,
            pending: BTreeMap::new(),
            committed: None,
            best_manifest: None,
            evaluations: 0,
            actions: Vec::new(),
        };
        if let Some(start) = start {
            this.capability = Some(start.capability);
            this.record = start.record;
            this.committed = Some((this.record.step, start.manifest.clone()));
            this.best_manifest = start.best;
            this.start = Some(start.manifest);
            this.adopt(start.facts);
        }
        this
    }

    /// Takes one event; returns what to do, in order.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Action> {
        match event {
            Event::Message(peer, message) => self.message(now, peer, message),
            Event::Closed(peer) => self.lost(peer),
            Event::StepReduced { step, tally } => self.reduced(step, tally),
            Event::Committed { version, manifest } => self.committed(version, manifest),
            Event::Completed => self.finish(Release::Done, Outcome::Done),
            Event::CommitFailed { message } => self.fail(message),
            Event::Tick => {
                for peer in self.peers.silent(now) {
                    self.actions.push(Action::Close(peer));
                    self.lost(peer);
                }
            }
        }
        self.advance(now);
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
            checkpoint: self.committed.as_ref().map(|(version, _)| *version),
        }
    }

    /// The finished epochs so far.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Facts about the data, once known.
    pub fn facts(&self) -> Option<&DataFacts> {
        self.facts.as_ref()
    }

    /// The numeric capability this job is computed with, once known.
    pub fn capability(&self) -> Option<&str> {
        self.capability.as_deref()
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
            Phase::Halting(_) | Phase::Idle => "Stopping",
            Phase::Over => "Finished",
        }
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
            (Role::Server(_), ToCoordinator::Ready { version, chunks }) => {
                self.peers.server_ready(peer, version, chunks);
            }
            (Role::Server(_), ToCoordinator::Applied { version }) => self.peers.applied(peer, version),
            (Role::Server(index), ToCoordinator::ShardWritten { version, record }) => {
                let pending = self.pending.entry(version).or_default();
                pending.shards.insert(index, record);
            }
            (Role::Server(index), ToCoordinator::ShardFailed { version, message }) => {
                self.shard_failed(index, version, &message);
            }
            (Role::Server(index), ToCoordinator::Drain) => self.halt(now, Some(index)),
            (Role::Worker(_), ToCoordinator::Ready { .. }) => self.peers.worker_ready(peer),
            (Role::Worker(_), ToCoordinator::Blocks { id, results }) => {
                if let Phase::Validating(pass) | Phase::Final(pass) = &mut self.phase
                    && pass.id == id
                {
                    for (block, result) in results {
                        pass.accept(block, result);
                    }
                }
            }
            (Role::Worker(_), ToCoordinator::Halted { id, next }) => {
                if let Phase::Halting(halting) = &mut self.phase {
                    halting.halted(id, peer, next);
                }
            }
            (Role::Worker(_), ToCoordinator::NonFinite { step, place, value }) => self.fail(format!(
                "the loss is {value} at step {step}, {place}: lower the learning rate or check the data; \
                 the last good checkpoint is kept"
            )),
            (Role::Worker(_), ToCoordinator::Drain) => self.peers.drain(peer, self.record.step),
            (Role::Observer, ToCoordinator::Stop) => self.halt(now, None),
            (_, ToCoordinator::Failed { message }) => self.fail(message),
            _ => {}
        }
    }

    fn join(&mut self, now: Duration, peer: PeerId, join: crate::control::Join) {
        if join.generation > self.config.generation {
            self.actions.push(Action::Regenerate(join.generation));
            return;
        }
        if let Err(reason) = self.admissible(&join) {
            self.send(peer, FromCoordinator::Refused { reason });
            self.actions.push(Action::Close(peer));
            return;
        }
        self.send(peer, FromCoordinator::Welcome { generation: self.config.generation });
        let replaced = self.peers.admit(peer, &join, now);
        self.actions.extend(replaced.map(Action::Close));
        if let Role::Worker(_) = join.role {
            if self.capability.is_none() {
                self.capability = join.capability;
            }
            if let (None, Some(facts)) = (&self.facts, join.facts) {
                self.adopt(facts);
            }
        }
        self.open_servers();
    }

    /// Takes over the facts of the data; they stay for the job's life.
    fn adopt(&mut self, facts: DataFacts) {
        let Config { batch_size, epochs, seed, .. } = self.config;
        match Plan::new(facts.train_rows, batch_size, epochs, seed) {
            Ok(plan) => self.plan = Some(plan),
            Err(error) => return self.fail(error.to_string()),
        }
        self.facts = Some(facts);
    }

    /// Tells every joined server that has not been told what to set up.
    fn open_servers(&mut self) {
        let Some(facts) = self.facts.clone() else { return };
        for peer in self.peers.unopened_servers() {
            let manifest = self.start.clone();
            self.send(peer, FromCoordinator::Open { facts: facts.clone(), manifest });
        }
    }

    /// Why a peer may not join, if it may not.
    fn admissible(&self, join: &crate::control::Join) -> Result<(), String> {
        if join.role == Role::Observer {
            return Ok(());
        }
        if join.spec_digest != self.config.spec_digest {
            return Err(format!(
                "specDigest differs: this job has {}, the joining process {}; it was started from another manifest",
                self.config.spec_digest, join.spec_digest
            ));
        }
        if let (Some(ours), Some(theirs)) = (&self.capability, &join.capability)
            && ours != theirs
        {
            return Err(format!(
                "capability differs: this job is computed with `{ours}`, the joining worker has `{theirs}`; \
                 set training.cpuCapability to one that all machines have"
            ));
        }
        if let (Some(ours), Some(theirs)) = (&self.facts, &join.facts)
            && ours != theirs
        {
            return Err(peers::describe_difference(ours, theirs));
        }
        if matches!(join.role, Role::Worker(_)) && (join.facts.is_none() || join.capability.is_none()) {
            return Err("a worker must say its data facts and its capability".into());
        }
        self.peers.admissible(join)
    }

    fn lost(&mut self, peer: PeerId) {
        if let Phase::Halting(halting) = &mut self.phase {
            halting.lost(peer);
        }
        self.peers.remove(peer);
    }

    fn reduced(&mut self, step: u64, tally: Tally) {
        let (Some(plan), true) = (&self.plan, step == self.record.step) else {
            return;
        };
        self.record.fold(plan, tally);
        let version = self.record.step;
        if self.checkpoint_due(version) {
            let record = self.record.clone();
            self.pending.entry(version).or_default().record = Some(record);
        }
    }

    fn committed(&mut self, version: u64, manifest: Value) {
        self.pending.retain(|v, _| *v > version);
        if self.record.best.as_ref().is_some_and(|best| best.step == version) {
            self.best_manifest = Some(manifest.clone());
        }
        self.committed = Some((version, manifest));
    }

    fn shard_failed(&mut self, index: u32, version: u64, message: &str) {
        match &mut self.phase {
            Phase::Halting(halting) => halting.cannot_save(),
            _ => self.fail(format!(
                "server {index} could not write its part of the checkpoint of step {version}: {message}"
            )),
        }
    }

    // ---- decisions --------------------------------------------------------------------------

    /// Versions at which every server writes its part of a checkpoint without being asked.
    pub fn checkpoint_due(&self, version: u64) -> bool {
        let Some(plan) = &self.plan else { return false };
        checkpoint_due(plan, self.config.checkpoint_every, self.config.early_stopping.is_some(), version)
    }

    fn validates(&self) -> bool {
        self.facts.as_ref().is_some_and(|facts| facts.validation_rows > 0)
    }

    /// The version that all servers have reached and whose losses are counted.
    fn version(&self) -> u64 {
        self.peers.version().min(self.record.step)
    }

    /// Decides what comes next, from the state alone.
    fn advance(&mut self, now: Duration) {
        self.commit_whole();
        match &self.phase {
            Phase::Gathering => self.begin_when_ready(),
            Phase::Training => self.train(),
            Phase::Validating(_) => self.finish_validation(),
            Phase::Restoring => self.finish_restore(),
            Phase::Final(_) => self.finish_final(),
            Phase::Halting(_) => self.advance_halt(now),
            Phase::Completing | Phase::Idle | Phase::Over => {}
        }
        self.release_drained();
        self.send_views();
        self.distribute();
    }

    fn begin_when_ready(&mut self) {
        if self.plan.is_some() && self.peers.all_servers_ready() {
            self.phase = Phase::Training;
            self.train();
        }
    }

    fn train(&mut self) {
        let Some(plan) = &self.plan else { return };
        let (total, epoch_steps) = (plan.total_steps(), plan.steps_per_epoch());
        let version = self.version();
        let boundary = version.is_multiple_of(epoch_steps) && version == self.record.step;
        if version > 0 && boundary && self.validates() && self.record.awaits_validation() {
            let rows = self.facts.as_ref().map_or(0, |facts| facts.validation_rows);
            self.phase = Phase::Validating(self.evaluation(version, RowSet::Validation, rows));
        } else if version >= total || self.record.stopped_early {
            self.begin_final(version);
        } else {
            let next_boundary = (version / epoch_steps + 1) * epoch_steps;
            self.limit = if self.validates() { next_boundary } else { total };
        }
    }

    fn evaluation(&mut self, version: u64, set: RowSet, rows: u64) -> Evaluation {
        self.evaluations += 1;
        Evaluation::new(self.evaluations, version, set, rows)
    }

    /// The metrics of a finished pass.
    fn summarize(&self, pass: &Evaluation) -> Option<Metrics> {
        let blocks = pass.complete()?;
        let outputs = self.facts.as_ref().map_or(1, |facts| facts.outputs);
        Some(metrics::summarize(self.config.task.kind(outputs), &blocks))
    }

    fn finish_validation(&mut self) {
        let Phase::Validating(pass) = &self.phase else { return };
        let version = pass.version;
        let Some(metrics) = self.summarize(pass) else { return };
        self.record.validated(metrics, self.config.early_stopping.as_ref());
        if let Some(pending) = self.pending.get_mut(&version) {
            pending.record = Some(self.record.clone());
        }
        self.phase = Phase::Training;
        self.commit_whole();
        self.train();
    }

    /// Commits every checkpoint whose parts are all there.
    fn commit_whole(&mut self) {
        // An epoch's end is committed with its validation metrics, but a halt does not wait for them.
        let validates = self.validates() && !matches!(self.phase, Phase::Halting(_));
        let owners = self.peers.owners();
        let whole: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, pending)| {
                let counted = pending
                    .record
                    .as_ref()
                    .is_some_and(|record| !(validates && record.awaits_validation()));
                counted && !owners.is_empty() && owners.iter().all(|index| pending.shards.contains_key(index))
            })
            .map(|(version, _)| *version)
            .collect();
        for version in whole {
            let Some(pending) = self.pending.get_mut(&version) else { continue };
            let Some(record) = pending.record.take() else { continue };
            let best = record.best.as_ref().is_some_and(|best| best.step == version);
            let shards = std::mem::take(&mut pending.shards).into_values().collect();
            self.actions.push(Action::Commit { version, shards, record: Box::new(record), best });
        }
    }

    /// Everything is trained: publish the best parameters if they are not the last.
    fn begin_final(&mut self, version: u64) {
        let last = self.committed.as_ref().is_some_and(|(committed, _)| *committed >= version);
        if !last {
            return; // its commit is on the way
        }
        let best = self.result_step();
        let manifest = self.best_manifest.clone().filter(|_| best != version);
        if let Some(manifest) = manifest {
            self.phase = Phase::Restoring;
            self.send_servers(FromCoordinator::Restore { version: version + 1, manifest });
        } else {
            self.evaluate_final(version);
        }
    }

    /// The step whose parameters are the result.
    fn result_step(&self) -> u64 {
        let restore = self.config.early_stopping.as_ref().is_some_and(|early| early.restore_best);
        match &self.record.best {
            Some(best) if restore => best.step,
            _ => self.record.step,
        }
    }

    fn finish_restore(&mut self) {
        let restored = self.record.step + 1;
        if self.peers.version() >= restored {
            self.evaluate_final(restored);
        }
    }

    fn evaluate_final(&mut self, version: u64) {
        let rows = self.facts.as_ref().map_or(0, |facts| facts.train_rows);
        self.phase = Phase::Final(self.evaluation(version, RowSet::Train, rows));
    }

    fn finish_final(&mut self) {
        let Phase::Final(pass) = &self.phase else { return };
        let Some(train) = self.summarize(pass) else { return };
        let result = self.result_step();
        let validation = match &self.record.best {
            Some(best) if best.step == result => Some(best.metrics.clone()),
            _ => self.record.history.last().and_then(|epoch| epoch.validation.clone()),
        };
        let is_last = result == self.record.step;
        let source = match (&self.best_manifest, &self.committed) {
            (Some(best), _) if !is_last => best.clone(),
            (_, Some((_, manifest))) => manifest.clone(),
            _ => return,
        };
        self.phase = Phase::Completing;
        self.actions.push(Action::Complete {
            source: Box::new(source),
            record: Box::new(self.record.clone()),
            train: Box::new(train),
            validation: validation.map(Box::new),
        });
    }

    /// A terminating worker may go at the end of a step, or when no step is under way.
    fn release_drained(&mut self) {
        let training = matches!(self.phase, Phase::Training | Phase::Halting(_));
        for peer in self.peers.drained(self.record.step, training) {
            self.send(peer, FromCoordinator::Release(Release::Drained));
            self.actions.push(Action::Close(peer));
            self.lost(peer);
        }
    }

    fn send_views(&mut self) {
        if self.plan.is_none() || !self.peers.all_servers_ready() || matches!(self.phase, Phase::Over) {
            return;
        }
        for (peer, view) in self.peers.changed_views(self.config.leaves, self.limit) {
            self.send(peer, FromCoordinator::View(view));
        }
    }

    fn distribute(&mut self) {
        let workers = self.peers.members();
        let (Phase::Validating(pass) | Phase::Final(pass)) = &mut self.phase else {
            return;
        };
        let (id, version) = (pass.id, pass.version);
        for (peer, blocks) in pass.distribute(&workers) {
            self.send(peer, FromCoordinator::Evaluate { id, version, blocks });
        }
    }

    fn fail(&mut self, message: String) {
        if !matches!(self.phase, Phase::Over) {
            self.finish(Release::Failed { message: message.clone() }, Outcome::Failed(message));
        }
    }

    fn finish(&mut self, release: Release, outcome: Outcome) {
        for peer in self.peers.all() {
            self.send(peer, FromCoordinator::Release(release.clone()));
            self.actions.push(Action::Close(peer));
        }
        self.phase = Phase::Over;
        self.actions.push(Action::Finish(outcome));
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
