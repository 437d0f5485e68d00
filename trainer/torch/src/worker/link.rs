//! Bulk connections of a worker: gradients out, parameters in.
//!
//! Every connection carries data one way. The halves of a node that different threads computed are
//! added chunk by chunk on the way out, while the chunk is in the cache.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};
use trainyard_core::control::Role;
use trainyard_core::layout::{CHUNK, Layout};
use trainyard_core::round::Tally;
use trainyard_core::shard::Held;
use trainyard_core::tree::{self, Node, Tree};
use trainyard_core::wire::{Body, Fence, Limits, as_bytes, as_bytes_mut};
use trainyard_runtime::net::{
    self, Address, Channel, Closer, Hello, Identity, ReadHalf, Timing, WriteHalf, read_header,
    write_frame,
};

use super::board::{Admission, Board, Ending};
use crate::arena::Arena;
use crate::engine::Gradient;

/// Models up to this many chunks are pushed by the computing thread itself: waking another takes
/// longer than sending.
const INLINE_CHUNKS: u32 = 4;

/// A node's gradient on its way out, in the parts it was computed in.
#[derive(Debug)]
pub struct Push {
    /// The step.
    pub step: u64,
    /// The node.
    pub node: Node,
    /// Disjoint nodes that make up `node`.
    pub parts: Vec<Gradient>,
}

impl Push {
    /// Rows and loss of the node, added in the tree's order.
    fn tally(&self, tree: Tree, node: Node) -> Tally {
        if let Some(part) = self.parts.iter().find(|part| part.node == node) {
            return part.tally;
        }
        if tree.span(node).len() < 2 {
            return Tally::default();
        }
        let (left, right) = node.children();
        self.tally(tree, left) + self.tally(tree, right)
    }

    /// The node's sum over a range of the arena, if it is there in one part.
    fn whole(&self, range: &Range<usize>) -> Option<&[f32]> {
        let part = self.parts.iter().find(|part| part.node == self.node)?;
        part.sum.get(range.clone())
    }

    /// Adds the parts below `node` over a range of the arena, in the tree's order.
    fn add_up(&self, tree: Tree, node: Node, range: &Range<usize>, out: &mut Vec<f32>) {
        out.clear();
        if let Some(part) = self.parts.iter().find(|part| part.node == node) {
            out.extend_from_slice(&part.sum[range.clone()]);
            return;
        }
        if tree.span(node).len() < 2 {
            return; // not reached: parts cover the node
        }
        let (left, right) = node.children();
        self.add_up(tree, left, range, out);
        let part = |node| self.parts.iter().find(|part| part.node == node);
        let mut other = Vec::new();
        let right = match part(right) {
            Some(part) => &part.sum[range.clone()],
            None => {
                self.add_up(tree, right, range, &mut other);
                &other
            }
        };
        tree::add(out, right);
    }
}

/// One push connection with the chunks that travel on it.
struct Lane {
    writer: WriteHalf,
    chunks: Vec<u32>,
    sum: Vec<f32>,
}

