//! A job that begins with another's model, and one that goes on from another's checkpoints.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{Spec, example, folder, message, sha};

fn begins_with(uri: impl std::fmt::Display) -> Spec {
    example("diabetes/job.yaml")
        .set("training.earlyStopping", "null")
        .set("initialModel", format!("{{\"uri\": \"{uri}\"}}"))
}

/// Steps that change nothing: what is trained is what was begun with.
fn standing(spec: Spec) -> Spec {
    spec.set("training.optimizer", "{sgd: {learningRate: 1e-300}}")
}

#[track_caller]
fn refused(spec: &Spec, out: &Path, parts: &[&str]) {
    let ended = spec.start(out).wait();
    assert_eq!(ended.code(), Some(2), "{ended}");
    let told = message(&ended);
    assert!(parts.iter().all(|part| told.contains(part)), "{told}");
}

#[test]
fn t25_a_job_begins_with_the_model_of_another() {
    let (base, out) = (folder(), folder());
    let trained = example("diabetes/job.yaml").epochs(4).start(base.path());
    let trained = sha(&trained.finish());
    let run = base.path().display();
    let artifact = base.path().join("artifact");
    let kept = standing(begins_with(&run))
        .epochs(2)
        .start(out.path())
        .wait();
    assert_eq!(sha(&kept.summary()), trained);
    let started = &kept.named("started")[0];
    assert_eq!(started["initialModel"], run.to_string());
    assert!(started.get("resumedFrom").is_none(), "{started}");

    // Whoever computes it, and wherever it was taken from.
    let tuned = begins_with(&run).epochs(3).sha();
    assert_ne!(tuned, trained);
    let again = begins_with(artifact.display()).epochs(3).on(3, 2);
    assert_eq!(again.sha(), tuned);
    let elsewhere = folder();
    let mut half = begins_with(&run)
        .epochs(300)
        .every(20)
        .start(elsewhere.path());
    half.reach(40);
    half.signal(Signal::INT);
    assert_eq!(half.wait().code(), Some(130));
    let whole = begins_with(&run).epochs(300).sha();

    // The run has its own copy, and remembers which model it was.
    fs::rename(base.path().join("log"), base.path().join("moved")).expect("writable");
    fs::remove_dir_all(&artifact).expect("writable");
    let spec = begins_with(&run).epochs(300).every(20);
    refused(
        &spec,
        folder().path(),
        &["spec.initialModel", "neither an artifact nor a checkpoint"],
    );
    let resumed = spec.resume().start(elsewhere.path()).wait();
    assert_eq!(sha(&resumed.summary()), whole);
    assert!(resumed.named("started")[0]["resumedFrom"].as_u64() >= Some(40));
    let provenance = fs::read(elsewhere.path().join("artifact/provenance.json"));
    let provenance: Value = serde_json::from_slice(&provenance.expect("a file")).expect("JSON");
    assert_eq!(
        provenance["spec"]["spec"]["initialModel"]["modelSha256"],
        trained
    );
}

/// What is in the way and not the run's own is kept; what is, and is damaged, is made again.
#[test]
fn t25_the_copy_of_an_initial_model_is_the_runs_own() {
    let (base, out) = (folder(), folder());
    let trained = example("diabetes/job.yaml").epochs(1).start(base.path());
    let trained = sha(&trained.finish());
    let spec = standing(begins_with(base.path().display())).epochs(1);
    let initial = out.path().join("initial");
    let thesis = initial.join("thesis.txt");
    let first = example("diabetes/job.yaml").epochs(1);
    first.start(out.path()).finish();
    fs::create_dir(&initial).expect("writable");
    fs::write(&thesis, "mine").expect("writable");
    let overwrite = spec.clone().args(["--overwrite"]);
    refused(
        &overwrite,
        out.path(),
        &["initial is in the way", "move it away"],
    );
    first.args(["--overwrite"]).start(out.path()).finish();
    assert!(thesis.exists());

    let other = folder();
    let initial = other.path().join("initial");
    let artifact = base.path().join("artifact");
    fs::create_dir(&initial).expect("writable");
    fs::copy(artifact.join("model.json"), initial.join("model.json")).expect("a copy");
    fs::write(initial.join("model.safetensors"), "damaged").expect("writable");
    fs::write(other.path().join(".lock"), "").expect("writable");
    assert_eq!(sha(&spec.start(other.path()).finish()), trained);
}

#[test]
fn t25_a_run_that_trains_is_no_source() {
    let base = folder();
    let mut run = example("diabetes/job.yaml")
        .epochs(100_000)
        .set("training.earlyStopping", "null")
        .every(20)
        .start(base.path());
    run.reach(40);
    let run_folder = base.path().display();
    let from =
        example("diabetes/job.yaml").set("resumeFrom", format!("{{\"uri\": \"{run_folder}\"}}"));
    for spec in [begins_with(run_folder), from] {
        let ended = spec.start(folder().path()).wait();
        assert_eq!(ended.code(), Some(75), "{ended}");
        assert!(message(&ended).contains("a run is using it"), "{ended}");
    }
    run.signal(Signal::INT);
    assert_eq!(run.wait().code(), Some(130));
}

