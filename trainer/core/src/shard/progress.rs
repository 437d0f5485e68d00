//! What the chunks of a shard share: the version that all have reached, and the next snapshot.

use super::{Chunk, Part, Rules, Snapshot};
use crate::coordinator::checkpoint_due;

/// What follows from a chunk's new version.
#[derive(Debug)]
pub struct Reached {
    /// The version, if this chunk is the last to reach it.
    pub whole: Option<u64>,
    /// The shard at a checkpoint version, if this chunk is the last to come to it.
    pub snapshot: Option<Snapshot>,
}

/// How far the chunks of a shard have come together.
#[derive(Debug)]
pub struct Progress {
    chunks: usize,
    /// The version that every chunk has reached.
    version: u64,
    /// How many chunks have reached which version, the newest that any has.
    newest: (usize, u64),
    collecting: Option<Collecting>,
}

/// A snapshot that not every chunk has come to.
#[derive(Debug)]
struct Collecting {
    version: u64,
    parts: Vec<Option<Part>>,
}

impl Progress {
    /// All of `chunks` chunks at `version`.
    pub fn new(chunks: usize, version: u64) -> Self {
        Progress {
            chunks,
            version,
            newest: (0, version),
            collecting: None,
        }
    }

    /// The version that every chunk has reached.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many chunks have reached which version, the newest that any has.
    pub fn newest(&self) -> (usize, u64) {
        self.newest
    }

    /// A chunk has applied a step. Told before anybody sees its new version, so that the count of one
    /// version is over before a push for the next can come.
    pub fn applied(&mut self, rules: &Rules, chunk: &Chunk) -> Reached {
        Reached {
            snapshot: self.collect(rules, chunk),
            whole: self.reach(chunk.version()),
        }
    }

    /// A chunk was given other parameters. No checkpoint is made of them: they came from one.
    pub fn replaced(&mut self, chunk: &Chunk) -> Reached {
        Reached {
            snapshot: None,
            whole: self.reach(chunk.version()),
        }
    }

    fn reach(&mut self, version: u64) -> Option<u64> {
        if self.newest.1 != version {
            self.newest = (0, version);
        }
        self.newest.0 += 1;
        let whole = self.newest.0 == self.chunks;
        if whole {
            self.version = version;
        }
        whole.then_some(version)
    }

    /// Adds a chunk at a checkpoint version to the snapshot of that version; returns the snapshot if
    /// it is whole.
    fn collect(&mut self, rules: &Rules, chunk: &Chunk) -> Option<Snapshot> {
        let version = chunk.version();
        if !checkpoint_due(
            &rules.plan,
            rules.checkpoint_every,
            rules.early_stopping,
            version,
        ) {
            return None;
        }
        let mut open = self
            .collecting
            .take()
            .filter(|open| open.version == version);
        let parts = &mut open
            .get_or_insert_with(|| Collecting {
                version,
                parts: vec![None; self.chunks],
            })
            .parts;
        parts[(chunk.id() - rules.chunks.start) as usize] = Some(chunk.part());
        let whole = parts.iter().all(Option::is_some);
        self.collecting = open;
        let parts = self.collecting.take_if(|_| whole)?.parts;
        Some(Snapshot {
            version,
            parts: parts.into_iter().flatten().collect(),
        })
    }
}
