//! A server without processes, and a storage that stalls, for the tests of this module.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use trainyard_checkpoint::{MemoryStorage, Object, Storage, StorageError};
use trainyard_core::facts::DataFacts;
use trainyard_core::metrics::Task;
use trainyard_core::round::Tally;
use trainyard_core::schema::{ArrayInput, InputKind, InputSchema, Label};
use trainyard_core::shard::Push;
use trainyard_core::tree::Node;
use trainyard_runtime::net::testing::key;
use trainyard_runtime::net::{Listener, Timing};
use trainyard_runtime::storage::Location;

use super::shard::Shard;
use super::{Board, Hub, Options, Server};

/// No wait is longer than this.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A storage in which some objects stay on their way until they are let through.
pub struct Stalling {
    /// What their keys begin with.
    prefix: &'static str,
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
    pub fn on(prefix: &'static str) -> Self {
        Stalling {
            prefix,
            memory: MemoryStorage::new(),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stall> {
        self.state.lock().expect("nobody panics")
    }

    fn stall(&self, key: &str) {
        if !key.starts_with(self.prefix) {
            return;
        }
        let mut state = self.lock();
        state.waiting += 1;
        self.changed.notify_all();
        let state = self
            .changed
            .wait_timeout_while(state, LIMIT, |state| !state.open);
        state.expect("nobody panics").0.waiting -= 1;
    }

    pub fn one_waits(&self) -> bool {
        self.lock().waiting > 0
    }

    pub fn until_one_waits(&self) {
        let waits = self
            .changed
            .wait_timeout_while(self.lock(), LIMIT, |s| s.waiting == 0);
        assert!(
            !waits.expect("nobody panics").1.timed_out(),
            "nothing is written"
        );
    }

    pub fn release(&self) {
        self.lock().open = true;
        self.changed.notify_all();
    }
}

impl Storage for Stalling {
    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.stall(key);
        self.memory.put(key, parts)
    }

    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError> {
        self.stall(key);
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
pub fn server(storage: Arc<dyn Storage>, timing: Timing) -> Arc<Server> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/breast-cancer/job.yaml");
    let job = crate::run::read_job(&file, &["spec.checkpoint.everySteps=1".into()]);
    let listener = Listener::bind(&"127.0.0.1:0".parse().expect("an address"));
    Arc::new(Server {
        options: Options {
            job: job.expect("a good manifest"),
            index: 0,
            servers: 1,
            generation: 1,
            coordinator: "127.0.0.1:0".parse().expect("an address"),
            advertise: None,
            listener: Arc::new(listener.expect("a free port")),
            http: None,
            initial_model: None,
            storage: Location::Folder(".".into()),
            key: key(),
            timing,
        },
        incarnation: 7,
        hub: Hub::new(key(), timing),
        storage,
        board: Arc::new(Board::default()),
        address: "here".into(),
        terminate: Default::default(),
    })
}

pub fn facts() -> DataFacts {
    DataFacts {
        train_rows: 455,
        validation_rows: 114,
        test_rows: 0,
        input_shape: vec![30],
        outputs: 1,
        digest: String::new(),
        schema: InputSchema {
            task: Task::Binary,
            input: InputKind::Array(ArrayInput {
                shape: vec![30],
                dtype: "f4".into(),
                mean: vec![0.0; 30],
                std: vec![1.0; 30],
                resize: false,
            }),
            label: Label {
                name: "label".into(),
                classes: vec!["0".into(), "1".into()],
                numeric: true,
                scale: None,
                link: None,
                threshold: None,
            },
        },
    }
}

/// Applies a step to the only chunk.
pub fn apply(shard: &Shard, step: u64) {
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

pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < LIMIT, "waited in vain: {what}");
        std::thread::yield_now();
    }
}
