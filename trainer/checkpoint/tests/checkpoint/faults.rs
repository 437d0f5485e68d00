//! T09: what fails is named, and the last good checkpoint is used or refused with a reason.

use crate::disk::TestDisk;
use crate::support::{checkpoint, job, manifest, open, resume, write_shards};
use serde_json::json;
use std::io;
use std::sync::Arc;
use trainyard_checkpoint::{
    Check, Error, FolderStorage, JobIdentity, Log, MemoryStorage, Storage, StorageError,
    load_range, spec_differences,
};
use trainyard_core::coordinator::EpochRecord;

const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EACCES: i32 = 13;
const EDQUOT: i32 = 122;
const EIO: i32 = 5;

/// A claim, and the checkpoints of steps 50 and 100.
pub fn history() -> Arc<dyn Storage> {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let mut log = open(&storage);
    log.claim(1, "server-0").unwrap();
    for step in [50, 100] {
        checkpoint(&*storage, &mut log, step, 1, 2).unwrap();
    }
    storage
}

fn named(error: &StorageError, errno: i32) -> bool {
    match errno {
        ENOSPC | EDQUOT => matches!(error, StorageError::DiskFull { .. }),
        EROFS => matches!(error, StorageError::ReadOnly { .. }),
        EACCES => matches!(error, StorageError::PermissionDenied { .. }),
        _ => matches!(error, StorageError::Io { error, .. }
            if error.raw_os_error() == Some(errno)),
    }
}

/// It stands in the sentence, and what prints the causes behind it does not say it again.
#[test]
fn an_error_of_the_system_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    let storage = FolderStorage::open_existing(folder.path()).unwrap();
    let error = Error::from(storage.get("folder", 1).unwrap_err());
    let Error::Storage(StorageError::Io { error: system, .. }) = &error else {
        panic!("{error:?}");
    };
    let system = system.to_string();
    let mut chain: Vec<String> = Vec::new();
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        chain.push(error.to_string());
        cause = error.source();
    }
    assert_eq!(chain.join(": ").matches(&system).count(), 1, "{chain:?}");
}

/// From each of an interval's file operations on, every one fails; then the fault is repaired.
#[test]
fn t09_a_failing_disk_is_named_and_costs_nothing_once_it_is_repaired() {
    let root = "/runs";
    let healthy = TestDisk::new();
    let folder = |disk: TestDisk| FolderStorage::open_on(disk, root);
    let storage: Arc<dyn Storage> = Arc::new(folder(healthy.of_other_process()).unwrap());
    let mut log = open(&storage);
    log.claim(1, "server-0").unwrap();
    checkpoint(&*storage, &mut log, 50, 1, 2).unwrap();

    for errno in [ENOSPC, EDQUOT, EROFS, EACCES, EIO] {
        for operation in 0.. {
            let disk = healthy.copy();
            let interval = |disk: TestDisk| -> Result<(), Error> {
                let storage: Arc<dyn Storage> = Arc::new(folder(disk)?);
                let mut log = Log::open(storage.clone(), job())?;
                log.claim(2, "server-0")?;
                checkpoint(&*storage, &mut log, 100, 2, 2)?;
                log.clean(1).map(drop)
            };
            let Err(error) = interval(disk.of_other_process().fail_from(operation, errno)) else {
                assert!(operation > 50);
                break;
            };
            let Error::Storage(inner) = &error else {
                panic!("{error:?}");
            };
            assert!(named(inner, errno), "{operation}: {error:?}");
            assert!(error.to_string().contains("/runs"), "{error}");

            let storage: Arc<dyn Storage> = Arc::new(folder(disk.of_other_process()).unwrap());
            let found = resume(&storage, &open(&storage)).unwrap();
            assert!(found == Some(50) || found == Some(100));
            interval(disk.of_other_process()).unwrap();
            assert_eq!(resume(&storage, &open(&storage)).unwrap(), Some(100));
        }
    }
}

