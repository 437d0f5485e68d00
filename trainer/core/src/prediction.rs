//! From a network's outputs for a row to what a person reads: a class with probabilities, or a value. The exponential is that of
//! libm, in Rust, whose bits are the same on every machine.

use crate::metrics::TaskKind;
use crate::schema::Label;

/// What a model predicts for a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Prediction {
    /// A class.
    Class {
        /// Its index.
        class: usize,
        /// The probability of each class.
        probabilities: Vec<f32>,
    },
    /// The value of a regression, in the units of the target.
    Value(f64),
}

impl Prediction {
    /// From the outputs of one row: the logit of class 1 for binary tasks, one logit a class for
    /// multiclass tasks, the value for regression, scaled as the label is.
    pub fn of(kind: TaskKind, label: &Label, outputs: &[f32]) -> Self {
        let first = outputs.first().copied().unwrap_or(f32::NAN);
        match kind {
            TaskKind::Regression => Self::Value(label.unscaled(first)),
            TaskKind::Binary => {
                let logit = f64::from(first);
                Self::Class {
                    class: usize::from(first > label.cutoff()),
                    probabilities: vec![sigmoid(-logit) as f32, sigmoid(logit) as f32],
                }
            }
            TaskKind::Multiclass { .. } => Self::Class {
                class: kind.predicted_class(outputs).unwrap_or_default() as usize,
                probabilities: softmax(outputs),
            },
        }
    }

    /// Whether every number of it is finite.
    pub fn is_finite(&self) -> bool {
        match self {
            Self::Class { probabilities, .. } => probabilities.iter().all(|p| p.is_finite()),
            Self::Value(value) => value.is_finite(),
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

/// Probabilities of logits; the greatest is subtracted first, so that no power overflows.
fn softmax(logits: &[f32]) -> Vec<f32> {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits
        .iter()
        .map(|&logit| libm::exp(f64::from(logit) - f64::from(greatest)))
        .collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| (power / sum) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Link, TargetScale};

    #[test]
    fn probabilities_add_to_one_even_for_large_logits() {
        for logits in [[0.0, 0.0, 0.0], [90.0, -90.0, 3.0], [3e38, 1.0, -3e38]] {
            let sum: f32 = softmax(&logits).iter().sum();
            assert!((sum - 1.0).abs() < 1e-6, "{logits:?} add to {sum}");
        }
        let label = Label {
            name: "y".into(),
            classes: vec!["0".into(), "1".into()],
            numeric: true,
            scale: None,
            link: None,
            threshold: None,
        };
        let of = |logit| match Prediction::of(TaskKind::Binary, &label, &[logit]) {
            Prediction::Class {
                class,
                probabilities,
            } => (class, probabilities[class]),
            Prediction::Value(value) => panic!("{value} is no class"),
        };
        assert_eq!(of(200.0), (1, 1.0));
        let (class, probability) = of(-3.0);
        assert_eq!(class, 0);
        assert!(probability > 0.95);
    }

    #[test]
    fn a_target_far_from_zero_keeps_the_digits_that_an_output_has() {
        let label = |scale, link| Label {
            name: "y".into(),
            classes: Vec::new(),
            numeric: true,
            scale,
            link,
            threshold: None,
        };
        let value = |label: &Label, output: f32| match Prediction::of(
            TaskKind::Regression,
            label,
            &[output],
        ) {
            Prediction::Value(value) => value.to_string(),
            class @ Prediction::Class { .. } => panic!("{class:?}"),
        };
        let scaled = |mean, std| label(Some(TargetScale { mean, std }), None);
        let far = scaled(1e6, 0.25);
        // The next output is 3e-8 further.
        assert_eq!(value(&far, 0.5), "1000000.125");
        assert_ne!(value(&far, 0.5), value(&far, 0.5f32.next_up()));
        assert_eq!(value(&scaled(3.0, 2.0), 0.1), "3.2");
        assert_eq!(value(&label(None, None), 0.1), "0.1");
        assert_eq!(value(&label(None, Some(Link::Log)), 0.0), "1");
        assert_eq!(value(&label(None, None), f32::INFINITY), "inf");
    }
}
