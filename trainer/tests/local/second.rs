//! The edit-run loop: a manifest is run, changed and run again, in the folder that `run` chooses.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::folder;

const MANIFEST: &str = "\
apiVersion: trainyard.dev/v1alpha1
kind: TrainingJob
metadata: {name: churn}
spec:
  task: {binaryClassification: {}}
  model: {mlp: {hidden: [4]}}
  data:
    train: {csv: {uri: d.csv, label: kind}}
    validation: {fraction: 0.25}
  training: {epochs: 2, batchSize: 16, seed: 1, optimizer: {adam: {learningRate: 0.01}}}
  workers: {replicas: 1}
";

/// A folder with a manifest and its data: 64 rows, every eighth of the rare class.
fn project() -> TempDir {
    let folder = folder();
    let row = |i: u32| {
        let class = if i.is_multiple_of(8) {
            "churned"
        } else {
            "stayed"
        };
        format!("{},{},{class}\n", i * 37 % 64, i * 11 % 7)
    };
    let rows: String = (0..64).map(row).collect();
    fs::write(folder.path().join("d.csv"), format!("a,b,kind\n{rows}")).expect("writable");
    fs::write(folder.path().join("job.yaml"), MANIFEST).expect("writable");
    folder
}

fn trainyard(project: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainyard"));
    command.args(args).current_dir(project).stdin(Stdio::null());
    command.output().expect("the program starts")
}

/// What `run` says: its exit code, and its events.
fn run(project: &Path, args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = trainyard(project, &[&["run", "job.yaml", "--json"], args].concat());
    let text = String::from_utf8(output.stdout).expect("text");
    let parse = |line| serde_json::from_str(line).expect("JSON");
    (output.status.code(), text.lines().map(parse).collect())
}

/// The last event of a run that ends so.
#[track_caller]
fn last(project: &Path, args: &[&str], code: i32) -> Value {
    let (ended, events) = run(project, args);
    assert_eq!(ended, Some(code), "{args:?}: {events:?}");
    events.last().expect("events").clone()
}

#[test]
fn t25_a_mended_manifest_runs_where_the_mistake_was_and_a_changed_one_beside_it() {
    let project = project();
    let path = project.path();
    let mistake = last(path, &["--set", "spec.data.train.csv.label=why"], 2);
    assert!(
        mistake["message"]
            .as_str()
            .is_some_and(|text| text.contains("why")),
        "{mistake}"
    );
    let first = last(path, &[], 0);
    assert_eq!(first["checkpoint"], "runs/churn");
    let longer = ["--set", "spec.training.epochs=3"];
    assert_eq!(last(path, &longer, 0)["checkpoint"], "runs/churn-2");

    // Each goes on where it was, and is complete.
    let resumed = |sets: &[&str]| last(path, &[sets, &["--resume"]].concat(), 0);
    assert_eq!(resumed(&[])["modelSha256"], first["modelSha256"]);
    assert_eq!(resumed(&longer)["checkpoint"], "runs/churn-2");
    let other = last(path, &["--resume", "--set", "spec.training.epochs=4"], 2);
    let message = other["message"].as_str().expect("a message");
    assert!(
        message.contains("training.epochs is 2 there, 4 here"),
        "{message}"
    );
    let again = last(path, &[], 2);
    let message = again["message"].as_str().expect("a message");
    assert!(
        message.contains("which is complete") && message.contains("--overwrite"),
        "{message}"
    );
    for (args, told) in [
        (["--out", "s3://bucket/run"], "spec.checkpoint.storage.s3"),
        (["--servers", "257"], "257 is not in 1..=256"),
    ] {
        let output = trainyard(path, &[&["run", "job.yaml"], &args[..]].concat());
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(told), "{text}");
    }
    let (code, events) = run(path, &["--resume", "--set", "spec.suspend=true"]);
    assert_eq!(code, Some(0), "{events:?}");
    let warnings = events.iter().filter(|event| event["event"] == "warning");
    let warnings: Vec<&Value> = warnings.map(|event| &event["message"]).collect();
    assert_eq!(
        warnings,
        [
            "spec.suspend has no effect in a local run",
            "the job is complete already: nothing is trained"
        ]
    );
}

