//! A server's range of chunks: receive, accumulate, optimize, publish.
//!
//! A push is received into a buffer outside any lock, offered to the chunk's ledger under the
//! chunk's lock, and when that completes the round, the optimizer runs at once, while the sum is in
//! the cache. Versions are shared buffers: a feed that is sending one and a snapshot that is being
//! written keep it alive, nobody waits for them, and the optimizer takes a fresh one.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard, RwLock};
use trainyard_core::layout::{CHUNK, Layout};
use trainyard_core::optimizer::Optimizer;
use trainyard_core::round::{Offer, Round, Tally};
use trainyard_core::sampling::Plan;
use trainyard_core::schedule::LearningRate;
use trainyard_core::tree::{self, Tree};

use super::feed::{Feed, Versions};

mod push;
mod snapshot;

pub use push::{Push, Refusal};
use snapshot::Collecting;
pub use snapshot::{Part, Snapshot};

/// Locks without minding a panic elsewhere: the data are plain floats, and a thread that panicked
/// takes the process down (see `exit::on_panic`).
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
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
    /// Chunk 0 has applied a step. Comes before anybody can have its next version.
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
///
/// Steps come in order, and must be taken at once: chunk 0 is locked. The other notices may be kept
/// waiting, and may overtake each other.
pub struct Notify(pub Box<dyn Fn(Notice) + Send + Sync>);

impl std::fmt::Debug for Notify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Notify")
    }
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

/// A server's range of chunks.
#[derive(Debug)]
pub struct Shard {
    rules: Rules,
    chunks: Vec<Mutex<Chunk>>,
    /// How many chunks have reached which version, the newest that any has.
    reached: Mutex<(u32, u64)>,
    /// The version that every chunk has reached.
    version: AtomicU64,
    collecting: Mutex<Option<Collecting>>,
    feeds: RwLock<Vec<Arc<Feed>>>,
    spare: Mutex<Vec<Vec<f32>>>,
    notify: Notify,
    /// What happened on the data plane.
    pub counters: Counters,
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
            reached: Mutex::new((0, version)),
            version: AtomicU64::new(version),
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
        self.version.load(Ordering::Acquire)
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
        // Whoever has parameters of a step has seen every chunk reach it.
        if push.step > self.version() || push.step >= self.rules.plan.total_steps() {
            return Err(Refusal::Future {
                chunk: push.chunk,
                step: push.step,
                version: chunk.version,
            });
        }
        self.check_rows(&push)?;
        match chunk
            .round
            .offer(push.node, payload, push.tally, &mut |left, right| {
                tree::add(left, right)
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

    /// Refuses what does not stand for the rows of its leaves, before it takes the place of what does:
    /// nobody pushes a second time what the ledger has taken.
    fn check_rows(&self, push: &Push) -> Result<(), Refusal> {
        let Rules { tree, plan, .. } = &self.rules;
        let (step, node) = (push.step, push.node);
        if !tree.valid(node) {
            return Err(Refusal::Node(node.get()));
        }
        let batch = plan.position(step).rows;
        let rows = tree.node_rows(node, batch.end - batch.start);
        let expected = rows.end - rows.start;
        let actual = push.tally.rows;
        if actual != expected {
            return Err(Refusal::Rows {
                step,
                node: node.get(),
                expected,
                actual,
            });
        }
        Ok(())
    }

    fn reuse(&self, mut freed: Vec<Vec<f32>>) -> Vec<f32> {
        let first = freed.pop();
        freed.into_iter().for_each(|buffer| self.recycle(buffer));
        first.unwrap_or_else(|| self.buffer())
    }

    /// Applies a complete sum to a chunk and publishes the new version. The tally's rows are those of
    /// the batch, because every push has the rows of its leaves.
    fn apply(
        &self,
        id: u32,
        mut chunk: MutexGuard<'_, Chunk>,
        sum: &[f32],
        tally: Tally,
    ) -> Result<(), Refusal> {
        let step = chunk.version;
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
            .apply(step, lr, tally.rows as f32, current, sum, slots, &mut new)?;
        let start = self.rules.layout.chunk_range(id).start;
        self.rules.layout.clear_padding(start, &mut new);
        self.advance(&mut chunk, new);
        let version = chunk.version;
        // Counted before anyone can see it, so that the count of one version is over, and its loss is
        // told, before a push for the next can come.
        let snapshot = self.collect(id, &chunk);
        let whole = self.reach(version);
        if id == 0 {
            self.notify(Notice::StepReduced { step, tally });
        }
        drop(chunk);
        if let Some(snapshot) = snapshot {
            self.notify(Notice::Snapshot(snapshot));
        }
        self.publish(id, whole.then_some(version));
        Ok(())
    }

    fn advance(&self, chunk: &mut Chunk, new: Vec<f32>) {
        chunk.version += 1;
        chunk.previous = Some(std::mem::replace(&mut chunk.current, Arc::new(new)));
    }

    /// Counts a chunk that has reached `version`, under its lock; says whether all have.
    fn reach(&self, version: u64) -> bool {
        let mut reached = lock(&self.reached);
        if reached.1 != version {
            *reached = (0, version);
        }
        reached.0 += 1;
        let whole = reached.0 as usize == self.chunks.len();
        if whole {
            self.version.store(version, Ordering::Release);
        }
        whole
    }

    /// Offers a chunk to the feeds, and tells the version that it is the last to reach.
    fn publish(&self, id: u32, whole: Option<u64>) {
        for feed in self.feeds.read().iter() {
            feed.offer(id);
        }
        if let Some(version) = whole {
            self.notify(Notice::Applied(version));
        }
    }

    fn notify(&self, notice: Notice) {
        (self.notify.0)(notice);
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
            if chunk.version >= version {
                continue; // asked for twice
            }
            self.advance(&mut chunk, values.to_vec());
            chunk.version = version;
            let whole = self.reach(version);
            drop(chunk);
            self.publish(id, whole.then_some(version));
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
        self.feeds.write().push(Arc::clone(feed));
        self.chunks().for_each(|chunk| feed.offer(chunk));
    }

    /// Disconnects a feed.
    pub fn unsubscribe(&self, feed: &Arc<Feed>) {
        let mut feeds = self.feeds.write();
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

#[cfg(test)]
mod tests;
