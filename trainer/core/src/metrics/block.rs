//! The result of evaluating one block of rows.

use serde::{Deserialize, Serialize};

use super::{Objective, TaskKind};

/// Why a block cannot be evaluated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MetricsError {
    /// There are not as many outputs as the labels need.
    #[error("{rows} rows need {expected} outputs, the model gave {actual}")]
    Outputs {
        /// Labels given.
        rows: usize,
        /// Outputs that go with them.
        expected: usize,
        /// Outputs given.
        actual: usize,
    },
    /// A label does not belong to the task.
    #[error("row {row} of the block has label {label}: {expected}")]
    Label {
        /// Row within the block.
        row: usize,
        /// Its label.
        label: f32,
        /// What labels must be.
        expected: String,
    },
}

/// What one block of rows contributes to the metrics.
///
/// Serialized, floats are their bits as integers: exact through JSON, NaN included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockResult {
    /// Rows in the block.
    pub rows: u64,
    /// Sum of the rows' losses, in row order.
    #[serde(with = "bits64")]
    pub loss_sum: f64,
    /// What the task's metrics need beyond the loss.
    pub detail: Detail,
}

/// The part of a block's result that depends on the task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Detail {
    /// Every row's logit and whether its label is 1, in row order: AUC needs them all.
    Binary {
        /// Logits.
        #[serde(with = "bits32")]
        scores: Vec<f32>,
        /// Labels.
        labels: Vec<bool>,
    },
    /// For every class, the margins and the diagonal of the confusion matrix.
    Multiclass {
        /// Rows of this class.
        labelled: Vec<u64>,
        /// Rows predicted to be of this class.
        predicted: Vec<u64>,
        /// Rows of this class predicted to be.
        correct: Vec<u64>,
    },
    /// For every row, the index of its class and the logits of all classes, in row order: a report needs them.
    Scores {
        /// Classes.
        labels: Vec<u32>,
        /// Logits, `rows x classes`.
        #[serde(with = "bits32")]
        logits: Vec<f32>,
    },
    /// Moments of the labels and errors, in the units of the target.
    Regression {
        /// Mean of the labels.
        #[serde(with = "bits64")]
        mean: f64,
        /// Sum of the labels' squared deviations from their mean.
        #[serde(with = "bits64")]
        deviation: f64,
        /// Sum of the squared errors.
        #[serde(with = "bits64")]
        squared: f64,
        /// Sum of the absolute errors.
        #[serde(with = "bits64")]
        absolute: f64,
        /// Sum of the absolute errors as shares of the targets.
        #[serde(with = "bits64")]
        relative: f64,
    },
}

impl BlockResult {
    /// Evaluates one block: `outputs` is `rows x task.outputs()` (row-major) and there is one label a
    /// row (0 or 1, a class index, or the target).
    ///
    /// # Errors
    /// If the lengths disagree or a label does not belong to the task. Outputs need not be finite:
    /// the loss then is not finite either.
    pub fn from_outputs(
        objective: impl Into<Objective>,
        outputs: &[f32],
        labels: &[f32],
    ) -> Result<Self, MetricsError> {
        Self::with_scores(objective, outputs, labels, false)
    }

    /// As [`BlockResult::from_outputs`]; of a multiclass task with the `scores` of all classes, if they are wanted.
    ///
    /// # Errors
    /// As that.
    pub fn with_scores(
        objective: impl Into<Objective>,
        outputs: &[f32],
        labels: &[f32],
        scores: bool,
    ) -> Result<Self, MetricsError> {
        let objective = objective.into();
        let task = objective.kind;
        let rows = labels.len();
        let expected = rows.saturating_mul(task.outputs());
        if outputs.len() != expected {
            return Err(MetricsError::Outputs {
                rows,
                expected,
                actual: outputs.len(),
            });
        }
        let (loss_sum, detail) = match task {
            TaskKind::Binary => binary(&objective, outputs, labels)?,
            TaskKind::Multiclass { classes } => multiclass(&objective, classes, outputs, labels)?,
            TaskKind::Regression => regression(&objective, outputs, labels),
        };
        let detail = match detail {
            Detail::Multiclass { .. } if scores => Detail::Scores {
                labels: labels.iter().map(|&label| label as u32).collect(),
                logits: outputs.to_vec(),
            },
            detail => detail,
        };
        Ok(BlockResult {
            rows: rows as u64,
            loss_sum,
            detail,
        })
    }

