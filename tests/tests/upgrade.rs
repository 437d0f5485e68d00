//! An upgrade of the operator from another commit, under jobs that run: `make test-upgrade FROM=COMMIT`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use trainyard_tests::cluster::{self, Namespace, OPERATOR};

const EPOCHS: u32 = 1500;

fn job(name: &str, epochs: u32) -> Result<Value> {
    let mut job = cluster::breast_cancer(name, epochs)?;
    job["spec"]["cleanPodPolicy"] = json!("None");
    Ok(job)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The servers and workers of a job, by name, with their uids.
fn pods(namespace: &Namespace, job: &str) -> Result<BTreeMap<String, String>> {
    let mut pods = namespace.pods(job)?;
    pods.retain(|pod| pod["metadata"]["labels"]["trainyard.dev/role"] != "finisher");
    let name_and_uid = |pod: &Value| {
        (
            text(&pod["metadata"]["name"]),
            text(&pod["metadata"]["uid"]),
        )
    };
    Ok(pods.iter().map(name_and_uid).collect())
}

fn job_file(namespace: &Namespace, job: &str) -> Result<String> {
    let map = cluster::get(&namespace.name, "configmap", &format!("{job}-job"))?;
    let map = map.context("the job's ConfigMap")?;
    Ok(text(&map["data"]["job.json"]))
}

/// One job is left in peace; of the other a worker and then a server is lost after the upgrade, and replaced with the image
/// that the job began with.
#[test]
fn o38_jobs_survive_an_upgrade_of_the_operator_and_their_bits_stay() -> Result<()> {
    let previous = cluster::target()?.join("previous/source/charts/trainyard");
    let tag = ["image.tag=previous", "trainerImage.tag=previous"];
    cluster::install_chart(&previous, OPERATOR, &tag)?;
    let local = cluster::run_locally(
        "breast-cancer/job.yaml",
        &[&format!("spec.training.epochs={EPOCHS}")],
    )?;
    let namespace = Namespace::new("upgrade")?;
    for name in ["calm", "lossy"] {
        namespace.submit(&job(name, EPOCHS)?)?;
        namespace.wait_for_phase(name, &["Running"])?;
    }
    let (before, file) = (pods(&namespace, "calm")?, job_file(&namespace, "calm")?);
    let contract = namespace.status("calm")?["contract"].clone();
    let told = |error: anyhow::Error| {
        let jobs = ["calm", "lossy", "later"].map(|name| namespace.describe(name));
        error.context(jobs.join("\n"))
    };

    cluster::install(OPERATOR, &[])?;
    assert_eq!(
        namespace.status("calm")?["phase"],
        "Running",
        "it goes on: more EPOCHS"
    );
    for member in ["lossy-worker-0", "lossy-server-0"] {
        let (pod, next) = (format!("{member}-0"), format!("{member}-1"));
        let delete = ["delete", "pod", &pod, "-n", &namespace.name, "--force"];
        cluster::kubectl(&[&delete[..], &["--grace-period=0"]].concat())?;
        cluster::until(&format!("{next} runs"), || {
            let pod = cluster::get(&namespace.name, "pod", &next)?.unwrap_or_default();
            let container = &pod["spec"]["containers"][0];
            let runs = pod["status"]["phase"] == "Running";
            Ok((runs && text(&container["image"]).ends_with(":previous")).then_some(()))
        })
        .map_err(told)?;
    }
    namespace.submit(&job("later", 20)?)?;
    for name in ["calm", "lossy", "later"] {
        let status = namespace.wait_for_phase(name, &["Succeeded", "Failed"])?;
        assert_eq!(status["phase"], "Succeeded", "{}", namespace.describe(name));
        assert_eq!(status["restarts"]["failures"], 0, "{status}");
        assert!(status["artifact"].is_string(), "{status}");
        let expected = match name {
            "later" => json!(3),
            _ => contract.clone(),
        };
        assert_eq!(status["contract"], expected, "{status}");
        // All pods of a job have keys, or none has.
        let of_job = format!("trainyard.dev/job={name}");
        let secrets = cluster::list(&namespace.name, "secrets", &of_job)?;
        let has_keys = expected.as_u64() >= Some(3);
        assert_eq!(secrets.len(), usize::from(has_keys), "{name}");
        if name != "later" {
            assert_eq!(status["modelSha256"], local["modelSha256"], "{name}");
        }
    }
    assert_eq!(
        pods(&namespace, "calm")?,
        before,
        "no pod was touched, none was added"
    );
    assert_eq!(job_file(&namespace, "calm")?, file);
    assert!(namespace.status("calm")?["generation"] == 1);
    Ok(())
}
