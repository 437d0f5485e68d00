//! Bulk connections of a worker: gradients out, parameters in.
//!
//! Every connection carries data one way. The halves of a node that different threads computed are
//! added chunk by chunk on the way out, while the chunk is in the cache.
//!
//! A connection that breaks is made again. What that costs is what was on its way: the server is told
//! which parameters are held, and the open step's gradients are pushed again on that connection alone.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use trainyard_contract::Key;
use trainyard_core::control::Role;
use trainyard_core::layout::{CHUNK, Layout};
use trainyard_core::session::{Admission, Ending, Lane};
use trainyard_core::tree::Tree;
use trainyard_core::wire::{Body, Fence, Limits, as_bytes, as_bytes_mut};
use trainyard_runtime::net::{
    self, Address, Channel, Closer, Connection, Hello, Identity, ReadHalf, Timing, WriteHalf,
    read_header, read_payload, refused, write_frame,
};

use super::board::Board;
use super::push::Push;
use crate::arena::Arena;
use crate::engine::Gradient;

/// Shortest and longest wait before a connection is made again.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// How often a thread that waits for a connection looks whether the session is over.
const LOOK: Duration = Duration::from_millis(50);

/// Who opens the connections, and how long they may take.
#[derive(Clone, Debug)]
pub struct Caller {
    /// This process.
    pub identity: Identity,
    /// Its role.
    pub role: Role,
    /// The workers' key.
    pub key: Key,
    /// Bounds on waiting.
    pub timing: Timing,
}

/// Counted for `/metrics`.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Connections made.
    pub connections: AtomicU64,
    /// Bytes of parameters received, chunks that were not needed among them.
    pub received: AtomicU64,
}

/// A lane and its connections as they are now.
struct Line {
    lane: Lane,
    address: Address,
    out: Mutex<Out>,
    push: Way,
    pull: Way,
}

/// One of the two connections of a lane.
#[derive(Default)]
struct Way {
    /// Ends the connection as it is now.
    closer: Mutex<Option<Closer>>,
    /// Something was sent or received on it.
    used: AtomicBool,
}

impl Way {
    fn close(&self) {
        if let Some(closer) = &*self.closer.lock() {
            closer.close();
        }
    }
}

#[derive(Default)]
struct Out {
    /// Of the connection for gradients, while there is one.
    writer: Option<WriteHalf>,
    sum: Vec<f32>,
}

#[derive(Default)]
struct Outbox {
    /// What is being sent, and a number that tells it from the one before.
    push: Option<(u64, Arc<Push>)>,
    sending: usize,
    closed: bool,
}

/// All bulk connections of a session.
pub struct Links {
    layout: Layout,
    tree: Tree,
    caller: Caller,
    traffic: Arc<Traffic>,
    lines: Vec<Line>,
    outbox: Mutex<Outbox>,
    posted: Condvar,
    sent: Condvar,
}

impl Links {
    /// Lanes to `servers`, at most `connections` to each; [`Links::start`] connects them.
    ///
    /// # Errors
    /// If one of `servers` is no address.
    pub fn new(
        layout: Layout,
        tree: Tree,
        caller: Caller,
        servers: &[String],
        connections: u32,
        traffic: Arc<Traffic>,
    ) -> io::Result<Self> {
        let line = |lane: Lane| {
            let address = servers[lane.server as usize].parse();
            Ok(Line {
                address: address.map_err(io::Error::other)?,
                lane,
                out: Mutex::default(),
                push: Way::default(),
                pull: Way::default(),
            })
        };
        let lanes = Lane::all(&layout, servers.len() as u32, connections);
        Ok(Links {
            lines: lanes.into_iter().map(line).collect::<io::Result<_>>()?,
            layout,
            tree,
            caller,
            traffic,
            outbox: Mutex::default(),
            posted: Condvar::new(),
            sent: Condvar::new(),
        })
    }

