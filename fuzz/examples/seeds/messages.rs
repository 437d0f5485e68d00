//! Scripts of control messages.

use std::fmt::Write;
use std::sync::Arc;

use serde_json::json;
use trainyard_core::control::{
    Block, Evaluate, FromCoordinator, Join, Release, Role, RowSet, ToCoordinator, View,
};
use trainyard_core::facts::DataFacts;
use trainyard_core::manifest::ShardRecord;
use trainyard_core::metrics::{BlockResult, Detail};
use trainyard_core::record::EpochRecord;
use trainyard_core::shard::{Passes, Pusher};

use super::{Out, Result};

/// A script as it is written, line by line.
#[derive(Default)]
struct Script(String);

impl Script {
    fn say(&mut self, peer: u32, message: &ToCoordinator) -> Result<&mut Self> {
        writeln!(self.0, "{peer} {}", serde_json::to_string(message)?)?;
        Ok(self)
    }

    fn tell(&mut self, message: &FromCoordinator) -> Result<&mut Self> {
        writeln!(self.0, "> {}", serde_json::to_string(message)?)?;
        Ok(self)
    }

    fn line(&mut self, line: &str) -> &mut Self {
        self.0.push_str(line);
        self.0.push('\n');
        self
    }
}

fn facts(validation_rows: u64) -> Result<Arc<DataFacts>> {
    Ok(Arc::new(serde_json::from_value(json!({
        "trainRows": 10, "validationRows": validation_rows, "inputShape": [1], "outputs": 1, "digest": "data",
        "schema": {
            "task": "regression",
            "input": {"array": {"shape": [1], "dtype": "f4", "mean": [0.0], "std": [1.0]}},
            "label": {"name": "label", "classes": [], "numeric": true},
        },
    }))?))
}

fn join(role: Role, facts: Option<Arc<DataFacts>>) -> ToCoordinator {
    let address = match role {
        Role::Server(index) => Some(format!("server-{index}:7000")),
        Role::Worker(_) | Role::Observer => None,
    };
    ToCoordinator::Join(Join {
        role,
        incarnation: 7,
        generation: 3,
        born: 3,
        spec_digest: "spec".into(),
        capability: facts.as_ref().map(|_| "avx2".into()),
        facts,
        warnings: Vec::new(),
        address,
        ready: None,
    })
}

/// Two servers, two workers and an observer, in training.
fn gathered(validation_rows: u64) -> Result<Script> {
    let mut script = Script::default();
    for index in 0..2 {
        let (version, chunks) = (0, 1);
        script.say(index, &join(Role::Server(index), None))?;
        script.say(index, &ToCoordinator::Ready { version, chunks })?;
    }
    for index in 0..2 {
        let (version, chunks) = (0, 0);
        let facts = facts(validation_rows)?;
        script.say(2 + index, &join(Role::Worker(index), Some(facts)))?;
        script.say(2 + index, &ToCoordinator::Ready { version, chunks })?;
    }
    script.say(4, &join(Role::Observer, None))?;
    Ok(script)
}

fn stepped(script: &mut Script, version: u64) -> Result<()> {
    script.line("r 1.5");
    for server in 0..2 {
        script.say(server, &ToCoordinator::Applied { version })?;
    }
    Ok(())
}

fn shard(server: u64, version: u64) -> ShardRecord {
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

fn written(script: &mut Script, version: u64) -> Result<()> {
    for server in 0..2 {
        let record = shard(server.into(), version);
        script.say(server, &ToCoordinator::ShardWritten { version, record })?;
    }
    Ok(())
}

/// The results of all blocks of a set, from both workers: those that were not asked are passed over.
fn evaluated(script: &mut Script, id: u64, set: RowSet, rows: u64) -> Result<()> {
    for worker in 2..4 {
        let result = BlockResult {
            rows,
            loss_sum: 2.5,
            detail: Detail::Regression {
                mean: 0.0,
                deviation: 1.0,
                squared: 0.5,
                absolute: 1.0,
                relative: 0.25,
            },
        };
        let results = vec![(Block(set, 0), result)];
        script.say(worker, &ToCoordinator::Blocks { id, results })?;
    }
    Ok(())
}

pub fn seeds(out: &Out) -> Result<()> {
    let mut whole = gathered(0)?;
    for version in 1..=6 {
        stepped(&mut whole, version)?;
        if version % 3 == 0 {
            written(&mut whole, version)?;
        }
    }
    evaluated(&mut whole, 1, RowSet::Train, 10)?;
    out.put("control", "a-whole-job", whole.0)?;

    let mut early = gathered(5)?;
    early.line("early");
    for version in 1..=6 {
        stepped(&mut early, version)?;
        if version % 2 == 0 {
            written(&mut early, version)?;
            evaluated(&mut early, version / 2, RowSet::Validation, 5)?;
        }
    }
    out.put("control", "validated-and-stopped-early", early.0)?;

    let mut stopped = gathered(0)?;
    stepped(&mut stopped, 1)?;
    stopped.say(4, &ToCoordinator::Stop)?;
    for (worker, next) in [(2, 1), (3, 2)] {
        stopped.say(worker, &ToCoordinator::Halted { id: 1, next })?;
    }
    stepped(&mut stopped, 2)?;
    written(&mut stopped, 2)?;
    out.put("control", "stopped", stopped.0)?;

    let mut troubled = gathered(0)?;
    troubled
        .say(3, &ToCoordinator::Drain)?
        .line("t")
        .line("c 2");
    troubled.say(0, &ToCoordinator::SnapshotMissed { version: 3 })?;
    troubled.say(
        1,
        &ToCoordinator::ShardFailed {
            version: 3,
            message: "the disk is full".into(),
        },
    )?;
    troubled
        .line("4 {}")
        .line("t")
        .line("t")
        .line("t")
        .line("t")
        .line("t")
        .line("t");
    troubled.say(
        0,
        &ToCoordinator::NonFinite {
            step: 1,
            place: "leaf 3".into(),
            value: "NaN".into(),
        },
    )?;
    out.put("control", "troubled", troubled.0)?;
    out.put("control", "to-a-worker", to_a_worker()?.0)
}

fn to_a_worker() -> Result<Script> {
    let mut script = Script::default();
    let view = View {
        epoch: 1,
        rank: Some(0),
        members: 2,
        limit: 4,
        servers: vec!["server-0:7000".into(), "server-1:7000".into()],
    };
    let members = vec![Pusher {
        index: 0,
        incarnation: 7,
    }];
    let blocks = vec![Block(RowSet::Validation, 0), Block(RowSet::Train, 1)];
    let epochs = vec![EpochRecord {
        epoch: 0,
        step: 2,
        train_loss: 0.5,
        validation: None,
    }];
    for message in [
        FromCoordinator::Welcome { generation: 3 },
        FromCoordinator::View(view),
        FromCoordinator::Passes(Passes { limit: 4, members }),
        FromCoordinator::Evaluate(Evaluate {
            id: 1,
            version: 0,
            scores: false,
            blocks,
        }),
        FromCoordinator::Open {
            facts: facts(0)?,
            manifest: None,
        },
        FromCoordinator::Halt { id: 1 },
        FromCoordinator::Epochs { epochs },
        FromCoordinator::Progress(Box::default()),
        FromCoordinator::Refused {
            reason: "it is another job".into(),
            again: false,
        },
        FromCoordinator::Release(Release::Failed {
            message: "the loss is NaN".into(),
        }),
    ] {
        script.tell(&message)?;
    }
    Ok(script)
}
