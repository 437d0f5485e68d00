//! Environment variables that processes of a job are given.

/// Names that begin so are ours: a job may not set them for its pods.
pub const RESERVED_PREFIX: &str = "TRAINYARD_";
/// The pod's own address, to build arguments from.
pub const POD_IP: &str = "TRAINYARD_POD_IP";
/// Instead of `--grace`: see [`crate::ServerArgs::grace`].
pub const GRACE_SECONDS: &str = "TRAINYARD_GRACE_SECONDS";
/// What is logged, as a filter of the `tracing-subscriber` crate: `debug`, `trainyard=trace,info`.
pub const LOG: &str = "TRAINYARD_LOG";

/// Pins each operation of libtorch to one thread. A worker needs it, because the bits of a sum depend on how it is split, and
/// starts itself again if it is missing.
pub const ONE_THREAD: [(&str, &str); 2] = [("OMP_NUM_THREADS", "1"), ("MKL_NUM_THREADS", "1")];
