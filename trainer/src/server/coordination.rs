//! The coordinator's shell: connections in, events to the state machine, actions out.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use trainyard_core::control::{FromCoordinator, Progress, Role, ToCoordinator};
use trainyard_core::coordinator::{Action, Commit, Coordinator, Event, Outcome, PeerId};
use trainyard_runtime::net::{Connection, ControlReceiver, Identity};

use super::hub::Counted;
use super::outlet::{self, Writers};

/// How often observers and `/status` are refreshed.
const REFRESH: Duration = Duration::from_millis(50);

/// How long the coordinator's thread may be at one thing: a message, and what follows from it.
const LIVELY: Duration = Duration::from_secs(30);

/// Longest silence of a connection before its thread gives it up. An observer says nothing.
const SILENCE: Duration = Duration::from_secs(24 * 3600);

/// Longest wait for a peer's first word.
const INTRODUCTION: Duration = Duration::from_secs(10);

/// What the coordinator's thread waits for.
pub enum Input {
    /// Something for the state machine.
    Event(Event),
    /// A peer has said something.
    Heard(PeerId, ToCoordinator, Waiting),
    /// A new control connection.
    Connected(Connection, Caller),
    /// Server 0 itself, in this process.
    Local(Sender<FromCoordinator>),
    /// The process is asked to terminate.
    Terminate,
}

/// Who has opened a control connection, as it has proved.
#[derive(Debug)]
pub struct Caller {
    /// Its role.
    pub role: Role,
    /// Which start of its process it is.
    pub incarnation: u64,
    /// Counts the connection for as long as it is open.
    pub counted: [Counted; 2],
}

/// Bytes of messages of one peer that may wait for the coordinator. A larger message waits alone.
const BACKLOG: usize = 1 << 20;

/// What a message costs beside its bytes.
const MESSAGE: usize = 1024;

/// Messages of a peer that may come at once, and in a second after that. Servers say more, a message a step; what
/// bounds them is the training itself.
const BURST: f64 = 2000.0;
const RATE: f64 = 200.0;

/// The messages of one peer that wait for the coordinator. Who sends more is read no further, so that a
/// flood stays in its own connection.
#[derive(Debug, Default)]
struct Backlog {
    bytes: Mutex<usize>,
    less: Condvar,
}

impl Backlog {
    /// Waits for room, and takes it.
    fn enter(self: &Arc<Self>, bytes: usize) -> Waiting {
        let mut waiting = self.bytes.lock();
        while *waiting > 0 && *waiting + bytes > BACKLOG {
            self.less.wait(&mut waiting);
        }
        *waiting += bytes;
        Waiting(Arc::clone(self), bytes)
    }
}

/// A message's room, given back when it is dropped.
#[derive(Debug)]
pub struct Waiting(Arc<Backlog>, usize);

impl Drop for Waiting {
    fn drop(&mut self) {
        *self.0.bytes.lock() -= self.1;
        self.0.less.notify_one();
    }
}

/// How a coordinator's session ended.
#[derive(Debug)]
pub enum Ended {
    /// Its work is over.
    Finished(Outcome),
    /// A peer brought this generation.
    Regenerated(u32),
}

/// What `/status`, `/metrics` and `/healthz` show.
#[derive(Debug, Default)]
pub struct Board {
    progress: Mutex<Progress>,
    /// When the coordinator last looked for something to do; none while there is no coordinator.
    turned: Mutex<Option<Instant>>,
}

impl Board {
    /// The latest progress.
    pub fn read(&self) -> Progress {
        self.progress.lock().clone()
    }

    fn write(&self, progress: Progress) {
        *self.progress.lock() = progress;
    }

    /// Whether the coordinator does something, if there is one.
    pub fn is_lively(&self) -> bool {
        let turned = *self.turned.lock();
        turned.is_none_or(|turned| turned.elapsed() < LIVELY)
    }

    /// The coordinator looks for something to do.
    fn turn(&self) {
        *self.turned.lock() = Some(Instant::now());
    }

    /// The coordinator's work is over.
    fn rest(&self) {
        *self.turned.lock() = None;
    }
}

enum Outlet {
    Remote(outlet::Outlet),
    Local(Sender<FromCoordinator>),
}

