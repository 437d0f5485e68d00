//! Logs and shards that this program did not write, or not like this.

use crate::faults::history;
use crate::support::{FLOATS, checkpoint, job, manifest, open, write_shards};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use trainyard_checkpoint::{
    Check, Error, FolderStorage, Log, MemoryStorage, ShardRecord, Storage, load_range, sha256_hex,
    verify_shard,
};

const CLAIM: &str = "log/000000000000.json";
const FIRST: &str = "log/000000000001.json";
const SECOND: &str = "log/000000000002.json";

/// Changes an entry, and seals it again: whoever can write it can do that.
fn tamper(storage: &dyn Storage, key: &str, change: impl FnOnce(&mut Value)) {
    let text = storage.get(key, 1 << 20).unwrap();
    let mut envelope: Value = serde_json::from_slice(&text).unwrap();
    change(&mut envelope["entry"]);
    let entry = envelope["entry"].to_string();
    let sha256 = sha256_hex(entry.as_bytes());
    let text = format!(r#"{{"format":1,"sha256":"{sha256}","entry":{entry}}}"#);
    storage.put(key, &[text.as_bytes()]).unwrap();
}

/// Why the entry under `key` does not count; the checkpoint of step 50 does.
fn passed_over(storage: &Arc<dyn Storage>, key: &str) -> String {
    let log = open(storage);
    let found = log.newest_loadable(Check::Digests).unwrap().unwrap();
    assert_eq!(found.manifest.step, 50);
    assert_eq!(found.skipped.len(), 1, "{:?}", found.skipped);
    assert_eq!(found.skipped[0].key, key);
    found.skipped[0].reason.clone()
}

#[test]
fn a_manifest_that_no_job_has_is_passed_over_and_not_believed() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 8] = [
        ("1000000 slots", |manifest| {
            manifest["shards"][0]["slots"] = vec!["s"; 1_000_000].into();
        }),
        ("2000 shards", |manifest| {
            manifest["shards"] = vec![manifest["shards"][0].clone(); 2000].into();
        }),
        ("input shape", |manifest| {
            manifest["facts"]["inputShape"] = json!([1_u64 << 40, 1_u64 << 40]);
        }),
        ("18446744073709551615 rows", |manifest| {
            manifest["facts"]["validationRows"] = u64::MAX.into();
        }),
        ("counts 18446744073709551615", |manifest| {
            manifest["step"] = u64::MAX.into();
        }),
        ("counts 18446744073709551615", |manifest| {
            manifest["coordinator"]["record"]["step"] = u64::MAX.into();
        }),
        ("counts 18446744073709551615", |manifest| {
            let epoch = json!({"epoch": u64::MAX, "step": 1, "trainLoss": 0.1, "validation": null});
            manifest["coordinator"]["record"]["history"] = json!([epoch]);
        }),
        ("holds floats", |manifest| {
            manifest["shards"][1]["end"] = 0.into();
        }),
    ];
    for (said, change) in cases {
        let storage = history();
        tamper(&*storage, SECOND, |entry| {
            change(&mut entry["record"]["commit"]["manifest"]);
        });
        let reason = passed_over(&storage, SECOND);
        assert!(reason.contains(said), "{said}: {reason}");
        assert!(reason.contains(SECOND), "{reason}");
    }
}

/// The size that a record claims is worth nothing; that of the stored object bounds what is held.
#[test]
fn a_shard_that_is_said_to_be_huge_is_refused_before_anything_is_held() {
    let storage = MemoryStorage::new();
    let mut huge = manifest(50, 1, write_shards(&storage, 50, 1, 1).unwrap());
    let stored = huge.shards[0].bytes;
    (huge.floats, huge.shards[0].end) = (1 << 45, 1 << 45);
    huge.shards[0].bytes = 1 << 60;
    let error = load_range(&storage, &huge, 0..1 << 45).unwrap_err();
    let said = format!("it has {stored} of the {} bytes", 1_u64 << 60);
    assert!(error.to_string().contains(&said), "{error}");
}

#[test]
fn a_shard_whose_header_gives_its_tensors_other_bytes_is_refused() {
    let storage = MemoryStorage::new();
    let record = write_shards(&storage, 50, 1, 1).unwrap().remove(0);
    let good = storage.get(&record.key, 1 << 20).unwrap();
    for bad in [&good[..good.len() - 4], &[&good[..], &[0; 4]].concat()] {
        storage.put(&record.key, &[bad]).unwrap();
        let record = ShardRecord {
            bytes: bad.len() as u64,
            sha256: sha256_hex(bad),
            ..record.clone()
        };
        let error = verify_shard(&storage, &record).unwrap_err();
        assert!(error.to_string().contains("bytes of tensors"), "{error}");
    }
}

