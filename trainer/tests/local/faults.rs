//! Processes die, stop and leave in the midst of training: the model stays the same.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::reference;
use crate::common::wire::{identity, introduced};
use crate::common::{Ended, Random, Run, Spec, example, folder, resident, send, sha};
use rustix::process::Signal;
use serde_json::Value;
use trainyard_runtime::net::testing::pull;

/// A job of 15 steps an epoch that checkpoints often.
fn job(epochs: u64) -> Spec {
    example("breast-cancer/job.yaml")
        .epochs(epochs)
        .every(10)
        .set("backoffLimit", 1000)
}

fn step(status: &Value) -> u64 {
    status["step"].as_u64().unwrap_or(0)
}

fn generation(status: &Value) -> u64 {
    status["generation"].as_u64().unwrap_or(0)
}

/// Whether a process stands still.
fn stands_still(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there");
    // After the name, which is in brackets.
    stat.rsplit(") ")
        .next()
        .is_some_and(|rest| rest.starts_with('T'))
}

/// Lets the run go on by a random number of steps, and by a random part of one.
fn advance(run: &mut Run, random: &mut Random) {
    let now = run.until("a status", Run::status);
    run.reach(step(&now) + 1 + random.below(8));
    let moment = Instant::now() + Duration::from_micros(random.below(15_000));
    while Instant::now() < moment {
        std::thread::yield_now();
    }
}

/// Kills one of these processes that runs.
fn kill_one(run: &mut Run, random: &mut Random, of: &[(&str, Option<u64>)]) {
    let (role, wanted) = random.pick(of);
    let running = run.until("a process to kill", |run| {
        let mut members = run.roster()?.of(role);
        members.retain(|(index, pid)| {
            wanted.is_none_or(|wanted| wanted == *index) && resident(*pid).is_some()
        });
        (!members.is_empty()).then_some(members)
    });
    let (_, pid) = random.pick(&running);
    send(pid, Signal::KILL);
    // Not to be killed twice.
    run.until("its end", |_| resident(pid).is_none().then_some(()));
}

/// Seven kills of members picked from `of`, and the sum of the bits. (The supervisor doubles its
/// wait with each crash in a row, so a run of more kills would mostly wait.)
fn survives(test: &str, spec: &Spec, workers: u32, servers: u32, of: &[(&str, Option<u64>)]) {
    let mut random = Random::new(test);
    let folder = folder();
    let mut run = spec.clone().on(workers, servers).start(folder.path());
    for _ in 0..7 {
        advance(&mut run, &mut random);
        kill_one(&mut run, &mut random, of);
    }
    let ended = run.wait();
    let expected = reference::train(spec);
    let summary = ended.summary();
    assert_eq!(sha(&summary), expected.sha, "{ended}");
    assert_eq!(summary["steps"], expected.steps);
    assert!(ended.named("restarting").len() >= 7, "{ended}");
}

const WORKERS: [(&str, Option<u64>); 1] = [("worker", None)];
const SERVERS: [(&str, Option<u64>); 1] = [("server", None)];
const COORDINATOR: [(&str, Option<u64>); 1] = [("server", Some(0))];

#[test]
fn t02_the_only_worker_is_killed() {
    survives("t02_only", &job(60), 1, 1, &WORKERS);
}

#[test]
fn t02_one_of_two_workers_is_killed() {
    survives("t02_two", &job(30), 2, 2, &WORKERS);
}

#[test]
fn t02_one_of_four_workers_is_killed() {
    let spec = example("digits/cnn.yaml")
        .epochs(8)
        .set("backoffLimit", 1000);
    survives("t02_four", &spec, 4, 1, &WORKERS);
}

#[test]
fn t03_the_coordinator_is_killed() {
    survives("t03_coordinator", &job(30), 2, 1, &COORDINATOR);
}

