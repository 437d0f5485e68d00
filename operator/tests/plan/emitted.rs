//! What pods are told, byte for byte: a job that runs must survive an upgrade of the operator, and its image may be of another version.
//!
//! These texts are what operators have written since the first release. They are literal on purpose: the code that writes and reads them is shared
//! with the trainer, and would change on both sides at once.

use std::sync::Arc;

use serde_json::{Value, json};
use trainyard_contract::Member;
use trainyard_operator::job::Job;
use trainyard_operator::resources;

const FULL: &str = include_str!("../fixtures/full.yaml");
/// The same job with its data and checkpoints in a bucket.
const BUCKET: &str = include_str!("../fixtures/bucket.yaml");

/// A job that an operator has begun that gave no keys.
fn job(yaml: &str) -> Job {
    read(&format!(
        "{yaml}\nstatus: {{image: 'trainer:1', contract: 2}}\n"
    ))
}

/// A job that no operator has begun yet.
fn new(yaml: &str) -> Job {
    read(yaml)
}

fn read(yaml: &str) -> Job {
    let object = serde_saphyr::from_str(yaml).expect("the fixture is a TrainingJob");
    Job::new(Arc::new(object)).expect("the fixture is valid")
}

fn container(job: &Job, member: Member, generation: u64) -> Value {
    let pod = resources::pod(job, "trainer:1", member, 0, generation);
    let pod = serde_json::to_value(pod).expect("a pod is JSON");
    pod["spec"]["containers"][0].clone()
}

#[test]
fn the_arguments_of_pods_stay_as_they_are() {
    let server = container(&job(FULL), Member::server(1), 9);
    assert_eq!(
        server["args"],
        json!([
            "server",
            "--job=/etc/trainyard/job.json",
            "--index=1",
            "--coordinator=full-coordinator.team.svc:7000",
            "--http=0.0.0.0:8080",
            "--termination-message=/dev/termination-log",
            "--servers=2",
            "--generation=9",
            "--listen=0.0.0.0:7000",
            "--advertise=$(TRAINYARD_POD_IP):7000",
            "--storage=/storage/full-0a1b2c3d",
        ])
    );
    let worker = container(&job(FULL), Member::worker(2), 9);
    assert_eq!(
        worker["args"],
        json!([
            "worker",
            "--job=/etc/trainyard/job.json",
            "--index=2",
            "--coordinator=full-coordinator.team.svc:7000",
            "--http=0.0.0.0:8080",
            "--termination-message=/dev/termination-log",
            "--data=/data",
        ])
    );
    for member in [Member::server(1), Member::worker(2), Member::FINISHER] {
        let args = |job| container(&job, member, 9)["args"].clone();
        assert_eq!(args(new(FULL)), args(job(FULL)), "{member}");
    }
    let args = container(&job(BUCKET), Member::server(0), 1)["args"].clone();
    assert_eq!(args[10], "--storage=s3://runs/vision/full-0a1b2c3d");
    let finisher = container(&job(FULL), Member::FINISHER, 9);
    assert_eq!(
        finisher["args"],
        json!([
            "finisher",
            "--job=/etc/trainyard/job.json",
            "--storage=/storage/full-0a1b2c3d",
            "--termination-message=/dev/termination-log",
        ])
    );
}

