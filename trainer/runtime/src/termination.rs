//! The last words of a process: its termination message, as Kubernetes keeps it.

use std::path::Path;

use anyhow::{Context, Result};
use trainyard_contract::{ExportReport, Report, cut_termination_message};
use trainyard_core::manifest::{CoordinatorState, FinalMetrics, Manifest, Reports};

use crate::exit::ExitCode;
use crate::job::Job;

/// How a role ended.
#[derive(Clone, Debug)]
pub enum Ended {
    /// Server 0, with the job done.
    Complete(Box<Report>),
    /// The finisher, with the whole artifact there.
    Exported(ExportReport),
    /// Anyone else.
    Left(ExitCode),
}

impl Ended {
    /// How the process ends.
    pub fn exit(&self) -> ExitCode {
        match self {
            Ended::Complete(_) | Ended::Exported(_) => ExitCode::Done,
            Ended::Left(exit) => *exit,
        }
    }
}

/// What server 0 says of a finished job, from its complete manifest.
///
/// # Errors
/// If the manifest is damaged.
pub fn report(job: &Job, manifest: &Manifest) -> Result<Report> {
    let CoordinatorState { record, metrics } = manifest.coordinator.clone();
    let plan = job.plan(manifest.facts.train_rows)?;
    Ok(Report {
        complete: true,
        step: record.step,
        total_steps: plan.total_steps(),
        epochs: plan.position(record.step).epoch,
        model_sha256: manifest.model_sha256.clone(),
        artifact: None, // not yet
        metrics: FinalMetrics {
            // Reports are long, and in the artifact.
            reports: Reports::default(),
            ..metrics.context("the final checkpoint has no metrics")?
        },
        warnings: Vec::new(),
    })
}

/// The message of a role that ended so; none where there is nothing to say.
pub fn message(ended: &Result<Ended>) -> Option<String> {
    let text = match ended {
        Ok(Ended::Left(_)) => return None,
        // Cut, this is no JSON; but only an address of thousands of bytes makes it so long.
        Ok(Ended::Complete(report)) => report.to_message(),
        Ok(Ended::Exported(report)) => report.to_message(),
        Err(error) => format!("{error:#}"),
    };
    Some(cut_termination_message(text))
}

/// How a role's process ends, which leaves its message in `file`, if one is asked for.
///
/// # Errors
/// The role's own.
pub fn leave(file: Option<&Path>, ended: Result<Ended>) -> Result<ExitCode> {
    if let Some(file) = file {
        write(file, &ended);
    }
    ended.map(|ended| ended.exit())
}

/// Writes the message to `file`. That it cannot be written changes nothing about how the process
/// ends.
fn write(file: &Path, ended: &Result<Ended>) {
    let Some(message) = message(ended) else {
        return;
    };
    if let Err(error) = std::fs::write(file, message) {
        tracing::warn!(%error, file = %file.display(), "the termination message cannot be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;
    use trainyard_contract::TERMINATION_MESSAGE_LIMIT;

    #[test]
    fn a_finished_job_is_told_as_a_report() {
        let report = Report {
            complete: true,
            step: 150,
            ..Report::default()
        };
        let ended = Ok(Ended::Complete(Box::new(report.clone())));
        let text = message(&ended).expect("a message");
        assert_eq!(Report::from_message(&text), Some(report));
    }

    #[test]
    fn an_export_is_told_as_a_report() {
        let report = ExportReport {
            exported: true,
            artifact: "s3://bucket/runs/digits-01234567/artifact".into(),
        };
        let text = message(&Ok(Ended::Exported(report.clone()))).expect("a message");
        assert_eq!(ExportReport::from_message(&text), Some(report));
    }

    #[test]
    fn an_error_is_told_in_full_and_cut() {
        let error = anyhow!("connection refused").context("no coordinator");
        assert_eq!(
            message(&Err(error)).as_deref(),
            Some("no coordinator: connection refused")
        );
        let long = message(&Err(anyhow!("x".repeat(TERMINATION_MESSAGE_LIMIT + 1))));
        assert_eq!(long, Some("x".repeat(TERMINATION_MESSAGE_LIMIT)));
    }

    #[test]
    fn whoever_is_released_says_nothing() {
        assert_eq!(message(&Ok(Ended::Left(ExitCode::Done))), None);
    }
}
