//! The worker role: leaves and evaluation blocks, nothing kept.

mod activity;
pub mod board;
pub mod crew;
pub mod link;
mod messages;
pub mod push;
mod room;
mod shift;
mod uplink;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use anyhow::Result;
use trainyard_contract::Key;
use trainyard_core::control::{FromCoordinator, Join, Role, ToCoordinator};
use trainyard_core::session::Ending;
use trainyard_object::Connection;
use trainyard_runtime::exit::{self, BadInput, ExitCode, refused};
use trainyard_runtime::files;
use trainyard_runtime::heartbeat;
use trainyard_runtime::http;
use trainyard_runtime::job::Job;
use trainyard_runtime::leaves_side_by_side;
use trainyard_runtime::memory::Model;
use trainyard_runtime::net::{
    self, Address, Channel, ControlReceiver, ControlSender, Hello, Identity, Timing,
};
use trainyard_runtime::signals;

use crate::arena::Arena;
use crate::capability;
use crate::engine::{Engine, Workload};
use crate::network::Network;
use activity::Activity;
use board::Board;
use crew::Crew;
use shift::Shift;
use uplink::Uplink;

/// How a worker is started.
pub struct Options {
    /// The job.
    pub job: Job,
    /// Index of this worker.
    pub index: u32,
    /// Address of server 0.
    pub coordinator: Address,
    /// Folder with the initial model, if the job has one.
    pub initial_model: Option<PathBuf>,
    /// Folder that relative data URIs resolve in.
    pub data: PathBuf,
    /// Leaves computed side by side; as many as [`leaves_side_by_side`] says if none.
    pub threads: Option<usize>,
    /// Bulk connections to each server, in each direction.
    pub connections: u32,
    /// Servers and workers that share the memory of this machine with this one, itself among them; none
    /// if it has its memory for itself.
    pub company: Option<(u32, u32)>,
    /// Bound listener for HTTP.
    pub http: Option<TcpListener>,
    /// The workers' key.
    pub key: Key,
    /// Bounds on waiting.
    pub timing: Timing,
}

/// Runs a worker until it is released.
///
/// # Errors
/// If it cannot do its work, with what to do about it.
pub fn run(mut options: Options) -> Result<ExitCode> {
    // First: data may take long to load, and a worker that is asked to leave meanwhile is no crash.
    let terminate = signals::termination()?;
    terminate.leave_at_once(ExitCode::Done);
    let activity = Arc::new(Activity::default());
    if let Some(listener) = options.http.take() {
        http::serve(listener, activity.pages())?;
    }
    let job = &options.job;
    let training = &job.manifest.spec.training;
    let mut load = job.load_options()?;
    load.limits.memory = room::share(load.limits.memory, options.company);
    load.schema = match &options.initial_model {
        Some(folder) => Some(trainyard_runtime::artifact::model(folder)?.input_schema),
        None => None,
    };
    let sources = files::Sources::new(&options.data, Connection::default());
    let data = trainyard_data::load(&sources, &load).map_err(files::failed)?;
    messages::check(&data.facts)?;
    let rows = data.facts.train_rows + data.facts.validation_rows + data.facts.test_rows;
    activity.rows.store(rows, Ordering::Relaxed);
    let architecture = job
        .architecture(&data.facts)
        .map_err(|error| BadInput(error.to_string()))?;
    let layout = job.layout(&data.facts)?;
    let plan = job.plan(data.facts.train_rows)?;
    let threads = options
        .threads
        .unwrap_or_else(|| leaves_side_by_side(job, 1))
        .max(1);
    let model = Model::of(job, &layout, plan.total_steps());
    let tight = room::check(&options, &model, threads, &data)?;
    let warnings = job.warnings(data.facts.train_rows, options.index)?;
    let warnings = warnings.into_iter().chain(tight);
    let warnings: Vec<String> = warnings.chain(data.warnings.clone()).collect();
    warnings.iter().for_each(|text| tracing::warn!("{text}"));
    let work = Arc::new(Workload {
        task: job.task,
        loss: job.loss(),
        tree: job.tree,
        threads_per_leaf: training.threads_per_leaf,
        plan,
        network: Network::new(&architecture, &layout),
        layout,
        data,
    });
    let worker = Worker {
        threads,
        activity,
        capability: capability::describe(training.cpu_capability, training.threads_per_leaf),
        incarnation: trainyard_runtime::incarnation(),
        terminate,
        options,
        work,
        warnings: messages::warnings(warnings),
    };
    worker.work_until_released()
}

