//! Servers and workers as the operator starts them: each by itself, in any order, on storage that
//! outlives them, in containers.
#![allow(missing_docs)]

pub mod pod;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::relay::Breaking;
use crate::common::wire::Losing;
use crate::common::{Random, Spec, example, folder, get, reference, sha};
use pod::{Cluster, Pod, inspect};
use rustix::process::Signal;
use serde_json::Value;
use trainyard_contract::DEFAULTS;

/// Workers that are there before any server, on a name instead of an address, train the model of a
/// local run; server 0 says so, and a finisher leaves the artifact.
#[test]
fn t01_roles_that_nobody_watches_train_the_same_model() {
    let cluster = Cluster::new(example("breast-cancer/job.yaml").epochs(240), 2);
    let mut workers = [cluster.worker(0), cluster.worker(1)];
    for worker in &mut workers {
        let looks = |pod: &Pod| {
            pod.log()
                .contains("looking for the coordinator")
                .then_some(())
        };
        worker.until("a search", looks);
    }
    let mut follower = cluster.server(1, 1);
    let mut server = cluster.server(0, 1);
    for worker in &mut workers {
        worker.until("a welcome", |pod| {
            pod.metric("sessions_total").filter(|count| *count > 0.0)
        });
    }
    assert_eq!(server.code(), Some(0), "{}", server.log());
    assert_eq!(follower.code(), Some(0), "{}", follower.log());
    for worker in &mut workers {
        assert_eq!(worker.code(), Some(0), "{}", worker.log());
        assert_eq!(worker.message(), "");
    }
    let expected = reference::train(&cluster.spec);
    let message: Value = serde_json::from_str(&server.message()).expect("JSON");
    assert_eq!(message["complete"], true);
    assert_eq!(message["modelSha256"], expected.sha);
    assert_eq!(message["step"], expected.steps);
    assert_eq!(message["totalSteps"], expected.steps);
    assert_eq!(message["epochs"], 240);
    assert!(message["metrics"]["train"]["loss"].is_f64(), "{message}");
    let artifact = cluster.export();
    let report = inspect(&artifact, &[]);
    assert_eq!(report["model"]["modelSha256"], expected.sha);

    // A restarted server 0 finds all done, and another finisher the artifact cut short.
    let mut again = cluster.server(0, 2);
    assert_eq!(again.code(), Some(0), "{}", again.log());
    let mut first = message;
    // They are of the process that had workers.
    let warnings = first
        .as_object_mut()
        .and_then(|fields| fields.remove("warnings"));
    let told = "the model has fewer parts than there are servers: some hold none of it";
    assert_eq!(warnings, Some(Value::from(vec![told])));
    let second: Value = serde_json::from_str(&again.message()).expect("JSON");
    assert_eq!(second, first);
    fs::write(format!("{artifact}/model.pt"), b"half").expect("writable");
    assert_eq!(cluster.export(), artifact);
    assert_eq!(inspect(&artifact, &[]), report);
}

/// A push that was written is lost with its connection, in the midst of training, and everything else
/// stays: its sender finds out, and pushes it again. Were it not to, this would wait for ever, for the
/// only worker has nothing else to write.
#[test]
fn t02_a_push_that_is_lost_with_its_connection_is_pushed_again() {
    let cluster = Cluster::new(example("breast-cancer/job.yaml").epochs(20), 1);
    let relay = Losing::start(cluster.address(), 25, 3);
    let mut server = cluster.server_behind(0, 1, |_| relay.address.clone());
    let mut worker = cluster.worker(0);
    worker.until("three losses", |_| (relay.lost() == 3).then_some(()));
    let welcomes = worker.until("a metric", |pod| pod.metric("sessions_total"));
    assert_eq!(welcomes, 1.0, "it has not joined again");
    assert_eq!(server.code(), Some(0), "{}", server.log());
    assert_eq!(worker.code(), Some(0), "{}", worker.log());
    assert_eq!(relay.lost(), 3, "{}", worker.log());
    let message: Value = serde_json::from_str(&server.message()).expect("JSON");
    assert_eq!(message["modelSha256"], reference::train(&cluster.spec).sha);
}

