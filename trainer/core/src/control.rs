//! The messages of the control stream between the coordinator and everyone else.
//!
//! They travel as JSON in `Control` frames ([`crate::wire`]). Nothing here is sent per step by a
//! worker: losses ride on the push headers, and assignment is a pure function of the membership
//! in a [`View`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use trainyard_contract::Member;
pub use trainyard_contract::Progress;

use crate::facts::DataFacts;
use crate::json;
use crate::manifest::{Manifest, ShardRecord};
use crate::metrics::BlockResult;
use crate::record::EpochRecord;
use crate::shard::Passes;

/// Rows in one block of an evaluation pass. Fixed, because the bits of a forward pass may depend
/// on the number of rows in it.
pub const EVALUATION_BLOCK_ROWS: u64 = 1024;

/// Who a peer says it is: a server, a worker, or an observer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", content = "index")]
pub enum Role {
    /// Owner of the `index`-th range of chunks.
    Server(u32),
    /// Computes leaves.
    Worker(u32),
    /// Watches progress and may ask for a stop: `trainyard run`.
    Observer,
}

impl Role {
    /// A member as users are told of it: `server 0`. An observer is none.
    pub fn name(self) -> Option<String> {
        self.member().map(Member::in_words)
    }

    /// The member that has it. An observer is none.
    pub fn member(self) -> Option<Member> {
        match self {
            Role::Server(index) => Some(Member::server(index)),
            Role::Worker(index) => Some(Member::worker(index)),
            Role::Observer => None,
        }
    }
}

/// The first message on a control stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Join {
    /// Role and index of the sender.
    pub role: Role,
    /// Random number that tells this process life from any other under the same index.
    pub incarnation: u64,
    /// Highest generation the sender knows.
    pub generation: u32,
    /// Generation that the sender was started with.
    pub born: u32,
    /// Digest of all that determines the model: task, model, data options, training.
    pub spec_digest: String,
    /// Workers: the numeric capability (libtorch build, CPU kernels, thread settings).
    pub capability: Option<String>,
    /// Workers: facts about the data they loaded.
    pub facts: Option<Arc<DataFacts>>,
    /// Workers: what the user should know of the data and the job, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Servers: where workers reach their bulk port.
    pub address: Option<String>,
    /// Servers whose control stream broke while their state is intact: the version they hold.
    ///
    /// What was said on the broken stream may be lost. So once welcomed under the same generation,
    /// such a server says again which version it has applied, and
    /// [which shards it wrote](crate::coordinator::Reports).
    pub ready: Option<u64>,
}

impl Join {
    /// Whether this is the process that has introduced itself as `role`, in this start of it.
    pub fn is_by(&self, role: Role, incarnation: u64) -> bool {
        (self.role, self.incarnation) == (role, incarnation)
    }
}

/// What a worker needs to know to compute, sent when membership or the limit changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// Counts membership changes within a generation.
    pub epoch: u64,
    /// This worker's place among the members, or none if it computes nothing for now.
    pub rank: Option<u32>,
    /// Number of members that share the leaves.
    pub members: u32,
    /// Steps `>= limit` may not be begun.
    pub limit: u64,
    /// Bulk addresses of the servers, in index order.
    pub servers: Vec<String>,
}

/// Which rows an evaluation block is cut from.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RowSet {
    /// Training rows in file order.
    Train,
    /// Validation rows in file order.
    Validation,
    /// Test rows in file order.
    Test,
}

impl RowSet {
    /// Its name in messages to people.
    pub fn name(self) -> &'static str {
        match self {
            RowSet::Train => "training",
            RowSet::Validation => "validation",
            RowSet::Test => "test",
        }
    }
}

/// One block of an evaluation pass: rows `block * 1024 ..` of a set.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Block(pub RowSet, pub u64);

/// Blocks of an evaluation pass that a worker is to compute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evaluate {
    /// Names this pass in the answer.
    pub id: u64,
    /// The version to evaluate.
    pub version: u64,
    /// Whether the scores of all classes are wanted of validation and test rows, for a report ([`Detail::Scores`](crate::metrics::Detail::Scores)).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub scores: bool,
    /// The blocks to compute.
    pub blocks: Vec<Block>,
}

/// How a peer's part in the job ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Release {
    /// The job is complete.
    Done,
    /// Everything is checkpointed and stopped on request.
    Stopped,
    /// This peer asked to leave and is no longer needed; the job goes on.
    Drained,
    /// The job cannot succeed; trying again will not help.
    Failed {
        /// One sentence: what happened and what to do.
        message: String,
    },
}

