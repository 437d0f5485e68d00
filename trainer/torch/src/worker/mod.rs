//! The worker role: leaves and evaluation blocks, nothing kept.

mod activity;
pub mod board;
pub mod crew;
pub mod link;
mod messages;
mod shift;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use anyhow::{Result, anyhow};
use trainyard_core::control::{FromCoordinator, Join, Release, Role, ToCoordinator};
use trainyard_object::Connection;
use trainyard_runtime::exit::{self, BadInput, ExitCode, TryAgain};
use trainyard_runtime::files;
use trainyard_runtime::http;
use trainyard_runtime::job::Job;
use trainyard_runtime::leaves_side_by_side;
use trainyard_runtime::net::{
    self, Address, Channel, ControlReceiver, ControlSender, Hello, Identity, Timing,
};

use crate::arena::Arena;
use crate::capability;
use crate::engine::{Engine, Workload, pin_to_one_thread};
use crate::network::Network;
use activity::Activity;
use board::{Board, Ending};
use crew::Crew;
use shift::Shift;

/// How long the coordinator's word may take after a server's connection has ended: servers and workers
/// are released at once, and a server may be faster.
const LAST_WORD: Duration = Duration::from_millis(500);

/// How a worker is started.
pub struct Options {
    /// The job.
    pub job: Job,
    /// Index of this worker.
    pub index: u32,
    /// Address of server 0.
    pub coordinator: Address,
    /// Folder that relative data URIs resolve in.
    pub data: PathBuf,
    /// Leaves computed side by side; as many as [`leaves_side_by_side`] says if none.
    pub threads: Option<usize>,
    /// Bulk connections to each server, in each direction.
    pub connections: u32,
    /// Bound listener for HTTP.
    pub http: Option<TcpListener>,
    /// Bounds on waiting.
    pub timing: Timing,
}

/// Runs a worker until it is released.
///
/// # Errors
/// If it cannot do its work, with what to do about it.
pub fn run(mut options: Options) -> Result<ExitCode> {
    // First: data may take long to load, and a worker that is asked to leave meanwhile is no crash.
    let terminate = trainyard_runtime::signals::termination()?;
    terminate.listen(|| std::process::exit(ExitCode::Done.code().into()));
    let activity = Arc::new(Activity::default());
    if let Some(listener) = options.http.take() {
        http::serve(listener, activity.pages())?;
    }
    pin_to_one_thread();
    let job = &options.job;
    let load = job.load_options()?;
    let sources = files::Sources::new(&options.data, Connection::default());
    let data = trainyard_data::load(&sources, &load).map_err(files::failed)?;
    messages::check(&data.facts)?;
    let rows = data.facts.train_rows + data.facts.validation_rows;
    activity.rows.store(rows, Ordering::Relaxed);
    let architecture = job
        .architecture(&data.facts)
        .map_err(|error| BadInput(error.to_string()))?;
    let layout = job.layout(&data.facts)?;
    let work = Arc::new(Workload {
        task: job.task,
        tree: job.tree,
        plan: job.plan(data.facts.train_rows)?,
        network: Network::new(&architecture, &layout),
        layout,
        data,
    });
    let leaves = job.tree.leaves();
    terminate.clear();
    let worker = Worker {
        threads: options
            .threads
            .unwrap_or_else(|| leaves_side_by_side(leaves, 1))
            .max(1),
        activity,
        capability: capability::describe(job.manifest.spec.training.cpu_capability),
        incarnation: trainyard_runtime::incarnation(),
        terminate,
        options,
        work,
    };
    worker.work_until_released()
}

struct Worker {
    options: Options,
    threads: usize,
    activity: Arc<Activity>,
    work: Arc<Workload>,
    capability: String,
    incarnation: u64,
    terminate: trainyard_runtime::signals::Termination,
}

impl Worker {
    /// Joins, works, and joins again when a connection is lost.
    fn work_until_released(&self) -> Result<ExitCode> {
        let mut search = net::Search::new(&self.options.timing);
        let mut generation = 0;
        loop {
            let ended = self.session(&mut generation)?;
            self.activity.generation.store(0, Ordering::Relaxed);
            match ended {
                Ended::Released(release) => return exit::of_release(release),
                Ended::Lost { welcomed, why } => {
                    if welcomed {
                        search = net::Search::new(&self.options.timing);
                    }
                    search.failed(why);
                }
            }
            if self.terminate.requested() {
                return Ok(ExitCode::Done); // nobody waits for us
            }
            search.wait(&self.options.coordinator)?;
        }
    }

