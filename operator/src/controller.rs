//! The loop: watches bring what has changed, a pass over each job that it concerns brings it further.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt, TryStreamExt, future, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, ListParams};
use kube::core::DeserializeGuard;
use kube::core::metadata::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::{self, watcher};
use kube::{Client, Resource, ResourceExt};
use tokio::sync::Semaphore;
use trainyard_crds::TrainingJob;

use crate::apply::{self, Outcome};
use crate::coordinator::{Coordinator, Progress};
use crate::events;
use crate::index::{Entry, Owner, Parts, Pods};
use crate::job::Job;
use crate::memory::{Memory, Poll};
use crate::metrics::Metrics;
use crate::observed::{Member, Observed, Part, PodSeen, ProgressSeen, see};
use crate::plan::{self, POLL, Plan, Settings, Step};
use crate::resources::{labels, pod_name};

/// A job, or what could be read of an object that is none.
pub type Guarded = DeserializeGuard<TrainingJob>;

/// Jobs that are worked on at once.
const CONCURRENCY: u16 = 32;
/// Coordinators that are asked at once.
const POLLS: usize = CONCURRENCY as usize / 2;
/// Events of one job within this time lead to one pass.
const DEBOUNCE: Duration = Duration::from_millis(10);
/// When to look again after somebody else wrote to a job while we did.
const CONFLICT: Duration = Duration::from_millis(500);
/// How long a coordinator may be silent before the status says so.
const SILENCE: SignedDuration = SignedDuration::from_secs(30);
/// How often a silent coordinator is asked.
const SILENT_POLL: SignedDuration = SignedDuration::from_secs(15);

/// The time now, wherever it comes from.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// What passes share.
pub struct Context {
    client: Client,
    namespace: Option<String>,
    settings: Settings,
    clock: Arc<dyn Clock>,
    coordinator: Arc<dyn Coordinator>,
    recorder: Recorder,
    metrics: Arc<Metrics>,
    pods: Pods,
    services: Parts,
    config_maps: Parts,
    policies: Parts,
    memory: Memory,
    /// Polls at once: coordinators that do not answer must not keep passes waiting.
    polls: Semaphore,
}

impl Context {
    /// A context that knows nothing yet. `namespace` limits it to one; `instance` names the process in events.
    pub fn new(
        client: Client,
        namespace: Option<String>,
        settings: Settings,
        clock: Arc<dyn Clock>,
        coordinator: Arc<dyn Coordinator>,
        metrics: Arc<Metrics>,
        instance: Option<String>,
    ) -> Self {
        let reporter = Reporter {
            controller: "trainyard-operator".into(),
            instance,
        };
        Context {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            namespace,
            settings,
            clock,
            coordinator,
            metrics,
            pods: Pods::default(),
            services: Parts::default(),
            config_maps: Parts::default(),
            policies: Parts::default(),
            memory: Memory::default(),
            polls: Semaphore::new(POLLS),
        }
    }

    fn parts(&self, part: Part) -> &Parts {
        match part {
            Part::Config => &self.config_maps,
            Part::Headless | Part::Coordinator => &self.services,
            Part::Policy => &self.policies,
        }
    }

    /// Ready once the caches hold all that there was at the start: before, every pod would seem to be lost.
    async fn listed(&self) {
        self.pods.listed().await;
        self.services.listed().await;
        self.config_maps.listed().await;
        self.policies.listed().await;
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }
}

/// Why a pass was broken off.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("API server: {0}")]
    Api(#[from] kube::Error),
}

