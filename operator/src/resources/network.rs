//! Services, the network policy and the ConfigMap of a job.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;
use trainyard_contract::pod::{HTTP_PORT, JOB_FILE, PROTOCOL_PORT};
use trainyard_contract::{JobFile, Member, PodJobMetadata};
use trainyard_crds::training_job::{Checkpoint, Data, Model, Servers, Task, Training};
use trainyard_crds::{API_VERSION, KIND, TrainingJobSpec};

use super::{config_name, coordinator_name, labels};
use crate::job::Job;

pub(super) fn metadata(job: &Job, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(job.namespace.clone()),
        labels: Some(labels::of_job(&job.name)),
        owner_references: job.owner().map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

fn service_port(name: &str, port: u16) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        port: port.into(),
        target_port: Some(IntOrString::Int(port.into())),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    }
}

/// The headless Service that gives the pods their stable hostnames.
pub fn headless(job: &Job) -> Service {
    let selector = [(labels::JOB.to_owned(), job.name.clone())];
    Service {
        metadata: metadata(job, job.name.clone()),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            // Members look for each other before any of them is ready.
            publish_not_ready_addresses: Some(true),
            selector: Some(selector.into()),
            ports: Some(vec![service_port("protocol", PROTOCOL_PORT)]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The Service in front of server 0: its address outlives the pods behind it. It leads to one of them, by its attempt: one
/// that hangs on a lost node would be published for as long as its object is there.
pub fn coordinator(job: &Job, attempt: u32) -> Service {
    let server = Member::COORDINATOR;
    let selector = [
        (labels::JOB, job.name.clone()),
        (labels::ROLE, server.role.name().into()),
        (labels::INDEX, server.index.to_string()),
        (labels::ATTEMPT, attempt.to_string()),
    ];
    Service {
        metadata: metadata(job, coordinator_name(&job.name)),
        spec: Some(ServiceSpec {
            publish_not_ready_addresses: Some(true),
            selector: Some(selector.map(|(key, value)| (key.into(), value)).into()),
            ports: Some(vec![
                service_port("protocol", PROTOCOL_PORT),
                service_port("http", HTTP_PORT),
            ]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The part of a job's spec that its pods are told: all that determines the model, and nothing that may change while they
/// run.
#[derive(Serialize)]
struct SpecForPods<'a> {
    checkpoint: &'a Checkpoint,
    data: &'a Data,
    model: &'a Model,
    servers: ServersForPods,
    task: &'a Task,
    training: &'a Training,
}

/// What the pods are told of `spec.servers`.
#[derive(Serialize)]
struct ServersForPods {
    replicas: u32,
}

fn for_pods(spec: &TrainingJobSpec) -> SpecForPods<'_> {
    // Without `..`: whoever adds a field to the spec decides here whether the pods are told of it.
    let TrainingJobSpec {
        task,
        model,
        data,
        training,
        checkpoint,
        servers: Servers { replicas, pod: _ },
        // What only the operator needs to know, and what may change while pods run.
        image: _,
        workers: _,
        backoff_limit: _,
        active_deadline_seconds: _,
        ttl_seconds_after_finished: _,
        clean_pod_policy: _,
        suspend: _,
        // Of local runs only.
        initial_model: _,
        resume_from: _,
    } = spec;
    SpecForPods {
        checkpoint,
        data,
        model,
        servers: ServersForPods {
            replicas: *replicas,
        },
        task,
        training,
    }
}

/// What the pods are told, in a file. It is made once for a job, see [`ChildObject::is_fixed`]; made again only if somebody
/// has deleted it.
///
/// [`ChildObject::is_fixed`]: crate::observe::ChildObject::is_fixed
///
/// # Errors
/// Never for a job that was decoded.
pub fn config_map(job: &Job) -> serde_json::Result<ConfigMap> {
    let file = JobFile {
        api_version: API_VERSION.into(),
        kind: KIND.into(),
        metadata: PodJobMetadata {
            name: job.name.clone(),
            namespace: job.namespace.clone(),
            uid: job.uid.clone(),
        },
        spec: for_pods(&job.object.spec),
        defaults: job.defaults,
    };
    // Through a value, which sorts the keys at all levels: the bytes of a job's file must not change under its pods.
    let text = serde_json::to_value(&file)?.to_string();
    Ok(ConfigMap {
        metadata: metadata(job, config_name(&job.name)),
        data: Some([(JOB_FILE.to_owned(), text)].into()),
        // Nobody changes it under the pods, and kubelets need not watch it.
        immutable: Some(true),
        ..ConfigMap::default()
    })
}

/// Who may connect to the pods: each other on the protocol port, and on the HTTP port the operator, in any namespace.
pub fn network_policy(job: &Job) -> NetworkPolicy {
    let own = LabelSelector {
        match_labels: Some([(labels::JOB.to_owned(), job.name.clone())].into()),
        ..LabelSelector::default()
    };
    let port = |port: u16| NetworkPolicyPort {
        port: Some(IntOrString::Int(port.into())),
        protocol: Some("TCP".into()),
        ..NetworkPolicyPort::default()
    };
    let operator_pods = NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector::default()),
        pod_selector: Some(LabelSelector {
            match_labels: Some(BTreeMap::from([(
                "app.kubernetes.io/name".to_owned(),
                "trainyard-operator".to_owned(),
            )])),
            ..LabelSelector::default()
        }),
        ..NetworkPolicyPeer::default()
    };
    let own_pods = NetworkPolicyPeer {
        pod_selector: Some(own.clone()),
        ..NetworkPolicyPeer::default()
    };
    NetworkPolicy {
        metadata: metadata(job, job.name.clone()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(own),
            policy_types: Some(vec!["Ingress".into()]),
            ingress: Some(vec![
                NetworkPolicyIngressRule {
                    from: Some(vec![own_pods]),
                    ports: Some(vec![port(PROTOCOL_PORT)]),
                },
                NetworkPolicyIngressRule {
                    from: Some(vec![operator_pods]),
                    ports: Some(vec![port(HTTP_PORT)]),
                },
            ]),
            ..NetworkPolicySpec::default()
        }),
    }
}
