//! The records of a checkpoint: what servers report, what the log stores, what a job resumes from.
//!
//! `trainyard-checkpoint` writes, reads and verifies them. Their JSON is stored for as long as a job's
//! checkpoints are kept: a field may be added with a default, never renamed or removed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::facts::{DataFacts, FactsError};
use crate::json;
use crate::merkle::Digest;
use crate::record::Record;
pub use trainyard_contract::{FinalMetrics, Reports};

/// The most shards of a checkpoint: a job has at most as many servers.
pub const MAX_SHARDS: usize = 1024;

/// The most slots of an optimizer. Those that there are have at most two.
pub const MAX_SLOTS: usize = 8;

/// The most steps, samples or epochs that a manifest may count: up to here every reader of JSON has the
/// same number, and no job comes near.
pub const MAX_COUNT: u64 = 1 << 53;

/// Which job a log belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobIdentity {
    /// Name of the job.
    pub job: String,
    /// SHA-256 (hex) of what makes the job's model: everything in its spec that may not change
    /// while it runs.
    pub spec_digest: String,
}

impl JobIdentity {
    /// One phrase for each difference between what a log holds (`self`) and what is wanted.
    pub fn differences(&self, wanted: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        if self.job != wanted.job {
            let phrase = format!("it holds job {:?}, this is {:?}", self.job, wanted.job);
            differences.push(phrase);
        }
        if self.spec_digest != wanted.spec_digest {
            let (theirs, ours) = (&self.spec_digest, &wanted.spec_digest);
            let phrase = format!("its spec has digest {theirs}, this job's spec has {ours}");
            differences.push(phrase);
        }
        differences
    }
}

/// One server's part of a checkpoint: a stored safetensors file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardRecord {
    /// Key in the storage.
    pub key: String,
    /// First float of the arena that it holds.
    pub start: u64,
    /// The float after its last.
    pub end: u64,
    /// Names of the optimizer's slots that it holds beside the parameters.
    pub slots: Vec<String>,
    /// Size of the stored object in bytes.
    pub bytes: u64,
    /// SHA-256 (hex) of the stored object, which is the safetensors file.
    ///
    /// The JSON holds it twice: `sha256` is defined as the digest of the file, `storedSha256` as that of
    /// the object. They will differ once shards are encrypted. This version does not encrypt, writes
    /// both alike, and refuses a record in which they differ.
    #[serde(flatten, with = "digests")]
    pub sha256: String,
    /// For the parameters and each slot, in this order: the subtrees that cover its chunks, of which
    /// [`Manifest::state_digests`] makes digests of the whole state. Empty if the shard was written by
    /// a version that did not tell them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subtrees: Vec<Vec<Digest>>,
}

/// The two digests in the JSON of a [`ShardRecord`].
mod digests {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Written<'a> {
        sha256: &'a str,
        stored_sha256: &'a str,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Stored {
        sha256: String,
        stored_sha256: String,
    }

    pub fn serialize<S: Serializer>(sha256: &str, serializer: S) -> Result<S::Ok, S::Error> {
        let stored_sha256 = sha256;
        Written {
            sha256,
            stored_sha256,
        }
        .serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        let Stored {
            sha256,
            stored_sha256,
        } = Stored::deserialize(deserializer)?;
        match sha256 == stored_sha256 {
            true => Ok(sha256),
            false => Err(D::Error::custom(
                "sha256 and storedSha256 differ, so the shard is encrypted, which this version does not \
                 support: use the version that wrote it",
            )),
        }
    }
}