/// The stream to the coordinator ends several times. The worker joins again and goes on with what it
/// holds, on the connections that it has.
#[test]
fn t02_a_worker_that_loses_the_coordinator_alone_keeps_its_connections() {
    const BREAKS: u32 = 3;
    let mut cluster = Cluster::new(example("breast-cancer/job.yaml").epochs(100), 1);
    // A join and a welcome, 5 kB, are never broken; an epoch takes 2 kB, so all breaks come in the first
    // half of them.
    let relay = Breaking::new(Random::new("t02_alone"), BREAKS, 20_000);
    cluster.coordinator = Some(relay.before(cluster.address()));
    let mut server = cluster.server(0, 1);
    let mut worker = cluster.worker(0);
    let seen = worker.until("all breaks, and a welcome after the last", |pod| {
        let welcomes = pod.metric("sessions_total")?;
        let connections = pod.metric("bulk_connections_total")?;
        (welcomes > f64::from(BREAKS)).then_some((welcomes, connections))
    });
    assert_eq!(seen, (f64::from(BREAKS + 1), 2.0), "{}", worker.log());
    assert_eq!(server.code(), Some(0), "{}", server.log());
    assert_eq!(worker.code(), Some(0), "{}", worker.log());
    let message: Value = serde_json::from_str(&server.message()).expect("JSON");
    assert_eq!(message["modelSha256"], reference::train(&cluster.spec).sha);
}

/// Two hundred times one of the connections between two workers and two servers ends, at any byte.
/// Nobody else is disturbed, no worker joins again, and what arrived before is not sent again.
#[test]
fn t02_a_broken_connection_costs_what_was_on_its_way() {
    const BREAKS: u32 = 200;
    // With biases. In 99 chunks, on two servers.
    const FLOATS: u64 = 65 * 2048 + 2049 * 2048 + 2049 * 1024 + 1025 * 10;
    let spec = example("digits/mlp.yaml")
        .set("model.mlp.hidden", "[2048, 2048, 1024]")
        .set("training.optimizer", "{sgd: {learningRate: 0.01}}")
        .set("training.epochs", "4")
        .set("training.batchSize", "96")
        .every(1_000);
    let cluster = Cluster::new(spec, 2);
    // To and from two workers in each of 60 steps: all breaks come in the first half.
    let traffic = 60 * 4 * 4 * FLOATS;
    let random = Random::new("t02_breaks");
    let relay = Breaking::new(random, BREAKS, traffic / 2 / u64::from(BREAKS));
    let mut servers: Vec<Pod> = (0..2)
        .map(|index| cluster.server_behind(index, 1, |own| relay.before(own)))
        .collect();
    let mut workers = [cluster.worker(0), cluster.worker(1)];
    servers[0].until("all breaks", |_| (relay.breaks() == BREAKS).then_some(()));
    for worker in &mut workers {
        let welcomes = worker.until("a metric", |pod| pod.metric("sessions_total"));
        assert_eq!(welcomes, 1.0, "{}", worker.log());
    }
    for pod in servers.iter_mut().chain(&mut workers) {
        assert_eq!(pod.code(), Some(0), "{}", pod.log());
    }
    let message: Value = serde_json::from_str(&servers[0].message()).expect("JSON");
    assert_eq!(message["modelSha256"], reference::train(&cluster.spec).sha);
    let model = (4 * FLOATS) as f64;
    let steps = message["totalSteps"].as_f64().expect("a number");
    let again = relay.to_workers() as f64 - 2.0 * (steps + 1.0) * model;
    let part = again / model / f64::from(BREAKS);
    println!(
        "{:.3} % of the model was sent again for each break",
        100.0 * part
    );
    // Were a session lost after the look above, one model for both would be a hundredth each.
    assert!(part <= 0.006, "{part}");
}