    /// The result of no rows.
    pub fn empty(task: TaskKind) -> Self {
        let detail = match task {
            TaskKind::Binary => Detail::Binary {
                scores: Vec::new(),
                labels: Vec::new(),
            },
            TaskKind::Multiclass { classes } => {
                let none = vec![0; classes as usize];
                Detail::Multiclass {
                    labelled: none.clone(),
                    predicted: none.clone(),
                    correct: none,
                }
            }
            TaskKind::Regression => Detail::Regression {
                mean: 0.0,
                deviation: 0.0,
                squared: 0.0,
                absolute: 0.0,
                relative: 0.0,
            },
        };
        BlockResult {
            rows: 0,
            loss_sum: 0.0,
            detail,
        }
    }

    /// Adds the result of the block that follows. What begins with no rows has the metrics of all blocks, to the bit. A result
    /// of another kind of task is left out.
    ///
    /// The labels' variance is merged as in Chan, Golub and LeVeque, *Updating formulae and a pairwise algorithm for
    /// computing sample variances* (1979): no large sums of squares are subtracted.
    pub fn merge(&mut self, later: BlockResult) {
        let (rows, more) = (self.rows as f64, later.rows as f64);
        match (&mut self.detail, later.detail) {
            (
                Detail::Binary { scores, labels },
                Detail::Binary {
                    scores: more_scores,
                    labels: more_labels,
                },
            ) => {
                scores.extend(more_scores);
                labels.extend(more_labels);
            }
            (
                Detail::Multiclass {
                    labelled,
                    predicted,
                    correct,
                },
                Detail::Multiclass {
                    labelled: more_labelled,
                    predicted: more_predicted,
                    correct: more_correct,
                },
            ) => {
                let add = |counts: &mut Vec<u64>, more: Vec<u64>| {
                    for (count, more) in counts.iter_mut().zip(more) {
                        *count = count.saturating_add(more);
                    }
                };
                add(labelled, more_labelled);
                add(predicted, more_predicted);
                add(correct, more_correct);
            }
            (
                Detail::Scores { labels, logits },
                Detail::Scores {
                    labels: more_labels,
                    logits: more_logits,
                },
            ) => {
                labels.extend(more_labels);
                logits.extend(more_logits);
            }
            (
                Detail::Regression {
                    mean,
                    deviation,
                    squared,
                    absolute,
                    relative,
                },
                Detail::Regression {
                    mean: more_mean,
                    deviation: more_deviation,
                    squared: more_squared,
                    absolute: more_absolute,
                    relative: more_relative,
                },
            ) => {
                *squared += more_squared;
                *absolute += more_absolute;
                *relative += more_relative;
                let both = rows + more;
                if rows == 0.0 {
                    (*mean, *deviation) = (more_mean, more_deviation);
                } else if both > 0.0 {
                    let delta = more_mean - *mean;
                    *mean += delta * more / both;
                    *deviation += more_deviation + delta * delta * rows * more / both;
                }
            }
            _ => return,
        }
        self.rows = self.rows.saturating_add(later.rows);
        self.loss_sum += later.loss_sum;
    }

    /// Whether the result is one of this task, and consistent in itself. A result that came from
    /// elsewhere may not be.
    pub fn fits(&self, task: TaskKind) -> bool {
        match (&self.detail, task) {
            (Detail::Binary { scores, labels }, TaskKind::Binary) => {
                scores.len() as u64 == self.rows && labels.len() as u64 == self.rows
            }
            (
                Detail::Multiclass {
                    labelled,
                    predicted,
                    correct,
                },
                TaskKind::Multiclass { classes },
            ) => {
                let lengths = [labelled, predicted, correct].map(Vec::len);
                let sums = [labelled, predicted].map(|counts| total(counts));
                lengths == [classes as usize; 3] && sums == [Some(self.rows); 2] && {
                    let bounds = labelled.iter().zip(predicted).map(|(a, b)| a.min(b));
                    correct
                        .iter()
                        .zip(bounds)
                        .all(|(correct, bound)| correct <= bound)
                }
            }
            (Detail::Scores { labels, logits }, TaskKind::Multiclass { classes }) => {
                let values = self.rows.checked_mul(classes.into());
                labels.len() as u64 == self.rows
                    && values == Some(logits.len() as u64)
                    && labels.iter().all(|label| *label < classes)
            }
            (Detail::Regression { .. }, TaskKind::Regression) => true,
            _ => false,
        }
    }
}