impl Lane {
    fn send(
        &mut self,
        push: &Push,
        layout: &Layout,
        tree: Tree,
        identity: Identity,
    ) -> io::Result<()> {
        let tally = push.tally(tree, push.node);
        for &chunk in &self.chunks {
            let range = layout.chunk_range(chunk);
            let payload = match push.whole(&range) {
                Some(sum) => sum,
                None => {
                    push.add_up(tree, push.node, &range, &mut self.sum);
                    &self.sum
                }
            };
            let bytes = as_bytes(payload);
            let body = Body::push(push.step, push.node, chunk, bytes.len() as u32, tally)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            write_frame(&mut self.writer, &identity.header(body), bytes)?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Outbox {
    /// What is being sent, and a number that tells it from the one before.
    push: Option<(u64, Arc<Push>)>,
    sending: usize,
    failed: Option<String>,
    closed: bool,
}

/// All bulk connections of a session.
pub struct Links {
    layout: Layout,
    tree: Tree,
    identity: Identity,
    outbox: Mutex<Outbox>,
    posted: Condvar,
    sent: Condvar,
    closers: Vec<Closer>,
    lanes: Mutex<Vec<Lane>>,
    /// Of the push connections, to be watched.
    watched: Mutex<Vec<Closer>>,
    pulls: Mutex<Vec<ReadHalf>>,
    inline: bool,
    threads: usize,
}

impl Links {
    /// Connects to every server, `connections` times in each direction.
    ///
    /// # Errors
    /// If a server cannot be reached.
    pub fn connect(
        layout: Layout,
        tree: Tree,
        identity: Identity,
        role: Role,
        servers: &[String],
        connections: u32,
        timing: &Timing,
    ) -> io::Result<Self> {
        let inline = layout.chunks() <= INLINE_CHUNKS;
        let of = if inline { 1 } else { connections.max(1) };
        let (mut lanes, mut pulls, mut closers) = (Vec::new(), Vec::new(), Vec::new());
        let mut watched = Vec::new();
        for (k, server) in servers.iter().enumerate() {
            let server: Address = server.parse().map_err(io::Error::other)?;
            let owned = layout.shard(k as u32, servers.len() as u32);
            for index in 0..of {
                let chunks: Vec<u32> = owned.clone().filter(|chunk| chunk % of == index).collect();
                if chunks.is_empty() {
                    continue;
                }
                let open =
                    |channel| net::connect(&server, identity, Hello { channel, role }, timing);
                let push = open(Channel::Push)?;
                let held = Held::default();
                let pull = open(Channel::Pull { index, of, held })?;
                watched.push(push.closer.clone());
                closers.extend([push.closer, pull.closer]);
                lanes.push(Lane {
                    writer: push.writer,
                    chunks,
                    sum: Vec::new(),
                });
                pulls.push(pull.reader);
            }
        }
        Ok(Links {
            threads: if inline { 0 } else { lanes.len() },
            layout,
            tree,
            identity,
            outbox: Mutex::default(),
            posted: Condvar::new(),
            sent: Condvar::new(),
            closers,
            lanes: Mutex::new(lanes),
            watched: Mutex::new(watched),
            pulls: Mutex::new(pulls),
            inline,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock()
    }

    /// Starts the threads that send and receive; they end with [`Links::close`].
    pub fn start<'scope>(
        &'scope self,
        scope: &'scope std::thread::Scope<'scope, '_>,
        board: &'scope Board,
        arenas: &'scope [Arena; 2],
    ) {
        for reader in take(&self.pulls) {
            scope.spawn(move || {
                if let Err(error) = self.receive(reader, board, arenas) {
                    board.end(Ending::Lost(format!(
                        "a server's parameters ended: {error}"
                    )));
                }
            });
        }
        for closer in take(&self.watched) {
            scope.spawn(move || board.end(Ending::Lost(watch(&closer))));
        }
        if !self.inline {
            for lane in take(&self.lanes) {
                scope.spawn(move || self.serve(lane));
            }
        }
    }

    /// Receives versions into the arenas until the connection ends.
    fn receive(&self, mut reader: ReadHalf, board: &Board, arenas: &[Arena; 2]) -> io::Result<()> {
        let refused = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
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
            if header.fence(self.identity.job, self.identity.generation) != Fence::Current {
                return Err(refused("parameters of another generation"));
            }
            let range = self.layout.chunk_range(chunk);
            if range.is_empty() || len as usize != 4 * range.len() {
                return Err(refused("parameters that do not fit their chunk"));
            }
            match board.admit(version, chunk) {
                None => return Ok(()),
                Some(Admission::Discard) => {
                    reader.read_exact(as_bytes_mut(&mut scratch[..range.len()]))?;
                }
                Some(Admission::Write(parity)) => {
                    // SAFETY: the board has granted this chunk of this arena to us alone until
                    // `received`; the same chunk always comes on the same connection.
                    let target = unsafe { arenas[parity].chunk_mut(range) };
                    reader.read_exact(as_bytes_mut(target))?;
                    board.received(version, chunk);
                }
            }
        }
    }

    /// Sends every push that is posted, over one lane.
    fn serve(&self, mut lane: Lane) {
        let mut done = 0;
        loop {
            let mut outbox = self.lock();
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
            let result = lane.send(&push, &self.layout, self.tree, self.identity);
            drop(push);
            let mut outbox = self.lock();
            if let Err(error) = result {
                outbox.failed.get_or_insert(error.to_string());
            }
            outbox.sending -= 1;
            if outbox.sending == 0 {
                self.sent.notify_all();
            }
        }
    }

    /// Sends a push over all lanes; returns its buffers when all have sent it.
    ///
    /// # Errors
    /// If a connection fails.
    pub fn push(&self, push: Push) -> io::Result<Vec<Gradient>> {
        if self.inline {
            let mut lanes = self.lanes.lock();
            for lane in lanes.iter_mut() {
                lane.send(&push, &self.layout, self.tree, self.identity)?;
            }
            return Ok(push.parts);
        }
        let mut outbox = self.lock();
        let number = outbox.push.as_ref().map_or(0, |(number, _)| *number) + 1;
        let push = Arc::new(push);
        outbox.push = Some((number, Arc::clone(&push)));
        outbox.sending = self.threads;
        self.posted.notify_all();
        while outbox.sending > 0 && !outbox.closed {
            self.sent.wait(&mut outbox);
        }
        if let Some(error) = &outbox.failed {
            return Err(io::Error::other(error.clone()));
        }
        if outbox.closed {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        // Our own reference stays as the number; the buffers go back to the caller.
        let empty = Push {
            step: push.step,
            node: push.node,
            parts: Vec::new(),
        };
        outbox.push = Some((number, Arc::new(empty)));
        drop(outbox);
        Ok(Arc::into_inner(push).map_or_else(Vec::new, |push| push.parts))
    }

    /// Ends every connection and thread.
    pub fn close(&self) {
        self.lock().closed = true;
        self.posted.notify_all();
        self.sent.notify_all();
        for closer in &self.closers {
            closer.close();
        }
    }
}

/// Waits for the end of a push connection, on which a server never writes; tells why.
///
/// A push that was written may be lost with its connection, and its leaves count as pushed: were
/// the end noticed by the next write alone, a step that waits for this very push would wait for ever.
fn watch(closer: &Closer) -> String {
    match closer.wait_for_end() {
        Ok(()) => "a server has closed the connection for gradients".into(),
        Err(error) => format!("the connection for gradients broke: {error}"),
    }
}

fn take<T>(list: &Mutex<Vec<T>>) -> Vec<T> {
    std::mem::take(&mut *list.lock())
}
