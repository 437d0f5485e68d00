//! What a trained model makes of rows, without libtorch.
//!
//! libtorch's own kernels are chosen by the number of rows, by the place of a row among them and by the CPU, and each has
//! other last bits. The kernels here have one: every sum is a chain of fused multiply-adds in an order that the network
//! alone decides. So an answer depends on its row and on nothing else: not on the rows beside it, on the machine, or on how
//! many threads compute. [`KERNEL_VERSION`] names that order.
//!
//! - [`Network`]: layers, bound to their parameters. Training runs the same layers with libtorch (`trainyard_torch::network`).
//! - [`Model`]: an artifact that predicts.
//! - [`golden`]: rows that prove it.

#![warn(clippy::print_stderr, clippy::print_stdout)]

mod activation;
pub mod golden;
mod image;
mod lanes;
mod linear;
mod model;
mod network;

pub use lanes::Isa;
pub use model::Model;
pub use network::{Network, Scratch};

/// The version of the order in which sums are made: models of one version have equal bits on every machine.
pub const KERNEL_VERSION: u32 = 1;
