//! What is seen of a job at the beginning of a reconcile: the caches, the memory, and where they do not suffice the API server
//! and the coordinator.

use jiff::{SignedDuration, Timestamp};
use trainyard_crds::training_job::Phase;

use crate::context::Context;
use crate::coordinator::Progress;
use crate::index::Applied;
use crate::job::Job;
use crate::memory::Poll;
use crate::observe::{Child, ChildObject, Member, Observed, PodSeen, ProgressSeen};
use crate::plan::lookups::{self, Cached};
use crate::plan::{JobState, POLL, SILENCE};
use crate::read::{self, Found};
use crate::resources::{digest, pod_name};

/// How often a silent coordinator is asked.
const SILENT_POLL: SignedDuration = SignedDuration::from_secs(15);

/// All that is seen of a job.
///
/// # Errors
/// Of the API server.
pub async fn fetch(
    context: &Context,
    job: &Job,
    known: &JobState,
    now: Timestamp,
) -> kube::Result<Observed> {
    let mut observed = Observed::default();
    fetch_pods(context, job, known, now, &mut observed).await?;
    fetch_children(context, job, known, &mut observed).await?;
    observed.refusal = context
        .memory
        .with(&job.uid, |notes| notes.refusal().cloned());
    if !known.status.phase.is_some_and(Phase::is_terminal) {
        let poll = poll(context, job, &observed.pods, now).await;
        observed.progress = poll.answer.map(|(progress, _)| progress);
        observed.silent_since = poll.silent_since;
    }
    Ok(observed)
}

/// The pods: those that the cache has, and those that it may lack as the API server has them.
async fn fetch_pods(
    context: &Context,
    job: &Job,
    known: &JobState,
    now: Timestamp,
    observed: &mut Observed,
) -> kube::Result<()> {
    let mut pods = context.pods.of(&job.as_owner());
    let lookups = context.memory.with(&job.uid, |notes| {
        for pod in notes.uncached_pods(now) {
            pods.entry(pod.name.clone()).or_insert_with(|| pod.clone());
        }
        observed.removed = notes.removed_pods(|pod| {
            !pods.contains_key(&pod.name) && lookups::may_be_lost(job, known, pod)
        });
        observed.pods = pods.into_values().collect();
        let is_cached = |pod: &(Member, u32)| {
            let mut cached = observed.pods.iter().map(|seen| (seen.member, seen.attempt));
            cached.any(|cached| cached == *pod)
        };
        notes.conflicts().pods.retain(|pod| !is_cached(pod));
        let conflicts = notes.conflicts().pods.clone();
        let cached = Cached {
            pods: &observed.pods,
            removed: &observed.removed,
            conflicts: &conflicts,
        };
        lookups::pods(job, known, cached, |member, attempt| {
            let name = pod_name(&job.name, member, attempt);
            !notes.cannot_have_existed(known.status.generation, &name)
        })
    });
    for (member, attempt) in lookups {
        match read::pod(&context.client, job, member, attempt).await? {
            Found::Ours(pod) => observed.pods.push(pod),
            Found::Foreign => drop(observed.foreign.insert((member, attempt))),
            Found::Nothing => {
                observed.absent.insert((member, attempt));
                context.memory.with(&job.uid, |notes| {
                    notes.conflicts().pods.remove(&(member, attempt));
                });
            }
        }
    }
    let is_there = |pod: &PodSeen| observed.pods.iter().any(|seen| seen.name == pod.name);
    observed.removed.retain(|pod| !is_there(pod));
    Ok(())
}

