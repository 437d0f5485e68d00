//! Exit codes, the same for every command and role.

use anyhow::{Result, anyhow};
use trainyard_core::control::Release;

/// How a process ends.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: an error that trying again will not mend.
    Error,
    /// 2: bad usage or bad input.
    BadInput,
    /// 75: try again (`EX_TEMPFAIL`).
    TryAgain,
    /// 130: interrupted, with everything checkpointed.
    Interrupted,
}

impl Exit {
    /// The number the process ends with.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Error => 1,
            Exit::BadInput => 2,
            Exit::TryAgain => 75,
            Exit::Interrupted => 130,
        }
    }

    /// How a released process ends.
    ///
    /// # Errors
    /// The message of a failed job.
    pub fn of(release: Release) -> Result<Exit> {
        match release {
            Release::Done | Release::Drained | Release::Stopped => Ok(Exit::Done),
            Release::Failed { message } => Err(anyhow!(message)),
        }
    }
}

/// From now on a panic of any thread ends the process with 101: half a server or worker would go on
/// saying that it is alive, and nobody would replace it.
pub fn on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(101);
    }));
}

/// Marks an error as the user's to mend: exit code 2.
#[derive(Debug)]
pub struct BadInput(pub String);

impl std::fmt::Display for BadInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}
