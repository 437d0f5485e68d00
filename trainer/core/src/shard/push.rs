//! Pushes, and which of them cannot be true.

use crate::round::Tally;
use crate::tree::Node;

/// Why a push, or a worker, is refused; its connection is closed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not one of ours.
    #[error("chunk {0} is not owned by this server")]
    Chunk(u32),
    /// Not a node of the tree.
    #[error("node {0} is not in the reduction tree")]
    Node(u32),
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
