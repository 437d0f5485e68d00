//! `trainyard run` and the other commands with data and checkpoints in a real S3 server.

use std::fs;
use std::process::{Command, Output};

use crate::common::{Spec, example, folder, message, reference, sha};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use trainyard_s3_server::Server;

/// A server with the buckets `runs` and `data`; in the latter the example's file.
struct Store {
    server: Server,
    folder: TempDir,
}

fn store() -> Store {
    let folder = folder();
    for bucket in ["runs", "data"] {
        fs::create_dir(folder.path().join(bucket)).expect("writable");
    }
    let file = example("breast-cancer/breast-cancer.csv").file;
    fs::create_dir(folder.path().join("data/sets")).expect("writable");
    fs::copy(file, folder.path().join("data/sets/bc.csv")).expect("copied");
    let server = Server::start(folder.path()).expect("a server");
    Store { server, folder }
}

fn plain(epochs: u64) -> Spec {
    example("breast-cancer/job.yaml").epochs(epochs).every(20)
}

impl Store {
    /// The job with everything in the store, and credentials for it.
    fn job(&self, epochs: u64) -> Spec {
        let spec = self.without_credentials(epochs);
        let credentials = self.server.env().into_iter().filter(|(name, _)| {
            // Endpoint and region are the manifest's.
            name.starts_with("AWS_ACCESS") || name.starts_with("AWS_SECRET")
        });
        credentials.fold(spec, |spec, (name, value)| spec.env(&name, &value))
    }

    fn without_credentials(&self, epochs: u64) -> Spec {
        let endpoint = self.server.endpoint();
        let storage = format!("{{s3: {{bucket: runs, prefix: jobs, endpoint: \"{endpoint}\"}}}}");
        plain(epochs)
            .set("checkpoint.storage", storage)
            .set("data.s3", format!("{{endpoint: \"{endpoint}\"}}"))
            .set("data.train.csv.uri", "s3://data/sets/bc.csv")
    }

    /// Runs a command with the store in its environment.
    fn command(&self, args: &[&str]) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_trainyard"))
            .args(args)
            .envs(self.server.env())
            .output()
            .expect("the program starts");
        assert!(output.status.success(), "{args:?}: {output:?}");
        output
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_slice(&self.command(args).stdout).expect("JSON")
    }
}

#[test]
fn t01_data_and_checkpoints_in_s3_give_the_model_of_a_local_run() {
    let (store, out) = (store(), folder());
    let summary = store.job(4).on(2, 2).start(out.path()).finish();
    let expected = reference::train(&plain(4));
    assert_eq!(sha(&summary), expected.sha);
    let place = "s3://runs/jobs/breast-cancer";
    assert_eq!(summary["checkpoint"], place);
    assert_eq!(summary["artifact"], format!("{place}/artifact"));
    assert!(out.path().join("job.json").exists() && out.path().join("logs").exists());
    for elsewhere in ["log", "checkpoints", "artifact"] {
        assert!(!out.path().join(elsewhere).exists(), "{elsewhere}");
    }

    let report = store.json(&["inspect", "--json", "--verify", place]);
    assert_eq!(report["artifact"], format!("{place}/artifact"));
    let last = report["checkpoints"].as_array().and_then(|all| all.last());
    assert_eq!(last.expect("a checkpoint")["modelSha256"], expected.sha);
    let artifact = store.json(&["inspect", "--json", &format!("{place}/artifact")]);
    assert_eq!(artifact["model"]["modelSha256"], expected.sha);
    assert_eq!(artifact["path"], format!("{place}/artifact"));

    let exported = out.path().join("exported");
    let exported = exported.to_str().expect("text");
    store.command(&["export", place, "--out", exported]);
    let file = example("breast-cancer/breast-cancer.csv").file;
    let file = file.to_str().expect("text");
    let predict = |artifact: &str| store.command(&["predict", artifact, "--csv", file]).stdout;
    assert_eq!(predict(&format!("{place}/artifact")), predict(exported));
}

/// The rows of all objects that a pattern names, in the order of their names.
#[test]
fn c33_a_pattern_names_objects_of_a_bucket() {
    let (store, out) = (self::store(), folder());
    let sets = store.folder.path().join("data/sets");
    let text = fs::read_to_string(sets.join("bc.csv")).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    let (header, rows) = lines.split_first().expect("a header");
    for (place, rows) in rows.chunks(200).enumerate() {
        let part = [&[*header][..], rows].concat().join("\n");
        fs::write(sets.join(format!("part-{place}.csv")), part).expect("writable");
    }
    let job = |uri: &str| store.job(2).set("data.train.csv.uri", uri);
    let summary = job("s3://data/*/part-?.csv").start(out.path()).finish();
    assert_eq!(sha(&summary), reference::train(&plain(2)).sha);
    let other = self::store();
    let none = "s3://data/sets/none-*.csv";
    let none = other.job(1).set("data.train.csv.uri", none);
    let refused = none.start(folder().path()).wait();
    assert_eq!(refused.code(), Some(2), "{refused}");
    let message = message(&refused);
    assert!(
        message.contains("s3://data/sets/none-*.csv: no file matches it"),
        "{message}"
    );
}

