//! The commit log with its history, and the shards that it names.

use std::sync::Arc;

use serde_json::Value;
use trainyard_checkpoint::shard::PARAMETERS;
use trainyard_checkpoint::storage::check_key;
use trainyard_checkpoint::{
    Check, Error, Log, Manifest, MemoryStorage, Section, ShardId, ShardRecord, Slice, Storage,
    load_range, sha256_hex, verify_shard, write_shard,
};

use crate::archive;

/// Floats that a range which is loaded may have here.
const FLOATS: u64 = 1 << 20;

/// Where an entry is without the envelope that seals it.
const ENTRY: &[u8] = b"{\"format\"";

/// Reads the files of an archive as a storage: its log from its end, all that is kept, and its history; then goes on with it.
///
/// A file of the log that is no envelope is put into one, with the digest that it should have.
pub fn log(input: &[u8]) -> bool {
    let mut whole = false;
    for mend in [false, true] {
        let storage = stored(input, mend);
        let Ok(mut log) = Log::open_any(storage.clone()) else {
            continue;
        };
        let _ = log.history();
        let manifests: Vec<Manifest> = log.manifests().cloned().collect();
        for manifest in &manifests {
            whole |= loaded(&*storage, manifest);
        }
        for check in [Check::Sizes, Check::Digests] {
            let _ = log.newest_loadable(check);
            let _ = log.result_or_newest(check);
        }
        go_on(&storage, &mut log, manifests.last());
    }
    whole
}

/// A storage with the files. Where `mend` is set, what an entry says of a shard is true of the file that is there.
fn stored(input: &[u8], mend: bool) -> Arc<dyn Storage> {
    let files = archive::unpack(input);
    let storage = MemoryStorage::new();
    for (key, bytes) in &files {
        let is_bare = key.starts_with("log/") && !bytes.starts_with(ENTRY);
        let bytes = match is_bare {
            true if mend => sealed(&mended(bytes, &files)),
            true => sealed(bytes),
            false => bytes.to_vec(),
        };
        // Storages hold nothing else.
        if check_key(key).is_ok() {
            storage.put(key, &[&bytes]).expect("a key");
        }
    }
    Arc::new(storage)
}

fn sealed(entry: &[u8]) -> Vec<u8> {
    let digest = sha256_hex(entry.trim_ascii());
    let head = format!("{{\"format\":1,\"sha256\":\"{digest}\",\"entry\":");
    [head.as_bytes(), entry, b"}"].concat()
}

fn mended(entry: &[u8], files: &[(String, &[u8])]) -> Vec<u8> {
    let Ok(mut value) = serde_json::from_slice::<Value>(entry) else {
        return entry.to_vec();
    };
    let shards = value.pointer_mut("/record/commit/manifest/shards");
    for shard in shards.and_then(Value::as_array_mut).into_iter().flatten() {
        let file = files.iter().rev().find(|(key, _)| shard["key"] == **key);
        if let (Some((_, bytes)), true) = (file, shard.is_object()) {
            shard["bytes"] = bytes.len().into();
            shard["sha256"] = sha256_hex(bytes).into();
            shard["storedSha256"] = shard["sha256"].clone();
        }
    }
    value.to_string().into_bytes()
}

/// Loads a checkpoint that passed its checks, as far as it is small; and in parts, which make the whole.
fn loaded(storage: &dyn Storage, manifest: &Manifest) -> bool {
    manifest.check().expect("the log has checked it");
    crate::again(manifest);
    let _ = manifest.state_digests();
    for record in &manifest.shards {
        let _ = verify_shard(storage, record);
    }
    // What is stored bounds what is held, not what is said.
    let floats = manifest.floats as usize;
    let Ok(whole) = load_range(storage, manifest, 0..floats) else {
        return false;
    };
    assert!(manifest.floats <= FLOATS, "an input has fewer");
    let bits = |values: &[f32]| {
        values
            .iter()
            .map(|value| value.to_bits())
            .collect::<Vec<_>>()
    };
    let middle = floats / 3;
    let first = load_range(storage, manifest, 0..middle).expect("it was loaded before");
    let second = load_range(storage, manifest, middle..floats).expect("it was loaded before");
    let both = [first.parameters, second.parameters].concat();
    assert_eq!(bits(&both), bits(&whole.parameters));
    true
}

/// The next coordinator claims the log, commits and cleans. What it has committed is what the next reader finds.
fn go_on(storage: &Arc<dyn Storage>, log: &mut Log, newest: Option<&Manifest>) {
    let highest = log.current_claim().map_or(0, |claim| claim.generation);
    let generation = highest + 1;
    log.compact_from(2);
    if log.claim(generation, "the next").is_err() {
        return;
    }
    let Some(newest) = newest else {
        return;
    };
    let next = Manifest {
        identity: log.identity().clone(),
        generation,
        step: newest.step + 1,
        ..newest.clone()
    };
    if next.check().is_err() {
        return; // after the last step that can be counted
    }
    match log.commit(next.clone()) {
        Ok(()) => {}
        Err(error @ (Error::Fenced { .. } | Error::OtherJob { .. })) => {
            panic!("nobody else is there: {error}")
        }
        Err(_) => return, // there are no numbers left
    }
    match log.clean(1) {
        Ok(_) => {}
        Err(Error::UnsupportedFormat { .. }) => return, // an old entry that a newer version wrote stays
        Err(error) => panic!("nothing is in its way: {error}"),
    }
    let again = Log::open(storage.clone(), log.identity().clone()).expect("it is the same job");
    assert_eq!(again.latest(), Some(&next));
}

