//! One pass over fixed row blocks, shared by whoever is there.

use std::collections::{BTreeMap, BTreeSet};

use super::PeerId;
use crate::control::{Block, EVALUATION_BLOCK_ROWS, Evaluate, RowSet};
use crate::metrics::{self, BlockResult, Detail, TaskKind};

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
    /// Rows of each set.
    rows: BTreeMap<RowSet, u64>,
    /// Whether the scores of all classes are wanted of the validation and test rows.
    scores: bool,
    /// Blocks that nobody computes.
    waiting: BTreeSet<Block>,
    /// Blocks that somebody was asked for.
    asked: BTreeMap<Block, PeerId>,
    results: BTreeMap<Block, BlockResult>,
}

impl Evaluation {
    /// A pass over so many rows of each set.
    pub fn new(id: u64, version: u64, rows: impl IntoIterator<Item = (RowSet, u64)>) -> Self {
        let rows: BTreeMap<RowSet, u64> = rows.into_iter().collect();
        let blocks = |(set, rows): (&RowSet, &u64)| {
            let set = *set;
            (0..rows.div_ceil(EVALUATION_BLOCK_ROWS)).map(move |number| Block(set, number))
        };
        Evaluation {
            id,
            version,
            waiting: rows.iter().flat_map(blocks).collect(),
            rows,
            scores: false,
            asked: BTreeMap::new(),
            results: BTreeMap::new(),
        }
    }

    /// The same, with the scores of all classes if a report can have them.
    pub fn for_reports(mut self, task: TaskKind) -> Self {
        let reported = self.rows.iter().filter(|(set, _)| **set != RowSet::Train);
        self.scores = metrics::has_scores(task, reported.map(|(_, rows)| rows).sum());
        self
    }

    /// What a worker is asked for.
    pub fn order(&self, blocks: Vec<Block>) -> Evaluate {
        Evaluate {
            id: self.id,
            version: self.version,
            scores: self.scores,
            blocks,
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
        let Block(set, number) = block;
        let start = number * EVALUATION_BLOCK_ROWS; // of a block that exists: no overflow
        let of_set = self.rows.get(&set).copied().unwrap_or(0);
        let rows = of_set.saturating_sub(start).min(EVALUATION_BLOCK_ROWS);
        let scores = self.scores && set != RowSet::Train;
        let as_asked = matches!(result.detail, Detail::Scores { .. }) == scores;
        if result.rows != rows || !result.fits(task) || !as_asked {
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
        let most = self.rows.values().max().copied().unwrap_or(0);
        most.min(EVALUATION_BLOCK_ROWS)
    }

    /// Whether all results are here.
    pub fn is_complete(&self) -> bool {
        self.waiting.is_empty() && self.asked.is_empty()
    }

    /// The results of a set that are here, in block order.
    pub fn results(&self, set: RowSet) -> Vec<BlockResult> {
        let of_set = Block(set, 0)..=Block(set, u64::MAX);
        self.results
            .range(of_set)
            .map(|(_, result)| result.clone())
            .collect()
    }
}
