//! The commit log that a command is pointed at.

use anyhow::{Result, bail};
use trainyard_checkpoint::{Error, Log};
use trainyard_runtime::exit::BadInput;
use trainyard_runtime::storage::Location;

/// The log in a run's folder, which is only read.
///
/// # Errors
/// [`BadInput`] if there is none.
pub fn open_log(shown: &Location) -> Result<Log> {
    if let Location::Folder(path) = shown
        && !path.is_dir()
    {
        bail!(BadInput(format!(
            "there is no folder {shown}: give the folder of a run, such as runs/NAME"
        )));
    }
    match Log::open_any(shown.open_existing()?) {
        Err(Error::NoLog) => {
            bail!(BadInput(format!(
                "{shown} holds no checkpoints: give the folder of a run, such as runs/NAME; of a folder of images, trainyard init writes a manifest"
            )))
        }
        Err(
            error @ (Error::Corrupt { .. }
            | Error::OtherJob { .. }
            | Error::UnsupportedFormat { .. }),
        ) => {
            bail!(BadInput(format!("{shown}: {error}")))
        }
        other => Ok(other?),
    }
}
