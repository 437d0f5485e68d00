//! One chunk: its versions, its optimizer state, and the ledger of the step in progress.

use std::sync::Arc;

use super::{Part, Push, Refusal, Rules, Shared, Version, Versions};
use crate::round::{Offer, Round, Tally};
use crate::tree::{self, Tree};

/// A chunk of a server.
#[derive(Debug)]
pub struct Chunk {
    id: u32,
    current: Version,
    /// The version before: a worker that computes on it may still lack this chunk of it.
    previous: Option<Version>,
    state: Shared,
    round: Round<Vec<f32>>,
}

/// What became of a push. Buffers that the chunk does not keep are handed back.
#[derive(Debug)]
pub enum Taken {
    /// Its step is over.
    Late(Vec<f32>),
    /// Its leaves are counted already.
    Duplicate(Vec<f32>),
    /// It is counted, and more is needed.
    Held {
        /// Buffers that are free.
        freed: Vec<Vec<f32>>,
    },
    /// The step is complete and the chunk has its next version. [`Progress::applied`] must be told
    /// before anybody sees it.
    ///
    /// [`Progress::applied`]: super::Progress::applied
    Applied {
        /// Rows and loss of the step.
        tally: Tally,
        /// The buffer of the sum.
        sum: Vec<f32>,
        /// More buffers that are free.
        freed: Vec<Vec<f32>>,
    },
}

impl Chunk {
    pub(super) fn new(id: u32, tree: Tree, version: u64, (parameters, state): Part) -> Self {
        Chunk {
            id,
            current: Version::new(version, parameters),
            previous: None,
            state,
            round: Round::new(tree),
        }
    }

    /// Its index in the arena.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Steps applied.
    pub fn version(&self) -> u64 {
        self.current.number
    }

    /// The versions that a worker may need.
    pub fn versions(&self) -> Versions {
        [self.previous.clone(), Some(self.current.clone())]
    }

    /// The leaves that the step in progress lacks, in order.
    pub fn missing(&self) -> Vec<u32> {
        self.round.missing()
    }

    /// Parameters and optimizer state of the newest version.
    pub fn part(&self) -> Part {
        (Arc::clone(&self.current.values), Arc::clone(&self.state))
    }

    /// Takes a push for this chunk. `reached` is the version that every chunk of the shard has
    /// reached; `fresh` makes a buffer for the next version, of any content.
    ///
    /// # Errors
    /// A [`Refusal`] if the push cannot be true; late and repeated pushes are no errors.
    pub fn take(
        &mut self,
        rules: &Rules,
        reached: u64,
        push: &Push,
        payload: Vec<f32>,
        fresh: impl FnOnce() -> Vec<f32>,
    ) -> Result<Taken, Refusal> {
        let (expected, actual) = (self.current.values.len(), payload.len());
        if actual != expected {
            return Err(Refusal::Length {
                chunk: self.id,
                expected,
                actual,
            });
        }
        if push.step < self.version() {
            return Ok(Taken::Late(payload));
        }
        // Whoever has parameters of a step has seen every chunk reach it.
        if push.step > reached || push.step >= rules.plan.total_steps() {
            return Err(Refusal::Future {
                chunk: self.id,
                step: push.step,
                version: self.version(),
            });
        }
        check_tally(rules, push)?;
        let mut add = |left: &mut Vec<f32>, right: &Vec<f32>| tree::add(left, right);
        match self.round.offer(push.node, payload, push.tally, &mut add) {
            Offer::Invalid(_) => Err(Refusal::Node(push.node.get())),
            Offer::Duplicate(value) => Ok(Taken::Duplicate(value)),
            Offer::Held { freed } => Ok(Taken::Held { freed }),
            Offer::Complete {
                sum,
                tally,
                mut freed,
            } => {
                let fresh = || freed.pop().unwrap_or_else(fresh);
                self.apply(rules, &sum, tally, fresh)?;
                Ok(Taken::Applied { tally, sum, freed })
            }
        }
    }

    /// Applies a complete sum. The tally's rows are those of the batch, because every push has the
    /// rows of its leaves.
    fn apply(
        &mut self,
        rules: &Rules,
        sum: &[f32],
        tally: Tally,
        fresh: impl FnOnce() -> Vec<f32>,
    ) -> Result<(), Refusal> {
        let step = self.version();
        // The version before last: free unless somebody is still sending it.
        let previous = self.previous.take().map(|version| version.values);
        let mut new = match previous.map(Arc::try_unwrap) {
            Some(Ok(buffer)) => buffer,
            _ => fresh(),
        };
        new.resize(sum.len(), 0.0);
        let rate = rules.learning_rate.at(step);
        let slots = Arc::make_mut(&mut self.state); // copies while a snapshot holds it
        let (current, rows) = (&self.current.values, tally.rows as f32);
        rules
            .optimizer
            .apply(step, rate, rows, current, sum, slots, &mut new)?;
        let start = rules.layout.chunk_range(self.id).start;
        rules.layout.clear_padding(start, &mut new);
        self.advance(step + 1, new);
        Ok(())
    }

    fn advance(&mut self, version: u64, new: Vec<f32>) {
        let new = Version::new(version, Arc::new(new));
        self.previous = Some(std::mem::replace(&mut self.current, new));
    }

    /// Makes other parameters the newest version; `false` if it is not newer, because it was asked
    /// for twice. [`Progress::replaced`] must be told before anybody sees it.
    ///
    /// [`Progress::replaced`]: super::Progress::replaced
    pub fn replace(&mut self, version: u64, parameters: &[f32]) -> bool {
        let newer = version > self.version();
        if newer {
            self.advance(version, parameters.to_vec());
        }
        newer
    }
}

/// Refuses what does not stand for the rows of its leaves, or has no loss, before it takes the place of
/// what does: nobody pushes a second time what the ledger has taken.
fn check_tally(rules: &Rules, push: &Push) -> Result<(), Refusal> {
    let Push {
        step, node, tally, ..
    } = *push;
    if !rules.tree.valid(node) {
        return Err(Refusal::Node(node.get()));
    }
    let loss = || Refusal::Loss {
        step,
        node: node.get(),
        loss: tally.loss.to_string(),
    };
    if !tally.loss.is_finite() {
        return Err(loss());
    }
    let batch = rules.plan.position(step).rows;
    let rows = rules.tree.node_rows(node, batch.end - batch.start);
    let (expected, actual) = (rows.end - rows.start, tally.rows);
    if actual != expected {
        return Err(Refusal::Rows {
            step,
            node: node.get(),
            expected,
            actual,
        });
    }
    // The loss of a leaf is an f32, and 0 without rows. Of larger ones the sum over an epoch could be infinite,
    // which JSON has no number for: nobody could read the checkpoint.
    if tally.loss.abs() > f64::from(f32::MAX) * tally.rows as f64 {
        return Err(loss());
    }
    Ok(())
}
