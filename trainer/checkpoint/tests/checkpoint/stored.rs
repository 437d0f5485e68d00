//! The text of stored manifests, which outlives the program that wrote it.

use std::sync::Arc;
use trainyard_checkpoint::{Log, MemoryStorage, Storage};

/// The second entry of a log, as it is stored: a complete checkpoint of two shards.
const COMMIT: &str = include_str!("fixtures/commit.json");
const KEY: &str = "log/000000000001.json";

fn log(text: &str) -> Log {
    let storage = Arc::new(MemoryStorage::new());
    storage.put(KEY, &[text.as_bytes()]).unwrap();
    Log::open_any(storage).unwrap()
}

#[test]
fn a_manifest_keeps_its_stored_bytes() {
    let manifest = log(COMMIT).complete().expect("a manifest").clone();
    let storage = Arc::new(MemoryStorage::new());
    let mut again = Log::open(storage.clone(), manifest.identity.clone()).unwrap();
    again.claim(2, "00000000deadbeef").unwrap();
    again.commit(manifest).unwrap();
    let stored = storage.get(KEY, 1 << 20).unwrap();
    assert_eq!(String::from_utf8(stored).unwrap(), COMMIT);
}
