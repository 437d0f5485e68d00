//! A server's range of chunks: receive, accumulate, optimize, publish.
//!
//! A push is received into a buffer outside any lock, offered to the chunk's ledger under the
//! chunk's lock, and when that completes the round, the optimizer runs at once, while the sum is in
//! the cache. Versions are shared buffers: a feed that is sending one and a snapshot that is being
//! written keep it alive, nobody waits for them, and the optimizer takes a fresh one.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use trainyard_core::coordinator::checkpoint_due;
use trainyard_core::layout::{CHUNK, Layout};
use trainyard_core::optimizer::Optimizer;
use trainyard_core::round::{Offer, Round, Tally};
use trainyard_core::sampling::Plan;
use trainyard_core::schedule::LearningRate;
use trainyard_core::tree::{Node, Tree};

use super::feed::Feed;

/// Locks without minding a panic elsewhere: the data are plain floats, and a thread that panicked
/// takes the process down (see `exit::on_panic`).
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

/// What a shard tells the rest of the server.
#[derive(Debug)]
pub enum Notice {
    /// Chunk 0 has applied a step.
    StepReduced {
        /// The step.
        step: u64,
        /// Its rows and loss.
        tally: Tally,
    },
    /// All chunks have reached a version.
    Applied(u64),
    /// The shard's state at a checkpoint version.
    Snapshot(Snapshot),
}

/// Called with each [`Notice`] by the thread that caused it, which saves a thread's wake-up a step.
pub struct Notify(pub Box<dyn Fn(Notice) + Send + Sync>);

impl std::fmt::Debug for Notify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Notify")
    }
}

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

/// Counters for `/metrics`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Pushes whose step is over.
    pub late: AtomicU64,
    /// Pushes of nodes already counted.
    pub duplicates: AtomicU64,
    /// Pushes taken.
    pub pushes: AtomicU64,
    /// Bytes received in pushes.
    pub received: AtomicU64,
    /// Bytes sent as parameters.
    pub sent: AtomicU64,
    /// Connections dropped for what they sent.
    pub dropped: AtomicU64,
}

#[derive(Debug)]
struct Chunk {
    version: u64,
    current: Arc<Vec<f32>>,
    /// The version before, until a push for the next step shows that nobody needs it.
    previous: Option<Arc<Vec<f32>>>,
    state: Arc<Vec<f32>>,
    round: Round<Vec<f32>>,
}

/// A chunk's versions as a feed sends them: oldest first.
pub type Versions = [Option<(u64, Arc<Vec<f32>>)>; 2];

/// A server's range of chunks.
#[derive(Debug)]
pub struct Shard {
    rules: Rules,
    chunks: Vec<Mutex<Chunk>>,
    /// Chunks that have reached `version.1` (the newest version any has).
    applied: Mutex<(u32, u64)>,
    collecting: Mutex<Option<Collecting>>,
    feeds: RwLock<Vec<Arc<Feed>>>,
    spare: Mutex<Vec<Vec<f32>>>,
    notify: Notify,
    /// What happened on the data plane.
    pub counters: Counters,
}

#[derive(Debug)]
struct Collecting {
    version: u64,
    parts: Vec<Option<Part>>,
    left: usize,
}

