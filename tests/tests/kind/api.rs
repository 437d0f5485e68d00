//! What the API server says to manifests, and what the operator shows of itself.

#[path = "../../../crds/tests/common/mod.rs"]
mod common;

use anyhow::{Context, Result};
use serde_json::json;
use trainyard_tests::cluster::{self, Namespace, OPERATOR};

/// What kubectl judges by itself, before the API server sees it: numbers that JSON does not have and an unknown version it
/// refuses without a field, of two equal keys it takes the last, merge keys it resolves, and of two documents it applies the
/// first. (`trainyard run` names the place of each.)
const KUBECTLS_OWN: [&str; 6] = [
    "not-a-number",
    "infinite",
    "wrong-version",
    "duplicate-key",
    "merge-key",
    "second-document",
];

#[test]
fn o17_invalid_manifests_are_refused_with_the_fields_name_and_harm_nobody() -> Result<()> {
    cluster::operator()?;
    let namespace = Namespace::new("o17")?;
    let cases = common::cases(include_str!("../../../crds/tests/corpus/invalid.txt"));
    assert!(cases.len() >= 40);
    let mut wrong = Vec::new();
    for case in cases
        .iter()
        .filter(|case| !KUBECTLS_OWN.contains(&case.name))
    {
        match cluster::apply(&namespace.name, &case.text) {
            Ok(_) => wrong.push(format!("{}: accepted", case.name)),
            Err(error) => {
                let said = error.to_string();
                let field = case.path.rsplit('.').next().unwrap_or_default();
                let field = field.split('[').next().unwrap_or_default();
                if !said.contains(field) {
                    wrong.push(format!("{}: {field} is not named in: {said}", case.name));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    let list = ["get", "trainingjobs", "-n", &namespace.name, "-o", "name"];
    assert_eq!(cluster::kubectl(&list)?.trim(), "", "jobs that are refused");
    // What only a cluster asks for is said by the operator.
    let mut job = cluster::example("breast-cancer/job.yaml")?;
    job["spec"]["checkpoint"]["storage"] = json!(null);
    namespace.submit(&job)?;
    let status = namespace.wait_for_phase("breast-cancer", &["Failed"])?;
    let invalid = crate::faults::condition(&status, "Invalid");
    assert!(
        invalid["message"]
            .as_str()
            .context("a message")?
            .contains("spec.checkpoint.storage"),
        "{status}"
    );
    Ok(())
}

#[test]
fn o17_what_a_local_run_accepts_is_accepted() -> Result<()> {
    cluster::operator()?;
    let cases = common::cases(include_str!("../../../crds/tests/corpus/valid.txt"));
    assert!(!cases.is_empty());
    for case in cases {
        cluster::dry_run("default", &case.text).context(case.name)?;
    }
    Ok(())
}

#[test]
fn o11_kubectl_scale_works_within_the_bounds_and_names_them_beyond() -> Result<()> {
    cluster::operator()?;
    let namespace = Namespace::new("o11")?;
    let mut job = cluster::example("breast-cancer/job.yaml")?;
    job["spec"]["suspend"] = json!(true);
    job["spec"]["workers"]["minReplicas"] = json!(2);
    job["spec"]["workers"]["maxReplicas"] = json!(4);
    namespace.submit(&job)?;
    namespace.wait_for_phase("breast-cancer", &["Suspended"])?;
    let scale = |replicas: &str| {
        let replicas = format!("--replicas={replicas}");
        let job = [
            "scale",
            "trainingjob",
            "breast-cancer",
            "-n",
            &namespace.name,
        ];
        cluster::kubectl(&[&job[..], &[&replicas]].concat())
    };
    scale("3")?;
    let object = cluster::get(&namespace.name, "trainingjob", "breast-cancer")?;
    let object = object.context("the job")?;
    assert_eq!(object["spec"]["workers"]["replicas"], 3);
    for (replicas, bound) in [("1", "minReplicas"), ("5", "maxReplicas")] {
        let error = scale(replicas).err().context(bound)?.to_string();
        assert!(error.contains(bound), "{error}");
    }
    Ok(())
}

#[test]
fn o27_what_determines_the_model_cannot_change() -> Result<()> {
    cluster::operator()?;
    let namespace = Namespace::new("o27")?;
    let mut job = cluster::example("breast-cancer/job.yaml")?;
    job["spec"]["suspend"] = json!(true);
    namespace.submit(&job)?;
    for (pointer, value) in [
        ("/spec/training/epochs", json!(21)),
        ("/spec/training/seed", json!(8)),
        ("/spec/servers/replicas", json!(2)),
        ("/spec/checkpoint/keep", json!(9)),
    ] {
        let mut changed = job.clone();
        *changed.pointer_mut(pointer).context("the field")? = value;
        let error = namespace
            .submit(&changed)
            .err()
            .context(pointer)?
            .to_string();
        assert!(
            error.contains("cannot change while the job exists"),
            "{pointer}: {error}"
        );
    }
    let mut scaled = job.clone();
    scaled["spec"]["workers"]["replicas"] = json!(3);
    namespace.submit(&scaled)
}

fn operator_pods() -> Result<Vec<serde_json::Value>> {
    let selector = "app.kubernetes.io/name=trainyard-operator";
    let mut pods = cluster::list(OPERATOR, "pods", selector)?;
    pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    Ok(pods)
}

#[test]
fn o29_the_operator_shows_health_readiness_and_metrics_without_naming_objects() -> Result<()> {
    cluster::operator()?;
    let namespace = Namespace::new("o29")?;
    let mut job = cluster::example("breast-cancer/job.yaml")?;
    job["metadata"] = json!({"name": "o29-measured"});
    job["spec"]["suspend"] = json!(true);
    namespace.submit(&job)?;
    namespace.wait_for_phase("o29-measured", &["Suspended"])?;
    let pods = operator_pods()?;
    let name = pods[0]["metadata"]["name"]
        .as_str()
        .context("a pod of the operator")?;
    let read = |path: &str| {
        cluster::kubectl(&[
            "get",
            "--raw",
            &format!("/api/v1/namespaces/{OPERATOR}/pods/{name}:8080/proxy{path}"),
        ])
    };
    assert_eq!(read("/healthz")?, "ok\n");
    assert_eq!(read("/readyz")?, "ok\n");
    let metrics = read("/metrics")?;
    for metric in [
        "trainyard_operator_reconciles_total",
        "trainyard_operator_reconcile_errors_total",
        "trainyard_operator_reconcile_duration_seconds_bucket",
        "trainyard_operator_reconciles_active",
        "trainyard_operator_queue_length",
        "trainyard_operator_queue_wait_seconds_bucket",
        "trainyard_operator_jobs{phase=\"Suspended\"}",
        "trainyard_operator_leader",
    ] {
        assert!(
            metrics.contains(metric),
            "{metric} is missing in\n{metrics}"
        );
    }
    assert!(!metrics.contains("o29-measured"), "{metrics}");
    Ok(())
}

#[test]
fn o23_the_operators_account_can_do_what_the_chart_says_and_nothing_else() -> Result<()> {
    cluster::operator()?;
    let pods = operator_pods()?;
    let account = pods[0]["spec"]["serviceAccountName"]
        .as_str()
        .context("an account")?;
    let can = |verb: &str, resource: &str| {
        let user = format!("--as=system:serviceaccount:{OPERATOR}:{account}");
        // `no` is a failure to kubectl.
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let subresource = format!("--subresource={subresource}");
        let answer = cluster::kubectl(&[
            "auth",
            "can-i",
            verb,
            resource,
            &subresource,
            "-n",
            "default",
            &user,
        ]);
        answer.is_ok_and(|answer| answer.trim() == "yes")
    };
    for (verb, resource) in [
        ("list", "trainingjobs.trainyard.dev"),
        ("update", "trainingjobs.trainyard.dev/status"),
        ("create", "pods"),
        ("delete", "pods"),
        ("patch", "services"),
        ("patch", "configmaps"),
        ("create", "events.events.k8s.io"),
        ("create", "secrets"),
    ] {
        assert!(can(verb, resource), "{verb} {resource}");
    }
    for (verb, resource) in [
        ("get", "secrets"),
        ("list", "secrets"),
        ("watch", "secrets"),
        ("update", "secrets"),
        ("patch", "secrets"),
        ("delete", "secrets"),
        ("update", "trainingjobs.trainyard.dev"),
        ("create", "trainingjobs.trainyard.dev"),
        ("create", "pods/exec"),
        ("get", "nodes"),
        ("create", "deployments.apps"),
        ("delete", "configmaps"),
        ("delete", "persistentvolumeclaims"),
        ("create", "clusterrolebindings.rbac.authorization.k8s.io"),
    ] {
        assert!(!can(verb, resource), "{verb} {resource}");
    }
    Ok(())
}
