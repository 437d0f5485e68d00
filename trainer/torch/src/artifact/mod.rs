//! Artifacts, made from a checkpoint. What their files are:
//! [`trainyard_runtime::artifact`].

mod export;
mod publish;
mod script;

pub use export::{ArtifactInfo, export};
pub use publish::publish;
pub use script::{check_golden, compute_golden};
