//! The chart's life: upgraded under running jobs, uninstalled, installed again. Alone in its test binary, because the other
//! tests want the operator to stay.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use trainyard_tests::cluster::{self, Namespace, OPERATOR};

fn uids(namespace: &Namespace) -> Result<BTreeMap<String, String>> {
    let text = |pod: &Value, field: &str| {
        pod["metadata"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let pods = namespace.pods("upgraded")?;
    Ok(pods
        .iter()
        .map(|pod| (text(pod, "name"), text(pod, "uid")))
        .collect())
}

/// Waits until a pod other than `last` leads.
fn leader(last: &str) -> Result<String> {
    cluster::until("another operator leads", || {
        let lease = cluster::get(OPERATOR, "lease", "trainyard-operator")?.unwrap_or_default();
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        if holder.is_empty() || holder == last {
            return Ok(None);
        }
        // One that an upgrade has asked to go leads until it has gone.
        let pod = cluster::get(OPERATOR, "pod", holder)?.unwrap_or_default();
        let stays =
            pod["metadata"]["uid"].is_string() && pod["metadata"]["deletionTimestamp"].is_null();
        Ok(stays.then(|| holder.to_owned()))
    })
}

#[test]
fn o22_o30_o38_upgrade_another_leader_uninstall_and_install_leave_jobs_and_definitions_alone()
-> Result<()> {
    cluster::install(OPERATOR, &["replicas=1"])?;
    let refused = cluster::install(OPERATOR, &["replica=2"])
        .err()
        .context("a wrong value")?
        .to_string();
    assert!(refused.contains("replica"), "{refused}");

    let namespace = Namespace::new("o38")?;
    let mut job = cluster::example("breast-cancer/job.yaml")?;
    job["metadata"] = json!({"name": "upgraded"});
    job["spec"]["training"]["epochs"] = json!(100_000); // it goes on for as long as this takes
    namespace.submit(&job)?;
    namespace.wait_for_phase("upgraded", &["Running"])?;
    let before = uids(&namespace)?;

    cluster::install(OPERATOR, &["replicas=2", "log.format=text"])?;
    assert_eq!(uids(&namespace)?, before, "an upgrade restarts no pod");

    let leader = leader("")?;
    let kill = ["delete", "pod", &leader, "-n", OPERATOR, "--force"];
    cluster::kubectl(&[&kill[..], &["--grace-period=0"]].concat())?;
    self::leader(&leader)?;
    assert_eq!(uids(&namespace)?, before, "another leader restarts no pod");

    cluster::helm(&[
        "uninstall",
        "trainyard",
        "-n",
        OPERATOR,
        "--cascade",
        "foreground", // so that the wait is for the pods too
        "--wait",
        "--timeout",
        "2m",
    ])?;
    let crds = cluster::kubectl(&["get", "crd", "trainingjobs.trainyard.dev", "-o", "name"])?;
    assert!(crds.contains("trainingjobs"), "the definitions stay");
    assert_eq!(
        uids(&namespace)?,
        before,
        "jobs go on without their operator"
    );
    let left = cluster::kubectl(&[
        "get",
        "all,clusterrole,clusterrolebinding,role,rolebinding,serviceaccount,configmap,secret,networkpolicy,pdb",
        "-n",
        OPERATOR,
        "-l",
        "app.kubernetes.io/instance=trainyard",
        "-o",
        "name",
    ])?;
    assert_eq!(left.trim(), "", "what is left of the release");

    let known = namespace.status("upgraded")?["progress"]["step"].as_u64();
    cluster::install(OPERATOR, &["replicas=1"])?;
    let status = cluster::until("training is followed again", || {
        let status = namespace.status("upgraded")?;
        let step = status["progress"]["step"].as_u64();
        Ok((status["phase"] == "Running" && step > known).then_some(status))
    })
    .map_err(|error| error.context(namespace.describe("upgraded")))?;
    assert_eq!(status["restarts"], json!({"failures": 0, "disruptions": 0}));
    assert_eq!(
        uids(&namespace)?,
        before,
        "the new operator takes them over"
    );
    Ok(())
}
