//! What the pods are, and what becomes of them.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use trainyard_tests::cluster::{self, Namespace};

#[test]
fn o24_pods_run_in_a_restricted_namespace_without_a_token() -> Result<()> {
    cluster::operator()?;
    let namespace = Namespace::new("o24")?; // enforces the restricted standard
    let mut job = cluster::example("breast-cancer/job.yaml")?;
    job["spec"]["cleanPodPolicy"] = json!("None");
    namespace.submit(&job)?;
    let pods = cluster::until("the pods are there", || {
        let pods = namespace.pods("breast-cancer")?;
        Ok((pods.len() == 3).then_some(pods))
    })?;
    let status = namespace.wait_for_phase("breast-cancer", &["Succeeded", "Failed"])?;
    assert_eq!(
        status["phase"],
        "Succeeded",
        "{}",
        namespace.describe("breast-cancer")
    );
    for pod in &pods {
        o41_its_key_is_that_of_its_role(&namespace, pod)?;
    }
    let finisher = cluster::get(&namespace.name, "pod", "breast-cancer-finisher-0-0")?;
    for pod in pods.into_iter().chain(finisher) {
        assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
        let text = pod["spec"].to_string();
        assert!(
            !text.contains("serviceAccountToken") && !text.contains("/var/run/secrets"),
            "{text}"
        );
    }
    Ok(())
}

/// A server or worker that has run has read its key as the user that pods run as.
fn o41_its_key_is_that_of_its_role(namespace: &Namespace, pod: &Value) -> Result<()> {
    let volumes = pod["spec"]["volumes"].as_array().context("volumes")?;
    let volume = volumes.iter().find(|volume| !volume["secret"].is_null());
    let volume = &volume.context("a key")?["secret"];
    let role = &pod["metadata"]["labels"]["trainyard.dev/role"];
    assert_eq!(volume["items"], json!([{"key": role, "path": "key"}]));
    let name = volume["secretName"].as_str().context("a name")?;
    let secret = cluster::get(&namespace.name, "secret", name)?.context("the Secret")?;
    assert_eq!(secret["immutable"], true);
    let owner = &secret["metadata"]["ownerReferences"][0]["uid"];
    assert_eq!(owner, &pod["metadata"]["ownerReferences"][0]["uid"]);
    Ok(())
}

#[test]
fn o14_pods_are_cleaned_as_the_policy_says_and_the_job_goes_when_its_time_has_come() -> Result<()> {
    cluster::operator()?;
    let namespace = Namespace::new("o14")?;
    for policy in ["All", "Running", "None"] {
        let mut job = cluster::example("breast-cancer/job.yaml")?;
        job["metadata"] = json!({"name": policy.to_lowercase()});
        // Long enough for the kubelets to tell that all run, where that matters.
        job["spec"]["training"]["epochs"] = json!(if policy == "None" { 600 } else { 2 });
        job["spec"]["cleanPodPolicy"] = json!(policy);
        namespace.submit(&job)?;
    }
    let has = |pod: &Value, phases: &[&str]| {
        phases.contains(&pod["status"]["phase"].as_str().unwrap_or_default())
    };
    let all_began = cluster::until("all pods run, or the job is over", || {
        let over = namespace.status("none")?["completionTime"].is_string();
        let pods = namespace.pods("none")?;
        let begun = |pod: &&Value| has(pod, &["Running", "Succeeded"]);
        let all = pods.iter().filter(begun).count() >= 3;
        Ok((all || over).then_some(all))
    })?;
    let kept = if all_began { 4..=4 } else { 3..=4 }; // the finisher's too
    // A worker that had not ended when the job did is one that still ran. It may never have met the coordinator of so short a
    // job, and be looking for it: `None` leaves even that alone, unless it has not even started.
    for (name, left) in [("all", 0..=0), ("running", 2..=4), ("none", kept)] {
        let status = namespace.wait_for_phase(name, &["Succeeded", "Failed"])?;
        assert_eq!(status["phase"], "Succeeded", "{}", namespace.describe(name));
        cluster::until(&format!("{left:?} pods of {name} are left"), || {
            let pods = namespace.pods(name)?;
            let as_left = |pod: &Value| match name {
                "none" => {
                    has(pod, &["Running", "Succeeded"])
                        && pod["metadata"]["deletionTimestamp"].is_null()
                }
                _ => has(pod, &["Succeeded"]),
            };
            Ok((left.contains(&pods.len()) && pods.iter().all(as_left)).then_some(()))
        })
        .map_err(|error| error.context(namespace.describe(name)))?;
    }
    let patch = json!({"spec": {"ttlSecondsAfterFinished": 1}}).to_string();
    cluster::kubectl(&[
        "patch",
        "trainingjob",
        "none",
        "-n",
        &namespace.name,
        "--type=merge",
        "-p",
        &patch,
    ])?;
    cluster::until("the job is deleted", || {
        Ok(cluster::get(&namespace.name, "trainingjob", "none")?
            .is_none()
            .then_some(()))
    })?;
    o15_nothing_is_left_of(&namespace, "none")
}

