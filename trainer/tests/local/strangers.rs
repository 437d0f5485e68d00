//! Strangers at the door of a server, who know the job's name and nothing good.

use std::io::{ErrorKind, Read, Write};

use crate::common::process::descriptors;
use crate::common::wire::{frame, identity, introduced};
use crate::common::{Run, Spec, example, folder, reference, send, sha};
use rustix::process::Signal;
use trainyard_contract::Key;
use trainyard_core::control::Role;
use trainyard_core::tree::Node;
use trainyard_core::wire::{Body, Limits};
use trainyard_runtime::net::testing::pull;
use trainyard_runtime::net::{Channel, Connection, Hello, Timing, connect, read_header};

/// A job that goes on for as long as the test needs it.
fn endless() -> Spec {
    example("breast-cancer/job.yaml").epochs(100_000)
}

/// Waits until the other side has ended the connection.
fn ended(connection: Connection) {
    let mut reader = connection.reader;
    reader
        .set_timeout(Some(crate::common::LIMIT))
        .expect("a socket");
    let mut said = Vec::new();
    if let Err(error) = reader.read_to_end(&mut said) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
}

/// The newest version of chunk 0, and its bytes: the second of the two that a newcomer is sent.
fn newest(connection: Connection) -> (u64, u32) {
    let mut stream = connection.reader;
    let mut newest = (0, 0);
    for _ in 0..2 {
        let head = read_header(&mut stream, &Limits::default()).expect("a header");
        let Body::Param { version, len, .. } = head.body else {
            panic!("{head:?}");
        };
        let mut payload = vec![0; len as usize];
        stream.read_exact(&mut payload).expect("a payload");
        newest = (version, len);
    }
    newest
}

fn training(run: &mut Run) {
    run.until("training", |run| {
        run.status().filter(|status| status["phase"] == "Training")
    });
}

/// Peers that leave, and peers that are sent away, while the job runs: nothing of them stays.
#[test]
fn t13_control_connections_that_end_leave_nothing_open() {
    let (spec, folder) = (endless(), folder());
    let mut run = spec.clone().on(1, 1).start(folder.path());
    run.reach(10);
    let roster = run.roster().expect("it has told who runs");
    let server = roster.pid("server", 0).expect("a server");
    let ours = identity(&spec, &roster);
    let before = descriptors(server);
    for body in [b"{}".as_slice(), b"{\"type\":\"drain\"}", &[0xff; 64]] {
        for _ in 0..32 {
            let mut peer = introduced(&roster, ours, Channel::Control).expect("a connection");
            let len = body.len() as u32;
            let frame = frame(ours, Body::Control { len }, body);
            peer.writer.write_all(&frame).expect("it is read");
            ended(peer);
        }
    }
    for _ in 0..64 {
        drop(introduced(&roster, ours, Channel::Control).expect("a connection"));
    }
    // Others may come and go meanwhile, such as those of /status.
    run.until("the end of all connections", |_| {
        (descriptors(server) < before + 16).then_some(())
    });
    training(&mut run);
}

/// A peer that claims the step in progress, with rows that nobody has: the true pushes still count.
#[test]
fn t13_untrue_pushes_for_the_current_step_stop_nothing() {
    let spec = example("breast-cancer/job.yaml").epochs(60);
    let folder = folder();
    let mut run = spec.clone().on(2, 1).start(folder.path());
    run.reach(10);
    let roster = run.roster().expect("it has told who runs");
    let ours = identity(&spec, &roster);
    let workers = roster.of("worker");
    workers.iter().for_each(|(_, pid)| send(*pid, Signal::STOP));
    let dropped = run.until("a counter", |run| run.metric("peers_dropped_total"));
    let mut open = Vec::new();
    // What the workers had sent before they stood still may still be counted during the first looks.
    run.until("refusals", |run| {
        let (step, len) = newest(introduced(&roster, ours, pull()).ok()?);
        // Of the 455 rows a step takes 32, the last of an epoch 7: none of this is true at any of them, and
        // nothing that was on its way completes so many steps meanwhile.
        for (ahead, node, rows) in [(0, 1, 9), (0, 2, 15), (0, 3, 0), (0, 5, 64), (150, 1, 32)] {
            let mut peer = introduced(&roster, ours, Channel::Push).ok()?;
            let body = Body::Push {
                step: step + ahead,
                node: Node::new(node).expect("not 0"),
                chunk: 0,
                len,
                rows,
                loss: 1.0,
            };
            let frame = frame(ours, body, &vec![0; len as usize]);
            let _ = peer.writer.write_all(&frame);
            open.push(peer);
        }
        let now = run.metric("peers_dropped_total")?;
        (now >= dropped + 10.0).then_some(())
    });
    workers.iter().for_each(|(_, pid)| send(*pid, Signal::CONT));
    assert_eq!(sha(&run.finish()), reference::train(&spec).sha);
}

/// A stranger that knows all but the key: the protocol, the job's number, generation and addresses.
#[test]
fn t13_a_stranger_is_met_by_nobody_and_changes_nothing() {
    let spec = example("breast-cancer/job.yaml").epochs(40);
    let folder = folder();
    let mut run = spec.clone().on(2, 1).start(folder.path());
    run.reach(10);
    let roster = run.roster().expect("it has told who runs");
    let ours = identity(&spec, &roster);
    let address = roster.coordinator().parse().expect("an address");
    for role in [Role::Worker(0), Role::Server(0), Role::Observer] {
        for channel in [Channel::Control, Channel::Push, pull()] {
            let hello = Hello { channel, role };
            let guessed = Key::of_servers([0; Key::BYTES]);
            let met = connect(&address, ours, hello, &guessed, &Timing::default());
            let error = met.expect_err("it has not the key");
            assert!(error.to_string().contains("key of this job"), "{error}");
        }
    }
    assert_eq!(sha(&run.finish()), reference::train(&spec).sha);
}
