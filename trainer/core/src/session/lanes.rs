//! The connections to the servers, and which leaves of the open step went on which.

use std::ops::Range;

use crate::layout::Layout;
use crate::tree::{Node, Tree};

/// Models up to this many chunks are small.
const FEW_CHUNKS: u32 = 4;

/// A pair of connections to a server, one for gradients and one for parameters, and the chunks that
/// travel on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The server.
    pub server: u32,
    /// Which of the parallel lanes to it: chunks `c` with `c % of == index`.
    pub index: u32,
    /// How many there are.
    pub of: u32,
    /// The chunks, in order.
    pub chunks: Vec<u32>,
}

impl Lane {
    /// Whether a model is so small that it has one lane to each server, and is pushed by the computing
    /// thread itself: waking another takes longer than sending.
    pub fn is_small(layout: &Layout) -> bool {
        layout.chunks() <= FEW_CHUNKS
    }

    /// All lanes to `servers` servers, at most `connections` to each; none without chunks.
    pub fn all(layout: &Layout, servers: u32, connections: u32) -> Vec<Lane> {
        let of = match Self::is_small(layout) {
            true => 1,
            false => connections.max(1),
        };
        let lane = |server, index| Lane {
            server,
            index,
            of,
            chunks: layout
                .shard(server, servers)
                .filter(|chunk| chunk % of == index)
                .collect(),
        };
        (0..servers)
            .flat_map(|server| (0..of).map(move |index| lane(server, index)))
            .filter(|lane| !lane.chunks.is_empty())
            .collect()
    }
}

/// What went on a lane's connection for gradients.
#[derive(Clone, Debug, Default)]
struct Told {
    /// Counts connections, to tell what concerns a former one.
    life: u64,
    open: bool,
    /// Leaves of the open step.
    leaves: Vec<bool>,
}

/// Which leaves of the open step went on which lane.
#[derive(Debug)]
pub(super) struct Ledger {
    tree: Tree,
    step: u64,
    lanes: Vec<Told>,
}

impl Ledger {
    pub fn new(tree: Tree) -> Self {
        Ledger {
            tree,
            step: 0,
            lanes: Vec::new(),
        }
    }

    pub fn connect(&mut self, lanes: usize) {
        let none = Told {
            leaves: vec![false; self.tree.leaves() as usize],
            ..Told::default()
        };
        self.lanes = vec![none; lanes];
    }

    pub fn opened(&mut self, lane: usize) -> u64 {
        let told = &mut self.lanes[lane];
        told.life += 1;
        told.open = true;
        told.leaves.fill(false);
        told.life
    }

    pub fn lost(&mut self, lane: usize, life: u64) {
        let told = &mut self.lanes[lane];
        if told.life == life {
            told.open = false;
        }
    }

    /// Of our leaves of `step`, those that some lane lacks; nothing if there are none, or while a lane
    /// is not open, for they would have to be computed again for it.
    pub fn missing(&mut self, step: u64, ours: Range<u32>) -> Option<Vec<bool>> {
        if self.step != step {
            self.step = step;
            self.lanes
                .iter_mut()
                .for_each(|told| told.leaves.fill(false));
        }
        if self.lanes.iter().any(|told| !told.open) {
            return None;
        }
        let lacks = |leaf: u32| self.lanes.iter().any(|told| !told.leaves[leaf as usize]);
        let missing = |leaf| ours.contains(&leaf) && lacks(leaf);
        let missing: Vec<bool> = (0..self.tree.leaves()).map(missing).collect();
        missing.contains(&true).then_some(missing)
    }

    pub fn owes(&self, lane: usize, step: u64, node: Node) -> Option<u64> {
        let told = &self.lanes[lane];
        let mut span = self.tree.span(node);
        let lacks = self.step != step || span.any(|leaf| !told.leaves[leaf as usize]);
        (told.open && lacks).then_some(told.life)
    }

    pub fn pushed(&mut self, lane: usize, life: u64, step: u64, node: Node) {
        let told = &mut self.lanes[lane];
        if self.step == step && told.life == life {
            let span = self.tree.span(node);
            told.leaves[span.start as usize..span.end as usize].fill(true);
        }
    }
}
