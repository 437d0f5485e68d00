//! The end of a job, and what comes after it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use trainyard_contract::{Metric, Metrics};
use trainyard_crds::TrainingJobStatus;
use trainyard_crds::training_job::{CheckpointStatus, CleanPodPolicy, Phase};

use super::members::Failure;
use super::{Planner, Step, after, delete, delete_as_seen};
use crate::conditions::{self, ConditionState, types};
use crate::job::Retention;
use crate::observe::{PodSeen, Report};

impl Planner<'_> {
    /// Takes over what server 0 says of the complete training.
    pub(super) fn record(&mut self, report: &Report) {
        let progress = self.status.progress.get_or_insert_default();
        progress.step = report.step;
        progress.total_steps = report.total_steps.max(report.step);
        progress.epoch = u32::try_from(report.epochs).unwrap_or(u32::MAX);
        progress.validation = rounded_metrics(&report.metrics.validation);
        progress.test = rounded_metrics(&report.metrics.test);
        if let Some(loss) = report.metrics.train.loss.and_then(rounded) {
            progress.loss = Some(loss);
        }
        progress.time = Some(Time(self.now));
        self.status.checkpoint = Some(CheckpointStatus {
            step: report.step,
            time: Some(Time(self.now)),
        });
        self.status.model_sha256.clone_from(&report.model_sha256);
        self.warn(&report.warnings);
    }

    /// Ends a job whose training is complete: with its artifact, or with the reason why there is none.
    pub(super) fn succeed(&mut self, artifact: Result<String, Failure>) {
        let known = self.status.progress.as_ref();
        let (step, total) = known.map_or((0, 0), |known| (known.step, known.total_steps));
        let mut message = format!("trained {step} steps");
        if step < total {
            message += &format!(" of {total} (stopped early)");
        }
        if let Some(digest) = &self.status.model_sha256 {
            message += &format!("; modelSha256 {digest}");
        }
        match artifact {
            Ok(artifact) => {
                self.set_condition(types::ARTIFACT_READY, true, "Exported", &artifact);
                self.status.artifact = Some(artifact);
            }
            Err(Failure {
                reason,
                message: why,
            }) => {
                message += "; the artifact is not there: see the condition ArtifactReady";
                self.set_condition(types::ARTIFACT_READY, false, reason, &why);
            }
        }
        self.end(Phase::Succeeded, types::SUCCEEDED, "Complete", message);
    }

    pub(super) fn fail(&mut self, reason: &str, message: String) {
        self.end(Phase::Failed, types::FAILED, reason, message);
    }

    fn end(&mut self, phase: Phase, condition: &str, reason: &str, message: String) {
        self.members.forget_started();
        self.status.phase = Some(phase);
        self.status.completion_time = Some(Time(self.now));
        let state = ConditionState {
            status: true,
            reason,
            message,
        };
        conditions::set(
            &mut self.status.conditions,
            condition,
            state,
            self.job.generation,
            self.now,
        );
        self.steps.clear();
        self.requeue_after = None;
        self.after_the_end();
    }

    /// Cleans up after a job that has ended, and deletes it when its time has come. Nothing is created any more.
    pub(super) fn after_the_end(&mut self) {
        let retention = self.job.retention();
        let (steps, due) = clean_up(retention, &self.status, &self.observed.pods, self.now);
        self.steps.extend(steps);
        if let Some(due) = due {
            self.wake_at(due);
        }
    }
}

/// What is left to do for a job that has ended, and when to look again.
pub(super) fn clean_up(
    retention: Retention,
    status: &TrainingJobStatus,
    pods: &[PodSeen],
    now: Timestamp,
) -> (Vec<Step>, Option<Timestamp>) {
    let mut steps = clean_pods(retention.clean_pod_policy, pods.iter());
    let Some((ttl, end)) = retention.ttl.zip(status.completion_time.as_ref()) else {
        return (steps, None);
    };
    let due = after(end.0, ttl);
    if now < due {
        return (steps, Some(due));
    }
    steps.push(Step::DeleteJob);
    (steps, None)
}

/// The deletions of pods that are not needed any more.
pub(super) fn clean_pods<'a>(
    policy: CleanPodPolicy,
    pods: impl Iterator<Item = &'a PodSeen>,
) -> Vec<Step> {
    let goes = |pod: &&PodSeen| {
        pod.deletion.is_none()
            && match policy {
                CleanPodPolicy::All => true,
                CleanPodPolicy::Running => !pod.is_over(),
                // It has no logs, and would still take its place as soon as there is one.
                CleanPodPolicy::None => !pod.has_started(),
            }
    };
    let delete = match policy {
        CleanPodPolicy::None => delete_as_seen, // it may have begun since, and then it stays
        CleanPodPolicy::All | CleanPodPolicy::Running => delete,
    };
    pods.filter(goes).map(delete).collect()
}

/// A number for people: six significant digits, as the artifact has all of them. None if JSON cannot say it.
pub(super) fn rounded(value: f64) -> Option<f64> {
    value
        .is_finite()
        .then(|| format!("{value:.5e}").parse().unwrap_or(value))
}

/// Metrics for people.
pub(super) fn rounded_metrics(metrics: &Metrics) -> BTreeMap<String, f64> {
    let pair = |(metric, value): (Metric, f64)| Some((metric.name().to_owned(), rounded(value)?));
    metrics.iter().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn numbers_are_told_in_six_digits() {
        assert_eq!(rounded(0.017_399_353_292_150_633), Some(0.017_399_4));
        assert_eq!(rounded(-123_456_789.0), Some(-123_457_000.0));
        assert_eq!(rounded(0.0), Some(0.0));
        assert_eq!(rounded(f64::NAN), None);
        assert_eq!(rounded(f64::INFINITY), None);
    }
}
