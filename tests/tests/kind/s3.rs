//! Data and checkpoints in an S3-compatible store.

use std::net::TcpListener;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use trainyard_s3_server::Server;
use trainyard_tests::cluster::{self, Namespace};

use crate::faults::{condition, wait_for_trouble};
use crate::training::across_two_nodes;

const SECRET: &str = "store";

/// A store that pods can reach, with the buckets `data`, which holds the digits, and `runs`.
pub struct Store {
    _server: Server,
    folder: TempDir,
    endpoint: String,
    keys: Vec<(String, String)>,
}

impl Store {
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        for bucket in ["data", "runs"] {
            std::fs::create_dir(folder.path().join(bucket))?;
        }
        for file in ["digits-features.npy", "digits-labels.npy"] {
            let from = cluster::root().join("examples/digits").join(file);
            std::fs::copy(from, folder.path().join("data").join(file))?;
        }
        let host = host()?;
        let listener = TcpListener::bind((host.as_str(), 0))
            .with_context(|| format!("listening on {host}"))?;
        let endpoint = format!("http://{host}:{}", listener.local_addr()?.port());
        let server = Server::start_on(listener, folder.path())?;
        let is_key = |(name, _): &(String, String)| {
            name.ends_with("_KEY_ID") || name.ends_with("_ACCESS_KEY")
        };
        Ok(Store {
            keys: server.env().into_iter().filter(is_key).collect(),
            _server: server,
            folder,
            endpoint,
        })
    }

    pub fn make_secret(&self, namespace: &Namespace) -> Result<()> {
        let mut arguments = vec!["create", "secret", "generic", SECRET, "-n", &namespace.name];
        let keys: Vec<String> = self
            .keys
            .iter()
            .map(|(name, value)| format!("--from-literal={name}={value}"))
            .collect();
        arguments.extend(keys.iter().map(String::as_str));
        cluster::kubectl(&arguments).map(drop)
    }

    pub fn job(&self, name: &str) -> Result<Value> {
        let mut job = cluster::example("digits/mlp.yaml")?;
        job["metadata"] = json!({"name": name});
        job["spec"]["servers"]["replicas"] = json!(2);
        job["spec"]["workers"]["replicas"] = json!(3);
        let connection = json!({"endpoint": self.endpoint, "credentialsSecret": SECRET});
        job["spec"]["data"]["volume"] = Value::Null;
        job["spec"]["data"]["s3"] = connection.clone();
        job["spec"]["data"]["train"] = json!({"npy": {
            "features": "s3://data/digits-features.npy", "labels": "s3://data/digits-labels.npy",
        }});
        let mut storage = connection;
        storage["bucket"] = json!("runs");
        storage["prefix"] = json!("team/jobs");
        job["spec"]["checkpoint"]["storage"] = json!({"s3": storage});
        Ok(job)
    }
}

/// The address of this machine as pods see it: the gateway of kind's network, unless TRAINYARD_TEST_HOST names it.
fn host() -> Result<String> {
    if let Ok(host) = std::env::var("TRAINYARD_TEST_HOST") {
        return Ok(host);
    }
    let format = "{{range .IPAM.Config}}{{.Gateway}} {{end}}";
    let output = Command::new("docker")
        .args(["network", "inspect", "kind", "--format", format])
        .output()?;
    let gateways = String::from_utf8(output.stdout)?;
    let v4 = gateways
        .split_whitespace()
        .find(|address| address.contains('.'));
    Ok(v4
        .context("kind's network has no IPv4 gateway: name this machine in TRAINYARD_TEST_HOST")?
        .to_owned())
}

#[test]
fn digits_with_2_servers_and_3_workers_over_two_nodes_and_everything_in_s3_gives_the_local_bits()
-> Result<()> {
    cluster::operator()?;
    let local = cluster::run_locally("digits/mlp.yaml", &[])?;
    let namespace = Namespace::new("s3")?;
    let store = Store::start()?;
    store.make_secret(&namespace)?;
    let mut job = store.job("digits-in-s3")?;
    across_two_nodes(&mut job)?;
    namespace.submit(&job)?;
    let status = namespace.wait_for_phase("digits-in-s3", &["Succeeded", "Failed"])?;
    assert_eq!(
        status["phase"],
        "Succeeded",
        "{}",
        namespace.describe("digits-in-s3")
    );
    assert_eq!(status["modelSha256"], local["modelSha256"]);
    let artifact = status["artifact"].as_str().context("an artifact")?;
    let path = artifact
        .strip_prefix("s3://")
        .context("an artifact in S3")?;
    assert!(
        path.starts_with("runs/team/jobs/digits-in-s3-"),
        "{artifact}"
    );
    assert!(
        store
            .folder
            .path()
            .join(path)
            .join("model.safetensors")
            .exists(),
        "{artifact}"
    );
    Ok(())
}

#[test]
fn a_missing_bucket_or_secret_is_named() -> Result<()> {
    cluster::operator()?;
    let namespace = Namespace::new("s3-missing")?;
    let store = Store::start()?;
    namespace.submit(&store.job("secretless")?)?;
    wait_for_trouble(
        &namespace,
        "secretless",
        "ContainerConfigError",
        "\"store\"",
    )?;

    store.make_secret(&namespace)?;
    let mut job = store.job("bucketless")?;
    job["spec"]["checkpoint"]["storage"]["s3"]["bucket"] = json!("no-such-bucket");
    namespace.submit(&job)?;
    let status = namespace.wait_for_phase("bucketless", &["Failed", "Succeeded"])?;
    let failed = condition(&status, "Failed");
    let message = failed["message"].as_str().context("a message")?;
    assert!(message.contains("no-such-bucket"), "{failed}");
    Ok(())
}