#[test]
fn t03_a_run_that_was_killed_goes_on_from_s3() {
    let (store, out) = (store(), folder());
    let job = store.job(60);
    let mut run = job.clone().on(2, 2).start(out.path());
    run.until("a checkpoint", |run| {
        run.status()
            .filter(|status| status["checkpoint"].as_u64() >= Some(40))
    });
    run.signal(Signal::KILL);
    run.wait();
    let refused = job.start(out.path()).wait();
    assert_eq!(refused.code(), Some(2), "{refused}");
    assert!(message(&refused).contains("--resume"), "{refused}");
    // From another machine: nothing but the store is left.
    let elsewhere = folder();
    let ended = job.resume().on(1, 3).start(elsewhere.path()).wait();
    let resumed = ended.named("started")[0]["resumedFrom"].as_u64();
    assert!(resumed >= Some(40), "{ended}");
    assert_eq!(sha(&ended.summary()), reference::train(&plain(60)).sha);
}

#[test]
fn t25_a_job_begins_with_what_is_in_s3() {
    let (store, out) = (store(), folder());
    let mut run = store.job(60).start(out.path());
    run.reach(100);
    run.signal(Signal::INT);
    assert_eq!(run.wait().code(), Some(130));
    let place = "{uri: \"s3://runs/jobs/breast-cancer\"}";
    let mut other = store.job(60).set("resumeFrom", place);
    other.sets.push("metadata.name=other".into());
    let (first, second) = (folder(), folder());
    let ended = other.start(first.path()).wait();
    assert!(
        ended.named("started")[0]["resumedFrom"].as_u64() >= Some(100),
        "{ended}"
    );
    let trained = sha(&ended.summary());
    assert_eq!(trained, reference::train(&plain(60)).sha);

    let mut tuned = store
        .job(2)
        .set("initialModel", "{uri: \"s3://runs/jobs/other/artifact\"}")
        .set("training.optimizer", "{sgd: {learningRate: 1e-300}}");
    tuned.sets.push("metadata.name=tuned".into());
    assert_eq!(sha(&tuned.start(second.path()).finish()), trained);
}

/// However long the store takes, steps are done meanwhile, up to the next checkpoint at least.
#[test]
fn t21_training_goes_on_while_a_checkpoint_is_written() {
    let (store, out) = (store(), folder());
    store.server.hold("/checkpoints/");
    let mut run = store.job(12).on(2, 2).start(out.path());
    run.until("a shard on its way", |_| {
        (store.server.waiting() > 0).then_some(())
    });
    let status = run.reach(39);
    assert_eq!(status["checkpoint"], Value::Null, "none is whole: {status}");
    assert!(store.server.waiting() > 0);
    store.server.release();
    assert_eq!(sha(&run.finish()), reference::train(&plain(12)).sha);
}

/// What the user must mend is told before anything is started.
#[test]
fn t09_what_is_missing_for_s3_ends_with_2_and_is_named() {
    let store = store();
    let refused = |spec: Spec, code: i32, parts: &[&str]| {
        let out = folder();
        let ended = spec.start(out.path()).wait();
        assert_eq!(ended.code(), Some(code), "{ended}");
        let said = message(&ended);
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        assert!(ended.logs.is_empty(), "nothing was started: {ended}");
    };
    let variables = ["checkpoint.storage.s3", "AWS_ACCESS_KEY_ID"];
    refused(store.without_credentials(1), 2, &variables);
    let wrong = store.job(1).env("AWS_SECRET_ACCESS_KEY", "wrong");
    refused(wrong, 2, &["runs", "AWS_SECRET_ACCESS_KEY"]);
    let bucket = store.job(1).set("checkpoint.storage.s3.bucket", "other");
    refused(bucket, 2, &["no bucket other", "create it"]);
    let object = store.job(1).set("data.train.csv.uri", "s3://data/none.csv");
    refused(object, 2, &["s3://data/none.csv"]);
    let endpoint = "http://127.0.0.1:1"; // nobody listens there
    let away = store.job(1).set("checkpoint.storage.s3.endpoint", endpoint);
    refused(away, 75, &[endpoint]);
    store.server.ignore_conditions();
    refused(store.job(1), 2, &["If-None-Match"]);
    let left = fs::read_dir(store.folder.path().join("runs/jobs/breast-cancer"));
    assert_eq!(left.map_or(0, Iterator::count), 0, "nothing was written");
}