    fn session(&self, generation: &mut u32) -> Result<Ended> {
        let lost = |why: String| {
            Ok(Ended::Lost {
                welcomed: false,
                why,
            })
        };
        let mut identity = Identity {
            job: self.options.job.id,
            generation: *generation,
            incarnation: self.incarnation,
        };
        let hello = Hello {
            channel: Channel::Control,
            role: Role::Worker(self.options.index),
        };
        let connection = match net::connect(
            &self.options.coordinator,
            identity,
            hello,
            &self.options.timing,
        ) {
            Ok(connection) => connection,
            Err(error) => return lost(error.to_string()),
        };
        let patience = self.options.timing.heartbeat_timeout;
        let (sender, mut receiver) = connection.control(identity, patience)?;
        let sender = Arc::new(sender);
        if let Err(error) = sender.send(&ToCoordinator::Join(self.join(*generation))) {
            return lost(error.to_string());
        }
        match receiver.receive() {
            Ok(FromCoordinator::Welcome {
                generation: current,
            }) => *generation = current,
            Ok(FromCoordinator::Refused { reason, again }) => {
                let message = format!("the join was refused: {reason}");
                return Err(match again {
                    true => TryAgain(message).into(),
                    false => anyhow!(message),
                });
            }
            Ok(FromCoordinator::Release(release)) => return Ok(Ended::Released(release)),
            Ok(_) => return lost("an unexpected message".into()),
            Err(error) => return lost(error.to_string()),
        }
        identity.generation = *generation;
        self.activity
            .generation
            .store((*generation).into(), Ordering::Relaxed);
        self.activity.sessions.fetch_add(1, Ordering::Relaxed);
        Ok(self.take_part(identity, sender, receiver))
    }

    fn join(&self, generation: u32) -> Join {
        Join {
            role: Role::Worker(self.options.index),
            incarnation: self.incarnation,
            generation,
            born: 0,
            spec_digest: self.options.job.spec_digest.clone(),
            capability: Some(self.capability.clone()),
            facts: Some(Arc::new(self.work.data.facts.clone())),
            address: None,
            ready: None,
        }
    }

    fn take_part(
        &self,
        identity: Identity,
        sender: Arc<ControlSender>,
        mut receiver: ControlReceiver,
    ) -> Ended {
        let board = Board::new(self.work.tree, self.work.layout.chunks());
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
        let beating = trainyard_runtime::heartbeat::start(
            Arc::clone(&sender),
            self.options.timing.heartbeat_interval,
        );
        self.terminate.send_drain(Arc::clone(&sender));
        let ended = std::thread::scope(|scope| {
            for mut assistant in assistants {
                let crew = &crew;
                scope.spawn(move || {
                    pin_to_one_thread();
                    crew.assist(|order, buffer| crew::carry_out(&mut assistant, order, buffer));
                });
            }
            let (listening, answers) = (&board, Arc::clone(&sender));
            let (released, release) = channel();
            scope.spawn(move || listen(&mut receiver, listening, &answers, &released));
            let shift = Shift {
                worker: self,
                identity,
                sender: &sender,
                board: &board,
                crew: &crew,
                engine,
            };
            let mut ended = shift.run(&arenas);
            crew.close();
            if matches!(ended, Ended::Lost { .. })
                && let Ok(release) = release.recv_timeout(LAST_WORD)
            {
                ended = Ended::Released(release);
            }
            sender.close();
            ended
        });
        drop(beating);
        self.terminate.clear();
        ended
    }
}

/// Feeds the board from the control stream, and passes a release on.
fn listen(
    receiver: &mut ControlReceiver,
    board: &Board,
    answers: &ControlSender,
    released: &Sender<Release>,
) {
    loop {
        match receiver.receive() {
            Ok(message) => {
                if let FromCoordinator::Release(release) = &message {
                    let _ = released.send(release.clone());
                }
                if let Some((id, next)) = board.take(message) {
                    let _ = answers.send(&ToCoordinator::Halted { id, next });
                }
            }
            Err(error) => {
                return board.end(Ending::Lost(format!("the coordinator is gone: {error}")));
            }
        }
    }
}

enum Ended {
    Released(Release),
    Lost { welcomed: bool, why: String },
}
