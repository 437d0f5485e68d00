//! T08: the power fails at every operation, and within every write at every byte.

use crate::disk::{TestDisk, Unsynced};
use crate::support::{assert_whole, checkpoint, job, open, resume};
use std::sync::Arc;
use trainyard_checkpoint::{Error, FolderStorage, Log, Storage};

const ROOT: &str = "/runs/digits";

fn folder(disk: TestDisk) -> Result<Arc<dyn Storage>, Error> {
    Ok(Arc::new(FolderStorage::open_on(disk, ROOT)?))
}

/// The fates of what was not synced, for a crash at `point`.
fn fates(point: u64) -> [Unsynced; 4] {
    [
        Unsynced::Lost,
        Unsynced::Kept,
        Unsynced::Drawn(2 * point),
        Unsynced::Drawn(2 * point + 1),
    ]
}

/// Runs `work` on copies of `disk` that lose power at every `stride`-th point, and hands every
/// disk that may be found afterwards to `judge`, with what `work` got done.
fn crash_everywhere<T>(
    disk: &TestDisk,
    stride: u64,
    work: impl Fn(TestDisk) -> T,
    judge: impl Fn(TestDisk, &T),
) -> u64 {
    for point in (0..).step_by(stride as usize) {
        let crashing = disk.copy().lose_power_after(point);
        let done = work(crashing.clone());
        if !crashing.is_out_of_power() {
            return point;
        }
        for fate in fates(point) {
            judge(crashing.reboot(fate), &done);
        }
    }
    unreachable!("the work ends")
}

/// One interval of a job: the checkpoint of `step`, and a cleaning. Gives the step if its commit
/// returned.
fn interval(disk: TestDisk, generation: u64, step: u64) -> Option<u64> {
    let storage = folder(disk).ok()?;
    let mut log = Log::open(storage.clone(), job()).ok()?;
    log.compact_from(2);
    log.claim(generation, "server-0").ok()?;
    checkpoint(&*storage, &mut log, step, generation, 2).ok()?;
    // Whatever becomes of the cleaning, the step is committed.
    let _ = log.clean(1);
    Some(step)
}

/// Comes back after a crash: what is found is whole, and training goes on from it.
fn recover(disk: &TestDisk, generation: u64) -> Option<u64> {
    let storage = folder(disk.of_other_process()).unwrap();
    let mut log = open(&storage);
    assert_eq!(log.damaged(), []);
    log.compact_from(1);
    log.claim(generation, "server-0").unwrap();
    let found = resume(&storage, &log).unwrap();
    let next = found.unwrap_or(0) + 50;
    checkpoint(&*storage, &mut log, next, generation, 3).unwrap();
    log.clean(1).unwrap();

    let log = open(&storage);
    let steps: Vec<_> = log.manifests().map(|manifest| manifest.step).collect();
    assert_eq!(steps, [next], "everything older is cleaned");
    assert_whole(&*storage, log.latest().unwrap());
    let shards = storage.list("checkpoints/").unwrap();
    assert_eq!(shards.len(), 3, "no orphan is left: {shards:?}");
    found
}

#[test]
fn t08_a_crash_at_any_byte_of_the_first_checkpoint_leaves_it_whole_or_absent() {
    let points = crash_everywhere(
        &TestDisk::new(),
        1,
        |disk| interval(disk, 1, 50),
        |disk, committed| {
            let found = recover(&disk, 2);
            assert!(found == *committed || (found == Some(50) && committed.is_none()));
        },
    );
    assert!(points > 1500, "only {points} points were tried");
}

#[test]
fn t08_a_crash_at_any_byte_loses_at_most_one_interval() {
    let disk = TestDisk::new();
    assert_eq!(interval(disk.of_other_process(), 1, 50), Some(50));
    assert_eq!(interval(disk.of_other_process(), 2, 100), Some(100));
    let points = crash_everywhere(
        &disk,
        1,
        |disk| interval(disk, 3, 150),
        |disk, committed| {
            let found = recover(&disk, 4);
            match committed {
                Some(step) => assert_eq!(found, Some(*step)),
                None => assert!(found == Some(100) || found == Some(150), "{found:?}"),
            }
        },
    );
    assert!(points > 1500, "only {points} points were tried");
}

