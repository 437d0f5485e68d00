//! The promise: the model does not depend on who computed it. Real processes against one loop.

mod pytorch;
mod threads;

use std::collections::{BTreeMap, HashSet};
use std::process::Command;

use crate::common::reference::{self, Reference};
use crate::common::{Spec, example, folder, sha};
use serde_json::Value;

/// Runs a job on workers and servers and compares all that it tells with the reference.
fn check(spec: &Spec, expected: &Reference, workers: u32, servers: u32) -> Value {
    let summary = spec.clone().on(workers, servers).finish();
    let place = format!("{workers} workers, {servers} servers: {summary}");
    assert_eq!(sha(&summary), expected.sha, "{place}");
    assert_eq!(summary["steps"], expected.steps, "{place}");
    assert_eq!(summary["epochs"], expected.epochs, "{place}");
    summary
}

fn grid(spec: &Spec) {
    let expected = reference::train(spec);
    for workers in 1..=4 {
        for servers in 1..=3 {
            check(spec, &expected, workers, servers);
        }
    }
}

/// A job as it is shipped, on several shapes; its validation accuracy (or error) is a metric's.
fn shipped(file: &str, shapes: &[(u32, u32)]) -> Value {
    let spec = example(file);
    let expected = reference::train(&spec);
    let mut summaries = shapes
        .iter()
        .map(|(workers, servers)| check(&spec, &expected, *workers, *servers));
    let first = summaries.next().expect("a shape");
    for other in summaries {
        assert_eq!(other["metrics"], first["metrics"]);
    }
    let validated = expected.validation.last().expect("a validation set");
    assert_eq!(
        first["metrics"]["validation"]["loss"].as_f64(),
        validated.loss,
        "{first}"
    );
    first
}

fn at_least(summary: &Value, metric: &str, floor: f64) {
    let value = summary["metrics"]["validation"][metric].as_f64();
    assert!(value >= Some(floor), "{metric} below {floor}: {summary}");
}

#[test]
fn t01_breast_cancer_on_every_shape() {
    grid(&example("breast-cancer/job.yaml").epochs(2));
}

#[test]
fn t01_digits_mlp_on_every_shape() {
    grid(&example("digits/mlp.yaml").epochs(1));
}

#[test]
fn t01_digits_cnn_on_every_shape() {
    grid(&example("digits/cnn.yaml").epochs(1));
}

#[test]
fn t01_breast_cancer_as_shipped() {
    let summary = shipped("breast-cancer/job.yaml", &[(1, 1), (2, 2), (4, 3)]);
    at_least(&summary, "accuracy", 0.95);
}

/// What `inspect` tells of every checkpoint of a run: digests of the parameters and of the
/// optimizer's state, by step.
fn history(spec: &Spec, servers: u32) -> BTreeMap<u64, [String; 2]> {
    let out = folder();
    spec.clone().on(2, servers).start(out.path()).finish();
    let output = Command::new(env!("CARGO_BIN_EXE_trainyard"))
        .arg("inspect")
        .arg(out.path())
        .arg("--json")
        .output()
        .expect("the program starts");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let points = report["history"].as_array().expect("points").iter();
    let digest = |digest: &Value| digest.as_str().expect("a digest").to_owned();
    points
        .map(|point| {
            let step = point["step"].as_u64().expect("a step");
            let names = ["parametersSha256", "optimizerSha256"];
            (step, names.map(|name| digest(&point[name])))
        })
        .collect()
}

/// Those that were deleted included. The arena has four chunks.
#[test]
fn t01_the_digests_of_checkpoints_do_not_depend_on_the_number_of_servers() {
    let spec = example("digits/mlp.yaml")
        .epochs(1)
        .every(5)
        .set("model.mlp.hidden", "[512, 384]")
        .set("checkpoint.keep", 1);
    let [mut one, mut three] = [1, 3].map(|servers| history(&spec, servers));
    let digests: HashSet<&String> = one.values().flatten().collect();
    assert_eq!(digests.len(), 2 * one.len(), "{one:?}");
    // Where training is faster than storage, checkpoints between are passed over, but not the last.
    assert!(one.contains_key(&45) && three.contains_key(&45));
    one.retain(|step, _| three.contains_key(step));
    three.retain(|step, _| one.contains_key(step));
    assert_eq!(one, three);
}

#[test]
fn t01_digits_mlp_as_shipped() {
    let summary = shipped("digits/mlp.yaml", &[(2, 1), (3, 3)]);
    at_least(&summary, "accuracy", 0.95);
}

#[test]
fn t01_digits_cnn_as_shipped() {
    let summary = shipped("digits/cnn.yaml", &[(2, 1), (4, 2)]);
    at_least(&summary, "accuracy", 0.97);
}

/// Early stopping ends it, and the best epoch is the result, not the last.
#[test]
fn t01_diabetes_as_shipped_stops_early_and_restores_the_best() {
    let spec = example("diabetes/job.yaml");
    let expected = reference::train(&spec);
    let best = expected
        .validation
        .iter()
        .filter_map(|metrics| metrics.rmse)
        .fold(f64::INFINITY, f64::min);
    for (workers, servers) in [(1, 1), (3, 2)] {
        let summary = check(&spec, &expected, workers, servers);
        assert_eq!(
            summary["metrics"]["validation"]["rmse"].as_f64(),
            Some(best),
            "{summary}"
        );
    }
}

