//! Environment variables that processes of a job are given.

/// Names that begin so are ours: a job may not set them for its pods.
pub const RESERVED_PREFIX: &str = "TRAINYARD_";
/// The pod's own address, to build arguments from.
pub const POD_IP: &str = "TRAINYARD_POD_IP";
/// Instead of `--grace`: see [`crate::ServerArgs::grace`].
pub const GRACE_SECONDS: &str = "TRAINYARD_GRACE_SECONDS";
/// Instead of `--key-file`: see [`crate::MemberArgs::key_file`].
pub const KEY_FILE: &str = "TRAINYARD_KEY_FILE";
/// What is logged, as a filter of the `tracing-subscriber` crate: `debug`, `trainyard=trace,info`.
pub const LOG: &str = "TRAINYARD_LOG";

/// Pins each operation of libtorch to a number of threads. A worker needs it, because the bits of a sum depend on how it is split, and
/// starts itself again if it is missing.
pub fn pinned_threads(threads: u32) -> Vec<(&'static str, String)> {
    let numbers = ["OMP_NUM_THREADS", "MKL_NUM_THREADS"].map(|name| (name, threads.to_string()));
    // As many as are asked for, on however few processors.
    let exact = ["OMP_DYNAMIC", "MKL_DYNAMIC"].map(|name| (name, "FALSE".to_owned()));
    let exact = exact.into_iter().filter(|_| threads > 1);
    numbers.into_iter().chain(exact).collect()
}

/// Variables that limit the number of threads all the same: a worker starts itself again without them.
pub const THREAD_LIMITS: [&str; 3] = [
    "OMP_THREAD_LIMIT",
    "OMP_MAX_ACTIVE_LEVELS",
    "MKL_DOMAIN_NUM_THREADS",
];
