//! The session that a worker's threads share: core's state machine behind a lock.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use trainyard_core::control::{FromCoordinator, ToCoordinator};
use trainyard_core::session::{Admission, Ending, Next, Session};
use trainyard_core::shard::Held;
use trainyard_core::tree::{Node, Tree};

/// A [`Session`] that threads change, and wait on for each other.
#[derive(Debug)]
pub struct Board {
    session: Mutex<Session>,
    changed: Condvar,
    /// Not the same as `changed`, whose waiters are woken many times a step.
    ended: Condvar,
}

impl Board {
    /// A board for a model of `chunks` chunks.
    pub fn new(tree: Tree, chunks: u32) -> Self {
        Board {
            session: Mutex::new(Session::new(tree, chunks)),
            changed: Condvar::new(),
            ended: Condvar::new(),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Session) -> T) -> T {
        let mut session = self.session.lock();
        let result = change(&mut session);
        if session.ended().is_some() {
            self.ended.notify_all();
        }
        drop(session);
        self.changed.notify_all();
        result
    }

    /// Ends the session; the first reason stands.
    pub fn end(&self, ending: Ending) {
        self.change(|session| session.end(ending));
    }

    /// Ends the session when what is returned is dropped, after a panic too: other threads must not wait
    /// for this one.
    pub fn end_on_drop(&self) -> impl Drop {
        scopeguard::guard(self, |board| {
            board.end(Ending::Lost("its thread has ended".into()));
        })
    }

    /// Whether the session has ended.
    pub fn is_over(&self) -> bool {
        self.session.lock().ended().is_some()
    }

    /// How the session has ended, if it has.
    pub fn ending(&self) -> Option<Ending> {
        self.session.lock().ended().cloned()
    }

    /// Waits for the session's end, with a limit if there is one; returns whether it has ended.
    pub fn wait_for_end(&self, limit: Option<Duration>) -> bool {
        let end = limit.map(|limit| Instant::now() + limit);
        let mut session = self.session.lock();
        while session.ended().is_none() {
            match end {
                None => self.ended.wait(&mut session),
                Some(end) if self.ended.wait_until(&mut session, end).timed_out() => break,
                Some(_) => {}
            }
        }
        session.ended().is_some()
    }

    /// Takes a message of the coordinator. The answer, if it wants one, is to be sent.
    pub fn take(&self, message: FromCoordinator) -> Option<ToCoordinator> {
        self.change(|session| session.take(message))
    }

    /// The control stream is gone.
    pub fn orphaned(&self) {
        self.change(Session::orphaned);
    }

    /// The coordinator of this generation has welcomed this worker.
    pub fn welcomed(&self) {
        self.change(Session::welcomed);
    }

    /// Waits for something to do.
    pub fn next(&self) -> Next {
        let mut session = self.session.lock();
        loop {
            if let Some(next) = session.due() {
                return next;
            }
            self.changed.wait(&mut session);
        }
    }

    /// See [`Session::connect`].
    pub fn connect(&self, lanes: usize) {
        self.change(|session| session.connect(lanes));
    }

    /// See [`Session::computed`].
    pub fn computed(&self) {
        self.change(Session::computed);
    }

    /// See [`Session::failed`].
    pub fn failed(&self, verdict: ToCoordinator) {
        self.change(|session| session.failed(verdict));
    }

    /// See [`Session::owes`].
    pub fn owes(&self, lane: usize, step: u64, node: Node) -> Option<u64> {
        self.session.lock().owes(lane, step, node)
    }

    /// See [`Session::pushed`].
    pub fn pushed(&self, lane: usize, life: u64, step: u64, node: Node) {
        self.session.lock().pushed(lane, life, step, node);
    }

    /// See [`Session::push_opened`].
    pub fn push_opened(&self, lane: usize) -> u64 {
        self.change(|session| session.push_opened(lane))
    }

    /// See [`Session::push_lost`].
    pub fn push_lost(&self, lane: usize, life: u64) {
        self.change(|session| session.push_lost(lane, life));
    }

    /// Asks where an arriving chunk goes; waits while its arena is computed on, so never gives
    /// [`Admission::Wait`].
    pub fn admit(&self, version: u64, chunk: u32) -> Admission {
        let mut session = self.session.lock();
        loop {
            match session.admit(version, chunk) {
                Admission::Wait => self.changed.wait(&mut session),
                admission => return admission,
            }
        }
    }

    /// An admitted chunk has been received.
    pub fn received(&self, version: u64, chunk: u32) {
        if self.session.lock().received(version, chunk) {
            self.changed.notify_all();
        }
    }

    /// See [`Session::held`].
    pub fn held(&self, chunks: &[u32]) -> Held {
        self.session.lock().held(chunks)
    }
}
