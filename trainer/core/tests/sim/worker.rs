//! A simulated worker's shell: the real session, two arenas, and what is under way on its lanes.

use std::collections::VecDeque;

use trainyard_core::session::{Admission, Lane, Session};
use trainyard_core::shard::Shared;

use super::toy::Toy;
use super::world::Link;

/// A version of a chunk on its way into an arena.
pub struct Arrival {
    pub chunk: u32,
    pub version: u64,
    pub values: Shared,
}

/// A lane's connections, as far as the worker knows.
pub struct Wire {
    pub lane: Lane,
    /// The connection for gradients, and which life of the lane it is.
    pub push: Option<(Link, u64)>,
    pub pull: Option<Link>,
    /// What was read from the connection for parameters; the first may be half in its arena.
    pub arrivals: VecDeque<Arrival>,
    pub receiving: bool,
    /// Since when there has been no connection for gradients, and for parameters, if there is none.
    pub without: [u64; 2],
}

pub struct Worker {
    pub session: Session,
    pub wires: Vec<Wire>,
    pub servers: Vec<String>,
    /// What is not received is no number.
    arenas: [Vec<f32>; 2],
    /// The computing thread.
    pub busy: bool,
    /// It is still about what the session before has asked for.
    pub stale: bool,
}

impl Worker {
    pub fn new(toy: &Toy) -> Worker {
        let arena = || vec![f32::NAN; toy.layout.len()];
        Worker {
            session: Session::new(toy.tree, toy.chunks()),
            wires: Vec::new(),
            servers: Vec::new(),
            arenas: [arena(), arena()],
            busy: false,
            stale: false,
        }
    }

    /// A new session. It begins when the computing thread is done with what was before.
    pub fn begin_anew(&mut self, toy: &Toy) {
        let busy = self.busy;
        *self = Worker::new(toy);
        (self.busy, self.stale) = (busy, busy);
    }

    /// What a computation on `version` reads; were it written meanwhile, the bits would be others.
    pub fn parameters(&self, version: u64) -> &[f32] {
        &self.arenas[(version % 2) as usize]
    }

    /// Begins to receive what comes next on a lane; returns whether that is under way, or nothing is left
    /// to receive.
    pub fn begin(&mut self, toy: &Toy, lane: usize) -> Receiving {
        loop {
            let wire = &mut self.wires[lane];
            let Some(Arrival { chunk, version, .. }) = wire.arrivals.front() else {
                return Receiving::Nothing;
            };
            match self.session.admit(*version, *chunk) {
                Admission::Write(parity) => {
                    wire.receiving = true;
                    self.arenas[parity][toy.chunk_range(*chunk)].fill(f32::NAN);
                    return Receiving::UnderWay;
                }
                Admission::Wait => return Receiving::Waits,
                Admission::Discard | Admission::Over => {
                    wire.arrivals.pop_front();
                }
            }
        }
    }

    /// The first arrival of a lane is here whole.
    pub fn received(&mut self, toy: &Toy, lane: usize) {
        let wire = &mut self.wires[lane];
        wire.receiving = false;
        let Some(arrival) = wire.arrivals.pop_front() else {
            return;
        };
        let arena = &mut self.arenas[(arrival.version % 2) as usize];
        arena[toy.chunk_range(arrival.chunk)].copy_from_slice(&arrival.values);
        self.session.received(arrival.version, arrival.chunk);
    }
}

pub enum Receiving {
    Nothing,
    UnderWay,
    Waits,
}
