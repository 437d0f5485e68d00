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
    /// A share of the rows is not between 0 and 1.
    #[error("the {part} fraction is {fraction}; it must be greater than 0 and less than 1")]
    Fraction {
        /// `validation` or `test`.
        part: &'static str,
        /// The share asked for.
        fraction: f64,
    },
    /// A part of the split would be empty.
    #[error(
        "of {count} {of} none are left for {part}: choose other fractions of validation and test"
    )]
    EmptySplit {
        /// Rows of the dataset, or their groups.
        count: u64,
        /// `rows` or `groups`.
        of: &'static str,
        /// `training`, `validation` or `the test`.
        part: &'static str,
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

/// Shares of the rows that are set aside; none where there is no such part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// For validation after each epoch.
    pub validation: Option<f64>,
    /// For the test at the end.
    pub test: Option<f64>,
}

/// The rows of each part, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Rows to train on.
    pub train: Vec<u32>,
    /// Rows for validation.
    pub validation: Vec<u32>,
    /// Rows for the test.
    pub test: Vec<u32>,
}

/// Splits rows into parts: those of the test are set aside first, then those of validation from what is left.
///
/// A part gets `rows * fraction` of all rows, computed in f64 and rounded to the nearest integer, a half away from zero; of
/// groups `groups * fraction`, rounded up, as scikit-learn's `GroupShuffleSplit`. Classes share the rows of a part by
/// largest remainders, as its `StratifiedShuffleSplit`; of equal remainders the class with the lower number comes first.
/// Rows of equal values keep their order.
///
/// # Errors
/// If a fraction is not strictly between 0 and 1, a part would be empty, or there are more
/// rows than fit in 32 bits or in memory.
pub fn split(seed: u64, shares: Shares, by: SplitBy<'_>) -> Result<Parts, SamplingError> {
    split_by(seed, shares, by, by)
}

/// As [`split`], with a rule of its own for the rows of each part. Both are of the same rows.
///
/// # Errors
/// As [`split`].
pub fn split_by(
    seed: u64,
    shares: Shares,
    for_validation: SplitBy<'_>,
    for_test: SplitBy<'_>,
) -> Result<Parts, SamplingError> {
    let rows = for_validation.rows();
    row_count(rows)?;
    let mut is_left = vec![true; rows as usize];
    let mut set_aside = |part, fraction: Option<f64>, by: SplitBy<'_>| {
        let Some(fraction) = fraction else {
            return Ok(Vec::new());
        };
        if !(fraction > 0.0 && fraction < 1.0) {
            return Err(SamplingError::Fraction { part, fraction });
        }
        let chosen = by.choose(&by.order(seed)?, &is_left, fraction);
        chosen.iter().for_each(|&row| is_left[row as usize] = false);
        Ok(chosen)
    };
    let test = set_aside("test", shares.test, for_test)?;
    let validation = set_aside("validation", shares.validation, for_validation)?;
    let train: Vec<u32> = (0..)
        .zip(&is_left)
        .filter(|(_, left)| **left)
        .map(|(row, _)| row)
        .collect();
    let last = match shares.validation {
        Some(_) => for_validation,
        None => for_test,
    };
    let parts = [
        ("training", true, &train, last),
        (
            "validation",
            shares.validation.is_some(),
            &validation,
            for_validation,
        ),
        ("the test", shares.test.is_some(), &test, for_test),
    ];
    if let Some((part, _, _, by)) = parts
        .iter()
        .find(|(_, wanted, rows, _)| *wanted && rows.is_empty())
    {
        let (count, of) = match by {
            SplitBy::Groups(groups) => (count(groups) as u64, "groups"),
            _ => (rows, "rows"),
        };
        return Err(SamplingError::EmptySplit { count, of, part });
    }
    Ok(Parts {
        train,
        validation,
        test,
    })
}

