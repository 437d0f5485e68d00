//! Pushes, and which of them cannot be true.

use super::Rules;
use crate::round::Tally;
use crate::tree::Node;
use crate::wire::{Body, Fence, Header, Kind};

/// Why a push, or a worker, is refused; its connection is closed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not one of ours.
    #[error("chunk {0} is not owned by this server")]
    Chunk(u32),
    /// Not a node of the tree.
    #[error("node {0} is not in the reduction tree")]
    Node(u32),
    /// Another frame than a push.
    #[error("a {0:?} frame on a connection for pushes")]
    Kind(Kind),
    /// Of another job or generation.
    #[error("a push of {0:?} origin")]
    Origin(Fence),
    /// The payload does not fit the chunk.
    #[error("chunk {chunk} holds {expected} floats, the push {actual}")]
    Length {
        /// The chunk.
        chunk: u32,
        /// Floats it holds.
        expected: usize,
        /// Floats received.
        actual: usize,
    },
    /// A push for a step whose parameters nobody has.
    #[error("a push for step {step} of chunk {chunk}, at version {version}")]
    Future {
        /// The chunk.
        chunk: u32,
        /// The push's step.
        step: u64,
        /// The chunk's version.
        version: u64,
    },
    /// A push for a step that workers may not begin.
    #[error("a push for step {step}, and steps from {limit} on may not be begun")]
    Limit {
        /// The push's step.
        step: u64,
        /// The first step that may not be begun.
        limit: u64,
    },
    /// A push of leaves that are not the worker's to compute, or by one that is no member.
    #[error("worker {worker} pushes node {node}, and has not been given its leaves")]
    Leaves {
        /// Index of the worker.
        worker: u32,
        /// The node.
        node: u32,
    },
    /// A push whose loss is no number, or larger than that of any rows. Workers tell the coordinator of such a step, and
    /// do not push it.
    #[error("a push for step {step}, node {node}, with a loss of {loss}")]
    Loss {
        /// The step.
        step: u64,
        /// The node.
        node: u32,
        /// The loss, as text: NaN is not equal to itself.
        loss: String,
    },
    /// A worker says that it holds a version that the chunk has not reached: it comes from another run of
    /// the job, before this server was set up.
    #[error("a worker holds version {held} of chunk {chunk}, which is at version {version}")]
    Held {
        /// The chunk.
        chunk: u32,
        /// What the worker says.
        held: u64,
        /// The chunk's version.
        version: u64,
    },
    /// The rows are not those of the node's leaves.
    #[error("node {node} has {expected} rows in step {step}, the push {actual}")]
    Rows {
        /// The step.
        step: u64,
        /// The node.
        node: u32,
        /// Rows of the node's leaves.
        expected: u64,
        /// Rows of the push.
        actual: u64,
    },
    /// The parts of a chunk have different lengths; cannot happen.
    #[error(transparent)]
    Lengths(#[from] crate::optimizer::LengthError),
}

/// A push without its payload.
#[derive(Copy, Clone, Debug)]
pub struct Push {
    /// The step.
    pub step: u64,
    /// The node of the tree.
    pub node: Node,
    /// The chunk.
    pub chunk: u32,
    /// Rows and loss sum.
    pub tally: Tally,
}

impl Push {
    /// The push that a header announces to the shard of `rules` in this job and generation. Its payload has
    /// the length of its chunk.
    ///
    /// # Errors
    /// A [`Refusal`] that names what is wrong with the header.
    pub fn announced(
        header: &Header,
        job: u64,
        generation: u32,
        rules: &Rules,
    ) -> Result<Push, Refusal> {
        let Body::Push {
            step,
            node,
            chunk,
            len,
            rows,
            loss,
        } = header.body
        else {
            return Err(Refusal::Kind(header.body.kind()));
        };
        let fence = header.fence(job, generation);
        if fence != Fence::Current {
            return Err(Refusal::Origin(fence));
        }
        let (expected, actual) = (rules.chunk_len(chunk)?, len as usize / 4);
        if actual != expected {
            return Err(Refusal::Length {
                chunk,
                expected,
                actual,
            });
        }
        let tally = Tally {
            rows: rows.into(),
            loss,
        };
        Ok(Push {
            step,
            node,
            chunk,
            tally,
        })
    }
}
