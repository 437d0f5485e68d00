//! How runs end that have hardly begun, that are nearly over, or that cannot fit: soon, and with a word.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::{Spec, example, folder, message, reference, sha};
use crate::finisher::finisher;

fn job() -> Spec {
    example("breast-cancer/job.yaml").epochs(2)
}

/// Limits what each process of a run may have, by an option of `ulimit`.
fn within(limit: &str, mut spec: Spec) -> Spec {
    let script = format!("ulimit {limit} && exec \"$0\" \"$@\"");
    spec.wrapper = ["sh", "-c", &script].map(str::to_owned).to_vec();
    spec
}

/// Workers that load libtorch, or have connected to a server that is not there any more, keep nobody waiting. It
/// took 8 s when they did; the machine may be busy.
#[test]
fn t12_an_interrupt_before_workers_have_joined_ends_the_run_soon() {
    let folder = folder();
    let mut run = job().epochs(100_000).start(folder.path());
    run.until("processes", |run| run.roster()?.pid("worker", 1));
    let told = Instant::now();
    run.signal(Signal::INT);
    let ended = run.wait();
    assert!(
        told.elapsed() < Duration::from_secs(5),
        "{:?}: {ended}",
        told.elapsed()
    );
    assert_eq!(ended.code(), Some(130), "{ended}");
    assert_eq!(ended.named("stopped").len(), 1, "{ended}");
}

/// No process is started, so none has to be waited for.
#[test]
fn t15_data_that_are_not_there_are_told_before_anything_is_started() {
    let folder = folder();
    let spec = job().set("data.train.csv.uri", "missing.csv");
    let ended = spec.start(folder.path()).wait();
    assert_eq!(ended.code(), Some(2), "{ended}");
    let message = message(&ended);
    assert!(message.contains("missing.csv"), "{message}");
    assert_nothing_started(folder.path(), &ended.lines);
}

fn assert_nothing_started(run: &Path, lines: &[String]) {
    assert!(!run.join("run.json").exists(), "{lines:?}");
    let logs = fs::read_dir(run.join("logs"));
    let logs = logs.map_or(0, |logs| logs.flatten().count());
    assert_eq!(logs, 0, "{lines:?}");
}

/// The model is complete; whoever interrupts its export gets the shell back, and the rest later.
#[test]
fn t12_an_interrupt_during_the_export_stops_it_and_the_run_goes_on_later() {
    let (spec, folder) = (job().on(1, 1), folder());
    let mut run = spec.start(folder.path());
    let pid = run.pid();
    run.until("the finisher", |_| finisher(pid));
    run.signal(Signal::INT);
    let ended = run.wait();
    assert_eq!(ended.code(), Some(130), "{ended}");
    let stopped = ended.named("stopped").pop().expect("told");
    assert_eq!(stopped["saved"], true, "{ended}");
    assert_eq!(stopped["step"], stopped["totalSteps"], "{ended}");
    assert!(!folder.path().join("artifact").exists());
    let resumed = spec.clone().resume().start(folder.path());
    assert_eq!(sha(&resumed.finish()), reference::train(&spec).sha);
}

#[test]
fn t20_a_model_that_cannot_fit_is_refused_before_anything_is_started() {
    let folder = folder();
    let spec = job().set("model.mlp.hidden", "[65536, 65536]");
    let ended = within("-v 2000000", spec).start(folder.path()).wait();
    assert_eq!(ended.code(), Some(2), "{ended}");
    let message = message(&ended);
    for part in [
        "cannot fit in memory",
        "at least",
        "fewer or smaller layers",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_nothing_started(folder.path(), &ended.lines);
}

/// How many inputs there are is known when the data are: 2 GB of them and their gradients here.
#[test]
fn t20_a_model_that_cannot_fit_its_data_is_refused_once_and_not_tried_again() {
    let folder = folder();
    let columns = 2_000;
    let line = |field: &dyn Fn(usize) -> String, last: &str| {
        let fields: Vec<String> = (0..columns).map(field).collect();
        format!("{},{last}\n", fields.join(","))
    };
    let mut text = line(&|column| format!("x{column}"), "diagnosis");
    for row in 0..20 {
        let class = ["M", "B"][row % 2];
        text += &line(&|column| ((row * column) % 97).to_string(), class);
    }
    let file = folder.path().join("wide.csv");
    fs::write(&file, text).expect("writable");
    let spec = job()
        .set("data.train.csv.uri", file.display())
        .set("model.mlp.hidden", "[65536]");
    let ended = within("-v 2000000", spec)
        .start(&folder.path().join("run"))
        .wait();
    assert_eq!(ended.code(), Some(2), "{ended}");
    let message = message(&ended);
    for part in ["cannot fit in memory", "ulimit -v"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(ended.named("restarting").is_empty(), "{ended}");
}

/// Workers for whom a server has no descriptors would wait for ever.
#[test]
fn t15_a_run_with_too_few_file_descriptors_for_its_workers_is_refused_before_it_starts() {
    let folder = folder();
    let spec = job().on(100, 1);
    let ended = within("-n 800", spec).start(folder.path()).wait();
    assert_eq!(ended.code(), Some(2), "{ended}");
    let message = message(&ended);
    for part in [
        "100 workers",
        "886 file descriptors",
        "limit is 800",
        "ulimit -Hn",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(ended.named("started").is_empty(), "{ended}");
}
