//! The members of a job: which are wanted, which pod of theirs is current, and what the end of one means.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use trainyard_crds::TrainingJobStatus;
use trainyard_crds::training_job::MemberRestarts;

use super::exits::{self, Verdict};
use super::{after, indexes};
use crate::job::Job;
use crate::observe::{End, Member, Observed, PodSeen, Report, Role};
use crate::trouble::truncate;

/// How long a member that ended well may be missing before it is replaced: its job is about to finish.
const LINGER: Duration = Duration::from_secs(15);
/// How long after its grace a pod that was asked to go counts as lost: its kubelet is gone.
const LOST: Duration = Duration::from_secs(5);
/// Longest reason that the status keeps, in bytes.
const MAX_REASON: usize = 256;

/// Why a job has failed.
#[derive(Debug)]
pub struct Failure {
    /// One word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// What the status says of the members.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members {
    /// Those that were ever replaced; all others are at their first attempt.
    replaced: BTreeMap<Member, MemberRestarts>,
    /// Those whose current pod has started: missing, it is lost, whoever looks.
    started: BTreeSet<Member>,
}

/// What is to be done about a member's current pod.
pub(super) enum Fate {
    /// It stays, or is not there and will be created.
    Keep,
    /// Look again at this time.
    Wait(Timestamp),
    /// It is gone, and how.
    Gone(Loss),
}

/// What a loss counts as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Charge {
    /// A failure, which counts against `backoffLimit`.
    Failure,
    /// A disruption.
    Disruption,
    /// Nothing: the pod had not started.
    Nothing,
}

/// A pod that is gone.
pub(super) struct Loss {
    /// What it counts as.
    pub charge: Charge,
    /// How it ended.
    pub reason: String,
    lived_seconds: i64,
}

impl Members {
    /// As the status has them.
    pub fn of(status: &TrainingJobStatus) -> Self {
        let entry = |m: &MemberRestarts| Some((m.name.parse().ok()?, m.clone()));
        let started = |indexes: &Option<String>, member: fn(u32) -> Member| {
            let indexes = indexes.as_deref().map(indexes::parse).unwrap_or_default();
            indexes.into_iter().map(member)
        };
        let servers = started(&status.servers.started_indexes, Member::server);
        let workers = started(&status.workers.started_indexes, Member::worker);
        Members {
            replaced: status.restarts.members.iter().filter_map(entry).collect(),
            started: servers.chain(workers).collect(),
        }
    }

    /// Puts them back into the status.
    pub fn store(&self, status: &mut TrainingJobStatus) {
        let started = |role: Role| {
            let of_role = self.started.iter().filter(|member| member.role == role);
            indexes::format(&of_role.map(|member| member.index).collect())
        };
        status.restarts.members = self.replaced.values().cloned().collect();
        status.servers.started_indexes = started(Role::Server);
        status.workers.started_indexes = started(Role::Worker);
    }

    /// Whether the current pod has started, as far as it was written down.
    pub fn has_started(&self, member: Member) -> bool {
        self.started.contains(&member)
    }

    /// The current pod has started.
    pub fn record_started(&mut self, member: Member) {
        self.started.insert(member);
    }

    /// From now on no pod of those that have started is missed.
    pub fn forget_started(&mut self) {
        self.started.clear();
    }

    /// The attempt that is current.
    pub fn attempt(&self, member: Member) -> u32 {
        self.replaced.get(&member).map_or(0, |m| m.attempt)
    }

    /// Pods of a member that have ended in a row, and how the last one did.
    pub fn streak(&self, member: Member) -> (u32, &str) {
        let entry = self.replaced.get(&member);
        entry.map_or((0, ""), |m| (m.streak, m.reason.as_str()))
    }

    /// When the current pod may be created.
    pub fn not_before(&self, member: Member) -> Option<Timestamp> {
        self.replaced
            .get(&member)?
            .not_before
            .as_ref()
            .map(|time| time.0)
    }

