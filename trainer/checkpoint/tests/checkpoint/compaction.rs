//! A log that stays short, and what it remembers.

use crate::pause::PausedStorage;
use crate::support::{checkpoint, job, manifest, open, resume, write_shards};
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use trainyard_checkpoint::{
    Error, HistoryPoint, Log, Manifest, MemoryStorage, Object, Storage, StorageError, sha256_hex,
};

fn memory() -> Arc<dyn Storage> {
    Arc::new(MemoryStorage::new())
}

/// The checkpoint of a step, of one server.
fn alone(storage: &dyn Storage, step: u64, generation: u64) -> Manifest {
    manifest(
        step,
        generation,
        write_shards(storage, step, generation, 1).unwrap(),
    )
}

/// Commits and cleans `steps`, and keeps one checkpoint.
fn go_on(
    storage: &dyn Storage,
    log: &mut Log,
    generation: u64,
    steps: impl IntoIterator<Item = u64>,
) {
    for step in steps {
        checkpoint(storage, log, step, generation, 1).unwrap();
        log.clean(1).unwrap();
    }
}

fn keys(storage: &Arc<dyn Storage>) -> Vec<String> {
    let objects = storage.list("log/").unwrap();
    objects.into_iter().map(|object| object.key).collect()
}

fn steps(points: &[HistoryPoint]) -> Vec<u64> {
    points.iter().map(|point| point.step).collect()
}

#[test]
fn a_log_of_a_thousand_checkpoints_stays_short_and_remembers_them() {
    let storage = memory();
    let mut expected = Vec::new();
    for generation in 1..=4 {
        let mut log = open(&storage);
        log.claim(generation, "server-0").unwrap();
        for interval in 1..=250 {
            let step = 50 * (250 * (generation - 1) + interval);
            let mut next = alone(&*storage, step, generation);
            next.best = step == 5000;
            expected.push(HistoryPoint::of(&next));
            log.commit(next).unwrap();
            log.clean(3).unwrap();
            // Cleaned ones, the three that are kept and the best, claims, and histories.
            let entries = keys(&storage).len();
            assert!(
                entries <= 64 + 3 + 1 + generation as usize + 2,
                "{entries} at {step}"
            );
        }
        let history = open(&storage).history().unwrap();
        assert_eq!(
            (history.points, history.damaged),
            (expected.clone(), vec![])
        );
    }
    assert!(
        expected
            .iter()
            .all(|point| point.parameters_sha256.is_some())
    );
    let kept: Vec<u64> = open(&storage).manifests().map(|m| m.step).collect();
    assert_eq!(kept, [5000, 49_900, 49_950, 50_000]);
    assert_eq!(resume(&storage, &open(&storage)).unwrap(), Some(50_000));
}

#[test]
fn a_compaction_deletes_cleaned_entries_and_older_histories_and_nothing_else() {
    let storage = memory();
    let mut log = open(&storage);
    log.compact_from(3);
    log.claim(1, "server-0").unwrap();
    go_on(&*storage, &mut log, 1, [50, 100, 150, 200]);
    let compacted = |log: &mut Log, step| {
        checkpoint(&*storage, log, step, 1, 1).unwrap();
        log.clean(1).unwrap().compacted
    };
    assert_eq!(compacted(&mut log, 250), 3);
    // It is repeated without harm, and waits for the next commit.
    assert_eq!(log.clean(1).unwrap(), Default::default());
    for first in [300, 450] {
        let thrice = [0, 50, 100].map(|more| compacted(&mut log, first + more));
        assert_eq!(thrice, [0, 0, 3]);
    }
    // The claim, the newest commit, the one that it retained, and the two newest histories.
    let expected = [
        "log/000000000000.json",
        "log/000000000010.json",
        "log/000000000011.json",
        "log/history-000000000008.json",
        "log/history-000000000011.json",
    ];
    assert_eq!(keys(&storage), expected);
    // The log of a later coordinator goes on behind it.
    let mut log = open(&storage);
    log.claim(2, "server-0").unwrap();
    assert_eq!(log.current_claim().unwrap().number, 12);
}

/// As after a failure between the history and the deletions: entries are there that are in it already.
#[test]
fn what_an_interrupted_compaction_left_is_taken_in_by_the_next() {
    let storage = memory();
    let mut log = open(&storage);
    log.claim(1, "server-0").unwrap();
    go_on(&*storage, &mut log, 1, [50, 100, 150, 200]);
    let cleaned = [1, 2, 3].map(|number| format!("log/{number:012}.json"));
    let left: Vec<(String, Vec<u8>)> = cleaned
        .into_iter()
        .map(|key| (key.clone(), storage.get(&key, 1 << 20).unwrap()))
        .collect();
    log.compact_from(1);
    go_on(&*storage, &mut log, 1, [250]);
    let points = log.history().unwrap().points;
    for (key, bytes) in left {
        assert!(!keys(&storage).contains(&key));
        storage.put(&key, &[&bytes]).unwrap();
    }
    assert_eq!(open(&storage).history().unwrap().points, points);
    go_on(&*storage, &mut log, 1, [300]);
    let all = open(&storage).history().unwrap().points;
    assert_eq!(steps(&all), [50, 100, 150, 200, 250, 300]);
    assert_eq!(all[..5], points);
}

