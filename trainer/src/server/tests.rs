//! Server 0 and its coordinator, with storage that stalls.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use trainyard_checkpoint::{MemoryStorage, Storage};
use trainyard_core::control::{FromCoordinator, Join, Role, ToCoordinator};
use trainyard_runtime::net::{ControlReceiver, ControlSender};

use trainyard_runtime::net::testing::{key, workers_key};

use super::testing::{LIMIT, Stalling, apply, facts, server};
use super::*;

fn worker(generation: u32, server: &Server) -> Join {
    Join {
        role: Role::Worker(0),
        incarnation: 11,
        generation,
        born: generation,
        spec_digest: server.options.job.spec_digest.clone(),
        capability: Some("any".into()),
        facts: Some(facts().into()),
        warnings: Vec::new(),
        address: None,
        ready: None,
    }
}

/// A server that its supervisor has started under this generation.
fn successor(generation: u32, server: &Server) -> Join {
    Join {
        role: Role::Server(1),
        incarnation: 12,
        capability: None,
        facts: None,
        address: Some("there".into()),
        ..worker(generation, server)
    }
}

/// A control stream.
///
/// # Errors
/// If the server has dropped the connection, as it does before a coordinator works.
fn joined(server: &Server, join: Join) -> io::Result<(ControlSender, ControlReceiver)> {
    let identity = Identity {
        incarnation: join.incarnation,
        ..server.identity(join.generation)
    };
    let (sender, receiver) = introduced(server, identity, join.role)?;
    sender.send(&ToCoordinator::Join(join))?;
    Ok((sender, receiver))
}

/// A control stream before its first message.
///
/// # Errors
/// As [`joined`].
fn introduced(
    server: &Server,
    identity: Identity,
    role: Role,
) -> io::Result<(ControlSender, ControlReceiver)> {
    let hello = Hello {
        channel: Channel::Control,
        role,
    };
    let address = server.options.listener.address();
    let key = match role {
        Role::Worker(_) => workers_key(),
        Role::Server(_) | Role::Observer => key(),
    };
    let connection = net::connect(address, identity, hello, &key, &server.options.timing);
    connection?.control(identity, LIMIT)
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
        let Ok((_sender, mut receiver)) = joined(&server, worker(1, &server)) else {
            return false;
        };
        let welcome = receiver.receive::<FromCoordinator>();
        let welcomed = matches!(welcome, Ok(FromCoordinator::Welcome { generation: 1 }));
        welcomed && server.hub.shard().is_some() && server.board.read().servers == 1
    });
    let shard = server.hub.shard().expect("a shard");
    apply(&shard, 0);
    storage.until_one_waits();
    let _newer = joined(&server, successor(2, &server)).expect("it is heard");
    let ended = coordinating.join().expect("no panic").expect("no error");
    assert!(matches!(ended, Ended::Regenerated(2)), "{ended:?}");
    assert!(storage.one_waits(), "the commit was waited for");
    storage.release();
}

/// It comes from another version of the program: neither is it passed on, nor does its sender try again.
#[test]
fn t13_a_record_that_cannot_be_decoded_is_refused_with_its_sender_named() {
    let server = server(Arc::new(MemoryStorage::new()), Timing::default());
    server.hub.listen(Arc::clone(&server.options.listener));
    let coordinating = {
        let server = Arc::clone(&server);
        std::thread::spawn(move || server.coordinate(1))
    };
    let record = json!({ "key": "checkpoints/1", "start": 0, "end": "eight" });
    let message = json!({ "type": "shardWritten", "version": 1, "record": record });
    let mut refusal = None;
    testing::until("an answer", || {
        // Before the coordinator works, connections are dropped.
        let introduced = introduced(&server, server.identity(1), Role::Server(3));
        let Ok((sender, mut receiver)) = introduced else {
            return false;
        };
        let _ = sender.send(&message);
        refusal = receiver.receive::<FromCoordinator>().ok();
        refusal.is_some()
    });
    let Some(FromCoordinator::Refused { reason, again }) = refusal else {
        panic!("{refusal:?}");
    };
    assert!(!again);
    assert!(
        reason.contains("server 3") && reason.contains("eight"),
        "{reason}"
    );
    let _newer = joined(&server, successor(2, &server)).expect("it is heard");
    let ended = coordinating.join().expect("no panic").expect("no error");
    assert!(matches!(ended, Ended::Regenerated(2)), "{ended:?}");
}

#[test]
fn t13_a_server_that_is_refused_ends_with_the_reason() {
    let any = "127.0.0.1:0".parse().expect("an address");
    let listener = Listener::bind(&any).expect("a port");
    let server = server(Arc::new(MemoryStorage::new()), Timing::default());
    let mut server = Arc::into_inner(server).expect("nobody else holds it");
    (server.options.index, server.options.servers) = (1, 2);
    server.options.coordinator = listener.address().clone();
    let identity = server.identity(1);
    let server = Arc::new(server);
    let following = std::thread::spawn(move || server.follow());

    let incoming = listener.accept().expect("a connection");
    let accepted = net::accept(incoming, identity, &key(), &Timing::default());
    let (connection, _) = accepted.expect("an introduction");
    let (sender, mut receiver) = connection.control(identity, LIMIT).expect("a stream");
    let joined = receiver.receive().expect("a message");
    assert!(matches!(joined, ToCoordinator::Join(_)), "{joined:?}");
    let reason = "a message of server 1 cannot be decoded".to_owned();
    let again = false;
    for message in [
        FromCoordinator::Welcome { generation: 1 },
        FromCoordinator::Refused { reason, again },
    ] {
        sender.send(&message).expect("it is heard");
    }
    let error = following.join().expect("no panic").expect_err("it ends");
    assert!(error.to_string().contains("cannot be decoded"), "{error}");
}
