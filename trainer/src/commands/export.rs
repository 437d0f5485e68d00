//! `trainyard export`: an artifact from a checkpoint.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use trainyard_checkpoint::{Check, Error, Log, Manifest};

use super::print;
use crate::artifact;
use crate::exit::{BadInput, Exit};
use crate::storage::Location;
use crate::ui::format::thousands;

/// Arguments of `trainyard export`.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// Folder of a run, which holds its checkpoints, such as runs/NAME, or s3://BUCKET/PREFIX/NAME.
    checkpoint: Location,
    /// Folder of the artifact; one that is there is replaced.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Export the checkpoint after this many steps [default: the result, or the newest checkpoint].
    #[arg(long, value_name = "N")]
    step: Option<u64>,
}

/// Runs the command.
///
/// # Errors
/// [`BadInput`] if there is no such checkpoint; others if it is damaged or the folder cannot be written.
pub fn run(args: ExportArgs) -> Result<Exit> {
    let log = open_log(&args.checkpoint)?;
    let manifest = choose(&log, &args.checkpoint, args.step)?;
    let info = artifact::export(Arc::clone(log.storage()), manifest, &args.out)?;
    print::to_stdout(Exit::Done, |out| {
        let which = if info.complete {
            "the finished job"
        } else {
            "an unfinished job"
        };
        writeln!(
            out,
            "{}  step {} of {which}",
            print::bold(&info.job),
            thousands(info.step)
        )?;
        writeln!(out, "  artifact     {}", info.path.display())?;
        writeln!(out, "  parameters   {}", thousands(info.parameters))?;
        writeln!(out, "  modelSha256  {}", info.model_sha256)?;
        Ok(())
    })
}

/// The log in a run's folder, which is only read.
///
/// # Errors
/// [`BadInput`] if there is none.
pub(super) fn open_log(shown: &Location) -> Result<Log> {
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
                "{shown} holds no checkpoints: give the folder of a run, such as runs/NAME"
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

/// The checkpoint to export.
fn choose<'a>(log: &'a Log, shown: &Location, step: Option<u64>) -> Result<&'a Manifest> {
    if let Some(step) = step {
        let found = log.manifests().rev().find(|manifest| manifest.step == step);
        return found.ok_or_else(|| {
            let steps: Vec<String> = log
                .manifests()
                .map(|manifest| manifest.step.to_string())
                .collect();
            let there = if steps.is_empty() {
                "none yet".into()
            } else {
                steps.join(", ")
            };
            BadInput(format!(
                "{shown} has no checkpoint of step {step}; it has: {there}"
            ))
            .into()
        });
    }
    // A damaged result is an error of its own: an older checkpoint is another model.
    if let Some(manifest) = log.complete() {
        return Ok(manifest);
    }
    match log.newest_loadable(Check::Digests) {
        Ok(Some(loadable)) => {
            for skipped in &loadable.skipped {
                eprintln!("warning: passed over {}: {}", skipped.key, skipped.reason);
            }
            Ok(loadable.manifest)
        }
        Ok(None) => bail!(BadInput(format!(
            "{shown} has no checkpoint yet: wait for the first one, or resume the run"
        ))),
        Err(error @ Error::NothingLoadable { .. }) => bail!(BadInput(format!("{shown}: {error}"))),
        Err(error) => Err(error.into()),
    }
}
