//! One reconcile of a job: validate, fetch, plan, write the status, take the steps.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType};
use kube::{Resource, ResourceExt};
use trainyard_contract::VERSION;
use trainyard_crds::{TrainingJob, TrainingJobStatus};

use crate::apply::{self, Outcome};
use crate::context::Context;
use crate::events;
use crate::fetch::fetch;
use crate::job::{Guarded, Job};
use crate::memory::Notes;
use crate::observe::PodSeen;
use crate::owner::Owner;
use crate::plan::{self, JobState, Plan, Step};
use crate::read;
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
    let known = JobState::of(object.status.clone().unwrap_or_default());
    if known.status.contract > Some(VERSION) {
        newer_contract(context, &object).await;
        return Ok(Action::await_change());
    }
    let now = context.clock.now();
    let requeue_after = match Job::new(Arc::clone(&object)) {
        Ok(job) => {
            let (plan, pods) = plan_job(context, &job, &known, now).await?;
            if let Some(action) = commit(context, &object, &known.status, &plan, pods).await? {
                return Ok(action);
            }
            let wait = carry_out(context, &job, &plan).await?;
            plan.requeue_after.into_iter().chain(wait).min()
        }
        Err(problems) => {
            let pods: Vec<PodSeen> = context.pods.of(&owner_of(&object)).into_values().collect();
            let plan = plan::invalid(&problems, &object, &pods, now);
            if let Some(action) = commit(context, &object, &known.status, &plan, pods).await? {
                return Ok(action);
            }
            apply::clean_up(&context.client, &object, &plan.steps).await?;
            plan.requeue_after
        }
    };
    context.memory.update(&uid, |notes| notes.reset_errors());
    Ok(requeue_after.map_or_else(Action::await_change, Action::requeue))
}

fn owner_of(object: &TrainingJob) -> Owner {
    Owner {
        uid: object.uid().unwrap_or_default(),
        name: object.name_any(),
        namespace: object.namespace().unwrap_or_default(),
    }
}

/// Fetches what is to be known of a job, and plans. Returns the pods that were seen too.
async fn plan_job(
    context: &Context,
    job: &Job,
    known: &JobState,
    now: Timestamp,
) -> Result<(Plan, Vec<PodSeen>), Error> {
    let mut observed = fetch(context, job, known, now).await?;
    let mut plan = plan::plan(job, known, &observed, &context.settings, now);
    // Looked up only when pods are to be created; a plan for what is missing creates none.
    if plan.creates_pods() {
        let exporting = plan.status.export.is_some();
        observed.missing_reference =
            read::missing_reference(&context.client, job, exporting).await?;
        if observed.missing_reference.is_some() {
            plan = plan::plan(job, known, &observed, &context.settings, now);
        }
    }
    Ok((plan, observed.pods))
}

