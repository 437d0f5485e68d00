//! A worker's part in one generation: which versions it holds, what it may begin, and what it still owes
//! to which server.
//!
//! A state machine without locks, sockets or clocks. The shell has a thread that computes and pushes, and
//! for each connection one that watches or receives; all of them ask the one [`Session`] under a lock. The
//! simulation drives the same code one event at a time.
//!
//! A session outlives its connections. Where one for gradients breaks, what went on it may be lost, so
//! the leaves of the open step are computed again and pushed on that connection alone. Where one for
//! parameters breaks, the server is told what is held and sends the rest. Where the control stream
//! breaks, nothing new is begun until a coordinator of the same generation says so. A newer generation
//! is another session, and so is the next one where a server could not be reached for long.

mod arenas;
mod lanes;

use std::collections::VecDeque;

use crate::assignment::leaf_range;
use crate::control::{Evaluate, FromCoordinator, Release, ToCoordinator, View};
use crate::layout;
use crate::shard::Held;
use crate::tree::{Node, Tree};

pub use arenas::Admission;
use arenas::Arenas;
pub use lanes::Lane;
use lanes::Ledger;

/// How a session ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// The coordinator let the worker go.
    Released(Release),
    /// It cannot go on: join again.
    Lost(String),
}

/// What the computing thread does next.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// Tell the coordinator.
    Tell(ToCoordinator),
    /// Connect to the servers, and tell [`Session::connect`] over which lanes.
    Connect(Vec<String>),
    /// Compute these leaves of a step (index: leaf), and push them where they are owed.
    Compute {
        /// The step, which is the version to compute on.
        step: u64,
        /// Leaves to compute.
        leaves: Vec<bool>,
    },
    /// Evaluate blocks.
    Evaluate(Evaluate),
    /// The session is over.
    End(Ending),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Session {
    tree: Tree,
    view: Option<View>,
    /// Steps from here on may not be begun.
    limit: u64,
    /// First step not begun.
    begun: u64,
    servers: Option<Vec<String>>,
    arenas: Arenas,
    ledger: Ledger,
    /// Whether the coordinator was told, since it welcomed us, which version is here.
    ready: bool,
    /// What ends the job, and whether the coordinator was told since it welcomed us.
    verdict: Option<(ToCoordinator, bool)>,
    evaluations: VecDeque<Evaluate>,
    ended: Option<Ending>,
}

impl Session {
    /// A session for a model of `chunks` chunks, with nothing held.
    pub fn new(tree: Tree, chunks: u32) -> Self {
        Session {
            tree,
            view: None,
            limit: 0,
            begun: 0,
            servers: None,
            arenas: Arenas::new(chunks),
            ledger: Ledger::new(tree),
            ready: false,
            verdict: None,
            evaluations: VecDeque::new(),
            ended: None,
        }
    }

