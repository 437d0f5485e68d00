//! Metrics beyond the loss, from the details of blocks in block order.

use super::{BlockResult, Detail, Metrics, TaskKind};

/// Accuracy, AUC and F1 of class 1.
pub fn binary(blocks: &[&BlockResult]) -> Metrics {
    let mut rows = Vec::new();
    for block in blocks {
        if let Detail::Binary { scores, labels } = &block.detail {
            rows.extend(scores.iter().copied().zip(labels.iter().copied()));
        }
    }
    let positive = |score: f32| TaskKind::Binary.predicted_class(&[score]) == Some(1);
    let correct = rows
        .iter()
        .filter(|(score, label)| positive(*score) == *label)
        .count() as u64;
    let labelled = rows.iter().filter(|(_, label)| *label).count() as u64;
    let predicted = rows.iter().filter(|(score, _)| positive(*score)).count() as u64;
    let both = rows
        .iter()
        .filter(|(score, label)| positive(*score) && *label)
        .count() as u64;
    Metrics {
        accuracy: ratio(correct, rows.len() as u64),
        f1: Some(f1(labelled, predicted, both)),
        auc: auc(rows),
        ..Metrics::default()
    }
}

/// Accuracy, and F1 averaged over the classes that occur among labels or predictions.
pub fn multiclass(blocks: &[&BlockResult], classes: u32) -> Metrics {
    let mut counts = vec![[0_u64; 3]; classes as usize];
    for block in blocks {
        if let Detail::Multiclass {
            labelled,
            predicted,
            correct,
        } = &block.detail
        {
            let block = labelled.iter().zip(predicted).zip(correct);
            for (sums, ((labelled, predicted), correct)) in counts.iter_mut().zip(block) {
                for (sum, count) in sums.iter_mut().zip([labelled, predicted, correct]) {
                    *sum = sum.saturating_add(*count);
                }
            }
        }
    }
    let total = |column: usize| {
        counts
            .iter()
            .map(|sums| sums[column])
            .fold(0, u64::saturating_add)
    };
    let seen = || counts.iter().filter(|sums| sums[0] > 0 || sums[1] > 0);
    let f1_sum: f64 = seen()
        .map(|&[labelled, predicted, correct]| f1(labelled, predicted, correct))
        .sum();
    Metrics {
        accuracy: ratio(total(2), total(0)),
        f1: Some(f1_sum / seen().count() as f64),
        ..Metrics::default()
    }
}

/// RMSE and R2, where the mean loss is the mean squared error. The labels' variance is merged as in
/// Chan, Golub and LeVeque, *Updating formulae and a pairwise algorithm for computing sample
/// variances* (1979): no large sums of squares are subtracted.
pub fn regression(blocks: &[&BlockResult], loss: f64) -> Metrics {
    let (mut rows, mut mean, mut deviation) = (0.0, 0.0, 0.0);
    for block in blocks {
        if let Detail::Regression {
            mean: block_mean,
            deviation: block_deviation,
        } = block.detail
        {
            let count = block.rows as f64;
            let both = rows + count;
            if both > 0.0 {
                let delta = block_mean - mean;
                mean += delta * count / both;
                deviation += block_deviation + delta * delta * rows * count / both;
                rows = both;
            }
        }
    }
    Metrics {
        rmse: Some(libm::sqrt(loss)),
        r2: (deviation > 0.0).then(|| 1.0 - loss * rows / deviation),
        ..Metrics::default()
    }
}

/// `2 correct / (labelled + predicted)`; 0 where nothing is labelled or predicted.
fn f1(labelled: u64, predicted: u64, correct: u64) -> f64 {
    let sum = u128::from(labelled) + u128::from(predicted);
    if sum == 0 {
        0.0
    } else {
        2.0 * correct as f64 / sum as f64
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Area under the ROC curve as the Mann-Whitney statistic: the share of (positive, negative) pairs
/// in which the positive scores higher, a tie counting one half. In integers, so exact. None without
/// both classes, or with a score that is NaN.
fn auc(mut rows: Vec<(f32, bool)>) -> Option<f64> {
    if rows.iter().any(|(score, _)| score.is_nan()) {
        return None;
    }
    rows.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
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