/// The child objects: those that the cache has, and those that it lacks although their names are taken.
async fn fetch_children(
    context: &Context,
    job: &Job,
    known: &JobState,
    observed: &mut Observed,
) -> kube::Result<()> {
    let attempt = known.members.attempt(Member::COORDINATOR);
    for child in ChildObject::ALL {
        let name = child.name(&job.name);
        let cached = context.children(child).of(&job.as_owner()).remove(&name);
        let is_cached = cached.is_some();
        let conflict = context.memory.with(&job.uid, |notes| {
            notes.conflicts().children.contains(&child)
        });
        let found = match cached {
            Some(applied) => Found::Ours(applied),
            None if conflict => read::child(&context.client, job, child, &name).await?,
            None => Found::Nothing,
        };
        // One of ours that the watch cannot see is looked up until it can.
        if conflict && (is_cached || found == Found::Nothing) {
            context.memory.with(&job.uid, |notes| {
                notes.conflicts().children.remove(&child);
            });
        }
        match found {
            Found::Ours(applied) => {
                // One that the watch cannot see lacks the label by which it would.
                let current = is_cached && is_current(job, child, attempt, &applied)?;
                let uid = applied.uid;
                observed
                    .children
                    .insert(child, Child::Ours { uid, current });
            }
            Found::Foreign => drop(observed.children.insert(child, Child::Foreign)),
            Found::Nothing => {}
        }
    }
    Ok(())
}

/// Whether a child object is as it should be, with the Service in front of server 0 leading to its pod `attempt`.
fn is_current(
    job: &Job,
    child: ChildObject,
    attempt: u32,
    applied: &Applied,
) -> kube::Result<bool> {
    if child.is_fixed() {
        return Ok(true);
    }
    let digest = digest::of_child(job, child, attempt).map_err(kube::Error::SerdeError)?;
    Ok(applied.digest == digest)
}

/// Asks the coordinator for progress if it is time to.
async fn poll(context: &Context, job: &Job, pods: &[PodSeen], now: Timestamp) -> Poll {
    let mut poll = context.memory.with(&job.uid, |notes| notes.poll.clone());
    let leader = pods
        .iter()
        .rfind(|pod| pod.member == Member::COORDINATOR && pod.is_ready() && pod.is_active());
    let Some(ip) = leader.and_then(|pod| pod.ip.as_deref()) else {
        poll.silent_since = None; // a pod that does not run has its own condition
        return poll;
    };
    let interval = match poll.silent_since {
        Some(since) if now.duration_since(since) >= SILENCE => SILENT_POLL,
        _ => SignedDuration::try_from(POLL).unwrap_or(SILENT_POLL),
    };
    let early = poll.asked.is_some_and(|asked| {
        now.duration_since(asked).abs() + SignedDuration::from_millis(100) < interval
    });
    if early {
        return poll;
    }
    let Ok(_permit) = context.polls.try_acquire() else {
        return poll; // at the next reconcile
    };
    poll.asked = Some(now);
    match context.coordinator.progress(ip).await {
        Ok(progress) => {
            let samples = progress.samples;
            poll.answer = Some((
                observed_progress(progress, poll.answer.as_ref(), now),
                samples,
            ));
            poll.silent_since = None;
        }
        Err(error) => {
            tracing::debug!(job = job.name, namespace = job.namespace, %error, "asking for progress");
            poll.silent_since.get_or_insert(now);
        }
    }
    context
        .memory
        .with(&job.uid, |notes| notes.poll = poll.clone());
    poll
}

fn observed_progress(
    progress: Progress,
    before: Option<&(ProgressSeen, u64)>,
    now: Timestamp,
) -> ProgressSeen {
    let rate = before.and_then(|(seen, samples)| {
        let seconds = now.duration_since(seen.time).as_secs_f64();
        let more = progress.samples.checked_sub(*samples)?;
        (seconds > 0.5).then(|| more as f64 / seconds)
    });
    ProgressSeen {
        step: progress.step,
        total_steps: progress.total_steps,
        epoch: u32::try_from(progress.epoch).unwrap_or(u32::MAX),
        loss: progress.loss,
        samples_per_second: rate,
        validation: progress.validation.unwrap_or_default(),
        checkpoint: progress.checkpoint,
        warnings: progress.warnings,
        stuck: progress.stuck,
        time: now,
    }
}
