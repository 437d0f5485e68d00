//! The finisher: exports the artifact of a job that is complete. It reads the complete checkpoint and
//! writes beside it, so it can fail and be repeated without harm.

use anyhow::{Context, Result};
use trainyard_checkpoint::Log;
use trainyard_runtime::exit::ExitCode;
use trainyard_runtime::role;
use trainyard_torch::{artifact, capability};

use crate::FinisherArgs;

/// Exports the artifact, unless it is there.
///
/// # Errors
/// If the job is not complete, or as [`artifact::publish`].
pub fn run(args: FinisherArgs) -> Result<ExitCode> {
    let job = role::begin(&args.job, args.supervised)?;
    capability::pin_if_supported(job.manifest.spec.training.cpu_capability)?;
    let log = Log::open(args.storage.open_existing()?, job.identity())?;
    let manifest = log
        .complete()
        .context("the job has no complete checkpoint yet")?;
    artifact::publish(&args.storage, log.storage(), manifest)?;
    Ok(ExitCode::Done)
}
