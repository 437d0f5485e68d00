//! The door of a server: every connection comes in here and goes where its first frame says.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use parking_lot::{Mutex, MutexGuard};
use trainyard_core::round::Tally;
use trainyard_core::shard::Push;
use trainyard_core::wire::{Body, Fence, Limits, as_bytes_mut};
use trainyard_runtime::net::{
    self, Channel, Closer, Connection, Identity, Incoming, Listener, ReadHalf, Timing, read_header,
    refused,
};

use super::coordination::Input;
use super::feed::FeedStream;
use super::shard::Shard;

/// Connections that may be waiting to introduce themselves.
const STRANGERS: usize = 256;

/// Bulk connections that may be in use: those of some thousand workers.
const BULK: usize = 16_384;

/// What connections are routed to; changes with the generation.
#[derive(Default)]
struct Routes {
    identity: Option<Identity>,
    shard: Option<Arc<Shard>>,
    coordination: Option<Sender<Input>>,
    /// Bulk connections in use by number, to be shut when the generation ends.
    closers: BTreeMap<u64, Closer>,
    registered: u64,
}

/// Routes connections to the shard and the coordinator in force.
pub struct Hub {
    routes: Mutex<Routes>,
    strangers: AtomicUsize,
    timing: Timing,
}

impl Hub {
    /// A hub without routes: connections are closed until it has some.
    pub fn new(timing: Timing) -> Arc<Self> {
        Arc::new(Hub {
            routes: Mutex::default(),
            strangers: AtomicUsize::new(0),
            timing,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock()
    }

    /// From now on control connections go to `coordination`.
    pub fn route_control(&self, identity: Identity, coordination: Option<Sender<Input>>) {
        let mut routes = self.lock();
        routes.identity = Some(identity);
        routes.coordination = coordination;
    }

    /// From now on bulk connections go to `shard`; those to the one before are shut.
    pub fn route_bulk(&self, identity: Identity, shard: Option<Arc<Shard>>) {
        let mut routes = self.lock();
        routes.identity = Some(identity);
        routes.shard = shard;
        for closer in std::mem::take(&mut routes.closers).into_values() {
            closer.close();
        }
    }

    /// The shard in force.
    pub fn shard(&self) -> Option<Arc<Shard>> {
        self.lock().shard.clone()
    }

    /// Accepts connections for the life of the process, on a thread of its own.
    pub fn listen(self: &Arc<Self>, listener: Arc<Listener>) {
        let hub = Arc::clone(self);
        std::thread::spawn(move || {
            loop {
                match listener.accept() {
                    Ok(incoming) => hub.admit(incoming),
                    Err(error) => {
                        // Out of file descriptors, or a peer that left before it was accepted.
                        tracing::warn!(%error, "a connection could not be accepted");
                        std::thread::sleep(std::time::Duration::from_millis(10));
                    }
                }
            }
        });
    }

    fn admit(self: &Arc<Self>, incoming: Incoming) {
        if self.strangers.fetch_add(1, Ordering::Relaxed) >= STRANGERS {
            self.strangers.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let hub = Arc::clone(self);
        let spawned = std::thread::Builder::new().spawn(move || {
            let identity = hub.lock().identity;
            let met = identity.map(|identity| net::accept(incoming, identity, &hub.timing));
            hub.strangers.fetch_sub(1, Ordering::Relaxed);
            match met {
                Some(Ok((connection, hello))) => hub.serve(connection, hello),
                Some(Err(error)) => hub.dropped(&error),
                None => {}
            }
        });
        if let Err(error) = spawned {
            self.strangers.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(%error, "there is no thread for a connection");
        }
    }

    fn dropped(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::InvalidData {
            tracing::warn!(%error, "a peer was dropped");
            if let Some(shard) = self.shard() {
                shard.counters.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn serve(&self, connection: Connection, hello: net::Hello) {
        if hello.channel == Channel::Control {
            if let Some(coordination) = &self.lock().coordination {
                let _ = coordination.send(Input::Connected(connection, hello.role));
            }
            return;
        }
        let Some((number, identity, shard)) = self.register(&connection.closer) else {
            return;
        };
        let result = match hello.channel {
            Channel::Push => receive(&shard, identity, connection.reader),
            Channel::Pull { index, of, held } => {
                let feed = shard.subscribe(index, of, &held).map_err(refused);
                feed.and_then(|feed| send(&shard, identity, connection, &feed))
            }
            Channel::Control => Ok(()),
        };
        self.end(number);
        if let Err(error) = result {
            self.dropped(&error);
        }
    }

    /// Puts a bulk connection on the list of those to shut with the generation.
    fn register(&self, closer: &Closer) -> Option<(u64, Identity, Arc<Shard>)> {
        let mut routes = self.lock();
        if routes.closers.len() >= BULK {
            return None;
        }
        let (identity, shard) = (routes.identity?, routes.shard.clone()?);
        routes.registered += 1;
        let number = routes.registered;
        routes.closers.insert(number, closer.clone());
        Some((number, identity, shard))
    }

    /// Closes a bulk connection, so that a peer that is dropped knows it.
    fn end(&self, number: u64) {
        if let Some(closer) = self.lock().closers.remove(&number) {
            closer.close();
        }
    }
}

/// Receives pushes until the connection ends.
fn receive(shard: &Shard, identity: Identity, mut reader: ReadHalf) -> io::Result<()> {
    let limits = Limits::default();
    let mut buffer = shard.buffer();
    loop {
        let header = read_header(&mut reader, &limits)?;
        let Body::Push {
            step,
            node,
            chunk,
            len,
            rows,
            loss,
        } = header.body
        else {
            let kind = header.body.kind();
            return match header.body {
                Body::Bye => Ok(()),
                _ => Err(refused(format!("a {kind:?} frame on a push connection"))),
            };
        };
        let fence = header.fence(identity.job, identity.generation);
        if fence != Fence::Current {
            return Err(refused(format!("a push of {fence:?} origin")));
        }
        let expected = shard.chunk_len(chunk).map_err(refused)?;
        if len as usize != 4 * expected {
            return Err(refused(format!(
                "chunk {chunk} has {} bytes, the push {len}",
                4 * expected
            )));
        }
        buffer.resize(expected, 0.0);
        io::Read::read_exact(&mut reader, as_bytes_mut(&mut buffer))?;
        shard
            .counters
            .received
            .fetch_add(len.into(), Ordering::Relaxed);
        let push = Push {
            step,
            node,
            chunk,
            tally: Tally {
                rows: rows.into(),
                loss,
            },
        };
        buffer = shard.push(push, buffer).map_err(refused)?;
    }
}

/// Sends parameters until the connection ends.
fn send(
    shard: &Arc<Shard>,
    identity: Identity,
    connection: Connection,
    feed: &Arc<FeedStream>,
) -> io::Result<()> {
    let (mut writer, closer) = (connection.writer, connection.closer);
    std::thread::scope(|scope| {
        // The peer never writes here.
        let watching = std::thread::Builder::new().spawn_scoped(scope, || {
            let _ = closer.wait_for_end();
            feed.close();
        });
        let versions = |chunk| shard.versions(chunk);
        let count = &shard.counters.sent;
        let result = watching.and_then(|_| feed.run(identity, &mut writer, versions, count));
        closer.close();
        shard.unsubscribe(feed);
        result
    })
}
