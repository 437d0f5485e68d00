//! SIGTERM and SIGINT as requests: the first asks to leave in order, the second ends at once.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use anyhow::Result;
use parking_lot::{Mutex, MutexGuard};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use trainyard_core::control::ToCoordinator;

use crate::exit::ExitCode;
use crate::net::ControlSender;

type Listener = Box<dyn Fn() + Send>;

#[derive(Default)]
struct State {
    requested: bool,
    listener: Option<Listener>,
    before_exit: Option<Listener>,
}

/// Whether and by whom termination is waited for.
#[derive(Clone, Default)]
pub struct Termination(Arc<Mutex<State>>);

impl Termination {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// Whether termination was asked for.
    pub fn requested(&self) -> bool {
        self.lock().requested
    }

    /// Calls `listener` when termination is asked for, at once if it was already. Replaces the
    /// listener before.
    pub fn listen(&self, listener: impl Fn() + Send + 'static) {
        let mut state = self.lock();
        if state.requested {
            listener();
        }
        state.listener = Some(Box::new(listener));
    }

    /// Sends a message to a thread when termination is asked for.
    pub fn forward<T: Send + 'static>(
        &self,
        to: Sender<T>,
        message: impl Fn() -> T + Send + 'static,
    ) {
        self.listen(move || drop(to.send(message())));
    }

    /// Asks a coordinator for release when termination is asked for.
    pub fn send_drain(&self, to: Arc<ControlSender>) {
        self.listen(move || drop(to.send(&ToCoordinator::Drain)));
    }

    /// Calls `clean_up` before the second signal ends the process.
    pub fn before_exit(&self, clean_up: impl Fn() + Send + 'static) {
        self.lock().before_exit = Some(Box::new(clean_up));
    }

    /// Forgets the listener.
    pub fn clear(&self) {
        self.lock().listener = None;
    }

    fn request(&self) {
        let mut state = self.lock();
        state.requested = true;
        if let Some(listener) = &state.listener {
            listener();
        }
    }
}

/// Begins to catch SIGTERM and SIGINT. The second signal ends the process at once.
///
/// # Errors
/// If the handlers cannot be installed.
pub fn termination() -> Result<Termination> {
    let termination = Termination::default();
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let shared = termination.clone();
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if shared.requested() {
                if let Some(clean_up) = &shared.lock().before_exit {
                    clean_up();
                }
                std::process::exit(ExitCode::Interrupted.code().into());
            }
            shared.request();
        }
    });
    Ok(termination)
}
