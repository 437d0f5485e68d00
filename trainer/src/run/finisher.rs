//! Starts the finisher: the process that exports the artifact of a finished job. It reads the complete
//! checkpoint and writes beside it, so its failures do the job no harm.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustix::process::Signal;
use trainyard_contract::{EXPORT_ATTEMPTS, doubled};
use trainyard_runtime::exit::{BadInput, ExitCode, TryAgain, last_error};
use trainyard_runtime::signals::Termination;
use trainyard_runtime::storage::Location;

use super::end;
use super::process::{self, Process};
use super::pulse::Pulse;
use super::stuck::LOOK;
use crate::torch_program::TorchProgram;

/// The wait before the second attempt; it doubles.
const WAIT: Duration = Duration::from_secs(1);
/// The longest wait before an attempt.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Bytes of the end of its log in which the reason of a failure is looked for.
const LOG_TAIL: usize = 1 << 16;

/// How an export ended that did not fail.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Exported {
    /// The artifact is there.
    Whole,
    /// The run was asked to stop.
    Stopped,
}

/// How a finisher is started.
#[derive(Debug)]
pub struct Finisher {
    /// The program.
    pub program: TorchProgram,
    /// The resolved job, as JSON.
    pub job: PathBuf,
}

impl Finisher {
    /// Finishes the job in the file `job`.
    ///
    /// # Errors
    /// If the program is missing.
    pub fn new(job: PathBuf) -> Result<Self> {
        Ok(Finisher {
            program: TorchProgram::find()?,
            job,
        })
    }

    /// Exports the artifact into the storage at `place`, which `env` gives access to. Tries again if
    /// that fails, and stops if `termination` is asked for. What the finisher says goes to `log`.
    ///
    /// # Errors
    /// The reason of the last failure, marked by who can fix it.
    pub fn run(
        &self,
        place: &Location,
        env: &[(&'static str, String)],
        log: &mut dyn Write,
        termination: &Termination,
    ) -> Result<Exported> {
        let mut failures = 0;
        loop {
            let Err(error) = self.attempt(place, env, log, termination) else {
                return Ok(Exported::Whole);
            };
            if termination.requested() {
                return Ok(Exported::Stopped);
            }
            failures += 1;
            if failures == EXPORT_ATTEMPTS || error.is::<BadInput>() {
                return Err(error);
            }
            let wait = doubled(WAIT, failures - 1, LONGEST_WAIT);
            let _ = writeln!(
                log,
                "the export failed and is repeated in {wait:?}: {error:#}"
            );
            let (sender, asked) = channel();
            termination.forward(sender, || ());
            if asked.recv_timeout(wait).is_ok() {
                return Ok(Exported::Stopped);
            }
        }
    }

    fn attempt(
        &self,
        place: &Location,
        env: &[(&'static str, String)],
        log: &mut dyn Write,
        termination: &Termination,
    ) -> Result<()> {
        let (pulse, alive) = Pulse::new(Instant::now())?;
        let mut command = self.command(place, env, alive.as_raw_fd())?;
        termination.clear(); // a request from here on is for the finisher, as soon as it is there
        let mut child = process::spawn(&mut command, &[alive.as_fd()])
            .context("the finisher cannot be started")?;
        let process = Arc::new(Process::of(&child));
        let asked = Arc::clone(&process);
        termination.listen(move || asked.signal(Signal::TERM));
        let stderr = child.stderr.take();
        let (running, over) = channel::<()>();
        let (said, status, frozen) = std::thread::scope(|scope| {
            let watching = scope.spawn(move || kill_if_frozen(&process, pulse, termination, &over));
            let said = stderr.map_or(Ok(Vec::new()), |stderr| pass_on(stderr, log));
            let status = child.wait();
            drop(running);
            (said, status, watching.join().unwrap_or_default())
        });
        termination.clear();
        let (said, status) = (said?, status?);
        if status.success() {
            return Ok(());
        }
        if frozen {
            return Err(anyhow!(
                "the finisher had done nothing at all for long, and was ended"
            ));
        }
        let reason = last_error(&String::from_utf8_lossy(&said))
            .unwrap_or_else(|| format!("it ended with {}", end::describe(status)));
        Err(match status.code().and_then(ExitCode::of) {
            Some(ExitCode::BadInput) => BadInput(reason).into(),
            Some(ExitCode::TryAgain) => TryAgain(reason).into(),
            _ => anyhow!(reason),
        })
    }

    fn command(
        &self,
        place: &Location,
        env: &[(&'static str, String)],
        alive: RawFd,
    ) -> Result<Command> {
        let job = process::as_argument(&self.job)?;
        let args = process::finisher_args(job, place.to_string(), alive);
        let mut command = self.program.command();
        command
            .args(args.to_args())
            .envs(env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // The terminal's Ctrl-C is for us; we tell it.
            .process_group(0);
        Ok(command)
    }
}

/// Kills a process that gives no sign that it runs, until it is over; returns whether it did.
fn kill_if_frozen(
    process: &Process,
    mut pulse: Pulse,
    termination: &Termination,
    over: &Receiver<()>,
) -> bool {
    while let Err(RecvTimeoutError::Timeout) = over.recv_timeout(LOOK) {
        let frozen = pulse.missing(Instant::now(), termination.requested());
        if frozen.is_some() {
            process.signal(Signal::KILL);
            return true;
        }
    }
    false
}

/// Passes on all that a process says, so that it never waits for a reader, and returns the end of it.
fn pass_on(mut from: impl Read, log: &mut dyn Write) -> io::Result<Vec<u8>> {
    let mut tail = Tail {
        log,
        end: Vec::new(),
    };
    io::copy(&mut from, &mut tail)?;
    Ok(tail.end)
}

/// Writes to a log and remembers the last [`LOG_TAIL`] bytes.
struct Tail<'a> {
    log: &'a mut dyn Write,
    end: Vec<u8>,
}

impl Write for Tail<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A log that cannot be written does not end the export.
        let _ = self.log.write_all(bytes);
        self.end.extend_from_slice(bytes);
        let excess = self.end.len().saturating_sub(LOG_TAIL);
        self.end.drain(..excess);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_passed_on_and_the_end_is_kept() {
        let said: Vec<u8> = (0..3 * LOG_TAIL).map(|at| at as u8).collect();
        let mut log = Vec::new();
        let end = pass_on(said.as_slice(), &mut log).expect("no error");
        assert_eq!(log, said);
        assert_eq!(end, said[2 * LOG_TAIL..]);
        assert_eq!(
            pass_on(&b"error: x"[..], &mut log).expect("no error"),
            b"error: x"
        );
    }
}