#[test]
fn t01_dropout_nesterov_and_a_cosine_with_warm_up() {
    let spec = example("breast-cancer/job.yaml")
        .epochs(4)
        .set("model.mlp.dropout", 0.2)
        .set(
            "training.optimizer",
            "{sgd: {learningRate: 0.05, momentum: 0.9, nesterov: true, weightDecay: 0.0001}}",
        )
        .set(
            "training.schedule",
            "{cosine: {warmupSteps: 10, minLearningRate: 0.0001}}",
        );
    let expected = reference::train(&spec);
    check(&spec, &expected, 1, 1);
    check(&spec, &expected, 3, 2);
}

/// Eight chunks on three servers, pushed by threads of their own.
#[test]
fn t01_a_model_of_many_chunks_on_three_servers() {
    let spec = example("digits/mlp.yaml")
        .epochs(1)
        .set("model.mlp.hidden", "[512, 512, 256]");
    let expected = reference::train(&spec);
    check(&spec, &expected, 1, 1);
    check(&spec, &expected, 2, 3);
    check(&spec.clone().args(["--connections", "3"]), &expected, 4, 2);
}

/// Uneven shares (8 leaves on 3 workers), a batch that does not divide, leaves without rows at an
/// epoch's end (455 rows in batches of 64 leave 7 for 8 leaves), and another seed.
#[test]
fn t01_eight_leaves_on_three_workers() {
    let spec = example("breast-cancer/job.yaml")
        .epochs(3)
        .set("training.microBatches", 8)
        .set("training.batchSize", 64)
        .set("training.seed", 11);
    let expected = reference::train(&spec);
    check(&spec, &expected, 3, 1);
    check(&spec.clone().args(["--threads", "4"]), &expected, 1, 2);
}

#[test]
fn t01_threads_change_nothing() {
    let spec = example("digits/cnn.yaml").epochs(1);
    let expected = reference::train(&spec);
    for threads in ["1", "2", "4"] {
        check(&spec.clone().args(["--threads", threads]), &expected, 1, 1);
    }
}

/// Six workers for four leaves: two have nothing to compute, and do no harm.
#[test]
fn t01_more_workers_than_leaves() {
    let spec = example("breast-cancer/job.yaml")
        .epochs(2)
        .set("workers.maxReplicas", "");
    check(&spec, &reference::train(&spec), 6, 1);
}

/// Every sample of an epoch once: the count of samples is that of the rows, epoch for epoch, and
/// the loss of each epoch is the reference's, which visits every row once.
#[test]
fn t05_t23_samples_steps_and_losses_are_exact() {
    let spec = example("breast-cancer/job.yaml").epochs(3).every(5);
    let expected = reference::train(&spec);
    let folder = crate::common::folder();
    let ended = spec.clone().on(3, 2).start(folder.path()).wait();
    let summary = ended.summary();
    assert_eq!(summary["steps"], expected.steps);
    let progress = ended.named("progress");
    let last = progress.last().expect("progress was told");
    assert_eq!(last["samples"], expected.samples, "{ended}");
    assert_eq!(last["step"], expected.steps);
    assert_eq!(last["totalSteps"], expected.steps);
    let rows = expected.samples / 3;
    for line in &progress {
        let (step, samples) = (
            line["step"].as_u64().expect("a step"),
            line["samples"].as_u64().expect("samples"),
        );
        let steps = expected.steps / 3;
        assert_eq!(
            samples,
            step / steps * rows + (32 * (step % steps)).min(rows),
            "{line}"
        );
    }
    // Each epoch once, with its own losses.
    let numbers = |field: &str| -> Vec<Value> {
        let epochs = ended.named("epoch").into_iter();
        epochs.map(|epoch| epoch[field].clone()).collect()
    };
    assert_eq!(numbers("epoch"), [0, 1, 2]);
    assert_eq!(numbers("trainLoss"), expected.losses);
    let validation = expected.validation.iter();
    let validation = validation.map(|metrics| serde_json::to_value(metrics).expect("JSON"));
    assert_eq!(numbers("validation"), validation.collect::<Vec<_>>());
    let rates: Vec<f64> = numbers("learningRate")
        .iter()
        .filter_map(Value::as_f64)
        .collect();
    assert_eq!(rates, [0.001; 3]);
    let loss = last["loss"].as_f64().expect("a loss");
    assert_eq!(loss, *expected.losses.last().expect("epochs"));
}

/// A library that gives each process that it is loaded into a calendar clock of its own, decades off,
/// and running backwards or twice as fast.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    static time_t first;
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    if (result || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return result;
    if (!first) first = time->tv_sec;
    time_t passed = time->tv_sec - first;
    time->tv_sec = first + (getpid() % 80 - 40) * 31557600L + (getpid() % 2 ? 2 * passed : -passed);
    return 0;
}
"#;

fn strange_clock(folder: &std::path::Path) -> String {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&source, CLOCK).expect("writable");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let status = std::process::Command::new(compiler)
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    assert!(status.is_ok_and(|status| status.success()), "no C compiler");
    library.display().to_string()
}

/// Processes in other decades, in another time zone, with other settings: the same model.
#[test]
fn t24_clocks_and_the_environment_play_no_part() {
    let spec = example("breast-cancer/job.yaml").epochs(2);
    let expected = reference::train(&spec).sha;
    let folder = crate::common::folder();
    let clock = strange_clock(folder.path());
    let elsewhere = [
        ("LD_PRELOAD", clock.as_str()),
        ("TZ", "Asia/Kathmandu"),
        ("LC_ALL", "tr_TR.UTF-8"),
        ("OMP_NUM_THREADS", "2"),
        ("MKL_NUM_THREADS", "2"),
    ];
    let strange = elsewhere
        .iter()
        .fold(spec.clone(), |spec, (name, value)| spec.env(name, value));
    assert_eq!(strange.on(2, 1).sha(), expected);
}
