//! The server role: a range of chunks and, in server 0, the coordinator.

mod committer;
mod coordination;
mod feed;
mod hub;
mod outlet;
mod pages;
mod saver;
pub mod shard;
mod tenure;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod uplink;

pub use coordination::Board;
pub use hub::Hub;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use trainyard_checkpoint::{Check, Log, Storage};
use trainyard_contract::Key;
use trainyard_core::control::{FromCoordinator, Release, Role, ToCoordinator};
use trainyard_core::coordinator::{Coordinator, Outcome, Start};
use trainyard_runtime::exit::{ExitCode, refused};
use trainyard_runtime::http;
use trainyard_runtime::job::Job;
use trainyard_runtime::net::{
    self, Address, Channel, Connection, Hello, Identity, Listener, Timing,
};
use trainyard_runtime::storage::Location;
use trainyard_runtime::termination;

use committer::Committer;
use coordination::{Coordination, Ended, Input};
use tenure::Tenure;

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
    pub coordinator: Address,
    /// Where workers reach this server; the listener's own address if none.
    pub advertise: Option<Address>,
    /// Bound listener for the protocol.
    pub listener: Arc<Listener>,
    /// Bound listener for HTTP.
    pub http: Option<TcpListener>,
    /// Folder with the initial model, if the job has one.
    pub initial_model: Option<PathBuf>,
    /// Place of the checkpoints.
    pub storage: Location,
    /// The servers' key.
    pub key: Key,
    /// Bounds on waiting.
    pub timing: Timing,
}

/// Runs a server until it is released.
///
/// # Errors
/// If it cannot do its work, with what to do about it.
pub fn run(mut options: Options) -> Result<termination::Ended> {
    // First: storage may be slow, and the first process of a container has no handlers but its own.
    let terminate = trainyard_runtime::signals::termination()?;
    terminate.leave_at_once(ExitCode::TryAgain);
    let hub = Hub::new(options.key.clone(), options.timing);
    let board = Arc::new(Board::default());
    if let Some(listener) = options.http.take() {
        let pages = pages::pages(Arc::clone(&board), Arc::clone(&hub));
        http::serve(listener, pages)?;
    }
    hub.listen(Arc::clone(&options.listener));
    let storage = options.storage.open()?;
    let address = options.advertise.as_ref();
    let address = address.unwrap_or(options.listener.address()).to_string();
    let server = Arc::new(Server {
        incarnation: trainyard_runtime::incarnation(),
        options,
        hub,
        storage,
        board,
        address,
        terminate,
    });
    if server.options.index == 0 {
        server.lead()
    } else {
        server.follow().map(termination::Ended::Left)
    }
}

/// What stays the same for the life of the process. What changes with the generation is a [`Tenure`].
struct Server {
    options: Options,
    incarnation: u64,
    hub: Arc<Hub>,
    storage: Arc<dyn Storage>,
    board: Arc<Board>,
    address: String,
    terminate: trainyard_runtime::signals::Termination,
}

impl Server {
    fn identity(&self, generation: u32) -> Identity {
        Identity {
            job: self.options.job.id,
            generation,
            incarnation: self.incarnation,
        }
    }

    // ---- server 0 ---------------------------------------------------------------------------

    /// Runs coordinators, one a generation, until the job or this process is done.
    fn lead(self: &Arc<Self>) -> Result<termination::Ended> {
        let mut generation = self.options.generation;
        let exit = loop {
            // Storage may be away for minutes, and nothing of this generation is to be saved yet.
            self.terminate.leave_at_once(ExitCode::TryAgain);
            match self.coordinate(generation)? {
                Ended::Regenerated(newer) => {
                    tracing::info!(
                        generation = newer,
                        "beginning again under a newer generation"
                    );
                    generation = newer;
                }
                Ended::Finished(Outcome::Done) => return self.complete(),
                Ended::Finished(Outcome::Stopped { .. }) => break ExitCode::Done,
                Ended::Finished(Outcome::Drained) => break ExitCode::TryAgain,
                Ended::Finished(Outcome::Failed(message)) => return Err(anyhow!(message)),
            }
        };
        Ok(termination::Ended::Left(exit))
    }

    /// Tells how a finished job ended. Exporting its artifact is the finisher's work.
    fn complete(&self) -> Result<termination::Ended> {
        let log = Log::open(Arc::clone(&self.storage), self.options.job.identity())?;
        let manifest = log
            .complete()
            .context("the job has ended without a complete checkpoint")?;
        let report = termination::report(&self.options.job, manifest)?;
        let report = report.with_warnings(&self.board.read().warnings);
        Ok(termination::Ended::Complete(Box::new(report)))
    }

