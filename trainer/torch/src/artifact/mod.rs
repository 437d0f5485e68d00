//! Artifacts: made from a checkpoint, and opened to predict. What their files are:
//! [`trainyard_runtime::artifact`].

mod export;
mod model;
mod publish;
mod script;

pub use export::{ArtifactInfo, export};
pub use model::Artifact;
pub use publish::publish;
pub use script::{check_golden, compute_golden};
