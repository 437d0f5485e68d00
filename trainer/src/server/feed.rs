//! One connection on which a worker receives parameters.
//!
//! A feed queues chunk ids, never payloads: a chunk that changes again before it was sent is sent
//! once, in its newest version. So a slow or dead reader costs one chunk in flight.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex, MutexGuard};
use trainyard_core::wire::{Body, as_bytes};
use trainyard_runtime::net::{Identity, write_frame};

/// The versions of a chunk that a peer may need: oldest first.
pub type Versions = [Option<(u64, Arc<Vec<f32>>)>; 2];

/// The queue of one connection.
#[derive(Debug)]
pub struct Feed {
    first: u32,
    index: u32,
    of: u32,
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Debug)]
struct Queue {
    chunks: VecDeque<u32>,
    waiting: Vec<bool>,
    closed: bool,
}

impl Feed {
    /// A feed of the chunks `c` of `chunks` with `c % of == index`.
    pub fn new(chunks: std::ops::Range<u32>, index: u32, of: u32) -> Self {
        Feed {
            first: chunks.start,
            index,
            of: of.max(1),
            queue: Mutex::new(Queue {
                chunks: VecDeque::new(),
                waiting: vec![false; chunks.len()],
                closed: false,
            }),
            filled: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    /// Says that a chunk has a new version.
    pub fn offer(&self, chunk: u32) {
        if chunk % self.of != self.index {
            return;
        }
        let mut queue = self.lock();
        let Some(waiting) = queue.waiting.get_mut((chunk - self.first) as usize) else {
            return;
        };
        if !std::mem::replace(waiting, true) {
            queue.chunks.push_back(chunk);
            drop(queue);
            self.filled.notify_one();
        }
    }

    /// Ends the feed: [`Feed::run`] returns.
    pub fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    fn next(&self) -> Option<u32> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(chunk) = queue.chunks.pop_front() {
                queue.waiting[(chunk - self.first) as usize] = false;
                return Some(chunk);
            }
            self.filled.wait(&mut queue);
        }
    }

    /// Sends every version that the peer has not had, until the feed is closed or the stream fails.
    /// `versions` tells those of a chunk; the bytes are added to `count`.
    ///
    /// # Errors
    /// Of the stream.
    pub fn run(
        &self,
        identity: Identity,
        stream: &mut impl Write,
        versions: impl Fn(u32) -> Versions,
        count: &AtomicU64,
    ) -> std::io::Result<()> {
        let mut sent: Vec<Option<u64>> = vec![None; self.lock().waiting.len()];
        while let Some(chunk) = self.next() {
            let last = &mut sent[(chunk - self.first) as usize];
            for (version, values) in versions(chunk).into_iter().flatten() {
                if last.is_some_and(|last| last >= version) {
                    continue;
                }
                let payload = as_bytes(&values);
                let body = Body::Param {
                    version,
                    chunk,
                    len: payload.len() as u32,
                };
                write_frame(stream, &identity.header(body), payload)?;
                count.fetch_add(payload.len() as u64, Ordering::Relaxed);
                *last = Some(version);
            }
        }
        Ok(())
    }
}
