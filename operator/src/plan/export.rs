//! The export of the artifact, once training is complete: one pod at a time, the finisher's, and what its end means. The
//! complete checkpoint stands whatever comes of it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use trainyard_contract::{EXPORT_ATTEMPTS, ExitCode};
use trainyard_crds::TrainingJobStatus;
use trainyard_crds::training_job::ExportStatus;

use super::members::{Charge, Failure, Fate, Loss, Members};
use super::{Planner, after, delete, exits, finish};
use crate::conditions::types;
use crate::observe::{End, ExportReport, Member, Observed, PodSeen, Report, Role};

/// How long the finisher waits for servers and workers that have not ended: they may hold the volume, or the room that it
/// needs.
const LINGER: Duration = Duration::from_secs(15);
/// The wait after the first failure; after the next it is twice as long.
const RETRY: Duration = Duration::from_secs(10);

impl Planner<'_> {
    /// Whether training is complete, and the artifact is exported or was.
    pub(super) fn is_exporting(&self) -> bool {
        self.status.export.is_some()
    }

    /// Training is complete, as server 0 reports: the artifact comes next, unless server 0 has exported it.
    pub(super) fn complete(&mut self, report: &Report) {
        self.record(report);
        self.members.forget_started();
        match &report.artifact {
            Some(artifact) => self.succeed(Ok(artifact.clone())),
            None => {
                self.status.export = Some(ExportStatus {
                    start_time: Some(Time(self.now)),
                    failures: 0,
                });
            }
        }
    }

    /// Keeps a finisher at work until it has exported the artifact or has failed too often.
    pub(super) fn export(&mut self) {
        let judged = self
            .members
            .judge_finisher(self.observed, &mut self.status, self.now);
        match judged {
            Err(failure) => return self.succeed(Err(failure)),
            Ok(timer) => timer.into_iter().for_each(|timer| self.wake_at(timer)),
        }
        self.report_export();
        self.create_what_is_missing();
        self.wake_for_pods();
        self.label_again();
        self.delete_all_but_finisher();
    }

    fn report_export(&mut self) {
        let failures = self.status.export.as_ref().map_or(0, |e| e.failures);
        let (_, last) = self.members.streak(Member::FINISHER);
        let message = match failures {
            0 => "the artifact is being exported".to_owned(),
            _ => format!(
                "the export is repeated after failure {failures} of {EXPORT_ATTEMPTS}; the last finisher {last}"
            ),
        };
        self.set_condition(types::ARTIFACT_READY, false, "Exporting", &message);
    }

    /// Whether servers and workers have ended, or have been waited for long enough.
    pub(super) fn others_are_over(&mut self) -> bool {
        let started = self
            .status
            .export
            .as_ref()
            .and_then(|export| export.start_time.as_ref());
        let limit = started.map_or(self.now, |start| after(start.0, LINGER));
        let mut others = self.observed.pods.iter().filter(|pod| is_of_training(pod));
        let over = self.now >= limit || others.all(PodSeen::is_over);
        if !over {
            self.wake_at(limit);
        }
        over
    }

    /// Servers and workers go as if the job had ended.
    fn delete_all_but_finisher(&mut self) {
        let observed = self.observed;
        let (others, finishers): (Vec<&PodSeen>, Vec<&PodSeen>) =
            observed.pods.iter().partition(|pod| is_of_training(pod));
        let policy = self.job.retention().clean_pod_policy;
        let mut steps = finish::clean_pods(policy, others.into_iter());
        let goes = |pod: &&PodSeen| pod.deletion.is_none() && self.is_superfluous(pod);
        steps.extend(finishers.into_iter().filter(goes).map(delete));
        self.steps.extend(steps);
    }
}

impl Members {
    /// Judges the current pod of the finisher, once: with the judgement its next attempt becomes current, in one write with
    /// the counts. Returns when to look again.
    ///
    /// # Errors
    /// If the export has failed for good.
    fn judge_finisher(
        &mut self,
        observed: &Observed,
        status: &mut TrainingJobStatus,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Failure> {
        const MEMBER: Member = Member::FINISHER;
        let attempt = self.attempt(MEMBER);
        let mut current = observed.pods.iter().filter(|pod| pod.attempt == attempt);
        let ended = current.find_map(|pod| Some((end_of_finisher(pod)?, pod.deletion.is_some())));
        let Some((end, asked)) = ended else {
            match self.fate(MEMBER, observed, status, now) {
                Fate::Keep => {}
                Fate::Wait(time) => return Ok(Some(time)),
                Fate::Gone(loss) => self.repeat_export(&loss, status, now),
            }
            return Ok(None);
        };
        if exits::judge(end, asked) == exits::Verdict::Disrupted {
            self.repeat_export(&Loss::of(end, Charge::Disruption), status, now);
            return Ok(None);
        }
        let export = status.export.get_or_insert_default();
        export.failures += 1;
        let failures = export.failures;
        let loss = Loss::of(end, Charge::Failure);
        let bad_input = end.code.and_then(ExitCode::of) == Some(ExitCode::BadInput);
        if bad_input || failures >= EXPORT_ATTEMPTS {
            return Err(Failure {
                reason: exits::reason(end),
                message: format!(
                    "the export is given up after failure {failures}: {MEMBER} {}; the checkpoint is complete: when the cause \
                     is fixed, export it with trainyard export",
                    loss.reason
                ),
            });
        }
        let entry = self.replace(MEMBER, &loss, now);
        entry.not_before = Some(Time(after(now, RETRY * failures)));
        Ok(None)
    }

    /// The next attempt follows a finisher that did not fail by itself.
    fn repeat_export(&mut self, loss: &Loss, status: &mut TrainingJobStatus, now: Timestamp) {
        if loss.charge == Charge::Disruption {
            status.restarts.disruptions += 1;
        }
        self.replace(Member::FINISHER, loss, now);
    }
}

fn is_of_training(pod: &PodSeen) -> bool {
    pod.member.role != Role::Finisher
}

/// The report of a finisher that exported the artifact.
pub(super) fn exported(pod: &PodSeen) -> Option<ExportReport> {
    end_of_finisher(pod)?.export_report()
}

fn end_of_finisher(pod: &PodSeen) -> Option<&End> {
    pod.end().filter(|_| pod.member == Member::FINISHER)
}