/// As above, with checkpoints and data in a store that the environment names, as the operator does.
#[test]
fn t01_roles_keep_everything_in_s3() {
    let buckets = crate::common::folder();
    for bucket in ["runs", "data"] {
        fs::create_dir(buckets.path().join(bucket)).expect("writable");
    }
    let csv = example("breast-cancer/breast-cancer.csv").file;
    fs::copy(csv, buckets.path().join("data/bc.csv")).expect("copied");
    let store = trainyard_s3_server::Server::start(buckets.path()).expect("a server");
    let plain = example("breast-cancer/job.yaml").epochs(2);
    let spec = plain.clone().set("data.train.csv.uri", "s3://data/bc.csv");
    let mut cluster = Cluster::new(spec, 2);
    cluster.storage = "s3://runs/jobs/breast-cancer-0f0e0d0c".into();
    cluster.env = store.env();
    let mut server = cluster.server(0, 1);
    let (_follower, _worker) = (cluster.server(1, 1), cluster.worker(0));
    assert_eq!(server.code(), Some(0), "{}", server.log());
    let message: Value = serde_json::from_str(&server.message()).expect("JSON");
    assert_eq!(message["modelSha256"], reference::train(&plain).sha);
    let artifact = cluster.export();
    let report = inspect(&artifact, &cluster.env);
    assert_eq!(report["model"]["modelSha256"], message["modelSha256"]);

    // Cut short, it is made anew by whoever comes next.
    let provenance = buckets
        .path()
        .join("runs/jobs/breast-cancer-0f0e0d0c/artifact/provenance.json");
    fs::remove_file(&provenance).expect("it was there");
    assert_eq!(cluster.export(), artifact);
    assert!(provenance.exists());
}

/// The kubelet ends all pods of a suspended job at once: the step is saved, server 0 is the last to
/// go, and a later start goes on from there.
#[test]
fn t12_all_pods_terminated_at_once_leave_a_checkpoint() {
    let spec = example("breast-cancer/job.yaml").epochs(240).every(100_000);
    let cluster = Cluster::new(spec, 2);
    let mut server = cluster.server(0, 1);
    let mut others = [cluster.server(1, 1), cluster.worker(0), cluster.worker(1)];
    server.until("both workers", |pod| {
        let status: Value = serde_json::from_str(&get(&pod.http, "/status")?).ok()?;
        (status["workers"] == 2).then_some(())
    });
    let before = server.reach(30)["step"].as_u64();
    for pod in others.iter().chain([&server]) {
        pod.signal(Signal::TERM);
    }
    let told = Instant::now();
    server.wait();
    assert!(told.elapsed() < Duration::from_secs(15), "{}", server.log());
    for pod in &mut others {
        assert!([Some(0), Some(75)].contains(&pod.code()), "{}", pod.log());
    }
    let checkpoints = cluster.inspect()["checkpoints"].clone();
    let saved = checkpoints[0]["step"].as_u64();
    assert!(saved >= before, "{before:?} {checkpoints}");

    let mut server = cluster.server(0, 2);
    let (_follower, _worker) = (cluster.server(1, 2), cluster.worker(0));
    assert!(server.reach(1)["step"].as_u64() >= saved);
    assert_eq!(server.code(), Some(0), "{}", server.log());
    let message: Value = serde_json::from_str(&server.message()).expect("JSON");
    assert_eq!(message["modelSha256"], reference::train(&cluster.spec).sha);
}

/// Whoever has been replaced is no failure: it may be started again, under a newer generation.
#[test]
fn t10_a_server_that_was_replaced_ends_with_75() {
    let spec = example("breast-cancer/job.yaml").epochs(100_000); // it does not end by itself
    let cluster = Cluster::new(spec, 2);
    let mut server = cluster.server(0, 3);
    let mut follower = cluster.server(1, 3);
    let _worker = cluster.worker(0);
    server.reach(5);
    // The same place again without a newer generation: what was there has lost its state.
    let mut twin = cluster.server(1, 3);
    assert_eq!(twin.code(), Some(75), "{}", twin.log());
    assert!(
        twin.message().contains("higher generation"),
        "{}",
        twin.message()
    );
    for pod in [&mut server, &mut follower] {
        pod.signal(Signal::KILL);
        pod.wait();
    }
    let mut old = cluster.server(0, 2);
    assert_eq!(old.code(), Some(75), "{}", old.log());
    assert!(old.message().contains("generation 3"), "{}", old.message());
}

