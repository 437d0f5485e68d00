//! Arithmetic that the bits of a model depend on: each part by itself, against other implementations.

mod layout;
mod merkle;
mod metrics;
mod optimizer;
mod philox;
mod reports;
mod sampling;
mod schedule;
mod streams;
