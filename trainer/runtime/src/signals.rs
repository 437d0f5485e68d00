//! SIGTERM, SIGINT and SIGHUP as requests: the first asks to leave in order, or ends the process where there is nothing to
//! be put in order; the second ends it at once.

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

/// What the first request leads to.
enum Answer {
    /// Somebody is told, who ends the process in order.
    Tell(Listener),
    /// The process ends: nothing of it is to be finished.
    Leave(ExitCode),
}

#[derive(Default)]
struct State {
    requested: Option<Instant>,
    /// Whether the first request was SIGINT.
    is_interrupt: bool,
    answer: Option<Answer>,
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

    /// Whether the first request was SIGINT, which mostly a person sends.
    pub fn was_interrupt(&self) -> bool {
        self.lock().is_interrupt
    }

    /// Calls `listener` when termination is asked for, at once if it was already. Replaces the
    /// answer before.
    pub fn listen(&self, listener: impl Fn() + Send + 'static) {
        let mut state = self.lock();
        if state.requested.is_some() {
            listener();
        }
        state.answer = Some(Answer::Tell(Box::new(listener)));
    }

    /// Ends the process with `code` when termination is asked for, at once if it was already, wherever
    /// its threads are: for waits that no message can end. Replaces the answer before.
    pub fn leave_at_once(&self, code: ExitCode) {
        let mut state = self.lock();
        if state.requested.is_some() {
            state.end(code);
        }
        state.answer = Some(Answer::Leave(code));
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

    /// Calls `clean_up` before a signal ends the process at once.
    pub fn before_exit(&self, clean_up: impl Fn() + Send + 'static) {
        self.lock().before_exit = Some(Box::new(clean_up));
    }

    /// Forgets the answer: the first request is only remembered.
    pub fn clear(&self) {
        self.lock().answer = None;
    }
}

impl State {
    /// Takes a request at `now`; returns how the process is to end, if it is to end at once.
    fn request(&mut self, now: Instant) -> Option<ExitCode> {
        if let Some(first) = self.requested {
            let again = now.saturating_duration_since(first) >= TOGETHER;
            return again.then_some(ExitCode::Interrupted);
        }
        self.requested = Some(now);
        match &self.answer {
            Some(Answer::Tell(listener)) => listener(),
            Some(Answer::Leave(code)) => return Some(*code),
            None => {}
        }
        None
    }

    /// Cleans up and ends the process.
    fn end(&self, code: ExitCode) -> ! {
        if let Some(clean_up) = &self.before_exit {
            clean_up();
        }
        leave(code)
    }
}

/// Ends the process. Not as `std::process::exit` does: the destructors of libraries would run beside threads that
/// still compute.
pub fn leave(code: ExitCode) -> ! {
    signal_hook::low_level::exit(code.code().into())
}

/// Ends the process if it is still there after `patience`: what it waits for before it leaves may be stuck.
pub fn leave_within(patience: Duration, code: ExitCode) {
    std::thread::spawn(move || {
        std::thread::sleep(patience);
        leave(code);
    });
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
        for signal in signals.forever() {
            let mut state = shared.lock();
            state.is_interrupt |= state.requested.is_none() && signal == SIGINT;
            if let Some(code) = state.request(Instant::now()) {
                state.end(code);
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
        let request = |milliseconds| termination.lock().request(at(milliseconds));
        assert_eq!(request(0), None);
        assert!(termination.requested());
        assert_eq!(request(1), None);
        assert_eq!(request(499), None);
        assert_eq!(request(500), Some(ExitCode::Interrupted));
    }

    #[test]
    fn t12_whoever_has_nothing_to_finish_ends_with_its_own_code_until_it_has() {
        let now = Instant::now();
        let termination = Termination::default();
        termination.leave_at_once(ExitCode::TryAgain);
        assert_eq!(
            termination.lock().request(now),
            Some(ExitCode::TryAgain),
            "the first request"
        );
        let termination = Termination::default();
        let (sender, told) = std::sync::mpsc::channel();
        termination.leave_at_once(ExitCode::TryAgain);
        termination.forward(sender, || "told");
        assert_eq!(termination.lock().request(now), None, "it is told instead");
        assert_eq!(told.try_recv(), Ok("told"));
    }

    #[test]
    fn t12_a_request_before_anybody_listens_is_told_to_who_listens_next() {
        let termination = Termination::default();
        termination.leave_at_once(ExitCode::Interrupted);
        termination.clear();
        assert_eq!(
            termination.lock().request(Instant::now()),
            None,
            "remembered"
        );
        let (sender, told) = std::sync::mpsc::channel();
        termination.forward(sender, || "told");
        assert_eq!(told.try_recv(), Ok("told"));
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
