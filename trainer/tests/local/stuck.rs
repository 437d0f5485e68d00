//! Members that are there and do nothing, or say what is not so: they are named and replaced, and the model has the
//! same bits.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use trainyard_checkpoint::{FolderStorage, Log};
use trainyard_core::control::{FromCoordinator, Join, Role, ToCoordinator};
use trainyard_core::manifest::Manifest;
use trainyard_runtime::net::{Channel, ControlReceiver, ControlSender, Identity, Timing};

use crate::common::wire::{identity, introduced};
use crate::common::{Roster, Run, Spec, example, folder, reference, send, sha};

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
    let restarted = |run: &mut Run, member: &str, how: &str| {
        run.until(member, |run| {
            let notes = run.events("restarting");
            let of_member = |note: &&serde_json::Value| note["member"] == member;
            let note = notes.iter().find(of_member)?.clone();
            let told = note["how"].as_str().unwrap_or_default().to_owned();
            assert!(told.contains(how), "{note}");
            Some(())
        });
    };
    stop(&mut run, &[("worker", 0), ("server", 1)]);
    restarted(&mut run, "worker 0", "killed because it has been silent");
    restarted(&mut run, "server 1", "killed because it has been silent");
    let generation = |run: &Run| run.status()?["generation"].as_u64();
    run.until("a new generation", |run| {
        generation(run).filter(|generation| *generation == 2)
    });
    run.until("training", |run| {
        run.status().filter(|status| status["phase"] == "Training")
    });
    stop(&mut run, &[("server", 0)]);
    restarted(&mut run, "server 0", "killed because it has not answered");
    assert_eq!(sha(&run.finish()), reference::train(&spec).sha);
}
