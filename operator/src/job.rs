//! A `TrainingJob` turned into a [`Job`]: what the operator works with, and what cannot be wrong.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::DeserializeGuard;
use kube::{Resource, ResourceExt};
use trainyard_contract::env::RESERVED_PREFIX;
use trainyard_contract::{DEFAULTS, KEYS_SINCE, Role, pod};
use trainyard_crds::training_job::{CleanPodPolicy, PodSettings, S3Storage, Storage, Volume};
use trainyard_crds::{TrainingJob, TrainingJobSpec};

use crate::owner::Owner;

/// A job, or what could be read of an object that is none.
pub type Guarded = DeserializeGuard<TrainingJob>;

/// Labels and annotations under this domain are the operator's.
const RESERVED_DOMAIN: &str = "trainyard.dev/";
/// Names of volumes that the operator adds to the pods.
const RESERVED_VOLUMES: [&str; 4] = ["job", "data", "storage", "tmp"];
/// Name of the volume that it adds to pods with a key.
pub const KEY_VOLUME: &str = "trainyard-key";
/// Folders of the container that the operator mounts something at; in pods with a key, [`pod::KEY_FOLDER`] too.
const RESERVED_PATHS: [&str; 4] = [
    pod::JOB_FOLDER,
    pod::DATA_FOLDER,
    pod::STORAGE_FOLDER,
    pod::TEMPORARY_FOLDER,
];

/// A job that can be run on a cluster.
#[derive(Clone, Debug)]
pub struct Job {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// The object as it was read, for the job file, which carries its spec unchanged, and for writes to the object itself.
    pub object: Arc<TrainingJob>,
    /// Where checkpoints and the artifact are kept.
    pub storage: StoragePlace,
    /// Which defaults that determine the model it is trained with.
    pub defaults: u32,
    /// Whether its servers and workers are given keys.
    pub has_keys: bool,
}

/// Where checkpoints are kept, as the pods see it.
#[derive(Clone, Debug, PartialEq)]
pub enum StoragePlace {
    /// A volume, mounted at `/storage`.
    Volume(Volume),
    /// A bucket.
    S3(S3Storage),
}

/// What becomes of a job and its pods when it has ended. An invalid job has it too.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Which pods are deleted.
    pub clean_pod_policy: CleanPodPolicy,
    /// How long after its end the job is deleted; never if `None`.
    pub ttl: Option<Duration>,
}

impl Retention {
    /// As a spec has it.
    pub fn of(spec: &TrainingJobSpec) -> Self {
        let ttl = spec.ttl_seconds_after_finished.map(u64::from);
        Retention {
            clean_pod_policy: spec.clean_pod_policy,
            ttl: ttl.map(Duration::from_secs),
        }
    }
}

/// What is wrong with a job, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field.
    pub field: String,
    /// What is wrong and what to do, in one sentence.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl Job {
    /// Checks what neither the schema nor its CEL rules can: what only a cluster asks for.
    ///
    /// # Errors
    /// All problems, so that one round of corrections is enough.
    pub fn new(object: Arc<TrainingJob>) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::default();
        let spec = &object.spec;
        let storage = storage(&object, &mut problems);
        for (field, set) in [
            ("spec.initialModel", spec.initial_model.is_some()),
            ("spec.resumeFrom", spec.resume_from.is_some()),
        ] {
            if set {
                problems.add(field, "only trainyard run can do this so far: run the manifest with it, or remove the field");
            }
        }
        data(&object, &mut problems);
        let has_keys = has_keys(&object);
        for (role, pod) in [
            ("spec.servers", &spec.servers.pod),
            ("spec.workers", &spec.workers.pod),
        ] {
            pod_settings(role, pod, has_keys, &mut problems);
        }
        match (storage, problems.0.is_empty()) {
            (Some(storage), true) => Ok(Job {
                defaults: defaults(&object),
                has_keys,
                name: object.name().into(),
                namespace: object.namespace().unwrap_or_default(),
                uid: object.uid().unwrap_or_default(),
                generation: object.metadata.generation.unwrap_or_default(),
                storage,
                object,
            }),
            _ => Err(problems.0),
        }
    }

    /// Whom everything that belongs to the job belongs to.
    pub fn as_owner(&self) -> Owner {
        Owner {
            uid: self.uid.clone(),
            name: self.name.clone(),
            namespace: self.namespace.clone(),
        }
    }

    /// The owner reference of everything that belongs to the job.
    pub fn owner(&self) -> Option<OwnerReference> {
        self.object.controller_owner_ref(&())
    }

    /// Image of the trainer, if the job names one.
    pub fn image(&self) -> Option<&str> {
        self.object.spec.image.as_deref()
    }

    /// Number of servers.
    pub fn servers(&self) -> u32 {
        self.object.spec.servers.replicas
    }

    /// Number of workers wanted.
    pub fn workers(&self) -> u32 {
        self.object.spec.workers.replicas
    }

    /// Settings of a role's pods.
    pub fn pod_settings(&self, role: Role) -> Cow<'_, PodSettings> {
        let spec = &self.object.spec;
        match role {
            Role::Server => Cow::Borrowed(&spec.servers.pod),
            Role::Worker => Cow::Borrowed(&spec.workers.pod),
            Role::Finisher => Cow::Owned(finisher_settings(&spec.servers.pod, &spec.workers.pod)),
        }
    }

    /// The volume that the workers read the data from.
    pub fn data_volume(&self) -> Option<&Volume> {
        self.object.spec.data.volume.as_ref()
    }

    /// Whether the job is to have no pods for now.
    pub fn is_suspended(&self) -> bool {
        self.object.spec.suspend
    }

    /// Failures of pods that do not fail the job.
    pub fn backoff_limit(&self) -> u32 {
        self.object.spec.backoff_limit
    }

    /// How long the job may run.
    pub fn active_deadline(&self) -> Option<Duration> {
        let seconds = self.object.spec.active_deadline_seconds?;
        Some(Duration::from_secs(seconds.into()))
    }

    /// What becomes of the job and its pods when it has ended.
    pub fn retention(&self) -> Retention {
        Retention::of(&self.object.spec)
    }

    /// The job's folder in the storage: the name, and of the uid what tells it from other jobs of that name.
    pub fn folder(&self) -> String {
        format!("{}-{}", self.name, self.short_uid())
    }

    /// Of the uid what tells the job from others of its name.
    pub fn short_uid(&self) -> String {
        let digits = self.uid.chars().filter(char::is_ascii_hexdigit);
        digits.take(8).collect()
    }
}

