//! A coordinator with two servers, two workers and an observer at hand.

use std::sync::Arc;
use std::time::Duration;

use trainyard_core::control::{
    Block, EVALUATION_BLOCK_ROWS, Evaluate, FromCoordinator, Join, Role, ToCoordinator, View,
};
use trainyard_core::coordinator::{
    Action, Commit, Config, Coordinator, Event, Outcome, PeerId, Record,
};
use trainyard_core::facts::DataFacts;
use trainyard_core::manifest::{CoordinatorState, JobIdentity, Manifest, ShardRecord};
use trainyard_core::metrics::{BlockResult, Detail, Task};
use trainyard_core::round::Tally;
use trainyard_core::schema::{ArrayInput, InputKind, InputSchema, Label};

pub const TIMEOUT: Duration = Duration::from_secs(5);

pub fn config() -> Config {
    Config {
        generation: 3,
        servers: 2,
        leaves: 4,
        batch_size: 5,
        epochs: 3,
        seed: 1,
        task: Task::Regression,
        checkpoint_every: 100,
        early_stopping: None,
        spec_digest: "spec".into(),
        heartbeat_timeout: TIMEOUT,
        grace: Duration::from_secs(20),
    }
}

/// Two steps an epoch.
pub fn facts(validation_rows: u64) -> DataFacts {
    DataFacts {
        train_rows: 10,
        validation_rows,
        test_rows: 0,
        input_shape: vec![1],
        outputs: 1,
        digest: "data".into(),
        schema: schema(),
    }
}

fn schema() -> InputSchema {
    InputSchema {
        task: Task::Regression,
        input: InputKind::Array(ArrayInput {
            shape: vec![1],
            dtype: "f4".into(),
            mean: vec![0.0],
            std: vec![1.0],
            resize: false,
        }),
        label: Label {
            name: "label".into(),
            classes: Vec::new(),
            numeric: true,
            scale: None,
            link: None,
            threshold: None,
        },
    }
}

/// What a server says of its part of a checkpoint.
pub fn shard(server: u64, version: u64) -> ShardRecord {
    ShardRecord {
        key: format!("{version}/{server}"),
        start: server,
        end: server + 1,
        slots: Vec::new(),
        bytes: 4,
        sha256: "digest".into(),
        subtrees: Vec::new(),
    }
}

/// The manifest of a checkpoint with this record.
pub fn manifest(record: Record, validation_rows: u64) -> Arc<Manifest> {
    let step = record.step;
    Arc::new(Manifest {
        identity: JobIdentity {
            job: "job".into(),
            spec_digest: "spec".into(),
        },
        generation: 3,
        step,
        epoch: step / 2,
        complete: false,
        imported: false,
        best: false,
        floats: 2,
        shards: vec![shard(0, step), shard(1, step)],
        layout_digest: "layout".into(),
        capability: "avx2".into(),
        facts: facts(validation_rows),
        coordinator: CoordinatorState {
            record,
            metrics: None,
        },
        spec: serde_json::Value::Null,
        model_sha256: None,
    })
}

/// What is to be committed, if anything.
pub fn commit(actions: &[Action]) -> Option<&Commit> {
    actions.iter().find_map(|action| match action {
        Action::Commit(commit) => Some(&**commit),
        _ => None,
    })
}

/// The version of the checkpoint that is the only thing to do.
pub fn checkpoint(actions: &[Action]) -> Option<u64> {
    let [Action::Commit(commit)] = actions else {
        return None;
    };
    match **commit {
        Commit::Checkpoint { version, .. } => Some(version),
        _ => None,
    }
}

pub fn server(index: u32) -> Join {
    Join {
        role: Role::Server(index),
        incarnation: 100 + u64::from(index),
        generation: 3,
        born: 3,
        spec_digest: "spec".into(),
        capability: None,
        facts: None,
        warnings: Vec::new(),
        address: Some(format!("server-{index}")),
        ready: None,
    }
}

pub fn worker(index: u32) -> Join {
    Join {
        role: Role::Worker(index),
        incarnation: 200 + u64::from(index),
        capability: Some("avx2".into()),
        facts: Some(facts(0).into()),
        address: None,
        ..server(0)
    }
}

pub fn observer() -> Join {
    Join {
        role: Role::Observer,
        spec_digest: String::new(),
        ..server(0)
    }
}

/// A coordinator and the time.
pub struct Bench {
    pub coordinator: Coordinator,
    pub now: Duration,
}

pub const SERVERS: [PeerId; 2] = [PeerId(0), PeerId(1)];
pub const WORKERS: [PeerId; 2] = [PeerId(10), PeerId(11)];
pub const OBSERVER: PeerId = PeerId(20);

impl Bench {
    pub fn new(config: Config) -> Bench {
        Bench {
            coordinator: Coordinator::new(config, None),
            now: Duration::ZERO,
        }
    }

    /// Two servers and two workers at step 0, training.
    pub fn training(config: Config, validation_rows: u64) -> Bench {
        let mut bench = Bench::new(config);
        bench.gather(validation_rows, 0);
        assert_eq!(bench.phase(), "Training");
        bench
    }

