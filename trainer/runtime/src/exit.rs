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

    /// What a process's code means; none for codes that no process of ours ends with.
    pub fn of_code(code: i32) -> Option<Exit> {
        let all = [
            Exit::Done,
            Exit::Error,
            Exit::BadInput,
            Exit::TryAgain,
            Exit::Interrupted,
        ];
        all.into_iter().find(|exit| i32::from(exit.code()) == code)
    }

    /// How a process ends that has met this error.
    pub fn of_error(error: &anyhow::Error) -> Exit {
        use trainyard_checkpoint::{Error, StorageError};
        let away = |error: &StorageError| matches!(error, StorageError::Store { again: true, .. });
        let passing = |cause: &(dyn std::error::Error + 'static)| match cause.downcast_ref() {
            Some(Error::Fenced { .. }) => true,
            Some(Error::Storage(error)) => away(error),
            _ => cause.downcast_ref().is_some_and(away),
        };
        if error.is::<BadInput>() {
            Exit::BadInput
        } else if error.is::<TryAgain>() || error.chain().any(passing) {
            Exit::TryAgain
        } else {
            Exit::Error
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

/// The last error that a process of ours wrote, from its log.
pub fn last_error(log: &str) -> Option<String> {
    let (_, message) = log
        .rsplit_once("\nerror: ")
        .or_else(|| log.split_once("error: "))?;
    Some(message.trim_end().to_owned())
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

/// Marks an error that another attempt may mend: exit code 75.
#[derive(Debug)]
pub struct TryAgain(pub String);

impl std::fmt::Display for TryAgain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TryAgain {}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    fn code(error: impl std::error::Error + Send + Sync + 'static) -> u8 {
        let error = Err::<(), _>(error).context("in some context");
        Exit::of_error(&error.expect_err("an error")).code()
    }

    #[test]
    fn an_error_knows_whether_another_attempt_may_mend_it() {
        let fenced = trainyard_checkpoint::Error::Fenced {
            by: 3,
            holder: "another".into(),
        };
        assert_eq!(code(fenced), 75, "a newer generation exists");
        let store = |again| trainyard_checkpoint::StorageError::Store {
            path: "s3://runs".into(),
            problem: "it is away".into(),
            remedy: "wait".into(),
            again,
        };
        assert_eq!(code(store(true)), 75);
        assert_eq!(code(trainyard_checkpoint::Error::from(store(true))), 75);
        assert_eq!(code(store(false)), 1);
        assert_eq!(code(TryAgain("later".into())), 75);
        assert_eq!(code(BadInput("no such file".into())), 2);
        assert_eq!(code(trainyard_checkpoint::Error::NoLog), 1);
    }
}
