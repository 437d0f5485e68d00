//! Trainyard's first program: `run`, `inspect` and the server role, without libtorch. What needs
//! libtorch is in a second program beside it, which this one starts ([`torch_program`]).
//! See `ARCHITECTURE.md`.

#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod commands;
pub mod run;
pub mod server;
pub mod torch_program;
pub mod ui;