    /// Ends the session. The first reason stands, but a release is the coordinator's last word.
    pub fn end(&mut self, ending: Ending) {
        let stands = match &self.ended {
            None => false,
            Some(Ending::Released(_)) => true,
            Some(Ending::Lost(_)) => matches!(ending, Ending::Lost(_)),
        };
        if !stands {
            self.ended = Some(ending);
        }
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<&Ending> {
        self.ended.as_ref()
    }

    /// Takes a message of the coordinator. The answer, if it wants one, is to be sent.
    pub fn take(&mut self, message: FromCoordinator) -> Option<ToCoordinator> {
        match message {
            FromCoordinator::View(view) => {
                let moved = |servers: &Vec<String>| *servers != view.servers;
                if self.servers.as_ref().is_some_and(moved) {
                    self.end(Ending::Lost("the servers have moved".into()));
                }
                self.limit = view.limit;
                self.view = Some(view);
            }
            FromCoordinator::Evaluate(evaluate) => {
                // Only the pass in progress counts.
                self.evaluations.retain(|other| other.id == evaluate.id);
                self.evaluations.push_back(evaluate);
            }
            FromCoordinator::Halt { id } => {
                self.limit = 0;
                let next = self.begun;
                return Some(ToCoordinator::Halted { id, next });
            }
            FromCoordinator::Stalled { id, version } => {
                let servers = self.awaited(version);
                return Some(ToCoordinator::ServersAwaited { id, servers });
            }
            FromCoordinator::Release(release) => self.end(Ending::Released(release)),
            _ => {}
        }
        None
    }

    /// The servers some of whose chunks are not here at `version`, nor at a newer one.
    fn awaited(&self, version: u64) -> Vec<u32> {
        let of = self.servers.as_ref().map_or(0, Vec::len) as u32;
        let lacks = |chunk: u32| self.arenas.held(chunk) < Some(version);
        let awaited = |server: &u32| layout::shard(self.arenas.chunks(), *server, of).any(lacks);
        (0..of).filter(awaited).collect()
    }

    /// The control stream is gone. What a coordinator must hear is told again to the next.
    pub fn orphaned(&mut self) {
        self.limit = 0;
        self.ready = false;
        self.evaluations.clear();
        if let Some((_, told)) = &mut self.verdict {
            *told = false;
        }
    }

    /// A coordinator of this generation has welcomed this worker on a new stream. That the stream before
    /// is gone may not have been noticed.
    pub fn welcomed(&mut self) {
        self.orphaned();
    }

    /// The lanes over which the session is connected from now on; none of them is open.
    pub fn connect(&mut self, lanes: usize) {
        self.ledger.connect(lanes);
    }

    /// What there is to do, if anything.
    pub fn due(&mut self) -> Option<Next> {
        if let Some(ending) = &self.ended {
            return Some(Next::End(ending.clone()));
        }
        let view = self.view.as_ref()?;
        if self.servers.is_none() {
            self.servers = Some(view.servers.clone());
            return Some(Next::Connect(view.servers.clone()));
        }
        if let Some((verdict, told)) = &mut self.verdict {
            let first = !std::mem::replace(told, true);
            return first.then(|| Next::Tell(verdict.clone()));
        }
        let version = self.arenas.newest()?;
        if !std::mem::replace(&mut self.ready, true) {
            return Some(Next::Tell(ToCoordinator::Ready { version, chunks: 0 }));
        }
        self.evaluation(version).or_else(|| self.step(version))
    }

    fn evaluation(&mut self, version: u64) -> Option<Next> {
        self.evaluations.retain(|wanted| wanted.version >= version);
        let here = |wanted: &Evaluate| wanted.version == version;
        let at = self.evaluations.iter().position(here)?;
        let evaluate = self.evaluations.remove(at)?;
        self.arenas.compute(version);
        Some(Next::Evaluate(evaluate))
    }

    fn step(&mut self, step: u64) -> Option<Next> {
        let view = self.view.as_ref()?;
        // That holds for a step that was begun before, too: it may be over.
        if step >= self.limit {
            return None;
        }
        let (members, rank) = (view.members as usize, view.rank? as usize);
        let ours = leaf_range(self.tree.leaves(), members, rank);
        let leaves = self.ledger.missing(step, ours)?;
        self.arenas.compute(step);
        self.begun = self.begun.max(step + 1);
        Some(Next::Compute { step, leaves })
    }

    /// The computation that [`Session::due`] has begun is over; its arena may be received into.
    pub fn computed(&mut self) {
        self.arenas.computed();
    }

    /// The computation came to something that ends the job: no more is computed.
    pub fn failed(&mut self, verdict: ToCoordinator) {
        self.verdict.get_or_insert((verdict, false));
    }

    /// Whether a lane lacks some leaf of `node`, and in which of its lives. A push that covers leaves
    /// that were pushed before is no error.
    pub fn owes(&mut self, lane: usize, step: u64, node: Node) -> Option<u64> {
        self.ledger.owes(lane, step, node)
    }

    /// A node was written to a lane whole.
    pub fn pushed(&mut self, lane: usize, life: u64, step: u64, node: Node) {
        self.ledger.pushed(lane, life, step, node);
    }

    /// A lane's connection for gradients is there; returns its life.
    pub fn push_opened(&mut self, lane: usize) -> u64 {
        self.ledger.opened(lane)
    }

    /// A lane's connection for gradients of this life is gone: what went on it may be lost.
    pub fn push_lost(&mut self, lane: usize, life: u64) {
        self.ledger.lost(lane, life);
    }

    /// Asks where an arriving chunk goes.
    pub fn admit(&mut self, version: u64, chunk: u32) -> Admission {
        match self.ended {
            Some(_) => Admission::Over,
            None => self.arenas.admit(version, chunk),
        }
    }

    /// An admitted chunk has been received; returns whether its version is whole now.
    pub fn received(&mut self, version: u64, chunk: u32) -> bool {
        self.arenas.received(version, chunk)
    }

    /// The newest version that is held of each of these chunks.
    pub fn held(&self, chunks: &[u32]) -> Held {
        Held::of(chunks.iter().map(|chunk| self.arenas.held(*chunk)))
    }
}
