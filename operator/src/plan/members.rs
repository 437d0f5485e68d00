//! The servers and workers of a job: which are wanted, which pod of theirs is current, and what the end of one means.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use trainyard_crds::TrainingJobStatus;
use trainyard_crds::training_job::MemberRestarts;

use super::after;
use super::exits::{self, Verdict};
use crate::job::Job;
use crate::observe::{Member, Observed, PodSeen, Report, Role};
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

/// The members that were ever replaced; all others are at their first attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members(BTreeMap<Member, MemberRestarts>);

/// What is to be done about a member's current pod.
enum Fate {
    /// It stays, or is not there and will be created.
    Keep,
    /// Look again at this time.
    Wait(Timestamp),
    /// It is gone, and how.
    Gone(Loss),
}

/// A pod that is gone.
struct Loss {
    failed: bool,
    reason: String,
    lived_seconds: i64,
}

impl Members {
    /// As the status has them.
    pub fn of(status: &TrainingJobStatus) -> Self {
        let entry = |m: &MemberRestarts| Some((parse(&m.name)?, m.clone()));
        Members(status.restarts.members.iter().filter_map(entry).collect())
    }

    /// Puts them back into the status.
    pub fn store(&self, status: &mut TrainingJobStatus) {
        status.restarts.members = self.0.values().cloned().collect();
    }

    /// The attempt that is current.
    pub fn attempt(&self, member: Member) -> u32 {
        self.0.get(&member).map_or(0, |m| m.attempt)
    }

    /// Pods of a member that have ended in a row, and how the last one did.
    pub fn streak(&self, member: Member) -> (u32, &str) {
        let entry = self.0.get(&member);
        entry.map_or((0, ""), |m| (m.streak, m.reason.as_str()))
    }