/// Works on all jobs until `stop` is ready; passes that have begun are ended first.
///
/// # Errors
/// If the API server does not know TrainingJobs, or cannot be reached at the start.
pub async fn run(
    context: Arc<Context>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) -> Result<(), Error> {
    let jobs: Api<Guarded> = context.api();
    // A wrong address, missing rights or a missing CRD end the process here, with a message, not in a silent loop.
    jobs.list_metadata(&ListParams::default().limit(1)).await?;
    let (store, writer) = reflector::store();
    context.metrics.watch(store.clone());
    let (forget, queued) = (Arc::clone(&context), Arc::clone(&context));
    let jobs = watcher(jobs, watcher::Config::default())
        .default_backoff()
        .modify(|job: &mut Guarded| {
            let metadata = job.meta_mut();
            metadata.managed_fields = None;
            if let Some(annotations) = &mut metadata.annotations {
                annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
            }
        })
        .reflect(writer)
        .inspect_ok(move |event| {
            if let watcher::Event::Delete(job) = event {
                forget.memory.forget(&job.uid().unwrap_or_default());
                forget.metrics.gone(&ObjectRef::from_obj(job));
            }
        })
        .touched_objects()
        .inspect_ok(move |job| queued.metrics.queued(&ObjectRef::from_obj(job)));
    let caches = Arc::clone(&context);
    let jobs = async move {
        caches.listed().await;
        jobs
    }
    .flatten_stream();
    let children = stream::select_all([
        pods(&context).boxed(),
        parts::<Service>(&context, Part::Headless).boxed(),
        parts::<ConfigMap>(&context, Part::Config).boxed(),
        parts::<NetworkPolicy>(&context, Part::Policy).boxed(),
    ]);
    let metrics = Arc::clone(&context.metrics);
    let children = children.inspect(move |job| metrics.queued(job));
    Controller::for_stream(jobs, store)
        .with_config(
            Config::default()
                .concurrency(CONCURRENCY)
                .debounce(DEBOUNCE),
        )
        .reconcile_on(children)
        .graceful_shutdown_on(stop)
        .run(reconcile, error_policy, context)
        .for_each(|result| {
            if let Err(error) = result {
                tracing::debug!(%error, "a pass was broken off");
            }
            future::ready(())
        })
        .await;
    Ok(())
}

/// The pods' watch: keeps the index current and names the jobs concerned.
fn pods(context: &Arc<Context>) -> impl Stream<Item = ObjectRef<Guarded>> + Send + use<> {
    let config = watcher::Config::default().labels(labels::MANAGED);
    let context = Arc::clone(context);
    watcher(context.api::<Pod>(), config)
        .default_backoff()
        .filter_map(|event| {
            future::ready(
                event
                    .inspect_err(|error| tracing::warn!(%error, "watching pods"))
                    .ok(),
            )
        })
        .flat_map(move |event| {
            let owners = context.pods.apply(&event, |pod: &Pod| {
                let owned = Owner::of(&pod.metadata).zip(see(pod));
                if let Some((owner, seen)) = &owned {
                    let memory = &context.memory;
                    memory.update(&owner.uid, |notes| notes.seen(&seen.name));
                }
                Entry {
                    namespace: pod.namespace().unwrap_or_default(),
                    key: pod.name_any(),
                    owned,
                }
            });
            stream::iter(owners).map(|owner| owner.reference())
        })
}

/// The watch of another kind of object, that of `part`: names and digests are enough.
fn parts<K>(
    context: &Arc<Context>,
    part: Part,
) -> impl Stream<Item = ObjectRef<Guarded>> + Send + use<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let config = watcher::Config::default().labels(labels::MANAGED);
    let context = Arc::clone(context);
    watcher(context.api::<PartialObjectMeta<K>>(), config)
        .default_backoff()
        .filter_map(move |event| {
            future::ready(
                event
                    .inspect_err(|error| tracing::warn!(%error, ?part, "watching"))
                    .ok(),
            )
        })
        .flat_map(move |event| {
            let owners = context
                .parts(part)
                .apply(&event, |object: &PartialObjectMeta<K>| {
                    let digest = object.annotations().get(labels::APPLIED);
                    let digest = digest.cloned().unwrap_or_default();
                    Entry {
                        namespace: object.namespace().unwrap_or_default(),
                        key: object.name_any(),
                        owned: Owner::of(&object.metadata).map(|owner| (owner, digest)),
                    }
                });
            stream::iter(owners).map(|owner| owner.reference())
        })
}

async fn reconcile(object: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    let timer = context.metrics.pass(&ObjectRef::from_obj(&*object));
    let result = match &object.0 {
        Ok(job) => pass(&context, job).await,
        Err(invalid) => {
            undecodable(&context, &object, &invalid.error).await;
            Ok(Action::await_change())
        }
    };
    timer.end(result.is_ok());
    result
}

