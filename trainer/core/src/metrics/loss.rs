//! Losses of one row, in f64, in forms that neither overflow nor cancel.

/// Binary cross-entropy of a logit: `max(x, 0) - x y + ln(1 + exp(-|x|))`, where `y` is the label with a share of
/// `smoothing` moved to one half.
pub fn bce_with_logits(logit: f32, label: f32, smoothing: f64) -> f64 {
    let (x, y) = (
        f64::from(logit),
        f64::from(label) * (1.0 - smoothing) + smoothing / 2.0,
    );
    // NaN must not be swallowed, as `f64::max` would.
    let positive = if x < 0.0 { 0.0 } else { x };
    positive - x * y + libm::log1p(libm::exp(-x.abs()))
}

/// Cross-entropy of one row's logits: `ln(sum(exp(x))) - x[class]`, shifted by the greatest logit. With `smoothing`, that
/// share of the label is spread evenly over all classes. NaN if there is no such class.
pub fn cross_entropy(logits: &[f32], class: usize, smoothing: f64) -> f64 {
    let Some(&chosen) = logits.get(class) else {
        return f64::NAN;
    };
    let greatest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits
        .iter()
        .map(|&x| libm::exp(f64::from(x) - greatest))
        .sum();
    let loss = libm::log(sum) + (greatest - f64::from(chosen));
    if smoothing == 0.0 {
        return loss;
    }
    let all: f64 = logits
        .iter()
        .map(|&x| libm::log(sum) + (greatest - f64::from(x)))
        .sum();
    (1.0 - smoothing) * loss + smoothing * all / logits.len() as f64
}

/// Squared error of one value.
pub fn squared_error(output: f32, label: f32) -> f64 {
    let error = f64::from(output) - f64::from(label);
    error * error
}

/// Squared up to `delta`, linear beyond it.
pub fn huber(output: f32, target: f32, delta: f64) -> f64 {
    let error = (f64::from(output) - f64::from(target)).abs();
    match error <= delta {
        true => 0.5 * error * error,
        false => delta * (error - 0.5 * delta),
    }
}

/// Negative log-likelihood of a count, without the term that no output changes; the output is the logarithm of the rate.
pub fn poisson(output: f32, target: f32) -> f64 {
    libm::exp(output.into()) - f64::from(target) * f64::from(output)
}