fn o15_nothing_is_left_of(namespace: &Namespace, job: &str) -> Result<()> {
    cluster::until(&format!("nothing is left of {job}"), || {
        let selector = format!("trainyard.dev/job={job}");
        for kind in [
            "pods",
            "services",
            "configmaps",
            "secrets",
            "networkpolicies",
        ] {
            if !cluster::list(&namespace.name, kind, &selector)?.is_empty() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}

#[test]
fn o15_deleting_a_running_job_takes_all_of_it_along() -> Result<()> {
    cluster::operator()?;
    let namespace = Namespace::new("o15")?;
    let mut job = cluster::example("breast-cancer/job.yaml")?;
    job["spec"]["training"]["epochs"] = json!(100_000);
    namespace.submit(&job)?;
    namespace.wait_for_phase("breast-cancer", &["Running"])?;
    cluster::kubectl(&[
        "delete",
        "trainingjob",
        "breast-cancer",
        "-n",
        &namespace.name,
        "--timeout=30s",
    ])?;
    o15_nothing_is_left_of(&namespace, "breast-cancer")
}

#[test]
fn o26_columns_events_and_kubectl_wait() -> Result<()> {
    cluster::operator()?;
    let namespace = Namespace::new("o26")?;
    let mut job = cluster::example("breast-cancer/job.yaml")?;
    job["spec"]["training"]["epochs"] = json!(200); // so that nobody misses that it runs
    namespace.submit(&job)?;
    let waited = cluster::kubectl(&[
        "wait",
        "trainingjob/breast-cancer",
        "-n",
        &namespace.name,
        "--for=condition=Succeeded",
        "--timeout=600s",
    ])
    .map_err(|error| error.context(namespace.describe("breast-cancer")))?;
    assert!(waited.contains("condition met"), "{waited}");
    let table = cluster::kubectl(&["get", "tj", "-n", &namespace.name])?;
    let header: Vec<&str> = table
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(
        header,
        ["NAME", "PHASE", "STEP", "TOTAL", "LOSS", "WORKERS", "AGE"]
    );
    let row: Vec<&str> = table
        .lines()
        .nth(1)
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(row[..2], ["breast-cancer", "Succeeded"], "{table}");
    assert!(row[2].parse::<u64>()? > 0 && row[2] == row[3], "{table}");
    assert!(row[4].parse::<f64>()?.is_finite(), "{table}");
    let about = "involvedObject.kind=TrainingJob";
    let events = cluster::until("the last event is there", || {
        let events = cluster::kubectl(&[
            "get",
            "events",
            "-n",
            &namespace.name,
            "--field-selector",
            about,
        ])?;
        Ok(events.contains("Complete").then_some(events))
    })?;
    for reason in ["Started", "Training", "Complete"] {
        let of_reason = events
            .lines()
            .filter(|line| line.split_whitespace().any(|word| word == reason));
        assert_eq!(of_reason.count(), 1, "{reason} is told once:\n{events}");
    }
    Ok(())
}
