//! One pass over fixed row blocks, shared by whoever is there.

use std::collections::{BTreeMap, BTreeSet};

use super::PeerId;
use crate::control::{Block, EVALUATION_BLOCK_ROWS, RowSet};
use crate::metrics::{BlockResult, TaskKind};

/// Blocks that one worker is asked for at a time. It bounds a message, and what is lost with a
/// worker.
pub const BLOCKS_AHEAD: usize = 64;

/// Why a result is not taken.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Unfit {
    /// It is of another task, or of another number of rows, or contradicts itself.
    Inconsistent,
    /// The loss is NaN or infinite.
    NotFinite(f64),
}

/// An evaluation pass in progress. Blocks are merged in block order, whoever computed them.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Names the pass, so that an answer to an older one is not taken for this one.
    pub id: u64,
    /// The version to evaluate.
    pub version: u64,
    rows: u64,
    /// Blocks that nobody computes.
    waiting: BTreeSet<Block>,
    /// Blocks that somebody was asked for.
    asked: BTreeMap<Block, PeerId>,
    results: BTreeMap<Block, BlockResult>,
}

impl Evaluation {
    /// A pass over `rows` rows of `set`.
    pub fn new(id: u64, version: u64, set: RowSet, rows: u64) -> Self {
        let blocks = rows.div_ceil(EVALUATION_BLOCK_ROWS);
        Evaluation {
            id,
            version,
            rows,
            waiting: (0..blocks).map(|b| Block(set, b)).collect(),
            asked: BTreeMap::new(),
            results: BTreeMap::new(),
        }
    }

    /// Gives blocks without a living owner to the least busy of `workers`; returns the new work.
    pub fn distribute(&mut self, workers: &[PeerId]) -> BTreeMap<PeerId, Vec<Block>> {
        let mut busy: BTreeMap<PeerId, usize> = workers.iter().map(|peer| (*peer, 0)).collect();
        for (block, peer) in std::mem::take(&mut self.asked) {
            if let Some(load) = busy.get_mut(&peer) {
                *load += 1;
                self.asked.insert(block, peer);
            } else {
                self.waiting.insert(block);
            }
        }
        let mut work: BTreeMap<PeerId, Vec<Block>> = BTreeMap::new();
        while let Some((peer, load)) = busy.iter_mut().min_by_key(|(_, load)| **load)
            && *load < BLOCKS_AHEAD
            && let Some(block) = self.waiting.pop_first()
        {
            *load += 1;
            self.asked.insert(block, *peer);
            work.entry(*peer).or_default().push(block);
        }
        work
    }

    /// Takes a result of a worker that was asked for it. One that others were asked for, that is repeated or
    /// unknown is ignored.
    ///
    /// # Errors
    /// If it cannot be the result of this block, or its loss is not finite.
    pub fn accept(
        &mut self,
        peer: PeerId,
        task: TaskKind,
        block: Block,
        result: BlockResult,
    ) -> Result<(), Unfit> {
        if self.asked.get(&block) != Some(&peer) {
            return Ok(());
        }
        let start = block.1 * EVALUATION_BLOCK_ROWS; // of a block that exists: no overflow
        let rows = self.rows.saturating_sub(start).min(EVALUATION_BLOCK_ROWS);
        if result.rows != rows || !result.fits(task) {
            return Err(Unfit::Inconsistent);
        }
        if !result.loss_sum.is_finite() {
            return Err(Unfit::NotFinite(result.loss_sum));
        }
        self.asked.remove(&block);
        self.results.insert(block, result);
        Ok(())
    }

    /// Blocks whose results are here.
    pub fn done(&self) -> u64 {
        self.results.len() as u64
    }

    /// Workers that were asked for a block and have not answered.
    pub fn owing(&self) -> BTreeSet<PeerId> {
        self.asked.values().copied().collect()
    }

    /// Rows of its largest block.
    pub fn rows_of_block(&self) -> u64 {
        self.rows.min(EVALUATION_BLOCK_ROWS)
    }

    /// All results in block order, once complete.
    pub fn complete(&self) -> Option<Vec<BlockResult>> {
        let whole = self.waiting.is_empty() && self.asked.is_empty();
        whole.then(|| self.results.values().cloned().collect())
    }
}