#[test]
fn the_environment_of_pods_stays_as_it_is() {
    let ip = json!({"name": "TRAINYARD_POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}});
    let plain = |name: &str, value: &str| json!({"name": name, "value": value});
    let secret = |key: &str| json!({"name": key, "valueFrom": {"secretKeyRef": {"key": key, "name": "keys", "optional": false}}});
    let store = [
        plain("AWS_REGION", "eu-west-1"),
        plain("AWS_ENDPOINT_URL", "http://store:9000"),
        plain("AWS_ALLOW_HTTP", "true"),
        secret("AWS_ACCESS_KEY_ID"),
        secret("AWS_SECRET_ACCESS_KEY"),
    ];
    let grace = plain("TRAINYARD_GRACE_SECONDS", "55");
    let threads = [plain("OMP_NUM_THREADS", "1"), plain("MKL_NUM_THREADS", "1")];
    let env = |yaml: &str, member| container(&job(yaml), member, 1)["env"].clone();
    let own = [ip.clone(), grace.clone(), plain("RUST_LOG", "debug")];
    assert_eq!(env(FULL, Member::server(0)), json!(own));
    let token =
        json!({"name": "TOKEN", "valueFrom": {"secretKeyRef": {"key": "token", "name": "keys"}}});
    let own = [
        ip.clone(),
        threads[1].clone(),
        plain("OMP_NUM_THREADS", "4"),
        token,
    ];
    assert_eq!(env(FULL, Member::worker(0)), json!(own));
    let own = [&[ip.clone(), grace][..], &store].concat();
    assert_eq!(env(BUCKET, Member::server(0)), json!(own));
    let own = [&[ip.clone()][..], &threads, &store].concat();
    assert_eq!(env(BUCKET, Member::worker(0)), json!(own));
    assert_eq!(env(BUCKET, Member::FINISHER), json!(own));
    let own = [&[ip][..], &threads, &[plain("RUST_LOG", "debug")]].concat();
    assert_eq!(env(FULL, Member::FINISHER), json!(own));
}

#[test]
fn what_pods_mount_and_listen_on_stays_as_it_is() {
    let mount = |name: &str, path: &str| json!({"mountPath": path, "name": name, "readOnly": true});
    let writable = |name: &str, path: &str| json!({"mountPath": path, "name": name});
    let (http, protocol) = (
        json!({"containerPort": 8080, "name": "http"}),
        json!({"containerPort": 7000, "name": "protocol"}),
    );
    let server = container(&job(FULL), Member::server(0), 1);
    assert_eq!(server["name"], "trainer");
    assert_eq!(server["ports"], json!([http, protocol]));
    assert_eq!(
        server["livenessProbe"]["httpGet"],
        json!({"path": "/healthz", "port": 8080})
    );
    assert_eq!(server["terminationMessagePath"], "/dev/termination-log");
    let own = [
        mount("job", "/etc/trainyard"),
        writable("tmp", "/tmp"),
        writable("storage", "/storage"),
    ];
    assert_eq!(server["volumeMounts"], json!(own));
    let worker = container(&job(FULL), Member::worker(0), 1);
    assert_eq!(worker["ports"], json!([http]));
    let own = [
        mount("job", "/etc/trainyard"),
        writable("tmp", "/tmp"),
        mount("data", "/data"),
        writable("scratch", "/scratch"),
    ];
    assert_eq!(worker["volumeMounts"], json!(own));
}

/// Since version 3 of the contract. A job has keys from its beginning or never: its pods must agree.
#[test]
fn servers_and_workers_are_given_the_key_of_their_role_alone() {
    let with_key = |member: Member| {
        let pod = resources::pod(&new(FULL), "trainer:1", member, 0, 1);
        let pod = serde_json::to_value(pod).expect("a pod is JSON");
        let container = &pod["spec"]["containers"][0];
        let find = |list: &Value, name: &str| {
            let mut list = list.as_array().cloned().unwrap_or_default();
            list.retain(|item| item["name"] == name);
            list
        };
        (
            find(&container["env"], "TRAINYARD_KEY_FILE"),
            find(&container["volumeMounts"], "trainyard-key"),
            find(&pod["spec"]["volumes"], "trainyard-key"),
        )
    };
    for (member, entry) in [
        (Member::server(0), "server"),
        (Member::server(1), "server"),
        (Member::worker(2), "worker"),
    ] {
        let env = json!({"name": "TRAINYARD_KEY_FILE", "value": "/etc/trainyard-key/key"});
        let mount =
            json!({"mountPath": "/etc/trainyard-key", "name": "trainyard-key", "readOnly": true});
        let volume = json!({"name": "trainyard-key", "secret": {
            "defaultMode": 0o440, "items": [{"key": entry, "path": "key"}], "secretName": "full-keys-0a1b2c3d",
        }});
        let expected = (vec![env], vec![mount], vec![volume]);
        assert_eq!(with_key(member), expected, "{member}");
    }
    assert_eq!(with_key(Member::FINISHER), (vec![], vec![], vec![]));
}

#[test]
fn a_pod_with_a_key_is_as_one_without_in_all_else() {
    let pod = |job: &Job, member| {
        let pod = resources::pod(job, "trainer:1", member, 0, 1);
        serde_json::to_value(pod).expect("a pod is JSON")
    };
    for member in [Member::server(0), Member::worker(0), Member::FINISHER] {
        let mut with = pod(&new(FULL), member);
        for list in [
            "/spec/volumes",
            "/spec/containers/0/env",
            "/spec/containers/0/volumeMounts",
        ] {
            let list = with.pointer_mut(list).and_then(Value::as_array_mut);
            list.expect("a list").retain(|item| {
                item["name"] != "trainyard-key" && item["name"] != "TRAINYARD_KEY_FILE"
            });
        }
        assert_eq!(with, pod(&job(FULL), member), "{member}");
    }
}

#[test]
fn the_secret_with_the_keys_stays_as_it_is() {
    let random = std::array::from_fn(|i| i as u8);
    let secret = resources::keys(&new(FULL), random);
    let secret = serde_json::to_value(secret).expect("a Secret is JSON");
    // The key of workers, by Python: hmac.digest(bytes(range(32)), b"trainyard: key of workers", "sha256").
    assert_eq!(
        secret,
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "immutable": true,
            "metadata": {
                "name": "full-keys-0a1b2c3d", "namespace": "team",
                "labels": {
                    "app.kubernetes.io/managed-by": "trainyard", "app.kubernetes.io/name": "trainyard",
                    "trainyard.dev/job": "full",
                },
                "ownerReferences": [{
                    "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "name": "full",
                    "uid": "0a1b2c3d-0000-4000-8000-000000000001", "controller": true,
                }],
            },
            "data": {
                "server": "MDAwMTAyMDMwNDA1MDYwNzA4MDkwYTBiMGMwZDBlMGYxMDExMTIxMzE0MTUxNjE3MTgxOTFhMWIxYzFkMWUxZg==",
                "worker": "YjRjZDRlZmI3YTAyMjRjMTEyNmU2ZGU3OTdmNTczNmEyOTIxMDRjMTM3YTUzNWNlNzFiYTljNDExMjFhMDJmYQ==",
            },
        })
    );
}