#[test]
fn t25_an_initial_model_that_does_not_fit_is_refused_before_anything_starts() {
    let (base, out) = (folder(), folder());
    let trained = example("diabetes/job.yaml").epochs(1).start(base.path());
    trained.finish();
    let run = base.path().display().to_string();
    let other = "0".repeat(64);
    let cases: [(Spec, &[&str]); 5] = [
        (
            begins_with("nowhere"),
            &["spec.initialModel: there is no folder", "nowhere"],
        ),
        (
            begins_with(out.path().display()),
            &["neither an artifact nor a checkpoint"],
        ),
        (
            begins_with(&run).set("model.mlp.activation", "tanh"),
            &["\"activation\":\"relu\"", "and spec.model is", "tanh"],
        ),
        (
            begins_with(&run).set("task", "{multiclassClassification: {}}"),
            &["another task: spec.task must be the same"],
        ),
        (
            begins_with(&run).set("initialModel.modelSha256", format!("\"{other}\"")),
            &["spec.initialModel.modelSha256 names another"],
        ),
    ];
    for (spec, parts) in cases {
        refused(&spec, out.path(), parts);
        let logs = fs::read_dir(out.path().join("logs")).map_or(0, Iterator::count);
        assert_eq!(logs, 0, "nothing was started");
    }
    // Not what it reads.
    let exclude = begins_with(&run).set("data.train.csv.exclude", "[bmi]");
    refused(
        &exclude,
        out.path(),
        &["the initial model reads column \"bmi\""],
    );
}

#[test]
fn t25_a_job_goes_on_from_the_checkpoints_of_another_to_the_same_model() {
    // A copy of the example, whose data can be taken away.
    let project = folder();
    for name in ["job.yaml", "breast-cancer.csv"] {
        let file = example(&format!("breast-cancer/{name}")).file;
        fs::copy(file, project.path().join(name)).expect("a copy");
    }
    let data = project.path().join("breast-cancer.csv");
    let job = |name: &str| {
        let mut spec = example("breast-cancer/job.yaml").epochs(200).every(30);
        spec.file = project.path().join("job.yaml");
        spec.sets.push(format!("metadata.name={name}"));
        // The best epoch comes early: what the job may return to has to come along.
        spec.set("training.earlyStopping", "{metric: loss, patience: 1000}")
            .set("training.optimizer", "{adam: {learningRate: 0.02}}")
    };
    let expected = job("first").start(folder().path()).finish();
    let first = folder();
    let mut half = job("first").on(2, 2).start(first.path());
    half.reach(1000);
    half.signal(Signal::INT);
    assert_eq!(half.wait().code(), Some(130));
    let uri = format!("{{\"uri\": \"{}\"}}", first.path().display());
    let from = |spec: Spec| spec.set("resumeFrom", &uri);
    let out = folder();
    let ended = from(job("second")).start(out.path()).wait();
    assert!(
        ended.named("started")[0]["resumedFrom"].as_u64() >= Some(1000),
        "{ended}"
    );
    let summary = ended.summary();
    assert_eq!(sha(&summary), sha(&expected));
    assert_eq!(summary["modelEpoch"], expected["modelEpoch"]);
    assert!(expected["modelEpoch"].as_u64() < Some(50), "{expected}");

    let elsewhere = folder();
    let longer = from(job("second")).epochs(300);
    refused(
        &longer,
        elsewhere.path(),
        &[
            "training.epochs is 200 there, 300 here",
            "spec.initialModel instead of spec.resumeFrom",
        ],
    );
    let nothing = job("second").set("resumeFrom", "{uri: nowhere}");
    refused(
        &nothing,
        elsewhere.path(),
        &["spec.resumeFrom: there is no folder"],
    );
    let own = job("first").set("resumeFrom", &uri).args(["--overwrite"]);
    refused(
        &own,
        first.path(),
        &["is in the folder that --overwrite replaces"],
    );
    // Once it has begun, it is a job like any other.
    refused(
        &from(job("second")),
        out.path(),
        &["already holds this job, which is complete"],
    );

    // What was imported does not replace the run that is overwritten, and is used again by the next try.
    let text = fs::read(&data).expect("the data");
    fs::remove_file(&data).expect("it is there");
    let overwrite = from(job("second")).args(["--overwrite"]);
    refused(&overwrite, out.path(), &["breast-cancer.csv"]);
    refused(
        &from(job("second")),
        elsewhere.path(),
        &["breast-cancer.csv"],
    );
    fs::write(&data, text).expect("writable");
    let back = from(job("second")).resume().start(out.path()).wait();
    assert!(back.named("started").is_empty(), "it is complete: {back}");
    assert_eq!(sha(&back.summary()), sha(&expected));
    fs::remove_dir_all(first.path().join("log")).expect("writable");
    let again = from(job("second")).start(elsewhere.path()).wait();
    let told = again.named("warning")[0]["message"].to_string();
    assert!(told.contains("going on from step 1"), "{told}");
    assert_eq!(sha(&again.summary()), sha(&expected));
}

/// There is nothing to train, and the copy must not be lost to a second look.
#[test]
fn t25_a_complete_job_is_imported_with_its_result() {
    let (base, out) = (folder(), folder());
    let mut job = example("diabetes/job.yaml").epochs(2);
    let trained = sha(&job.start(base.path()).finish());
    job.sets.push("metadata.name=second".into());
    let job = job.set(
        "resumeFrom",
        format!("{{\"uri\": \"{}\"}}", base.path().display()),
    );
    assert_eq!(sha(&job.start(out.path()).finish()), trained);
    fs::remove_dir_all(base.path()).expect("writable");
    refused(&job, out.path(), &["which is complete"]);
    let again = job.resume().start(out.path()).wait();
    assert_eq!(sha(&again.summary()), trained);
}
