//! What is seen of a job at the begin of a reconcile: the caches, the memory, and where they do not suffice the API server and the
//! coordinator.

use jiff::{SignedDuration, Timestamp};
use trainyard_crds::TrainingJobStatus;
use trainyard_crds::training_job::Phase;

use crate::apply;
use crate::context::Context;
use crate::coordinator::Progress;
use crate::job::Job;
use crate::memory::Poll;
use crate::observe::{ChildObject, Member, Observed, PodSeen, ProgressSeen};
use crate::plan::{self, POLL};
use crate::resources::pod_name;

/// How long a coordinator may be silent before the status says so.
const SILENCE: SignedDuration = SignedDuration::from_secs(30);
/// How often a silent coordinator is asked.
const SILENT_POLL: SignedDuration = SignedDuration::from_secs(15);

/// All that is seen of a job.
///
/// # Errors
/// Of the API server.
pub async fn fetch(
    context: &Context,
    job: &Job,
    status: &TrainingJobStatus,
    now: Timestamp,
) -> kube::Result<Observed> {
    let owner = job.as_owner();
    let mut pods = context.pods.of(&owner);
    // What a suspension deletes is not lost.
    let suspended = job.object.spec.suspend || status.phase == Some(Phase::Suspended);
    let (refused, vanished) = context.memory.with(&job.uid, |notes| {
        for pod in notes.uncached_pods(now) {
            pods.entry(pod.name.clone()).or_insert_with(|| pod.clone());
        }
        notes.retain_removed(|pod| {
            !suspended && !pods.contains_key(&pod.name) && plan::is_current(status, pod)
        });
        let refused = notes.refusal().map(|(trouble, _)| trouble.clone());
        let vanished: Vec<PodSeen> = notes.removed_pods().cloned().collect();
        (refused, vanished)
    });
    let mut pods: Vec<PodSeen> = pods.into_values().collect();
    let vanished = gone(context, job, vanished, &mut pods).await?;
    let doubtful = confirm(context, job, status, &mut pods).await?;
    let mut children = Vec::new();
    for child in ChildObject::ALL {
        let (name, digest) = apply::wanted_child(job, status, child)?;
        if context.children(child).of(&owner).get(&name) == Some(&digest) {
            children.push(child);
        }
    }
    let poll = match status.phase.is_some_and(Phase::is_terminal) {
        true => Poll::default(),
        false => poll(context, job, &pods, now).await,
    };
    Ok(Observed {
        pods,
        children,
        progress: poll.answer.map(|(progress, _)| progress),
        unreachable: poll
            .silent_since
            .filter(|since| now.duration_since(*since) >= SILENCE)
            .map(|since| {
                format!(
                    "server 0 has not told its progress since {since:.0}; training may go on unseen"
                )
            }),
        refused,
        doubtful,
        vanished,
    })
}

/// Of pods that the watch has lost, those that are not there. The others have lost the labels by which it sees them.
async fn gone(
    context: &Context,
    job: &Job,
    vanished: Vec<PodSeen>,
    pods: &mut Vec<PodSeen>,
) -> kube::Result<Vec<PodSeen>> {
    let mut gone = Vec::new();
    for pod in vanished {
        match apply::find(&context.client, job, pod.member, pod.attempt).await? {
            Some(found) => pods.push(found),
            None => gone.push(pod),
        }
    }
    Ok(gone)
}

/// Looks for the servers that the cache lacks and that may be there: only the API server itself can say that one is lost.
/// Tells whether one that is to be created may have been there before.
async fn confirm(
    context: &Context,
    job: &Job,
    status: &TrainingJobStatus,
    pods: &mut Vec<PodSeen>,
) -> kube::Result<bool> {
    let mut missing = plan::missing_servers(job, status, pods);
    context.memory.with(&job.uid, |notes| {
        missing.retain(|(member, attempt)| {
            !notes.cannot_have_existed(status.generation, &pod_name(&job.name, *member, *attempt))
        });
    });
    let mut unknown = false;
    for (member, attempt) in missing {
        let found = apply::find(&context.client, job, member, attempt).await?;
        unknown |= found.is_none();
        pods.extend(found);
    }
    // One that ran and is missing now is lost, and another generation follows.
    Ok(unknown && !plan::ran(status) && plan::all_started(job, status, pods))
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
        epoch: progress.epoch,
        loss: progress.loss,
        samples_per_second: rate,
        validation: progress
            .validation
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect(),
        checkpoint: progress.checkpoint,
        time: now,
    }
}
