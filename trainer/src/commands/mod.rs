//! The commands that use what training left: `inspect`, `predict`, and what `export`, which is in the second program, shares with
//! them.

mod arguments;
mod init;
mod inspect;
mod log;
mod predict;
pub mod print;
mod serve;

pub use arguments::{ExportArgs, PredictArgs};
pub use init::{InitArgs, run as init};
pub use inspect::{InspectArgs, run as inspect};
pub use log::open_log;
pub use predict::run as predict;
pub use serve::{ServeArgs, run as serve};
