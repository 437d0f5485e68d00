//! The queue of one connection on which a worker receives parameters.

use std::collections::VecDeque;
use std::ops::Range;

use super::{Held, Refusal, Versions};

/// Queues chunks, never payloads: a chunk that changes again before it was sent is sent once, in its
/// newest versions. So a slow or dead reader costs one chunk in flight.
#[derive(Debug)]
pub struct Feed {
    first: u32,
    index: u32,
    of: u32,
    queue: VecDeque<u32>,
    waiting: Vec<bool>,
    /// For each chunk of the shard the newest version that the worker has or was sent.
    sent: Vec<Option<u64>>,
}

impl Feed {
    /// A feed of the chunks `c` of `chunks` with `c % of == index`. All are waiting to be sent, in
    /// versions newer than the one held; `version` tells the one that a chunk has reached.
    ///
    /// # Errors
    /// [`Refusal::Held`] if the worker holds what its chunk has not come to. Its parameters may be
    /// another's, and it would wait for ever for newer ones.
    pub fn new(
        chunks: Range<u32>,
        index: u32,
        of: u32,
        held: &Held,
        version: impl Fn(u32) -> u64,
    ) -> Result<Self, Refusal> {
        let mut feed = Feed {
            first: chunks.start,
            index,
            of: of.max(1),
            queue: VecDeque::new(),
            waiting: vec![false; chunks.len()],
            sent: vec![None; chunks.len()],
        };
        let mut held = held.versions();
        for chunk in chunks {
            if !feed.offer(chunk) {
                continue;
            }
            let Some(held) = held.next().flatten() else {
                continue;
            };
            let version = version(chunk);
            if held > version {
                return Err(Refusal::Held {
                    chunk,
                    held,
                    version,
                });
            }
            feed.sent[(chunk - feed.first) as usize] = Some(held);
        }
        Ok(feed)
    }

    /// Says that a chunk has a new version; returns whether it was not waiting yet.
    pub fn offer(&mut self, chunk: u32) -> bool {
        if chunk % self.of != self.index {
            return false;
        }
        let at = chunk.checked_sub(self.first);
        let Some(waiting) = at.and_then(|at| self.waiting.get_mut(at as usize)) else {
            return false;
        };
        let new = !std::mem::replace(waiting, true);
        if new {
            self.queue.push_back(chunk);
        }
        new
    }

    /// The next chunk that is waiting.
    pub fn take(&mut self) -> Option<u32> {
        let chunk = self.queue.pop_front()?;
        self.waiting[(chunk - self.first) as usize] = false;
        Some(chunk)
    }

    /// Of a chunk's versions, those that the worker has not had; they count as sent.
    pub fn unsent(&mut self, chunk: u32, versions: Versions) -> Versions {
        let last = &mut self.sent[(chunk - self.first) as usize];
        let unsent = versions.map(|version| version.filter(|version| *last < Some(version.number)));
        let newest = unsent.iter().flatten().map(|version| version.number).max();
        *last = newest.or(*last);
        unsent
    }
}
