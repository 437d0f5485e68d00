//! T10: an old coordinator, paused anywhere, meets a log that a new one has taken over.

use crate::disk::TestDisk;
use crate::pause::PausedStorage;
use crate::support::{assert_whole, checkpoint, job, open, resume};
use std::sync::{Arc, Mutex};
use trainyard_checkpoint::{Claim, Error, FolderStorage, Log, MemoryStorage, Storage};

/// What a coordinator did before it stopped.
#[derive(Debug, Default)]
struct Life {
    claim: Option<Claim>,
    resumed: Option<u64>,
    /// Steps whose commit returned `Ok`.
    committed: Vec<u64>,
    /// Steps in the log right after the claim, when it is final for all that came before.
    known: Vec<u64>,
    log: Option<Log>,
}

fn steps(log: &Log) -> Vec<u64> {
    log.manifests().map(|manifest| manifest.step).collect()
}

/// A coordinator's life: claim, resume, then `intervals` checkpoints with a cleaning after each.
fn live(storage: Arc<dyn Storage>, generation: u64, intervals: u64) -> Life {
    let mut life = Life::default();
    match try_live(&storage, generation, intervals, &mut life) {
        Ok(()) | Err(Error::Fenced { .. }) => life,
        // A newer coordinator cleaned it while we were loading.
        Err(Error::MissingShard { .. })
            if open(&storage).current_claim() != life.claim.as_ref() =>
        {
            life
        }
        Err(error) => panic!("generation {generation}: {error}"),
    }
}

fn try_live(
    storage: &Arc<dyn Storage>,
    generation: u64,
    intervals: u64,
    life: &mut Life,
) -> Result<(), Error> {
    let mut log = Log::open(storage.clone(), job())?;
    // At every cleaning, so that numbers are freed as soon as they can be.
    log.compact_from(1);
    log.claim(generation, "server-0")?;
    life.claim = log.current_claim().cloned();
    life.known = steps(&log);
    life.resumed = resume(storage, &log)?;
    let first = life.resumed.unwrap_or(0);
    for i in 1..=intervals {
        let step = first + 50 * i;
        checkpoint(&**storage, &mut log, step, generation, 2)?;
        life.committed.push(step);
        log.clean(1)?;
    }
    life.log = Some(log);
    Ok(())
}

/// What must hold once `old` has come to its end after `new` lived through `old`'s pause.
fn judge(storage: &Arc<dyn Storage>, old: Life, new: Life) {
    assert!(new.claim.is_some());
    // A commit of the old one was either made before the claim, and then the new one knew it (or
    // a newer one, and the old one had cleaned it), or never.
    if let Some(last) = old.committed.last() {
        assert!(new.resumed >= Some(*last), "{old:?} {:?}", new.known);
    }
    if let Some(mut log) = old.log {
        // It was paused in its last cleaning, and has yet to learn.
        let generation = log.current_claim().unwrap().generation;
        let refused = checkpoint(&**storage, &mut log, 1000, generation, 2);
        assert!(matches!(refused, Err(Error::Fenced { .. })));
    }
    let mut log = new.log.expect("nobody fences the new one");
    let fresh = open(storage);
    assert_eq!(steps(&fresh), steps(&log));
    assert!(fresh.latest().is_some());
    for manifest in fresh.manifests() {
        assert_whole(&**storage, manifest);
    }
    let next = log.latest().unwrap().step + 50;
    let generation = log.current_claim().unwrap().generation;
    checkpoint(&**storage, &mut log, next, generation, 2).unwrap();
    log.clean(1).unwrap();
    assert_eq!(resume(storage, &open(storage)).unwrap(), Some(next));
}

fn memory_with_history() -> Arc<dyn Storage> {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let first = live(storage.clone(), 1, 2);
    assert_eq!(first.committed, [50, 100]);
    storage
}

/// Pauses generation 2 before each of its storage operations for all of generation 3's life.
#[test]
fn t10_a_coordinator_paused_at_any_storage_operation_is_fenced() {
    for pause in 0.. {
        let storage = memory_with_history();
        let new = Arc::new(Mutex::new(None));
        let (result, others) = (new.clone(), storage.clone());
        let paused = PausedStorage::new(storage.clone(), pause, move || {
            *result.lock().unwrap() = Some(live(others, 3, 3));
        });
        let old = live(paused.clone(), 2, 3);
        if paused.never_paused() {
            assert!(pause > 30, "only {pause} operations");
            return;
        }
        let new = new.lock().unwrap().take().unwrap();
        judge(&storage, old, new);
    }
}

/// The same between the file-system calls that the operations of a folder are made of.
#[test]
fn t10_a_coordinator_paused_at_any_file_operation_is_fenced() {
    let root = "/runs";
    let folder = |disk: &TestDisk| -> Arc<dyn Storage> {
        Arc::new(FolderStorage::open_on(disk.clone(), root).unwrap())
    };
    for pause in 0.. {
        let disk = TestDisk::new();
        live(folder(&disk.of_other_process()), 1, 2);
        let new = Arc::new(Mutex::new(None));
        let (result, other) = (new.clone(), folder(&disk.of_other_process()));
        let paused = disk.of_other_process().pause_before(pause, move || {
            *result.lock().unwrap() = Some(live(other, 3, 3));
        });
        let old = live(folder(&paused), 2, 3);
        if paused.never_paused() {
            assert!(pause > 100, "only {pause} operations");
            return;
        }
        let new = new.lock().unwrap().take().unwrap();
        judge(&folder(&disk), old, new);
    }
}

