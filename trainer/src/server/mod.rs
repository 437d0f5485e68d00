//! The server role: a range of chunks and, in server 0, the coordinator.

mod committer;
mod coordination;
mod feed;
mod hub;
mod pages;
mod saver;
pub mod shard;
mod uplink;

pub use committer::{METRICS, RECORD, layout_digest};
pub use coordination::Board;
pub use hub::Hub;

use std::net::TcpListener;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use trainyard_checkpoint::{Check, JobIdentity, Log, Manifest, Storage, load_range};
use trainyard_core::control::{FromCoordinator, Join, Release, Role, ToCoordinator};
use trainyard_core::coordinator::{Coordinator, Event, Outcome, Record, Reports, Start};
use trainyard_core::facts::DataFacts;

use crate::artifact;
use crate::exit::{Exit, TryAgain};
use crate::http;
use crate::job::Job;
use crate::net::{self, Channel, ControlReceiver, ControlSender, Hello, Identity, Timing};
use crate::storage::Location;
use crate::termination::{self, Finished};
use committer::Committer;
use coordination::{Coordination, Ended, Input};
use shard::{Notice, Notify, Rules, Shard};
use uplink::Uplink;

/// How a server is started.
pub struct Options {
    /// The job.
    pub job: Job,
    /// Index of this server.
    pub index: u32,
    /// Number of servers.
    pub servers: u32,
    /// Generation given by the supervisor.
    pub generation: u32,
    /// Address of server 0.
    pub coordinator: String,
    /// Where workers reach this server; the listener's own address if none.
    pub advertise: Option<String>,
    /// Bound listener for the protocol.
    pub listener: TcpListener,
    /// Bound listener for HTTP.
    pub http: Option<TcpListener>,
    /// Place of the checkpoints.
    pub storage: Location,
    /// Whether server 0 leaves the artifact beside the checkpoints of a finished job.
    pub artifact: bool,
    /// Bounds on waiting.
    pub timing: Timing,
}

/// Runs a server until it is released.
///
/// # Errors
/// If it cannot do its work, with what to do about it.
pub fn run(options: Options) -> Result<termination::Ended> {
    // First: storage may be slow, and the first process of a container has no handlers but its own.
    let terminate = crate::signals::termination()?;
    let hub = Hub::new(options.timing);
    let board = Arc::new(Board::default());
    if let Some(listener) = &options.http {
        let pages = pages::pages(Arc::clone(&board), Arc::clone(&hub));
        http::serve(listener.try_clone()?, pages)?;
    }
    hub.listen(options.listener.try_clone()?);
    let storage = options.storage.open()?;
    let address = match &options.advertise {
        Some(address) => address.clone(),
        None => options.listener.local_addr()?.to_string(),
    };
    let server = Server {
        identity: Identity {
            job: options.job.id,
            generation: options.generation,
            incarnation: crate::incarnation(),
        },
        options,
        hub,
        storage,
        board,
        address,
        terminate,
        uplink: Arc::default(),
        holding: Mutex::default(),
    };
    if server.options.index == 0 {
        server.lead()
    } else {
        server.follow().map(termination::Ended::Left)
    }
}

struct Server {
    options: Options,
    identity: Identity,
    hub: Arc<Hub>,
    storage: Arc<dyn Storage>,
    board: Arc<Board>,
    address: String,
    terminate: crate::signals::Termination,
    uplink: Arc<Uplink>,
    holding: Mutex<Option<Holding>>,
}

/// What a server holds for its coordinator; it outlives a broken control stream.
#[derive(Clone)]
struct Holding {
    shard: Arc<Shard>,
    snapshots: SyncSender<shard::Snapshot>,
}

impl Server {
    // ---- server 0 ---------------------------------------------------------------------------

