//! The finisher: exports the artifact of a job that is complete. It reads the complete checkpoint and
//! writes beside it, so it can fail and be repeated without harm.

use anyhow::{Context, Result};
use trainyard_checkpoint::Log;
use trainyard_contract::{ExitCode, ExportReport, FinisherArgs};
use trainyard_runtime::artifact::discard_drafts;
use trainyard_runtime::termination::Ended;
use trainyard_runtime::{role, signals};
use trainyard_torch::{artifact, capability};

/// Exports the artifact, unless it is there.
///
/// # Errors
/// If the job is not complete, or as [`artifact::publish`].
pub fn run(args: FinisherArgs) -> Result<Ended> {
    // Whatever is half done is done again. The first process of a container has no handlers but its own.
    let terminate = signals::termination()?;
    terminate.before_exit(discard_drafts);
    terminate.leave_at_once(ExitCode::TryAgain);
    let job = role::begin(&args.job, &args.supervision)?;
    capability::pin_if_supported(job.manifest.spec.training.cpu_capability)?;
    role::show_life(&args.supervision)?;
    let storage = role::storage(&args.storage)?;
    let log = Log::open(storage.open_existing()?, job.identity())?;
    let manifest = log
        .complete()
        .context("the job has no complete checkpoint yet")?;
    artifact::publish(&storage, log.storage(), manifest)?;
    Ok(Ended::Exported(ExportReport {
        exported: true,
        artifact: storage.artifact().to_string(),
    }))
}