/// Generation 1 is paused; in its pause generation 2 is paused; in that generation 3 lives.
#[test]
fn t10_three_coordinators_interleave() {
    let mut second_pauses = 1;
    for first_pause in 0.. {
        let mut second_pause = 0;
        loop {
            let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
            let lives = Arc::new(Mutex::new((None, None)));
            let (results, others) = (lives.clone(), storage.clone());
            let paused = PausedStorage::new(storage.clone(), first_pause, move || {
                let (inner_results, inner) = (results.clone(), others.clone());
                let second = PausedStorage::new(others, second_pause, move || {
                    inner_results.lock().unwrap().1 = Some(live(inner, 3, 3));
                });
                let life = live(second.clone(), 2, 2);
                second.disarm();
                results.lock().unwrap().0 = Some(life);
            });
            let oldest = live(paused.clone(), 1, 3);
            if paused.never_paused() {
                assert!(first_pause > 20 && second_pauses > 20);
                return;
            }
            let (second, newest) = std::mem::take(&mut *lives.lock().unwrap());
            let second = second.unwrap();
            let Some(newest) = newest else {
                judge(&storage, oldest, second);
                second_pauses = second_pauses.max(second_pause);
                break;
            };
            if let Some(last) = oldest.committed.last() {
                assert!(newest.resumed >= Some(*last));
            }
            judge(&storage, second, newest);
            second_pause += 1;
        }
    }
}

/// The new one is paused instead, within its claim, while the old one goes on.
#[test]
fn t10_a_claim_paused_anywhere_misses_no_commit() {
    claim_paused_anywhere(64);
}

/// The old one takes the number that the new one is about to take, and frees it again.
#[test]
fn t10_a_claim_of_a_freed_number_does_not_count() {
    claim_paused_anywhere(1);
    claim_paused_anywhere(2);
}

fn claim_paused_anywhere(compact_from: usize) {
    for pause in 0.. {
        let storage = memory_with_history();
        let mut old = open(&storage);
        old.compact_from(compact_from);
        old.claim(2, "server-0").unwrap();
        let old = Arc::new(Mutex::new((old, 100)));
        let (theirs, others) = (old.clone(), storage.clone());
        let paused = PausedStorage::new(storage.clone(), pause, move || {
            let (log, last) = &mut *theirs.lock().unwrap();
            for step in [150, 200, 250] {
                match checkpoint(&*others, log, step, 2, 2) {
                    Err(Error::Fenced { by: 3, .. }) => return,
                    result => result.unwrap(),
                }
                log.clean(1).unwrap();
                *last = step;
            }
        });
        let mut new = open(&(paused.clone() as Arc<dyn Storage>));
        new.claim(3, "server-0").unwrap();
        if paused.never_paused() {
            assert!(pause > 4, "only {pause} operations");
            return;
        }
        let (old, last) = &mut *old.lock().unwrap();
        // All of them before the claim's own put, none after it.
        assert!([100, 250].contains(last));
        assert_eq!(resume(&storage, &new).unwrap(), Some(*last));
        let refused = checkpoint(&*storage, old, 300, 2, 2);
        assert!(matches!(refused, Err(Error::Fenced { by: 3, .. })));
        assert!(matches!(old.clean(1), Err(Error::Fenced { by: 3, .. })));
    }
}

#[test]
fn t10_a_fenced_coordinator_can_neither_commit_nor_clean() {
    let storage = memory_with_history();
    let mut old = open(&storage);
    old.claim(2, "server-0").unwrap();
    checkpoint(&*storage, &mut old, 150, 2, 2).unwrap();
    let mut older = open(&storage);
    let refused = older.claim(1, "server-0");
    assert!(matches!(refused, Err(Error::Fenced { by: 2, .. })));

    let mut new = open(&storage);
    new.claim(3, "server-0-new").unwrap();
    let before = storage.list("").unwrap();
    let cleaning = old.clean(1).unwrap_err();
    assert!(matches!(&cleaning, Error::Fenced { by: 3, holder } if holder == "server-0-new"));
    assert_eq!(storage.list("").unwrap(), before);
    let refused = checkpoint(&*storage, &mut old, 200, 2, 2).unwrap_err();
    assert!(matches!(refused, Error::Fenced { by: 3, .. }), "{refused}");
    assert_eq!(resume(&storage, &new).unwrap(), Some(150));
}

#[test]
fn t10_of_two_coordinators_of_one_generation_the_later_claim_wins() {
    let storage = memory_with_history();
    let mut first = open(&storage);
    first.claim(2, "first").unwrap();
    let mut second = open(&storage);
    second.claim(2, "second").unwrap();
    let refused = checkpoint(&*storage, &mut first, 150, 2, 2).unwrap_err();
    assert!(matches!(refused, Error::Fenced { by: 2, .. }));
    checkpoint(&*storage, &mut second, 150, 2, 2).unwrap();
    // The same process claims again, as after an answer that was lost.
    let mut again = open(&storage);
    again.claim(2, "second").unwrap();
    assert_eq!(again.current_claim(), second.current_claim());
}
