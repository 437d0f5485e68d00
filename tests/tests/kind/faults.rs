//! Jobs that something happens to.

use anyhow::Result;
use serde_json::{Value, json};
use trainyard_tests::cluster::{self, Namespace};

/// A job that takes a while: more epochs of the breast-cancer example.
fn long_job(name: &str, epochs: u32) -> Result<Value> {
    let mut job = cluster::breast_cancer(name, epochs)?;
    // Whoever is still there at the end stays to be looked at.
    job["spec"]["cleanPodPolicy"] = json!("None");
    Ok(job)
}

fn uids(pods: &[Value], role: &str) -> Vec<String> {
    let of_role = |pod: &&Value| pod["metadata"]["labels"]["trainyard.dev/role"] == role;
    let uid = |pod: &Value| {
        pod["metadata"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    pods.iter().filter(of_role).map(uid).collect()
}

fn wait_for_steps(namespace: &Namespace, job: &str, steps: u64) -> Result<()> {
    cluster::until(&format!("{job} has done {steps} steps"), || {
        let status = namespace.status(job)?;
        Ok((status["progress"]["step"].as_u64() >= Some(steps)).then_some(()))
    })
    .map_err(|error| error.context(namespace.describe(job)))
}

#[test]
fn o33_a_lost_worker_is_replaced_alone_and_the_bits_stay() -> Result<()> {
    cluster::operator()?;
    const EPOCHS: u32 = 600;
    let local = cluster::run_locally(
        "breast-cancer/job.yaml",
        &[&format!("spec.training.epochs={EPOCHS}")],
    )?;
    let namespace = Namespace::new("o33")?;
    namespace.submit(&long_job("lossy", EPOCHS)?)?;
    wait_for_steps(&namespace, "lossy", 1)?;
    let before = namespace.pods("lossy")?;
    cluster::kubectl(&[
        "delete",
        "pod",
        "lossy-worker-1-0",
        "-n",
        &namespace.name,
        "--grace-period=0",
        "--force",
    ])?;
    cluster::until("the other worker 1 runs", || {
        let pod = cluster::get(&namespace.name, "pod", "lossy-worker-1-1")?.unwrap_or_default();
        Ok((pod["status"]["phase"] == "Running").then_some(()))
    })
    .map_err(|error| error.context(namespace.describe("lossy")))?;
    let status = namespace.wait_for_phase("lossy", &["Succeeded", "Failed"])?;
    assert_eq!(
        status["modelSha256"],
        local["modelSha256"],
        "{}",
        namespace.describe("lossy")
    );
    assert_eq!(status["restarts"]["failures"], 0);
    assert_eq!(status["generation"], 1, "no server was touched");
    let after = namespace.pods("lossy")?;
    assert_eq!(uids(&before, "server"), uids(&after, "server"));
    let lost = &uids(&before, "worker")[1];
    let workers = uids(&after, "worker");
    assert!(
        workers.len() == 2 && !workers.contains(lost),
        "worker 1 was replaced: {}",
        namespace.describe("lossy")
    );
    Ok(())
}

#[test]
fn o32_a_lost_server_is_replaced_under_a_higher_generation_and_the_bits_stay() -> Result<()> {
    cluster::operator()?;
    const EPOCHS: u32 = 600;
    let local = cluster::run_locally(
        "breast-cancer/job.yaml",
        &[&format!("spec.training.epochs={EPOCHS}")],
    )?;
    let namespace = Namespace::new("o32")?;
    let mut job = long_job("serverless", EPOCHS)?;
    job["spec"]["servers"]["replicas"] = json!(2);
    namespace.submit(&job)?;
    wait_for_steps(&namespace, "serverless", 1)?;
    let before = namespace.pods("serverless")?;
    cluster::kubectl(&[
        "delete",
        "pod",
        "serverless-server-1-0",
        "-n",
        &namespace.name,
        "--grace-period=0",
        "--force",
    ])?;
    let status = namespace.wait_for_phase("serverless", &["Succeeded", "Failed"])?;
    assert_eq!(
        status["modelSha256"],
        local["modelSha256"],
        "{}",
        namespace.describe("serverless")
    );
    assert_eq!(status["restarts"]["failures"], 0);
    assert!(status["generation"].as_u64() >= Some(2), "{status}");
    let after = namespace.pods("serverless")?;
    assert!(
        uids(&after, "server").contains(&uids(&before, "server")[0]),
        "server 0 was not touched"
    );
    assert_eq!(
        uids(&before, "worker"),
        uids(&after, "worker"),
        "no worker was touched"
    );
    Ok(())
}

#[test]
fn o13_a_suspended_job_goes_on_from_its_checkpoint_with_the_same_bits() -> Result<()> {
    cluster::operator()?;
    const EPOCHS: u32 = 600;
    let local = cluster::run_locally(
        "breast-cancer/job.yaml",
        &[&format!("spec.training.epochs={EPOCHS}")],
    )?;
    let namespace = Namespace::new("o13")?;
    namespace.submit(&long_job("pausing", EPOCHS)?)?;
    wait_for_steps(&namespace, "pausing", 1)?;
    let patch = |value: bool| {
        let patch = json!({"spec": {"suspend": value}}).to_string();
        cluster::kubectl(&[
            "patch",
            "trainingjob",
            "pausing",
            "-n",
            &namespace.name,
            "--type=merge",
            "-p",
            &patch,
        ])
    };
    patch(true)?;
    namespace.wait_for_phase("pausing", &["Suspended", "Succeeded", "Failed"])?;
    cluster::until("no pod is left", || {
        Ok(namespace.pods("pausing")?.is_empty().then_some(()))
    })?;
    let suspended = namespace.status("pausing")?;
    assert_eq!(suspended["phase"], "Suspended", "{suspended}");
    patch(false)?;
    let status = namespace.wait_for_phase("pausing", &["Succeeded", "Failed"])?;
    assert_eq!(
        status["modelSha256"],
        local["modelSha256"],
        "{}",
        namespace.describe("pausing")
    );
    assert_eq!(
        status["restarts"],
        json!({"failures": 0, "disruptions": 0}),
        "a suspension is nobody's fault"
    );
    Ok(())
}

#[test]
fn o03_a_deadline_fires_with_no_event_arriving() -> Result<()> {
    cluster::operator()?;
    let namespace = Namespace::new("o03")?;
    let mut job = long_job("late", 1)?;
    job["spec"]["activeDeadlineSeconds"] = json!(60);
    job["spec"]["workers"]["nodeSelector"] = json!({"no-such-label": "anywhere"});
    namespace.submit(&job)?;
    // From then on nothing happens any more.
    wait_for_trouble(&namespace, "late", "Unschedulable", "node")?;
    let status = namespace.wait_for_phase("late", &["Failed", "Succeeded"])?;
    let failed = condition(&status, "Failed");
    assert_eq!(failed["reason"], "DeadlineExceeded", "{status}");
    let degraded = condition(&status, "Degraded");
    assert_eq!(
        degraded["status"], "False",
        "an ended job waits for nothing: {status}"
    );
    Ok(())
}

#[test]
fn o21_what_is_in_the_way_is_named_and_the_job_recovers_when_it_is_mended() -> Result<()> {
    cluster::operator()?;
    let namespace = Namespace::new("o21")?;
    let mut job = cluster::example("breast-cancer/job.yaml")?;
    job["metadata"] = json!({"name": "waiting"});
    job["spec"]["data"]["volume"] = json!({"configMap": {"name": "not-yet"}});
    namespace.submit(&job)?;
    wait_for_trouble(&namespace, "waiting", "VolumeNotFound", "\"not-yet\"")?;
    let file = cluster::root().join("examples/breast-cancer/breast-cancer.csv");
    let file = format!("--from-file={}", file.display());
    cluster::kubectl(&[
        "create",
        "configmap",
        "not-yet",
        "-n",
        &namespace.name,
        &file,
    ])?;
    let status = namespace.wait_for_phase("waiting", &["Succeeded", "Failed"])?;
    assert_eq!(
        status["phase"],
        "Succeeded",
        "{}",
        namespace.describe("waiting")
    );
    assert_eq!(condition(&status, "Degraded")["status"], "False");

    let mut job = cluster::example("breast-cancer/job.yaml")?;
    job["metadata"] = json!({"name": "imageless"});
    job["spec"]["image"] = json!("trainyard.dev/no-such-image:1");
    job["spec"]["servers"]["imagePullPolicy"] = json!("Never");
    job["spec"]["workers"]["imagePullPolicy"] = json!("Never");
    namespace.submit(&job)?;
    wait_for_trouble(&namespace, "imageless", "ImagePullFailed", "no-such-image")
}

/// Waits until a job is degraded for this reason, with a message that names the cause. Others may come before.
pub fn wait_for_trouble(namespace: &Namespace, job: &str, reason: &str, cause: &str) -> Result<()> {
    cluster::until(&format!("{reason} names {cause}"), || {
        let degraded = condition(&namespace.status(job)?, "Degraded");
        let message = degraded["message"].as_str().unwrap_or_default();
        let is_it = degraded["status"] == "True" && degraded["reason"] == reason;
        Ok((is_it && message.contains(cause)).then_some(()))
    })
    .map_err(|error| error.context(namespace.describe(job)))
}

pub fn condition(status: &Value, type_: &str) -> Value {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions
        .clone()
        .find(|c| c["type"] == type_)
        .cloned()
        .unwrap_or_default()
}