struct Worker {
    options: Options,
    threads: usize,
    activity: Arc<Activity>,
    work: Arc<Workload>,
    /// What the user should know, told to each coordinator.
    warnings: Vec<String>,
    capability: String,
    incarnation: u64,
    terminate: signals::Termination,
}

/// A coordinator's welcome: its generation, and the control stream.
struct Welcome(u32, Arc<ControlSender>, ControlReceiver);

impl Worker {
    /// Joins and works, and joins again when the coordinator is lost. The session goes on meanwhile, and
    /// ends when a coordinator of a newer generation has welcomed this worker.
    fn work_until_released(&self) -> Result<ExitCode> {
        std::thread::scope(|scope| {
            let mut search = net::Search::new(&self.options.timing);
            let mut session: Option<Session<'_>> = None;
            let mut generation = 0;
            let interval = self.options.timing.heartbeat_interval;
            loop {
                // Nobody waits for a worker that has no coordinator, and it may look for one for long.
                self.terminate.leave_at_once(ExitCode::Done);
                let ending = match self.join(generation)? {
                    Err(ending) => ending,
                    Ok(Welcome(current, sender, receiver)) => {
                        search = net::Search::new(&self.options.timing);
                        generation = current;
                        // First: the session before may have to finish what it computes.
                        let _beating = heartbeat::start(Arc::clone(&sender), interval, REACTION);
                        session = session.filter(|session| session.is_of(current));
                        let session =
                            session.get_or_insert_with(|| Session::start(scope, self, current));
                        self.follow(session, sender, receiver)?
                    }
                };
                let why = match ending {
                    Ending::Released(release) => return exit::of_release(release),
                    Ending::Lost(why) => why,
                };
                search.failed(why);
                search.wait(&self.options.coordinator)?;
            }
        })
    }

    /// Asks the coordinator to be let in; it may say that the worker's part is over.
    fn join(&self, generation: u32) -> Result<Result<Welcome, Ending>> {
        let lost = |error: std::io::Error| Ok(Err(Ending::Lost(error.to_string())));
        let Options {
            index,
            coordinator,
            key,
            timing,
            ..
        } = &self.options;
        let hello = Hello {
            channel: Channel::Control,
            role: Role::Worker(*index),
        };
        let connection =
            match net::connect(coordinator, self.identity(generation), hello, key, timing) {
                Ok(connection) => connection,
                Err(error) => return lost(error),
            };
        let patience = timing.heartbeat_timeout;
        let (sender, mut receiver) = connection.control(self.identity(generation), patience)?;
        if let Err(error) = sender.send(&ToCoordinator::Join(self.request(generation))) {
            return lost(error);
        }
        Ok(match receiver.receive() {
            Ok(FromCoordinator::Welcome { generation }) => {
                Ok(Welcome(generation, Arc::new(sender), receiver))
            }
            Ok(FromCoordinator::Refused { reason, again }) => {
                return Err(refused(format!("the join was refused: {reason}"), again));
            }
            Ok(FromCoordinator::Release(release)) => Err(Ending::Released(release)),
            Ok(_) => Err(Ending::Lost("an unexpected message".into())),
            Err(error) => return lost(error),
        })
    }

    fn identity(&self, generation: u32) -> Identity {
        Identity {
            job: self.options.job.id,
            generation,
            incarnation: self.incarnation,
        }
    }

    fn request(&self, generation: u32) -> Join {
        Join {
            role: Role::Worker(self.options.index),
            incarnation: self.incarnation,
            generation,
            born: 0,
            spec_digest: self.options.job.spec_digest.clone(),
            capability: Some(self.capability.clone()),
            facts: Some(Arc::new(self.work.data.facts.clone())),
            warnings: self.warnings.clone(),
            address: None,
            ready: None,
        }
    }

