//! What every process of a job needs, whatever its role: the job itself, connections, storage,
//! the files of an artifact, signals and exit codes. Nothing here links libtorch.

#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod arch;
pub mod artifact;
pub mod exit;
pub mod files;
pub mod heartbeat;
pub mod http;
pub mod job;
pub mod limits;
pub mod log;
pub mod memory;
pub mod net;
pub mod output;
pub mod role;
pub mod signals;
pub mod storage;
pub mod termination;

use std::num::NonZero;

/// The program that is running, even if the file it came from was replaced since: a process that is
/// started again must compute with the code of those beside it.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// A random number that tells this process from any other, its successors included.
///
/// # Panics
/// If the system gives no random bytes; the standard library's hash maps do the same.
pub fn incarnation() -> u64 {
    getrandom::u64().expect("the system gives random bytes")
}

/// How many of a job's leaves one of `workers` workers of this machine may compute side by side.
///
/// The machine's processors are those that this process may use, so that a container's limit counts.
pub fn leaves_side_by_side(job: &job::Job, workers: u32) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = job.manifest.spec.training.threads_per_leaf.max(1) * workers.max(1);
    (cores / threads as usize).clamp(1, job.tree.leaves() as usize)
}
