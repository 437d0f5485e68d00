//! The pods of a job. They pass the restricted Pod Security Standard and hold no Kubernetes credentials.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    EnvVarSource, HTTPGetAction, HostPathVolumeSource, ObjectFieldSelector,
    PersistentVolumeClaimVolumeSource, Pod, PodSecurityContext, PodSpec, Probe, SeccompProfile,
    SecretKeySelector, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use trainyard_contract::env::{GRACE_SECONDS, POD_IP, pinned_threads};
use trainyard_contract::pod::{
    CONTAINER, DATA_FOLDER, HEALTH_PAGE, HTTP_PORT, JOB_FOLDER, JOB_PATH, PROTOCOL_PORT,
    STORAGE_FOLDER, TEMPORARY_FOLDER, TERMINATION_MESSAGE_PATH,
};
use trainyard_contract::{
    FinisherArgs, Member, MemberArgs, Role, ServerArgs, Supervision, WorkerArgs,
};
use trainyard_crds::training_job::{PodSettings, Volume as JobVolume};

use super::{USER, config_name, coordinator_name, keys, labels, pod_name, storage_uri};
use crate::job::{Job, StoragePlace};

/// Seconds a pod has to hand its work over, unless the job says otherwise: a checkpoint must fit.
const DEFAULT_GRACE: u32 = 60;
/// Seconds of it that are left for the end itself, when there is no time for another checkpoint.
const GRACE_MARGIN: u32 = 5;
/// Consecutive failed probes, one each 10 s, until a container counts as hanging.
const LIVENESS_FAILURES: i32 = 6;
/// Seconds that an export may take. Nothing else ends a finisher that hangs: it has no page to probe.
const EXPORT_SECONDS: i64 = 3600;