    /// Judges the current pod of every member. A pod is judged once: with the judgement the member's next attempt becomes
    /// current, in one write with the counts. Returns when to look again.
    ///
    /// # Errors
    /// If the job has failed.
    pub fn judge(
        &mut self,
        job: &Job,
        observed: &Observed,
        status: &mut TrainingJobStatus,
        now: Timestamp,
    ) -> Result<Vec<Timestamp>, Failure> {
        if let Some(failure) = self.permanent(job, status, observed) {
            return Err(failure);
        }
        let mut timers = Vec::new();
        let mut last_failure = None;
        let mut server_lost = false;
        for member in wanted(job, status) {
            match self.fate(member, observed, status, now) {
                Fate::Keep => {}
                Fate::Wait(time) => timers.push(time),
                Fate::Gone(loss) => {
                    match loss.charge {
                        Charge::Failure => {
                            status.restarts.failures += 1;
                            last_failure = Some(format!("{member} {}", loss.reason));
                        }
                        Charge::Disruption => status.restarts.disruptions += 1,
                        Charge::Nothing => {}
                    }
                    server_lost |= member.role == Role::Server;
                    self.replace(member, &loss, now);
                }
            }
        }
        self.replace_unwanted(job, status, observed);
        if server_lost {
            status.generation += 1;
        }
        match last_failure {
            Some(last) if status.restarts.failures > job.backoff_limit() => Err(Failure {
                reason: "BackoffLimitExceeded",
                message: format!(
                    "{} pods have failed, more than backoffLimit ({}) allows; the last: {last}",
                    status.restarts.failures,
                    job.backoff_limit()
                ),
            }),
            _ => Ok(timers),
        }
    }

    /// An end that no other attempt mends; server 0's account of it is the best.
    fn permanent(
        &self,
        job: &Job,
        status: &TrainingJobStatus,
        observed: &Observed,
    ) -> Option<Failure> {
        let current = |pod: &&PodSeen| {
            pod.attempt == self.attempt(pod.member) && is_wanted(job, status, pod.member)
        };
        let judged = observed.pods.iter().filter(current).filter_map(|pod| {
            let end = pod.end()?;
            (exits::judge(end, pod.deletion.is_some()) == Verdict::Permanent)
                .then_some((pod.member, end))
        });
        let (member, end) = judged.min_by_key(|(member, _)| *member)?;
        Some(Failure {
            reason: exits::reason(end),
            message: format!("{member} {}", exits::describe(end)),
        })
    }

    pub(super) fn fate(
        &self,
        member: Member,
        observed: &Observed,
        status: &TrainingJobStatus,
        now: Timestamp,
    ) -> Fate {
        let attempt = self.attempt(member);
        let is_current = |pod: &&PodSeen| pod.member == member && pod.attempt == attempt;
        let Some(pod) = observed.pods.iter().find(is_current) else {
            return self.fate_of_missing(member, observed, status, now);
        };
        let asked = pod.deletion.is_some();
        let Some(end) = pod.end() else {
            let gone = |reason: &str| {
                let started = pod.has_started() || self.has_started(member);
                Fate::Gone(Loss::disruption(reason, started, pod.lived_seconds(now)))
            };
            return match (pod.deletion, member.role) {
                (None, _) => Fate::Keep,
                // Its successor need not wait: two workers in one place are harmless.
                (Some(_), Role::Worker) => gone("was deleted"),
                // It is writing; a successor would cut that short.
                (Some(_), Role::Server | Role::Finisher) => match lost_at(pod) {
                    Some(lost) if now < lost => Fate::Wait(lost),
                    _ => gone("is lost with its node"),
                },
            };
        };
        match exits::judge(end, asked) {
            Verdict::Left if !asked => match after(end.finished.unwrap_or(now), LINGER) {
                replace if now < replace => Fate::Wait(replace),
                _ => Fate::Gone(Loss::of(end, Charge::Disruption)),
            },
            Verdict::Failed => Fate::Gone(Loss::of(end, Charge::Failure)),
            _ => Fate::Gone(Loss::of(end, Charge::Disruption)),
        }
    }

    /// Of a current pod that is missing. It is lost if it has started, which the status says whoever looks, or if the watch has
    /// shown it go. Any other was not created yet.
    fn fate_of_missing(
        &self,
        member: Member,
        observed: &Observed,
        status: &TrainingJobStatus,
        now: Timestamp,
    ) -> Fate {
        let attempt = self.attempt(member);
        let mut removed = observed.removed.iter();
        let removed = removed.find(|pod| pod.member == member && pod.attempt == attempt);
        // A server that ran has taken its state with it.
        let ran = member.role == Role::Server && ran(status);
        let started = ran
            || self.has_started(member) && observed.absent.contains(&(member, attempt))
            || removed.is_some_and(PodSeen::has_started);
        match started || removed.is_some() {
            true => {
                let lived = removed.map_or(0, |pod| pod.lived_seconds(now));
                Fate::Gone(Loss::disruption("is gone", started, lived))
            }
            false => Fate::Keep,
        }
    }