#[test]
fn t25_an_overwritten_run_comes_back_if_the_new_one_comes_to_nothing() {
    let project = project();
    let path = project.path();
    let first = last(path, &[], 0);
    let artifact = |path: &Path| {
        let file = path.join("runs/churn/artifact/provenance.json");
        let file: Value = serde_json::from_slice(&fs::read(file).expect("a file")).expect("JSON");
        file["modelSha256"].clone()
    };
    last(
        path,
        &["--overwrite", "--set", "spec.data.train.csv.uri=e.csv"],
        2,
    );
    assert_eq!(artifact(path), first["modelSha256"]);
    assert_eq!(
        last(path, &["--resume"], 0)["modelSha256"],
        first["modelSha256"]
    );
    let second = last(path, &["--overwrite", "--set", "spec.training.epochs=3"], 0);
    assert_ne!(second["modelSha256"], first["modelSha256"]);
    assert_eq!(
        (artifact(path), &second["checkpoint"]),
        (second["modelSha256"].clone(), &"runs/churn".into())
    );
    assert!(!path.join("runs/churn/.overwritten").exists());
}

#[test]
fn t25_a_folder_of_the_users_is_refused_and_stays_as_it_is() {
    let project = project();
    let before = fs::read(project.path().join("job.yaml")).expect("a file");
    let refused = last(project.path(), &["--out", "."], 2);
    let message = refused["message"].as_str().expect("a message");
    assert!(
        message.contains("is no run's folder") && message.contains("--out"),
        "{message}"
    );
    let names = fs::read_dir(project.path()).expect("a folder").count();
    assert_eq!(names, 2, "nothing was added");
    assert_eq!(
        fs::read(project.path().join("job.yaml")).expect("a file"),
        before
    );
}

#[test]
fn t15_a_warning_of_the_data_is_an_event_and_told_once() {
    let project = project();
    let text = fs::read_to_string(project.path().join("d.csv")).expect("text");
    fs::write(project.path().join("d.csv"), text + ",1,stayed\n").expect("writable");
    let set = "spec.data.train.csv.missing=DropRow";
    let (code, events) = run(project.path(), &["--set", set, "--workers", "2"]);
    assert_eq!(code, Some(0), "{events:?}");
    let warnings: Vec<&Value> = events
        .iter()
        .filter(|event| event["event"] == "warning")
        .map(|event| &event["message"])
        .collect();
    assert_eq!(
        warnings,
        ["d.csv: 1 row has a missing value and is left out, of 65 rows; the first is on line 66"]
    );
    let repeated = |event: &Value| event["event"] == "progress" && !event["warnings"].is_null();
    assert!(!events.iter().any(repeated), "{events:?}");
}

#[test]
fn t15_the_positive_class_is_the_one_that_is_named_and_told_everywhere() {
    let project = project();
    let path = project.path();
    // Long enough to learn which class is the rare one.
    let long = ["--set", "spec.training.epochs=20"];
    let stayed = last(path, &long, 0);
    let set = ["--set", "spec.task.binaryClassification.positive=churned"];
    let churned = last(path, &[long, set].concat(), 0);
    assert_eq!(
        (&stayed["positive"], &churned["positive"]),
        (&"stayed".into(), &"churned".into())
    );
    // Nobody is predicted to churn.
    let f1 = |summary: &Value| summary["metrics"]["train"]["f1"].as_f64().expect("f1");
    assert!(f1(&stayed) > 0.9, "{stayed}");
    assert_eq!(f1(&churned), 0.0, "{churned}");
    let metrics = fs::read(path.join("runs/churn-2/artifact/metrics.json")).expect("a file");
    let metrics: Value = serde_json::from_slice(&metrics).expect("JSON");
    assert_eq!(metrics["positive"], "churned");
    for (args, told) in [
        (["inspect", "runs/churn-2", ""], "positive class: churned"),
        (
            ["inspect", "runs/churn-2/artifact", ""],
            "(positive: churned)",
        ),
        (
            ["predict", "runs/churn-2", "--csv=d.csv"],
            "(positive class: churned)",
        ),
    ] {
        let args: Vec<&str> = args.into_iter().filter(|arg| !arg.is_empty()).collect();
        let output = trainyard(path, &args);
        let all = [output.stdout, output.stderr].concat();
        let all = String::from_utf8(all).expect("text");
        assert!(
            output.status.success() && all.contains(told),
            "{args:?}: {all}"
        );
    }
    let wrong = last(
        path,
        &["--set", "spec.task.binaryClassification.positive=Churned"],
        2,
    );
    let message = wrong["message"].as_str().expect("a message");
    assert!(message.contains("`positive` is \"Churned\""), "{message}");
}
