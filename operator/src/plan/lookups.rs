//! What the caches leave open before a plan can be made, and only the API server can answer.

use std::collections::BTreeSet;

use trainyard_crds::training_job::Phase;

use super::JobState;
use super::members::{self, is_wanted, wanted};
use crate::job::Job;
use crate::observe::{Member, Observed, PodSeen, Role};

/// What is known of a job's pods without asking the API server.
#[derive(Clone, Copy, Debug)]
pub struct Cached<'a> {
    /// Pods that the cache has, or that were created a moment ago.
    pub pods: &'a [PodSeen],
    /// Pods that the watch has lost, as they were last seen. They are gone, or have lost the label by which it sees them.
    pub removed: &'a [PodSeen],
    /// Pods whose names were taken when they were to be created.
    pub conflicts: &'a BTreeSet<(Member, u32)>,
}

/// The pods, by member and attempt, to be looked up. `may_exist` says of a server's pod that the cache lacks whether it may be
/// there, or may have been; a new one cannot.
pub fn pods(
    job: &Job,
    state: &JobState,
    cached: Cached<'_>,
    may_exist: impl Fn(Member, u32) -> bool,
) -> BTreeSet<(Member, u32)> {
    let is_missing = |member, attempt| {
        let is_it = |pod: &PodSeen| pod.member == member && pod.attempt == attempt;
        !cached.pods.iter().any(is_it)
    };
    let current = |member| (member, state.members.attempt(member));
    let lost = cached
        .removed
        .iter()
        .filter(|pod| may_be_lost(job, state, pod));
    let mut lookups: BTreeSet<(Member, u32)> = lost.map(|pod| (pod.member, pod.attempt)).collect();
    let phase = state.status.phase;
    if !phase.is_some_and(Phase::is_terminal) && !job.is_suspended() {
        let wanted = wanted(job, &state.status).map(current);
        lookups.extend(wanted.filter(|&(member, attempt)| {
            cached.conflicts.contains(&(member, attempt))
                || state.members.has_started(member)
                // Only the API server itself can say that a server is lost, which its successor has to be told.
                || (member.role == Role::Server && may_exist(member, attempt))
        }));
    }
    lookups.retain(|&(member, attempt)| is_missing(member, attempt));
    lookups
}

/// Whether a pod that the watch has lost may have to be replaced. One that has a successor need not, and what a suspension
/// deletes is not lost.
pub fn may_be_lost(job: &Job, state: &JobState, pod: &PodSeen) -> bool {
    let suspended = job.is_suspended() || state.status.phase == Some(Phase::Suspended);
    !suspended && state.members.attempt(pod.member) == pod.attempt
}

/// Whether a server that is missing may have been there in the current generation, unseen: its successor has to be told a
/// higher one. One that is known to have run is lost, and another generation follows anyway. As long as one that is there has
/// not started, no group has formed, and no server holds any state.
pub(super) fn is_predecessor_unknown(job: &Job, known: &JobState, observed: &Observed) -> bool {
    let missing = observed.absent.iter().chain(&observed.foreign);
    let server = missing
        .into_iter()
        .any(|(member, _)| member.role == Role::Server);
    server && !members::ran(&known.status) && all_started(job, known, &observed.pods)
}

/// Whether all servers that are seen have started.
fn all_started(job: &Job, known: &JobState, pods: &[PodSeen]) -> bool {
    let waits = |pod: &PodSeen| {
        pod.member.role == Role::Server
            && is_wanted(job, &known.status, pod.member)
            && pod.attempt == known.members.attempt(pod.member)
            && !pod.has_started()
    };
    !pods.iter().any(waits)
}