#[test]
fn a_log_that_grew_before_there_were_compactions_becomes_short() {
    let storage = memory();
    let mut log = open(&storage);
    log.compact_from(usize::MAX);
    log.claim(1, "server-0").unwrap();
    go_on(&*storage, &mut log, 1, 1..=600);
    assert_eq!(keys(&storage).len(), 601);
    let mut log = open(&storage);
    log.claim(2, "server-0").unwrap();
    go_on(&*storage, &mut log, 2, 601..=603);
    // A batch at a time, so that no checkpoint waits for all of it.
    assert!(keys(&storage).len() < 70, "{}", keys(&storage).len());
    assert_eq!(
        steps(&log.history().unwrap().points),
        Vec::from_iter(1..=603)
    );
}

/// Entries of versions that computed no digests have a step alone, and so have their points.
#[test]
fn cleaned_entries_of_an_older_version_are_read_and_compacted() {
    let storage = memory();
    let mut log = open(&storage);
    log.claim(1, "server-0").unwrap();
    go_on(&*storage, &mut log, 1, [50, 100, 150]);
    let identity = serde_json::to_string(&job()).unwrap();
    let entry = format!(
        r#"{{"identity":{identity},"generation":1,"holder":"server-0","record":{{"cleaned":{{"step":50}}}}}}"#
    );
    let sha256 = sha256_hex(entry.as_bytes());
    let text = format!(r#"{{"format":1,"sha256":"{sha256}","entry":{entry}}}"#);
    storage
        .put("log/000000000001.json", &[text.as_bytes()])
        .unwrap();
    for compact_from in [64, 1] {
        log.compact_from(compact_from);
        let step = log.latest().unwrap().step + 50;
        go_on(&*storage, &mut log, 1, [step]);
        let points = open(&storage).history().unwrap().points;
        let digests = points.iter().map(|point| point.parameters_sha256.is_some());
        assert!(digests.eq((0..points.len()).map(|i| i > 0)), "{points:?}");
        assert_eq!(points[0].step, 50);
    }
    assert_eq!(storage.list("log/0").unwrap().len(), 3);
}

#[test]
fn a_damaged_history_is_named_and_stops_nothing() {
    let storage = memory();
    let mut log = open(&storage);
    log.compact_from(1);
    log.claim(1, "server-0").unwrap();
    go_on(&*storage, &mut log, 1, [50, 100, 150, 200]);
    let newest = keys(&storage).pop().unwrap();
    storage.put(&newest, &[b"{\"format\":1}"]).unwrap();
    let history = open(&storage).history().unwrap();
    assert_eq!(history.damaged[0].key, newest);
    // That of the last compaction is lost, and no other.
    assert_eq!(steps(&history.points), [50, 150, 200]);
    assert_eq!(open(&storage).damaged(), []);
    go_on(&*storage, &mut log, 1, [250, 300]);
    let history = open(&storage).history().unwrap();
    assert_eq!(steps(&history.points), [50, 150, 200, 250, 300]);
    assert_eq!(history.damaged, []);
    storage
        .put(&newest, &[br#"{"format":2,"whatever":{}}"#])
        .unwrap();
    let error = open(&storage).history().unwrap_err();
    assert!(matches!(error, Error::UnsupportedFormat { .. }), "{error}");
}

/// Below the newest commit, which is damaged, there are many entries before one that is kept.
#[test]
fn t09_a_damaged_manifest_is_passed_over_to_the_kept_one_however_far_it_is() {
    let storage = memory();
    let mut log = open(&storage);
    log.compact_from(usize::MAX);
    log.claim(1, "server-0").unwrap();
    let mut best = alone(&*storage, 1, 1);
    best.best = true;
    log.commit(best).unwrap();
    go_on(&*storage, &mut log, 1, 2..=300);
    storage.put("log/000000000300.json", &[b"{}"]).unwrap();
    let pieces = PausedStorage::new(storage.clone(), 700, || panic!("it reads too much"));
    let log = open(&(pieces as Arc<dyn Storage>));
    assert_eq!(log.damaged().len(), 1);
    assert_eq!(resume(&storage, &log).unwrap(), Some(1));
}

/// Pauses a reader before each of its storage operations, while checkpoints are made and compacted.
#[test]
fn a_reader_paused_anywhere_sees_the_newest_checkpoint_and_the_whole_history() {
    for compact_from in [1, 2, 3, 64] {
        for pause in 0.. {
            let storage = memory();
            let mut log = open(&storage);
            log.compact_from(compact_from);
            log.claim(1, "server-0").unwrap();
            // One that is kept for long, and must not pass for the newest.
            let mut best = alone(&*storage, 50, 1);
            best.best = true;
            log.commit(best).unwrap();
            go_on(&*storage, &mut log, 1, [100, 150, 200]);
            let (log, others) = (Mutex::new(log), storage.clone());
            let paused = PausedStorage::new(storage.clone(), pause, move || {
                go_on(&*others, &mut log.lock().unwrap(), 1, [250, 300, 350, 400]);
            });
            let reader = open(&(paused.clone() as Arc<dyn Storage>));
            let newest = reader.latest().unwrap().step;
            assert!([200, 400].contains(&newest), "{pause}: {newest}");
            let points = steps(&reader.history().unwrap().points);
            let before = [50, 100, 150, 200];
            let after = [50, 100, 150, 200, 250, 300, 350, 400];
            if paused.never_paused() {
                assert!(pause > 5, "only {pause} operations");
                assert_eq!(points, before);
                break;
            }
            // One of 400 is in the log alone, which the reader has read before.
            let stale = newest == 200 && points == after[..7];
            assert!(
                points == before || points == after || stale,
                "{pause}: {points:?}"
            );
        }
    }
}

/// A storage that carries a put-if-absent out, and says once that it failed.
struct LosesAnAnswer {
    inner: Arc<dyn Storage>,
    armed: AtomicBool,
}

impl Storage for LosesAnAnswer {
    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.inner.put(key, parts)
    }

    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let result = self.inner.put_if_absent(key, bytes);
        match self.armed.swap(false, Ordering::Relaxed) {
            true => Err(StorageError::from_io(
                "writing",
                key,
                io::Error::from(io::ErrorKind::TimedOut),
            )),
            false => result,
        }
    }

    fn read(
        &self,
        key: &str,
        sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        self.inner.read(key, sink)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Object>, StorageError> {
        self.inner.list(prefix)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.inner.delete(key)
    }
}

fn losing(storage: &Arc<dyn Storage>) -> Arc<LosesAnAnswer> {
    Arc::new(LosesAnAnswer {
        inner: storage.clone(),
        armed: AtomicBool::new(false),
    })
}

/// Its number was taken by its own commit, cleaned by a newer coordinator, and freed.
#[test]
fn t10_a_commit_that_is_tried_again_on_a_number_that_was_freed_is_fenced() {
    for again in [50, 100] {
        let storage = memory();
        let flaky = losing(&storage);
        let mut old = open(&(flaky.clone() as Arc<dyn Storage>));
        old.claim(1, "old").unwrap();
        flaky.armed.store(true, Ordering::Relaxed);
        let lost = checkpoint(&*storage, &mut old, 50, 1, 1).unwrap_err();
        assert!(matches!(lost, Error::Storage(_)), "{lost}");

        let mut new = open(&storage);
        new.compact_from(1);
        new.claim(2, "new").unwrap();
        assert_eq!(resume(&storage, &new).unwrap(), Some(50));
        go_on(&*storage, &mut new, 2, [100, 150]);
        assert!(!keys(&storage).contains(&"log/000000000001.json".to_owned()));

        let refused = checkpoint(&*storage, &mut old, again, 1, 1).unwrap_err();
        assert!(matches!(refused, Error::Fenced { by: 2, .. }), "{refused}");
        assert!(matches!(old.clean(1), Err(Error::Fenced { by: 2, .. })));
        go_on(&*storage, &mut new, 2, [200]);
        assert_eq!(resume(&storage, &open(&storage)).unwrap(), Some(200));
    }
}

/// The claim that was made without an answer lies where the log was compacted meanwhile.
#[test]
fn t10_a_claim_that_is_tried_again_after_its_number_was_freed_is_made_anew() {
    let storage = memory();
    let mut holder = open(&storage);
    holder.compact_from(1);
    holder.claim(1, "holder").unwrap();
    go_on(&*storage, &mut holder, 1, [50]);
    let flaky = losing(&storage);
    let holder = Arc::new(Mutex::new(holder));
    let (theirs, others) = (holder.clone(), storage.clone());
    // After the listing, the newest commit and the free number: before the claim is put.
    let paused = PausedStorage::new(flaky.clone(), 3, move || {
        go_on(&*others, &mut theirs.lock().unwrap(), 1, [100, 150, 200]);
    });
    let mut new = open(&(paused.clone() as Arc<dyn Storage>));
    flaky.armed.store(true, Ordering::Relaxed);
    let lost = new.claim(2, "new").unwrap_err();
    assert!(matches!(lost, Error::Storage(_)), "{lost}");
    assert!(!paused.never_paused());
    // It lies where numbers were freed, before the newest commits.
    let numbers: Vec<String> = [0, 2, 3, 4].map(|n| format!("log/{n:012}.json")).into();
    assert_eq!(keys(&storage)[..4], numbers);
    new.claim(2, "new").unwrap();
    assert_eq!(new.current_claim().unwrap().number, 5);
    assert_eq!(resume(&storage, &new).unwrap(), Some(200));
    let refused = checkpoint(&*storage, &mut holder.lock().unwrap(), 250, 1, 1).unwrap_err();
    assert!(matches!(refused, Error::Fenced { by: 2, .. }), "{refused}");
}
