//! What is left of a generation when the next one has begun.

use std::sync::mpsc::{Receiver, TryRecvError, channel};

use trainyard_checkpoint::{MemoryStorage, Storage};
use trainyard_core::control::Role;
use trainyard_runtime::net::Timing;

use super::super::testing::{LIMIT, Stalling, apply, facts, server, until};
use super::*;

/// A tenure that holds a shard at version 0, and what it says.
fn opened(server: &Arc<Server>, generation: u32) -> (Arc<Tenure>, Receiver<Input>) {
    let (inputs, said) = channel();
    let tenure = Tenure::new(Arc::clone(server), generation, Some(inputs.clone()));
    tenure.connect(Target::Local(inputs));
    let open = FromCoordinator::Open {
        facts: facts().into(),
        manifest: None,
    };
    assert!(tenure.take(open).is_none());
    let ready = next(&said);
    assert!(
        matches!(
            ready,
            ToCoordinator::Ready {
                version: 0,
                chunks: 1
            }
        ),
        "{ready:?}"
    );
    (tenure, said)
}

/// The next message, the losses of steps apart.
fn next(said: &Receiver<Input>) -> ToCoordinator {
    loop {
        match said.recv_timeout(LIMIT).expect("something is said") {
            Input::Event(Event::Message(_, message)) => return message,
            Input::Event(Event::StepReduced { .. }) => {}
            _ => panic!("no message"),
        }
    }
}

/// Storage stalls on the snapshot of step 1, the one of step 2 waits behind it, and the push that
/// completes step 3 waits for room. Then the job rolls back. When storage goes on, the saver reports
/// step 1 and the push reports step 3: were that taken for the next generation's, a checkpoint could
/// name shards that are cleaned, and a halt could believe that step 3 was reached.
#[test]
fn t10_what_a_past_generation_still_says_is_not_heard() {
    let storage = Arc::new(Stalling::on("checkpoints/"));
    let server = server(Arc::clone(&storage) as Arc<dyn Storage>, Timing::default());
    let (old, said) = opened(&server, 1);
    let shard = old.holding().expect("a shard").shard;
    apply(&shard, 0);
    storage.until_one_waits();
    apply(&shard, 1);
    for version in [1, 2] {
        assert_eq!(next(&said), ToCoordinator::Applied { version });
    }
    let pushing = {
        let shard = Arc::clone(&shard);
        std::thread::spawn(move || apply(&shard, 2))
    };
    until("the third step", || shard.version() == 3);

    old.end();
    let (new, heard) = opened(&server, 2);
    pushing.join().expect("the push is let go");
    storage.release();
    drop((old, shard));
    // The savers hold the storage; that of the new generation has nothing to do.
    until("the end of the old saver", || {
        Arc::strong_count(&storage) == 3
    });

    assert!(
        matches!(heard.try_recv(), Err(TryRecvError::Empty)),
        "the past has spoken"
    );
    let written = storage.list("").expect("a listing");
    assert_eq!(written.len(), 1, "what waited is not written: {written:?}");
    assert!(new.version() == Some(0) && new.join(None).role == Role::Server(0));
    new.end();
    until("the end of the new saver", || {
        Arc::strong_count(&storage) == 2
    });
}

/// An order to load that takes until the next generation has begun does not bring the shard back.
#[test]
fn t10_a_shard_that_is_loaded_too_late_is_not_served() {
    let server = server(Arc::new(MemoryStorage::new()), Timing::default());
    let (old, _said) = opened(&server, 1);
    old.end();
    let (new, heard) = opened(&server, 2);
    let served = server.hub.shard().expect("a shard");
    let open = FromCoordinator::Open {
        facts: facts().into(),
        manifest: None,
    };
    assert!(old.take(open).is_none());
    assert!(old.version().is_none());
    assert!(Arc::ptr_eq(&served, &server.hub.shard().expect("a shard")));
    old.connect(Target::Local(new.inputs.clone().expect("server 0")));
    old.tell(ToCoordinator::Heartbeat);
    assert!(
        matches!(heard.try_recv(), Err(TryRecvError::Empty)),
        "the past has spoken"
    );
}
