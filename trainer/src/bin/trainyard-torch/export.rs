//! `trainyard export`: an artifact from a checkpoint.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Result, bail};
use trainyard::commands::{ExportArgs, open_log, print};
use trainyard::ui::format::thousands;
use trainyard_checkpoint::{Check, Error, Log, Manifest};
use trainyard_runtime::artifact::discard_drafts;
use trainyard_runtime::exit::{BadInput, ExitCode};
use trainyard_runtime::storage::Location;
use trainyard_runtime::{output, signals};
use trainyard_torch::{artifact, capability};

/// Runs the command.
///
/// # Errors
/// [`BadInput`] if there is no such checkpoint; others if it is damaged or the folder cannot be written.
pub fn run(args: ExportArgs) -> Result<ExitCode> {
    let log = open_log(&args.checkpoint)?;
    let manifest = choose(&log, &args.checkpoint, args.step)?;
    capability::pin_if_supported(capability::of_spec(&manifest.spec))?;
    // Nothing that is half done is left behind; what is ended by force is removed by the next export.
    let terminate = signals::termination()?;
    terminate.before_exit(discard_drafts);
    terminate.leave_at_once(ExitCode::Interrupted);
    let info = artifact::export(Arc::clone(log.storage()), manifest, &args.out)?;
    print::to_stdout(ExitCode::Done, |out| {
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

/// The checkpoint to export.
fn choose<'a>(log: &'a Log, shown: &Location, step: Option<u64>) -> Result<&'a Manifest> {
    if let Some(step) = step {
        let found = log.manifests().rev().find(|manifest| manifest.step == step);
        return found.ok_or_else(|| {
            // A step may be committed twice: once more as the result.
            let steps: BTreeSet<u64> = log.manifests().map(|manifest| manifest.step).collect();
            let steps: Vec<String> = steps.iter().map(u64::to_string).collect();
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
    match log.result_or_newest(Check::Digests) {
        Ok(Some(loadable)) => {
            for skipped in &loadable.skipped {
                output::warn(format_args!(
                    "passed over {}: {}",
                    skipped.key, skipped.reason
                ));
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