    /// When the current pod may be created.
    pub fn not_before(&self, member: Member) -> Option<Timestamp> {
        self.0.get(&member)?.not_before.as_ref().map(|time| time.0)
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
        if let Some(failure) = self.permanent(job, observed) {
            return Err(failure);
        }
        let mut timers = Vec::new();
        let mut last_failure = None;
        let mut server_lost = false;
        for member in wanted(job) {
            match self.fate(member, observed, status, now) {
                Fate::Keep => {}
                Fate::Wait(time) => timers.push(time),
                Fate::Gone(loss) => {
                    if loss.failed {
                        status.restarts.failures += 1;
                        last_failure = Some(format!("{member} {}", loss.reason));
                    } else {
                        status.restarts.disruptions += 1;
                    }
                    server_lost |= member.role == Role::Server;
                    self.replace(member, &loss, now);
                }
            }
        }
        self.replace_unwanted(job, observed);
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
    fn permanent(&self, job: &Job, observed: &Observed) -> Option<Failure> {
        let current =
            |pod: &&PodSeen| pod.attempt == self.attempt(pod.member) && is_wanted(job, pod.member);
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

    fn fate(
        &self,
        member: Member,
        observed: &Observed,
        status: &TrainingJobStatus,
        now: Timestamp,
    ) -> Fate {
        let attempt = self.attempt(member);
        let is_current = |pod: &&PodSeen| pod.member == member && pod.attempt == attempt;
        let Some(pod) = observed.pods.iter().find(is_current) else {
            let removed = observed.removed.iter().find(is_current);
            let lived = removed.map_or(0, |pod| pod.lived_seconds(now));
            // A server that ran has taken its state with it. Of one that never ran, and of a worker, only who has seen it
            // knows that it was there.
            return match removed.is_some() || (member.role == Role::Server && ran(status)) {
                true => Fate::Gone(Loss::disruption("is gone", lived)),
                false => Fate::Keep,
            };
        };
        let lived = pod.lived_seconds(now);
        let asked = pod.deletion.is_some();
        let Some(end) = pod.end() else {
            return match (pod.deletion, member.role) {
                (None, _) => Fate::Keep,
                // Its successor need not wait: two workers in one place are harmless.
                (Some(_), Role::Worker) => Fate::Gone(Loss::disruption("was deleted", lived)),
                // It is checkpointing; a successor would cut that short.
                (Some(_), Role::Server) => match lost_at(pod) {
                    Some(lost) if now < lost => Fate::Wait(lost),
                    _ => Fate::Gone(Loss::disruption("is lost with its node", lived)),
                },
            };
        };
        match exits::judge(end, asked) {
            Verdict::Left if !asked => match after(end.finished.unwrap_or(now), LINGER) {
                replace if now < replace => Fate::Wait(replace),
                _ => Fate::Gone(Loss::of(end, false)),
            },
            verdict => Fate::Gone(Loss::of(end, verdict == Verdict::Failed)),
        }
    }

    fn replace(&mut self, member: Member, loss: &Loss, now: Timestamp) {
        let entry = self.entry(member);
        let (streak, wait) = exits::backoff(entry.streak, loss.lived_seconds);
        entry.attempt += 1;
        entry.streak = streak;
        entry.not_before = (!wait.is_zero()).then(|| Time(after(now, wait)));
        entry.reason.clone_from(&loss.reason);
        truncate(&mut entry.reason, MAX_REASON);
    }

    /// Members that are not wanted any more get another attempt before their pods are deleted: wanted again, they need
    /// not wait for the old pods, and nobody takes the deletion for a disruption.
    fn replace_unwanted(&mut self, job: &Job, observed: &Observed) {
        for pod in &observed.pods {
            if !is_wanted(job, pod.member) && pod.attempt == self.attempt(pod.member) {
                let entry = self.entry(pod.member);
                entry.attempt += 1;
                entry.streak = 0;
                entry.not_before = None;
                entry.reason = "was scaled away".into();
            }
        }
    }

    /// Pods that a suspension has ended are followed by others, as soon as the job is resumed; they were not lost.
    pub fn replace_suspended(&mut self, job: &Job, observed: &Observed) {
        for pod in &observed.pods {
            if pod.deletion.is_some()
                && is_wanted(job, pod.member)
                && pod.attempt == self.attempt(pod.member)
            {
                let entry = self.entry(pod.member);
                entry.attempt += 1;
                entry.not_before = None;
                entry.reason = "was suspended".into();
            }
        }
    }

    fn entry(&mut self, member: Member) -> &mut MemberRestarts {
        self.0.entry(member).or_insert_with(|| MemberRestarts {
            name: member.to_string(),
            ..MemberRestarts::default()
        })
    }
}

impl Loss {
    fn disruption(reason: &str, lived_seconds: i64) -> Self {
        Loss {
            failed: false,
            reason: reason.into(),
            lived_seconds,
        }
    }

    fn of(end: &crate::observe::End, failed: bool) -> Self {
        Loss {
            failed,
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

/// The members that a job wants, servers first.
pub fn wanted(job: &Job) -> impl Iterator<Item = Member> + use<> {
    let servers = (0..job.servers()).map(Member::server);
    servers.chain((0..job.workers()).map(Member::worker))
}

/// Whether a server that is missing counts as lost: it ran in this generation, and has taken its state with it.
pub fn ran(status: &TrainingJobStatus) -> bool {
    status.generation > 0 && status.started_generation == status.generation
}

/// Whether a job wants a member.
pub fn is_wanted(job: &Job, member: Member) -> bool {
    member.index < job.replicas(member.role)
}

/// The report of a server 0 that found the job complete.
pub fn completion(pod: &PodSeen) -> Option<Report> {
    let end = pod.end()?;
    (pod.member == Member::COORDINATOR)
        .then(|| end.report())
        .flatten()
}

fn parse(name: &str) -> Option<Member> {
    let (role, index) = name.split_once('-')?;
    let index = index.parse().ok()?;
    match role {
        "server" => Some(Member::server(index)),
        "worker" => Some(Member::worker(index)),
        _ => None,
    }
}
