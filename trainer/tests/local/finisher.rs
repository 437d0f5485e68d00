//! The second program: who needs libtorch and who does not, and the export of a finished job, which may
//! fail without harm.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::common::{Ended, Run, Spec, example, folder, message, reference, sha};
use crate::storage::on_small_disk;

fn job() -> Spec {
    example("breast-cancer/job.yaml").epochs(2).on(1, 1)
}

/// The files that a process has mapped.
fn maps(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default()
}

#[test]
fn t28_a_server_maps_no_libtorch_and_neither_does_the_run() {
    let folder = folder();
    let mut run = job().epochs(400).start(folder.path());
    let (server, worker) = run.until("a step", |run| {
        run.status()
            .filter(|status| status["step"].as_u64() > Some(0))?;
        let roster = run.roster()?;
        Some((roster.pid("server", 0)?, roster.pid("worker", 0)?))
    });
    assert!(maps(worker).contains("libtorch"), "the worker computes");
    for (who, pid) in [("server", server), ("run", run.pid())] {
        let maps = maps(pid);
        assert!(maps.contains("libc.so"), "{who} runs");
        assert!(
            !maps.contains("torch") && !maps.contains("libgomp"),
            "{who}: {maps}"
        );
    }
    run.signal(Signal::INT);
    assert_eq!(run.wait().code(), Some(130));
}

/// The finisher of a run, once there is one.
pub fn finisher(run: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{run}/task/{run}/children")).ok()?;
    children.split_whitespace().find_map(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mut words = line.split(|byte| *byte == 0);
        words
            .any(|word| word == b"finisher")
            .then(|| pid.parse().ok())?
    })
}

#[test]
fn t28_an_export_that_is_killed_is_repeated() {
    let (spec, folder) = (job(), folder());
    let mut run = spec.start(folder.path());
    let pid = run.pid();
    let first = run.until("the finisher", |_| finisher(pid));
    let first = Pid::from_raw(first.try_into().expect("a pid")).expect("a pid");
    kill_process(first, Signal::KILL).expect("it runs");
    let ended = run.wait();
    assert_eq!(sha(&ended.summary()), reference::train(&spec).sha);
    let log = fs::read_to_string(folder.path().join("logs/finisher.log")).expect("a log");
    assert!(log.contains("repeated"), "{log}");
    assert_whole(folder.path());
}

fn assert_whole(run: &Path) {
    for name in trainyard_runtime::artifact::FILES {
        assert!(run.join("artifact").join(name).exists(), "{name}");
    }
    let names = fs::read_dir(run).expect("a folder").flatten();
    let drafts = names.filter(|entry| entry.file_name().to_string_lossy().starts_with(".artifact"));
    assert_eq!(drafts.count(), 0, "an unfinished artifact was left");
}

/// The job is done, and says so; only its export has failed.
fn assert_only_the_export_failed(ended: &Ended, code: i32, why: &str) {
    assert_eq!(ended.code(), Some(code), "{ended}");
    let message = message(ended);
    for part in ["the job is complete", why, "--resume"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn t28_an_export_that_is_refused_leaves_the_job_complete() {
    let (spec, folder) = (job(), folder());
    fs::create_dir_all(folder.path().join("artifact")).expect("writable");
    fs::write(folder.path().join("artifact/thesis.txt"), "mine").expect("writable");
    fs::write(folder.path().join(".lock"), "").expect("writable"); // as a run leaves it
    let ended = spec.start(folder.path()).wait();
    assert_only_the_export_failed(&ended, 2, "is no artifact, so it is not replaced");
    assert!(folder.path().join("artifact/thesis.txt").exists());
    fs::remove_dir_all(folder.path().join("artifact")).expect("writable");
    let summary: Value = spec.clone().resume().start(folder.path()).finish();
    assert_eq!(sha(&summary), reference::train(&spec).sha);
    assert_whole(folder.path());
}

/// The checkpoint fits, the artifact beside it does not.
#[test]
fn t28_an_export_without_space_leaves_the_job_complete() {
    let folder = folder();
    let (inside, kept) = (folder.path().join("full"), folder.path().join("kept"));
    fs::create_dir(&inside).expect("writable");
    // The parameters have 0.5 MiB; a checkpoint with Adam's moments takes three times as much.
    let spec = job()
        .every(1_000_000)
        .set("model.mlp.hidden", "[256, 256, 256]");
    let Some(full) = on_small_disk(&spec, "2m", &inside, &kept) else {
        return;
    };
    let ended = full.start(&inside).wait();
    assert_only_the_export_failed(&ended, 1, "No space left");
    let log = fs::read_to_string(kept.join("logs/finisher.log")).expect("a log");
    assert_eq!(log.matches("is repeated").count(), 2, "{log}");
    let run: Run = spec.clone().resume().start(&kept);
    assert_eq!(sha(&run.finish()), reference::train(&spec).sha);
    assert_whole(&kept);
}
