//! Carries out plans: the only place that writes to the API server.

use std::fmt::Debug;
use std::mem::Discriminant;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use trainyard_crds::training_job::Volume;
use trainyard_crds::{TrainingJob, TrainingJobStatus};

use crate::job::{Job, StoragePlace};
use crate::observe::{ChildObject, Member, PodSeen, Role, Trouble, from_pod};
use crate::owner::Owner;
use crate::plan::{self, Step};
use crate::resources::{self, labels};

/// Field manager of everything that the operator applies.
pub const MANAGER: &str = "trainyard-operator";
/// Pods of a job that are created at once.
const AT_ONCE: usize = 32;

/// What came of the steps of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Pods that were created.
    pub created: Vec<PodSeen>,
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

/// Takes the steps of a plan in order, those of one kind side by side.
pub async fn take_steps(
    client: &Client,
    job: &Job,
    status: &TrainingJobStatus,
    steps: &[Step],
) -> Outcome {
    let mut outcome = Outcome::default();
    for alike in steps.chunk_by(|a, b| kind(a) == kind(b)) {
        for batch in alike.chunks(AT_ONCE) {
            let taken = join_all(batch.iter().map(|step| take(client, job, status, step))).await;
            outcome.tried += batch.len();
            for result in taken {
                match result {
                    Ok(Taken::Done) => {}
                    Ok(Taken::Created(pod)) => outcome.created.push(*pod),
                    Ok(Taken::Refused(trouble)) => outcome.refused = Some(trouble),
                    Err(error) => outcome.failed = Some(error),
                }
            }
            if outcome.refused.is_some() || outcome.failed.is_some() {
                return outcome;
            }
        }
    }
    outcome
}

/// Steps of one kind are taken side by side. Servers come before workers, which would otherwise take their place in a quota.
fn kind(step: &Step) -> (Discriminant<Step>, Option<Role>) {
    let role = match step {
        Step::CreatePod { member, .. } => Some(member.role),
        _ => None,
    };
    (std::mem::discriminant(step), role)
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
            Step::Apply(_) | Step::CreatePod { .. } | Step::Label { .. } => {}
        }
    }
    Ok(())
}

enum Taken {
    Done,
    Created(Box<PodSeen>),
    Refused(Trouble),
}

async fn take(
    client: &Client,
    job: &Job,
    status: &TrainingJobStatus,
    step: &Step,
) -> kube::Result<Taken> {
    match step {
        Step::Apply(child) => apply_child(client, job, status, *child).await,
        Step::CreatePod {
            member,
            attempt,
            generation,
        } => {
            let image = status.image.as_deref().unwrap_or_default();
            let pod = resources::pod(job, image, *member, *attempt, *generation);
            create(client, job, &pod, (*member, *attempt)).await
        }
        Step::Label {
            uid,
            member,
            attempt,
        } => {
            let api: Api<Pod> = Api::namespaced(client.clone(), &job.namespace);
            match label(&api, job, uid, *member, *attempt).await {
                // Gone, or a namesake is there.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => {
                    Ok(Taken::Done)
                }
                result => result.map(|_| Taken::Done),
            }
        }
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

async fn apply_child(
    client: &Client,
    job: &Job,
    status: &TrainingJobStatus,
    child: ChildObject,
) -> kube::Result<Taken> {
    let attempt = plan::coordinator_attempt(status);
    let applied = match child {
        ChildObject::Config => {
            let object = resources::config_map(job).map_err(kube::Error::SerdeError)?;
            make(client, job, object).await
        }
        ChildObject::Headless => make(client, job, resources::headless(job)).await,
        ChildObject::Coordinator => make(client, job, resources::coordinator(job, attempt)).await,
        ChildObject::Policy => make(client, job, resources::network_policy(job)).await,
    };
    match applied {
        Ok(taken) => Ok(taken),
        Err(error) => refusal(error).map(Taken::Refused),
    }
}

/// Creates an object, or makes it what it should be if it is there and ours. A namesake that is somebody else's is left
/// alone: a forced apply would take it over, and the job's end would take it along.
async fn make<K>(client: &Client, job: &Job, mut object: K) -> kube::Result<Taken>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug,
{
    let digest = digest(&object)?;
    object
        .annotations_mut()
        .insert(labels::APPLIED.into(), digest);
    let api: Api<K> = Api::namespaced(client.clone(), &job.namespace);
    let name = object.name_any();
    let parameters = PostParams {
        field_manager: Some(MANAGER.into()),
        ..PostParams::default()
    };
    let denied = match api.create(&parameters, &object).await {
        Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
            None
        }
        // A quota that is exhausted refuses before anybody looks whether the object is there.
        Err(kube::Error::Api(status)) if status.code == 403 => Some(kube::Error::Api(status)),
        created => return created.map(|_| Taken::Done),
    };
    let Some(found) = metadata_of(&api, &name).await? else {
        // Not there, or gone in between: the next reconcile sees to it.
        return denied.map_or(Ok(Taken::Done), Err);
    };
    if Owner::of(&found).is_none_or(|owner| owner.uid != job.uid) {
        return Ok(Taken::Refused(taken(&K::kind(&()), &name)));
    }
    let parameters = PatchParams::apply(MANAGER).force();
    api.patch_metadata(&name, &parameters, &Patch::Apply(&object))
        .await?;
    Ok(Taken::Done)
}

