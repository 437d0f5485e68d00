//! Questions to the API server that the caches cannot answer.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use trainyard_crds::TrainingJob;
use trainyard_crds::training_job::Volume;

use crate::index::Applied;
use crate::job::{Job, StoragePlace};
use crate::observe::{ChildObject, Member, PodSeen, from_pod};
use crate::owner::Owner;
use crate::resources;
use crate::trouble::Trouble;

/// What there is under a name.
#[derive(Clone, Debug, PartialEq)]
pub enum Found<T> {
    /// Nothing.
    Nothing,
    /// An object of the job.
    Ours(T),
    /// An object of somebody else.
    Foreign,
}

/// A member's pod, whatever the cache says.
///
/// # Errors
/// Of the API server.
pub async fn pod(
    client: &Client,
    job: &Job,
    member: Member,
    attempt: u32,
) -> kube::Result<Found<PodSeen>> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &job.namespace);
    let name = resources::pod_name(&job.name, member, attempt);
    let Some(pod) = api.get_opt(&name).await? else {
        return Ok(Found::Nothing);
    };
    let ours = belongs_to(job, &pod.metadata).then(|| from_pod(&pod));
    Ok(ours.flatten().map_or(Found::Foreign, Found::Ours))
}

/// A child object, whatever the cache says.
///
/// # Errors
/// Of the API server.
pub async fn child(
    client: &Client,
    job: &Job,
    child: ChildObject,
    name: &str,
) -> kube::Result<Found<Applied>> {
    let metadata = match child {
        ChildObject::Config => metadata::<ConfigMap>(client, &job.namespace, name).await?,
        ChildObject::Headless | ChildObject::Coordinator => {
            metadata::<Service>(client, &job.namespace, name).await?
        }
        ChildObject::Policy => metadata::<NetworkPolicy>(client, &job.namespace, name).await?,
    };
    Ok(match metadata {
        None => Found::Nothing,
        Some(metadata) if belongs_to(job, &metadata) => Found::Ours(Applied::of(&metadata)),
        Some(_) => Found::Foreign,
    })
}

fn belongs_to(job: &Job, metadata: &ObjectMeta) -> bool {
    Owner::of(metadata).is_some_and(|owner| owner.uid == job.uid)
}

/// Whether a job is still as it was read. Whoever acts on an old one, because its watch is behind or it does not lead any
/// more, must not delete anything for it.
///
/// # Errors
/// Of the API server.
pub async fn is_current(client: &Client, object: &TrainingJob) -> kube::Result<bool> {
    let namespace = object.namespace().unwrap_or_default();
    let now = metadata::<TrainingJob>(client, &namespace, &object.name_any()).await?;
    Ok(now.is_some_and(|now| {
        now.uid == object.metadata.uid && now.resource_version == object.metadata.resource_version
    }))
}

/// An object's metadata. By a list: that needs no right that watches do not need too.
async fn metadata<K>(
    client: &Client,
    namespace: &str,
    name: &str,
) -> kube::Result<Option<ObjectMeta>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let of_name = ListParams::default().fields(&format!("metadata.name={name}"));
    let found = api.list_metadata(&of_name).await?.items;
    let found = found
        .into_iter()
        .find(|found| found.metadata.name.as_deref() == Some(name));
    Ok(found.map(|found| found.metadata))
}

/// The first volume that the job names and that is not there. One that exports needs the storage alone.
///
/// # Errors
/// Of the API server.
pub async fn missing_reference(
    client: &Client,
    job: &Job,
    exporting: bool,
) -> kube::Result<Option<Trouble>> {
    let mut volumes: Vec<(&str, &Volume)> = Vec::new();
    if !exporting {
        volumes.extend(job.data_volume().map(|volume| ("spec.data.volume", volume)));
    }
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
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), &job.namespace);
    Ok(api.get_metadata_opt(name).await?.is_some())
}
