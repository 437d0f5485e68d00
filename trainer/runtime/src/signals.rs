//! SIGTERM, SIGINT and SIGHUP as requests: the first asks to leave in order, the second ends at once.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::Result;
use parking_lot::{Mutex, MutexGuard};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use trainyard_core::control::ToCoordinator;

use crate::exit::ExitCode;
use crate::net::ControlSender;

/// Requests that come so close together are one: a terminal, a shell and whatever wraps a program may
/// each send it, and a person who means "now" waits to see what the first has done.
const TOGETHER: Duration = Duration::from_millis(500);

type Listener = Box<dyn Fn() + Send>;

#[derive(Default)]
struct State {
    requested: Option<Instant>,
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
        self.lock().requested.is_some()
    }

    /// Calls `listener` when termination is asked for, at once if it was already. Replaces the
    /// listener before.
    pub fn listen(&self, listener: impl Fn() + Send + 'static) {
        let mut state = self.lock();
        if state.requested.is_some() {
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

    /// Takes a request at `now`; returns whether the process is to end at once.
    fn request(&self, now: Instant) -> bool {
        let mut state = self.lock();
        if let Some(first) = state.requested {
            return now.saturating_duration_since(first) >= TOGETHER;
        }
        state.requested = Some(now);
        if let Some(listener) = &state.listener {
            listener();
        }
        false
    }
}

/// Whether a process is to ignore a signal, by its `/proc/PID/status`.
fn ignores(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Begins to catch SIGTERM, SIGINT and, unless this process was started to ignore it (`nohup`), SIGHUP.
/// The second signal ends the process at once.
///
/// # Errors
/// If the handlers cannot be installed.
pub fn termination() -> Result<Termination> {
    let termination = Termination::default();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let hang_up = (!ignores(&status, SIGHUP)).then_some(SIGHUP);
    let mut signals = Signals::new([SIGTERM, SIGINT].into_iter().chain(hang_up))?;
    let shared = termination.clone();
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if shared.request(Instant::now()) {
                if let Some(clean_up) = &shared.lock().before_exit {
                    clean_up();
                }
                std::process::exit(ExitCode::Interrupted.code().into());
            }
        }
    });
    Ok(termination)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t12_requests_close_together_are_one() {
        let (termination, begin) = (Termination::default(), Instant::now());
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        assert!(!termination.request(at(0)));
        assert!(termination.requested());
        assert!(!termination.request(at(1)));
        assert!(!termination.request(at(499)));
        assert!(termination.request(at(500)));
    }

    #[test]
    fn t12_a_process_under_nohup_is_not_hung_up() {
        let status = "Name:\ttrainyard\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\n";
        assert!(ignores(status, SIGHUP));
        assert!(!ignores(status, SIGINT));
        assert!(!ignores("", SIGHUP));
        assert!(!ignores(&status.replace("1001", "1000"), SIGHUP));
    }
}