/// What peers tell the coordinator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum ToCoordinator {
    /// Must be first.
    Join(Join),
    /// "I am alive."
    Heartbeat,
    /// A server finished loading, or a worker holds its first whole version.
    Ready {
        /// The version held.
        version: u64,
        /// Servers: chunks in the range; a server without any takes no part in versions.
        chunks: u32,
    },
    /// Every chunk of this server's range has reached `version`.
    Applied {
        /// The version reached.
        version: u64,
    },
    /// This server's part of the checkpoint of `version` is durable.
    ShardWritten {
        /// The version written.
        version: u64,
        /// The shard's record.
        #[serde(serialize_with = "json::sorted")]
        record: ShardRecord,
    },
    /// This server could not write its part of a checkpoint.
    ShardFailed {
        /// The version that failed.
        version: u64,
        /// Why, in one sentence.
        message: String,
    },
    /// Answer to [`FromCoordinator::Snapshot`]: some chunk has moved past that version.
    SnapshotMissed {
        /// The version asked for.
        version: u64,
    },
    /// Results of evaluation blocks.
    Blocks {
        /// The evaluation's id.
        id: u64,
        /// Finished blocks.
        results: Vec<(Block, BlockResult)>,
    },
    /// Answer to [`FromCoordinator::Halt`]: the first step this worker has not begun.
    Halted {
        /// The halt's id.
        id: u64,
        /// First step not begun.
        next: u64,
    },
    /// A loss is NaN or infinite; the gradient was not pushed.
    NonFinite {
        /// The step, or the version under evaluation.
        step: u64,
        /// Where: `leaf 3`, `validation block 0`.
        place: String,
        /// The value, as text.
        value: String,
    },
    /// This process was asked to terminate and wants to be released.
    Drain,
    /// Answer to [`FromCoordinator::Stalled`]: the leaves that this server lacks of the step in progress.
    LeavesMissing {
        /// The question's id.
        id: u64,
        /// Leaves that some chunk lacks, in order.
        leaves: Vec<u32>,
        /// Whether training waits here for the storage to take a checkpoint.
        saving: bool,
    },
    /// Answer to [`FromCoordinator::Stalled`]: the servers whose parameters this worker lacks.
    ServersAwaited {
        /// The question's id.
        id: u64,
        /// Their indices, in order.
        servers: Vec<u32>,
    },
    /// From an observer: checkpoint and stop the job.
    Stop,
    /// This peer met an error that will repeat anywhere.
    Failed {
        /// One sentence.
        message: String,
    },
}

/// What the coordinator tells its peers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum FromCoordinator {
    /// The join is accepted.
    Welcome {
        /// The generation in force.
        generation: u32,
    },
    /// The join is refused; the difference is named.
    Refused {
        /// One sentence.
        reason: String,
        /// Whether a later process in the same place may be welcome.
        #[serde(default)]
        again: bool,
    },
    /// To a server: set up your range from these facts and this checkpoint.
    Open {
        /// Facts of the data.
        facts: Arc<DataFacts>,
        /// The manifest to load, or none to initialize.
        #[serde(serialize_with = "json::sorted")]
        manifest: Option<Arc<Manifest>>,
    },
    /// To a worker: membership, limit, addresses.
    View(View),
    /// To a server: which pushes to let through. Sent before workers hear of the same in their views.
    Passes(Passes),
    /// To a worker: evaluate these blocks on `version`.
    Evaluate(Evaluate),
    /// To a server: checkpoint `version`, which you hold and nobody is changing.
    Snapshot {
        /// The version held.
        version: u64,
    },
    /// To a server: publish the parameters of this checkpoint as `version`.
    Restore {
        /// The version number to publish it under.
        version: u64,
        /// The checkpoint's manifest.
        #[serde(serialize_with = "json::sorted")]
        manifest: Arc<Manifest>,
    },
    /// To a worker: begin no further step, and say where you stopped.
    Halt {
        /// Names this halt in the answer.
        id: u64,
    },
    /// The job has not moved on from `version` for long: say what you wait for. Who does not answer within
    /// the heartbeat timeout is taken to be stuck.
    Stalled {
        /// Names this question in the answer.
        id: u64,
        /// The version that the job is at.
        version: u64,
    },
    /// "I am alive": whoever hears nothing for the heartbeat timeout looks for the coordinator anew.
    Heartbeat,
    /// You may go.
    Release(Release),
    /// To an observer: where the job is.
    Progress(Box<Progress>),
    /// To an observer: epochs that were finished, each once on a connection, in order. An observer that
    /// joins hears of those of before too, as far as the record keeps them.
    Epochs {
        /// The epochs, oldest first.
        epochs: Vec<EpochRecord>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Peers of another build read it, if only to be refused.
    #[test]
    fn peers_say_who_they_are() {
        let json = |role: Role| serde_json::to_string(&role).expect("JSON");
        assert_eq!(json(Role::Server(1)), r#"{"kind":"server","index":1}"#);
        assert_eq!(json(Role::Worker(3)), r#"{"kind":"worker","index":3}"#);
        assert_eq!(json(Role::Observer), r#"{"kind":"observer"}"#);
    }

    #[test]
    fn what_observers_are_told_can_be_written_and_read() {
        let record = EpochRecord {
            epoch: 1,
            step: 30,
            train_loss: 0.5,
            validation: None,
        };
        let messages = [
            FromCoordinator::Epochs {
                epochs: vec![record],
            },
            FromCoordinator::Progress(Box::default()),
        ];
        for message in messages {
            let text = serde_json::to_string(&message).expect("JSON");
            let read: FromCoordinator = serde_json::from_str(&text).expect("a message");
            assert_eq!(read, message);
        }
    }
}