/// The pod of a member's attempt, in a generation of the training group.
pub fn pod(job: &Job, image: &str, member: Member, attempt: u32, generation: u64) -> Pod {
    let settings = job.pod_settings(member.role);
    let mut labels = settings.labels.clone();
    labels.extend(labels::of_pod(&job.name, member, attempt));
    Pod {
        metadata: ObjectMeta {
            name: Some(pod_name(&job.name, member, attempt)),
            namespace: Some(job.namespace.clone()),
            labels: Some(labels),
            annotations: non_empty(settings.annotations.clone()),
            owner_references: job.owner().map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(pod_spec(job, image, member, generation, &settings)),
        status: None,
    }
}

fn pod_spec(
    job: &Job,
    image: &str,
    member: Member,
    generation: u64,
    settings: &PodSettings,
) -> PodSpec {
    let mut volumes = volumes(job, member.role);
    volumes.extend(settings.volumes.iter().cloned());
    PodSpec {
        containers: vec![container(job, image, member, generation, settings)],
        hostname: Some(format!("{}-{member}", job.name)),
        subdomain: Some(job.name.clone()),
        restart_policy: Some("Never".into()),
        active_deadline_seconds: (member.role == Role::Finisher).then_some(EXPORT_SECONDS),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(grace(settings).into()),
        security_context: Some(security_context(settings)),
        volumes: Some(volumes),
        node_selector: non_empty(settings.node_selector.clone()),
        tolerations: some_list(&settings.tolerations),
        affinity: settings.affinity.clone(),
        topology_spread_constraints: some_list(&settings.topology_spread_constraints),
        priority_class_name: settings.priority_class_name.clone(),
        runtime_class_name: settings.runtime_class_name.clone(),
        scheduler_name: settings.scheduler_name.clone(),
        service_account_name: settings.service_account_name.clone(),
        image_pull_secrets: some_list(&settings.image_pull_secrets),
        ..PodSpec::default()
    }
}

/// Seconds that a pod has from the wish that it may go until it is killed.
fn grace(settings: &PodSettings) -> u32 {
    settings
        .termination_grace_period_seconds
        .unwrap_or(DEFAULT_GRACE)
}

fn container(
    job: &Job,
    image: &str,
    member: Member,
    generation: u64,
    settings: &PodSettings,
) -> Container {
    let (ports, readiness_probe) = match member.role {
        Role::Server => (
            &[("http", HTTP_PORT), ("protocol", PROTOCOL_PORT)][..],
            Some(probe(1, 3)),
        ),
        Role::Worker => (&[("http", HTTP_PORT)][..], None),
        Role::Finisher => (&[][..], None),
    };
    let port = |(name, port): &(&str, u16)| ContainerPort {
        name: Some((*name).into()),
        container_port: (*port).into(),
        ..ContainerPort::default()
    };
    let ports: Vec<ContainerPort> = ports.iter().map(port).collect();
    Container {
        name: CONTAINER.into(),
        image: Some(image.into()),
        image_pull_policy: settings
            .image_pull_policy
            .map(|policy| format!("{policy:?}")),
        args: Some(args(job, member, generation)),
        env: Some(env(job, member.role, settings)),
        env_from: some_list(&settings.env_from),
        ports: some_list(&ports),
        resources: settings.resources.clone(),
        volume_mounts: Some(mounts(job, member.role, settings)),
        readiness_probe,
        // By its page, if it has any.
        liveness_probe: (!ports.is_empty()).then(|| probe(10, LIVENESS_FAILURES)),
        termination_message_path: Some(TERMINATION_MESSAGE_PATH.into()),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".into()]),
                add: None,
            }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn args(job: &Job, member: Member, generation: u64) -> Vec<String> {
    let common = MemberArgs {
        job: JOB_PATH.into(),
        index: member.index,
        initial_model: None,
        coordinator: format!(
            "{}.{}.svc:{PROTOCOL_PORT}",
            coordinator_name(&job.name),
            job.namespace
        ),
        http: Some(format!("0.0.0.0:{HTTP_PORT}")),
        key_file: None,
        termination_message: Some(TERMINATION_MESSAGE_PATH.into()),
        supervision: Supervision::default(),
    };
    match member.role {
        Role::Server => {
            let args = ServerArgs {
                member: common,
                servers: job.servers(),
                // The trainer counts in 32 bits; no job lives long enough to lose so many servers.
                generation: u32::try_from(generation).unwrap_or(u32::MAX),
                storage: storage_uri(job),
                listen: Some(format!("0.0.0.0:{PROTOCOL_PORT}")),
                advertise: Some(format!("$({POD_IP}):{PROTOCOL_PORT}")),
                grace: None, // in the environment
                listen_fd: None,
                http_fd: None,
            };
            args.to_args()
        }
        Role::Worker => {
            let args = WorkerArgs {
                member: common,
                data: DATA_FOLDER.into(),
                threads: None,
                connections: None,
                local_servers: None,
                local_workers: None,
            };
            args.to_args()
        }
        Role::Finisher => {
            let args = FinisherArgs {
                job: common.job,
                storage: storage_uri(job),
                termination_message: common.termination_message,
                supervision: Supervision::default(),
            };
            args.to_args()
        }
    }
}

/// The operator's variables first, so that the user's may refer to them; names of the operator's own are refused before.
fn env(job: &Job, role: Role, settings: &PodSettings) -> Vec<EnvVar> {
    let mut env = vec![EnvVar {
        name: POD_IP.into(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: "status.podIP".into(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }];
    env.extend(keys::env(job, role));
    // Servers and the finisher need the storage alone, workers the data alone: each finds its own under the usual names.
    match role {
        Role::Server => {
            // Not an argument: the image of a job may be older than the operator, and passes over what it does not know.
            let grace = grace(settings);
            let grace = grace - GRACE_MARGIN.min(grace / 4);
            env.push(plain(GRACE_SECONDS, &grace.to_string()));
            env.extend(storage_env(job));
        }
        Role::Worker => {
            let threads = job.object.spec.training.threads_per_leaf;
            env.extend(threads_of_operations(settings, threads));
            if let Some(s3) = &job.object.spec.data.s3 {
                let secret = s3.credentials_secret.as_deref();
                env.extend(s3_env(s3.endpoint.as_deref(), &s3.region, secret));
            }
        }
        Role::Finisher => {
            env.extend(threads_of_operations(settings, 1));
            env.extend(storage_env(job));
        }
    }
    env.extend(settings.env.iter().cloned());
    env
}

/// What the trainer would pin by starting itself again: the threads of each of libtorch's operations.
fn threads_of_operations(settings: &PodSettings, threads: u32) -> impl Iterator<Item = EnvVar> {
    let set = |name: &str| settings.env.iter().any(|env| env.name == name);
    let pinned = pinned_threads(threads).into_iter();
    let pinned = pinned.filter(move |(name, _)| !set(name));
    pinned.map(|(name, value)| plain(name, &value))
}

fn storage_env(job: &Job) -> Vec<EnvVar> {
    match &job.storage {
        StoragePlace::Volume(_) => Vec::new(),
        StoragePlace::S3(s3) => {
            let secret = s3.credentials_secret.as_deref();
            s3_env(s3.endpoint.as_deref(), &s3.region, secret)
        }
    }
}

fn plain(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: Some(value.into()),
        ..EnvVar::default()
    }
}

/// The variables under which every S3 client looks for its settings.
fn s3_env(endpoint: Option<&str>, region: &str, secret: Option<&str>) -> Vec<EnvVar> {
    let mut env = vec![plain("AWS_REGION", region)];
    if let Some(endpoint) = endpoint {
        env.push(plain("AWS_ENDPOINT_URL", endpoint));
        if endpoint.starts_with("http://") {
            env.push(plain("AWS_ALLOW_HTTP", "true"));
        }
    }
    for key in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        env.extend(secret.map(|secret| EnvVar {
            name: key.into(),
            value_from: Some(EnvVarSource {
                secret_key_ref: Some(SecretKeySelector {
                    name: secret.into(),
                    key: key.into(),
                    optional: Some(false),
                }),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        }));
    }
    env
}

/// The volume that a role's pods work with, beside what all pods have.
struct OwnVolume<'a> {
    name: &'static str,
    folder: &'static str,
    read_only: bool,
    from: &'a JobVolume,
}

fn own_volume(job: &Job, role: Role) -> Option<OwnVolume<'_>> {
    match role {
        Role::Server | Role::Finisher => match &job.storage {
            StoragePlace::Volume(from) => Some(OwnVolume {
                name: "storage",
                folder: STORAGE_FOLDER,
                read_only: false,
                from,
            }),
            StoragePlace::S3(_) => None,
        },
        Role::Worker => job.data_volume().map(|from| OwnVolume {
            name: "data",
            folder: DATA_FOLDER,
            read_only: true,
            from,
        }),
    }
}

fn volumes(job: &Job, role: Role) -> Vec<Volume> {
    let named = |name: &str| Volume {
        name: name.into(),
        ..Volume::default()
    };
    let mut volumes = vec![
        Volume {
            config_map: Some(ConfigMapVolumeSource {
                name: config_name(&job.name),
                ..ConfigMapVolumeSource::default()
            }),
            ..named("job")
        },
        Volume {
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..named("tmp")
        },
    ];
    volumes.extend(own_volume(job, role).map(|own| source(named(own.name), own.from)));
    volumes.extend(keys::volume(job, role));
    volumes
}

fn source(volume: Volume, from: &JobVolume) -> Volume {
    match from {
        JobVolume::ConfigMap(config) => Volume {
            config_map: Some(ConfigMapVolumeSource {
                name: config.name.clone(),
                ..ConfigMapVolumeSource::default()
            }),
            ..volume
        },
        JobVolume::PersistentVolumeClaim(claim) => Volume {
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.claim_name.clone(),
                read_only: claim.read_only.then_some(true),
            }),
            ..volume
        },
        JobVolume::HostPath(path) => Volume {
            host_path: Some(HostPathVolumeSource {
                path: path.path.clone(),
                type_: None,
            }),
            ..volume
        },
        JobVolume::EmptyDir(_) => Volume {
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..volume
        },
    }
}

