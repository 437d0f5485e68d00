//! The Trainyard operator: it turns a `TrainingJob` into servers and workers, and keeps them going to the end.
//!
//! One pass over a job ([`pass`]) is **fetch** ([`fetch`]) -> **validate** ([`job`]) -> **plan** ([`plan`], pure) -> **apply**
//! ([`apply`], the only place that writes). The status in a plan is written before any of its steps is taken.

pub mod apply;
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
pub mod observed;
pub mod owner;
pub mod pass;
pub mod plan;
pub mod resources;

pub use context::Context;
pub use controller::run;
pub use job::Guarded;
