//! The Trainyard trainer: parameter servers and workers that compute the same bits, however many
//! there are. See `ARCHITECTURE.md`.

pub mod arch;
pub mod artifact;
pub mod capability;
pub mod commands;
pub mod exit;
pub mod files;
mod heartbeat;
mod http;
pub mod job;
pub mod model;
pub mod net;
pub mod run;
pub mod server;
pub mod signals;
pub mod storage;
pub mod termination;
pub mod ui;
pub mod worker;

use std::hash::{BuildHasher, Hasher};

/// The program that is running, even if the file it came from was replaced since: a process that is
/// started again must compute with the code of those beside it.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// A random number that tells this process from any other, its successors included.
pub fn incarnation() -> u64 {
    // RandomState is seeded by the system; the process id and the time guard against a weak seed.
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    hasher.write_u128(elapsed.map_or(0, |elapsed| elapsed.as_nanos()));
    hasher.finish()
}
