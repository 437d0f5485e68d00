//! Carries out plans: the only place that writes to the API server. It decides nothing and reads nothing.

use std::collections::BTreeMap;
use std::fmt::Debug;

use futures::future::join_all;
use http::HeaderValue;
use http::header::ACCEPT;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{
    Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
};
use kube::core::{PartialObjectMeta, Request};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use trainyard_contract::Key;
use trainyard_crds::{TrainingJob, TrainingJobStatus};

use crate::job::Job;
use crate::observe::{ChildObject, Member, PodSeen, from_pod};
use crate::plan::{Plan, Step, stages};
use crate::resources::digest::digest;
use crate::resources::{self, labels};
use crate::trouble::Trouble;

/// Field manager of everything that the operator applies.
pub const MANAGER: &str = "trainyard-operator";

/// What to accept as an answer: an object's metadata alone.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// What came of the steps of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Pods that were created.
    pub created: Vec<PodSeen>,
    /// Steps that would create what may be there already, the job's own or somebody else's.
    pub conflicts: Vec<Step>,
    /// Why something could not be created; what comes after it was not tried.
    pub refused: Option<Trouble>,
    /// An error that no condition can name; what comes after it was not tried either.
    pub failed: Option<kube::Error>,
    /// How many of the steps were tried.
    pub tried: usize,
}

/// Writes a status, if nobody has written to the job since `object` was read.
///
/// # Errors
/// Of the API server; 409 if somebody has.
pub async fn write_status(
    client: &Client,
    object: &TrainingJob,
    status: TrainingJobStatus,
) -> kube::Result<TrainingJob> {
    let mut object = object.clone();
    object.status = Some(status);
    let api: Api<TrainingJob> =
        Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let mut written = api
        .replace_status(&object.name_any(), &PostParams::default(), &object)
        .await?;
    written.metadata.managed_fields = None;
    Ok(written)
}

/// Takes the steps of a plan, stage by stage.
pub async fn take_steps(client: &Client, job: &Job, plan: &Plan) -> Outcome {
    let mut outcome = Outcome::default();
    for stage in stages(&plan.steps) {
        let taken = join_all(stage.iter().map(|step| take(client, job, plan, step))).await;
        outcome.tried += stage.len();
        for (step, result) in stage.iter().zip(taken) {
            match result {
                Ok(Taken::Done) => {}
                Ok(Taken::Created(pod)) => outcome.created.push(*pod),
                Ok(Taken::Conflict) => outcome.conflicts.push(step.clone()),
                Ok(Taken::Refused(trouble)) => outcome.refused = Some(trouble),
                Err(error) => outcome.failed = Some(error),
            }
        }
        if outcome.refused.is_some() || outcome.failed.is_some() {
            break;
        }
    }
    outcome
}

/// Takes the steps that are left of a job when it has ended; they need no more than its name.
///
/// # Errors
/// Of the API server.
pub async fn clean_up(client: &Client, job: &TrainingJob, steps: &[Step]) -> kube::Result<()> {
    let namespace = job.namespace().unwrap_or_default();
    for step in steps {
        match step {
            Step::DeletePod { name, uid, version } => {
                delete_pod(client, &namespace, name, uid, version.as_ref()).await?;
            }
            Step::DeleteJob => delete_job(client, job).await?,
            Step::Create(_)
            | Step::Update { .. }
            | Step::CreateKeys
            | Step::CreatePod { .. }
            | Step::Label { .. } => {}
        }
    }
    Ok(())
}

enum Taken {
    Done,
    Created(Box<PodSeen>),
    Conflict,
    Refused(Trouble),
}