/// HTTP answers before the data are there, and a worker that is asked to leave meanwhile leaves, even
/// as the first process of a container, whose signals have no default action.
#[test]
fn t12_a_worker_that_is_loading_answers_and_leaves_when_asked() {
    let folder = crate::common::folder();
    let mut file = fs::File::create(folder.path().join("breast-cancer.csv")).expect("writable");
    let row = format!("{}M\n", "0.5,".repeat(200));
    let header: String = (0..200).map(|column| format!("x{column},")).collect();
    write!(file, "{header}diagnosis\n{}", row.repeat(100_000)).expect("written");
    let manifest = example("breast-cancer/job.yaml").file;
    let copy = folder.path().join("job.yaml");
    fs::copy(manifest, &copy).expect("copied");
    let mut spec = example("breast-cancer/job.yaml");
    spec.file = copy;
    let mut cluster = Cluster::new(spec, 1);
    let namespace = ["unshare", "--pid", "--fork", "--kill-child"].map(String::from);
    let permitted = Command::new(&namespace[0])
        .args(&namespace[1..])
        .arg("true")
        .status();
    match permitted.is_ok_and(|status| status.success()) {
        true => cluster.wrapper = namespace.to_vec(),
        false => println!("not as the first process: namespaces are not permitted here"),
    }
    let mut worker = cluster.worker(0);
    worker.until("an answer", |pod| get(&pod.http, "/healthz"));
    let rows = worker.until("a metric", |pod| pod.metric("rows"));
    assert_eq!(rows.to_bits(), 0.0_f64.to_bits(), "it is loading");
    let first = first_process(&worker, &cluster);
    crate::common::send(first, Signal::TERM);
    let told = Instant::now();
    assert_eq!(worker.code(), Some(0), "{}", worker.log());
    assert!(told.elapsed() < Duration::from_secs(5));
}

/// The process itself, or what `unshare` has forked.
fn first_process(pod: &Pod, cluster: &Cluster) -> u32 {
    if cluster.wrapper.is_empty() {
        return pod.pid();
    }
    let children = format!("/proc/{0}/task/{0}/children", pod.pid());
    let children = fs::read_to_string(children).expect("it runs");
    let child = children.split_whitespace().next().expect("a child");
    child.parse().expect("a process id")
}

/// Nothing is written but to the storage and the temporary folder.
#[test]
fn t09_a_read_only_root_is_enough() {
    let mut cluster = Cluster::new(example("breast-cancer/job.yaml").epochs(1), 1);
    let shared = cluster.folder.path().display().to_string();
    let script = format!(
        "mount --bind {shared} {shared} && mount -o remount,bind,ro / && mount -t tmpfs tmpfs /mnt && \
         export TMPDIR=/mnt"
    );
    let namespace = ["unshare", "--mount", "sh", "-c"].map(String::from);
    let permitted = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .output()
        .expect("unshare is there");
    if !permitted.status.success() {
        println!("skipped: mounts are not permitted here ({permitted:?})");
        return;
    }
    cluster.wrapper = namespace.to_vec();
    cluster.wrapper.push(format!(
        "{script} && ! touch /etc/written 2>/dev/null && exec \"$0\" \"$@\""
    ));
    let mut server = cluster.server(0, 1);
    let mut worker = cluster.worker(0);
    assert_eq!(server.code(), Some(0), "{}", server.log());
    assert_eq!(worker.code(), Some(0), "{}", worker.log());
    assert!(server.message().contains("\"complete\":true"));
    inspect(&cluster.export(), &[]);
}

/// A finisher too is the first process of a container. It begins with a file that nobody writes to.
#[test]
fn t28_a_finisher_that_is_asked_to_end_ends_and_is_to_be_repeated() {
    let cluster = Cluster::new(example("breast-cancer/job.yaml").epochs(1), 1);
    let job = cluster.folder.path().join("job.json");
    fs::remove_file(&job).expect("it was there");
    let made = Command::new("mkfifo").arg(&job).status();
    assert!(made.expect("mkfifo is there").success());
    let mut finisher = cluster.finisher();
    finisher.until("its handler", |pod| catches_sigterm(pod.pid()));
    finisher.signal(Signal::TERM);
    assert_eq!(finisher.code(), Some(75), "{}", finisher.log());
}

fn catches_sigterm(pid: u32) -> Option<()> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let caught = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))?;
    let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
    (caught & (1 << (15 - 1)) != 0).then_some(())
}

#[test]
fn t15_what_a_worker_cannot_read_is_its_last_word() {
    let cluster = Cluster::new(
        example("breast-cancer/job.yaml").set("data.train.csv.uri", "missing.csv"),
        1,
    );
    let mut worker = cluster.worker(0);
    assert_eq!(worker.code(), Some(2), "{}", worker.log());
    let message = worker.message();
    assert!(message.contains("missing.csv"), "{message}");
    assert!(worker.log().contains(&message), "{}", worker.log());
}

