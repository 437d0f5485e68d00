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
    /// libtorch got no memory.
    #[error(
        "there is not enough memory ({0}): use fewer or smaller layers or batches, or give it more memory"
    )]
    Memory(String),
}

impl From<tch::TchError> for EngineError {
    fn from(error: tch::TchError) -> Self {
        explained(&error.to_string())
    }
}

/// An error of libtorch, without the frames of the stack that it adds.
fn explained(said: &str) -> EngineError {
    let reason = said.split("\nframe #").next().unwrap_or(said).trim();
    match trainyard_runtime::memory::was_refused(reason) {
        true => EngineError::Memory(reason.to_owned()),
        false => EngineError::Torch(reason.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t20_an_operation_that_got_no_memory_is_told_so_and_without_a_stack() {
        let reason = "Internal torch error: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate \
                      memory: you tried to allocate 100000000 bytes. Error code 12 (Cannot allocate memory)";
        let stack = "\nframe #0: c10::ThrowEnforceNotMet(char const*) (0x7f in libc10.so)\nframe #1: main\n";
        let error = explained(&format!("{reason}{stack}"));
        assert_eq!(error, EngineError::Memory(reason.into()));
        assert!(error.to_string().contains("use fewer or smaller layers"));
        let shapes = explained(&format!("mat1 and mat2 shapes cannot be multiplied{stack}"));
        assert_eq!(
            shapes.to_string(),
            "libtorch: mat1 and mat2 shapes cannot be multiplied"
        );
    }
}