/// One pass over a job.
async fn pass(context: &Context, cached: &TrainingJob) -> Result<Action, Error> {
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
    let (job, plan) = match Job::new(Arc::clone(&object)) {
        Ok(job) => {
            let observed = fetch(context, &job, &old, now).await?;
            let plan = plan::plan(&job, &old, &observed, &context.settings, now);
            (Some(job), plan)
        }
        Err(problems) => {
            let pods: Vec<PodSeen> = context.pods.of(&owner).into_values().collect();
            (None, plan::invalid(&problems, &object, &pods, now))
        }
    };
    if plan.status != old {
        match apply::write_status(&context.client, &object, plan.status.clone()).await {
            Ok(written) => {
                let version = object.metadata.resource_version.clone();
                context.memory.with(&uid, |notes| {
                    if plan.status.generation > old.generation {
                        notes.raised(plan.status.generation);
                    }
                    notes.wrote(version, Arc::new(written));
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
    }
    let mut again = plan.again;
    match job {
        Some(job) => {
            let more = carry_out(context, &job, &plan, now).await?;
            again = again.into_iter().chain(more).min();
        }
        None => apply::clean_up(&context.client, &owner, &plan.steps).await?,
    }
    context.memory.with(&uid, |notes| notes.went_well());
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
    let image = plan.status.image.as_deref().unwrap_or_default();
    let outcome = take(context, job, image, &steps).await?;
    let now = context.clock.now();
    context.memory.with(&job.uid, |notes| {
        for pod in outcome.created {
            tracing::info!(
                job = job.name,
                namespace = job.namespace,
                pod = pod.name,
                "created"
            );
            notes.created(pod, now);
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
            notes.refused(trouble, now);
            wait = Some(Duration::ZERO); // once more, to say so in the status
        } else if wait.is_none() && notes.allowed() {
            wait = Some(Duration::ZERO); // and once more when it is in the way no longer
        }
        wait = wait.into_iter().chain(notes.patience()).min();
    });
    match outcome.failed {
        Some(error) => Err(error.into()),
        None => Ok(wait),
    }
}

/// Takes steps, unless what the pods need is not there.
async fn take(context: &Context, job: &Job, image: &str, steps: &[Step]) -> Result<Outcome, Error> {
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
    context.memory.with(&job.uid, |notes| notes.tries(names));
    let outcome = apply::take_steps(&context.client, job, image, steps).await;
    let names = new_pods(steps.get(outcome.tried..).unwrap_or_default());
    context.memory.with(&job.uid, |notes| notes.spared(names));
    Ok(outcome)
}

async fn fetch(
    context: &Context,
    job: &Job,
    status: &trainyard_crds::TrainingJobStatus,
    now: Timestamp,
) -> Result<Observed, Error> {
    let owner = job.as_owner();
    let mut pods = context.pods.of(&owner);
    let refused = context.memory.with(&job.uid, |notes| {
        for pod in notes.unseen(now) {
            pods.entry(pod.name.clone()).or_insert_with(|| pod.clone());
        }
        notes.refusal().map(|(trouble, _)| trouble.clone())
    });
    let mut pods: Vec<PodSeen> = pods.into_values().collect();
    let doubtful = confirm(context, job, status, &mut pods).await?;
    let mut parts = Vec::new();
    for part in Part::ALL {
        let (name, digest) = apply::wanted_part(job, part)?;
        if context.parts(part).of(&owner).get(&name) == Some(&digest) {
            parts.push(part);
        }
    }
    let poll = match status.phase.is_some_and(|phase| phase.is_terminal()) {
        true => Poll::default(),
        false => poll(context, job, &pods, now).await,
    };
    Ok(Observed {
        pods,
        parts,
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
    })
}

/// Looks for the servers that the cache lacks and that may be there: only the API server itself can say that one is lost.
/// Tells whether one that is to be created may have been there before.
async fn confirm(
    context: &Context,
    job: &Job,
    status: &trainyard_crds::TrainingJobStatus,
    pods: &mut Vec<PodSeen>,
) -> Result<bool, Error> {
    let mut missing = plan::missing_servers(job, status, pods);
    context.memory.with(&job.uid, |notes| {
        missing.retain(|(member, attempt)| {
            !notes.is_new(status.generation, &pod_name(&job.name, *member, *attempt))
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
        .rfind(|pod| pod.member == Member::COORDINATOR && pod.ready && pod.is_active());
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
        return poll; // at the next pass
    };
    poll.asked = Some(now);
    match context.coordinator.progress(ip).await {
        Ok(progress) => {
            let samples = progress.samples;
            poll.answer = Some((understood(progress, poll.answer.as_ref(), now), samples));
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

fn understood(
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
async fn undecodable(context: &Context, object: &Guarded, error: &str) {
    tracing::error!(
        name = object.name_any(),
        namespace = object.namespace().unwrap_or_default(),
        error,
        "cannot be decoded"
    );
    let mut note = format!("this operator cannot read the object, and leaves it alone: {error}");
    crate::observed::cut(&mut note, 1000);
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

fn error_policy(object: Arc<Guarded>, error: &Error, context: Arc<Context>) -> Action {
    let Error::Api(cause) = error;
    let wait = context
        .memory
        .with(&object.uid().unwrap_or_default(), |notes| notes.erred());
    tracing::warn!(
        name = object.name_any(),
        namespace = object.namespace().unwrap_or_default(),
        %error,
        "a pass was broken off; trying again"
    );
    Action::requeue(apply::retry_after(cause, wait))
}
