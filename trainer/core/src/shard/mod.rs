//! A server's range of chunks: what it takes, adds up, applies and gives out.
//!
//! State machines without locks, sockets or clocks. The shell locks each [`Chunk`] by itself, so that
//! connections do not wait for each other, and the [`Progress`] that all chunks share for moments
//! only. The simulation drives the same code one event at a time.
//!
//! A push is offered to its chunk. The one that completes the round applies the optimizer at once,
//! while the sum is in the cache, and the chunk has its next version. Versions are shared buffers: a
//! feed that is sending one and a snapshot that is being written keep it alive, nobody waits for
//! them, and the optimizer takes a fresh one.

mod chunk;
mod feed;
mod gate;
mod held;
mod progress;
mod push;

use std::collections::BTreeSet;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::layout::Layout;
use crate::optimizer::{LengthError, Optimizer};
use crate::sampling::Plan;
use crate::schedule::LearningRate;
use crate::tree::Tree;
use crate::wire::{as_bytes, checksum};

pub use chunk::{Chunk, Taken};
pub use feed::Feed;
pub use gate::{Gate, Judgement, Passes, Pusher};
pub use held::Held;
pub use progress::{Progress, Reached};
pub use push::{Push, Refusal};

/// Floats that several hold and nobody changes.
pub type Shared = Arc<Vec<f32>>;

/// A chunk's parameters as every worker gets them.
#[derive(Clone, Debug)]
pub struct Version {
    /// The number of steps applied to them.
    pub number: u64,
    /// The parameters.
    pub values: Shared,
    /// Of their bytes, as frames that carry them have it: computed once, when they have just been
    /// written, and not for each worker, when they have left the cache.
    pub checksum: u32,
}

impl Version {
    /// A version with its checksum.
    pub fn new(number: u64, values: Shared) -> Self {
        let checksum = checksum(as_bytes(&values));
        Version {
            number,
            values,
            checksum,
        }
    }
}

/// The versions of a chunk that a worker may need, oldest first.
pub type Versions = [Option<Version>; 2];

/// A chunk's parameters, and its slots one after the other.
pub type Part = (Shared, Shared);

/// Parameters and optimizer state of a shard at one version, shared with the chunks until they
/// change.
#[derive(Debug)]
pub struct Snapshot {
    /// The version.
    pub version: u64,
    /// For each chunk of the shard.
    pub parts: Vec<Part>,
}

/// What never changes about a shard.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The arena.
    pub layout: Layout,
    /// Chunks owned.
    pub chunks: Range<u32>,
    /// Leaves of a step.
    pub tree: Tree,
    /// Steps of the job.
    pub plan: Plan,
    /// Update rule.
    pub optimizer: Optimizer,
    /// Learning rate of each step.
    pub learning_rate: LearningRate,
    /// Checkpoint at multiples of this.
    pub checkpoint_every: u64,
    /// Whether every epoch's end is checkpointed.
    pub early_stopping: bool,
}

impl Rules {
    /// The range of floats owned.
    pub fn floats(&self) -> Range<usize> {
        self.layout.floats(&self.chunks)
    }

    /// The floats of an owned chunk, counted from the first that is owned.
    fn local(&self, chunk: u32) -> Range<usize> {
        let (first, range) = (self.floats().start, self.layout.chunk_range(chunk));
        range.start - first..range.end - first
    }

    /// Length of an owned chunk.
    ///
    /// # Errors
    /// [`Refusal::Chunk`] if it is not owned.
    pub fn chunk_len(&self, chunk: u32) -> Result<usize, Refusal> {
        if !self.chunks.contains(&chunk) {
            return Err(Refusal::Chunk(chunk));
        }
        Ok(self.layout.chunk_range(chunk).len())
    }

    /// The chunks at `version`, with `parameters` and `state` (slot after slot, each as long as the
    /// parameters) over the range of floats.
    ///
    /// # Errors
    /// If a length is wrong.
    pub fn chunks_at(
        &self,
        version: u64,
        parameters: &[f32],
        state: &[Vec<f32>],
    ) -> Result<Vec<Chunk>, LengthError> {
        let expected = self.floats().len();
        let slots = state.iter().map(|slot| ("state", slot.len()));
        let mut lengths = std::iter::once(("parameters", parameters.len())).chain(slots);
        if let Some((name, actual)) = lengths.find(|(_, actual)| *actual != expected) {
            return Err(LengthError {
                name,
                actual,
                expected,
            });
        }
        let chunk = |id| {
            let local = self.local(id);
            let slots = state.iter().flat_map(|slot| &slot[local.clone()]);
            let part = (
                Arc::new(parameters[local.clone()].to_vec()),
                Arc::new(slots.copied().collect()),
            );
            Chunk::new(id, self.tree, version, part)
        };
        Ok(self.chunks.clone().map(chunk).collect())
    }

    /// Of `parameters` over the range of floats, those of an owned chunk.
    ///
    /// # Errors
    /// [`Refusal::Length`] if there are not as many parameters as the shard owns.
    pub fn part<'a>(&self, chunk: u32, parameters: &'a [f32]) -> Result<&'a [f32], Refusal> {
        let expected = self.floats().len();
        let part = parameters.get(self.local(chunk));
        match part.filter(|_| parameters.len() == expected) {
            Some(part) => Ok(part),
            None => Err(Refusal::Length {
                chunk,
                expected,
                actual: parameters.len(),
            }),
        }
    }
}

/// The leaves that some chunk at `version` lacks, in order, of chunks of a shard.
pub fn missing_leaves<C: Deref<Target = Chunk>>(
    chunks: impl IntoIterator<Item = C>,
    version: u64,
) -> Vec<u32> {
    let mut leaves = BTreeSet::new();
    for chunk in chunks {
        if chunk.version() == version {
            leaves.extend(chunk.missing());
        }
    }
    leaves.into_iter().collect()
}

impl Snapshot {
    /// The state at `version`, if that is where every chunk is; `parts` has each chunk's version and
    /// part, in order.
    pub fn at(version: u64, parts: impl IntoIterator<Item = (u64, Part)>) -> Option<Self> {
        let here = |(at, part)| (at == version).then_some(part);
        let parts: Option<Vec<_>> = parts.into_iter().map(here).collect();
        Some(Snapshot {
            version,
            parts: parts?,
        })
    }
}
