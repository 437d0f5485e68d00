//! How well a classifier does, class by class.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Reports on the rows that the model was not trained on; of a classification alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reports {
    /// On the validation rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<ClassificationReport>,
    /// On the test rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<ClassificationReport>,
}

impl Reports {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.validation.is_none() && self.test.is_none()
    }

    /// The one that says most of what is to be expected: that on the test rows, if there are any.
    pub fn decisive(&self) -> Option<(&'static str, &ClassificationReport)> {
        let test = self.test.iter().map(|report| ("test", report));
        let validation = self.validation.iter().map(|report| ("validation", report));
        test.chain(validation).next()
    }
}

/// What a classifier gets right and wrong on a set of rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClassificationReport {
    /// The classes in the order of their indices. Empty where there are too many to list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassMetrics>,
    /// Rows by their class (outer) and the class they are predicted to be of (inner), both in the order of
    /// `classes`. Empty where there are too many classes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub confusion_matrix: Vec<Vec<u64>>,
    /// Multiclass: share of the rows whose class is among the `k` most probable, by `k`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub top_k: BTreeMap<u32, f64>,
    /// Whether probabilities are what they say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Binary, and validation rows alone: the threshold with the highest F1 on these rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggested_threshold: Option<SuggestedThreshold>,
}

/// The metrics of one class against all others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassMetrics {
    /// Its name.
    pub class: String,
    /// Rows of this class.
    pub support: u64,
    /// Share of the rows predicted to be of this class that are; 0 if none are predicted to be.
    pub precision: f64,
    /// Share of the rows of this class that are predicted to be; 0 if there are none.
    pub recall: f64,
    /// F1 score.
    pub f1: f64,
    /// Area under the ROC curve of this class against the others, if there are rows of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auc: Option<f64>,
}

/// How often what is predicted with a probability comes true. Binary: the probability of class 1. Multiclass:
/// that of the predicted class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Calibration {
    /// Mean over the rows of the distance between `predicted` and `observed` of their bin: 0 is best. Source: Naeini,
    /// Cooper and Hauskrecht, *Obtaining Well Calibrated Probabilities Using Bayesian Binning* (2015).
    pub expected_calibration_error: f64,
    /// The bins that have rows, by rising probability.
    pub bins: Vec<CalibrationBin>,
}

/// Rows with about the same probability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CalibrationBin {
    /// The probabilities are above this, or equal if it is 0.
    pub from: f64,
    /// The probabilities are up to this.
    pub to: f64,
    /// How many.
    pub rows: u64,
    /// Their mean probability.
    pub predicted: f64,
    /// The share of them that it came true for.
    pub observed: f64,
}

/// A threshold for `spec.task`, and what it gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SuggestedThreshold {
    /// The probability above which class 1 is predicted.
    pub threshold: f64,
    /// Precision with it.
    pub precision: f64,
    /// Recall with it.
    pub recall: f64,
    /// F1 with it.
    pub f1: f64,
}
