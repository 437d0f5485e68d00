//! Decides what to do about a job: pure, synchronous, and the only place where the operator decides anything.
//!
//! The status that a plan carries is written before any of its steps is taken: counts, attempts and the generation are
//! durable before what they stand for happens. A crash between two writes is thus seen by the next reconcile as a plan half
//! carried out, and carried on with.

mod create;
pub mod exits;
mod export;
mod finish;
mod indexes;
pub mod lookups;
mod members;
mod report;
mod step;

pub use members::Members;
pub use report::SILENCE;
pub use step::{Step, stages};

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use trainyard_crds::training_job::Phase;
use trainyard_crds::{TrainingJob, TrainingJobStatus};

use crate::conditions::{self, ConditionState, types};
use crate::job::{Job, Problem, Retention};
use crate::observe::{Member, Observed, PodSeen};
use crate::trouble::Trouble;
use members::Failure;

/// A job's status, with what it says of the members parsed: made once in a reconcile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobState {
    /// The status as it was written last.
    pub status: TrainingJobStatus,
    /// What it says of the members.
    pub members: Members,
}

impl JobState {
    /// As a status has it.
    pub fn of(status: TrainingJobStatus) -> Self {
        let members = Members::of(&status);
        JobState { status, members }
    }
}

/// What to do about a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The status, to be written first if it differs.
    pub status: TrainingJobStatus,
    /// What to do then, in order.
    pub steps: Vec<Step>,
    /// When to look again although nothing has happened.
    pub requeue_after: Option<Duration>,
    /// Why something that is missing is not created now.
    pub refused: Option<Trouble>,
    /// Which pod of server 0 the Service in front of it leads to.
    pub coordinator_attempt: u32,
}

impl Plan {
    /// Whether the steps create pods: those need what the job refers to.
    pub fn creates_pods(&self) -> bool {
        self.steps.iter().any(Step::creates_pod)
    }
}

/// What the operator was started with, as far as plans need it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Image of the trainer for jobs that name none.
    pub image: String,
}

/// How often the coordinator of a running job is asked for progress.
pub const POLL: Duration = Duration::from_secs(5);

/// The plan for a job that cannot be run as it is written.
pub fn invalid(
    problems: &[Problem],
    object: &TrainingJob,
    pods: &[PodSeen],
    now: Timestamp,
) -> Plan {
    let mut status = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    if !status.phase.is_some_and(Phase::is_terminal) {
        let listed: Vec<String> = problems.iter().map(Problem::to_string).collect();
        let message = listed.join("; ");
        let mut set = |type_: &str, holds: bool| {
            let state = ConditionState {
                status: holds,
                reason: "InvalidSpec",
                message: message.clone(),
            };
            conditions::set(&mut status.conditions, type_, state, generation, now);
        };
        set(types::INVALID, true);
        status.phase = Some(match status.export {
            // Training is complete: the job only loses its artifact.
            Some(_) => {
                set(types::ARTIFACT_READY, false);
                set(types::SUCCEEDED, true);
                Phase::Succeeded
            }
            None => {
                set(types::FAILED, true);
                Phase::Failed
            }
        });
        status.completion_time = Some(Time(now));
        status.observed_generation = Some(generation);
    }
    let (steps, due) = finish::clean_up(Retention::of(&object.spec), &status, pods, now);
    let wait = due.map(|due| due.duration_since(now).max(SignedDuration::ZERO));
    Plan {
        status,
        steps,
        requeue_after: wait.and_then(|wait| Duration::try_from(wait).ok()),
        refused: None,
        coordinator_attempt: 0,
    }
}

/// The plan for a job.
pub fn plan(
    job: &Job,
    known: &JobState,
    observed: &Observed,
    settings: &Settings,
    now: Timestamp,
) -> Plan {
    let mut planner = Planner {
        job,
        known,
        observed,
        now,
        status: known.status.clone(),
        members: known.members.clone(),
        steps: Vec::new(),
        requeue_after: None,
        refused: None,
    };
    planner.status.observed_generation = Some(job.generation);
    planner.decide(settings);
    planner.report();
    Plan {
        coordinator_attempt: planner.members.attempt(Member::COORDINATOR),
        status: planner.status,
        steps: planner.steps,
        requeue_after: planner.requeue_after,
        refused: planner.refused,
    }
}

struct Planner<'a> {
    job: &'a Job,
    /// What was written last.
    known: &'a JobState,
    observed: &'a Observed,
    now: Timestamp,
    status: TrainingJobStatus,
    members: Members,
    steps: Vec<Step>,
    requeue_after: Option<Duration>,
    refused: Option<Trouble>,
}

