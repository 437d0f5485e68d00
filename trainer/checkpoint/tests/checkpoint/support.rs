//! A small job whose state is a function of the step.

use serde_json::json;
use std::ops::Range;
use std::sync::Arc;
use trainyard_checkpoint::{
    Check, Error, JobIdentity, Log, Manifest, Section, ShardId, ShardRecord, Slice, Storage,
    load_range, write_shard,
};
use trainyard_core::coordinator::Record;
use trainyard_core::facts::DataFacts;
use trainyard_core::manifest::CoordinatorState;
use trainyard_core::metrics::Task;
use trainyard_core::schema::{ArrayInput, InputKind, InputSchema, Label};

pub const FLOATS: usize = 37;

pub fn job() -> JobIdentity {
    JobIdentity {
        job: "digits".to_owned(),
        spec_digest: "ab".repeat(32),
    }
}

/// The whole arena after `step` steps; bits of all kinds, NaN and negative zero among them.
pub fn state(step: u64) -> Slice {
    let tensor = |salt: u32| -> Vec<f32> {
        (0..FLOATS as u32)
            .map(|i| match i {
                5 => -0.0,
                6 => f32::from_bits(0x7fc0_1234),
                _ => f32::from_bits((i + salt).wrapping_mul(2_654_435_761) ^ step as u32),
            })
            .collect()
    };
    Slice {
        parameters: tensor(1),
        slots: vec![("exp_avg".to_owned(), tensor(1000))],
    }
}

/// `Slice` compared by bits: NaN differs from itself as a float.
pub fn bits(slice: &Slice) -> Vec<(String, Vec<u32>)> {
    let bits = |floats: &[f32]| floats.iter().map(|f| f.to_bits()).collect();
    let slots = slice
        .slots
        .iter()
        .map(|(name, floats)| (name.clone(), bits(floats)));
    let parameters = ("parameters".to_owned(), bits(&slice.parameters));
    std::iter::once(parameters).chain(slots).collect()
}

pub fn write_shards(
    storage: &dyn Storage,
    step: u64,
    generation: u64,
    servers: u32,
) -> Result<Vec<ShardRecord>, Error> {
    let state = state(step);
    let mut records = Vec::new();
    for index in 0..servers {
        let bound = |k: u32| FLOATS * k as usize / servers as usize;
        let range = bound(index)..bound(index + 1);
        let middle = range.start + range.len() / 3;
        let id = ShardId {
            generation,
            step,
            index,
            of: servers,
        };
        let pieces = |floats| pieces(floats, &range, middle);
        let sections = [
            Section {
                name: "parameters",
                parts: pieces(&state.parameters),
            },
            Section {
                name: "exp_avg",
                parts: pieces(&state.slots[0].1),
            },
        ];
        records.push(write_shard(storage, id, range.clone(), &sections)?);
    }
    Ok(records)
}

/// A range in two pieces, as a server holds it in several chunks.
fn pieces<'a>(floats: &'a [f32], range: &Range<usize>, middle: usize) -> Vec<&'a [f32]> {
    vec![&floats[range.start..middle], &floats[middle..range.end]]
}

pub fn manifest(step: u64, generation: u64, shards: Vec<ShardRecord>) -> Manifest {
    Manifest {
        identity: job(),
        generation,
        step,
        epoch: step / 100,
        complete: false,
        imported: false,
        best: false,
        floats: FLOATS as u64,
        shards,
        layout_digest: "layout".to_owned(),
        capability: "avx2".to_owned(),
        facts: DataFacts {
            train_rows: 10,
            validation_rows: 2,
            test_rows: 0,
            input_shape: vec![3],
            outputs: 1,
            digest: "data".to_owned(),
            schema: InputSchema {
                task: Task::Regression,
                input: InputKind::Array(ArrayInput {
                    shape: vec![3],
                    dtype: "f4".to_owned(),
                    mean: vec![0.1; 3],
                    std: vec![1.0; 3],
                    resize: false,
                }),
                label: Label {
                    name: "label".to_owned(),
                    classes: Vec::new(),
                    numeric: true,
                    scale: None,
                    link: None,
                    threshold: None,
                },
            },
        },
        coordinator: CoordinatorState {
            record: Record {
                step,
                epoch_loss: 0.1 + 0.2,
                ..Record::default()
            },
            metrics: None,
        },
        spec: json!({"seed": 7}),
        model_sha256: None,
    }
}

/// Writes and commits a checkpoint.
pub fn checkpoint(
    storage: &dyn Storage,
    log: &mut Log,
    step: u64,
    generation: u64,
    servers: u32,
) -> Result<(), Error> {
    let shards = write_shards(storage, step, generation, servers)?;
    log.commit(manifest(step, generation, shards))
}

/// Checks that a checkpoint has the bits of its step.
pub fn assert_whole(storage: &dyn Storage, manifest: &Manifest) {
    let loaded = load_range(storage, manifest, 0..FLOATS).unwrap();
    assert_eq!(bits(&loaded), bits(&state(manifest.step)));
}

pub fn open(storage: &Arc<dyn Storage>) -> Log {
    Log::open(storage.clone(), job()).unwrap()
}

/// Step of the newest loadable checkpoint, whose bits are checked.
pub fn resume(storage: &Arc<dyn Storage>, log: &Log) -> Result<Option<u64>, Error> {
    let Some(found) = log.newest_loadable(Check::Digests)? else {
        return Ok(None);
    };
    let manifest = found.manifest;
    let loaded = load_range(&**storage, manifest, 0..FLOATS)?;
    assert_eq!(bits(&loaded), bits(&state(manifest.step)));
    Ok(Some(manifest.step))
}
