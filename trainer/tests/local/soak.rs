//! A minute of everything at once: a job on several workers and two servers over TCP, a worker killed each second, and
//! strangers at every door. What the processes hold must not grow, and the model must be the one of an undisturbed run.
//!
//! It takes minutes and needs the machine's cores, so it runs when it is asked for: `make soak`.

mod samples;
mod strangers;

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::{Run, Spec, example, folder, get, resident, send, sha};
use samples::Samples;
use strangers::Strangers;

/// How long the job is disturbed at least.
const MINUTE: Duration = Duration::from_secs(60);

/// The steps that it makes at least.
const STEPS: u64 = 10_000;

/// Steps of an epoch: 455 rows in batches of 32.
const EPOCH: u64 = 15;

/// Between two rounds of kills, strangers and samples.
const ROUND: Duration = Duration::from_secs(1);

/// Workers: so many that each has waited out its backoff when it is its turn to be killed again.
const WORKERS: u32 = 6;

/// Longest time that the disturbed job may take.
const LIMIT: Duration = Duration::from_secs(600);

fn job() -> Spec {
    example("breast-cancer/job.yaml")
        .set("backoffLimit", 1_000_000)
        .set("training.microBatches", 8)
        .every(500)
        .args(["--transport", "tcp"])
}

/// Epochs that take an undisturbed run longer than a minute, and a disturbed one longer still.
fn epochs() -> u64 {
    let epochs = 100;
    let spec = job().epochs(epochs).on(2, 2);
    let folder = folder();
    let mut run = spec.start(folder.path());
    run.reach(1);
    let begin = Instant::now();
    run.finish();
    let rate = (epochs * EPOCH) as f64 / begin.elapsed().as_secs_f64();
    let steps = (rate * 1.25 * MINUTE.as_secs_f64()) as u64;
    println!("undisturbed, 2 workers make {rate:.0} steps a second");
    steps.max(STEPS).div_ceil(EPOCH)
}

/// Kills the worker that has lived for longest, unless it is the only one.
fn kill_a_worker(run: &Run, samples: &Samples) -> bool {
    let workers = run.roster().map(|roster| roster.of("worker"));
    let mut workers = workers.unwrap_or_default();
    workers.sort_by_key(|(_, pid)| samples.first_seen(*pid));
    // A process that has not loaded libtorch yet has not joined either.
    workers.retain(|(_, pid)| resident(*pid).is_some_and(|kilobytes| kilobytes > 60 << 10));
    if workers.len() < 2 {
        return false;
    }
    send(workers[0].1, Signal::KILL);
    true
}

#[test]
#[ignore = "takes minutes: make soak"]
fn t13_nothing_grows_while_workers_die_and_strangers_call() {
    let spec = job().epochs(epochs());
    let place = folder();
    let mut run = spec.clone().on(WORKERS, 2).start(place.path());
    run.reach(1);
    let begin = Instant::now();
    let mut samples = Samples::new(run.pid());
    let mut strangers = Strangers::new(&spec);
    let mut killed = 0;
    let mut steps = 0;
    for round in 1.. {
        let roster = run.roster().expect("it has told who runs");
        let answer = get(&roster.http(), "/status").unwrap_or_default();
        let status: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        steps = status["step"].as_u64().unwrap_or(steps);
        samples.take(begin.elapsed(), &roster, steps);
        strangers.call(&roster);
        killed += u32::from(kill_a_worker(&run, &samples));
        let next = begin + ROUND * round;
        while Instant::now() < next && !run.over() {
            std::thread::sleep(Duration::from_millis(10)); // the pace of what disturbs
        }
        if run.over() {
            break;
        }
        assert!(
            begin.elapsed() < LIMIT,
            "the job does not end, at step {steps}"
        );
    }
    let took = begin.elapsed();
    let ended = run.wait();
    samples.print();
    let (called, open) = strangers.count();
    println!(
        "{took:.0?}, {killed} workers killed, {called} strangers, {open} of them still there at the end"
    );
    let summary = ended.summary();
    assert!(took >= MINUTE, "the job was over after {took:?}");
    assert!(summary["steps"].as_u64() >= Some(STEPS), "{summary}");
    assert!(killed >= 45, "only {killed} workers were killed");
    assert!(called >= 1000, "only {called} strangers called");
    samples.check();
    assert_eq!(sha(&summary), spec.on(2, 1).sha());
}
