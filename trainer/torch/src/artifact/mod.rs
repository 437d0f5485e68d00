//! Artifacts: made from a checkpoint, and opened to predict. What their files are:
//! [`trainyard_runtime::artifact`].

mod export;
mod model;
mod publish;
mod rows;
mod script;

pub use export::{ArtifactInfo, export};
pub use model::{Artifact, BLOCK_ROWS};
pub use publish::publish;
pub use rows::{Verdict, check as check_rows, make as make_rows};
pub use script::{check_golden, compute_golden};
