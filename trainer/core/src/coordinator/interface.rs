//! What the shell and the coordinator say to each other.

use std::sync::Arc;
use std::time::Duration;

use crate::control::{FromCoordinator, Role, ToCoordinator};
use crate::facts::DataFacts;
use crate::manifest::{FinalMetrics, Manifest, ShardRecord};
use crate::metrics::Task;
use crate::record::{EarlyStopping, Record};
use crate::round::Tally;

/// A control connection, as the shell numbers it. Numbers are never reused within a session.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// What a coordinator is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The generation in force.
    pub generation: u32,
    /// Servers of the job, this one included.
    pub servers: u32,
    /// Leaves of a step (V).
    pub leaves: u32,
    /// Global batch size.
    pub batch_size: u64,
    /// Passes over the data.
    pub epochs: u64,
    /// Seed of the job.
    pub seed: u64,
    /// The task.
    pub task: Task,
    /// Checkpoint at every multiple of this step.
    pub checkpoint_every: u64,
    /// Early stopping, if asked for.
    pub early_stopping: Option<EarlyStopping>,
    /// What a joining peer must agree with.
    pub spec_digest: String,
    /// A peer silent for this long is lost.
    pub heartbeat_timeout: Duration,
    /// How long a halt may take before the previous checkpoint has to do.
    pub grace: Duration,
}

/// The checkpoint a coordinator starts from.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its manifest.
    pub manifest: Arc<Manifest>,
    /// The manifest of the best epoch, if there is one.
    pub best: Option<Arc<Manifest>>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message from a peer; the first one of a peer must be `Join`.
    Message(PeerId, ToCoordinator),
    /// A peer sent a message that cannot be decoded.
    Undecodable {
        /// The connection.
        peer: PeerId,
        /// Who it introduced itself as.
        role: Role,
        /// What is wrong with the message.
        error: String,
    },
    /// A control connection ended.
    Closed(PeerId),
    /// Chunk 0 was reduced and applied: step `step` is counted.
    StepReduced {
        /// The step.
        step: u64,
        /// Its rows and loss sum.
        tally: Tally,
    },
    /// This manifest is committed: the answer to [`Commit::Checkpoint`] and [`Commit::Amend`].
    Committed(Arc<Manifest>),
    /// The final manifest is committed: the answer to [`Commit::Complete`].
    Completed,
    /// A manifest could not be committed.
    CommitFailed {
        /// Why, in one sentence.
        message: String,
    },
    /// A coordinator of a newer generation has claimed the log: this one has been replaced.
    Fenced,
    /// Time passes. Due several times within the heartbeat timeout, however busy the shell is.
    Tick,
}

/// How the coordinator's work ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The job is complete.
    Done,
    /// Stopped on request; `saved` says whether the very last step is checkpointed.
    Stopped {
        /// Whether the state at the stop is checkpointed.
        saved: bool,
    },
    /// Server 0 itself was drained, or has been replaced; the job goes on without it.
    Drained,
    /// Trying again will not help.
    Failed(String),
}

/// What to write to the log of checkpoints.
#[derive(Clone, Debug, PartialEq)]
pub enum Commit {
    /// A checkpoint whose shards are written.
    Checkpoint {
        /// The version.
        version: u64,
        /// Shard records in server order, without servers that own nothing.
        shards: Vec<ShardRecord>,
        /// The record at that version.
        record: Record,
        /// Whether `keep` must never delete it.
        best: bool,
        /// Facts of the data.
        facts: Arc<DataFacts>,
        /// Numeric capability that the job is computed with.
        capability: String,
    },
    /// The manifest `source` again, with this record and as the best.
    Amend {
        /// The newest committed manifest.
        source: Arc<Manifest>,
        /// The record at its version, now with validation metrics.
        record: Record,
    },
    /// The result: the manifest `source` again, marked complete.
    Complete {
        /// The manifest whose parameters are the result.
        source: Arc<Manifest>,
        /// The final record.
        record: Record,
        /// Metrics of the result.
        metrics: Box<FinalMetrics>,
    },
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send a message.
    Send(PeerId, FromCoordinator),
    /// Close a control connection after what was sent to it has left.
    Close(PeerId),
    /// Commit a manifest; answer with [`Event::Committed`] or [`Event::Completed`], or with
    /// [`Event::CommitFailed`].
    Commit(Box<Commit>),
    /// A peer brings a newer generation: begin again under it.
    Regenerate(u32),
    /// The coordinator's work is over.
    Finish(Outcome),
}