/// A finisher computes as a worker does, and reaches the storage as a server does.
fn finisher_settings(servers: &PodSettings, workers: &PodSettings) -> PodSettings {
    PodSettings {
        env: servers.env.clone(),
        env_from: servers.env_from.clone(),
        volumes: servers.volumes.clone(),
        volume_mounts: servers.volume_mounts.clone(),
        service_account_name: servers.service_account_name.clone(),
        security_context: servers.security_context.clone(),
        ..workers.clone()
    }
}

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem {
            field: field.into(),
            message: message.into(),
        });
    }
}

/// The defaults that a job was begun with, or begins with.
fn defaults(object: &TrainingJob) -> u32 {
    let status = object.status.as_ref();
    let begun = status.is_some_and(|status| status.image.is_some());
    let recorded = status.and_then(|status| status.defaults).unwrap_or(1);
    object
        .spec
        .defaults(if begun { recorded } else { DEFAULTS })
}

/// Whether a job has keys: unless an operator has begun it that gave none. Its pods would not take in one that has a key.
fn has_keys(object: &TrainingJob) -> bool {
    let status = object.status.as_ref();
    let begun = status.filter(|status| status.image.is_some());
    begun.is_none_or(|status| status.contract >= Some(KEYS_SINCE))
}

fn storage(object: &TrainingJob, problems: &mut Problems) -> Option<StoragePlace> {
    const FIELD: &str = "spec.checkpoint.storage";
    match &object.spec.checkpoint.storage {
        None => {
            problems.add(FIELD, "a job on a cluster needs a place for its checkpoints: set volume.persistentVolumeClaim or s3");
            None
        }
        Some(Storage::S3(s3)) => Some(StoragePlace::S3(s3.clone())),
        Some(Storage::Volume(Volume::EmptyDir(_))) => {
            problems.add(
                format!("{FIELD}.volume.emptyDir"),
                "checkpoints would be lost with their pod: use a persistentVolumeClaim or s3",
            );
            None
        }
        Some(Storage::Volume(Volume::ConfigMap(_))) => {
            problems.add(
                format!("{FIELD}.volume.configMap"),
                "a ConfigMap cannot be written to: use a persistentVolumeClaim or s3",
            );
            None
        }
        Some(Storage::Volume(Volume::PersistentVolumeClaim(claim))) if claim.read_only => {
            problems.add(
                format!("{FIELD}.volume.persistentVolumeClaim.readOnly"),
                "checkpoints are written there: leave readOnly out",
            );
            None
        }
        Some(Storage::Volume(volume)) => Some(StoragePlace::Volume(volume.clone())),
    }
}

fn data(object: &TrainingJob, problems: &mut Problems) {
    let data = &object.spec.data;
    if data.volume.is_some() {
        return;
    }
    for (field, uri) in data.uris() {
        if !uri.contains("://") {
            problems.add(
                format!("spec.data.{field}"),
                format!("{uri:?} is relative: set spec.data.volume, which it resolves in, or give an s3:// URI"),
            );
        }
    }
}

/// What is reserved for keys is free in a job without: one that runs must not become invalid by an upgrade of the operator.
fn pod_settings(role: &str, pod: &PodSettings, has_keys: bool, problems: &mut Problems) {
    let reserved = |names: [&'static str; 4], of_keys: &'static str| -> Vec<&str> {
        names
            .into_iter()
            .chain(has_keys.then_some(of_keys))
            .collect()
    };
    let reserved_volumes = reserved(RESERVED_VOLUMES, KEY_VOLUME);
    let reserved_paths = reserved(RESERVED_PATHS, pod::KEY_FOLDER);
    for (map, keys) in [("labels", &pod.labels), ("annotations", &pod.annotations)] {
        for key in keys.keys() {
            if key.starts_with(RESERVED_DOMAIN) || key.starts_with("app.kubernetes.io/") {
                problems.add(
                    format!("{role}.{map}"),
                    format!("{key} is set by the operator: choose another name"),
                );
            }
        }
    }
    for env in &pod.env {
        if env.name.starts_with(RESERVED_PREFIX) {
            problems.add(
                format!("{role}.env"),
                format!("{} is reserved, as all names that begin with {RESERVED_PREFIX}: choose another name", env.name),
            );
        }
    }
    for volume in &pod.volumes {
        if reserved_volumes.contains(&volume.name.as_str()) {
            problems.add(
                format!("{role}.volumes"),
                format!(
                    "the name {} is taken by a volume of the operator's: choose another",
                    volume.name
                ),
            );
        }
    }
    for mount in &pod.volume_mounts {
        let path = mount.mount_path.trim_end_matches('/');
        let lies_in = |folder: &str| {
            path.strip_prefix(folder)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if let Some(reserved) = reserved_paths.iter().find(|folder| lies_in(folder)) {
            problems.add(
                format!("{role}.volumeMounts"),
                format!("{} lies in {reserved}, where the operator mounts a volume: choose another path", mount.mount_path),
            );
        }
    }
}
