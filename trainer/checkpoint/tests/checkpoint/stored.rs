//! The text of stored manifests, which outlives the program that wrote it.

use std::sync::Arc;
use trainyard_checkpoint::{Error, Log, Manifest, MemoryStorage, Storage, sha256_hex};
use trainyard_core::manifest::FinalMetrics;
use trainyard_core::metrics::Metrics;

/// The second entry of a log, as it is stored: a complete checkpoint of two shards.
const COMMIT: &str = include_str!("fixtures/commit.json");
const KEY: &str = "log/000000000001.json";

/// The entry with one piece of its text replaced, and sealed again.
fn changed(from: &str, to: &str) -> String {
    let (_, entry) = COMMIT.split_once(",\"entry\":").unwrap();
    let entry = entry.strip_suffix('}').unwrap();
    assert_eq!(entry.matches(from).count(), 1, "{from}");
    sealed(&entry.replace(from, to))
}

fn sealed(entry: &str) -> String {
    let sha256 = sha256_hex(entry.as_bytes());
    format!(r#"{{"format":1,"sha256":"{sha256}","entry":{entry}}}"#)
}

/// The entry as later versions write it: with its number.
fn numbered(text: &str) -> String {
    let (_, entry) = text.split_once(",\"entry\":{").unwrap();
    sealed(&format!(
        r#"{{"number":1,{}"#,
        entry.strip_suffix('}').unwrap()
    ))
}

fn open(text: &str) -> Result<Log, Error> {
    let storage = Arc::new(MemoryStorage::new());
    storage.put(KEY, &[text.as_bytes()]).unwrap();
    Log::open_any(storage)
}

/// The complete checkpoint of a log with this entry.
fn complete(text: &str) -> Manifest {
    let log = open(text).unwrap();
    log.complete().expect("a manifest").clone()
}

/// The record of its first shard as later versions write it, with the subtrees of two sections.
fn with_subtrees() -> String {
    let (stored, digest) = (
        format!(r#""storedSha256":"{}""#, "00".repeat(32)),
        "ab".repeat(32),
    );
    let subtrees = format!(r#"{stored},"subtrees":[["{digest}"],["{digest}","{digest}"]]"#);
    changed(&stored, &subtrees)
}

#[test]
fn a_manifest_keeps_its_stored_bytes() {
    for text in [COMMIT.to_owned(), with_subtrees()] {
        let manifest = complete(&text);
        assert_eq!(manifest.state_digests(), None);
        let storage = Arc::new(MemoryStorage::new());
        let mut again = Log::open(storage.clone(), manifest.identity.clone()).unwrap();
        again.claim(2, "00000000deadbeef").unwrap();
        again.commit(manifest).unwrap();
        let stored = storage.get(KEY, 1 << 20).unwrap();
        assert_eq!(String::from_utf8(stored).unwrap(), numbered(&text));
    }
}

/// What is behind the digests: the text of a history, and that of a cleaned entry without them.
#[test]
fn a_stored_history_is_read() {
    let log = open(COMMIT).unwrap();
    let identity = serde_json::to_string(log.identity()).unwrap();
    let (a, b) = ("ab".repeat(32), "cd".repeat(32));
    let points = format!(
        r#"[{{"step":1}},{{"step":2,"parametersSha256":"{a}"}},{{"step":3,"parametersSha256":"{a}","optimizerSha256":"{b}"}}]"#
    );
    let history = sealed(&format!(r#"{{"identity":{identity},"points":{points}}}"#));
    let cleaned = sealed(&format!(
        r#"{{"identity":{identity},"generation":1,"holder":"x","record":{{"cleaned":{{"step":2}}}}}}"#
    ));
    let put = |key, text: &str| log.storage().put(key, &[text.as_bytes()]).unwrap();
    put("log/history-000000000001.json", &history);
    put("log/000000000000.json", &cleaned);
    let found = log.history().unwrap();
    assert_eq!(found.damaged, []);
    assert_eq!(serde_json::to_string(&found.points[..3]).unwrap(), points);
    assert_eq!(found.points[3].step, log.latest().unwrap().step);
    assert_eq!(found.points.len(), 4);
}

/// Jobs without validation rows were once stored so.
#[test]
fn metrics_of_no_rows_may_be_null_or_missing() {
    let metrics = |text: &str| -> FinalMetrics {
        let state = complete(text).coordinator;
        state.metrics.expect("of a complete job")
    };
    let expected = metrics(COMMIT);
    assert_eq!(expected.validation, Metrics::default());
    for validation in ["", r#","validation":null"#] {
        let text = changed(r#","validation":{}"#, validation);
        assert_eq!(metrics(&text), expected, "{validation}");
    }
}

#[test]
fn a_shard_that_is_not_stored_as_it_is_is_refused() {
    let stored = |digest: &str| format!(r#""storedSha256":"{}""#, digest.repeat(32));
    let error = open(&changed(&stored("00"), &stored("ff"))).unwrap_err();
    assert!(error.to_string().contains("encrypted"), "{error}");
}
