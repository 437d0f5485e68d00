//! The Trainyard operator: it turns a `TrainingJob` into servers and workers, and keeps them going to the end.
//!
//! One pass over a job is **fetch** ([`index`], [`memory`]) -> **validate** ([`job`]) -> **plan** ([`plan`], pure) -> **apply**
//! ([`apply`], the only place that writes). The status in a plan is written before any of its steps is taken.

pub mod apply;
pub mod conditions;
pub mod controller;
pub mod coordinator;
pub mod events;
pub mod http;
pub mod index;
pub mod job;
pub mod leader;
pub mod memory;
pub mod metrics;
pub mod observed;
pub mod plan;
pub mod resources;

pub use controller::{Context, Guarded, run};