#[test]
fn t09_a_commit_is_tried_again_after_the_disk_was_full() {
    let disk = TestDisk::new();
    let open_folder = |disk| Arc::new(FolderStorage::open_on(disk, "/runs").unwrap());
    let storage: Arc<dyn Storage> = open_folder(disk.of_other_process());
    let mut log = open(&storage);
    log.claim(1, "server-0").unwrap();
    let shards = write_shards(&*storage, 50, 1, 2).unwrap();
    let next = manifest(50, 1, shards);
    // As after a commit whose answer was lost: the entry is there, and is the very same.
    let mut twin = open(&storage);
    twin.claim(1, "server-0").unwrap();
    twin.commit(next.clone()).unwrap();
    log.commit(next).unwrap();
    assert_eq!(open(&storage).manifests().count(), 1);
    checkpoint(&*storage, &mut log, 100, 1, 2).unwrap();
    // But it is not taken for ours if it is another.
    let error = checkpoint(&*storage, &mut twin, 150, 1, 2).unwrap_err();
    assert!(matches!(error, Error::Fenced { by: 1, .. }));
}

#[test]
fn t09_every_flipped_byte_of_a_shard_is_found_and_the_last_good_checkpoint_used() {
    let storage = history();
    let log = open(&storage);
    let newest = log.latest().unwrap().clone();
    let key = &newest.shards[1].key;
    let good = storage.get(key, 1 << 20).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        storage.put(key, &[&bad]).unwrap();
        let error = load_range(&*storage, &newest, 30..31).unwrap_err();
        assert!(matches!(&error, Error::Corrupt { key: named, .. } if named == key));
        // The other shard is not to blame.
        load_range(&*storage, &newest, 0..5).unwrap();
        let found = log.newest_loadable(Check::Digests).unwrap().unwrap();
        assert_eq!(found.manifest.step, 50);
        assert_eq!(found.skipped[0].step, Some(100));
        assert!(found.skipped[0].reason.contains(key.as_str()));
    }
    for length in 0..good.len() {
        storage.put(key, &[&good[..length]]).unwrap();
        let error = load_range(&*storage, &newest, 30..31).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        let found = log.newest_loadable(Check::Sizes).unwrap().unwrap();
        assert_eq!(found.manifest.step, 50);
    }
    storage.put(key, &[&good, b"more"]).unwrap();
    let error = load_range(&*storage, &newest, 30..31).unwrap_err();
    assert!(error.to_string().contains("longer"), "{error}");
}

#[test]
fn t09_a_missing_shard_is_named_and_the_last_good_checkpoint_used_or_refused() {
    let storage = history();
    let log = open(&storage);
    let [oldest, newest] = [0, 1].map(|i| log.manifests().nth(i).unwrap());
    let key = &newest.shards[0].key;
    storage.delete(key).unwrap();
    let error = load_range(&*storage, newest, 0..5).unwrap_err();
    assert!(matches!(&error, Error::MissingShard { key: named } if named == key));
    for check in [Check::Sizes, Check::Digests] {
        let found = log.newest_loadable(check).unwrap().unwrap();
        assert_eq!(found.manifest.step, 50);
        assert!(found.skipped[0].reason.contains(key.as_str()));
    }
    storage.delete(&oldest.shards[1].key).unwrap();
    let error = log.newest_loadable(Check::Sizes).unwrap_err();
    let Error::NothingLoadable { skipped } = &error else {
        panic!("{error}");
    };
    assert_eq!(skipped.len(), 2);
    let text = error.to_string();
    assert!(text.contains(key.as_str()) && text.contains(&oldest.shards[1].key));
}

