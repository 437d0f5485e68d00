//! Starts the finisher: the process that exports the artifact of a finished job. It reads the complete
//! checkpoint and writes beside it, so its failures do the job no harm.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use trainyard_runtime::exit::{BadInput, ExitCode, TryAgain, last_error};
use trainyard_runtime::storage::Location;

use crate::run::process;
use crate::torch_program::TorchProgram;

/// How often it is tried.
const ATTEMPTS: u32 = 3;
/// The wait before the second attempt; it doubles.
const WAIT: Duration = Duration::from_secs(1);
/// The end of its log that is kept to find the reason of a failure, in bytes.
const LOG_LIMIT: u64 = 1 << 20;

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
    /// that fails. What the finisher says goes to `log`.
    ///
    /// # Errors
    /// The reason of the last failure, marked by who can fix it.
    pub fn run(
        &self,
        place: &Location,
        env: &[(&'static str, String)],
        log: &mut dyn Write,
    ) -> Result<()> {
        let mut wait = WAIT;
        for attempt in 1.. {
            let Err(error) = self.attempt(place, env, log) else {
                return Ok(());
            };
            if attempt == ATTEMPTS || error.is::<BadInput>() {
                return Err(error);
            }
            let _ = writeln!(
                log,
                "the export failed and is repeated in {wait:?}: {error:#}"
            );
            sleep(wait);
            wait *= 2;
        }
        Ok(())
    }

    fn attempt(
        &self,
        place: &Location,
        env: &[(&'static str, String)],
        log: &mut dyn Write,
    ) -> Result<()> {
        let mut child = self
            .command(place, env)
            .spawn()
            .context("the finisher cannot be started")?;
        let mut said = Vec::new();
        if let Some(stderr) = child.stderr.take() {
            stderr.take(LOG_LIMIT).read_to_end(&mut said)?;
        }
        let status = child.wait()?;
        let _ = log.write_all(&said);
        if status.success() {
            return Ok(());
        }
        let reason = last_error(&String::from_utf8_lossy(&said))
            .unwrap_or_else(|| format!("it ended with {}", process::describe(status)));
        Err(match status.code().and_then(ExitCode::of) {
            Some(ExitCode::BadInput) => BadInput(reason).into(),
            Some(ExitCode::TryAgain) => TryAgain(reason).into(),
            _ => anyhow!(reason),
        })
    }

    fn command(&self, place: &Location, env: &[(&'static str, String)]) -> Command {
        let mut command = self.program.command();
        command
            .arg("finisher")
            .arg(format!("--supervised={}", std::process::id()))
            .arg("--job")
            .arg(&self.job)
            .arg("--storage")
            .arg(place.to_string())
            .envs(env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }
}
