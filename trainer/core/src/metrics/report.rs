//! Reports on classes, from the details of blocks in block order.

use trainyard_contract::{
    Calibration, CalibrationBin, ClassMetrics, ClassificationReport, SuggestedThreshold,
};

use super::score::{self, Counts};
use super::{BlockResult, Detail, Objective, TaskKind};
use crate::schema::cutoff_of;

/// The most classes whose metrics are listed.
const LISTED: usize = 1000;
/// The most classes that a confusion matrix has.
const CONFUSED: usize = 100;
/// The bins of a calibration.
const BINS: u32 = 10;
/// The `k` of the top-k accuracies, where there are more classes.
const TOP: [u32; 3] = [2, 3, 5];

/// The most classes whose scores are asked for: a block of them has to fit into a message.
const SCORED_CLASSES: u64 = 256;
/// The most scores that are asked for, 16 MiB of them.
const SCORES: u64 = 4 << 20;

/// Whether a report on so many rows has all scores of a multiclass task, or only what can be counted without them.
pub fn has_scores(task: TaskKind, rows: u64) -> bool {
    match task {
        TaskKind::Multiclass { classes } => {
            let classes = u64::from(classes);
            classes <= SCORED_CLASSES && rows.saturating_mul(classes) <= SCORES
        }
        TaskKind::Binary | TaskKind::Regression => false,
    }
}

/// The report on the rows of all blocks, with classes of these names; none for a regression or without rows. `suggest` says
/// whether a threshold may be chosen by these rows.
///
/// What needs scores that the blocks do not have is left out, and so are blocks of another task.
pub fn report(
    objective: &Objective,
    names: &[String],
    blocks: &[BlockResult],
    suggest: bool,
) -> Option<ClassificationReport> {
    let blocks: Vec<&BlockResult> = blocks.iter().filter(|b| b.fits(objective.kind)).collect();
    if blocks.iter().all(|block| block.rows == 0) {
        return None;
    }
    match objective.kind {
        TaskKind::Binary => Some(binary(objective, names, &blocks, suggest)),
        TaskKind::Multiclass { classes } => Some(multiclass(classes, names, &blocks)),
        TaskKind::Regression => None,
    }
}

fn binary(
    objective: &Objective,
    names: &[String],
    blocks: &[&BlockResult],
    suggest: bool,
) -> ClassificationReport {
    let mut rows = score::rows(blocks);
    let mut matrix = vec![vec![0_u64; 2]; 2];
    for (score, label) in &rows {
        matrix[usize::from(*label)][usize::from(*score > objective.cutoff)] += 1;
    }
    let probabilities = rows
        .iter()
        .map(|(score, label)| (probability(*score), *label));
    let calibration = calibration(probabilities);
    let auc = score::auc(&mut rows);
    let counts = of_matrix(&matrix);
    ClassificationReport {
        classes: listed(names, &counts, &[auc, auc]),
        confusion_matrix: matrix,
        calibration,
        suggested_threshold: suggest.then(|| best_threshold(&mut rows)).flatten(),
        ..ClassificationReport::default()
    }
}

fn multiclass(classes: u32, names: &[String], blocks: &[&BlockResult]) -> ClassificationReport {
    let counts = score::counts(blocks, classes);
    let Some(scored) = Scored::of(blocks, classes as usize) else {
        return ClassificationReport {
            classes: listed(names, &counts, &vec![None; classes as usize]),
            ..ClassificationReport::default()
        };
    };
    let top = TOP.into_iter().filter(|k| *k < classes);
    ClassificationReport {
        classes: listed(names, &counts, &scored.aucs()),
        confusion_matrix: scored.confusion_matrix(),
        top_k: top.map(|k| (k, scored.top(k as usize))).collect(),
        calibration: calibration(scored.confidences()),
        suggested_threshold: None,
    }
}

/// The probability that a logit stands for.
fn probability(logit: f32) -> f64 {
    1.0 / (1.0 + libm::exp(-f64::from(logit)))
}

fn listed(names: &[String], counts: &[Counts], aucs: &[Option<f64>]) -> Vec<ClassMetrics> {
    if counts.len() > LISTED {
        return Vec::new();
    }
    let metrics = names
        .iter()
        .zip(counts)
        .zip(aucs)
        .map(|((name, counts), auc)| ClassMetrics {
            class: name.clone(),
            support: counts.labelled,
            precision: counts.precision(),
            recall: counts.recall(),
            f1: counts.f1(),
            auc: *auc,
        });
    metrics.collect()
}

fn of_matrix(matrix: &[Vec<u64>]) -> Vec<Counts> {
    let classes = 0..matrix.len();
    let counts = classes.map(|class| Counts {
        labelled: matrix[class].iter().sum(),
        predicted: matrix.iter().map(|row| row[class]).sum(),
        correct: matrix[class][class],
    });
    counts.collect()
}

/// What is predicted with a probability, and whether it is so, in bins of equal width: as scikit-learn's
/// `calibration_curve` has them. None if a probability is NaN.
fn calibration(rows: impl Iterator<Item = (f64, bool)>) -> Option<Calibration> {
    let mut bins = vec![(0_u64, 0.0, 0_u64); BINS as usize];
    for (probability, came_true) in rows {
        if probability.is_nan() {
            return None;
        }
        let edges = (1..BINS).map(|edge| f64::from(edge) / f64::from(BINS));
        let (rows, sum, observed) = &mut bins[edges.filter(|edge| *edge < probability).count()];
        *rows += 1;
        *sum += probability;
        *observed += u64::from(came_true);
    }
    let all: u64 = bins.iter().map(|(rows, ..)| rows).sum();
    let edge = |bin: u32| f64::from(bin) / f64::from(BINS);
    let bins = (0..).zip(bins).filter(|(_, (rows, ..))| *rows > 0);
    let bins = bins.map(|(bin, (rows, sum, observed))| CalibrationBin {
        from: edge(bin),
        to: edge(bin + 1),
        rows,
        predicted: sum / rows as f64,
        observed: observed as f64 / rows as f64,
    });
    let bins: Vec<CalibrationBin> = bins.collect();
    let distance =
        |bin: &CalibrationBin| bin.rows as f64 / all as f64 * (bin.observed - bin.predicted).abs();
    Some(Calibration {
        expected_calibration_error: bins.iter().map(distance).sum(),
        bins,
    })
}

