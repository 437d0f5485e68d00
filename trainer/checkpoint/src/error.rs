//! What can go wrong with a checkpoint as a whole.

use crate::storage::StorageError;
use trainyard_core::manifest::ManifestError;

/// A checkpoint that was passed over, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Key of the log entry.
    pub key: String,
    /// Step of the checkpoint, if its entry could be read.
    pub step: Option<u64>,
    /// What is wrong with it, naming the object.
    pub reason: String,
}

/// Why a checkpoint could not be written, read, committed or cleaned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// An object is not what was written.
    #[error(
        "{key} is corrupt: {reason}; restore it from a backup, or remove it and resume from an older checkpoint"
    )]
    Corrupt {
        /// The object.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A shard of a checkpoint is gone.
    #[error(
        "shard {key} of the checkpoint is missing: restore it from a backup, or resume from an older checkpoint"
    )]
    MissingShard {
        /// The shard.
        key: String,
    },
    /// There is less memory than a checkpoint takes.
    #[error("{floats} floats of the checkpoint do not fit the memory: use a machine with more")]
    NoMemory {
        /// How many were to be held at once.
        floats: usize,
    },
    /// The entry was written by a newer version of this program.
    #[error(
        "{key} has format {format}, this version reads format {supported}: use the version that wrote it"
    )]
    UnsupportedFormat {
        /// The entry.
        key: String,
        /// Its format.
        format: u64,
        /// The newest format known here.
        supported: u64,
    },
    /// The folder holds the checkpoints of another job.
    #[error("the checkpoint storage belongs to another job ({}): choose another folder, or run that job again to resume it", differences.join("; "))]
    OtherJob {
        /// One phrase for each difference.
        differences: Vec<String>,
    },
    /// A newer coordinator has taken over; this one must stop.
    #[error(
        "generation {by} ({holder}) has taken over this job: this coordinator may no longer commit or clean, and must stop"
    )]
    Fenced {
        /// Generation of the newer claim.
        by: u64,
        /// Who made it.
        holder: String,
    },
    /// `commit` or `clean` before `claim`.
    #[error("the log must be claimed before it is written")]
    NotClaimed,
    /// The caller handed in something that must not be stored.
    #[error("the checkpoint cannot be committed: {reason}")]
    Invalid {
        /// The rule it breaks.
        reason: String,
    },
    /// There are checkpoints, and none can be loaded.
    #[error(
        "none of the job's checkpoints can be loaded: {}; restore one of them, or start anew in another folder",
        reasons(skipped)
    )]
    NothingLoadable {
        /// All of them, newest first.
        skipped: Vec<Skipped>,
    },
    /// The storage holds no log.
    #[error("there is no checkpoint log in this storage: check the path")]
    NoLog,
}

impl From<ManifestError> for Error {
    fn from(error: ManifestError) -> Self {
        let reason = error.to_string();
        Error::Invalid { reason }
    }
}

fn reasons(skipped: &[Skipped]) -> String {
    let reasons: Vec<_> = skipped.iter().map(|s| s.reason.as_str()).collect();
    reasons.join("; ")
}
