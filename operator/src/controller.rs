//! The loop: watches bring what has changed, a reconcile of each job concerned takes it further.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt, future, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, ListParams};
use kube::core::metadata::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::{self, watcher};
use kube::{Resource, ResourceExt};

use crate::backoff;
use crate::context::Context;
use crate::index::{Applied, Entry};
use crate::job::Guarded;
use crate::observe::{ChildObject, from_pod};
use crate::owner::Owner;
use crate::reconcile::{self, Error};
use crate::resources::labels;

/// Jobs that are worked on at once.
const CONCURRENCY: u16 = 32;
/// Events of one job within this time lead to one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(10);

/// Works on all jobs until `stop` is ready; reconciles that have begun are ended first.
///
/// # Errors
/// If the API server does not know TrainingJobs, or cannot be reached at the start.
pub fn run(
    context: Arc<Context>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) -> BoxFuture<'static, Result<(), Error>> {
    // A box of no type parameter: the whole loop is compiled here, and not once more in each program that runs it.
    work(context, Box::pin(stop)).boxed()
}

async fn work(
    context: Arc<Context>,
    stop: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
) -> Result<(), Error> {
    let jobs: Api<Guarded> = context.api();
    // A wrong address, missing rights or a missing CRD end the process here, with a message, not in a silent loop.
    jobs.list_metadata(&ListParams::default().limit(1)).await?;
    let (store, writer) = reflector::store();
    context.metrics.watch(store.clone());
    let (forget, queued, listed) = (Arc::clone(&context), Arc::clone(&context), store.clone());
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
        .inspect_ok(move |event| match event {
            watcher::Event::Delete(job) => {
                forget.memory.forget(&job.uid().unwrap_or_default());
                forget.metrics.gone(&ObjectRef::from_obj(job));
            }
            // The watch began anew: it has missed the end of whatever is not there.
            watcher::Event::InitDone => {
                let jobs = listed.state();
                let uids: HashSet<String> = jobs.iter().filter_map(|job| job.uid()).collect();
                forget.memory.retain(|uid| uids.contains(uid));
                forget.metrics.retain(|job| listed.get(job).is_some());
            }
            _ => {}
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
        children::<Service>(&context, ChildObject::Headless).boxed(),
        children::<ConfigMap>(&context, ChildObject::Config).boxed(),
        children::<NetworkPolicy>(&context, ChildObject::Policy).boxed(),
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
        .run(reconcile_object, error_policy, context)
        .for_each(|result| {
            if let Err(error) = result {
                tracing::debug!(%error, "a reconcile was broken off");
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
                let owned = Owner::of(&pod.metadata).zip(from_pod(pod));
                if let Some((owner, seen)) = &owned {
                    let vanishes =
                        matches!(event, watcher::Event::Delete(_)) && seen.end().is_none();
                    context.memory.update(&owner.uid, |notes| {
                        notes.record_watched(&seen.name);
                        if vanishes {
                            notes.record_removed(seen.clone());
                        }
                    });
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

/// The watch of another kind of object, that of `child`: names and digests are enough.
fn children<K>(
    context: &Arc<Context>,
    child: ChildObject,
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
                    .inspect_err(|error| tracing::warn!(%error, ?child, "watching"))
                    .ok(),
            )
        })
        .flat_map(move |event| {
            let owners = context
                .children(child)
                .apply(&event, |object: &PartialObjectMeta<K>| {
                    let applied = Applied::of(&object.metadata);
                    Entry {
                        namespace: object.namespace().unwrap_or_default(),
                        key: object.name_any(),
                        owned: Owner::of(&object.metadata).map(|owner| (owner, applied)),
                    }
                });
            stream::iter(owners).map(|owner| owner.reference())
        })
}

async fn reconcile_object(object: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    let timer = context
        .metrics
        .start_reconcile(&ObjectRef::from_obj(&*object));
    let result = match &object.0 {
        Ok(job) => reconcile::reconcile(&context, job).await,
        Err(invalid) => {
            reconcile::undecodable(&context, &object, &invalid.error).await;
            Ok(Action::await_change())
        }
    };
    timer.end(result.is_ok());
    result
}

fn error_policy(object: Arc<Guarded>, error: &Error, context: Arc<Context>) -> Action {
    let Error::Api(cause) = error;
    let wait = context
        .memory
        .with(&object.uid().unwrap_or_default(), |notes| {
            notes.record_error(cause, context.clock.now())
        });
    tracing::warn!(
        name = object.name_any(),
        namespace = object.namespace().unwrap_or_default(),
        %error,
        "a reconcile was broken off; trying again"
    );
    Action::requeue(backoff::retry_after(cause, wait))
}
