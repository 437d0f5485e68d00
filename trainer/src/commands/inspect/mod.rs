//! `trainyard inspect`: what is in a run's folder or an artifact.

mod artifact;
mod run;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use super::print;
use crate::artifact::{MODEL, PROVENANCE};
use crate::exit::{BadInput, Exit};

/// Arguments of `trainyard inspect`.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// Folder of a run, such as runs/NAME, or of an artifact, such as runs/NAME/artifact.
    path: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Read every shard of a run's checkpoints and check its digest, not just its size.
    #[arg(long)]
    verify: bool,
}

/// Runs the command. Damage is reported, and makes the exit code 2 where nothing usable is left.
///
/// # Errors
/// [`BadInput`] if the path is neither a run's folder nor an artifact.
pub fn run(args: InspectArgs) -> Result<Exit> {
    let path = &args.path;
    if !path.is_dir() {
        let shown = path.display();
        bail!(BadInput(format!(
            "there is no folder {shown}: give the folder of a run or of an artifact"
        )));
    }
    if path.join(MODEL).exists() || path.join(PROVENANCE).exists() {
        let report = artifact::Report::read(path)?;
        let exit = if report.is_sound() {
            Exit::Done
        } else {
            Exit::BadInput
        };
        return print::to_stdout(exit, |out| match args.json {
            true => Ok(writeln!(out, "{}", serde_json::to_string(&report)?)?),
            false => report.write(out),
        });
    }
    let report = run::Report::read(path, args.verify)?;
    let exit = if report.is_sound() {
        Exit::Done
    } else {
        Exit::BadInput
    };
    print::to_stdout(exit, |out| match args.json {
        true => Ok(writeln!(out, "{}", serde_json::to_string(&report)?)?),
        false => report.write(out),
    })
}