/// Sum without overflow.
fn total(counts: &[u64]) -> Option<u64> {
    counts
        .iter()
        .try_fold(0_u64, |sum, &count| sum.checked_add(count))
}

fn binary(
    objective: &Objective,
    outputs: &[f32],
    labels: &[f32],
) -> Result<(f64, Detail), MetricsError> {
    if let Some((row, &label)) = labels
        .iter()
        .enumerate()
        .find(|(_, label)| **label != 0.0 && **label != 1.0)
    {
        return Err(MetricsError::Label {
            row,
            label,
            expected: "it must be 0 or 1".to_owned(),
        });
    }
    let losses = outputs
        .iter()
        .zip(labels)
        .map(|(&logit, &label)| objective.of_class(&[logit], label));
    let detail = Detail::Binary {
        scores: outputs.to_vec(),
        labels: labels.iter().map(|&label| label == 1.0).collect(),
    };
    Ok((losses.sum(), detail))
}

fn multiclass(
    objective: &Objective,
    classes: u32,
    outputs: &[f32],
    labels: &[f32],
) -> Result<(f64, Detail), MetricsError> {
    let width = classes as usize;
    let mut counts = [vec![0; width], vec![0; width], vec![0; width]];
    let mut loss_sum = 0.0;
    for (row, (logits, &label)) in outputs.chunks_exact(width.max(1)).zip(labels).enumerate() {
        let class = label as usize;
        if class as f32 != label || class >= width {
            let expected = format!(
                "it must be a class index from 0 to {}",
                i64::from(classes) - 1
            );
            return Err(MetricsError::Label {
                row,
                label,
                expected,
            });
        }
        loss_sum += objective.of_class(logits, label);
        let guess = objective.kind.predicted_class(logits).unwrap_or(0) as usize;
        counts[0][class] += 1;
        counts[1][guess] += 1;
        counts[2][class] += u64::from(guess == class);
    }
    let [labelled, predicted, correct] = counts;
    Ok((
        loss_sum,
        Detail::Multiclass {
            labelled,
            predicted,
            correct,
        },
    ))
}

fn regression(objective: &Objective, outputs: &[f32], labels: &[f32]) -> (f64, Detail) {
    let rows = || outputs.iter().zip(labels);
    let targets = || labels.iter().map(|&label| objective.in_units(label));
    let errors =
        || rows().map(|(&output, &label)| objective.prediction(output) - objective.in_units(label));
    // The mean of equal targets is theirs, and not off by what a sum is rounded: R2 is undefined then.
    let is_constant = labels.iter().all(|label| Some(label) == labels.first());
    let mean = match targets().next() {
        Some(target) if is_constant => target,
        _ => targets().sum::<f64>() / (labels.len().max(1)) as f64,
    };
    (
        rows()
            .map(|(&output, &label)| objective.of_value(output, label))
            .sum(),
        Detail::Regression {
            mean,
            deviation: targets()
                .map(|target| (target - mean) * (target - mean))
                .sum(),
            squared: errors().map(|error| error * error).sum(),
            absolute: errors().map(f64::abs).sum(),
            // As scikit-learn has it for targets of 0.
            relative: errors()
                .zip(targets())
                .map(|(error, target)| error.abs() / target.abs().max(f64::EPSILON))
                .sum(),
        },
    )
}

/// An f64 as its bits.
mod bits64 {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.to_bits().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

/// A list of f32 as their bits.
mod bits32 {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|value| value.to_bits()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
        let bits = Vec::<u32>::deserialize(deserializer)?;
        Ok(bits.into_iter().map(f32::from_bits).collect())
    }
}
