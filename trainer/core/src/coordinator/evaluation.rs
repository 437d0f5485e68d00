//! One pass over fixed row blocks, shared by whoever is there.

use std::collections::BTreeMap;

use super::PeerId;
use crate::control::{Block, EVALUATION_BLOCK_ROWS, RowSet};
use crate::metrics::BlockResult;

/// An evaluation pass in progress. Blocks are merged in block order, whoever computed them.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Names the pass, so that an answer to an older one is not taken for this one.
    pub id: u64,
    /// The version to evaluate.
    pub version: u64,
    results: BTreeMap<Block, Option<BlockResult>>,
    assigned: BTreeMap<Block, PeerId>,
}

impl Evaluation {
    /// A pass over `rows` rows of `set`.
    pub fn new(id: u64, version: u64, set: RowSet, rows: u64) -> Self {
        let blocks = rows.div_ceil(EVALUATION_BLOCK_ROWS);
        let results = (0..blocks).map(|b| (Block(set, b), None)).collect();
        Evaluation { id, version, results, assigned: BTreeMap::new() }
    }

    /// Gives every open block without a living owner to one of `workers`; returns the new work.
    pub fn distribute(&mut self, workers: &[PeerId]) -> BTreeMap<PeerId, Vec<Block>> {
        let mut work: BTreeMap<PeerId, Vec<Block>> = BTreeMap::new();
        if workers.is_empty() {
            return work;
        }
        let open = self.results.iter().filter(|(_, result)| result.is_none());
        for (turn, (block, _)) in open.enumerate() {
            let owned = self.assigned.get(block).is_some_and(|peer| workers.contains(peer));
            if !owned {
                let peer = workers[turn % workers.len()];
                self.assigned.insert(*block, peer);
                work.entry(peer).or_default().push(*block);
            }
        }
        work
    }

    /// Takes a result; a repeated or unknown one is ignored.
    pub fn accept(&mut self, block: Block, result: BlockResult) {
        if let Some(slot) = self.results.get_mut(&block) {
            slot.get_or_insert(result);
        }
    }

    /// All results in block order, once complete.
    pub fn complete(&self) -> Option<Vec<BlockResult>> {
        self.results.values().cloned().collect()
    }
}