/// Reads the input as a shard whose record has its size and digest, and what its header says besides.
pub fn shard(input: &[u8]) -> bool {
    let about = About::of(input).unwrap_or_default();
    let key = ShardId {
        generation: about.generation,
        step: about.step,
        index: 0,
        of: 1,
    }
    .key();
    let record = ShardRecord {
        start: about.start,
        end: about.end,
        slots: about.slots,
        bytes: input.len() as u64,
        sha256: sha256_hex(input),
        subtrees: Vec::new(),
        key,
    };
    let storage = MemoryStorage::new();
    storage.put(&record.key, &[input]).expect("a key");
    verify_shard(&storage, &record).is_ok() && record.start == 0 && rewritten(&storage, record)
}

/// What the header of a shard says, as far as it says anything.
#[derive(Default)]
struct About {
    generation: u64,
    step: u64,
    start: u64,
    end: u64,
    slots: Vec<String>,
}

impl About {
    fn of(shard: &[u8]) -> Option<Self> {
        let (length, rest) = shard.split_first_chunk()?;
        let json = rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let header: Value = serde_json::from_slice(json).ok()?;
        let about: Value =
            serde_json::from_str(header["__metadata__"]["trainyard"].as_str()?).ok()?;
        let number = |name: &str| about[name].as_u64().unwrap_or_default();
        let tensors = header.as_object()?.iter();
        let tensors =
            tensors.filter(|(name, _)| !["__metadata__", PARAMETERS].contains(&name.as_str()));
        let mut slots: Vec<_> = tensors
            .map(|(name, info)| (info["data_offsets"][0].as_u64(), name))
            .collect();
        slots.sort_unstable();
        Some(About {
            generation: number("generation"),
            step: number("step"),
            start: number("start"),
            end: number("end"),
            slots: slots.into_iter().map(|(_, name)| name.clone()).collect(),
        })
    }
}

/// What a whole shard holds is the same when it is written and read again.
fn rewritten(storage: &dyn Storage, record: ShardRecord) -> bool {
    let mut manifest: Manifest = serde_json::from_str(MANIFEST).expect("a manifest");
    manifest.floats = record.end;
    manifest.shards = vec![record];
    if manifest.check().is_err() {
        return false; // it has too many slots
    }
    let Ok(slice) = whole(storage, &manifest) else {
        return false;
    };
    // No writer takes such a name, and no optimizer has it.
    if slice.slots.iter().any(|(name, _)| name.starts_with("__")) {
        return false;
    }
    let parts = parts(&slice);
    let sections: Vec<Section<'_>> = parts
        .iter()
        .map(|&(name, values)| Section {
            name,
            parts: vec![values],
        })
        .collect();
    let id = ShardId {
        generation: 2,
        step: 2,
        index: 0,
        of: 1,
    };
    let written = write_shard(storage, id, 0..slice.parameters.len(), &sections);
    manifest.shards = vec![written.expect("its sections are as long as each other")];
    let again = whole(storage, &manifest).expect("it was just written");
    assert_eq!(bits(&again), bits(&slice));
    true
}

fn whole(storage: &dyn Storage, manifest: &Manifest) -> Result<Slice, Error> {
    load_range(storage, manifest, 0..manifest.floats as usize)
}

/// The parameters and the slots, by name.
fn parts(slice: &Slice) -> Vec<(&str, &[f32])> {
    let slots = slice.slots.iter();
    let slots = slots.map(|(name, values)| (name.as_str(), values.as_slice()));
    std::iter::once((PARAMETERS, slice.parameters.as_slice()))
        .chain(slots)
        .collect()
}

/// The same by their bits: NaN differs from itself as a float.
fn bits(slice: &Slice) -> Vec<(&str, Vec<u32>)> {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    let parts = parts(slice).into_iter();
    parts.map(|(name, values)| (name, bits(values))).collect()
}

/// A manifest without its shards.
const MANIFEST: &str = r#"{
    "job": "digits", "specDigest": "ab", "generation": 1, "step": 1, "epoch": 0, "complete": false, "best": false,
    "floats": 0, "shards": [], "layoutDigest": "layout", "capability": "avx2",
    "facts": {
        "trainRows": 10, "validationRows": 0, "inputShape": [1], "outputs": 1, "digest": "data",
        "schema": {
            "task": "regression", "label": {"name": "y", "classes": [], "numeric": true},
            "input": {"array": {"shape": [1], "dtype": "f4", "mean": [0.0], "std": [1.0]}}
        }
    },
    "coordinator": {"record": {
        "step": 1, "samples": 1, "epochLoss": 0.5, "epochSamples": 1, "history": [], "best": null,
        "staleEpochs": 0, "stoppedEarly": false
    }},
    "spec": null, "modelSha256": null
}"#;
