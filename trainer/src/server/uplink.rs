//! What a server says to its coordinator, whichever stream is in force.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use trainyard_core::control::ToCoordinator;
use trainyard_core::coordinator::{Event, PeerId};

use super::coordination::Input;
use crate::net::ControlSender;

/// Where messages go.
#[derive(Default)]
pub enum Target {
    /// Nowhere: the stream is lost; what matters is said again on the next.
    #[default]
    None,
    /// A coordinator elsewhere.
    Remote(Arc<ControlSender>),
    /// The coordinator in this process.
    Local(Sender<Input>),
}

/// Sends to the coordinator in force and remembers what must not be lost.
#[derive(Default)]
pub struct Uplink(Mutex<State>);

#[derive(Default)]
struct State {
    target: Target,
    written: Option<ToCoordinator>,
}

impl Uplink {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on messages go to `target`.
    pub fn connect(&self, target: Target) {
        self.lock().target = target;
    }

    /// Forgets what was said: the generation is over.
    pub fn forget(&self) {
        *self.lock() = State::default();
    }

    /// Says something. A broken stream is noticed by whoever listens to it.
    pub fn send(&self, message: ToCoordinator) {
        let mut state = self.lock();
        if matches!(message, ToCoordinator::ShardWritten { .. }) {
            state.written = Some(message.clone());
        }
        state.deliver(message);
    }

    /// Says again which shard was written last.
    pub fn repeat(&self) {
        let state = self.lock();
        if let Some(written) = state.written.clone() {
            state.deliver(written);
        }
    }
}

impl State {
    fn deliver(&self, message: ToCoordinator) {
        match &self.target {
            Target::None => {}
            Target::Remote(sender) => drop(sender.send(&message)),
            Target::Local(inputs) => drop(inputs.send(Input::Event(Event::Message(PeerId(0), message)))),
        }
    }
}
