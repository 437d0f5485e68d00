//! All of Trainyard that links libtorch: networks, gradients and inference, the artifact's models,
//! and the worker role. The program `trainyard-torch` is made of it; `trainyard` links none of it.

#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod arena;
pub mod artifact;
pub mod capability;
pub mod engine;
pub mod network;
pub mod worker;