    /// Runs coordinators, one a generation, until the job or this process is done.
    fn lead(mut self) -> Result<termination::Ended> {
        let exit = loop {
            match self.coordinate()? {
                Ended::Regenerated(generation) => {
                    tracing::info!(generation, "beginning again under a newer generation");
                    self.identity.generation = generation;
                }
                Ended::Finished(Outcome::Done) => return self.complete(),
                Ended::Finished(Outcome::Stopped { .. }) => break Exit::Done,
                Ended::Finished(Outcome::Drained) => break Exit::TryAgain,
                Ended::Finished(Outcome::Failed(message)) => return Err(anyhow!(message)),
            }
        };
        Ok(termination::Ended::Left(exit))
    }

    /// Leaves the artifact of a finished job, and tells how it ended.
    fn complete(&self) -> Result<termination::Ended> {
        let log = Log::open(Arc::clone(&self.storage), self.job_identity())?;
        let manifest = log
            .complete()
            .context("the job has ended without a complete checkpoint")?;
        if self.options.artifact {
            self.tell_latecomers();
            artifact::publish(&self.storage, manifest)
                .context("the job is complete, but its artifact cannot be exported")?;
        }
        let artifact = self.options.storage.artifact().to_string();
        let finished = Finished::of(&self.options.job, manifest, artifact)?;
        Ok(termination::Ended::Complete(Box::new(finished)))
    }

    /// Releases whoever still looks for the coordinator while the artifact is made: the word that
    /// the job is done may have been lost with a connection.
    fn tell_latecomers(&self) {
        let (sender, inputs) = channel();
        self.hub.route_control(self.identity, Some(sender));
        let identity = self.identity;
        std::thread::spawn(move || {
            for input in inputs {
                if let Input::Connected(stream, _) = input {
                    std::thread::spawn(move || coordination::release(&stream, identity));
                }
            }
        });
    }

    fn job_identity(&self) -> JobIdentity {
        JobIdentity {
            job: self.options.job.name.clone(),
            spec_digest: self.options.job.spec_digest.clone(),
        }
    }

    fn coordinate(&self) -> Result<Ended> {
        let generation = self.identity.generation;
        let job = &self.options.job;
        let mut log = Log::open(Arc::clone(&self.storage), self.job_identity())?;
        log.claim(
            generation.into(),
            &format!("{:016x}", self.identity.incarnation),
        )?;
        if log.complete().is_some() {
            tracing::info!("the job is complete already");
            return Ok(Ended::Finished(Outcome::Done));
        }
        let start = start(&log)?;
        let config = job.coordinator(generation, self.options.servers, &self.options.timing);
        let coordinator = Coordinator::new(config, start);

        let (sender, inputs) = channel();
        let (work, orders) = channel();
        let (down, downlink) = channel();
        sender.send(Input::Local(down)).ok();
        self.hub.route_control(self.identity, Some(sender.clone()));
        self.terminate.forward(sender.clone(), || Input::Terminate);
        let shell = Coordination::new(
            coordinator,
            self.identity,
            (sender.clone(), inputs),
            work,
            Arc::clone(&self.board),
        );
        let committer = Committer::new(
            job.clone(),
            generation,
            log,
            self.options.timing.heartbeat_timeout,
        );
        let ended = std::thread::scope(|scope| {
            let commits = sender.clone();
            scope.spawn(move || committer.run(&orders, &commits));
            let local = sender.clone();
            scope.spawn(move || self.serve_locally(&local, &downlink));
            let ended = shell.run(Instant::now());
            self.hub.route_control(self.identity, None);
            self.drop_holding();
            self.terminate.clear();
            ended
        });
        Ok(ended)
    }