#[test]
fn t09_a_damaged_manifest_is_named_and_the_one_before_it_used() {
    let storage = history();
    let key = "log/000000000002.json";
    let good = storage.get(key, 1 << 20).unwrap();
    let judge = |bad: &[u8]| {
        storage.put(key, &[bad]).unwrap();
        match Log::open(storage.clone(), job()) {
            // A digit flipped into a later format.
            Err(Error::UnsupportedFormat { key: named, .. }) => assert_eq!(named, key),
            Err(error) => panic!("{error}"),
            Ok(mut log) => {
                let found = log.newest_loadable(Check::Sizes).unwrap().unwrap();
                assert_eq!(found.manifest.step, 50);
                assert_eq!(found.skipped[0].key, key);
                assert!(found.skipped[0].reason.contains("corrupt"));
                log.claim(2, "server-0").unwrap();
            }
        }
        storage.delete("log/000000000003.json").unwrap();
    };
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 7);
        judge(&bad);
        judge(&good[..at]);
    }
}

#[test]
fn t09_a_manifest_of_a_newer_version_is_refused_with_both_versions() {
    let storage = history();
    let newer = br#"{"format":2,"whatever":{}}"#;
    storage
        .put_if_absent("log/000000000003.json", newer)
        .unwrap();
    let error = Log::open(storage, job()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("format 2") && text.contains("reads format 1"),
        "{text}"
    );
}

#[test]
fn t25_the_folder_of_another_job_is_refused_with_the_differences() {
    let storage = history();
    let other = JobIdentity {
        job: "diabetes".to_owned(),
        spec_digest: "cd".repeat(32),
    };
    let error = Log::open(storage.clone(), other.clone()).unwrap_err();
    let text = error.to_string();
    for part in ["digits", "diabetes", "abab", "cdcd"] {
        assert!(text.contains(part), "{text}");
    }
    let renamed = JobIdentity {
        job: "digits-2".to_owned(),
        ..job()
    };
    let Err(Error::OtherJob { differences }) = Log::open(storage.clone(), renamed) else {
        panic!("it was accepted");
    };
    assert_eq!(differences.len(), 1);

    let mut log = open(&storage);
    log.claim(2, "server-0").unwrap();
    let shards = write_shards(&*storage, 150, 2, 1).unwrap();
    let mut foreign = manifest(150, 2, shards);
    foreign.identity = other;
    assert!(matches!(log.commit(foreign), Err(Error::OtherJob { .. })));

    let any = Log::open_any(storage).unwrap();
    assert_eq!(any.identity(), &job());
    let empty = Log::open_any(Arc::new(MemoryStorage::new())).unwrap_err();
    assert!(matches!(empty, Error::NoLog));
}

#[test]
fn t25_the_differing_values_of_two_specs_are_named() {
    let stored = json!({"seed": 7, "data": {"label": "a", "files": [1, 2]}, "old": true});
    let wanted = json!({"seed": 8, "data": {"label": "a", "files": [1]}});
    assert_eq!(
        spec_differences(&stored, &wanted),
        [
            "data.files is [1,2] there, [1] here",
            "old is true there, not set here",
            "seed is 7 there, 8 here",
        ]
    );
    assert_eq!(spec_differences(&stored, &stored), [""; 0]);
}

#[test]
fn a_claim_forgets_what_was_cleaned_since_the_log_was_opened() {
    let storage = history();
    let mut new = open(&storage);
    let mut old = open(&storage);
    old.claim(1, "server-0-again").unwrap();
    checkpoint(&*storage, &mut old, 150, 1, 2).unwrap();
    old.clean(1).unwrap();
    new.claim(2, "server-0").unwrap();
    let steps: Vec<_> = new.manifests().map(|manifest| manifest.step).collect();
    assert_eq!(steps, [150]);
}

