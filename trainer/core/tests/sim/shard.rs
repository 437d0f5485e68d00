//! A simulated server's shell: the real chunks, progress and feeds, and what must be true of them.

use std::collections::BTreeMap;

use trainyard_core::round::Tally;
use trainyard_core::shard::{
    Chunk, Feed, Gate, Held, Part, Progress, Push, Reached, Refusal, Rules, Shared, Snapshot,
    Taken, missing_leaves,
};

use super::reference::Reference;
use super::toy::{Toy, bits};

pub enum Notice {
    Late,
    Reduced {
        step: u64,
        tally: Tally,
    },
    Applied(u64),
    Snapshot(Snapshot),
    /// A chunk has a new version.
    Published(u32),
}

pub struct Shard {
    pub rules: Rules,
    pub gate: Gate,
    chunks: Vec<Chunk>,
    progress: Progress,
    /// By the number of the bulk connection, with whether something is under way on it.
    feeds: BTreeMap<u64, (Feed, bool)>,
    /// The version that is the restored best, if there is one.
    restored: Option<u64>,
}

impl Shard {
    pub fn new(rules: Rules, version: u64, parts: &[Part]) -> Shard {
        let parameters = parameters(parts);
        let slot = |slot: usize| {
            let part = |(p, s): &Part| s[slot * p.len()..(slot + 1) * p.len()].to_vec();
            parts.iter().flat_map(part).collect()
        };
        let state: Vec<Vec<f32>> = (0..rules.optimizer.slots().len()).map(slot).collect();
        let chunks = rules.chunks_at(version, &parameters, &state).unwrap();
        Shard {
            progress: Progress::new(chunks.len(), version),
            gate: Gate::new(rules.tree),
            rules,
            chunks,
            feeds: BTreeMap::new(),
            restored: None,
        }
    }

    pub fn version(&self) -> u64 {
        self.progress.version()
    }

    /// Leaves that the step in progress lacks.
    pub fn missing(&self) -> Vec<u32> {
        missing_leaves(&self.chunks, self.version())
    }

    /// The version that all chunks have reached is counted right.
    fn check_progress(&self) {
        let slowest = self.chunks.iter().map(Chunk::version).min();
        let version = self.version();
        assert!(
            slowest.is_none_or(|slowest| slowest == version),
            "{version} is not whole"
        );
    }

    fn chunk(&mut self, id: u32) -> &mut Chunk {
        &mut self.chunks[(id - self.rules.chunks.start) as usize]
    }

    pub fn snapshot(&self, version: u64) -> Option<Snapshot> {
        let parts = self.chunks.iter();
        Snapshot::at(version, parts.map(|chunk| (chunk.version(), chunk.part())))
    }

    pub fn restore(&mut self, version: u64, parts: &[Part]) -> Vec<Notice> {
        let parameters = parameters(parts);
        self.restored = Some(version);
        let mut notices = Vec::new();
        for chunk in &mut self.chunks {
            let part = self.rules.part(chunk.id(), &parameters).unwrap();
            if chunk.replace(version, part) {
                let reached = self.progress.replaced(chunk);
                notices.extend(published(chunk.id(), reached));
            }
        }
        self.check_progress();
        notices
    }

    /// Takes a push. What becomes of it is checked against the reference at once.
    pub fn push(
        &mut self,
        toy: &Toy,
        reference: &Reference,
        push: &Push,
        values: Vec<f32>,
    ) -> Result<Vec<Notice>, Refusal> {
        let reached = self.version();
        let at = (push.chunk - self.rules.chunks.start) as usize;
        let chunk = &mut self.chunks[at];
        let taken = chunk.take(&self.rules, reached, push, values, Vec::new);
        let tally = match taken? {
            Taken::Late(_) => return Ok(vec![Notice::Late]),
            Taken::Duplicate(_) | Taken::Held { .. } => return Ok(Vec::new()),
            Taken::Applied { tally, .. } => tally,
        };
        let (id, step) = (push.chunk, push.step);
        check(toy, reference, chunk, step, tally);
        let reached = self.progress.applied(&self.rules, chunk);
        let mut notices = Vec::new();
        if id == 0 {
            notices.push(Notice::Reduced { step, tally });
        }
        notices.extend(published(id, reached));
        self.check_progress();
        Ok(notices)
    }

    /// A new bulk connection; all that is held is under way on it.
    pub fn subscribe(&mut self, number: u64, index: u32, of: u32, held: &Held) {
        let chunks = self.rules.chunks.clone();
        let version = |chunk: u32| self.chunks[(chunk - chunks.start) as usize].version();
        let feed = Feed::new(chunks.clone(), index, of, held, version);
        let feed = feed.unwrap_or_else(|refusal| panic!("{refusal}"));
        self.feeds.insert(number, (feed, true));
    }

    /// Offers a chunk to a bulk connection; returns whether nothing was under way on it.
    pub fn offer(&mut self, number: u64, chunk: u32) -> bool {
        let Some((feed, busy)) = self.feeds.get_mut(&number) else {
            return false;
        };
        feed.offer(chunk) && !std::mem::replace(busy, true)
    }

    /// What is to be sent next on a bulk connection, if anything: versions of one chunk.
    pub fn send(
        &mut self,
        toy: &Toy,
        reference: &Reference,
        number: u64,
    ) -> Option<(u32, Vec<(u64, Shared)>)> {
        let (feed, busy) = self.feeds.get_mut(&number)?;
        let next = feed.take();
        *busy = next.is_some();
        let chunk = next?;
        let versions = self.chunk(chunk).versions();
        let (feed, _) = self.feeds.get_mut(&number)?;
        let unsent = feed.unsent(chunk, versions).into_iter().flatten();
        let unsent = unsent.map(|version| (version.number, version.values));
        let unsent: Vec<(u64, Shared)> = unsent.collect();
        let restored = unsent.iter().filter(|(v, _)| self.restored == Some(*v));
        for (_, values) in restored {
            let result = &reference.parameters[reference.result as usize];
            let result = &result[toy.chunk_range(chunk)];
            assert_eq!(bits(values), bits(result), "the restored best");
        }
        Some((chunk, unsent))
    }
}

/// The parameters of chunks, one after the other.
pub fn parameters(parts: &[Part]) -> Vec<f32> {
    let chunks = parts.iter();
    chunks.flat_map(|(p, _)| p.iter().copied()).collect()
}

/// In the order in which the trainer's shell tells it.
fn published(chunk: u32, reached: Reached) -> impl Iterator<Item = Notice> {
    let snapshot = reached.snapshot.map(Notice::Snapshot).into_iter();
    let whole = reached.whole.map(Notice::Applied);
    snapshot.chain([Notice::Published(chunk)]).chain(whole)
}

/// A chunk that has applied `step` has the reference's bits.
fn check(toy: &Toy, reference: &Reference, chunk: &Chunk, step: u64, tally: Tally) {
    let expected = reference.tallies[step as usize];
    assert_eq!(tally.rows, expected.rows, "rows of step {step}");
    let loss = (tally.loss.to_bits(), expected.loss.to_bits());
    assert_eq!(loss.0, loss.1, "loss of step {step}");
    assert_eq!(chunk.version(), step + 1, "a step is applied once");
    let id = chunk.id();
    let (ours, slots) = chunk.part();
    let (parameters, state) = reference.chunk(toy, id, step + 1);
    assert_eq!(
        bits(&ours),
        bits(parameters),
        "parameters of chunk {id} after step {step}"
    );
    assert_eq!(
        bits(&slots),
        bits(&state),
        "state of chunk {id} after step {step}"
    );
}