/// An object's metadata as the API server has it now. By a list: that needs no right that watches do not need too.
async fn metadata_of<K>(api: &Api<K>, name: &str) -> kube::Result<Option<ObjectMeta>>
where
    K: Clone + DeserializeOwned + Debug,
{
    let of_name = ListParams::default().fields(&format!("metadata.name={name}"));
    let found = api.list_metadata(&of_name).await?.items;
    let found = found
        .into_iter()
        .find(|found| found.metadata.name.as_deref() == Some(name));
    Ok(found.map(|found| found.metadata))
}

/// Whether a job is still as it was read. Whoever acts on an old one, because its watch is behind or it does not lead any
/// more, must not delete anything for it.
///
/// # Errors
/// Of the API server.
pub async fn is_current(client: &Client, object: &TrainingJob) -> kube::Result<bool> {
    let api: Api<TrainingJob> =
        Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let now = metadata_of(&api, &object.name_any()).await?;
    Ok(now.is_some_and(|now| {
        now.uid == object.metadata.uid && now.resource_version == object.metadata.resource_version
    }))
}

/// What tells one state of an object that we apply from another.
fn digest(object: &impl Serialize) -> kube::Result<String> {
    let bytes = serde_json::to_vec(object).map_err(kube::Error::SerdeError)?;
    Ok(const_hex::encode(&Sha256::digest(bytes)[..8]))
}

/// Name and digest of a child object as it should be.
///
/// # Errors
/// Never for a job that was decoded.
pub fn wanted_child(
    job: &Job,
    status: &TrainingJobStatus,
    child: ChildObject,
) -> kube::Result<(String, String)> {
    match child {
        ChildObject::Config => named(&resources::config_map(job).map_err(kube::Error::SerdeError)?),
        ChildObject::Headless => named(&resources::headless(job)),
        ChildObject::Coordinator => named(&resources::coordinator(
            job,
            plan::coordinator_attempt(status),
        )),
        ChildObject::Policy => named(&resources::network_policy(job)),
    }
}

fn named<K: Resource + Serialize>(object: &K) -> kube::Result<(String, String)> {
    Ok((object.name_any(), digest(object)?))
}

/// Creates a pod. One of that name that is ours already is as good; the cache was behind.
async fn create(
    client: &Client,
    job: &Job,
    pod: &Pod,
    (member, attempt): (Member, u32),
) -> kube::Result<Taken> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &job.namespace);
    let created = match api.create(&PostParams::default(), pod).await {
        Ok(created) => created,
        Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
            match api.get_opt(&pod.name_any()).await? {
                None => return Ok(Taken::Done), // gone in between: the next reconcile sees to it
                Some(existing) => match Owner::of(&existing.metadata) {
                    Some(owner) if owner.uid == job.uid => match from_pod(&existing) {
                        // Somebody took its labels, and it goes: its name is free when it has gone.
                        Some(seen) if !seen.labelled && seen.deletion.is_some() => {
                            return Ok(Taken::Refused(going(&seen.name)));
                        }
                        // The watch cannot find it without its labels.
                        Some(seen) if !seen.labelled => {
                            label(&api, job, &seen.uid, member, attempt).await?
                        }
                        _ => existing,
                    },
                    _ => return Ok(Taken::Refused(taken("Pod", &pod.name_any()))),
                },
            }
        }
        Err(error) => return refusal(error).map(Taken::Refused),
    };
    Ok(from_pod(&created).map_or(Taken::Done, |seen| Taken::Created(Box::new(seen))))
}

