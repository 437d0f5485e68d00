//! What makes a set of shards a checkpoint.

use crate::error::Error;
use crate::shard::ShardRecord;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use trainyard_core::facts::DataFacts;

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
    /// The coordinator's own state: early stopping, sums of losses, history, metrics. JSON has no
    /// NaN and no infinity; finite floats come back with the same bits.
    pub coordinator: Value,
    /// The whole job as the user wrote it, so that an export needs nothing else.
    pub spec: Value,
    /// SHA-256 (hex) of the model, where it is known.
    pub model_sha256: Option<String>,
}

impl Manifest {
    /// Checks that the shards cover the arena and hold the same tensors.
    pub fn check(&self) -> Result<(), Error> {
        let invalid = |reason: String| Err(Error::Invalid { reason });
        let mut covered = 0;
        for shard in &self.shards {
            if shard.start != covered || shard.end < shard.start {
                let (start, end) = (shard.start, shard.end);
                let key = &shard.key;
                return invalid(format!(
                    "shard {key} holds floats {start}..{end}, expected it to start at {covered}"
                ));
            }
            if shard.slots != self.shards[0].slots {
                let key = &shard.key;
                return invalid(format!(
                    "shard {key} has other optimizer slots than the first"
                ));
            }
            covered = shard.end;
        }
        if covered != self.floats {
            let floats = self.floats;
            return invalid(format!("the shards hold {covered} of {floats} floats"));
        }
        Ok(())
    }

    /// Names of the optimizer's slots, in the order of the shards' tensors.
    pub fn slots(&self) -> &[String] {
        self.shards.first().map_or(&[], |shard| &shard.slots)
    }
}

/// One phrase for each value in which two specs differ, as in `training.seed is 7 there, 8 here`.
pub fn spec_differences(stored: &Value, wanted: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    compare("", Some(stored), Some(wanted), &mut differences);
    differences
}

fn compare(path: &str, stored: Option<&Value>, wanted: Option<&Value>, found: &mut Vec<String>) {
    if stored == wanted {
        return;
    }
    let (Some(Value::Object(a)), Some(Value::Object(b))) = (stored, wanted) else {
        let shown = |value: Option<&Value>| value.map_or("not set".to_owned(), Value::to_string);
        let (stored, wanted) = (shown(stored), shown(wanted));
        found.push(format!("{path} is {stored} there, {wanted} here"));
        return;
    };
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for name in names {
        let below = match path {
            "" => name.clone(),
            _ => format!("{path}.{name}"),
        };
        compare(&below, a.get(name), b.get(name), found);
    }
}
