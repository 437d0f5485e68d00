//! Metrics beyond the loss, from the details of blocks in block order.

use std::cmp::Ordering;

use super::{BlockResult, Detail, Metrics, TaskKind};

/// Rows of a class, by label and by prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Rows of this class.
    pub labelled: u64,
    /// Rows predicted to be.
    pub predicted: u64,
    /// Rows of this class predicted to be.
    pub correct: u64,
}

impl Counts {
    /// 0 where nothing is predicted.
    pub fn precision(&self) -> f64 {
        ratio(self.correct, self.predicted).unwrap_or(0.0)
    }

    /// 0 where nothing is labelled.
    pub fn recall(&self) -> f64 {
        ratio(self.correct, self.labelled).unwrap_or(0.0)
    }

    /// `2 correct / (labelled + predicted)`; 0 where nothing is labelled or predicted.
    pub fn f1(&self) -> f64 {
        let sum = u128::from(self.labelled) + u128::from(self.predicted);
        match sum {
            0 => 0.0,
            _ => 2.0 * self.correct as f64 / sum as f64,
        }
    }
}

/// Scores and labels of a binary task.
pub(super) fn rows(blocks: &[&BlockResult]) -> Vec<(f32, bool)> {
    let mut rows = Vec::new();
    for block in blocks {
        if let Detail::Binary { scores, labels } = &block.detail {
            rows.extend(scores.iter().copied().zip(labels.iter().copied()));
        }
    }
    rows
}

/// Accuracy, areas under curves, and precision, recall and F1 of class 1, which is predicted above `cutoff`.
pub fn binary(blocks: &[&BlockResult], cutoff: f32) -> Metrics {
    let mut rows = rows(blocks);
    let is_positive = |score: f32| score > cutoff;
    let count = |is_in: &dyn Fn(f32, bool) -> bool| {
        rows.iter()
            .filter(|(score, label)| is_in(*score, *label))
            .count() as u64
    };
    let right = count(&|score, label| is_positive(score) == label);
    let counts = Counts {
        labelled: count(&|_, label| label),
        predicted: count(&|score, _| is_positive(score)),
        correct: count(&|score, label| is_positive(score) && label),
    };
    Metrics {
        accuracy: ratio(right, rows.len() as u64),
        precision: Some(counts.precision()),
        recall: Some(counts.recall()),
        f1: Some(counts.f1()),
        pr_auc: average_precision(&mut rows),
        auc: auc(&mut rows),
        ..Metrics::default()
    }
}

/// The counts of each class.
pub(super) fn counts(blocks: &[&BlockResult], classes: u32) -> Vec<Counts> {
    let mut sums = vec![Counts::default(); classes as usize];
    let task = TaskKind::Multiclass { classes };
    for block in blocks {
        match &block.detail {
            Detail::Multiclass {
                labelled,
                predicted,
                correct,
            } => {
                let block = labelled.iter().zip(predicted).zip(correct);
                for (sum, ((labelled, predicted), correct)) in sums.iter_mut().zip(block) {
                    sum.labelled = sum.labelled.saturating_add(*labelled);
                    sum.predicted = sum.predicted.saturating_add(*predicted);
                    sum.correct = sum.correct.saturating_add(*correct);
                }
            }
            Detail::Scores { labels, logits } => {
                for (&label, logits) in labels
                    .iter()
                    .zip(logits.chunks_exact(task.outputs().max(1)))
                {
                    let predicted = task.predicted_class(logits).unwrap_or(0);
                    sums[label as usize].labelled += 1;
                    sums[predicted as usize].predicted += 1;
                    sums[label as usize].correct += u64::from(predicted == label);
                }
            }
            Detail::Binary { .. } | Detail::Regression { .. } => {}
        }
    }
    sums
}

/// Accuracy, and precision, recall and F1 averaged over the classes that occur among labels or predictions.
pub fn multiclass(blocks: &[&BlockResult], classes: u32) -> Metrics {
    let counts = counts(blocks, classes);
    let total = |part: fn(&Counts) -> u64| counts.iter().map(part).fold(0, u64::saturating_add);
    let seen = || {
        counts
            .iter()
            .filter(|counts| counts.labelled > 0 || counts.predicted > 0)
    };
    let macro_mean =
        |score: fn(&Counts) -> f64| Some(seen().map(score).sum::<f64>() / seen().count() as f64);
    Metrics {
        accuracy: ratio(
            total(|counts| counts.correct),
            total(|counts| counts.labelled),
        ),
        precision: macro_mean(Counts::precision),
        recall: macro_mean(Counts::recall),
        f1: macro_mean(Counts::f1),
        ..Metrics::default()
    }
}

/// RMSE, MAE, MAPE and R2.
pub fn regression(blocks: &[&BlockResult]) -> Metrics {
    let mut all = BlockResult::empty(TaskKind::Regression);
    blocks.iter().for_each(|block| all.merge((*block).clone()));
    let Detail::Regression {
        deviation,
        squared,
        absolute,
        relative,
        ..
    } = all.detail
    else {
        return Metrics::default();
    };
    let rows = all.rows as f64;
    Metrics {
        rmse: Some(libm::sqrt(squared / rows)),
        mae: Some(absolute / rows),
        mape: Some(relative / rows),
        r2: (deviation > 0.0).then(|| 1.0 - squared / rows * rows / deviation),
        ..Metrics::default()
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The sum over the thresholds of (recall - recall of the one above) x precision, as scikit-learn's
/// `average_precision_score`. None without a row of class 1, or with a score that is NaN. Sorts the rows by score.
fn average_precision(rows: &mut [(f32, bool)]) -> Option<f64> {
    if rows.iter().any(|(score, _)| score.is_nan()) {
        return None;
    }
    rows.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let positives = rows.iter().filter(|(_, label)| *label).count();
    let (mut predicted, mut correct, mut sum) = (0, 0, 0.0);
    // -0 and 0 are one threshold, and next to each other.
    for group in rows.chunk_by(|a, b| a.0 == b.0) {
        let more = group.iter().filter(|(_, label)| *label).count();
        predicted += group.len();
        correct += more;
        sum += more as f64 * (correct as f64 / predicted as f64);
    }
    (positives > 0).then(|| sum / positives as f64)
}

/// Area under the ROC curve as the Mann-Whitney statistic: the share of (positive, negative) pairs
/// in which the positive scores higher, a tie counting one half. In integers, so exact. None without
/// both classes, or with a score that is NaN. Sorts the rows by score.
pub(super) fn auc<S: PartialOrd + Copy>(rows: &mut [(S, bool)]) -> Option<f64> {
    if rows
        .iter()
        .any(|(score, _)| score.partial_cmp(score).is_none())
    {
        return None;
    }
    rows.sort_unstable_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal));
    // Twice the pairs won; negatives below the current group of equal scores.
    let (mut won, mut below, mut positives) = (0_u128, 0_u128, 0_u128);
    for group in rows.chunk_by(|a, b| a.0 == b.0) {
        let high = group.iter().filter(|(_, label)| *label).count() as u128;
        let low = group.len() as u128 - high;
        won += high * (2 * below + low);
        below += low;
        positives += high;
    }
    let pairs = positives * below;
    (pairs > 0).then(|| won as f64 / (2 * pairs) as f64)
}
