//! The commands that use what training left: `export`, `predict`, `inspect`.

mod export;
mod inspect;
mod predict;
mod print;

pub use export::{ExportArgs, run as export};
pub use inspect::{InspectArgs, run as inspect};
pub use predict::{PredictArgs, run as predict};
