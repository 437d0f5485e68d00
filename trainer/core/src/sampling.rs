//! Which rows a step trains on: a pure function of (seed, rows, batch size, step).
//!
//! Every epoch visits every training row exactly once, in an order of its own. The short last
//! batch of an epoch is kept. How many workers there are plays no part.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::philox::{Purpose, Stream};

/// Why a dataset cannot be sampled as asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SamplingError {
    /// A plan needs at least one row, one row a batch, and one epoch.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// Rows are numbered in 32 bits.
    #[error("the dataset has {0} rows; at most 4294967295 are supported")]
    TooManyRows(u64),
    /// The number of steps does not fit in 64 bits.
    #[error(
        "{epochs} epochs of {steps} steps are more steps than can be counted; train fewer epochs"
    )]
    TooManySteps {
        /// Epochs asked for.
        epochs: u64,
        /// Steps of each.
        steps: u64,
    },
    /// The validation fraction is not between 0 and 1.
    #[error("the validation fraction is {0}; it must be greater than 0 and less than 1")]
    Fraction(f64),
    /// One side of the split would be empty.
    #[error(
        "a validation fraction of {fraction} splits {rows} rows into {train} for training and {validation} for \
         validation; both need at least 1: choose another fraction, or leave validation out"
    )]
    EmptySplit {
        /// Rows of the dataset.
        rows: u64,
        /// The fraction asked for.
        fraction: f64,
        /// Rows left for training.
        train: u64,
        /// Rows left for validation.
        validation: u64,
    },
    /// The permutation does not fit in memory.
    #[error("not enough memory for the order of {0} rows")]
    OutOfMemory(u64),
}

/// The steps of a training run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Training rows.
    pub rows: u64,
    /// Rows of a global batch.
    pub batch_size: u64,
    /// Passes over the data.
    pub epochs: u64,
    /// Seed of the run.
    pub seed: u64,
}

/// Where a step stands in its epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// 0-based epoch.
    pub epoch: u64,
    /// 0-based step within the epoch.
    pub step_in_epoch: u64,
    /// The global batch, as positions in the epoch's permutation.
    pub rows: Range<u64>,
}

impl Plan {
    /// A plan that can be carried out. A plan made otherwise does not panic either: a batch size
    /// of 0 counts as 1, and sums saturate.
    ///
    /// # Errors
    /// If any size is 0, or the rows or the steps are too many.
    pub fn new(rows: u64, batch_size: u64, epochs: u64, seed: u64) -> Result<Self, SamplingError> {
        let zero = [
            (rows, "rows"),
            (batch_size, "batchSize"),
            (epochs, "epochs"),
        ];
        if let Some((_, name)) = zero.into_iter().find(|(value, _)| *value == 0) {
            return Err(SamplingError::Zero(name));
        }
        row_count(rows)?;
        let plan = Plan {
            rows,
            batch_size,
            epochs,
            seed,
        };
        let steps = plan.steps_per_epoch();
        epochs
            .checked_mul(steps)
            .ok_or(SamplingError::TooManySteps { epochs, steps })?;
        Ok(plan)
    }

    /// Steps of one epoch, the short last batch included.
    pub fn steps_per_epoch(&self) -> u64 {
        self.rows.div_ceil(self.batch_size.max(1))
    }

    /// Steps of the run.
    pub fn total_steps(&self) -> u64 {
        self.steps_per_epoch().saturating_mul(self.epochs)
    }

    /// Where 0-based `step` stands. A step past the run's last continues into epochs beyond it.
    pub fn position(&self, step: u64) -> Position {
        let steps = self.steps_per_epoch().max(1);
        let step_in_epoch = step % steps;
        let start = step_in_epoch
            .saturating_mul(self.batch_size.max(1))
            .min(self.rows);
        let end = start.saturating_add(self.batch_size.max(1)).min(self.rows);
        Position {
            epoch: step / steps,
            step_in_epoch,
            rows: start..end,
        }
    }
}

/// The order of an epoch's rows: `permutation[position] = row`, by Fisher and Yates from the last
/// position down.
///
/// # Errors
/// If there are more rows than fit in 32 bits or in memory.
pub fn permutation(seed: u64, epoch: u64, rows: u64) -> Result<Vec<u32>, SamplingError> {
    shuffled(Stream::new(seed, Purpose::Shuffle, epoch, 0, 0), rows)
}