/// How fast a peer may speak: a burst, and a rate.
#[derive(Debug)]
struct Pace {
    left: f64,
    since: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Pace {
            left: BURST,
            since: now,
        }
    }

    /// Counts a message; returns how long to wait before the next is read.
    fn count(&mut self, now: Instant) -> Duration {
        let gained = RATE * now.saturating_duration_since(self.since).as_secs_f64();
        self.left = (self.left + gained).min(BURST) - 1.0;
        self.since = now;
        Duration::from_secs_f64((-self.left).max(0.0) / RATE)
    }
}

/// Receives messages of a peer until `tell` has had enough of them.
///
/// # Errors
/// Of the connection; [`ErrorKind::PermissionDenied`] for a peer that joins as another than it has proved to be.
fn listen(
    mut receiver: ControlReceiver,
    caller: &Caller,
    tell: impl Fn(ToCoordinator, Waiting) -> bool,
) -> std::io::Result<()> {
    let backlog = Arc::new(Backlog::default());
    let mut pace = Pace::new(Instant::now());
    let mut end = Some(Instant::now() + INTRODUCTION);
    loop {
        let (message, bytes) = receiver.receive_sized(end.take())?;
        if let ToCoordinator::Join(join) = &message
            && !join.is_by(caller.role, caller.incarnation)
        {
            let why = format!("{:?} joins as {:?}", caller.role, join.role);
            return Err(std::io::Error::new(ErrorKind::PermissionDenied, why));
        }
        if !matches!(caller.role, Role::Server(_)) {
            std::thread::sleep(pace.count(Instant::now()));
        }
        if !tell(message, backlog.enter(MESSAGE + bytes as usize)) {
            return Ok(());
        }
    }
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
            self.board.turn();
            let mut room = None;
            let event = match self.inputs.recv_timeout(REFRESH) {
                Ok(Input::Event(event)) => event,
                Ok(Input::Heard(peer, message, waiting)) => {
                    room = Some(waiting);
                    Event::Message(peer, message)
                }
                Ok(Input::Connected(connection, caller)) => {
                    self.connected(connection, caller);
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
            drop(room);
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
        self.board.rest();
        self.refresh(true);
        let remote = |outlet| match outlet {
            Outlet::Remote(outlet) => Some(outlet),
            Outlet::Local(_) => None,
        };
        let outlets = self.outlets.into_values().filter_map(remote).collect();
        self.writers.finish(outlets);
        ended
    }

    fn connected(&mut self, connection: Connection, caller: Caller) {
        let role = caller.role;
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
            let tell = |message, room| inputs.send(Input::Heard(peer, message, room)).is_ok();
            let event = match listen(receiver, &caller, tell) {
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    tracing::warn!(?role, %error, "a message cannot be decoded");
                    let error = error.to_string();
                    Event::Undecodable { peer, role, error }
                }
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    tracing::warn!(%error, "a peer was dropped");
                    Event::Closed(peer)
                }
                _ => Event::Closed(peer),
            };
            let _ = inputs.send(Input::Event(event));
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn t14_a_peer_may_say_a_burst_and_then_waits() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        for _ in 0..BURST as u32 {
            assert_eq!(pace.count(begin), Duration::ZERO);
        }
        let each = Duration::from_secs_f64(1.0 / RATE);
        assert_eq!(pace.count(begin), each);
        assert_eq!(pace.count(begin + 2 * each), Duration::ZERO);
        let later = begin + Duration::from_secs(3600);
        for _ in 0..BURST as u32 {
            assert_eq!(
                pace.count(later),
                Duration::ZERO,
                "no more than a burst is saved up"
            );
        }
        assert_eq!(pace.count(later), each);
    }

    #[test]
    fn t14_what_a_peer_says_waits_in_its_connection_and_not_in_memory() {
        let backlog = Arc::new(Backlog::default());
        let large = backlog.enter(5 * BACKLOG); // alone, whatever its size
        let (sender, entered) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..5 {
                    let room = backlog.enter(BACKLOG / 4);
                    sender.send(room).expect("it is heard");
                }
            });
            let (soon, limit) = (Duration::from_millis(50), Duration::from_secs(60));
            entered.recv_timeout(soon).expect_err("there is no room");
            drop(large);
            let next = || entered.recv_timeout(limit).expect("there is room");
            let mut taken: Vec<Waiting> = (0..4).map(|_| next()).collect();
            entered.recv_timeout(soon).expect_err("and no more");
            taken.pop();
            taken.push(next());
        });
        assert_eq!(*backlog.bytes.lock(), 0);
    }
}