/// Why a push is refused; its sender is dropped.
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
    #[error("a push for step {step} of chunk {chunk}, which is at version {version}")]
    Future {
        /// The chunk.
        chunk: u32,
        /// The push's step.
        step: u64,
        /// The chunk's version.
        version: u64,
    },
    /// Rows do not add up to the batch.
    #[error("step {step} has {expected} rows, the pushes sum to {actual}")]
    Rows {
        /// The step.
        step: u64,
        /// Rows of the batch.
        expected: u64,
        /// Rows received.
        actual: u64,
    },
    /// The parts of a chunk have different lengths; cannot happen.
    #[error(transparent)]
    Lengths(#[from] trainyard_core::optimizer::LengthError),
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

impl Shard {
    /// A shard at `version`, with `parameters` and `state` (slot after slot, each as long as the
    /// parameters) over its range of floats.
    ///
    /// # Errors
    /// If a length is wrong.
    pub fn new(
        rules: Rules,
        version: u64,
        parameters: &[f32],
        state: &[Vec<f32>],
        notify: Notify,
    ) -> Result<Self, trainyard_core::optimizer::LengthError> {
        let floats = float_range(&rules.layout, &rules.chunks);
        let wrong = |name, actual| trainyard_core::optimizer::LengthError {
            name,
            actual,
            expected: floats.len(),
        };
        if parameters.len() != floats.len() {
            return Err(wrong("parameters", parameters.len()));
        }
        if let Some(slot) = state.iter().find(|slot| slot.len() != floats.len()) {
            return Err(wrong("state", slot.len()));
        }
        let chunks = rules.chunks.clone().map(|chunk| {
            let range = rules.layout.chunk_range(chunk);
            let local = range.start - floats.start..range.end - floats.start;
            let slots: Vec<f32> = state
                .iter()
                .flat_map(|slot| slot[local.clone()].iter().copied())
                .collect();
            Mutex::new(Chunk {
                version,
                current: Arc::new(parameters[local].to_vec()),
                previous: None,
                state: Arc::new(slots),
                round: Round::new(rules.tree),
            })
        });
        let chunks = chunks.collect();
        Ok(Shard {
            chunks,
            rules,
            applied: Mutex::new((0, version)),
            collecting: Mutex::new(None),
            feeds: RwLock::default(),
            spare: Mutex::default(),
            notify,
            counters: Counters::default(),
        })
    }

    /// Chunks owned.
    pub fn chunks(&self) -> Range<u32> {
        self.rules.chunks.clone()
    }

    /// The range of floats owned.
    pub fn floats(&self) -> Range<usize> {
        float_range(&self.rules.layout, &self.rules.chunks)
    }

    /// The version that every chunk has reached.
    pub fn version(&self) -> u64 {
        self.chunks
            .iter()
            .map(|chunk| lock(chunk).version)
            .min()
            .unwrap_or(0)
    }

    fn chunk(&self, chunk: u32) -> Option<&Mutex<Chunk>> {
        self.chunks
            .get(chunk.checked_sub(self.rules.chunks.start)? as usize)
    }

    /// A buffer for a chunk's payload.
    pub fn buffer(&self) -> Vec<f32> {
        lock(&self.spare)
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(CHUNK))
    }

    fn recycle(&self, buffer: Vec<f32>) {
        let mut spare = lock(&self.spare);
        // More than this is never in use at once in a healthy job.
        if spare.len() < 2 * self.chunks.len() + 16 {
            spare.push(buffer);
        }
    }

    /// Length of a chunk of ours.
    ///
    /// # Errors
    /// [`Refusal::Chunk`] if it is not ours.
    pub fn chunk_len(&self, chunk: u32) -> Result<usize, Refusal> {
        if !self.rules.chunks.contains(&chunk) {
            return Err(Refusal::Chunk(chunk));
        }
        Ok(self.rules.layout.chunk_range(chunk).len())
    }

    /// Takes one push. Returns a buffer to receive the next one into.
    ///
    /// # Errors
    /// A [`Refusal`] if the push cannot be true; late and repeated pushes are no errors.
    pub fn push(&self, push: Push, payload: Vec<f32>) -> Result<Vec<f32>, Refusal> {
        let expected = self.chunk_len(push.chunk)?;
        if payload.len() != expected {
            return Err(Refusal::Length {
                chunk: push.chunk,
                expected,
                actual: payload.len(),
            });
        }
        let slot = self.chunk(push.chunk).ok_or(Refusal::Chunk(push.chunk))?;
        let mut chunk = lock(slot);
        self.counters.pushes.fetch_add(1, Ordering::Relaxed);
        if push.step < chunk.version {
            self.counters.late.fetch_add(1, Ordering::Relaxed);
            return Ok(payload);
        }
        if push.step > chunk.version {
            return Err(Refusal::Future {
                chunk: push.chunk,
                step: push.step,
                version: chunk.version,
            });
        }
        match chunk
            .round
            .offer(push.node, payload, push.tally, &mut |left, right| {
                add(left, right)
            }) {
            Offer::Invalid(_) => Err(Refusal::Node(push.node.get())),
            Offer::Duplicate(value) => {
                self.counters.duplicates.fetch_add(1, Ordering::Relaxed);
                Ok(value)
            }
            Offer::Held { freed } => {
                drop(chunk);
                Ok(self.reuse(freed))
            }
            Offer::Complete { sum, tally, freed } => {
                freed.into_iter().for_each(|buffer| self.recycle(buffer));
                self.apply(push.chunk, chunk, &sum, tally)?;
                Ok(sum)
            }
        }
    }

    fn reuse(&self, mut freed: Vec<Vec<f32>>) -> Vec<f32> {
        let first = freed.pop();
        freed.into_iter().for_each(|buffer| self.recycle(buffer));
        first.unwrap_or_else(|| self.buffer())
    }

    /// Applies a complete sum to a chunk and publishes the new version.
    fn apply(
        &self,
        id: u32,
        mut chunk: MutexGuard<'_, Chunk>,
        sum: &[f32],
        tally: Tally,
    ) -> Result<(), Refusal> {
        let step = chunk.version;
        let rows = self.rules.plan.position(step).rows;
        let expected = rows.end - rows.start;
        if tally.rows != expected {
            return Err(Refusal::Rows {
                step,
                expected,
                actual: tally.rows,
            });
        }
        // The version before last: free unless somebody is still sending it.
        let mut new = match chunk.previous.take().map(Arc::try_unwrap) {
            Some(Ok(buffer)) => buffer,
            _ => self.buffer(),
        };
        new.resize(sum.len(), 0.0);
        let Chunk { current, state, .. } = &mut *chunk;
        let lr = self.rules.learning_rate.at(step);
        let slots = Arc::make_mut(state); // copies while a snapshot holds it
        self.rules
            .optimizer
            .apply(step, lr, expected as f32, current, sum, slots, &mut new)?;
        let start = self.rules.layout.chunk_range(id).start;
        self.rules.layout.clear_padding(start, &mut new);
        self.advance(&mut chunk, new);
        let version = chunk.version;
        self.collect(id, &chunk);
        drop(chunk);
        if id == 0 {
            self.notify(Notice::StepReduced { step, tally });
        }
        self.publish(id, version);
        Ok(())
    }

    fn advance(&self, chunk: &mut Chunk, new: Vec<f32>) {
        chunk.version += 1;
        chunk.previous = Some(std::mem::replace(&mut chunk.current, Arc::new(new)));
    }

    /// Counts a chunk before it offers it: a push for the next version can only follow from the
    /// offers of all chunks, so the count of one version is over before that of the next begins.
    fn publish(&self, id: u32, version: u64) {
        let mut applied = lock(&self.applied);
        if applied.1 != version {
            *applied = (0, version);
        }
        applied.0 += 1;
        let whole = applied.0 as usize == self.chunks.len();
        drop(applied);
        for feed in self
            .feeds
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            feed.offer(id);
        }
        if whole {
            self.notify(Notice::Applied(version));
        }
    }

    fn notify(&self, notice: Notice) {
        (self.notify.0)(notice);
    }

    /// Adds a chunk that has just reached a checkpoint version to the snapshot of that version.
    fn collect(&self, id: u32, chunk: &Chunk) {
        let Rules {
            plan,
            checkpoint_every,
            early_stopping,
            ..
        } = &self.rules;
        if !checkpoint_due(plan, *checkpoint_every, *early_stopping, chunk.version) {
            return;
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
        let whole = if snapshot.left == 0 {
            collecting.take()
        } else {
            None
        };
        drop(collecting);
        if let Some(Collecting { version, parts, .. }) = whole {
            let parts = parts.into_iter().flatten().collect();
            self.notify(Notice::Snapshot(Snapshot { version, parts }));
        }
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

    /// Publishes other parameters as `version`, which must be newer than all.
    ///
    /// # Errors
    /// If there are not as many parameters as the shard owns.
    pub fn restore(&self, version: u64, parameters: &[f32]) -> Result<(), Refusal> {
        let floats = self.floats();
        for id in self.chunks() {
            let range = self.rules.layout.chunk_range(id);
            let local = range.start - floats.start..range.end - floats.start;
            let Some(values) = parameters.get(local) else {
                return Err(Refusal::Length {
                    chunk: id,
                    expected: floats.len(),
                    actual: parameters.len(),
                });
            };
            let Some(slot) = self.chunk(id) else { continue };
            let mut chunk = lock(slot);
            self.advance(&mut chunk, values.to_vec());
            chunk.version = version;
            drop(chunk);
            self.publish(id, version);
        }
        Ok(())
    }

    /// The versions of a chunk that a peer may need, oldest first.
    pub fn versions(&self, id: u32) -> Versions {
        let Some(slot) = self.chunk(id) else {
            return [None, None];
        };
        let chunk = lock(slot);
        let previous = chunk
            .previous
            .as_ref()
            .map(|buffer| (chunk.version - 1, Arc::clone(buffer)));
        [previous, Some((chunk.version, Arc::clone(&chunk.current)))]
    }

    /// Connects a feed: it gets every version from now on, and those that are held.
    pub fn subscribe(&self, feed: &Arc<Feed>) {
        self.feeds
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(feed));
        self.chunks().for_each(|chunk| feed.offer(chunk));
    }

    /// Disconnects a feed.
    pub fn unsubscribe(&self, feed: &Arc<Feed>) {
        let mut feeds = self.feeds.write().unwrap_or_else(PoisonError::into_inner);
        feeds.retain(|other| !Arc::ptr_eq(other, feed));
    }
}

/// The floats that a range of chunks covers.
pub fn float_range(layout: &Layout, chunks: &Range<u32>) -> Range<usize> {
    if chunks.is_empty() {
        return 0..0;
    }
    layout.chunk_range(chunks.start).start..layout.chunk_range(chunks.end - 1).end
}

/// `left += right`, element by element: the tree's one addition.
fn add(left: &mut [f32], right: &[f32]) {
    for (l, r) in left.iter_mut().zip(right) {
        *l += *r;
    }
}