    pub fn gather(&mut self, validation_rows: u64, version: u64) {
        for (index, peer) in (0..).zip(WORKERS) {
            self.say(
                peer,
                ToCoordinator::Join(Join {
                    facts: Some(facts(validation_rows).into()),
                    ..worker(index)
                }),
            );
        }
        self.serve(version, [1, 1]);
        for peer in WORKERS {
            self.say(peer, ToCoordinator::Ready { version, chunks: 0 });
        }
        self.say(OBSERVER, ToCoordinator::Join(observer()));
    }

    /// The servers join, and hold so many chunks each at `version`.
    pub fn serve(&mut self, version: u64, chunks: [u32; 2]) {
        for ((index, peer), chunks) in (0..).zip(SERVERS).zip(chunks) {
            self.say(peer, ToCoordinator::Join(server(index)));
            self.say(peer, ToCoordinator::Ready { version, chunks });
        }
    }

    pub fn event(&mut self, event: Event) -> Vec<Action> {
        self.coordinator.handle(self.now, event)
    }

    pub fn say(&mut self, peer: PeerId, message: ToCoordinator) -> Vec<Action> {
        self.event(Event::Message(peer, message))
    }

    pub fn phase(&self) -> String {
        self.coordinator.progress().phase
    }

    /// A step is computed and applied everywhere.
    pub fn step(&mut self) -> Vec<Action> {
        let step = self.coordinator.record().step;
        let mut actions = self.event(Event::StepReduced {
            step,
            tally: Tally { rows: 5, loss: 1.0 },
        });
        for peer in SERVERS {
            actions.extend(self.say(peer, ToCoordinator::Applied { version: step + 1 }));
        }
        actions
    }

    pub fn written(&mut self, version: u64) -> Vec<Action> {
        let records = SERVERS.map(|peer| {
            let record = shard(peer.0, version);
            self.say(peer, ToCoordinator::ShardWritten { version, record })
        });
        records.concat()
    }

    pub fn committed(&mut self, version: u64) -> Vec<Action> {
        let record = Record {
            step: version,
            ..Record::default()
        };
        self.event(Event::Committed(manifest(record, 0)))
    }
}

pub fn refusal(actions: &[Action]) -> String {
    let reasons = actions.iter().find_map(|action| match action {
        Action::Send(_, FromCoordinator::Refused { reason, .. }) => Some(reason.clone()),
        _ => None,
    });
    let reason = reasons.unwrap_or_else(|| panic!("not refused: {actions:?}"));
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::Close(_))),
        "a refused peer is closed"
    );
    reason
}

pub fn outcome(actions: &[Action]) -> Option<Outcome> {
    actions.iter().find_map(|action| match action {
        Action::Finish(outcome) => Some(outcome.clone()),
        _ => None,
    })
}

pub fn failure(actions: &[Action]) -> String {
    match outcome(actions) {
        Some(Outcome::Failed(message)) => message,
        other => panic!("not failed: {other:?}"),
    }
}

pub fn sent(actions: &[Action], peer: PeerId) -> Vec<&FromCoordinator> {
    let to = actions.iter().filter_map(|action| match action {
        Action::Send(to, message) if *to == peer => Some(message),
        _ => None,
    });
    to.collect()
}

pub fn view(actions: &[Action], peer: PeerId) -> Option<&View> {
    sent(actions, peer)
        .into_iter()
        .rev()
        .find_map(|message| match message {
            FromCoordinator::View(view) => Some(view),
            _ => None,
        })
}

pub fn halt_id(actions: &[Action], peer: PeerId) -> u64 {
    let id = sent(actions, peer)
        .into_iter()
        .find_map(|message| match message {
            FromCoordinator::Halt { id } => Some(*id),
            _ => None,
        });
    id.unwrap_or_else(|| panic!("{peer:?} is not asked to halt: {actions:?}"))
}

pub fn evaluations(actions: &[Action]) -> Vec<(PeerId, u64, u64, Vec<Block>)> {
    let orders = actions.iter().filter_map(|action| match action {
        Action::Send(
            peer,
            FromCoordinator::Evaluate(Evaluate {
                id,
                version,
                blocks,
                ..
            }),
        ) => Some((*peer, *id, *version, blocks.clone())),
        _ => None,
    });
    orders.collect()
}

pub fn result(rows: u64, loss_sum: f64) -> BlockResult {
    BlockResult {
        rows,
        loss_sum,
        detail: Detail::Regression {
            mean: 0.0,
            deviation: 1.0,
            squared: loss_sum,
            absolute: loss_sum,
            relative: loss_sum,
        },
    }
}

/// Answers all orders with blocks of a mean loss.
pub fn answer(bench: &mut Bench, orders: &[Action], rows: u64, loss: f64) -> Vec<Action> {
    let mut actions = Vec::new();
    for (peer, id, _, blocks) in evaluations(orders) {
        let rows = |block: u64| (rows - block * EVALUATION_BLOCK_ROWS).min(EVALUATION_BLOCK_ROWS);
        let results = blocks
            .iter()
            .map(|b| (*b, result(rows(b.1), loss * rows(b.1) as f64)))
            .collect();
        actions.extend(bench.say(peer, ToCoordinator::Blocks { id, results }));
    }
    actions
}

pub fn stopped(saved: bool) -> Option<Outcome> {
    Some(Outcome::Stopped { saved })
}