/// The threshold with the highest F1, half-way between two logits that occur; of equal ones the lowest, as the greatest of
/// scikit-learn's `precision_recall_curve` is found. None without rows of class 1, or with a score that is NaN. Sorts the rows.
fn best_threshold(rows: &mut [(f32, bool)]) -> Option<SuggestedThreshold> {
    if rows.iter().any(|(score, _)| score.is_nan()) {
        return None;
    }
    rows.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let labelled = rows.iter().filter(|(_, label)| *label).count() as u64;
    let mut counts = Counts {
        labelled,
        ..Counts::default()
    };
    let mut best: Option<(f64, f64)> = None;
    let mut groups = rows.chunk_by(|a, b| a.0 == b.0).peekable();
    while let Some(group) = groups.next() {
        counts.predicted += group.len() as u64;
        counts.correct += group.iter().filter(|(_, label)| *label).count() as u64;
        let lowest = f64::from(group[0].0);
        let below = groups
            .peek()
            .map_or(lowest - 1.0, |next| f64::from(next[0].0));
        if best.is_none_or(|(f1, _)| counts.f1() >= f1) {
            best = Some((counts.f1(), lowest / 2.0 + below / 2.0));
        }
    }
    let threshold = 1.0 / (1.0 + libm::exp(-best?.1));
    // What it gives as a threshold, which is rounded.
    let cutoff = cutoff_of(threshold);
    let predicted = rows.iter().filter(|(score, _)| *score > cutoff);
    let counts = Counts {
        labelled,
        predicted: predicted.clone().count() as u64,
        correct: predicted.filter(|(_, label)| *label).count() as u64,
    };
    (labelled > 0 && threshold > 0.0 && threshold < 1.0).then(|| SuggestedThreshold {
        threshold,
        precision: counts.precision(),
        recall: counts.recall(),
        f1: counts.f1(),
    })
}

/// Rows with the logits of all classes.
struct Scored<'a> {
    classes: usize,
    rows: Vec<(usize, &'a [f32])>,
}

impl<'a> Scored<'a> {
    /// Those of all blocks; none if one has only counts.
    fn of(blocks: &[&'a BlockResult], classes: usize) -> Option<Self> {
        let mut rows = Vec::new();
        for block in blocks {
            let Detail::Scores { labels, logits } = &block.detail else {
                return None;
            };
            let labels = labels.iter().map(|label| *label as usize);
            rows.extend(labels.zip(logits.chunks_exact(classes.max(1))));
        }
        Some(Self { classes, rows })
    }

    fn kind(&self) -> TaskKind {
        TaskKind::Multiclass {
            classes: self.classes as u32,
        }
    }

    fn predicted(&self, logits: &[f32]) -> usize {
        self.kind().predicted_class(logits).unwrap_or(0) as usize
    }

    fn confusion_matrix(&self) -> Vec<Vec<u64>> {
        if self.classes > CONFUSED {
            return Vec::new();
        }
        let mut matrix = vec![vec![0; self.classes]; self.classes];
        for (label, logits) in &self.rows {
            matrix[*label][self.predicted(logits)] += 1;
        }
        matrix
    }

    /// Share of the rows whose class has one of the `k` greatest logits; of equal ones the lower class comes first.
    fn top(&self, k: usize) -> f64 {
        let among = |(label, logits): &&(usize, &[f32])| {
            let own = logits[*label];
            let above = logits.iter().filter(|logit| **logit > own).count();
            let beside = logits[..*label]
                .iter()
                .filter(|logit| **logit == own)
                .count();
            above + beside < k
        };
        self.rows.iter().filter(among).count() as f64 / self.rows.len() as f64
    }

    /// The probability of the predicted class of each row, and whether it is the row's.
    fn confidences(&self) -> impl Iterator<Item = (f64, bool)> {
        self.rows.iter().map(|(label, logits)| {
            let predicted = self.predicted(logits);
            let (greatest, sum) = softmax(logits);
            let confidence = libm::exp(f64::from(logits[predicted]) - greatest) / sum;
            (confidence, predicted == *label)
        })
    }

    /// The area under the ROC curve of each class against the others, by probabilities.
    fn aucs(&self) -> Vec<Option<f64>> {
        let sums: Vec<(f64, f64)> = self
            .rows
            .iter()
            .map(|(_, logits)| softmax(logits))
            .collect();
        let auc = |class: usize| {
            let rows = self
                .rows
                .iter()
                .zip(&sums)
                .map(|((label, logits), (greatest, sum))| {
                    let probability = libm::exp(f64::from(logits[class]) - greatest) / sum;
                    (probability, *label == class)
                });
            score::auc(&mut rows.collect::<Vec<_>>())
        };
        (0..self.classes).map(auc).collect()
    }
}

/// The greatest logit, and the sum of the exponentials of what the others are below it.
fn softmax(logits: &[f32]) -> (f64, f64) {
    let greatest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum = logits
        .iter()
        .map(|logit| libm::exp(f64::from(*logit) - greatest))
        .sum();
    (greatest, sum)
}