async fn take(client: &Client, job: &Job, plan: &Plan, step: &Step) -> kube::Result<Taken> {
    match step {
        Step::Create(child) => write_child(client, job, plan, *child, None).await,
        Step::Update { child, uid } => write_child(client, job, plan, *child, Some(uid)).await,
        Step::CreateKeys => create_keys(client, job).await,
        Step::CreatePod {
            member,
            attempt,
            generation,
        } => {
            let image = plan.status.image.as_deref().unwrap_or_default();
            let pod = resources::pod(job, image, *member, *attempt, *generation);
            create_pod(client, &pod).await
        }
        Step::Label {
            uid,
            member,
            attempt,
        } => label(client, job, uid, *member, *attempt).await,
        Step::DeletePod { name, uid, version } => {
            delete_pod(client, &job.namespace, name, uid, version.as_ref()).await?;
            Ok(Taken::Done)
        }
        Step::DeleteJob => {
            delete_job(client, &job.object).await?;
            Ok(Taken::Done)
        }
    }
}

/// Creates a child object, or updates the one of that uid.
async fn write_child(
    client: &Client,
    job: &Job,
    plan: &Plan,
    child: ChildObject,
    uid: Option<&String>,
) -> kube::Result<Taken> {
    match child {
        ChildObject::Config => {
            let object = resources::config_map(job).map_err(kube::Error::SerdeError)?;
            match uid {
                None => write(client, object, None).await,
                Some(uid) => {
                    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &job.namespace);
                    merge_labels(&api, &object.name_any(), uid, object.labels()).await
                }
            }
        }
        ChildObject::Headless => write(client, resources::headless(job), uid).await,
        ChildObject::Coordinator => {
            let service = resources::coordinator(job, plan.coordinator_attempt);
            write(client, service, uid).await
        }
        ChildObject::Policy => write(client, resources::network_policy(job), uid).await,
    }
}

/// A namesake that is somebody else's is left alone: a forced apply would take it over, and the job's end would take it along.
async fn write<K>(client: &Client, mut object: K, uid: Option<&String>) -> kube::Result<Taken>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug,
{
    let digest = digest(&object).map_err(kube::Error::SerdeError)?;
    object
        .annotations_mut()
        .insert(labels::APPLIED.into(), digest);
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    let Some(uid) = uid else {
        let parameters = PostParams {
            field_manager: Some(MANAGER.into()),
            ..PostParams::default()
        };
        return match api.create(&parameters, &object).await {
            Err(error) if already_exists(&error) => Ok(Taken::Conflict),
            Err(error) => refusal(error),
            Ok(_) => Ok(Taken::Done),
        };
    };
    object.meta_mut().uid = Some(uid.clone());
    let parameters = PatchParams::apply(MANAGER).force();
    let name = object.name_any();
    match api
        .patch_metadata(&name, &parameters, &Patch::Apply(&object))
        .await
    {
        // Gone, or a namesake is there: the watch brings it.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Taken::Done),
        Err(error) => refusal(error),
        Ok(_) => Ok(Taken::Done),
    }
}

/// Creates the Secret with the job's keys. One that is there stays: the job's, from an earlier try or another operator.
async fn create_keys(client: &Client, job: &Job) -> kube::Result<Taken> {
    let mut random = [0; Key::BYTES];
    getrandom::fill(&mut random).expect("the system gives random bytes");
    let secret = resources::keys(job, random);
    let body = serde_json::to_vec(&secret).map_err(kube::Error::SerdeError)?;
    let parameters = PostParams {
        field_manager: Some(MANAGER.into()),
        ..PostParams::default()
    };
    let url = Secret::url_path(&(), Some(&job.namespace));
    let mut request = Request::new(url)
        .create(&parameters, body)
        .map_err(kube::Error::BuildRequest)?;
    // The answer would hold the keys, and kube logs an answer that it cannot decode.
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static(METADATA_ONLY));
    match client.request::<PartialObjectMeta<Secret>>(request).await {
        Err(error) if already_exists(&error) => Ok(Taken::Done),
        Err(error) => refusal(error),
        Ok(_) => Ok(Taken::Done),
    }
}

