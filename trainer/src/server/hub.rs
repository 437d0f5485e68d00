//! The door of a server: every connection comes in here and goes where its first frame says.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use parking_lot::{Mutex, MutexGuard};
use trainyard_contract::Key;
use trainyard_core::control::Role;
use trainyard_core::shard::Pusher;
use trainyard_core::wire::{Body, Limits, as_bytes_mut};
use trainyard_runtime::limits::{BULK, SPARED, STRANGERS, descriptors};
use trainyard_runtime::net::{
    self, Channel, Closer, Connection, Identity, Incoming, Listener, Met, ReadHalf, Timing,
    read_header, read_payload, refused,
};

use super::coordination::{Caller, Input};
use super::feed::FeedStream;
use super::shard::Shard;

/// Control connections that may be in use: those of some thousand workers.
const CONTROL: usize = 4096;

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

/// Connections whose other side has not introduced itself, by the number of their admission.
#[derive(Default)]
struct Strangers {
    waiting: BTreeMap<u64, Closer>,
    admitted: u64,
}

/// Routes connections to the shard and the coordinator in force.
pub struct Hub {
    routes: Mutex<Routes>,
    strangers: Mutex<Strangers>,
    /// Connections that are open, whatever for.
    open: Arc<AtomicUsize>,
    /// Control connections that are open.
    control: Arc<AtomicUsize>,
    /// How many may be open.
    most: usize,
    key: Key,
    timing: Timing,
}

/// Counts something for as long as it is there.
#[derive(Debug)]
pub struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// Counts one more, unless there are `most`.
    fn below(count: &Arc<AtomicUsize>, most: usize) -> Option<Counted> {
        let counted = Counted(Arc::clone(count));
        (count.fetch_add(1, Ordering::Relaxed) < most).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hub {
    /// A hub without routes: connections are closed until it has some. Its connections, together, take no
    /// more file descriptors than this process may have, less those that it needs for other things.
    pub fn new(key: Key, timing: Timing) -> Arc<Self> {
        Arc::new(Hub {
            routes: Mutex::default(),
            strangers: Mutex::default(),
            open: Arc::default(),
            control: Arc::default(),
            most: descriptors().saturating_sub(SPARED),
            key,
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
        let Some(counted) = Counted::below(&self.open, self.most) else {
            tracing::warn!(
                most = self.most,
                "a connection was closed: there are as many as file descriptors allow"
            );
            return;
        };
        let number = self.expect(incoming.closer());
        let hub = Arc::clone(self);
        let spawned = std::thread::Builder::new().spawn(move || {
            let identity = hub.lock().identity;
            let met =
                identity.map(|identity| net::accept(incoming, identity, &hub.key, &hub.timing));
            hub.strangers.lock().waiting.remove(&number);
            match met {
                Some(Ok((connection, met))) => hub.serve(connection, met, counted),
                Some(Err(error)) => hub.dropped(&error),
                None => {}
            }
        });
        if let Err(error) = spawned {
            self.strangers.lock().waiting.remove(&number);
            tracing::warn!(%error, "there is no thread for a connection");
        }
    }

    /// Puts a connection on the list of those that have to introduce themselves; if it is full, closes the
    /// one that has been on it for longest: who belongs to the job needs a moment, whatever others do.
    fn expect(&self, closer: Closer) -> u64 {
        let mut strangers = self.strangers.lock();
        let Strangers { waiting, admitted } = &mut *strangers;
        if waiting.len() >= STRANGERS
            && let Some((_, oldest)) = waiting.pop_first()
        {
            oldest.close();
        }
        *admitted += 1;
        waiting.insert(*admitted, closer);
        *admitted
    }

    fn dropped(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::InvalidData {
            tracing::warn!(%error, "a peer was dropped");
            if let Some(shard) = self.shard() {
                shard.counters.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn serve(&self, connection: Connection, met: Met, counted: Counted) {
        let Met { hello, incarnation } = met;
        let worker = match (&hello.channel, hello.role) {
            (Channel::Control, role) => {
                let Some(control) = Counted::below(&self.control, CONTROL) else {
                    return;
                };
                let caller = Caller {
                    role,
                    incarnation,
                    counted: [counted, control],
                };
                if let Some(coordination) = &self.lock().coordination {
                    let _ = coordination.send(Input::Connected(connection, caller));
                }
                return;
            }
            (_, Role::Worker(index)) => Pusher { index, incarnation },
            (channel, role) => {
                return self.dropped(&refused(format!(
                    "{role:?} opens a connection for {channel:?}"
                )));
            }
        };
        let Some((number, identity, shard)) = self.register(&connection.closer) else {
            return;
        };
        let result = match hello.channel {
            Channel::Push => receive(&shard, identity, worker, &self.timing, connection.reader),
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

/// Receives a worker's pushes until the connection ends.
fn receive(
    shard: &Shard,
    identity: Identity,
    worker: Pusher,
    timing: &Timing,
    mut reader: ReadHalf,
) -> io::Result<()> {
    let limits = Limits::default();
    let mut buffer = shard.buffer();
    loop {
        let header = read_header(&mut reader, &limits)?;
        if header.body == Body::Bye {
            return Ok(());
        }
        let push = shard.announced(&header, identity).map_err(refused)?;
        buffer.resize(header.body.payload_len() as usize / 4, 0.0);
        read_payload(&mut reader, &header, as_bytes_mut(&mut buffer))?;
        let received = &shard.counters.received;
        received.fetch_add(header.body.payload_len().into(), Ordering::Relaxed);
        // It hears of a change when the worker does, or a moment later.
        let patience = timing.heartbeat_timeout;
        shard.admit(worker, &push, patience).map_err(refused)?;
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