#[test]
fn t08_a_crash_at_any_byte_of_a_compaction_loses_nothing_that_is_known() {
    let disk = TestDisk::new();
    let before: Vec<u64> = (1..=7).map(|generation| 50 * generation).collect();
    for &step in &before {
        assert_eq!(
            interval(disk.of_other_process(), step / 50, step),
            Some(step)
        );
    }
    let known = |disk: &TestDisk| -> Vec<u64> {
        let history = open(&folder(disk.of_other_process()).unwrap())
            .history()
            .unwrap();
        assert_eq!(history.damaged, []);
        history.points.iter().map(|point| point.step).collect()
    };
    let histories = |disk: &TestDisk| {
        let storage = folder(disk.of_other_process()).unwrap();
        storage.list("log/history-").unwrap()
    };
    assert_eq!((known(&disk), histories(&disk).len()), (before.clone(), 2));
    let compacted = disk.copy();
    interval(compacted.of_other_process(), 8, 400).unwrap();
    assert_ne!(
        histories(&compacted),
        histories(&disk),
        "the interval must compact"
    );
    let points = crash_everywhere(
        &disk,
        1,
        |disk| interval(disk, 8, 400),
        |disk, committed| {
            let mut expected = before.clone();
            expected.extend(
                open(&folder(disk.of_other_process()).unwrap())
                    .latest()
                    .map(|m| m.step),
            );
            expected.dedup();
            assert_eq!(known(&disk), expected);
            let found = recover(&disk, 9);
            assert!(found >= *committed && found >= Some(350));
            expected.push(found.unwrap() + 50);
            assert_eq!(known(&disk), expected);
            let storage = folder(disk.of_other_process()).unwrap();
            let entries = storage.list("log/").unwrap().len();
            assert!(entries <= 9 + 1 + 4, "{entries}");
        },
    );
    assert!(points > 1500, "only {points} points were tried");
}

#[test]
fn t08_a_crash_of_the_recovery_from_a_crash_is_recovered_from() {
    let disk = TestDisk::new();
    assert_eq!(interval(disk.of_other_process(), 1, 50), Some(50));
    crash_everywhere(
        &disk,
        211,
        |disk| interval(disk, 2, 100),
        |disk, first| {
            let before = first.unwrap_or(50);
            crash_everywhere(
                &disk,
                173,
                |disk| interval(disk, 3, 150),
                |disk, second| {
                    let found = recover(&disk, 4).unwrap();
                    assert!(found >= second.unwrap_or(before), "{found} {before}");
                },
            );
        },
    );
}

#[test]
fn t08_a_put_is_whole_or_absent_and_an_old_object_stays_until_it_is_replaced() {
    let disk = TestDisk::new();
    folder(disk.of_other_process())
        .unwrap()
        .put("a/b", &[b"old content"])
        .unwrap();
    let put = |disk: TestDisk| {
        folder(disk)?
            .put("a/b", &[b"new", b"", b" one"])
            .map_err(Error::from)
    };
    crash_everywhere(&disk, 1, put, |disk, done| {
        let found = folder(disk).unwrap().get("a/b", 100).unwrap();
        match done {
            Ok(()) => assert_eq!(found, b"new one"),
            Err(_) => assert!(found == b"new one" || found == b"old content"),
        }
    });
}

#[test]
fn t08_stale_temporary_files_are_invisible_and_removed_at_the_next_open() {
    let disk = TestDisk::new();
    let crashing = disk.of_other_process().lose_power_after(12);
    let storage = folder(crashing.clone()).unwrap();
    storage.put("a", &[&[1; 100]]).unwrap_err();
    assert!(crashing.is_out_of_power());
    let disk = disk.reboot(Unsynced::Kept);
    let temporary = || {
        use trainyard_checkpoint::disk::Disk;
        let folder = format!("{ROOT}/.tmp");
        disk.list(folder.as_ref()).unwrap().len()
    };
    assert_eq!(
        temporary(),
        1,
        "the crash left no file behind: choose another point"
    );
    let storage = folder(disk.of_other_process()).unwrap();
    assert_eq!(storage.list("").unwrap(), []);
    assert_eq!(temporary(), 0);
}