    pub(super) fn replace(
        &mut self,
        member: Member,
        loss: &Loss,
        now: Timestamp,
    ) -> &mut MemberRestarts {
        let entry = self.next_attempt(member);
        let (streak, wait) = exits::backoff(entry.streak, loss.lived_seconds);
        entry.streak = streak;
        entry.not_before = (!wait.is_zero()).then(|| Time(after(now, wait)));
        entry.reason.clone_from(&loss.reason);
        truncate(&mut entry.reason, MAX_REASON);
        entry
    }

    /// Members that are not wanted any more get another attempt before their pods are deleted: wanted again, they need
    /// not wait for the old pods, and nobody takes the deletion for a disruption.
    fn replace_unwanted(&mut self, job: &Job, status: &TrainingJobStatus, observed: &Observed) {
        for pod in &observed.pods {
            if !is_wanted(job, status, pod.member) && pod.attempt == self.attempt(pod.member) {
                let entry = self.next_attempt(pod.member);
                entry.streak = 0;
                entry.not_before = None;
                entry.reason = "was scaled away".into();
            }
        }
        self.started
            .retain(|member| is_wanted(job, status, *member));
    }

    /// Pods that a suspension has ended are followed by others, as soon as the job is resumed; they were not lost.
    pub fn replace_suspended(
        &mut self,
        job: &Job,
        status: &TrainingJobStatus,
        observed: &Observed,
    ) {
        for pod in &observed.pods {
            if pod.deletion.is_some()
                && is_wanted(job, status, pod.member)
                && pod.attempt == self.attempt(pod.member)
            {
                let entry = self.next_attempt(pod.member);
                entry.not_before = None;
                entry.reason = "was suspended".into();
            }
        }
    }

    /// Makes the member's next attempt current. Its pod does not exist yet.
    fn next_attempt(&mut self, member: Member) -> &mut MemberRestarts {
        self.started.remove(&member);
        let entry = self.replaced.entry(member);
        let entry = entry.or_insert_with(|| MemberRestarts {
            name: member.to_string(),
            ..MemberRestarts::default()
        });
        entry.attempt += 1;
        entry
    }
}

impl Loss {
    /// Of a pod that did not end by itself. Nothing is lost with one that has not started.
    fn disruption(reason: &str, started: bool, lived_seconds: i64) -> Self {
        Loss {
            charge: match started {
                true => Charge::Disruption,
                false => Charge::Nothing,
            },
            reason: reason.into(),
            lived_seconds,
        }
    }

    pub fn of(end: &End, charge: Charge) -> Self {
        Loss {
            charge,
            reason: exits::describe(end),
            lived_seconds: end.lived_seconds,
        }
    }
}

/// When a pod that was asked to go and has not ended counts as lost; none for any other.
pub fn lost_at(pod: &PodSeen) -> Option<Timestamp> {
    let deadline = pod.deletion.filter(|_| pod.end().is_none())?;
    Some(after(deadline, LOST))
}

/// The members that a job wants: servers and workers, servers first; once training is complete, the finisher.
pub fn wanted(job: &Job, status: &TrainingJobStatus) -> impl Iterator<Item = Member> + use<> {
    let servers = (0..replicas(job, status, Role::Server)).map(Member::server);
    let workers = (0..replicas(job, status, Role::Worker)).map(Member::worker);
    let finishers = 0..replicas(job, status, Role::Finisher);
    let finishers = finishers.map(|_| Member::FINISHER);
    servers.chain(workers).chain(finishers)
}

/// How many members of a role a job wants.
fn replicas(job: &Job, status: &TrainingJobStatus, role: Role) -> u32 {
    let exports = status.export.is_some();
    match role {
        Role::Server if !exports => job.servers(),
        Role::Worker if !exports => job.workers(),
        Role::Finisher if exports => 1,
        Role::Server | Role::Worker | Role::Finisher => 0,
    }
}

/// Whether a server that is missing counts as lost: it ran in this generation, and has taken its state with it.
pub fn ran(status: &TrainingJobStatus) -> bool {
    status.generation > 0 && status.started_generation == status.generation
}

/// Whether a job wants a member.
pub fn is_wanted(job: &Job, status: &TrainingJobStatus, member: Member) -> bool {
    member.index < replicas(job, status, member.role)
}

/// The report of a server 0 that found the job complete.
pub fn completion(pod: &PodSeen) -> Option<Report> {
    let end = pod.end()?;
    (pod.member == Member::COORDINATOR)
        .then(|| end.report())
        .flatten()
}