async fn create_pod(client: &Client, pod: &Pod) -> kube::Result<Taken> {
    let namespace = pod.namespace().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    match api.create(&PostParams::default(), pod).await {
        Ok(created) => {
            let seen = from_pod(&created);
            Ok(seen.map_or(Taken::Done, |seen| Taken::Created(Box::new(seen))))
        }
        Err(error) if already_exists(&error) => Ok(Taken::Conflict),
        Err(error) => refusal(error),
    }
}

/// Gives a pod the labels by which the watch and the Services find it.
async fn label(
    client: &Client,
    job: &Job,
    uid: &str,
    member: Member,
    attempt: u32,
) -> kube::Result<Taken> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &job.namespace);
    let name = resources::pod_name(&job.name, member, attempt);
    let labels = labels::of_pod(&job.name, member, attempt);
    merge_labels(&api, &name, uid, &labels).await
}

/// Gives an object its labels back, if it is still the one with this uid.
async fn merge_labels<K>(
    api: &Api<K>,
    name: &str,
    uid: &str,
    labels: &BTreeMap<String, String>,
) -> kube::Result<Taken>
where
    K: DeserializeOwned + Clone + Debug,
{
    let patch = serde_json::json!({"metadata": {"uid": uid, "labels": labels}});
    let patch = Patch::Merge(patch);
    match api
        .patch_metadata(name, &PatchParams::default(), &patch)
        .await
    {
        // Gone, or a namesake is there.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => Ok(Taken::Done),
        result => result.map(|_| Taken::Done),
    }
}

async fn delete_pod(
    client: &Client,
    namespace: &str,
    name: &str,
    uid: &str,
    version: Option<&String>,
) -> kube::Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let preconditions = Preconditions {
        uid: Some(uid.into()),
        resource_version: version.cloned(),
    };
    delete(&api, name, preconditions).await
}

/// Deletes a job as it was read: one whose time was prolonged meanwhile stays.
async fn delete_job(client: &Client, job: &TrainingJob) -> kube::Result<()> {
    let namespace = job.namespace().unwrap_or_default();
    let api: Api<TrainingJob> = Api::namespaced(client.clone(), &namespace);
    let version = Preconditions {
        uid: job.uid(),
        resource_version: job.resource_version(),
    };
    delete(&api, &job.name_any(), version).await
}

async fn delete<K>(api: &Api<K>, name: &str, preconditions: Preconditions) -> kube::Result<()>
where
    K: Clone + DeserializeOwned + Debug,
{
    let parameters = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(preconditions),
        ..DeleteParams::default()
    };
    match api.delete(name, &parameters).await {
        // Gone already, or a namesake is there, or another version: the watch brings it.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        result => result.map(drop),
    }
}

fn already_exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && status.reason == "AlreadyExists")
}

/// Refusals that somebody has to resolve have a name; other errors are worth another try as they are.
fn refusal(error: kube::Error) -> kube::Result<Taken> {
    let kube::Error::Api(status) = &error else {
        return Err(error);
    };
    let message = status.message.as_str();
    // As the API server words it; an older release of the chart may lack a right of this operator's.
    let lacks_right = ["create", "patch"]
        .iter()
        .any(|verb| message.contains(&format!("cannot {verb} resource")));
    let reason = match status.code {
        403 if message.contains("exceeded quota") => "QuotaExceeded",
        403 if message.contains("PodSecurity") => "PodSecurity",
        403 => "Forbidden",
        // Admission comes before anything is stored.
        500 if message.contains("failed calling webhook") => "WebhookFailed",
        400 | 422 => "Rejected",
        _ => return Err(error),
    };
    let remedy = match (reason, lacks_right) {
        ("Forbidden", true) => "; the operator lacks a right that its chart gives: helm upgrade it",
        _ => "",
    };
    Ok(Taken::Refused(Trouble::new(
        reason,
        format!("{message}{remedy}"),
    )))
}
