//! Services, the network policy and the ConfigMap of a job.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::{HTTP_PORT, PROTOCOL_PORT, config_name, coordinator_name, labels};
use crate::job::Job;
use crate::member::Member;

fn metadata(job: &Job, name: String) -> ObjectMeta {
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

/// What the pods are told: all that determines the model, and nothing that may change while they run.
///
/// # Errors
/// Never for a job that was decoded.
pub fn config_map(job: &Job) -> serde_json::Result<ConfigMap> {
    let spec = &job.object.spec;
    let resolved = json!({
        "apiVersion": format!("{}/{}", trainyard_crds::GROUP, trainyard_crds::VERSION),
        "kind": "TrainingJob",
        "metadata": {"name": job.name, "namespace": job.namespace, "uid": job.uid},
        "spec": {
            "task": spec.task, "model": spec.model, "data": spec.data, "training": spec.training,
            "checkpoint": spec.checkpoint, "servers": {"replicas": spec.servers.replicas},
        },
    });
    Ok(ConfigMap {
        metadata: metadata(job, config_name(&job.name)),
        data: Some([("job.json".to_owned(), serde_json::to_string(&resolved)?)].into()),
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
