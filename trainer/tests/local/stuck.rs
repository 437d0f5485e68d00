//! Members that are there and do nothing, or say what is not so: they are named and replaced, and the model has the
//! same bits.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use trainyard_checkpoint::{FolderStorage, Log};
use trainyard_core::control::{FromCoordinator, Join, Role, ToCoordinator};
use trainyard_core::manifest::Manifest;
use trainyard_runtime::net::{Channel, ControlReceiver, ControlSender, Identity, Timing};

use crate::common::wire::{identity, introduced};
use crate::common::{Roster, Run, Spec, example, folder, reference, send, sha};
use crate::finisher::finisher;

fn job(epochs: u64) -> Spec {
    example("breast-cancer/job.yaml").epochs(epochs).every(50)
}

/// What the newest checkpoint says.
fn newest(folder: &Path) -> Option<Manifest> {
    let storage = FolderStorage::open(folder).ok()?;
    let log = Log::open_any(Arc::new(storage)).ok()?;
    log.manifests().next_back().cloned()
}

/// Joins as a worker that computes nothing.
fn join(roster: &Roster, ours: Identity, known: &Manifest) -> (ControlSender, ControlReceiver) {
    let connection = introduced(roster, ours, Channel::Control).expect("a connection");
    let patience = Timing::default().heartbeat_timeout;
    let (sender, mut receiver) = connection.control(ours, patience).expect("a stream");
    let join = Join {
        role: Role::Worker(99),
        incarnation: ours.incarnation,
        generation: ours.generation,
        born: 0,
        spec_digest: known.identity.spec_digest.clone(),
        capability: Some(known.capability.clone()),
        facts: Some(known.facts.clone().into()),
        warnings: Vec::new(),
        address: None,
        ready: None,
    };
    let tell = |message| sender.send(&message).expect("it is heard");
    tell(ToCoordinator::Join(join));
    let welcome = receiver.receive().expect("an answer");
    assert!(
        matches!(welcome, FromCoordinator::Welcome { .. }),
        "{welcome:?}"
    );
    tell(ToCoordinator::Ready {
        version: 0,
        chunks: 0,
    });
    (sender, receiver)
}

/// Hears the coordinator until it sends this worker away.
fn refusal(mut receiver: ControlReceiver) -> String {
    loop {
        match receiver.receive() {
            Ok(FromCoordinator::Refused { reason, again }) => {
                assert!(again, "another in its place is welcome");
                return reason;
            }
            Ok(_) => {}
            Err(error) => panic!("it was not sent away: {error}"),
        }
    }
}

fn warning(run: &mut Run, part: &str) {
    run.until(part, |run| {
        let warnings = run.status()?["warnings"].as_array().cloned()?;
        let told = warnings.iter().filter_map(|text| text.as_str());
        told.into_iter()
            .any(|text| text.contains(part))
            .then_some(())
    });
}

#[test]
fn t34_a_worker_that_lies_or_only_beats_is_named_and_the_others_compute_its_leaves() {
    let (spec, folder) = (job(250), folder());
    let mut run = spec.clone().on(1, 2).start(folder.path());
    let known = run.until("a checkpoint", |_| newest(folder.path()));
    let roster = run.roster().expect("it has told who runs");
    let ours = identity(&spec, &roster);

    let (liar, receiver) = join(&roster, ours, &known);
    let step = run.status().expect("a status")["step"]
        .as_u64()
        .expect("a step");
    let lie = ToCoordinator::NonFinite {
        step: step + 1,
        place: "leaf 0".into(),
        value: "NaN".into(),
    };
    liar.send(&lie).expect("it is heard");
    assert!(refusal(receiver).contains("is not so"));
    warning(&mut run, "worker 99 says that the loss is NaN");

    let (stuck, receiver) = join(&roster, ours, &known);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) && stuck.send(&ToCoordinator::Heartbeat).is_ok() {
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        let reason = refusal(receiver);
        over.store(true, Ordering::Relaxed);
        assert!(reason.contains("worker 99 is in the way"), "{reason}");
    });
    warning(&mut run, "worker 99 does not answer");
    assert_eq!(sha(&run.finish()), reference::train(&spec).sha);
}

/// Waits until a member is restarted, for the `count`th time and for this reason.
fn restarted(run: &mut Run, member: &str, count: usize, how: &str) {
    run.until(member, |run| {
        let notes = run.events("restarting");
        let mut of_member = notes.iter().filter(|note| note["member"] == member);
        let note = of_member.nth(count - 1)?;
        let told = note["how"].as_str().unwrap_or_default();
        assert!(told.contains(how), "{note}");
        Some(())
    });
}

#[test]
fn t34_processes_that_stand_still_are_replaced() {
    let (spec, folder) = (job(250), folder());
    let mut run = spec.clone().on(1, 2).start(folder.path());
    run.reach(100);
    let stop = |run: &mut Run, members: &[(&str, u64)]| {
        let roster = run.roster().expect("it has told who runs");
        for (role, index) in members {
            send(roster.pid(role, *index).expect("it runs"), Signal::STOP);
        }
    };
    stop(&mut run, &[("worker", 0), ("server", 1)]);
    restarted(&mut run, "worker 0", 1, "killed because it has");
    restarted(&mut run, "server 1", 1, "killed because it has");
    let generation = |run: &Run| run.status()?["generation"].as_u64();
    run.until("a new generation", |run| {
        generation(run).filter(|generation| *generation == 2)
    });
    run.until("training", |run| {
        run.status().filter(|status| status["phase"] == "Training")
    });
    // A new process of server 0 knows nobody who has not joined it.
    let all = [("server", 0), ("server", 1), ("worker", 0)];
    stop(&mut run, &all);
    for ((role, index), count) in all.into_iter().zip([1, 2, 2]) {
        let member = format!("{role} {index}");
        restarted(&mut run, &member, count, "killed because it has");
    }
    assert_eq!(sha(&run.finish()), reference::train(&spec).sha);
}

/// Every process, before it has said a word to anybody; and then the one that exports the artifact.
#[test]
fn t34_processes_that_never_begin_and_a_finisher_that_stands_still_are_replaced() {
    let (spec, folder) = (job(2), folder());
    let mut run = spec.clone().on(1, 2).start(folder.path());
    let all = [("server", 0), ("server", 1), ("worker", 0)];
    run.until("processes", |run| {
        let roster = run.roster()?;
        for (role, index) in all {
            send(roster.pid(role, index)?, Signal::STOP);
        }
        Some(())
    });
    for (role, index) in all {
        restarted(
            &mut run,
            &format!("{role} {index}"),
            1,
            "killed because it has not run",
        );
    }
    let pid = run.pid();
    let finisher = run.until("the finisher", |_| finisher(pid));
    send(finisher, Signal::STOP);
    assert_eq!(sha(&run.finish()), reference::train(&spec).sha);
    let log = fs::read_to_string(folder.path().join("logs/finisher.log")).expect("a log");
    assert!(log.contains("done nothing at all"), "{log}");
}

#[test]
fn t34_a_stop_does_not_wait_for_who_stands_still() {
    let folder = folder();
    let mut run = job(4000).on(1, 1).start(folder.path());
    run.reach(10);
    let roster = run.roster().expect("it has told who runs");
    send(roster.pid("worker", 0).expect("it runs"), Signal::STOP);
    let begin = Instant::now();
    run.signal(Signal::INT);
    assert_eq!(run.wait().code(), Some(130));
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
}