    /// Server 0's own shard, talking to the coordinator in this process.
    fn serve_locally(&self, inputs: &Sender<Input>, downlink: &Receiver<FromCoordinator>) {
        self.uplink.connect(uplink::Target::Local(inputs.clone()));
        let session = Session {
            server: self,
            identity: self.identity,
            inputs: Some(inputs.clone()),
        };
        self.uplink.send(ToCoordinator::Join(
            self.join(self.identity.generation, None),
        ));
        loop {
            match downlink.recv_timeout(self.options.timing.heartbeat_interval) {
                Ok(message) => {
                    if session.take(message).is_some() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.uplink.send(ToCoordinator::Heartbeat),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn holding(&self) -> std::sync::MutexGuard<'_, Option<Holding>> {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the shard: its generation is over.
    fn drop_holding(&self) {
        *self.holding() = None;
        self.uplink.forget();
        self.hub.route_bulk(self.identity, None);
    }

    fn join(&self, generation: u32, ready: Option<u64>) -> Join {
        Join {
            role: Role::Server(self.options.index),
            incarnation: self.identity.incarnation,
            generation,
            born: self.options.generation,
            spec_digest: self.options.job.spec_digest.clone(),
            capability: None,
            facts: None,
            address: Some(self.address.clone()),
            ready,
        }
    }

    // ---- the other servers ------------------------------------------------------------------

    /// Serves a coordinator elsewhere; finds it again when it is lost.
    fn follow(mut self) -> Result<Exit> {
        let role = Role::Server(self.options.index);
        let hello = Hello {
            channel: Channel::Control,
            role,
        };
        let mut search = net::Search::new(&self.options.timing);
        loop {
            match net::connect(
                &self.options.coordinator,
                self.identity,
                hello,
                &self.options.timing,
            ) {
                Ok(stream) => match self.attend(stream)? {
                    Attended::Released(release) => return Exit::of(release),
                    Attended::Lost(met) => {
                        if met {
                            search = net::Search::new(&self.options.timing);
                        }
                        search.failed("the connection ended");
                    }
                },
                Err(error) => search.failed(error),
            }
            if self.terminate.requested() {
                return Ok(Exit::TryAgain);
            }
            search.wait(&self.options.coordinator)?;
        }
    }

    fn attend(&mut self, stream: std::net::TcpStream) -> Result<Attended> {
        let sender = Arc::new(ControlSender::new(&stream, self.identity)?);
        let mut receiver = ControlReceiver::new(stream, self.options.timing.heartbeat_timeout)?;
        let held = self
            .holding()
            .as_ref()
            .map(|holding| holding.shard.version());
        if sender
            .send(&ToCoordinator::Join(
                self.join(self.identity.generation, held),
            ))
            .is_err()
        {
            return Ok(Attended::Lost(false));
        }
        let Ok(welcome) = receiver.receive() else {
            return Ok(Attended::Lost(false));
        };
        match welcome {
            FromCoordinator::Welcome { generation } if generation != self.identity.generation => {
                // What this server holds belongs to the past: roll back with everyone.
                self.identity.generation = generation;
                self.drop_holding();
            }
            FromCoordinator::Welcome { .. } => {}
            FromCoordinator::Refused {
                reason,
                again: true,
            } => return Err(TryAgain(reason).into()),
            FromCoordinator::Refused { reason, .. } => return Err(anyhow!(reason)),
            FromCoordinator::Release(release) => return Ok(Attended::Released(release)),
            _ => return Ok(Attended::Lost(false)),
        }
        // The sender's frames carry the generation that it joined with; the stream is the fence.
        self.uplink
            .connect(uplink::Target::Remote(Arc::clone(&sender)));
        let beating =
            crate::heartbeat::start(Arc::clone(&sender), self.options.timing.heartbeat_interval);
        self.terminate.send_drain(sender);
        let session = Session {
            server: self,
            identity: self.identity,
            inputs: None,
        };
        session.repeat();
        let released = loop {
            match receiver.receive() {
                Ok(message) => {
                    if let Some(release) = session.take(message) {
                        break Attended::Released(release);
                    }
                }
                Err(_) => break Attended::Lost(true),
            }
        };
        drop(beating);
        Ok(released)
    }
}

enum Attended {
    Released(Release),
    /// The connection ended; whether the coordinator had welcomed us.
    Lost(bool),
}

/// One coordinator's orders, carried out on the shard.
struct Session<'a> {
    server: &'a Server,
    identity: Identity,
    /// Server 0: where reduced steps are counted.
    inputs: Option<Sender<Input>>,
}

impl Session<'_> {
    fn tell(&self, message: ToCoordinator) {
        self.server.uplink.send(message);
    }

    /// After a new stream to the same coordinator: what may have been lost with the old one.
    fn repeat(&self) {
        let version = self
            .server
            .holding()
            .as_ref()
            .map(|holding| holding.shard.version());
        if let Some(version) = version {
            self.tell(ToCoordinator::Applied { version });
            self.server.uplink.repeat();
        }
    }

    /// Carries out one order; returns a release.
    fn take(&self, message: FromCoordinator) -> Option<Release> {
        let result = match message {
            FromCoordinator::Open { facts, manifest } => self.open(&facts, manifest),
            FromCoordinator::Snapshot { version } => {
                self.snapshot(version);
                Ok(())
            }
            FromCoordinator::Restore { version, manifest } => self.restore(version, manifest),
            FromCoordinator::Release(release) => return Some(release),
            _ => Ok(()),
        };
        if let Err(error) = result {
            self.tell(ToCoordinator::Failed {
                message: format!("server {}: {error:#}", self.server.options.index),
            });
        }
        None
    }

    fn open(&self, facts: &DataFacts, manifest: Option<serde_json::Value>) -> Result<()> {
        let Options {
            job,
            index,
            servers,
            ..
        } = &self.server.options;
        let layout = job.layout(facts)?;
        let plan = job.plan(facts.train_rows)?;
        let chunks = layout.shard(*index, *servers);
        let floats = shard::float_range(&layout, &chunks);
        let (version, parameters, state) = match manifest {
            Some(manifest) => self.load(serde_json::from_value(manifest)?, &layout, floats)?,
            None => {
                let mut parameters = vec![0.0; floats.len()];
                layout.initialize(
                    job.manifest.spec.training.seed,
                    floats.clone(),
                    &mut parameters,
                )?;
                let slots = 0..job.optimizer.slots().len();
                let state = slots
                    .map(|slot| vec![job.optimizer.initial(slot); floats.len()])
                    .collect();
                (0, parameters, state)
            }
        };
        let reports = Reports::new(&plan);
        let rules = Rules {
            learning_rate: job.learning_rate(&plan),
            layout,
            chunks,
            tree: job.tree,
            plan,
            optimizer: job.optimizer.clone(),
            checkpoint_every: job.manifest.spec.checkpoint.every_steps.into(),
            early_stopping: job.early_stopping().is_some(),
        };
        let (snapshots, waiting) = sync_channel(1);
        let notify = self.notify(snapshots.clone());
        let shard = Arc::new(Shard::new(rules, version, &parameters, &state, notify)?);
        self.write_snapshots(&shard, waiting);
        self.server.uplink.begin(reports);
        *self.server.holding() = Some(Holding {
            shard: Arc::clone(&shard),
            snapshots,
        });
        self.server
            .hub
            .route_bulk(self.identity, Some(Arc::clone(&shard)));
        self.tell(ToCoordinator::Ready {
            version,
            chunks: shard.chunks().len() as u32,
        });
        Ok(())
    }

    fn load(
        &self,
        manifest: Manifest,
        layout: &trainyard_core::layout::Layout,
        floats: std::ops::Range<usize>,
    ) -> Result<(u64, Vec<f32>, Vec<Vec<f32>>)> {
        if manifest.layout_digest != layout_digest(layout) {
            return Err(anyhow!(
                "the checkpoint of step {} holds another model's parameters",
                manifest.step
            ));
        }
        let slice =
            load_range(self.server.storage.as_ref(), &manifest, floats).with_context(|| {
                format!("the checkpoint of step {} cannot be loaded", manifest.step)
            })?;
        let wanted = self.server.options.job.optimizer.slots();
        if slice
            .slots
            .iter()
            .map(|(name, _)| name.as_str())
            .ne(wanted.iter().copied())
        {
            return Err(anyhow!(
                "the checkpoint holds the state of another optimizer"
            ));
        }
        Ok((
            manifest.step,
            slice.parameters,
            slice.slots.into_iter().map(|(_, values)| values).collect(),
        ))
    }

    /// Carries a shard's notices to whom they concern.
    fn notify(&self, snapshots: SyncSender<shard::Snapshot>) -> Notify {
        let uplink = Arc::clone(&self.server.uplink);
        let inputs = self.inputs.clone().map(Mutex::new);
        Notify(Box::new(move |notice| match notice {
            Notice::StepReduced { step, tally } => {
                if let Some(inputs) = &inputs {
                    let inputs = inputs.lock().unwrap_or_else(PoisonError::into_inner);
                    let _ = inputs.send(Input::Event(Event::StepReduced { step, tally }));
                }
            }
            Notice::Applied(version) => uplink.send(ToCoordinator::Applied { version }),
            // Waits if two snapshots are not yet written: storage slower than training.
            Notice::Snapshot(snapshot) => drop(snapshots.send(snapshot)),
        }))
    }

    fn write_snapshots(&self, shard: &Shard, waiting: Receiver<shard::Snapshot>) {
        let writer = saver::Writer {
            generation: self.identity.generation,
            index: self.server.options.index,
            of: self.server.options.servers,
            floats: shard.floats(),
            slots: self.server.options.job.optimizer.slots(),
        };
        let (storage, uplink) = (
            Arc::clone(&self.server.storage),
            Arc::clone(&self.server.uplink),
        );
        std::thread::spawn(move || writer.run(&storage, &waiting, &|report| uplink.send(report)));
    }

    fn snapshot(&self, version: u64) {
        let Some(Holding { shard, snapshots }) = self.server.holding().clone() else {
            return;
        };
        if shard.chunks().is_empty() {
            return;
        }
        match shard.snapshot(version) {
            Some(snapshot) => drop(snapshots.send(snapshot)),
            None => self.tell(ToCoordinator::SnapshotMissed { version }),
        }
    }

    fn restore(&self, version: u64, manifest: serde_json::Value) -> Result<()> {
        let manifest: Manifest = serde_json::from_value(manifest)?;
        let Some(Holding { shard, .. }) = self.server.holding().clone() else {
            return Ok(());
        };
        let slice = load_range(self.server.storage.as_ref(), &manifest, shard.floats())?;
        Ok(shard.restore(version, &slice.parameters)?)
    }
}

/// The checkpoint to begin from, if the log has one.
fn start(log: &Log) -> Result<Option<Start>> {
    // All is read once more by those who load it; but what is corrupt is found while there is a choice.
    let Some(loadable) = log.newest_loadable(Check::Digests)? else {
        return Ok(None);
    };
    for skipped in &loadable.skipped {
        tracing::warn!(
            key = skipped.key,
            reason = skipped.reason,
            "a checkpoint was passed over"
        );
    }
    let manifest = loadable.manifest;
    let record: Record = serde_json::from_value(manifest.coordinator[RECORD].clone())
        .with_context(|| {
            format!(
                "the checkpoint of step {} has no record of the training",
                manifest.step
            )
        })?;
    let best = record
        .best
        .as_ref()
        .and_then(|best| log.manifests().rev().find(|m| m.step == best.step));
    Ok(Some(Start {
        facts: manifest.facts.clone(),
        capability: manifest.capability.clone(),
        best: best.map(serde_json::to_value).transpose()?,
        manifest: serde_json::to_value(manifest)?,
        record,
    }))
}
