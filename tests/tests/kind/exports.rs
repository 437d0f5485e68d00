//! The export of the artifact: what goes wrong with it does the job no harm. And the servers, which need no libtorch for it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use trainyard_tests::cluster::{self, Namespace};

use crate::faults::condition;
use crate::s3::Store;

/// Resident memory of a server beyond its parameters, in KiB.
const MAX_RESIDENT_KIB: u64 = 30_000;

/// A process of a pod, as this machine sees those of a kind cluster on it.
struct Process(PathBuf);

impl Process {
    /// The process of a role with its checkpoints in this folder.
    fn find(role: &str, storage: &str) -> Result<Option<Self>> {
        let storage = format!("--storage={storage}");
        for entry in std::fs::read_dir("/proc")? {
            let path = entry?.path();
            let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0);
            let is_role = words.nth(1) == Some(role.as_bytes());
            if is_role && words.any(|word| word == storage.as_bytes()) {
                return Ok(Some(Process(path)));
            }
        }
        Ok(None)
    }

    fn kill(&self) -> Result<()> {
        let id = self.0.file_name().and_then(|name| name.to_str());
        let id: i32 = id.context("a process id")?.parse()?;
        let id = rustix::process::Pid::from_raw(id).context("a process id")?;
        Ok(rustix::process::kill_process(
            id,
            rustix::process::Signal::KILL,
        )?)
    }

    fn maps(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.0.join("maps"))?)
    }

    fn resident_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(self.0.join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.context("VmRSS")?.parse()?)
    }
}

/// Whether the processes of the cluster's pods run on this machine, where tests can see them.
fn is_local(namespace: &Namespace) -> bool {
    let local = namespace.host_folder().is_some();
    if !local {
        eprintln!("skipped: the processes of this cluster are not on this machine");
    }
    local
}

/// The job's folder in its storage, as the pods see it.
fn storage(namespace: &Namespace, job: &str) -> Result<String> {
    let object = cluster::get(&namespace.name, "trainingjob", job)?.context("the job")?;
    let uid = object["metadata"]["uid"].as_str().context("a uid")?;
    let digits = uid.chars().filter(char::is_ascii_hexdigit);
    Ok(format!(
        "/storage/{job}-{}",
        digits.take(8).collect::<String>()
    ))
}

fn failures(status: &Value) -> u64 {
    status["export"]["failures"].as_u64().unwrap_or(0)
}

fn small_job(name: &str, epochs: u32) -> Result<Value> {
    let mut job = cluster::breast_cancer(name, epochs)?;
    job["spec"]["workers"]["replicas"] = json!(1);
    Ok(job)
}

/// The first finisher meets a file where the artifact's folder shall be, the second is killed, the third does its work.
#[test]
fn t28_an_export_that_fails_or_is_killed_is_repeated_and_the_bits_stay() -> Result<()> {
    cluster::operator()?;
    let local = cluster::run_locally("breast-cancer/job.yaml", &["spec.training.epochs=3"])?;
    let namespace = Namespace::new("t28")?;
    let Some(shared) = namespace.host_folder().filter(|_| is_local(&namespace)) else {
        return Ok(());
    };
    namespace.submit(&small_job("tried", 3)?)?;
    let storage = storage(&namespace, "tried")?;
    let folder = shared.join(storage.trim_start_matches("/storage/"));
    cluster::make_open_folder(&folder)?;
    let obstacle = folder.join("artifact");
    std::fs::write(&obstacle, "in the way")?;
    let told = |error: anyhow::Error| error.context(namespace.describe("tried"));

    cluster::until("the first export has failed", || {
        Ok((failures(&namespace.status("tried")?) == 1).then_some(()))
    })
    .map_err(told)?;
    let status = namespace.status("tried")?;
    assert_eq!(status["phase"], "Exporting", "{status}");
    let ready = condition(&status, "ArtifactReady");
    assert_eq!(
        (&ready["status"], &ready["reason"]),
        (&json!("False"), &json!("Exporting"))
    );
    std::fs::remove_file(&obstacle)?;
    cluster::poll(
        "the second finisher is killed",
        std::time::Duration::from_millis(5),
        || {
            Process::find("finisher", &storage)?
                .map(|found| found.kill())
                .transpose()
        },
    )
    .map_err(told)?;
    let status = namespace.wait_for_phase("tried", &["Succeeded", "Failed"])?;
    assert_eq!(
        status["phase"],
        "Succeeded",
        "{}",
        namespace.describe("tried")
    );
    assert_eq!(failures(&status), 2, "{status}");
    assert_eq!(status["restarts"]["failures"], 0, "{status}");
    assert_eq!(
        condition(&status, "ArtifactReady")["status"],
        "True",
        "{status}"
    );
    assert_eq!(status["modelSha256"], local["modelSha256"]);
    assert_eq!(status["artifact"], format!("{storage}/artifact"));
    assert!(obstacle.join("provenance.json").exists());
    Ok(())
}

/// The artifact for a bucket is made in the temporary folder, which is too small here.
#[test]
fn t28_an_export_without_room_is_given_up_and_the_job_and_its_checkpoint_stand() -> Result<()> {
    cluster::operator()?;
    let local = cluster::run_locally("digits/mlp.yaml", &[])?;
    let namespace = Namespace::new("t28-full")?;
    let store = Store::start()?;
    store.make_secret(&namespace)?;
    let mut job = store.job("full")?;
    job["spec"]["servers"]["volumes"] =
        json!([{"name": "small", "emptyDir": {"medium": "Memory", "sizeLimit": "64Ki"}}]);
    job["spec"]["servers"]["volumeMounts"] = json!([{"name": "small", "mountPath": "/small"}]);
    job["spec"]["servers"]["env"] = json!([{"name": "TMPDIR", "value": "/small"}]);
    namespace.submit(&job)?;
    let status = namespace.wait_for_phase("full", &["Succeeded", "Failed"])?;
    let ready = condition(&status, "ArtifactReady");
    assert_eq!(
        status["phase"],
        "Succeeded",
        "{}",
        namespace.describe("full")
    );
    assert_eq!(
        (&ready["status"], &ready["reason"]),
        (&json!("False"), &json!("Error"))
    );
    let message = ready["message"].as_str().unwrap_or_default();
    assert!(message.contains("No space left on device"), "{message}");
    assert_eq!(failures(&status), 3, "{status}");
    assert!(status["artifact"].is_null(), "{status}");
    assert_eq!(status["modelSha256"], local["modelSha256"]);
    assert_eq!(status["checkpoint"]["step"], local["steps"]);
    Ok(())
}

#[test]
fn t28_a_server_maps_no_libtorch_and_is_small() -> Result<()> {
    cluster::operator()?;
    let namespace = Namespace::new("t28-small")?;
    if !is_local(&namespace) {
        return Ok(());
    }
    namespace.submit(&small_job("small", 100_000)?)?;
    let storage = storage(&namespace, "small")?;
    cluster::until("a step is done", || {
        Ok((namespace.status("small")?["progress"]["step"].as_u64() > Some(0)).then_some(()))
    })
    .map_err(|error| error.context(namespace.describe("small")))?;
    let server = Process::find("server", &storage)?.context("the server's process")?;
    let maps = server.maps()?;
    assert!(maps.contains("libc.so"), "{maps}");
    assert!(
        !maps.contains("torch") && !maps.contains("libgomp"),
        "{maps}"
    );
    let resident = server.resident_kib()?;
    eprintln!("a server has {resident} KiB resident");
    assert!(resident <= MAX_RESIDENT_KIB, "{resident} KiB");
    Ok(())
}
