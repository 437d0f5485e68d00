//! From a network's outputs for a row to what a person reads: a class with probabilities, or a value.

use crate::metrics::TaskKind;
use crate::schema::Label;

/// What a model predicts for a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The class predicted, or none for regression.
    pub class: Option<usize>,
    /// The value of a regression; for classes, a probability each.
    pub values: Vec<f32>,
}

impl Prediction {
    /// From the outputs of one row: the logit of class 1 for binary tasks, one logit a class for
    /// multiclass tasks, the value for regression, scaled as the label is.
    pub fn of(kind: TaskKind, label: &Label, outputs: &[f32]) -> Self {
        let values = match kind {
            TaskKind::Binary => {
                let logit = f64::from(outputs.first().copied().unwrap_or(f32::NAN));
                vec![sigmoid(-logit) as f32, sigmoid(logit) as f32]
            }
            TaskKind::Multiclass { .. } => softmax(outputs),
            TaskKind::Regression => outputs
                .iter()
                .map(|&output| label.unscaled(output))
                .collect(),
        };
        let class = match (kind, outputs.first()) {
            (TaskKind::Binary, Some(&logit)) => Some(usize::from(logit > label.cutoff())),
            _ => kind.predicted_class(outputs).map(|class| class as usize),
        };
        Prediction { class, values }
    }

    /// The probability of the class predicted, or the value of a regression.
    pub fn answer(&self) -> f32 {
        self.values
            .get(self.class.unwrap_or(0))
            .copied()
            .unwrap_or(f32::NAN)
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Probabilities of logits; the greatest is subtracted first, so that no power overflows.
fn softmax(logits: &[f32]) -> Vec<f32> {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits
        .iter()
        .map(|&logit| (f64::from(logit) - f64::from(greatest)).exp())
        .collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| (power / sum) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let certain = Prediction::of(TaskKind::Binary, &label, &[200.0]);
        assert_eq!((certain.class, certain.answer()), (Some(1), 1.0));
        let other = Prediction::of(TaskKind::Binary, &label, &[-3.0]);
        assert_eq!(other.class, Some(0));
        assert!(other.answer() > 0.95);
    }
}