/// A model of seven chunks, so that each server holds some.
#[test]
fn t03_one_of_three_servers_is_killed() {
    let spec = example("digits/mlp.yaml")
        .epochs(7)
        .every(10)
        .set("model.mlp.hidden", "[512, 512, 256]")
        .set("backoffLimit", 1000);
    survives("t03_three", &spec, 2, 3, &SERVERS);
}

#[test]
fn t03_servers_and_workers_are_killed() {
    survives(
        "t03_both",
        &job(30),
        3,
        2,
        &[WORKERS[0], SERVERS[0], COORDINATOR[0]],
    );
}

#[test]
fn t03_everything_is_killed_at_once_and_the_run_resumed() {
    let mut random = Random::new("t03_everything");
    let (spec, folder) = (job(30), folder());
    let mut run = spec.clone().on(2, 2).start(folder.path());
    for round in 0..7 {
        advance(&mut run, &mut random);
        let roster = run.roster().expect("it has told who runs");
        let mut victims: Vec<u32> = ["server", "worker"]
            .iter()
            .flat_map(|role| roster.of(role))
            .map(|(_, pid)| pid)
            .collect();
        victims.push(run.pid());
        while !victims.is_empty() {
            let at = random.below(victims.len() as u64) as usize;
            send(victims.swap_remove(at), Signal::KILL);
        }
        let ended = run.wait();
        assert_eq!(ended.code(), None, "killed: {ended}");
        // Shapes change on the way.
        run = spec
            .clone()
            .on(1 + round % 3, 1 + round % 2)
            .resume()
            .start(folder.path());
    }
    assert_eq!(sha(&run.finish()), reference::train(&spec).sha);
}

/// Killed alone, the run takes its processes along: nobody is left behind to write.
#[test]
fn t03_the_run_is_killed_and_leaves_nobody_behind() {
    let (spec, folder) = (job(20), folder());
    let mut run = spec.start(folder.path());
    run.until("a checkpoint", |run| {
        run.status().filter(|status| status["checkpoint"].is_u64())
    });
    let roster = run.roster().expect("it has told who runs");
    let pids: Vec<u32> = ["server", "worker"]
        .iter()
        .flat_map(|role| roster.of(role))
        .map(|(_, pid)| pid)
        .collect();
    run.signal(Signal::KILL);
    run.wait();
    let begin = Instant::now();
    while pids.iter().any(|pid| resident(*pid).is_some()) {
        assert!(
            begin.elapsed() < crate::common::LIMIT,
            "processes are left behind"
        );
        std::thread::yield_now();
    }
    let ended = spec.clone().resume().start(folder.path()).wait();
    let from = ended.named("started")[0]["resumedFrom"].as_u64();
    assert!(from >= Some(10), "resumed from {from:?}");
    assert_eq!(sha(&ended.summary()), reference::train(&spec).sha);
}

/// The step goes on without a worker that stands still, and the worker comes back when it can.
#[test]
fn t11_a_stopped_worker_is_passed_by() {
    let (spec, folder) = (job(100), folder());
    let mut run = spec.clone().on(2, 1).start(folder.path());
    run.until("both workers", |run| {
        run.status().filter(|status| status["workers"] == 2)
    });
    run.reach(30);
    let pid = run
        .roster()
        .and_then(|roster| roster.pid("worker", 1))
        .expect("a worker");
    send(pid, Signal::STOP);
    let missed = run.until("a loss", |run| {
        run.status().filter(|status| status["workers"] == 1)
    });
    let alone = run.reach(step(&missed) + 100);
    assert_eq!(alone["workers"], 1, "{alone}");
    send(pid, Signal::CONT);
    run.until("both workers", |run| {
        run.status().filter(|status| status["workers"] == 2)
    });
    let ended = run.wait();
    assert_eq!(sha(&ended.summary()), reference::train(&spec).sha);
    assert!(
        ended.lost().is_empty(),
        "the worker was not restarted: {ended}"
    );
}

