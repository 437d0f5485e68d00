//! A server's range of chunks behind locks: receive, accumulate, optimize, publish.
//!
//! What is decided here is decided by [`trainyard_core::shard`]. This is its shell: a push is received
//! into a buffer outside any lock and offered to the chunk under the chunk's lock; who completes a step
//! applies it at once and tells everyone.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use trainyard_core::layout::CHUNK;
use trainyard_core::optimizer::LengthError;
use trainyard_core::round::Tally;
use trainyard_core::shard::{
    Chunk, Feed, Gate, Held, Judgement, Passes, Progress, Push, Pusher, Reached, Refusal, Rules,
    Snapshot, Taken, Versions, missing_leaves,
};
use trainyard_core::wire::Header;
use trainyard_runtime::net::Identity;

use super::feed::FeedStream;

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

/// A server's range of chunks.
#[derive(Debug)]
pub struct Shard {
    rules: Rules,
    chunks: Vec<Mutex<Chunk>>,
    progress: Mutex<Progress>,
    /// The progress's version, for those who only look.
    version: AtomicU64,
    feeds: RwLock<Vec<Arc<FeedStream>>>,
    spare: Mutex<Vec<Vec<f32>>>,
    /// Which pushes are let through.
    gate: Mutex<Gate>,
    opened: Condvar,
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
    ) -> Result<Self, LengthError> {
        let chunks = rules.chunks_at(version, parameters, state)?;
        Ok(Shard {
            progress: Mutex::new(Progress::new(chunks.len(), version)),
            chunks: chunks.into_iter().map(Mutex::new).collect(),
            version: AtomicU64::new(version),
            gate: Mutex::new(Gate::new(rules.tree)),
            opened: Condvar::new(),
            rules,
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
        self.rules.floats()
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
        let spare = self.spare.lock().pop();
        spare.unwrap_or_else(|| Vec::with_capacity(CHUNK))
    }

    fn recycle(&self, buffer: Vec<f32>) {
        let mut spare = self.spare.lock();
        // More than this is never in use at once in a healthy job.
        if spare.len() < 2 * self.chunks.len() + 16 {
            spare.push(buffer);
        }
    }

    /// The push that a header announces.
    ///
    /// # Errors
    /// As [`Push::announced`].
    pub fn announced(&self, header: &Header, ours: Identity) -> Result<Push, Refusal> {
        Push::announced(header, ours.job, ours.generation, &self.rules)
    }

    /// From now on lets through what the coordinator says.
    pub fn set_passes(&self, passes: Passes) {
        self.gate.lock().set(passes, self.version());
        self.opened.notify_all();
    }

    /// Waits until a worker may push this, or the step is over.
    ///
    /// # Errors
    /// A [`Refusal`] if it may not for as long as `patience`.
    pub fn admit(&self, worker: Pusher, push: &Push, patience: Duration) -> Result<(), Refusal> {
        let mut gate = self.gate.lock();
        let mut end = None;
        loop {
            let refusal = match gate.judge(worker, push, self.version()) {
                Judgement::Pass => return Ok(()),
                Judgement::Refuse(refusal) => return Err(refusal),
                Judgement::Wait(refusal) => refusal,
            };
            let end = *end.get_or_insert_with(|| Instant::now() + patience);
            if self.opened.wait_until(&mut gate, end).timed_out() {
                return Err(refusal);
            }
        }
    }

    /// Takes one push. Returns a buffer to receive the next one into.
    ///
    /// # Errors
    /// A [`Refusal`] if the push cannot be true; late and repeated pushes are no errors.
    pub fn push(&self, push: Push, payload: Vec<f32>) -> Result<Vec<f32>, Refusal> {
        let slot = self.chunk(push.chunk).ok_or(Refusal::Chunk(push.chunk))?;
        let mut chunk = slot.lock();
        self.counters.pushes.fetch_add(1, Ordering::Relaxed);
        let fresh = || self.buffer();
        match chunk.take(&self.rules, self.version(), &push, payload, fresh)? {
            Taken::Late(payload) => {
                self.counters.late.fetch_add(1, Ordering::Relaxed);
                Ok(payload)
            }
            Taken::Duplicate(payload) => {
                self.counters.duplicates.fetch_add(1, Ordering::Relaxed);
                Ok(payload)
            }
            Taken::Held { mut freed } => {
                drop(chunk);
                let first = freed.pop();
                freed.into_iter().for_each(|buffer| self.recycle(buffer));
                Ok(first.unwrap_or_else(|| self.buffer()))
            }
            Taken::Applied { tally, sum, freed } => {
                let reached = self.count(|progress| progress.applied(&self.rules, &chunk));
                if push.chunk == 0 {
                    let step = push.step;
                    self.notify(Notice::StepReduced { step, tally });
                }
                drop(chunk);
                freed.into_iter().for_each(|buffer| self.recycle(buffer));
                self.publish(push.chunk, reached);
                Ok(sum)
            }
        }
    }

    /// Counts a chunk's new version, under the chunk's lock.
    fn count(&self, change: impl FnOnce(&mut Progress) -> Reached) -> Reached {
        let mut progress = self.progress.lock();
        let reached = change(&mut progress);
        self.version.store(progress.version(), Ordering::Release);
        reached
    }

    /// Offers a chunk to the feeds, and tells what its new version completes.
    fn publish(&self, chunk: u32, reached: Reached) {
        if let Some(snapshot) = reached.snapshot {
            self.notify(Notice::Snapshot(snapshot));
        }
        for feed in self.feeds.read().iter() {
            feed.offer(chunk);
        }
        if let Some(version) = reached.whole {
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
        for (id, slot) in self.chunks().zip(&self.chunks) {
            let part = self.rules.part(id, parameters)?;
            let mut chunk = slot.lock();
            if !chunk.replace(version, part) {
                continue;
            }
            let reached = self.count(|progress| progress.replaced(&chunk));
            drop(chunk);
            self.publish(id, reached);
        }
        Ok(())
    }

    /// The versions of a chunk that a worker may need, oldest first.
    pub fn versions(&self, chunk: u32) -> Versions {
        let slot = self.chunk(chunk);
        slot.map_or([None, None], |slot| slot.lock().versions())
    }

    /// The leaves that some chunk lacks of the step in progress, in order.
    pub fn missing(&self) -> Vec<u32> {
        missing_leaves(self.chunks.iter().map(Mutex::lock), self.version())
    }

    /// The state at `version`, if that is where every chunk is.
    pub fn snapshot(&self, version: u64) -> Option<Snapshot> {
        let parts = self.chunks.iter().map(|slot| {
            let chunk = slot.lock();
            (chunk.version(), chunk.part())
        });
        Snapshot::at(version, parts)
    }

    /// Connects a feed: it gets every version from now on, and those that the worker does not hold.
    ///
    /// # Errors
    /// As [`Feed::new`].
    pub fn subscribe(&self, index: u32, of: u32, held: &Held) -> Result<Arc<FeedStream>, Refusal> {
        let first = self.rules.chunks.start;
        let version = |chunk: u32| self.chunks[(chunk - first) as usize].lock().version();
        let feed = Feed::new(self.chunks(), index, of, held, version)?;
        let stream = Arc::new(FeedStream::new(feed));
        self.feeds.write().push(Arc::clone(&stream));
        Ok(stream)
    }

    /// Disconnects a feed.
    pub fn unsubscribe(&self, feed: &Arc<FeedStream>) {
        let mut feeds = self.feeds.write();
        feeds.retain(|other| !Arc::ptr_eq(other, feed));
    }
}

#[cfg(test)]
mod tests;
