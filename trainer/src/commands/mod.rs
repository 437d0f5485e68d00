//! The commands that use what training left: `inspect`, and what `export` and `predict` share with
//! it. Those two compute with the model and so are in the second program.

mod arguments;
mod init;
mod inspect;
mod log;
pub mod print;

pub use arguments::{ExportArgs, PredictArgs};
pub use init::{InitArgs, run as init};
pub use inspect::{InspectArgs, run as inspect};
pub use log::open_log;
