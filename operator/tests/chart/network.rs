//! Who can reach whom: the policies of the chart and of jobs, over the pods that they are about.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;
use trainyard_contract::pod::{HTTP_PORT, PROTOCOL_PORT};
use trainyard_crds::TrainingJob;
use trainyard_operator::job::Job;
use trainyard_operator::observe::Member;
use trainyard_operator::resources;

use crate::helm::{NAMESPACE, defaults, of_kind, render, root, the};
use crate::policy::{lets_through, selects};

/// The breast-cancer example under another name, in a namespace.
fn job(name: &str, namespace: &str) -> Job {
    let path = root().join("examples/breast-cancer/job.yaml");
    let text = std::fs::read_to_string(path).expect("the example is there");
    let name = format!("metadata.name={name}");
    let mut job: TrainingJob = trainyard_crds::manifest::read_with("job.yaml", &text, &[name])
        .expect("the example is valid");
    job.metadata.namespace = Some(namespace.into());
    job.metadata.uid = Some("0a1b2c3d-0000-4000-8000-000000000000".into());
    Job::new(Arc::new(job)).expect("the example runs on clusters")
}

fn pod(job: &Job, member: Member) -> Pod {
    resources::pod(job, "image", member, 0, 1)
}

/// A pod that has nothing to do with Trainyard.
fn stranger(namespace: &str) -> Pod {
    let labels = [("app.kubernetes.io/name".to_owned(), "prometheus".to_owned())];
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.into()),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec::default()),
        status: None,
    }
}

/// The pod that the chart's Deployment makes.
fn operator(objects: &[Value]) -> Pod {
    let template = the(objects, "Deployment")["spec"]["template"].clone();
    let mut pod: Pod = serde_json::from_value(template).expect("a pod");
    pod.metadata.namespace = Some(NAMESPACE.into());
    pod
}

fn chart_policies(objects: &[Value]) -> Vec<NetworkPolicy> {
    let typed = |object: &Value| serde_json::from_value(object.clone()).expect("a policy");
    of_kind(objects, "NetworkPolicy")
        .into_iter()
        .map(typed)
        .collect()
}

/// All pods, with names, and all policies, of a cluster with three jobs.
fn cluster(objects: &[Value]) -> (Vec<(&'static str, Pod)>, Vec<NetworkPolicy>) {
    let (a, b, far) = (job("a", "ml"), job("b", "ml"), job("a", "elsewhere"));
    let pods = vec![
        ("operator", operator(objects)),
        ("a/server", pod(&a, Member::server(0))),
        ("a/worker", pod(&a, Member::worker(1))),
        ("b/server", pod(&b, Member::server(0))),
        ("far/worker", pod(&far, Member::worker(0))),
        ("stranger", stranger("ml")),
        ("monitoring", stranger("monitoring")),
    ];
    let mut policies = chart_policies(objects);
    policies.extend([&a, &b, &far].map(resources::network_policy));
    (pods, policies)
}

fn check(objects: &[Value], allowed: impl Fn(&str, &str, u16) -> bool) {
    let (pods, policies) = cluster(objects);
    for (from_name, from) in &pods {
        for (to_name, to) in &pods {
            for port in [PROTOCOL_PORT, HTTP_PORT, 22] {
                assert_eq!(
                    lets_through(&policies, from, to, port),
                    allowed(from_name, to_name, port),
                    "{from_name} to port {port} of {to_name}"
                );
            }
        }
    }
}

/// What must hold on a cluster, said without selectors.
fn as_documented(from: &str, to: &str, port: u16) -> bool {
    match (to, port) {
        // No policy of ours is about them.
        ("stranger" | "monitoring", _) => true,
        // Probes and metrics, whoever asks.
        ("operator", HTTP_PORT) => true,
        ("operator", _) => false,
        // Members of one job talk to each other; the far one has the name, but not the namespace.
        (_, PROTOCOL_PORT) => {
            from.split_once('/').map(|(job, _)| job) == to.split_once('/').map(|(job, _)| job)
        }
        // The operator asks for progress.
        (_, HTTP_PORT) => from == "operator",
        _ => false,
    }
}

#[test]
fn the_policies_let_in_who_must_get_in_and_nobody_else() {
    check(defaults(), as_documented);
    check(
        &render(&[r#"commonLabels={"team":"ml"}"#, "replicas=2"]),
        as_documented,
    );
}

#[test]
fn the_operators_port_can_be_limited_to_a_namespace() {
    let set = r#"networkPolicy.ingressFrom=[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"monitoring"}}}]"#;
    check(&render(&[set]), |from, to, port| {
        as_documented(from, to, port) && (to != "operator" || from == "monitoring")
    });
}

#[test]
fn without_the_charts_policy_only_the_operator_is_open() {
    let objects = render(&["networkPolicy.enabled=false"]);
    assert!(of_kind(&objects, "NetworkPolicy").is_empty());
    check(&objects, |from, to, port| {
        to == "operator" || as_documented(from, to, port)
    });
}

#[test]
fn each_pod_is_selected_by_one_policy_at_most() {
    let (pods, policies) = cluster(defaults());
    for (name, pod) in &pods {
        let count = policies
            .iter()
            .filter(|policy| selects(policy, pod))
            .count();
        let ours = !matches!(*name, "stranger" | "monitoring");
        assert_eq!(count, usize::from(ours), "{name}");
    }
}
