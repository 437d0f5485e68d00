//! One connection on which a worker receives parameters.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use trainyard_core::shard::{Feed, Versions};
use trainyard_core::wire::{Body, Header, as_bytes};
use trainyard_runtime::net::{Identity, write_frame};

/// A [`Feed`] that one thread sends and others offer chunks to.
#[derive(Debug)]
pub struct FeedStream {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug)]
struct State {
    feed: Feed,
    closed: bool,
}

impl FeedStream {
    /// A stream of what a feed says.
    pub fn new(feed: Feed) -> Self {
        let closed = false;
        FeedStream {
            state: Mutex::new(State { feed, closed }),
            filled: Condvar::new(),
        }
    }

    /// Says that a chunk has a new version.
    pub fn offer(&self, chunk: u32) {
        let new = self.state.lock().feed.offer(chunk);
        if new {
            self.filled.notify_one();
        }
    }

    /// Ends the stream: [`FeedStream::run`] returns.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_one();
    }

    fn take(&self) -> Option<u32> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            match state.feed.take() {
                Some(chunk) => return Some(chunk),
                None => self.filled.wait(&mut state),
            }
        }
    }

    /// Sends every version that the worker has not had, until the stream is closed or the connection
    /// fails. `versions` tells those of a chunk; the bytes are added to `count`.
    ///
    /// # Errors
    /// Of the connection.
    pub fn run(
        &self,
        identity: Identity,
        connection: &mut impl Write,
        versions: impl Fn(u32) -> Versions,
        count: &AtomicU64,
    ) -> std::io::Result<()> {
        while let Some(chunk) = self.take() {
            let versions = versions(chunk);
            let unsent = self.state.lock().feed.unsent(chunk, versions);
            for version in unsent.into_iter().flatten() {
                let payload = as_bytes(&version.values);
                let header = Header {
                    payload: version.checksum,
                    ..identity.header(Body::Param {
                        version: version.number,
                        chunk,
                        len: payload.len() as u32,
                    })
                };
                write_frame(connection, &header, payload)?;
                count.fetch_add(payload.len() as u64, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}
