//! The Trainyard operator: it turns a `TrainingJob` into servers and workers, and keeps them going to the end.
//!
//! One reconcile of a job ([`reconcile`]) is **validate** ([`job`]) -> **fetch** ([`fetch`], with [`read`] for what the caches
//! cannot tell) -> **plan** ([`plan`], pure: every decision is there) -> **apply** ([`apply`], the only place that writes). The
//! status in a plan is written before any of its steps is taken.

#![warn(clippy::print_stderr, clippy::print_stdout)]
#![forbid(unsafe_code)]

pub mod apply;
pub mod backoff;
pub mod child;
pub mod conditions;
pub mod context;
pub mod controller;
pub mod coordinator;
pub mod events;
pub mod fetch;
pub mod http;
pub mod index;
pub mod job;
pub mod leader;
pub mod memory;
pub mod metrics;
pub mod observe;
pub mod owner;
pub mod plan;
pub mod read;
pub mod reconcile;
pub mod resources;
pub mod trouble;

pub use context::Context;
pub use controller::run;
pub use job::Guarded;
