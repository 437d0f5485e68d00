//! Functions of single numbers. Those of libm, in Rust, have the same bits on every machine; the C library's do not.

use trainyard_crds::training_job::Activation;

/// Applies a function to each number, as PyTorch defines it.
pub(crate) fn apply(function: Activation, values: &mut [f32]) {
    match function {
        // A NaN stays one.
        Activation::Relu => each(values, |x| if x < 0.0 { 0.0 } else { x }),
        Activation::Tanh => each(values, libm::tanhf),
        Activation::Sigmoid => each(values, |x| 1.0 / (1.0 + libm::expf(-x))),
        Activation::Gelu => each(values, |x| {
            0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
        }),
    }
}

fn each(values: &mut [f32], function: impl Fn(f32) -> f32) {
    for value in values {
        *value = function(*value);
    }
}