/// Gives a pod the labels by which the watch and the Services find it.
async fn label(
    api: &Api<Pod>,
    job: &Job,
    uid: &str,
    member: Member,
    attempt: u32,
) -> kube::Result<Pod> {
    let labels = labels::of_pod(&job.name, member, attempt);
    let patch = serde_json::json!({"metadata": {"uid": uid, "labels": labels}});
    let name = resources::pod_name(&job.name, member, attempt);
    api.patch(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await
}

/// A member's pod as the API server has it now, whatever the cache says.
///
/// # Errors
/// Of the API server.
pub async fn find(
    client: &Client,
    job: &Job,
    member: Member,
    attempt: u32,
) -> kube::Result<Option<PodSeen>> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &job.namespace);
    let name = resources::pod_name(&job.name, member, attempt);
    let pod = api.get_opt(&name).await?;
    let is_ours = |pod: &Pod| Owner::of(&pod.metadata).is_some_and(|owner| owner.uid == job.uid);
    Ok(pod.filter(is_ours).as_ref().and_then(from_pod))
}

fn taken(kind: &str, name: &str) -> Trouble {
    Trouble::new(
        "NameTaken",
        format!(
            "there is a {kind} {name} that does not belong to this job: delete it, or rename the job"
        ),
    )
}

fn going(pod: &str) -> Trouble {
    Trouble::new(
        "NameTaken",
        format!(
            "the pod {pod} has lost its labels and is being deleted: it is replaced when it has gone"
        ),
    )
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

/// Refusals that somebody has to mend have a name; other errors are worth another try as they are.
fn refusal(error: kube::Error) -> kube::Result<Trouble> {
    let kube::Error::Api(status) = &error else {
        return Err(error);
    };
    let message = status.message.as_str();
    let reason = match status.code {
        403 if message.contains("exceeded quota") => "QuotaExceeded",
        403 if message.contains("PodSecurity") => "PodSecurity",
        403 => "Forbidden",
        // Admission comes before anything is stored.
        500 if message.contains("failed calling webhook") => "WebhookFailed",
        400 | 422 => "Rejected",
        _ => return Err(error),
    };
    Ok(Trouble::new(reason, message))
}

/// The first volume that the job names and that is not there.
///
/// # Errors
/// Of the API server.
pub async fn missing_reference(client: &Client, job: &Job) -> kube::Result<Option<Trouble>> {
    let mut volumes: Vec<(&str, &Volume)> = Vec::new();
    volumes.extend(
        job.object
            .spec
            .data
            .volume
            .as_ref()
            .map(|volume| ("spec.data.volume", volume)),
    );
    if let StoragePlace::Volume(volume) = &job.storage {
        volumes.push(("spec.checkpoint.storage.volume", volume));
    }
    for (field, volume) in volumes {
        let (kind, name, found) = match volume {
            Volume::ConfigMap(config) => (
                "ConfigMap",
                &config.name,
                exists::<ConfigMap>(client, job, &config.name).await?,
            ),
            Volume::PersistentVolumeClaim(claim) => {
                let found = exists::<PersistentVolumeClaim>(client, job, &claim.claim_name).await?;
                ("PersistentVolumeClaim", &claim.claim_name, found)
            }
            Volume::HostPath(_) | Volume::EmptyDir(_) => continue,
        };
        if !found {
            let message = format!(
                "{field}: there is no {kind} {name:?} in namespace {}: create it",
                job.namespace
            );
            return Ok(Some(Trouble::new("VolumeNotFound", message)));
        }
    }
    Ok(None)
}

async fn exists<K>(client: &Client, job: &Job, name: &str) -> kube::Result<bool>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), &job.namespace);
    Ok(api.get_metadata_opt(name).await?.is_some())
}
