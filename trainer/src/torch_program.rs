//! The program that links libtorch, `trainyard-torch`, which lies beside this one. It is the worker
//! and the finisher of a job, and runs the commands that compute with a model.

use std::convert::Infallible;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

/// Its file's name.
const NAME: &str = "trainyard-torch";

/// The program, held open: what is started later is what was there at first, even if the file is
/// replaced meanwhile. All processes of a run must compute with the same code.
#[derive(Debug)]
pub struct TorchProgram {
    file: File,
}

impl TorchProgram {
    /// Finds the program beside this one.
    ///
    /// # Errors
    /// If it is not there.
    pub fn find() -> Result<Self> {
        let path = path()?;
        let file = File::open(&path).with_context(|| {
            format!(
                "{} cannot be opened: install it beside trainyard, with the same version",
                path.display()
            )
        })?;
        Ok(TorchProgram { file })
    }

    /// A command that starts the program. It must be spawned while `self` is there.
    pub fn command(&self) -> Command {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        command.arg0("trainyard");
        command
    }
}

/// Turns this process into the program, with the arguments that it has. Returns only an error.
///
/// # Errors
/// If the program is not there or cannot be started.
pub fn become_it() -> Result<Infallible> {
    let error = TorchProgram::find()?
        .command()
        .args(std::env::args_os().skip(1))
        .exec();
    Err(error).with_context(|| format!("{NAME} cannot be started"))
}

fn path() -> Result<PathBuf> {
    let this = std::env::current_exe().context("the file of this program cannot be found")?;
    Ok(this.with_file_name(NAME))
}
