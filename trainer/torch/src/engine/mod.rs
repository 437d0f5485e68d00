//! What libtorch computes: gradients in training, outputs in inference.

mod infer;
mod train;

pub use infer::{evaluate_rows, evaluate_table, outputs};
pub use train::{Engine, Gradient, Workload};

/// Has libtorch use so many threads for work that begins on the calling thread; the bits depend on it.
pub fn use_threads(threads: u32) {
    // A thread's first use of libtorch takes the number that any thread has set last: let that be over.
    let _ = tch::get_num_threads();
    tch::set_num_threads(threads.try_into().unwrap_or(1));
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
