//! The coordinator's shell: connections in, events to the state machine, actions out.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use trainyard_core::control::{FromCoordinator, Progress, Role, ToCoordinator};
use trainyard_core::coordinator::{Action, Commit, Coordinator, Event, Outcome, PeerId};
use trainyard_runtime::net::{Connection, ControlReceiver, Identity};

use super::outlet::{self, Writers};

/// How often observers and `/status` are refreshed.
const REFRESH: Duration = Duration::from_millis(50);

/// Longest silence of a connection before its thread gives it up. An observer says nothing.
const SILENCE: Duration = Duration::from_secs(24 * 3600);

/// Longest wait for a peer's first word.
const INTRODUCTION: Duration = Duration::from_secs(10);

/// What the coordinator's thread waits for.
pub enum Input {
    /// Something for the state machine.
    Event(Event),
    /// A new control connection.
    Connected(Connection, Role),
    /// Server 0 itself, in this process.
    Local(Sender<FromCoordinator>),
    /// The process is asked to terminate.
    Terminate,
}

/// How a coordinator's session ended.
#[derive(Debug)]
pub enum Ended {
    /// Its work is over.
    Finished(Outcome),
    /// A peer brought this generation.
    Regenerated(u32),
}

/// What `/status` and `/metrics` show.
#[derive(Debug, Default)]
pub struct Board(Mutex<Progress>);

impl Board {
    /// The latest progress.
    pub fn read(&self) -> Progress {
        self.0.lock().clone()
    }

    fn write(&self, progress: Progress) {
        *self.0.lock() = progress;
    }
}

enum Outlet {
    Remote(outlet::Outlet),
    Local(Sender<FromCoordinator>),
}

/// Receives messages until `tell` has had enough of them.
fn listen(
    mut receiver: ControlReceiver,
    tell: impl Fn(ToCoordinator) -> bool,
) -> std::io::Result<()> {
    let mut message = receiver.receive_until(Instant::now() + INTRODUCTION)?;
    while tell(message) {
        message = receiver.receive()?;
    }
    Ok(())
}

/// The id of server 0 in its own coordinator.
const LOCAL: PeerId = PeerId(0);

/// Runs a [`Coordinator`] on real connections.
pub struct Coordination {
    coordinator: Coordinator,
    identity: Identity,
    inputs: Receiver<Input>,
    sender: Sender<Input>,
    commits: Sender<Commit>,
    outlets: BTreeMap<PeerId, Outlet>,
    writers: Writers,
    observers: BTreeSet<PeerId>,
    next_peer: u64,
    board: Arc<Board>,
    shown: Progress,
    refreshed: Instant,
}

impl Coordination {
    /// A shell around `coordinator`. `sender` feeds `inputs`.
    pub fn new(
        coordinator: Coordinator,
        identity: Identity,
        (sender, inputs): (Sender<Input>, Receiver<Input>),
        commits: Sender<Commit>,
        board: Arc<Board>,
    ) -> Self {
        Coordination {
            coordinator,
            identity,
            inputs,
            sender,
            commits,
            outlets: BTreeMap::new(),
            writers: Writers::new(),
            observers: BTreeSet::new(),
            next_peer: 1,
            board,
            shown: Progress::default(),
            refreshed: Instant::now(),
        }
    }

