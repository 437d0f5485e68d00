//! The training protocol and its mathematics, sans-IO.
//!
//! Everything here is a function of its arguments: no sockets, no files, no clock, no global
//! random state, no libtorch. Time and seeds are handed in, so that each decision can be tested
//! by properties and replayed by a seeded simulation. `ARCHITECTURE.md` at the root has the
//! picture and the invariants.

#![warn(clippy::print_stderr, clippy::print_stdout)]
#![forbid(unsafe_code)]

pub mod assignment;
pub mod capability;
pub mod control;
pub mod coordinator;
pub mod excerpt;
pub mod facts;
pub mod json;
pub mod layout;
pub mod manifest;
pub mod merkle;
pub mod metrics;
pub mod optimizer;
pub mod philox;
pub mod prediction;
pub mod record;
pub mod round;
pub mod sampling;
pub mod schedule;
pub mod schema;
pub mod session;
pub mod shard;
pub mod state;
pub mod tree;
pub mod wire;
