//! `trainyard serve`: a model that answers clients, after it has proved itself.

#![warn(clippy::print_stderr, clippy::print_stdout)]
#![forbid(unsafe_code)]

pub mod batch;
pub mod grpc;
pub mod http;
pub mod infer;
pub mod load;
pub mod model;
pub mod net;
pub mod options;
pub mod proof;
pub mod protocol;
pub mod registry;
pub mod server;
pub mod stats;
