//! How errors, releases and panics become exit codes.

use anyhow::{Result, anyhow};
use trainyard_core::control::Release;

pub use trainyard_contract::ExitCode;

/// How a process ends that has met this error.
pub fn of_error(error: &anyhow::Error) -> ExitCode {
    use trainyard_checkpoint::{Error, StorageError};
    let away = |error: &StorageError| matches!(error, StorageError::Store { again: true, .. });
    let passing = |cause: &(dyn std::error::Error + 'static)| match cause.downcast_ref() {
        Some(Error::Fenced { .. }) => true,
        Some(Error::Storage(error)) => away(error),
        _ => cause.downcast_ref().is_some_and(away),
    };
    if error.is::<BadInput>() {
        ExitCode::BadInput
    } else if error.is::<TryAgain>() || error.chain().any(passing) {
        ExitCode::TryAgain
    } else {
        ExitCode::Error
    }
}

/// How a released process ends.
///
/// # Errors
/// The message of a failed job.
pub fn of_release(release: Release) -> Result<ExitCode> {
    match release {
        Release::Done | Release::Drained | Release::Stopped => Ok(ExitCode::Done),
        Release::Failed { message } => Err(anyhow!(message)),
    }
}

/// The coordinator sends this process away; `again` is whether another in its place is welcome.
pub fn refused(reason: String, again: bool) -> anyhow::Error {
    match again {
        true => TryAgain(reason).into(),
        false => anyhow!(reason),
    }
}

/// The last error that a process of ours wrote, from its log.
pub fn last_error(log: &str) -> Option<String> {
    let (_, message) = log
        .rsplit_once("\nerror: ")
        .or_else(|| log.split_once("error: "))?;
    Some(message.trim_end().to_owned())
}

/// From now on a panic of any thread ends the process with [`ExitCode::Panic`]: half a server or worker would go on
/// saying that it is alive, and nobody would replace it.
pub fn on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(ExitCode::Panic.code().into());
    }));
}

/// Marks an error as the user's to mend: [`ExitCode::BadInput`].
#[derive(Debug)]
pub struct BadInput(pub String);

impl std::fmt::Display for BadInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}

/// Marks an error that another attempt may mend: [`ExitCode::TryAgain`].
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
        of_error(&error.expect_err("an error")).code()
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
