//! Digests of a job's state that do not depend on how many servers hold it.
//!
//! The digest of a section of the state (the parameters, or one slot of the optimizer) is the root
//! of the [`merkle`](crate::merkle) tree whose leaves are the arena's chunks: the little-endian F32
//! bytes of [`CHUNK`] floats each, fewer in the last. A server digests its own chunks only, and
//! reports the subtrees that cover them in its [`ShardRecord`].
//!
//! `optimizerSha256` puts the slots together: SHA-256 over, for each slot in order, the length of
//! its name (8 bytes, little-endian), its name in UTF-8, and its root (32 bytes).

use bytemuck::cast_slice;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::layout::CHUNK;
use crate::manifest::{Manifest, ShardRecord};
use crate::merkle::{Digest, Leaf, Subtrees};

const _: () = assert!(
    cfg!(target_endian = "little"),
    "floats are digested from memory as they are: little-endian machines only"
);

/// What the state after some step was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateDigests {
    /// Root of the parameters.
    pub parameters_sha256: Digest,
    /// Of the roots of the optimizer's slots; `None` if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer_sha256: Option<Digest>,
}

/// Digests one section of a range of the arena, chunk by chunk.
#[derive(Clone, Debug)]
pub struct SectionDigest {
    subtrees: Subtrees,
    leaf: Leaf,
    /// Floats that the leaf still takes.
    room: usize,
}

impl SectionDigest {
    /// One of a range that begins at this float of the arena; `None` if no chunk begins there.
    pub fn starting_at(float: usize) -> Option<Self> {
        float.is_multiple_of(CHUNK).then(|| SectionDigest {
            subtrees: Subtrees::starting_at((float / CHUNK) as u64),
            leaf: Leaf::new(),
            room: CHUNK,
        })
    }

    /// Adds the next floats, cut anywhere.
    pub fn update(&mut self, mut floats: &[f32]) {
        while !floats.is_empty() {
            let (now, later) = floats.split_at(floats.len().min(self.room));
            self.leaf.update(cast_slice(now));
            self.room -= now.len();
            floats = later;
            if self.room == 0 {
                self.close_leaf();
            }
        }
    }

    fn close_leaf(&mut self) {
        let leaf = std::mem::replace(&mut self.leaf, Leaf::new());
        self.subtrees.push(leaf.finish());
        self.room = CHUNK;
    }

    /// The subtrees that cover the range's chunks, of which the last may be short.
    pub fn finish(mut self) -> Vec<Digest> {
        if self.room < CHUNK {
            self.close_leaf();
        }
        self.subtrees.digests()
    }
}

impl Manifest {
    /// The digests of its state, from the records of its shards. `None` if a shard was written
    /// by a version that did not tell its subtrees.
    pub fn state_digests(&self) -> Option<StateDigests> {
        let parameters_sha256 = section_root(&self.shards, 0)?;
        let mut optimizer = Sha256::new();
        for (slot, name) in self.slots().iter().enumerate() {
            let root = section_root(&self.shards, 1 + slot)?;
            optimizer.update((name.len() as u64).to_le_bytes());
            optimizer.update(name);
            optimizer.update(root.bytes());
        }
        let has_slots = !self.slots().is_empty();
        Some(StateDigests {
            parameters_sha256,
            optimizer_sha256: has_slots.then(|| Digest::new(optimizer.finalize().into())),
        })
    }
}

/// Root of a section, the parameters being 0, given all shards in order.
fn section_root(shards: &[ShardRecord], section: usize) -> Option<Digest> {
    let chunk = CHUNK as u64;
    let mut subtrees = Subtrees::starting_at(0);
    for shard in shards.iter().filter(|shard| shard.start < shard.end) {
        // What ends within a chunk is the last, or the next one does not begin with a chunk.
        if !shard.start.is_multiple_of(chunk) {
            return None;
        }
        let chunks = shard.end.div_ceil(chunk) - shard.start / chunk;
        subtrees.append(chunks, shard.subtrees.get(section)?)?;
    }
    Some(subtrees.root())
}