/// A laptop that was closed, a container that was frozen: what a stop interrupts is not lost.
#[test]
fn t11_a_short_stop_ends_no_connection() {
    let (spec, folder) = (job(100), folder());
    let mut run = spec.clone().on(2, 2).start(folder.path());
    let mut status = run.reach(30);
    let roster = run.roster().expect("it has told who runs");
    let members = [("worker", 0), ("worker", 1), ("server", 1)];
    let log = |(role, index): (&str, u64)| {
        let path = folder.path().join(format!("logs/{role}-{index}.log"));
        fs::read_to_string(path).expect("a log")
    };
    let before = members.map(log);
    for _ in 0..20 {
        for (role, index) in members {
            let pid = roster.pid(role, index).expect("it runs");
            send(pid, Signal::STOP);
            run.until("a stop", |_| stands_still(pid).then_some(()));
            send(pid, Signal::CONT);
        }
        status = run.reach(step(&status) + 1);
    }
    assert_eq!(members.map(log), before, "nobody has anything to say");
    assert_eq!(generation(&status), 1, "{status}");
    assert_eq!(sha(&run.finish()), reference::train(&spec).sha);
}

#[test]
fn t12_a_worker_is_released_at_the_end_of_a_step() {
    let (spec, folder) = (job(100), folder());
    let mut run = spec.clone().on(2, 1).start(folder.path());
    run.until("both workers", |run| {
        run.status().filter(|status| status["workers"] == 2)
    });
    run.reach(30);
    run.send("worker", 1, Signal::TERM);
    let restarted = run.event("restarting");
    assert_eq!(restarted["member"], "worker 1");
    assert_eq!(restarted["how"], "exit code 0", "released, not lost");
    assert_eq!(
        generation(&run.until("a status", Run::status)),
        1,
        "nobody rolls back for a worker"
    );
    assert_eq!(sha(&run.finish()), reference::train(&spec).sha);
}

/// The only worker leaves: the job waits for the next one.
#[test]
fn t12_the_only_worker_is_released() {
    let (spec, folder) = (job(60), folder());
    let mut run = spec.clone().on(1, 1).start(folder.path());
    run.reach(30);
    run.send("worker", 0, Signal::TERM);
    assert_eq!(run.event("restarting")["how"], "exit code 0");
    assert_eq!(sha(&run.finish()), reference::train(&spec).sha);
}

/// A server that leaves has everything checkpointed first: not a step is lost.
fn server_leaves(index: u64, servers: u32) {
    let (spec, folder) = (job(40).every(100_000), folder());
    let mut run = spec.clone().on(2, servers).start(folder.path());
    let before = run.reach(30);
    run.send("server", index, Signal::TERM);
    let after = run.until("another generation", |run| {
        run.status().filter(|status| {
            generation(status) > generation(&before) && status["phase"] == "Training"
        })
    });
    assert!(
        after["checkpoint"].as_u64() >= Some(step(&before)),
        "{before} {after}"
    );
    let ended = run.wait();
    assert_eq!(
        sha(&ended.summary()),
        reference::train(&spec).sha,
        "{ended}"
    );
}

#[test]
fn t12_the_coordinator_leaves() {
    server_leaves(0, 1);
}

#[test]
fn t12_another_server_leaves() {
    server_leaves(1, 2);
}

/// Stops a run in order, and tells the step that its end names.
fn stopped(ended: &Ended, folder: &Path) -> u64 {
    assert_eq!(ended.code(), Some(130), "{ended}");
    let told = ended
        .named("stopped")
        .pop()
        .unwrap_or_else(|| panic!("nothing told: {ended}"));
    assert_eq!(told["saved"], true, "{ended}");
    assert_eq!(told["checkpoint"], told["step"], "{ended}");
    let resume = told["resume"].as_str().expect("a command");
    assert!(
        resume.contains("--resume") && resume.contains(folder.to_str().expect("text")),
        "{resume}"
    );
    told["step"].as_u64().expect("a step")
}