/// A finisher reaches the storage as a server does, and is placed and sized as a worker.
#[test]
fn a_finisher_stands_between_server_and_worker() {
    let mut yaml = FULL.to_owned();
    for (role, settings) in [
        (
            "servers:",
            "serviceAccountName: store\n    nodeSelector: {kind: small}",
        ),
        (
            "workers:",
            "serviceAccountName: data\n    nodeSelector: {kind: large}\n    resources: {limits: {memory: 8Gi}}",
        ),
    ] {
        yaml = yaml.replace(role, &format!("{role}\n    {settings}"));
    }
    let pod = resources::pod(&job(&yaml), "trainer:1", Member::FINISHER, 2, 9);
    let pod = serde_json::to_value(pod).expect("a pod is JSON");
    assert_eq!(pod["metadata"]["name"], "full-finisher-0-2");
    assert_eq!(pod["metadata"]["labels"]["team"], "vision");
    let spec = &pod["spec"];
    assert_eq!(spec["serviceAccountName"], "store");
    assert_eq!(spec["nodeSelector"], json!({"kind": "large"}));
    assert_eq!(spec["activeDeadlineSeconds"], 3600);
    let container = &spec["containers"][0];
    assert_eq!(container["resources"]["limits"]["memory"], "8Gi");
    assert!(container["ports"].is_null() && container["livenessProbe"].is_null());
    let mounts = json!([
        {"mountPath": "/etc/trainyard", "name": "job", "readOnly": true},
        {"mountPath": "/tmp", "name": "tmp"},
        {"mountPath": "/storage", "name": "storage"},
    ]);
    assert_eq!(container["volumeMounts"], mounts);
}

#[test]
fn the_job_file_stays_as_it_is() {
    let file = |yaml: &str| {
        let map = resources::config_map(&job(yaml)).expect("JSON");
        let mut files = map.data.expect("files");
        let file = files.remove("job.json").expect("the job file");
        assert!(files.is_empty(), "{files:?}");
        file
    };
    assert_eq!(
        file(FULL),
        include_str!("../fixtures/full.job.json").trim_end()
    );
    assert_eq!(
        file(BUCKET),
        include_str!("../fixtures/bucket.job.json").trim_end()
    );
}

/// A job that an older operator has begun keeps the defaults of then; a job that depends on none of the
/// newer ones says nothing of them, and images of older versions read it.
#[test]
fn the_job_file_has_the_defaults_that_the_job_was_begun_with() {
    let defaults = |categorical: &str, status: &str| {
        let csv = format!("csv: {{uri: a.csv, label: y, categorical: [{categorical}]}}");
        let yaml = FULL.replace("csv: {uri: a.csv, label: y}", &csv);
        let map = resources::config_map(&read(&format!("{yaml}\n{status}\n"))).expect("JSON");
        let file: Value =
            serde_json::from_str(&map.data.expect("files")["job.json"]).expect("JSON");
        file.get("defaults").cloned()
    };
    assert_eq!(defaults("a", ""), Some(json!(2)));
    assert_eq!(defaults("", ""), None);
    assert_eq!(defaults("a", "status: {image: 'trainer:1'}"), None);
    assert_eq!(
        defaults("a", "status: {image: 'trainer:1', defaults: 2}"),
        Some(json!(2))
    );
}
