//! What a server says to its coordinator in one generation, whichever stream is in force.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use parking_lot::{Mutex, MutexGuard};
use trainyard_core::control::ToCoordinator;
use trainyard_core::coordinator::{Event, PeerId, Reports};
use trainyard_runtime::net::ControlSender;

use super::coordination::Input;

/// Where messages go.
#[derive(Default)]
pub enum Target {
    /// Nowhere: there is no stream yet; what matters is said again on the next.
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
    reports: Option<Reports>,
    retired: bool,
}

impl Uplink {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// From now on messages go to `target`, unless the generation is over.
    pub fn connect(&self, target: Target) {
        let mut state = self.lock();
        if !state.retired {
            state.target = target;
        }
    }

    /// A shard is set up: from now on its reports are remembered.
    pub fn begin(&self, reports: Reports) {
        self.lock().reports = Some(reports);
    }

    /// The generation is over: nothing that is still said goes anywhere, ever.
    pub fn retire(&self) {
        *self.lock() = State {
            retired: true,
            ..State::default()
        };
    }

    /// Says something. A broken stream is noticed by whoever listens to it.
    pub fn send(&self, message: ToCoordinator) {
        let mut state = self.lock();
        if let ToCoordinator::ShardWritten { version, .. }
        | ToCoordinator::ShardFailed { version, .. } = &message
            && let Some(reports) = &mut state.reports
        {
            reports.keep(*version, message.clone());
        }
        state.deliver(message);
    }

    /// Says again what may have been lost with a stream.
    pub fn repeat(&self) {
        let state = self.lock();
        for report in state.reports.iter().flat_map(Reports::repeat) {
            state.deliver(report);
        }
    }
}

impl State {
    fn deliver(&self, message: ToCoordinator) {
        match &self.target {
            Target::None => {}
            Target::Remote(sender) => drop(sender.send(&message)),
            Target::Local(inputs) => {
                drop(inputs.send(Input::Event(Event::Message(PeerId(0), message))))
            }
        }
    }
}