fn interrupt(signal: Signal, everyone: bool) {
    let (spec, folder) = (job(40).every(100_000), folder());
    let mut run = spec.clone().on(2, 2).start(folder.path());
    let before = run.reach(30);
    let roster = run.roster().expect("it has told who runs");
    run.signal(signal);
    if everyone {
        ["worker", "server"]
            .iter()
            .flat_map(|role| roster.of(role))
            .for_each(|(_, pid)| send(pid, signal));
    }
    let step_told = stopped(&run.wait(), folder.path());
    assert!(step_told >= step(&before), "{step_told} {before}");
    let ended = spec.clone().on(3, 1).resume().start(folder.path()).wait();
    assert_eq!(
        ended.named("started")[0]["resumedFrom"],
        step_told,
        "{ended}"
    );
    let expected = reference::train(&spec);
    assert_eq!(sha(&ended.summary()), expected.sha);
    assert_eq!(ended.summary()["steps"], expected.steps);
}

#[test]
fn t12_sigint_checkpoints_the_very_step() {
    interrupt(Signal::INT, false);
}

#[test]
fn t12_sigterm_of_everyone_at_once_checkpoints_within_the_grace() {
    interrupt(Signal::TERM, true);
}

#[test]
fn t12_a_second_sigint_ends_at_once() {
    let (spec, folder) = (job(40).every(20), folder());
    let mut run = spec.clone().on(1, 1).start(folder.path());
    run.until("a checkpoint", |run| {
        run.status().filter(|status| status["checkpoint"].is_u64())
    });
    // A worker that stands still keeps the stop from being finished.
    let worker = run
        .roster()
        .and_then(|roster| roster.pid("worker", 0))
        .expect("a worker");
    send(worker, Signal::STOP);
    run.signal(Signal::INT);
    run.event("stopping");
    let second = Instant::now();
    // The second must come half a second after the first, or it is the same request.
    while !run.over() {
        run.signal(Signal::INT);
        std::thread::sleep(Duration::from_millis(100));
    }
    let ended = run.wait();
    assert_eq!(ended.code(), Some(130), "{ended}");
    assert!(
        second.elapsed() < Duration::from_secs(3),
        "it took {:?}",
        second.elapsed()
    );
    let resumed = spec.clone().resume().start(folder.path());
    assert_eq!(sha(&resumed.finish()), reference::train(&spec).sha);
}

/// Peers that ask for parameters and never read them: were payloads queued for them, every step
/// would cost the model's size for each.
#[test]
fn t14_readers_that_never_read_do_not_make_a_server_grow() {
    let spec = example("digits/mlp.yaml")
        .epochs(3)
        .set("model.mlp.hidden", "[1024, 1024]")
        .set("training.optimizer", "{sgd: {learningRate: 0.01}}");
    let (model, chunk) = (1_140_000 * 4 / 1024, 256); // kibibytes
    let folder = folder();
    let mut run = spec.clone().on(1, 1).start(folder.path());
    let begin = run.reach(20);
    let roster = run.roster().expect("it has told who runs");
    let server = roster.pid("server", 0).expect("a server");
    let before = resident(server).expect("it runs");
    let identity = identity(&spec, &roster);
    let open = |_| introduced(&roster, identity, pull()).expect("a connection");
    let readers: Vec<_> = (0..16).map(open).collect();
    let mut most = 0;
    let target = step(&begin) + 60;
    run.until("sixty steps", |run| {
        most = most.max(resident(server).unwrap_or(0));
        run.status().filter(|status| step(status) >= target)
    });
    // A reader holds one chunk in flight, two threads, and no more; the rest is slack.
    let bound = before + 16 * (chunk + 128) + 2 * model;
    assert!(
        most <= bound,
        "{most} KiB resident, {before} before, at most {bound} expected"
    );
    assert_eq!(sha(&run.finish()), reference::train(&spec).sha);
    drop(readers);
}