/// Tensors that are as long as they should be, under a header of another program's.
#[test]
fn a_safetensors_file_that_is_no_shard_is_refused() {
    let storage = MemoryStorage::new();
    let record = write_shards(&storage, 50, 1, 1).unwrap().remove(0);
    let floats = vec![0; 4 * FLOATS];
    let tensor = || TensorView::new(Dtype::F32, vec![FLOATS], &floats).unwrap();
    let tensors = HashMap::from([("parameters", tensor()), ("exp_avg", tensor())]);
    let bytes = safetensors::serialize(tensors, None).unwrap();
    storage.put(&record.key, &[&bytes]).unwrap();
    let record = ShardRecord {
        bytes: bytes.len() as u64,
        sha256: sha256_hex(&bytes),
        ..record
    };
    let error = verify_shard(&storage, &record).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[test]
fn an_entry_under_the_name_of_another_is_passed_over() {
    let storage = history();
    let older = storage.get(FIRST, 1 << 20).unwrap();
    storage.put(SECOND, &[&older]).unwrap();
    let reason = passed_over(&storage, SECOND);
    assert!(reason.contains("it is entry 1"), "{reason}");
    // Those of older versions do not tell their number.
    let storage = history();
    for key in [CLAIM, FIRST, SECOND] {
        tamper(&*storage, key, |entry| {
            entry.as_object_mut().unwrap().remove("number").unwrap();
        });
    }
    let log = open(&storage);
    assert_eq!(log.damaged(), []);
    assert_eq!(log.latest().unwrap().step, 100);
}

#[test]
fn an_entry_that_was_removed_is_missed() {
    // One that the newest commit says is there.
    let storage = history();
    storage.delete(FIRST).unwrap();
    let log = open(&storage);
    assert_eq!(log.latest().unwrap().step, 100);
    let [missing] = log.damaged() else {
        panic!("{:?}", log.damaged());
    };
    assert_eq!(missing.key, FIRST);
    assert!(missing.reason.contains("removed"), "{missing:?}");
    // And the newest commit, which a later claim has followed.
    let storage = history();
    open(&storage).claim(2, "server-0 again").unwrap();
    storage.delete(SECOND).unwrap();
    let reason = passed_over(&storage, SECOND);
    assert!(reason.contains("removed"), "{reason}");
    // Who goes on tells it, too, and is not kept from it.
    let mut log = open(&storage);
    log.claim(3, "server-0 once more").unwrap();
    checkpoint(&*storage, &mut log, 150, 3, 2).unwrap();
    assert_eq!(open(&storage).latest().unwrap().step, 150);
}

#[test]
fn a_number_or_generation_that_nobody_reaches_is_not_counted_on_from() {
    let storage = history();
    let names = [
        "log/18446744073709551615.json",
        "log/history-18446744073709551615.json",
        "log/1000000000000.json",
        "log/3.json",
        "log/000000000003.json.json",
    ];
    for name in names {
        storage.put(name, &[b"{}"]).unwrap();
    }
    let mut log = open(&storage);
    log.claim(2, "server-0 again").unwrap();
    checkpoint(&*storage, &mut log, 150, 2, 2).unwrap();
    assert_eq!(open(&storage).latest().unwrap().step, 150);
    for generation in [1_u64 << 32, u64::MAX] {
        let storage = history();
        tamper(&*storage, SECOND, |entry| {
            entry["generation"] = generation.into();
        });
        let reason = passed_over(&storage, SECOND);
        assert!(reason.contains(&generation.to_string()), "{reason}");
        assert_eq!(open(&storage).current_claim().unwrap().generation, 1);
    }
    // The last number there is.
    storage.put("log/999999999999.json", &[b"{}"]).unwrap();
    let error = open(&storage).claim(3, "one more").unwrap_err();
    assert!(error.to_string().contains("remove that file"), "{error}");
}

#[test]
fn what_is_no_regular_file_is_neither_followed_nor_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let made = Command::new("mkfifo").arg(path("pipe")).status();
    assert!(made.expect("mkfifo is there").success());
    std::fs::write(path("file"), "x").unwrap();
    std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", path("zero")).unwrap();
    std::os::unix::fs::symlink("/etc", path("etc")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    let storage = FolderStorage::open_existing(folder.path()).unwrap();
    assert_eq!(storage.get("file", 1).unwrap(), b"x");
    for (key, why) in [
        ("pipe", "regular file"),
        ("link", "regular file"),
        ("zero", "regular file"),
        ("socket", "regular file"),
        ("etc/passwd", "etc on its way is a symbolic link"),
    ] {
        let error = storage.get(key, 1).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains(why), "{error}");
    }
    // The folder itself may be one: whoever names it has made it.
    std::os::unix::fs::symlink(folder.path(), path("way")).unwrap();
    let by_link = FolderStorage::open_existing(path("way")).unwrap();
    assert_eq!(by_link.get("file", 1).unwrap(), b"x");
    let log = Log::open(Arc::new(storage), job()).unwrap();
    assert!(log.latest().is_none());
}