fn mounts(job: &Job, role: Role, settings: &PodSettings) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let mut mounts = vec![
        mount("job", JOB_FOLDER, true),
        mount("tmp", TEMPORARY_FOLDER, false),
    ];
    mounts.extend(own_volume(job, role).map(|own| mount(own.name, own.folder, own.read_only)));
    mounts.extend(keys::mount(job, role));
    mounts.extend(settings.volume_mounts.iter().cloned());
    mounts
}

/// What the job sets stands; what it leaves out is as the restricted standard wants it.
fn security_context(settings: &PodSettings) -> PodSecurityContext {
    let set = settings.security_context.clone().unwrap_or_default();
    PodSecurityContext {
        run_as_non_root: set.run_as_non_root.or(Some(true)),
        run_as_user: set.run_as_user.or(Some(USER)),
        run_as_group: set.run_as_group.or(Some(USER)),
        fs_group: set.fs_group.or(Some(USER)),
        // Large volumes are not walked through at each start.
        fs_group_change_policy: set
            .fs_group_change_policy
            .clone()
            .or(Some("OnRootMismatch".into())),
        seccomp_profile: set.seccomp_profile.clone().or(Some(SeccompProfile {
            type_: "RuntimeDefault".into(),
            localhost_profile: None,
        })),
        ..set
    }
}

fn probe(period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(HEALTH_PAGE.into()),
            port: IntOrString::Int(HTTP_PORT.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(5),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

fn non_empty(map: BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    (!map.is_empty()).then_some(map)
}

fn some_list<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}