impl Planner<'_> {
    fn decide(&mut self, settings: &Settings) {
        if self.status.phase.is_some_and(Phase::is_terminal) {
            return self.after_the_end();
        }
        // Before anything that could fail the job: what is finished is finished.
        if !self.is_exporting()
            && let Some(report) = self.observed.pods.iter().find_map(members::completion)
        {
            self.complete(&report);
            if !self.is_exporting() {
                return;
            }
        }
        if self.is_exporting()
            && let Some(report) = self.observed.pods.iter().find_map(export::exported)
        {
            return self.succeed(Ok(report.artifact));
        }
        if self.job.is_suspended() {
            return self.suspend();
        }
        if self.status.phase == Some(Phase::Suspended) && !self.resume() {
            return;
        }
        self.begin(settings);
        if self.past_deadline() {
            return;
        }
        match self.is_exporting() {
            true => self.export(),
            false => self.train(),
        }
    }

    fn train(&mut self) {
        let judged = self
            .members
            .judge(self.job, self.observed, &mut self.status, self.now);
        match judged {
            Err(failure) => self.fail(failure.reason, failure.message),
            Ok(timers) => {
                timers.into_iter().for_each(|timer| self.wake_at(timer));
                self.create_what_is_missing();
                self.wake_for_pods();
                self.label_again();
                self.delete_stuck();
                self.delete_what_is_superfluous();
                let leads = |pod: &PodSeen| pod.member == Member::COORDINATOR && pod.is_ready();
                if self.observed.pods.iter().any(leads) {
                    self.wake_in(POLL);
                }
            }
        }
    }

    /// What is resolved once, for the life of the job.
    fn begin(&mut self, settings: &Settings) {
        if self.status.image.is_none() {
            let image = self.job.image().unwrap_or(&settings.image);
            self.status.image = Some(image.to_owned());
            self.status.contract = Some(trainyard_contract::VERSION);
            self.status.defaults = Some(self.job.defaults).filter(|defaults| *defaults > 1);
        }
        if self.status.generation == 0 {
            self.status.generation = 1;
        }
        if self.status.start_time.is_none() {
            self.status.start_time = Some(Time(self.now));
        }
    }

    fn past_deadline(&mut self) -> bool {
        let Some((deadline, start)) = self
            .job
            .active_deadline()
            .zip(self.status.start_time.clone())
        else {
            return false;
        };
        let end = after(start.0, deadline);
        if self.now < end {
            self.wake_at(end);
            return false;
        }
        let limit = format!("activeDeadlineSeconds ({})", deadline.as_secs());
        let reason = "DeadlineExceeded";
        if self.is_exporting() {
            let message = format!("the export did not finish within {limit}");
            self.succeed(Err(Failure { reason, message }));
        } else {
            self.fail(reason, format!("the job did not finish within {limit}"));
        }
        true
    }

    fn suspend(&mut self) {
        for pod in &self.observed.pods {
            if pod.is_active() {
                self.steps.push(delete(pod));
            }
        }
        if self.is_exporting() {
            let message = "the export waits until the job is resumed";
            self.set_condition(types::ARTIFACT_READY, false, "Suspended", message);
        }
        self.members.forget_started();
        self.status.phase = Some(Phase::Suspended);
        self.status.start_time = None;
    }

    /// Ends a suspension as soon as no pod of the time before it is left; says whether it has.
    fn resume(&mut self) -> bool {
        let mut over = true;
        for pod in &self.observed.pods {
            if pod.is_active() {
                self.steps.push(delete(pod)); // a crash may have kept the suspension from it
                over = false;
            } else if let Some(lost) = members::lost_at(pod).filter(|lost| self.now < *lost) {
                self.wake_at(lost); // unless the pod's end wakes us before
                over = false;
            }
        }
        if !over {
            return false;
        }
        // What the servers held is gone: the new ones begin from the checkpoint, and nothing older may interfere.
        self.status.generation += 1;
        self.status.phase = Some(Phase::Pending);
        self.members
            .replace_suspended(self.job, &self.status, self.observed);
        true
    }

    /// A member's current pod, if it is there.
    fn current_pod(&self, member: Member) -> Option<&PodSeen> {
        let attempt = self.members.attempt(member);
        let is_current = |pod: &&PodSeen| pod.member == member && pod.attempt == attempt;
        self.observed.pods.iter().find(is_current)
    }

    /// Services and the watch find pods by their labels.
    fn label_again(&mut self) {
        for pod in self.observed.pods.iter().filter(|pod| !pod.labelled) {
            self.steps.push(Step::Label {
                uid: pod.uid.clone(),
                member: pod.member,
                attempt: pod.attempt,
            });
        }
    }

    /// A process that does nothing does not end by itself: its pod makes room for another.
    fn delete_stuck(&mut self) {
        let observed = self.observed;
        let Some(seen) = &observed.progress else {
            return;
        };
        let runs = |pod: &&PodSeen| pod.is_running() && pod.deletion.is_none();
        for pod in observed.pods.iter().filter(runs) {
            if seen.stuck(pod).is_some() {
                self.steps.push(delete(pod));
            }
        }
    }

    fn delete_what_is_superfluous(&mut self) {
        let observed = self.observed;
        for pod in observed.pods.iter().filter(|pod| pod.deletion.is_none()) {
            let deleted = delete(pod);
            if self.is_superfluous(pod) && !self.steps.contains(&deleted) {
                self.steps.push(deleted);
            }
        }
    }

    /// Whether a pod's member is not wanted any more or has a successor. The last one that ended stays, for its logs.
    fn is_superfluous(&self, pod: &PodSeen) -> bool {
        let current = self.members.attempt(pod.member);
        let successor = match pod.end() {
            None => pod.attempt < current,
            Some(_) => pod.attempt.saturating_add(1) < current,
        };
        successor || !members::is_wanted(self.job, &self.status, pod.member)
    }

    fn wake_at(&mut self, time: Timestamp) {
        let wait = time.duration_since(self.now).max(SignedDuration::ZERO);
        self.wake_in(Duration::try_from(wait).unwrap_or_default());
    }

    fn wake_in(&mut self, wait: Duration) {
        self.requeue_after = Some(self.requeue_after.map_or(wait, |known| known.min(wait)));
    }
}

fn delete(pod: &PodSeen) -> Step {
    delete_version(pod, None)
}

/// Deletes a pod unless it has changed since it was seen.
fn delete_as_seen(pod: &PodSeen) -> Step {
    delete_version(pod, Some(pod.version.clone()))
}

fn delete_version(pod: &PodSeen, version: Option<String>) -> Step {
    Step::DeletePod {
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        version,
    }
}

/// A time later by `wait`; the end of time if there is none so late.
fn after(time: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait)
        .ok()
        .and_then(|wait| time.checked_add(wait).ok())
        .unwrap_or(Timestamp::MAX)
}
