//! The last words of a process: its termination message, as Kubernetes keeps it.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use trainyard_core::manifest::{CoordinatorState, FinalMetrics, Manifest};

use crate::exit::Exit;
use crate::job::Job;

/// Longest message that Kubernetes keeps, in bytes.
pub const LIMIT: usize = 4096;

/// How a role ended.
#[derive(Clone, Debug)]
pub enum Ended {
    /// Server 0, with the job done.
    Complete(Box<Finished>),
    /// Anyone else.
    Left(Exit),
}

impl Ended {
    /// How the process ends.
    pub fn exit(&self) -> Exit {
        match self {
            Ended::Complete(_) => Exit::Done,
            Ended::Left(exit) => *exit,
        }
    }
}

/// What server 0 says of a finished job.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finished {
    complete: bool,
    /// Steps done.
    pub step: u64,
    /// Steps planned; early stopping may do fewer.
    pub total_steps: u64,
    /// Epochs done.
    pub epochs: u64,
    /// Digest of the model.
    pub model_sha256: String,
    /// Where the artifact is.
    pub artifact: String,
    /// Metrics of the model; those that are not finite are absent.
    pub metrics: FinalMetrics,
}

impl Finished {
    /// What the complete manifest of a job says.
    ///
    /// # Errors
    /// If the manifest is damaged.
    pub fn of(job: &Job, manifest: &Manifest, artifact: String) -> Result<Self> {
        let CoordinatorState { record, metrics } = manifest.coordinator.clone();
        let plan = job.plan(manifest.facts.train_rows)?;
        Ok(Finished {
            complete: true,
            step: record.step,
            total_steps: plan.total_steps(),
            epochs: plan.position(record.step).epoch,
            model_sha256: manifest.model_sha256.clone().unwrap_or_default(),
            artifact,
            metrics: metrics.context("the final checkpoint has no metrics")?,
        })
    }
}

/// The message of a role that ended so; none where there is nothing to say.
pub fn message(ended: &Result<Ended>) -> Option<String> {
    let text = match ended {
        Ok(Ended::Left(_)) => return None,
        // Cut, this is no JSON; but only an address of thousands of bytes makes it so long.
        Ok(Ended::Complete(finished)) => serde_json::to_string(finished).ok()?,
        Err(error) => format!("{error:#}"),
    };
    Some(cut(text))
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LIMIT));
    text
}

/// Writes the message to `file`. That it cannot be written changes nothing about how the process
/// ends.
pub fn write(file: &Path, ended: &Result<Ended>) {
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
    use trainyard_core::metrics::Metrics;

    fn finished() -> Finished {
        let train = Metrics {
            loss: Some(f64::NAN),
            accuracy: Some(0.5),
            ..Metrics::default()
        };
        Finished {
            complete: true,
            step: 150,
            total_steps: 300,
            epochs: 10,
            model_sha256: "ab".repeat(32),
            artifact: "s3://bucket/runs/digits-01234567/artifact".into(),
            metrics: FinalMetrics {
                train,
                validation: Metrics::default(),
            },
        }
    }

    #[test]
    fn a_finished_job_is_told_as_json_without_what_is_not_finite() {
        let text = message(&Ok(Ended::Complete(Box::new(finished())))).expect("a message");
        assert_eq!(
            text,
            format!(
                concat!(
                    r#"{{"complete":true,"step":150,"totalSteps":300,"epochs":10,"modelSha256":"{}","#,
                    r#""artifact":"s3://bucket/runs/digits-01234567/artifact","#,
                    r#""metrics":{{"train":{{"accuracy":0.5}},"validation":{{}}}}}}"#
                ),
                "ab".repeat(32)
            )
        );
    }

    #[test]
    fn an_error_is_told_in_full_and_cut_between_characters() {
        let told = |text: String| message(&Err(anyhow!(text))).expect("a message");
        let error = anyhow!("connection refused").context("no coordinator");
        assert_eq!(
            message(&Err(error)).as_deref(),
            Some("no coordinator: connection refused")
        );
        assert_eq!(told("x".repeat(LIMIT + 1)), "x".repeat(LIMIT));
        assert_eq!(told("ä".repeat(LIMIT)), "ä".repeat(LIMIT / 2));
        assert_eq!(told(format!("x{}", "ä".repeat(LIMIT))).len(), LIMIT - 1);
    }

    #[test]
    fn whoever_is_released_says_nothing() {
        assert_eq!(message(&Ok(Ended::Left(Exit::Done))), None);
    }
}
