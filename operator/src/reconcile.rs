//! One reconcile of a job: fetch, validate, plan, write the status, take the steps.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType};
use kube::{Resource, ResourceExt};
use trainyard_crds::{TrainingJob, TrainingJobStatus};

use crate::apply::{self, Outcome};
use crate::context::Context;
use crate::events;
use crate::fetch::fetch;
use crate::job::{Guarded, Job};
use crate::observe::PodSeen;
use crate::owner::Owner;
use crate::plan::{self, Plan, Step};
use crate::resources::pod_name;

/// When to look again after somebody else wrote to a job while we did.
const CONFLICT: Duration = Duration::from_millis(500);

/// When to look again if what the watch has brought is old.
const BEHIND: Duration = Duration::from_secs(5);

/// Why a reconcile was broken off.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("API server: {0}")]
    Api(#[from] kube::Error),
}

/// One reconcile of a job, as the watch last brought it.
///
/// # Errors
/// What broke it off.
pub async fn reconcile(context: &Context, cached: &TrainingJob) -> Result<Action, Error> {
    if cached.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change()); // its objects go with it, by their owner references
    }
    let uid = cached.uid().unwrap_or_default();
    let object = context
        .memory
        .with(&uid, |notes| notes.newest(&Arc::new(cached.clone())));
    let old = object.status.clone().unwrap_or_default();
    let now = context.clock.now();
    let owner = Owner {
        uid: uid.clone(),
        name: object.name_any(),
        namespace: object.namespace().unwrap_or_default(),
    };
    let (job, plan, pods) = match Job::new(Arc::clone(&object)) {
        Ok(job) => {
            let observed = fetch(context, &job, &old, now).await?;
            let plan = plan::plan(&job, &old, &observed, &context.settings, now);
            (Some(job), plan, observed.pods)
        }
        Err(problems) => {
            let pods: Vec<PodSeen> = context.pods.of(&owner).into_values().collect();
            let plan = plan::invalid(&problems, &object, &pods, now);
            (None, plan, pods)
        }
    };
    if plan.status != old {
        match apply::write_status(&context.client, &object, plan.status.clone()).await {
            Ok(written) => {
                let version = object.metadata.resource_version.clone();
                context.memory.with(&uid, |notes| {
                    if plan.status.generation > old.generation {
                        let present = pods.into_iter().map(|pod| pod.name);
                        notes.record_generation(plan.status.generation, present);
                    }
                    notes.record_write(version, Arc::new(written));
                });
            }
            // Somebody else wrote: nothing was decided, and the news is on its way.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                return Ok(Action::requeue(CONFLICT));
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {
                return Ok(Action::await_change());
            }
            Err(error) => return Err(error.into()),
        }
        publish(context, &object, events::of(&old, &plan.status)).await;
    } else if plan.steps.iter().any(Step::deletes)
        && !apply::is_current(&context.client, &object).await?
    {
        // No write has shown yet that nobody else has decided otherwise meanwhile.
        return Ok(Action::requeue(BEHIND));
    }
    let mut again = plan.requeue_after;
    match job {
        Some(job) => {
            let more = carry_out(context, &job, &plan, now).await?;
            again = again.into_iter().chain(more).min();
        }
        None => apply::clean_up(&context.client, &object, &plan.steps).await?,
    }
    context.memory.update(&uid, |notes| notes.reset_errors());
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}

/// Takes the plan's steps; says when to look again for their sake.
async fn carry_out(
    context: &Context,
    job: &Job,
    plan: &Plan,
    now: Timestamp,
) -> Result<Option<Duration>, Error> {
    let refusal = context
        .memory
        .with(&job.uid, |notes| notes.refusal().map(|(_, until)| until));
    let mut steps = plan.steps.clone();
    let mut wait = None;
    if let Some(until) = refusal.filter(|until| *until > now) {
        // What was refused just now will be refused again.
        steps.retain(|step| !matches!(step, Step::CreatePod { .. } | Step::Apply(_)));
        wait = Duration::try_from(until.duration_since(now)).ok();
    }
    let outcome = take(context, job, &plan.status, &steps).await?;
    let now = context.clock.now();
    context.memory.with(&job.uid, |notes| {
        for pod in outcome.created {
            tracing::info!(
                job = job.name,
                namespace = job.namespace,
                pod = pod.name,
                "created"
            );
            notes.record_created(pod, now);
        }
        if outcome.failed.is_some() {
            return; // whether it was done nobody knows
        }
        if let Some(trouble) = outcome.refused {
            tracing::warn!(
                job = job.name,
                namespace = job.namespace,
                reason = trouble.reason,
                "{}",
                trouble.message
            );
            notes.record_refusal(trouble, now);
            wait = Some(Duration::ZERO); // once more, to say so in the status
        } else if wait.is_none() && notes.clear_refusal() {
            wait = Some(Duration::ZERO); // and once more when it is in the way no longer
        }
        wait = wait.into_iter().chain(notes.cache_timeout()).min();
    });
    match outcome.failed {
        Some(error) => Err(error.into()),
        None => Ok(wait),
    }
}

/// Takes steps, unless what the pods need is not there.
async fn take(
    context: &Context,
    job: &Job,
    status: &TrainingJobStatus,
    steps: &[Step],
) -> Result<Outcome, Error> {
    let creates = |step: &Step| matches!(step, Step::CreatePod { .. });
    if steps.iter().any(creates)
        && let Some(trouble) = apply::missing_reference(&context.client, job).await?
    {
        return Ok(Outcome {
            refused: Some(trouble),
            ..Outcome::default()
        });
    }
    let new_pods = |steps: &[Step]| {
        let name = |step: &Step| match step {
            Step::CreatePod {
                member, attempt, ..
            } => Some(pod_name(&job.name, *member, *attempt)),
            _ => None,
        };
        steps.iter().filter_map(name).collect::<Vec<_>>()
    };
    // Before, as an answer may never come.
    let names = new_pods(steps);
    context
        .memory
        .with(&job.uid, |notes| notes.record_creation_attempts(names));
    let outcome = apply::take_steps(&context.client, job, status, steps).await;
    let names = new_pods(steps.get(outcome.tried..).unwrap_or_default());
    context
        .memory
        .with(&job.uid, |notes| notes.withdraw_creation_attempts(names));
    Ok(outcome)
}

async fn publish(context: &Context, object: &TrainingJob, events: Vec<Event>) {
    let reference = object.object_ref(&());
    for event in events {
        tracing::info!(
            job = object.name_any(),
            namespace = object.namespace().unwrap_or_default(),
            reason = event.reason,
            "{}",
            event.note.as_deref().unwrap_or_default()
        );
        // Events are best effort everywhere in Kubernetes.
        if let Err(error) = context.recorder.publish(&event, &reference).await {
            tracing::debug!(%error, "publishing an event");
        }
    }
}

/// An object that cannot be decoded is reported, and left alone.
pub async fn undecodable(context: &Context, object: &Guarded, error: &str) {
    tracing::error!(
        name = object.name_any(),
        namespace = object.namespace().unwrap_or_default(),
        error,
        "cannot be decoded"
    );
    let mut note = format!("this operator cannot read the object, and leaves it alone: {error}");
    crate::trouble::truncate(&mut note, 1000);
    let event = Event {
        type_: EventType::Warning,
        reason: "Undecodable".into(),
        note: Some(note),
        action: "Read".into(),
        secondary: None,
    };
    if let Err(error) = context
        .recorder
        .publish(&event, &object.object_ref(&()))
        .await
    {
        tracing::debug!(%error, "publishing an event");
    }
}
