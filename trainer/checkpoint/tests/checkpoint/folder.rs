//! A folder of the real file system.

use crate::contract;
use crate::support::{checkpoint, manifest, open, resume};
use std::fs::{self, File};
use std::sync::Arc;
use std::thread;
use trainyard_checkpoint::{
    FolderStorage, MemoryStorage, Section, ShardId, Storage, StorageError, load_range, sha256_hex,
    write_shard,
};

#[test]
fn a_job_checkpoints_cleans_and_resumes_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("runs/new/digits");
    let storage: Arc<dyn Storage> = Arc::new(FolderStorage::open(&root).unwrap());
    let mut log = open(&storage);
    log.claim(1, "server-0").unwrap();
    for step in [50, 100, 150] {
        checkpoint(&*storage, &mut log, step, 1, 3).unwrap();
        log.clean(2).unwrap();
    }
    let storage: Arc<dyn Storage> = Arc::new(FolderStorage::open_existing(&root).unwrap());
    assert_eq!(resume(&storage, &open(&storage)).unwrap(), Some(150));
    let names = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(root.join(folder)).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        names("checkpoints"),
        ["000000000100-g0001", "000000000150-g0001"]
    );
    assert_eq!(names(".tmp"), [""; 0]);
    assert_eq!(names(""), [".tmp", "checkpoints", "log"]);
}

#[test]
fn a_folder_is_a_storage() {
    let folder = tempfile::tempdir().unwrap();
    let storage = FolderStorage::open(folder.path()).unwrap();
    contract::is_a_storage(&storage);
    contract::refuses_keys(&storage);
    assert!(
        !folder.path().join("a/b").exists(),
        "an empty folder is left"
    );
}

#[test]
fn memory_is_a_storage() {
    contract::is_a_storage(&MemoryStorage::new());
    contract::refuses_keys(&MemoryStorage::new());
}

/// Large enough for its digest to be computed beside the writing, and for several reads.
#[test]
fn a_large_shard_in_chunks_is_loaded_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let storage = FolderStorage::open(folder.path()).unwrap();
    let floats: Vec<f32> = (0..400_001).map(|i| (i as f32).sqrt()).collect();
    let id = ShardId {
        generation: 1,
        step: 50,
        index: 0,
        of: 1,
    };
    let section = |name| Section {
        name,
        parts: floats.chunks(65_536).collect(),
    };
    let sections = [section("parameters"), section("exp_avg")];
    let record = write_shard(&storage, id, 0..floats.len(), &sections).unwrap();
    let bytes = fs::read(folder.path().join(&record.key)).unwrap();
    assert_eq!(record.sha256, sha256_hex(&bytes));
    let mut manifest = manifest(50, 1, vec![record]);
    manifest.floats = floats.len() as u64;
    let slice = load_range(&storage, &manifest, 70_001..400_001).unwrap();
    assert_eq!(slice.parameters, floats[70_001..]);
    assert_eq!(
        slice.slots,
        [("exp_avg".to_owned(), floats[70_001..].to_vec())]
    );
}

#[test]
fn of_many_put_if_absent_exactly_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    contract::exactly_one_wins(20, &|| FolderStorage::open(folder.path()).unwrap());
}

/// Two storages of one process, or of two containers with one process id, must not use one
/// temporary name: one would publish what the other wrote.
#[test]
fn no_two_storages_share_the_name_of_an_unfinished_file() {
    let folder = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        for id in 0..4u8 {
            let root = folder.path();
            scope.spawn(move || {
                for i in 0..100u8 {
                    let storage = FolderStorage::open(root).unwrap();
                    let key = format!("own/{id}");
                    storage.put(&key, &[&[id, i]]).unwrap();
                    assert_eq!(storage.get(&key, 2).unwrap(), [id, i]);
                }
            });
        }
    });
}

/// Deleting a folder's last object removes the folder, which another process may be about to use.
#[test]
fn puts_and_deletes_in_one_folder_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        for id in 0..4 {
            let root = folder.path();
            scope.spawn(move || {
                let storage = FolderStorage::open(root).unwrap();
                let key = format!("a/b/{id}");
                for i in 0..100u8 {
                    storage.put(&key, &[&[i]]).unwrap();
                    assert_eq!(storage.get(&key, 1).unwrap(), [i]);
                    storage.delete(&key).unwrap();
                }
            });
        }
    });
    let storage = FolderStorage::open(folder.path()).unwrap();
    assert_eq!(storage.list("").unwrap(), []);
}

#[test]
fn only_files_that_nobody_writes_are_stale() {
    let folder = tempfile::tempdir().unwrap();
    FolderStorage::open(folder.path()).unwrap();
    let temporary = folder.path().join(".tmp");
    let stale = temporary.join("1-1");
    fs::write(&stale, b"x").unwrap();
    let written = temporary.join("1-2");
    let file = File::create(&written).unwrap();
    file.lock().unwrap();
    FolderStorage::open(folder.path()).unwrap();
    assert!(!stale.exists() && written.exists());
    drop(file);
    FolderStorage::open(folder.path()).unwrap();
    assert!(!written.exists());
}

#[test]
fn t09_a_root_that_cannot_be_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"x").unwrap();
    for root in [file.clone(), file.join("below")] {
        let error = FolderStorage::open(&root).unwrap_err().to_string();
        assert!(error.contains("file"), "{error}");
    }
    let missing = folder.path().join("missing");
    let error = FolderStorage::open_existing(&missing).unwrap_err();
    assert!(matches!(error, StorageError::NotFound { .. }));
    assert!(!missing.exists());
}