    /// Starts the threads that keep the connections, send and receive. They end with the board's
    /// session.
    pub fn start<'scope>(
        &'scope self,
        scope: &'scope std::thread::Scope<'scope, '_>,
        board: &'scope Board,
        arenas: &'scope [Arena; 2],
    ) {
        board.connect(self.lines.len());
        for (number, line) in self.lines.iter().enumerate() {
            scope.spawn(move || {
                self.keep(
                    board,
                    line,
                    &line.push,
                    || Channel::Push,
                    |connection| push_on(board, number, line, connection),
                );
            });
            scope.spawn(move || {
                let channel = || Channel::Pull {
                    index: line.lane.index,
                    of: line.lane.of,
                    held: board.held(&line.lane.chunks),
                };
                self.keep(board, line, &line.pull, channel, |connection| {
                    self.receive(connection.reader, board, line, arenas)
                });
            });
            if !Lane::is_small(&self.layout) {
                scope.spawn(move || self.serve(board, number));
            }
        }
        scope.spawn(move || {
            board.wait_for_end(None);
            self.close();
        });
    }

    /// Makes a connection again and again until the session ends; ends it when there has been none
    /// for as long as a silent peer is waited for.
    fn keep(
        &self,
        board: &Board,
        line: &Line,
        way: &Way,
        channel: impl Fn() -> Channel,
        live: impl Fn(Connection) -> io::Result<()>,
    ) {
        let Timing {
            heartbeat_interval,
            heartbeat_timeout,
            ..
        } = self.caller.timing;
        let (mut since, mut pause) = (Instant::now(), RETRY.0);
        loop {
            let ended = self.open(board, line, channel()).and_then(|connection| {
                *way.closer.lock() = Some(connection.closer.clone());
                if board.is_over() {
                    return Ok(()); // the others were closed before this one was there
                }
                let opened = Instant::now();
                let ended = live(connection);
                way.close();
                // A server that closes each connection at once is as good as none.
                let used = way.used.swap(false, Ordering::Relaxed);
                if used || opened.elapsed() >= heartbeat_interval {
                    (since, pause) = (Instant::now(), RETRY.0);
                }
                ended
            });
            let why = match ended {
                Ok(()) => "it was closed".to_owned(),
                Err(error) => error.to_string(),
            };
            let server = line.lane.server;
            if since.elapsed() >= heartbeat_timeout {
                return board.end(Ending::Lost(format!(
                    "no connection to server {server}: {why}"
                )));
            }
            if board.wait_for_end(Some(pause)) {
                return;
            }
            if pause == RETRY.0 {
                tracing::info!(server, why, "connecting again");
            }
            pause = (2 * pause).min(RETRY.1);
        }
    }

    /// Opens a connection, on a thread of its own: the end of the session does not wait for a server
    /// that is gone.
    fn open(&self, board: &Board, line: &Line, channel: Channel) -> io::Result<Connection> {
        let Caller {
            identity,
            role,
            key,
            timing,
        } = self.caller.clone();
        let (address, hello) = (line.address.clone(), Hello { channel, role });
        let (sender, opened) = sync_channel(1);
        std::thread::Builder::new().spawn(move || {
            let _ = sender.send(net::connect(&address, identity, hello, &key, &timing));
        })?;
        loop {
            match opened.recv_timeout(LOOK) {
                Ok(connection) => {
                    let made = u64::from(connection.is_ok());
                    self.traffic.connections.fetch_add(made, Ordering::Relaxed);
                    return connection;
                }
                Err(RecvTimeoutError::Timeout) if !board.is_over() => {}
                Err(_) => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
    }

    /// Receives versions into the arenas until the connection ends.
    fn receive(
        &self,
        mut reader: ReadHalf,
        board: &Board,
        line: &Line,
        arenas: &[Arena; 2],
    ) -> io::Result<()> {
        let identity = self.caller.identity;
        let mut scratch = vec![0.0; CHUNK];
        loop {
            let header = read_header(&mut reader, &Limits::default())?;
            let Body::Param {
                version,
                chunk,
                len,
            } = header.body
            else {
                return Err(refused("a frame that is no parameters"));
            };
            if header.fence(identity.job, identity.generation) != Fence::Current {
                return Err(refused("parameters of another generation"));
            }
            if line.lane.chunks.binary_search(&chunk).is_err() {
                return Err(refused("parameters of another connection"));
            }
            let range = self.layout.chunk_range(chunk);
            if len as usize != 4 * range.len() {
                return Err(refused("parameters that do not fit their chunk"));
            }
            match board.admit(version, chunk) {
                Admission::Discard => {
                    let target = &mut scratch[..range.len()];
                    read_payload(&mut reader, &header, as_bytes_mut(target))?;
                }
                Admission::Write(parity) => {
                    // SAFETY: the board has granted this chunk of this arena until `received`, and
                    // only this thread asks for the chunks of its lane.
                    let target = unsafe { arenas[parity].chunk_mut(range) };
                    read_payload(&mut reader, &header, as_bytes_mut(target))?;
                    board.received(version, chunk);
                    line.pull.used.store(true, Ordering::Relaxed);
                }
                Admission::Over | Admission::Wait => return Ok(()),
            }
            let received = &self.traffic.received;
            received.fetch_add(len.into(), Ordering::Relaxed);
        }
    }

    /// Sends every push that is posted, over one lane.
    fn serve(&self, board: &Board, number: usize) {
        let mut done = 0;
        loop {
            let mut outbox = self.outbox.lock();
            let push = loop {
                if outbox.closed {
                    return;
                }
                match &outbox.push {
                    Some((number, push)) if *number > done => {
                        done = *number;
                        break Arc::clone(push);
                    }
                    _ => {
                        self.posted.wait(&mut outbox);
                    }
                }
            };
            drop(outbox);
            self.send(board, number, &push);
            drop(push);
            let mut outbox = self.outbox.lock();
            outbox.sending -= 1;
            if outbox.sending == 0 {
                self.sent.notify_all();
            }
        }
    }

    /// Sends a push over a lane that it is owed on. A connection that fails ends, and who keeps it does
    /// the rest.
    fn send(&self, board: &Board, number: usize, push: &Push) {
        let line = &self.lines[number];
        let mut out = line.out.lock();
        let Some(life) = board.owes(number, push.step, push.node) else {
            return;
        };
        match self.write(&mut out, &line.lane, push) {
            Ok(()) => {
                line.push.used.store(true, Ordering::Relaxed);
                board.pushed(number, life, push.step, push.node);
            }
            Err(_) => line.push.close(),
        }
    }

    fn write(&self, out: &mut Out, lane: &Lane, push: &Push) -> io::Result<()> {
        let Out { writer, sum } = out;
        let writer = writer.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let tally = push.tally(self.tree, push.node);
        for &chunk in &lane.chunks {
            let range = self.layout.chunk_range(chunk);
            let payload: &[f32] = match push.whole(&range) {
                Some(whole) => whole,
                None => {
                    push.add_up(self.tree, push.node, &range, sum);
                    sum
                }
            };
            let bytes = as_bytes(payload);
            let body = Body::push(push.step, push.node, chunk, bytes.len() as u32, tally)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            let header = self.caller.identity.header(body).before(bytes);
            write_frame(writer, &header, bytes)?;
        }
        Ok(())
    }

    /// Sends a push over all lanes that it is owed on; returns its buffers when that is over. What could
    /// not be sent the board knows, and asks for again.
    pub fn push(&self, board: &Board, push: Push) -> Vec<Gradient> {
        if Lane::is_small(&self.layout) {
            (0..self.lines.len()).for_each(|number| self.send(board, number, &push));
            return push.parts;
        }
        let mut outbox = self.outbox.lock();
        let number = outbox.push.as_ref().map_or(0, |(number, _)| *number) + 1;
        let push = Arc::new(push);
        outbox.push = Some((number, Arc::clone(&push)));
        outbox.sending = self.lines.len();
        self.posted.notify_all();
        while outbox.sending > 0 && !outbox.closed {
            self.sent.wait(&mut outbox);
        }
        // Our own reference stays as the number; the buffers go back to the caller.
        let empty = Push {
            step: push.step,
            node: push.node,
            parts: Vec::new(),
        };
        outbox.push = Some((number, Arc::new(empty)));
        drop(outbox);
        Arc::into_inner(push).map_or_else(Vec::new, |push| push.parts)
    }

    /// Ends every connection and thread.
    fn close(&self) {
        self.outbox.lock().closed = true;
        self.posted.notify_all();
        self.sent.notify_all();
        for line in &self.lines {
            line.push.close();
            line.pull.close();
        }
    }
}

/// A connection for gradients, until it ends. A server never writes on it.
///
/// A push that was written may be lost with its connection, and its leaves count as pushed: were the
/// end noticed by the next write alone, a step that waits for this very push would wait for ever.
fn push_on(board: &Board, number: usize, line: &Line, connection: Connection) -> io::Result<()> {
    let mut out = line.out.lock();
    let life = board.push_opened(number);
    out.writer = Some(connection.writer);
    drop(out);
    let ended = connection.closer.wait_for_end();
    connection.closer.close(); // who is writing on it fails, and lets go of the writer
    board.push_lost(number, life);
    line.out.lock().writer = None;
    ended
}