/// Makes a plan's status durable. Returns what to do instead of the plan's steps if somebody else has written meanwhile.
async fn commit(
    context: &Context,
    object: &TrainingJob,
    old: &TrainingJobStatus,
    plan: &Plan,
    pods: Vec<PodSeen>,
) -> Result<Option<Action>, Error> {
    if plan.status == *old {
        // No write has shown yet that nobody else has decided otherwise meanwhile.
        let acts_blindly = plan.steps.iter().any(Step::deletes)
            && !read::is_current(&context.client, object).await?;
        return Ok(acts_blindly.then(|| Action::requeue(BEHIND)));
    }
    match apply::write_status(&context.client, object, plan.status.clone()).await {
        Ok(written) => {
            let version = object.metadata.resource_version.clone();
            let uid = object.uid().unwrap_or_default();
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
            return Ok(Some(Action::requeue(CONFLICT)));
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {
            return Ok(Some(Action::await_change()));
        }
        Err(error) => return Err(error.into()),
    }
    publish(context, object, events::of(old, &plan.status)).await;
    Ok(None)
}

/// Takes the plan's steps and remembers what came of them; says when to look again for their sake.
async fn carry_out(context: &Context, job: &Job, plan: &Plan) -> Result<Option<Duration>, Error> {
    let new_pods = |steps: &[Step]| -> Vec<String> {
        let name = |step: &Step| match step {
            Step::CreatePod {
                member, attempt, ..
            } => Some(pod_name(&job.name, *member, *attempt)),
            _ => None,
        };
        steps.iter().filter_map(name).collect()
    };
    // Before, as an answer may never come.
    let names = new_pods(&plan.steps);
    let new = context
        .memory
        .with(&job.uid, |notes| notes.record_creation_attempts(names));
    let outcome = apply::take_steps(&context.client, job, plan).await;
    let untried = new_pods(plan.steps.get(outcome.tried..).unwrap_or_default());
    let conflicts = new_pods(&outcome.conflicts);
    let may_exist = |name: &String| {
        let created = outcome.created.iter().any(|pod| pod.name == *name);
        // Whether what failed was done nobody knows.
        created || conflicts.contains(name) || (outcome.failed.is_some() && !untried.contains(name))
    };
    let not_created: Vec<&String> = new.iter().filter(|name| !may_exist(name)).collect();
    let now = context.clock.now();
    let wait = context.memory.with(&job.uid, |notes| {
        for name in &not_created {
            notes.withdraw_creation_attempt(name);
        }
        for pod in &outcome.created {
            let (job, namespace, pod_name) = (&job.name, &job.namespace, &pod.name);
            tracing::info!(job, namespace, pod = pod_name, "created");
            notes.record_created(pod.clone(), now);
        }
        for step in &outcome.conflicts {
            notes.record_conflict(step);
        }
        match &outcome.failed {
            Some(_) => None,
            None => after_steps(job, plan, &outcome, notes, now),
        }
    });
    match outcome.failed {
        Some(error) => Err(error.into()),
        None => Ok(wait),
    }
}

/// Remembers what was refused, or that nothing was; says when to look again.
fn after_steps(
    job: &Job,
    plan: &Plan,
    outcome: &Outcome,
    notes: &mut Notes,
    now: Timestamp,
) -> Option<Duration> {
    let waits = notes.refusal().is_some_and(|known| known.until > now);
    let mut wait = None;
    if let Some(trouble) = outcome.refused.as_ref().or(plan.refused.as_ref()) {
        let (job, namespace, reason) = (&job.name, &job.namespace, trouble.reason);
        tracing::warn!(job, namespace, reason, "{}", trouble.message);
        let tried_again = notes.record_refusal(trouble.clone(), now);
        // At once if the status does not say so yet.
        wait = Some(match outcome.refused {
            Some(_) => Duration::ZERO,
            None => tried_again,
        });
    } else if !outcome.conflicts.is_empty() {
        wait = Some(Duration::ZERO); // to look whose they are
    } else if !waits && notes.clear_refusal() {
        wait = Some(Duration::ZERO); // the status is to say that it is in the way no longer
    }
    wait.into_iter().chain(notes.cache_timeout()).min()
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

/// A job that a newer operator has begun is reported, and left alone: what its pods say, and what its status holds, may mean
/// more than this operator knows.
async fn newer_contract(context: &Context, object: &TrainingJob) {
    let note = format!(
        "a newer operator has begun this job, and this one leaves it alone (it knows contract {VERSION}): upgrade the operator"
    );
    report(context, object, "NewerContract", note).await;
}

/// An object that cannot be decoded is reported, and left alone.
pub async fn undecodable(context: &Context, object: &Guarded, error: &str) {
    let note = format!("this operator cannot read the object, and leaves it alone: {error}");
    report(context, object, "Undecodable", note).await;
}

async fn report<K>(context: &Context, object: &K, reason: &str, mut note: String)
where
    K: Resource<DynamicType = ()>,
{
    tracing::error!(
        name = object.name_any(),
        namespace = object.namespace().unwrap_or_default(),
        reason,
        "{note}"
    );
    crate::trouble::truncate(&mut note, 1000);
    let event = Event {
        type_: EventType::Warning,
        reason: reason.into(),
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
