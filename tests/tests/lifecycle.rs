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
        Ok((!holder.is_empty() && holder != last).then(|| holder.to_owned()))
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
    job["spec"]["training"]["epochs"] = json!(1500);
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

    cluster::install(OPERATOR, &["replicas=1"])?;
    let status = namespace.wait_for_phase("upgraded", &["Succeeded", "Failed"])?;
    assert_eq!(
        status["phase"],
        "Succeeded",
        "{}",
        namespace.describe("upgraded")
    );
    assert_eq!(status["restarts"], json!({"failures": 0, "disruptions": 0}));
    Ok(())
}