#[test]
fn manifests_that_do_not_cover_the_arena_are_refused() {
    let storage = history();
    let mut log = open(&storage);
    let unclaimed = log.commit(manifest(150, 2, vec![])).unwrap_err();
    assert!(matches!(unclaimed, Error::NotClaimed));
    assert!(matches!(log.clean(1), Err(Error::NotClaimed)));
    log.claim(2, "server-0").unwrap();
    let shards = write_shards(&*storage, 150, 2, 3).unwrap();
    let refused = |log: &mut Log, shards| match log.commit(manifest(150, 2, shards)) {
        Err(Error::Invalid { reason }) => reason,
        other => panic!("{other:?}"),
    };
    let mut gap = shards.clone();
    gap.remove(1);
    assert!(refused(&mut log, gap).contains("start at"));
    assert!(refused(&mut log, shards[..2].to_vec()).contains("of 37 floats"));
    let mut other_slots = shards.clone();
    other_slots[2].slots.clear();
    assert!(refused(&mut log, other_slots).contains("slots"));
    let stale = log.commit(manifest(150, 1, shards.clone())).unwrap_err();
    assert!(stale.to_string().contains("generation 1"), "{stale}");
    log.commit(manifest(150, 2, shards)).unwrap();
}

#[test]
fn cleaning_keeps_the_newest_the_best_and_the_complete() {
    let storage = history();
    let mut log = open(&storage);
    log.claim(2, "server-0").unwrap();
    // Nothing of its own is committed yet.
    assert_eq!(log.clean(1).unwrap().shards, 0);
    for step in (150..=500).step_by(50) {
        let shards = write_shards(&*storage, step, 2, 2).unwrap();
        let mut next = manifest(step, 2, shards);
        next.best = step == 150 || step == 250;
        next.complete = step == 300;
        log.commit(next).unwrap();
    }
    // Written, never committed, and older than the newest commit.
    write_shards(&*storage, 425, 2, 1).unwrap();
    write_shards(&*storage, 900, 1, 1).unwrap();
    // The next one, under way.
    write_shards(&*storage, 550, 2, 2).unwrap();
    storage.put("checkpoints/notes.txt", &[b"mine"]).unwrap();

    let cleaned = log.clean(2).unwrap();
    assert_eq!(cleaned.steps, [50, 100, 150, 200, 350, 400]);
    assert_eq!(cleaned.shards, 6 * 2 + 1 + 1);
    assert_eq!(log.clean(2).unwrap(), Default::default());
    for log in [&log, &open(&storage)] {
        let steps: Vec<_> = log.manifests().map(|manifest| manifest.step).collect();
        assert_eq!(steps, [250, 300, 450, 500]);
        assert_eq!(log.complete().unwrap().step, 300);
        assert_eq!(resume(&storage, log).unwrap(), Some(500));
    }
    let left = storage.list("checkpoints/").unwrap();
    assert_eq!(left.len(), 4 * 2 + 2 + 1);
}

#[test]
fn the_coordinators_state_keeps_the_bits_of_its_floats() {
    let storage = history();
    let mut log = open(&storage);
    log.claim(2, "server-0").unwrap();
    let shards = write_shards(&*storage, 150, 2, 1).unwrap();
    let mut next = manifest(150, 2, shards);
    // SplitMix64's increments: values with all their digits.
    let sums: Vec<f64> = (1..2000u64)
        .map(|i| f64::from_bits(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .filter(|sum| sum.is_finite())
        .collect();
    let epoch = |train_loss: &f64| EpochRecord {
        epoch: 0,
        step: 50,
        train_loss: *train_loss,
        validation: None,
    };
    next.coordinator.record.history = sums.iter().map(epoch).collect();
    log.commit(next.clone()).unwrap();
    let found = open(&storage).latest().unwrap().clone();
    assert_eq!(found, next);
    for (kept, sum) in found.coordinator.record.history.iter().zip(&sums) {
        assert_eq!(kept.train_loss.to_bits(), sum.to_bits());
    }
}

#[test]
fn t09_errors_of_the_system_are_named() {
    let cases = [
        (ENOSPC, "no space left"),
        (EROFS, "read-only"),
        (EACCES, "permission denied"),
        (2, "does not exist"),
    ];
    for (errno, phrase) in cases {
        let source = io::Error::from_raw_os_error(errno);
        let error = StorageError::from_io("writing", "runs/x", source).to_string();
        assert!(
            error.contains(phrase) && error.contains("runs/x"),
            "{error}"
        );
    }
}