    /// Runs the coordinator of a generation.
    fn coordinate(self: &Arc<Self>, generation: u32) -> Result<Ended> {
        let identity = self.identity(generation);
        let Options {
            job,
            servers,
            timing,
            ..
        } = &self.options;
        let mut log = Log::open(Arc::clone(&self.storage), job.identity())?;
        if let Some(latest) = log.latest() {
            job.check_defaults(latest)?;
        }
        log.claim(generation.into(), &format!("{:016x}", self.incarnation))?;
        if log.complete().is_some() {
            tracing::info!("the job is complete already");
            return Ok(Ended::Finished(Outcome::Done));
        }
        let start = start(&log)?;
        let config = job.coordinator(generation, *servers, timing);
        let coordinator = Coordinator::new(config, start);

        let (sender, inputs) = channel();
        let (commits, orders) = channel();
        let (down, downlink) = channel();
        sender.send(Input::Local(down)).ok();
        let tenure = Tenure::new(Arc::clone(self), generation, Some(sender.clone()));
        self.hub.route_control(identity, Some(sender.clone()));
        self.terminate.forward(sender.clone(), || Input::Terminate);
        let shell = Coordination::new(
            coordinator,
            identity,
            (sender.clone(), inputs),
            commits,
            Arc::clone(&self.board),
        );
        let committer = Committer::new(job.clone(), generation, log, timing.heartbeat_timeout);
        // Storage may have stalled for minutes when the coordinator's work is over, so these two are not
        // joined. What they still do is of a generation that is fenced: see `Tenure` and `Log`.
        let (committing, committed) = channel::<()>();
        std::thread::spawn(move || {
            committer.run(&orders, |event| sender.send(Input::Event(event)).is_ok());
            drop(committing);
        });
        let local = Arc::clone(&tenure);
        std::thread::spawn(move || local.serve_locally(&downlink));
        let ended = shell.run(Instant::now());
        self.hub.route_control(identity, None);
        tenure.end();
        self.terminate.clear();
        // A commit that is nearly done saves work; but a stop that has run out of time has.
        let patience = match ended {
            Ended::Finished(Outcome::Stopped { saved: false }) => Duration::ZERO,
            _ => timing.heartbeat_timeout,
        };
        let _ = committed.recv_timeout(patience);
        Ok(ended)
    }

    // ---- the other servers ------------------------------------------------------------------

    /// Serves a coordinator elsewhere; finds it again when it is lost.
    fn follow(self: &Arc<Self>) -> Result<ExitCode> {
        let role = Role::Server(self.options.index);
        let hello = Hello {
            channel: Channel::Control,
            role,
        };
        let mut search = net::Search::new(&self.options.timing);
        let mut tenure = Tenure::new(Arc::clone(self), self.options.generation, None);
        loop {
            match tenure.version() {
                None => self.terminate.leave_at_once(ExitCode::TryAgain),
                // The coordinator may come back and save what is held here.
                Some(_) => self.terminate.clear(),
            }
            match net::connect(
                &self.options.coordinator,
                tenure.identity,
                hello.clone(),
                &self.options.key,
                &self.options.timing,
            ) {
                Ok(connection) => match self.attend(connection, &mut tenure)? {
                    Attended::Released(release) => {
                        return trainyard_runtime::exit::of_release(release);
                    }
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
                return Ok(ExitCode::TryAgain);
            }
            search.wait(&self.options.coordinator)?;
        }
    }

    fn attend(
        self: &Arc<Self>,
        connection: Connection,
        tenure: &mut Arc<Tenure>,
    ) -> Result<Attended> {
        let patience = self.options.timing.heartbeat_timeout;
        let (sender, mut receiver) = connection.control(tenure.identity, patience)?;
        let sender = Arc::new(sender);
        let join = tenure.join(tenure.version());
        if sender.send(&ToCoordinator::Join(join)).is_err() {
            return Ok(Attended::Lost(false));
        }
        let Ok(welcome) = receiver.receive() else {
            return Ok(Attended::Lost(false));
        };
        match welcome {
            FromCoordinator::Welcome { generation } if generation != tenure.identity.generation => {
                // What this server holds belongs to the past: roll back with everyone.
                tenure.end();
                *tenure = Tenure::new(Arc::clone(self), generation, None);
            }
            FromCoordinator::Welcome { .. } => {}
            FromCoordinator::Refused { reason, again } => return Err(refused(reason, again)),
            FromCoordinator::Release(release) => return Ok(Attended::Released(release)),
            _ => return Ok(Attended::Lost(false)),
        }
        // The sender's frames carry the generation that it joined with; the stream is the fence.
        tenure.connect(uplink::Target::Remote(Arc::clone(&sender)));
        let beating = trainyard_runtime::heartbeat::start(
            Arc::clone(&sender),
            self.options.timing.heartbeat_interval,
            REACTION,
        );
        self.terminate.send_drain(sender);
        tenure.repeat();
        let released = loop {
            match receiver.receive() {
                Ok(FromCoordinator::Refused { reason, again }) => {
                    return Err(refused(reason, again));
                }
                Ok(message) => {
                    if let Some(release) = tenure.take(message) {
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

/// How long the thread that hears the coordinator may take to react to the end of a connection: it may be reading a
/// checkpoint.
const REACTION: Duration = Duration::from_secs(600);

enum Attended {
    Released(Release),
    /// The connection ended; whether the coordinator had welcomed us.
    Lost(bool),
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
    let best = manifest.coordinator.record.best.as_ref();
    let best = best.and_then(|best| log.manifests().rev().find(|m| m.step == best.step));
    Ok(Some(Start {
        manifest: Arc::new(manifest.clone()),
        best: best.cloned().map(Arc::new),
    }))
}