/// A committed checkpoint: the state after `step` steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The job.
    #[serde(flatten)]
    pub identity: JobIdentity,
    /// Generation of the coordinator that commits it.
    pub generation: u64,
    /// Steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: u64,
    /// Whether the job is finished with it. A complete checkpoint is never cleaned.
    pub complete: bool,
    /// Whether it was imported from another job's log, as `spec.resumeFrom` asks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub imported: bool,
    /// Whether it is the best so far by the job's validation metric. The newest such is never
    /// cleaned.
    pub best: bool,
    /// Floats of the whole arena, padding included.
    pub floats: u64,
    /// The shards, by rising range, which together cover `0..floats` without gap or overlap.
    pub shards: Vec<ShardRecord>,
    /// Digest of the arena's layout.
    pub layout_digest: String,
    /// CPU or accelerator capability that the bits belong to.
    pub capability: String,
    /// What is known of the data.
    pub facts: DataFacts,
    /// What the coordinator knows of the training.
    #[serde(serialize_with = "json::sorted")]
    pub coordinator: CoordinatorState,
    /// The whole job as the user wrote it, with defaults applied, so that an export needs nothing else.
    ///
    /// It stays JSON: the type is that of the API, which this crate does not depend on, and nothing here
    /// interprets it. The trainer decodes it where it needs the job.
    pub spec: Value,
    /// SHA-256 (hex) of the model, where it is known.
    pub model_sha256: Option<String>,
}

/// The coordinator's part of a manifest. JSON has no NaN and no infinity; finite floats come back with
/// the same bits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CoordinatorState {
    /// The course of the training up to the manifest's step.
    pub record: Record,
    /// Metrics of the model, once the job is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<FinalMetrics>,
}

/// Why a [`Manifest`] is not that of any checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A shard overlaps the one before it, or leaves a gap.
    #[error("shard {key} holds floats {start}..{end}, expected it to start at {covered}")]
    Range {
        /// The shard.
        key: String,
        /// Its first float.
        start: u64,
        /// The float after its last.
        end: u64,
        /// Where the shard before it ends.
        covered: u64,
    },
    /// A shard holds the state of another optimizer.
    #[error("shard {0} has other optimizer slots than the first")]
    Slots(String),
    /// More shards, or more slots, than any checkpoint has.
    #[error("it names {found} {what}; a checkpoint has at most {limit}")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A number that nobody has counted up to.
    #[error("it counts {0} steps, samples or epochs, more than any job has")]
    Count(u64),
    /// The facts of the data contradict themselves.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// The shards end before the arena does.
    #[error("the shards hold {covered} of {floats} floats")]
    Incomplete {
        /// Floats in the shards.
        covered: u64,
        /// Floats of the arena.
        floats: u64,
    },
}

impl Manifest {
    /// Checks what no type can say: the shards cover the arena and hold the same tensors, the facts of
    /// the data fit together, and no number is beyond those of a job. It takes a moment, whatever the manifest says.
    ///
    /// # Errors
    /// With the first that is wrong.
    pub fn check(&self) -> Result<(), ManifestError> {
        let counts = [
            ("shards", self.shards.len(), MAX_SHARDS),
            ("slots", self.slots().len(), MAX_SLOTS),
        ];
        if let Some((what, found, limit)) = counts.into_iter().find(|(_, n, max)| n > max) {
            return Err(ManifestError::TooMany { what, found, limit });
        }
        self.check_shards()?;
        let counts = self.coordinator.record.counts();
        let mut counts = counts.chain([self.step, self.epoch]);
        if let Some(count) = counts.find(|count| *count > MAX_COUNT) {
            return Err(ManifestError::Count(count));
        }
        Ok(self.facts.check()?)
    }

    fn check_shards(&self) -> Result<(), ManifestError> {
        let mut covered = 0;
        for shard in &self.shards {
            let ShardRecord { start, end, .. } = *shard;
            let key = || shard.key.clone();
            if start != covered || end < start {
                return Err(ManifestError::Range {
                    key: key(),
                    start,
                    end,
                    covered,
                });
            }
            if shard.slots != self.shards[0].slots {
                return Err(ManifestError::Slots(key()));
            }
            covered = end;
        }
        let floats = self.floats;
        match covered == floats {
            true => Ok(()),
            false => Err(ManifestError::Incomplete { covered, floats }),
        }
    }

    /// Names of the optimizer's slots, in the order of the shards' tensors.
    pub fn slots(&self) -> &[String] {
        self.shards.first().map_or(&[], |shard| &shard.slots)
    }
}
