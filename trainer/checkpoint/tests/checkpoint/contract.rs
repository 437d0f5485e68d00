//! What every storage keeps, whatever is behind it.

use std::sync::Barrier;
use std::thread;
use trainyard_checkpoint::{Storage, StorageError};

fn keys(storage: &dyn Storage, prefix: &str) -> Vec<String> {
    let objects = storage.list(prefix).unwrap();
    objects.into_iter().map(|object| object.key).collect()
}

/// The five operations, and what they say of what is not there.
pub fn is_a_storage(storage: &dyn Storage) {
    assert_eq!(keys(storage, ""), [""; 0]);
    storage.put("a/b/c", &[b"one", b" two"]).unwrap();
    assert_eq!(storage.get("a/b/c", 7).unwrap(), b"one two");
    let refused = storage.get("a/b/c", 6).unwrap_err();
    assert!(matches!(refused, StorageError::TooLarge { limit: 6, .. }));
    storage.put("a/b/c", &[b"three"]).unwrap();
    assert_eq!(storage.get("a/b/c", 100).unwrap(), b"three");
    let taken = storage.put_if_absent("a/b/c", b"four").unwrap_err();
    assert!(matches!(taken, StorageError::AlreadyExists { .. }));
    assert_eq!(storage.get("a/b/c", 100).unwrap(), b"three");
    storage.put_if_absent("a/bc", b"five").unwrap();
    assert_eq!(keys(storage, ""), ["a/b/c", "a/bc"]);
    assert_eq!(keys(storage, "a/b"), ["a/b/c", "a/bc"]);
    assert_eq!(keys(storage, "a/b/"), ["a/b/c"]);
    assert_eq!(keys(storage, "b"), [""; 0]);
    assert_eq!(storage.list("a/b/").unwrap()[0].bytes, 5);
    storage.put("empty", &[]).unwrap();
    assert_eq!(storage.get("empty", 0).unwrap(), b"");
    storage.delete("empty").unwrap();
    storage.delete("a/b/c").unwrap();
    storage.delete("a/b/c").unwrap();
    let gone = storage.get("a/b/c", 100).unwrap_err();
    assert!(matches!(gone, StorageError::NotFound { .. }), "{gone}");
}

/// Keys that could mean different things in different storages.
pub fn refuses_keys(storage: &dyn Storage) {
    let long = "x".repeat(256);
    for key in [
        "",
        "/etc/passwd",
        "..",
        "../x",
        "a/../b",
        "a//b",
        "a/",
        ".tmp/x",
        "a\\b",
        "a b",
        "ä",
        "a\0b",
        &long,
    ] {
        let results = [
            storage.put(key, &[b"x"]),
            storage.put_if_absent(key, b"x"),
            storage.get(key, 10).map(drop),
            storage.delete(key),
        ];
        for result in results {
            assert!(
                matches!(result, Err(StorageError::InvalidKey { .. })),
                "{key:?}"
            );
        }
    }
}

/// Of many who put one key at once, each with a storage that `open` gives, one wins.
pub fn exactly_one_wins<S: Storage>(rounds: u32, open: &(dyn Fn() -> S + Sync)) {
    let start = Barrier::new(8);
    for round in 0..rounds {
        let key = format!("log/{round}");
        let winners: Vec<u8> = thread::scope(|scope| {
            let race = |id: u8| {
                let (start, key) = (&start, &key);
                scope.spawn(move || {
                    let storage = open();
                    start.wait();
                    match storage.put_if_absent(key, &[id; 1000]) {
                        Ok(()) => Some(id),
                        Err(StorageError::AlreadyExists { .. }) => None,
                        Err(error) => panic!("{error}"),
                    }
                })
            };
            let racers: Vec<_> = (0..8).map(race).collect();
            racers
                .into_iter()
                .filter_map(|racer| racer.join().unwrap())
                .collect()
        });
        assert_eq!(winners.len(), 1);
        assert_eq!(open().get(&key, 1000).unwrap(), [winners[0]; 1000]);
    }
}