impl SplitBy<'_> {
    fn rows(&self) -> u64 {
        match self {
            SplitBy::Random(rows) => *rows,
            SplitBy::Classes(of) | SplitBy::Groups(of) => of.len() as u64,
            SplitBy::Order(values) => values.len() as u64,
        }
    }

    /// Rows, or groups, in an order of which the last are set aside first.
    fn order(&self, seed: u64) -> Result<Vec<u32>, SamplingError> {
        let shuffled = |count| shuffled(Stream::new(seed, Purpose::Split, 0, 0, 0), count);
        match self {
            // Of a single class these are the same.
            SplitBy::Random(_) | SplitBy::Classes(_) => shuffled(self.rows()),
            SplitBy::Groups(groups) => shuffled(count(groups) as u64),
            SplitBy::Order(values) => {
                let mut order: Vec<u32> = (0..values.len() as u32).collect();
                order.sort_by(|a, b| values[*a as usize].total_cmp(&values[*b as usize]));
                Ok(order)
            }
        }
    }

    /// A share of all rows, ascending, from those that are left.
    fn choose(&self, order: &[u32], is_left: &[bool], fraction: f64) -> Vec<u32> {
        let rows = libm::round(self.rows() as f64 * fraction) as usize;
        let last = order.iter().rev().copied();
        let mut chosen: Vec<u32> = match self {
            SplitBy::Random(_) | SplitBy::Order(_) => last
                .filter(|&row| is_left[row as usize])
                .take(rows)
                .collect(),
            SplitBy::Classes(classes) => {
                let mut open = class_shares(classes, is_left, rows as u64);
                let mut has_room = |row: u32| {
                    let open = &mut open[classes[row as usize] as usize];
                    let has_room = *open > 0;
                    *open = open.saturating_sub(1);
                    has_room
                };
                last.filter(|&row| is_left[row as usize] && has_room(row))
                    .collect()
            }
            SplitBy::Groups(groups) => {
                let mut is_gone = vec![true; count(groups)];
                let left = groups.iter().zip(is_left).filter(|(_, left)| **left);
                left.for_each(|(group, _)| is_gone[*group as usize] = false);
                let mut is_chosen = vec![false; count(groups)];
                let wanted = libm::ceil(count(groups) as f64 * fraction) as usize;
                let groups_left = last.filter(|&group| !is_gone[group as usize]);
                groups_left
                    .take(wanted)
                    .for_each(|group| is_chosen[group as usize] = true);
                // Of a group that another rule has divided, what is left.
                let of_group = (0..).zip(*groups).zip(is_left);
                let of_group =
                    of_group.filter(|((_, group), left)| **left && is_chosen[**group as usize]);
                of_group.map(|((row, _), _)| row).collect()
            }
        };
        chosen.sort_unstable();
        chosen
    }
}

/// How many classes or groups there are.
fn count(of: &[u32]) -> usize {
    of.iter().max().map_or(0, |last| *last as usize + 1)
}

/// How many of `chosen` rows each class gets, of those that are left.
fn class_shares(classes: &[u32], is_left: &[bool], chosen: u64) -> Vec<u64> {
    let mut counts = vec![0u64; count(classes)];
    let left = classes.iter().zip(is_left).filter(|(_, left)| **left);
    left.for_each(|(class, _)| counts[*class as usize] += 1);
    let rows: u64 = counts.iter().sum();
    let exact = |count: u64| count as f64 / rows as f64 * chosen as f64;
    let mut shares: Vec<u64> = counts.iter().map(|&count| exact(count) as u64).collect();
    let mut by_remainder: Vec<usize> = (0..counts.len()).collect();
    let remainder = |class: usize| exact(counts[class]) - exact(counts[class]).floor();
    by_remainder.sort_by(|&a, &b| remainder(b).total_cmp(&remainder(a)));
    let open = chosen.saturating_sub(shares.iter().sum());
    for &class in by_remainder.iter().take(open as usize) {
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