/// The description of the columns travels in one message: where it does not fit, no attempt would ever
/// succeed.
#[test]
fn t15_more_columns_than_can_be_described_are_refused() {
    let folder = crate::common::folder();
    let columns = 30_000;
    let line = |field: &dyn Fn(usize) -> String, last: &str| {
        let fields: Vec<String> = (0..columns).map(field).collect();
        format!("{},{last}\n", fields.join(","))
    };
    let mut text = line(&|column| format!("x{column}"), "diagnosis");
    for row in 0..20 {
        let field = |column| format!("{}", (row * column) % 97);
        text += &line(&field, if row % 2 == 0 { "M" } else { "B" });
    }
    fs::write(folder.path().join("breast-cancer.csv"), text).expect("writable");
    let mut spec = example("breast-cancer/job.yaml");
    let copy = folder.path().join("job.yaml");
    fs::copy(&spec.file, &copy).expect("copied");
    spec.file = copy;
    let cluster = Cluster::new(spec, 1);
    let mut worker = cluster.worker(0);
    assert_eq!(worker.code(), Some(2), "{}", worker.log());
    let message = worker.message();
    for part in ["30000 inputs", "1835008 are allowed", "use fewer"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

/// `NA` in a categorical column was a category once, and is a missing value now. A job that was begun
/// then goes on as it was begun; the same manifest gives another model where it begins now.
#[test]
fn t25_a_job_keeps_the_defaults_that_it_was_begun_with() {
    let project = folder();
    let row = |i: u32| {
        let colour = ["red", "NA", "blue"][(i % 3) as usize];
        format!("{},{colour},{}\n", i * 37 % 64, i * 11 % 7)
    };
    let rows: String = (0..60).map(row).collect();
    fs::write(project.path().join("d.csv"), format!("a,c,t\n{rows}")).expect("writable");
    let file = project.path().join("job.yaml");
    let manifest = "\
apiVersion: trainyard.dev/v1alpha1
kind: TrainingJob
metadata: {name: colours}
spec:
  task: {regression: {}}
  model: {mlp: {hidden: [4]}}
  data: {train: {csv: {uri: d.csv, label: t, categorical: [c], missing: DropRow}}}
  training: {epochs: 300, batchSize: 16, seed: 1, optimizer: {adam: {learningRate: 0.01}}}
";
    fs::write(&file, manifest).expect("writable");
    let spec = Spec {
        file,
        ..example("diabetes/job.yaml")
    }
    .every(10);
    let begun_then = || {
        let cluster = Cluster::new(spec.clone(), 1);
        cluster.edit_job(|job| {
            let fields = job.as_object_mut().expect("an object");
            assert_eq!(fields.remove("defaults"), Some(DEFAULTS.into()));
        });
        (cluster.server(0, 1), cluster.worker(0), cluster)
    };
    let (mut server, _worker, _cluster) = begun_then();
    assert_eq!(server.code(), Some(0), "{}", server.log());
    let message: Value = serde_json::from_str(&server.message()).expect("JSON");

    let (mut server, _worker, mut cluster) = begun_then();
    server.reach(40);
    server.signal(Signal::TERM);
    assert_eq!(server.code(), Some(75), "{}", server.log());
    let storage = Path::new(&cluster.storage);
    let resumed = spec.clone().resume().start(storage).finish();
    assert_eq!(sha(&resumed), message["modelSha256"]);
    assert_eq!(resumed["steps"], message["totalSteps"]);
    let provenance = inspect(&format!("{}/artifact", cluster.storage), &[]);
    assert_eq!(provenance["provenance"]["spec"].get("defaults"), None);

    let out = project.path().join("r");
    let now = spec.start(&out).finish();
    assert_ne!(sha(&now), message["modelSha256"]);
    // On a cluster, a job that is deleted and created again may find the checkpoints of the first.
    cluster.storage = out.display().to_string();
    let mut server = cluster.server(0, 9);
    assert_eq!(server.code(), Some(2), "{}", server.log());
    assert!(
        server
            .message()
            .contains(&format!("made with defaults {DEFAULTS}")),
        "{}",
        server.message()
    );
}
