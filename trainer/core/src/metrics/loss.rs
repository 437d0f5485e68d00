//! Losses of one row, in f64, in forms that neither overflow nor cancel.

/// Binary cross-entropy of a logit: `max(x, 0) - x y + ln(1 + exp(-|x|))`.
pub fn bce_with_logits(logit: f32, label: f32) -> f64 {
    let (x, y) = (f64::from(logit), f64::from(label));
    // NaN must not be swallowed, as `f64::max` would.
    let positive = if x < 0.0 { 0.0 } else { x };
    positive - x * y + libm::log1p(libm::exp(-x.abs()))
}

/// Cross-entropy of one row's logits: `ln(sum(exp(x))) - x[class]`, shifted by the greatest logit.
/// NaN if there is no such class.
pub fn cross_entropy(logits: &[f32], class: usize) -> f64 {
    let Some(&chosen) = logits.get(class) else {
        return f64::NAN;
    };
    let greatest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits
        .iter()
        .map(|&x| libm::exp(f64::from(x) - greatest))
        .sum();
    libm::log(sum) + (greatest - f64::from(chosen))
}

/// Squared error of one value.
pub fn squared_error(output: f32, label: f32) -> f64 {
    let error = f64::from(output) - f64::from(label);
    error * error
}