    /// Works until the job or the generation is over. All connections are closed at the end.
    pub fn run(mut self, begin: Instant) -> Ended {
        let mut ticked = Instant::now();
        let ended = loop {
            let event = match self.inputs.recv_timeout(REFRESH) {
                Ok(Input::Event(event)) => event,
                Ok(Input::Connected(connection, role)) => {
                    self.connected(connection, role);
                    continue;
                }
                Ok(Input::Local(sender)) => {
                    self.outlets.insert(LOCAL, Outlet::Local(sender));
                    continue;
                }
                Ok(Input::Terminate) => Event::Message(LOCAL, ToCoordinator::Drain),
                Err(RecvTimeoutError::Timeout) => Event::Tick,
                // We hold a sender ourselves.
                Err(RecvTimeoutError::Disconnected) => break Ended::Finished(Outcome::Drained),
            };
            if let Event::Closed(peer) = event {
                self.close(peer);
            }
            let mut actions = self.coordinator.handle(begin.elapsed(), event);
            if ticked.elapsed() >= REFRESH {
                // Time must pass for the state machine also when there is always something to do.
                ticked = Instant::now();
                actions.extend(self.coordinator.handle(begin.elapsed(), Event::Tick));
            }
            if actions
                .iter()
                .any(|action| matches!(action, Action::Finish(_)))
            {
                // Observers learn where the job ended before they are released.
                self.refresh(true);
            }
            if let Some(ended) = self.carry_out(actions) {
                break ended;
            }
            self.refresh(false);
        };
        self.refresh(true);
        let remote = |outlet| match outlet {
            Outlet::Remote(outlet) => Some(outlet),
            Outlet::Local(_) => None,
        };
        let outlets = self.outlets.into_values().filter_map(remote).collect();
        self.writers.finish(outlets);
        ended
    }

    fn connected(&mut self, connection: Connection, role: Role) {
        let peer = PeerId(self.next_peer);
        self.next_peer += 1;
        // The state machine minds who is silent once it knows them; this bound is only against leaks.
        let Ok((sender, receiver)) = connection.control(self.identity, SILENCE) else {
            return;
        };
        let Ok(outlet) = self.writers.outlet(sender) else {
            return;
        };
        let inputs = self.sender.clone();
        let listening = std::thread::Builder::new().spawn(move || {
            let tell = |event| inputs.send(Input::Event(event)).is_ok();
            match listen(receiver, |message| tell(Event::Message(peer, message))) {
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    tracing::warn!(?role, %error, "a message cannot be decoded");
                    let error = error.to_string();
                    tell(Event::Undecodable { peer, role, error });
                }
                _ => {
                    tell(Event::Closed(peer));
                }
            }
        });
        if listening.is_err() {
            return; // out of threads: the connection is dropped
        }
        // What it hears comes in after this.
        self.outlets.insert(peer, Outlet::Remote(outlet));
        if role == Role::Observer {
            self.observers.insert(peer);
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>) -> Option<Ended> {
        let mut ended = None;
        for action in actions {
            match action {
                Action::Send(peer, message) => self.send(peer, message),
                Action::Close(peer) => self.close(peer),
                Action::Commit(commit) => {
                    let _ = self.commits.send(*commit);
                }
                Action::Regenerate(generation) => ended = Some(Ended::Regenerated(generation)),
                Action::Finish(outcome) => ended = Some(Ended::Finished(outcome)),
            }
        }
        ended
    }

    fn send(&mut self, peer: PeerId, message: FromCoordinator) {
        let sent = match self.outlets.get(&peer) {
            Some(Outlet::Remote(outlet)) => outlet.send(message),
            Some(Outlet::Local(sender)) => sender.send(message).is_ok(),
            None => return,
        };
        if !sent {
            self.close(peer);
            let _ = self.sender.send(Input::Event(Event::Closed(peer)));
        }
    }

    fn close(&mut self, peer: PeerId) {
        self.observers.remove(&peer);
        self.outlets.remove(&peer); // ends the connection after what was sent
    }

    /// Shows progress, if it has changed, at a bounded rate.
    fn refresh(&mut self, now: bool) {
        if !now && self.refreshed.elapsed() < REFRESH {
            return;
        }
        self.refreshed = Instant::now();
        let progress = self.coordinator.progress();
        if progress == self.shown {
            return;
        }
        self.board.write(progress.clone());
        for peer in self.observers.clone() {
            self.send(peer, FromCoordinator::Progress(Box::new(progress.clone())));
        }
        self.shown = progress;
    }
}
