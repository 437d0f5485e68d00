//! What libtorch computes: gradients in training, outputs in inference.

mod infer;
mod train;

pub use infer::{evaluate_rows, evaluate_table, outputs};
pub use train::{Engine, Gradient, Workload};

/// Pins libtorch to one thread for work on the calling thread; the bits depend on it.
pub fn pin_to_one_thread() {
    tch::set_num_threads(1);
}

/// Why a leaf or block has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// A loss is NaN or infinite.
    #[error("the loss is {value} at {place}")]
    NonFinite {
        /// `leaf 3` or `validation block 0`.
        place: String,
        /// The loss.
        value: String,
    },
    /// libtorch has refused an operation.
    #[error("libtorch: {0}")]
    Torch(String),
}

impl From<tch::TchError> for EngineError {
    fn from(error: tch::TchError) -> Self {
        EngineError::Torch(error.to_string())
    }
}