    /// Passes on what the coordinator says, until it or the session is gone.
    ///
    /// # Errors
    /// If it wants this process no longer.
    fn follow(
        &self,
        session: &Session<'_>,
        sender: Arc<ControlSender>,
        mut receiver: ControlReceiver,
    ) -> Result<Ending> {
        let Activity {
            generation,
            sessions,
            ..
        } = &*self.activity;
        generation.store(session.generation.into(), Ordering::Relaxed);
        sessions.fetch_add(1, Ordering::Relaxed);
        self.terminate.send_drain(Arc::clone(&sender));
        let board = &session.board;
        session.uplink.set(Arc::clone(&sender));
        // A session that has ended before could not close this stream.
        if board.is_over() {
            sender.close();
        }
        board.welcomed();
        let gone = loop {
            match receiver.receive() {
                Ok(FromCoordinator::Refused {
                    reason,
                    again: true,
                }) => {
                    // Perhaps because its computing thread is stuck, which the end of the session waits for.
                    tracing::error!("sent away by the coordinator: {reason}");
                    signals::leave_within(FAREWELL, ExitCode::TryAgain);
                    return Err(refused(reason, true));
                }
                Ok(FromCoordinator::Refused { reason, .. }) => return Err(refused(reason, false)),
                Ok(message) => {
                    let last = matches!(message, FromCoordinator::Release(_));
                    if let Some(answer) = board.take(message) {
                        session.uplink.send(&answer);
                    }
                    if last {
                        break "the coordinator has released this worker".to_owned();
                    }
                }
                Err(error) => break format!("the coordinator is gone: {error}"),
            }
        };
        session.uplink.close();
        generation.store(0, Ordering::Relaxed);
        self.terminate.clear();
        board.orphaned();
        Ok(board.ending().unwrap_or(Ending::Lost(gone)))
    }

    /// A session's work, on a thread of its own.
    fn work(&self, generation: u32, board: &Board, uplink: &Uplink) {
        let crew = Crew::default();
        let length = self.work.layout.len();
        let mut arenas = [Arena::new(length), Arena::new(length)];
        let mut engine = || {
            let [even, odd] = &mut arenas;
            let variables = [
                even.variables(&self.work.layout),
                odd.variables(&self.work.layout),
            ];
            Engine::new(Arc::clone(&self.work), variables)
        };
        let assistants: Vec<Engine> = (1..self.threads).map(|_| engine()).collect();
        let engine = engine();
        std::thread::scope(|scope| {
            // After a panic too: the assistants and the coordinator must not wait for this thread.
            scopeguard::defer! {
                crew.close();
                uplink.close();
            }
            let _end = board.end_on_drop();
            for mut assistant in assistants {
                let crew = &crew;
                scope.spawn(move || {
                    crew.assist(|order, buffer| crew::carry_out(&mut assistant, order, buffer));
                });
            }
            let shift = Shift {
                worker: self,
                identity: self.identity(generation),
                uplink,
                board,
                crew: &crew,
                engine,
            };
            shift.run(&arenas);
        });
    }
}

/// How long the thread that hears the coordinator may take to react to the end of a connection. It only passes
/// messages on.
const REACTION: Duration = Duration::from_secs(30);

/// How long the threads of a worker that was sent away may take to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// A worker's part in a generation: its board, its way to the coordinator, and its thread. It ends when
/// it is dropped.
struct Session<'scope> {
    generation: u32,
    board: Arc<Board>,
    uplink: Arc<Uplink>,
    thread: Option<ScopedJoinHandle<'scope, ()>>,
}

impl<'scope> Session<'scope> {
    fn start(scope: &'scope Scope<'scope, '_>, worker: &'scope Worker, generation: u32) -> Self {
        let Workload { tree, layout, .. } = &*worker.work;
        let board = Arc::new(Board::new(*tree, layout.chunks()));
        let uplink = Arc::new(Uplink::default());
        let thread = {
            let (board, uplink) = (Arc::clone(&board), Arc::clone(&uplink));
            scope.spawn(move || {
                worker.work(generation, &board, &uplink);
            })
        };
        Session {
            generation,
            board,
            uplink,
            thread: Some(thread),
        }
    }

    /// Whether it goes on with the coordinator of this generation.
    fn is_of(&self, generation: u32) -> bool {
        self.generation == generation && !self.board.is_over()
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.board.end(Ending::Lost("the session is over".into()));
        let ended = self.thread.take().map(ScopedJoinHandle::join);
        if let Some(Err(panic)) = ended
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}
