//! What is left of a generation when the next one has begun.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Condvar, MutexGuard};
use std::time::{Duration, Instant};

use trainyard_checkpoint::{MemoryStorage, Object, Storage, StorageError};
use trainyard_core::control::Role;
use trainyard_core::round::Tally;
use trainyard_core::tree::Node;

use super::super::shard::Push;
use super::super::{Board, Hub};
use super::*;
use crate::net::Timing;
use crate::storage::Location;

/// No wait is longer than this.
const LIMIT: Duration = Duration::from_secs(60);

/// A storage in which shards stay on their way until they are let through.
#[derive(Default)]
struct Stalling {
    memory: MemoryStorage,
    state: Mutex<Stall>,
    changed: Condvar,
}

#[derive(Default)]
struct Stall {
    waiting: u32,
    open: bool,
}

impl Stalling {
    fn lock(&self) -> MutexGuard<'_, Stall> {
        self.state.lock().expect("nobody panics")
    }

    fn until_one_waits(&self) {
        let waits = self
            .changed
            .wait_timeout_while(self.lock(), LIMIT, |s| s.waiting == 0);
        assert!(
            !waits.expect("nobody panics").1.timed_out(),
            "nothing is written"
        );
    }

    fn release(&self) {
        self.lock().open = true;
        self.changed.notify_all();
    }
}

impl Storage for Stalling {
    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<(), StorageError> {
        let mut state = self.lock();
        state.waiting += 1;
        self.changed.notify_all();
        let state = self
            .changed
            .wait_timeout_while(state, LIMIT, |state| !state.open);
        drop(state.expect("nobody panics"));
        self.memory.put(key, parts)
    }

    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError> {
        self.memory.put_if_absent(key, bytes)
    }

    fn read(
        &self,
        key: &str,
        sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        self.memory.read(key, sink)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Object>, StorageError> {
        self.memory.list(prefix)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.memory.delete(key)
    }
}

/// A server without connections, of a job that checkpoints every step.
fn server(storage: Arc<dyn Storage>) -> Arc<Server> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/breast-cancer/job.yaml");
    let job = crate::run::read_job(&file, &["spec.checkpoint.everySteps=1".into()]);
    let timing = Timing::default();
    Arc::new(Server {
        options: Options {
            job: job.expect("a good manifest"),
            index: 0,
            servers: 1,
            generation: 1,
            coordinator: String::new(),
            advertise: None,
            listener: std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"),
            http: None,
            storage: Location::Folder(".".into()),
            artifact: false,
            timing,
        },
        incarnation: 7,
        hub: Hub::new(timing),
        storage,
        board: Arc::new(Board::default()),
        address: "here".into(),
        terminate: Default::default(),
    })
}

fn facts() -> DataFacts {
    DataFacts {
        train_rows: 455,
        validation_rows: 114,
        input_shape: vec![30],
        outputs: 1,
        digest: String::new(),
        schema: serde_json::Value::Null,
    }
}

/// A tenure that holds a shard at version 0, and what it says.
fn opened(server: &Arc<Server>, generation: u32) -> (Arc<Tenure>, Receiver<Input>) {
    let (inputs, said) = channel();
    let tenure = Tenure::new(Arc::clone(server), generation, Some(inputs.clone()));
    tenure.connect(Target::Local(inputs));
    let open = FromCoordinator::Open {
        facts: facts(),
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

/// Applies a step to the only chunk.
fn apply(shard: &Shard, step: u64) {
    let push = Push {
        step,
        node: Node::ROOT,
        chunk: 0,
        tally: Tally {
            rows: 32,
            loss: 1.0,
        },
    };
    let payload = vec![0.5; shard.floats().len()];
    shard.push(push, payload).expect("a true push");
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < LIMIT, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// Storage stalls on the snapshot of step 1, the one of step 2 waits behind it, and the push that
/// completes step 3 waits for room. Then the job rolls back. When storage goes on, the saver reports
/// step 1 and the push reports step 3: were that taken for the next generation's, a checkpoint could
/// name shards that are cleaned, and a halt could believe that step 3 was reached.
#[test]
fn t10_what_a_past_generation_still_says_is_not_heard() {
    let storage = Arc::new(Stalling::default());
    let server = server(Arc::clone(&storage) as Arc<dyn Storage>);
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
    let server = server(Arc::new(MemoryStorage::new()));
    let (old, _said) = opened(&server, 1);
    old.end();
    let (new, heard) = opened(&server, 2);
    let served = server.hub.shard().expect("a shard");
    let open = FromCoordinator::Open {
        facts: facts(),
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