/// Which rows a split keeps together or apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SplitBy<'a> {
    /// So many rows, at random.
    Random(u64),
    /// At random within each class, so that both sides have each class's share; the class of each row.
    Classes(&'a [u32]),
    /// Whole groups at random; the group of each row.
    Groups(&'a [u32]),
    /// The rows with the greatest values validate; the value of each row.
    Order(&'a [f64]),
}

/// Splits rows into (training, validation), both ascending.
///
/// Validation gets `rows * fraction` rows, computed in f64 and rounded to the nearest integer, a half away from zero; of
/// groups `groups * fraction`, rounded up, as scikit-learn's `GroupShuffleSplit`. Classes share the rows of validation by
/// largest remainders, as its `StratifiedShuffleSplit`; of equal remainders the class with the lower number comes first.
/// Rows of equal values keep their order.
///
/// # Errors
/// If the fraction is not strictly between 0 and 1, one side would be empty, or there are more
/// rows than fit in 32 bits or in memory.
pub fn split(
    seed: u64,
    fraction: f64,
    by: SplitBy<'_>,
) -> Result<(Vec<u32>, Vec<u32>), SamplingError> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(SamplingError::Fraction(fraction));
    }
    let rows = by.rows();
    row_count(rows)?;
    let stream = || Stream::new(seed, Purpose::Split, 0, 0, 0);
    let validation = libm::round(rows as f64 * fraction) as u64;
    let mut validates = vec![false; rows as usize];
    match by {
        SplitBy::Random(_) => {
            let order = shuffled(stream(), rows)?;
            let chosen = order.iter().rev().take(validation as usize);
            chosen.for_each(|&row| validates[row as usize] = true);
        }
        SplitBy::Classes(classes) => {
            let mut open = shares(classes, validation);
            // With a single class this is the split at random.
            for &row in shuffled(stream(), rows)?.iter().rev() {
                let open = &mut open[classes[row as usize] as usize];
                validates[row as usize] = *open > 0;
                *open = open.saturating_sub(1);
            }
        }
        SplitBy::Groups(groups) => {
            let count = groups.iter().max().map_or(0, |last| u64::from(*last) + 1);
            let chosen = libm::ceil(count as f64 * fraction) as usize;
            let mut is_chosen = vec![false; count as usize];
            let order = shuffled(stream(), count)?;
            order
                .iter()
                .rev()
                .take(chosen)
                .for_each(|&group| is_chosen[group as usize] = true);
            for (validates, group) in validates.iter_mut().zip(groups) {
                *validates = is_chosen[*group as usize];
            }
        }
        SplitBy::Order(values) => {
            let mut order: Vec<u32> = (0..rows as u32).collect();
            order.sort_by(|a, b| values[*a as usize].total_cmp(&values[*b as usize]));
            let chosen = order.iter().rev().take(validation as usize);
            chosen.for_each(|&row| validates[row as usize] = true);
        }
    }
    let (chosen, train): (Vec<u32>, Vec<u32>) =
        (0..rows as u32).partition(|&row| validates[row as usize]);
    if train.is_empty() || chosen.is_empty() {
        return Err(SamplingError::EmptySplit {
            rows,
            fraction,
            train: train.len() as u64,
            validation: chosen.len() as u64,
        });
    }
    Ok((train, chosen))
}

impl SplitBy<'_> {
    fn rows(&self) -> u64 {
        match self {
            SplitBy::Random(rows) => *rows,
            SplitBy::Classes(of) | SplitBy::Groups(of) => of.len() as u64,
            SplitBy::Order(values) => values.len() as u64,
        }
    }
}

/// How many of `validation` rows each class gets.
fn shares(classes: &[u32], validation: u64) -> Vec<u64> {
    let mut counts = vec![0u64; classes.iter().max().map_or(0, |last| *last as usize + 1)];
    classes
        .iter()
        .for_each(|&class| counts[class as usize] += 1);
    let exact = |count: u64| count as f64 / classes.len() as f64 * validation as f64;
    let mut shares: Vec<u64> = counts.iter().map(|&count| exact(count) as u64).collect();
    let mut by_remainder: Vec<usize> = (0..counts.len()).collect();
    let remainder = |class: usize| exact(counts[class]) - exact(counts[class]).floor();
    by_remainder.sort_by(|&a, &b| remainder(b).total_cmp(&remainder(a)));
    let left = validation.saturating_sub(shares.iter().sum());
    for &class in by_remainder.iter().take(left as usize) {
        shares[class] += 1;
    }
    shares
}

fn row_count(rows: u64) -> Result<u32, SamplingError> {
    u32::try_from(rows).map_err(|_| SamplingError::TooManyRows(rows))
}

fn shuffled(mut stream: Stream, rows: u64) -> Result<Vec<u32>, SamplingError> {
    let count = row_count(rows)?;
    let mut order = Vec::new();
    order
        .try_reserve_exact(count as usize)
        .map_err(|_| SamplingError::OutOfMemory(rows))?;
    order.extend(0..count);
    for last in (1..order.len()).rev() {
        order.swap(last, stream.below(last as u64 + 1) as usize);
    }
    Ok(order)
}
