//! Server 0 and its coordinator, with storage that stalls.

use std::sync::Arc;
use std::time::Duration;

use trainyard_checkpoint::Storage;
use trainyard_core::control::{FromCoordinator, Join, Role, ToCoordinator};

use super::testing::{LIMIT, Stalling, apply, facts, server};
use super::*;
use crate::net::{ControlReceiver, ControlSender};

fn worker(generation: u32, server: &Server) -> Join {
    Join {
        role: Role::Worker(0),
        incarnation: 11,
        generation,
        born: generation,
        spec_digest: server.options.job.spec_digest.clone(),
        capability: Some("any".into()),
        facts: Some(facts()),
        address: None,
        ready: None,
    }
}

/// A worker's control stream.
fn joined(server: &Server, join: Join) -> (ControlSender, ControlReceiver) {
    let hello = Hello {
        channel: Channel::Control,
        role: join.role,
    };
    let identity = Identity {
        incarnation: join.incarnation,
        ..server.identity(join.generation)
    };
    let address = server.options.listener.address();
    let connection = net::connect(address, identity, hello, &server.options.timing);
    let connection = connection.expect("a connection");
    let (sender, receiver) = connection.control(identity, LIMIT).expect("a stream");
    sender
        .send(&ToCoordinator::Join(join))
        .expect("it is heard");
    (sender, receiver)
}

/// A roll-back comes while a commit is stuck in storage: the job goes on without it.
#[test]
fn t03_a_roll_back_does_not_wait_for_a_commit_that_has_stalled() {
    // The claim is entry 0, and the commit the next.
    let storage = Arc::new(Stalling::on("log/000000000001"));
    let timing = Timing {
        heartbeat_timeout: Duration::from_millis(500),
        ..Timing::default()
    };
    let server = server(Arc::clone(&storage) as Arc<dyn Storage>, timing);
    server.hub.listen(Arc::clone(&server.options.listener));
    let coordinating = {
        let server = Arc::clone(&server);
        std::thread::spawn(move || server.coordinate(1))
    };
    testing::until("a shard and its commit", || {
        // A peer that is silent for long is sent away.
        let (_sender, mut receiver) = joined(&server, worker(1, &server));
        let welcome = receiver.receive::<FromCoordinator>();
        let welcomed = matches!(welcome, Ok(FromCoordinator::Welcome { generation: 1 }));
        welcomed && server.hub.shard().is_some() && server.board.read().servers == 1
    });
    let shard = server.hub.shard().expect("a shard");
    apply(&shard, 0);
    storage.until_one_waits();
    let _newer = joined(&server, worker(2, &server));
    let ended = coordinating.join().expect("no panic").expect("no error");
    assert!(matches!(ended, Ended::Regenerated(2)), "{ended:?}");
    assert!(storage.one_waits(), "the commit was waited for");
    storage.release();
}
