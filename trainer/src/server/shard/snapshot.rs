//! The state of all chunks at one version, while they go on.

use std::sync::Arc;

use parking_lot::Mutex;

use trainyard_core::coordinator::checkpoint_due;

use super::{Chunk, Rules, Shard, lock};

/// A chunk's parameters, and its slots one after the other.
pub type Part = (Arc<Vec<f32>>, Arc<Vec<f32>>);

/// Parameters and optimizer state of a shard at one version, shared with the chunks until they
/// change.
#[derive(Debug)]
pub struct Snapshot {
    /// The version.
    pub version: u64,
    /// For each chunk of the shard.
    pub parts: Vec<Part>,
}

/// A snapshot that not every chunk has come to.
#[derive(Debug)]
pub(super) struct Collecting {
    version: u64,
    parts: Vec<Option<Part>>,
    left: usize,
}

impl Shard {
    /// Adds a chunk that has just reached a checkpoint version to the snapshot of that version, under
    /// the chunk's lock; returns the snapshot if it is whole.
    pub(super) fn collect(&self, id: u32, chunk: &Chunk) -> Option<Snapshot> {
        let Rules {
            plan,
            checkpoint_every,
            early_stopping,
            ..
        } = &self.rules;
        if !checkpoint_due(plan, *checkpoint_every, *early_stopping, chunk.version) {
            return None;
        }
        let count = self.chunks.len();
        let mut collecting = lock(&self.collecting);
        let fresh = || Collecting {
            version: chunk.version,
            parts: vec![None; count],
            left: count,
        };
        let snapshot = match &mut *collecting {
            Some(open) if open.version == chunk.version => open,
            other => other.insert(fresh()),
        };
        let part = (Arc::clone(&chunk.current), Arc::clone(&chunk.state));
        if snapshot.parts[(id - self.rules.chunks.start) as usize]
            .replace(part)
            .is_none()
        {
            snapshot.left -= 1;
        }
        if snapshot.left > 0 {
            return None;
        }
        let Collecting { version, parts, .. } = collecting.take()?;
        let parts = parts.into_iter().flatten().collect();
        Some(Snapshot { version, parts })
    }

    /// The state at `version`, if that is where every chunk is.
    pub fn snapshot(&self, version: u64) -> Option<Snapshot> {
        let part = |slot: &Mutex<Chunk>| {
            let chunk = lock(slot);
            (chunk.version == version)
                .then(|| (Arc::clone(&chunk.current), Arc::clone(&chunk.state)))
        };
        let parts: Option<Vec<_>> = self.chunks.iter().map(part).collect();
        Some(Snapshot {
            version,
            parts: parts?,
        })
    }
}
