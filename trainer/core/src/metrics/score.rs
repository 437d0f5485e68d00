//! Metrics beyond the loss, from the details of blocks in block order.

use super::{BlockResult, Detail, Metrics};

/// Accuracy, areas under curves, and precision, recall and F1 of class 1, which is predicted above `cutoff`.
pub fn binary(blocks: &[&BlockResult], cutoff: f32) -> Metrics {
    let mut rows = Vec::new();
    for block in blocks {
        if let Detail::Binary { scores, labels } = &block.detail {
            rows.extend(scores.iter().copied().zip(labels.iter().copied()));
        }
    }
    let positive = |score: f32| score > cutoff;
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
        precision: Some(ratio(both, predicted).unwrap_or(0.0)),
        recall: Some(ratio(both, labelled).unwrap_or(0.0)),
        f1: Some(f1(labelled, predicted, both)),
        pr_auc: average_precision(&mut rows),
        auc: auc(rows),
        ..Metrics::default()
    }
}

/// Accuracy, and precision, recall and F1 averaged over the classes that occur among labels or predictions.
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
    let mean = |score: fn(u64, u64, u64) -> f64| {
        let scores =
            seen().map(|&[labelled, predicted, correct]| score(labelled, predicted, correct));
        Some(scores.sum::<f64>() / seen().count() as f64)
    };
    Metrics {
        accuracy: ratio(total(2), total(0)),
        precision: mean(|_, predicted, correct| ratio(correct, predicted).unwrap_or(0.0)),
        recall: mean(|labelled, _, correct| ratio(correct, labelled).unwrap_or(0.0)),
        f1: mean(f1),
        ..Metrics::default()
    }
}

/// RMSE, MAE, MAPE and R2. The labels' variance is merged as in
/// Chan, Golub and LeVeque, *Updating formulae and a pairwise algorithm for computing sample
/// variances* (1979): no large sums of squares are subtracted.
pub fn regression(blocks: &[&BlockResult]) -> Metrics {
    let (mut rows, mut mean, mut deviation) = (0.0, 0.0, 0.0);
    let (mut squares, mut absolutes, mut shares) = (0.0, 0.0, 0.0);
    for block in blocks {
        if let Detail::Regression {
            mean: block_mean,
            deviation: block_deviation,
            squared,
            absolute,
            relative,
        } = block.detail
        {
            squares += squared;
            absolutes += absolute;
            shares += relative;
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
        rmse: Some(libm::sqrt(squares / rows)),
        mae: Some(absolutes / rows),
        mape: Some(shares / rows),
        r2: (deviation > 0.0).then(|| 1.0 - squares / rows * rows / deviation),
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
