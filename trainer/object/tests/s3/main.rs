//! A real S3 server: what every storage keeps, checkpoints on it, and what is said when it is not as
//! it should be.
#![allow(missing_docs)]

#[path = "../../../checkpoint/tests/checkpoint/contract.rs"]
mod contract;
#[path = "../../../checkpoint/tests/checkpoint/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::{assert_whole, checkpoint, open, resume};
use tempfile::TempDir;
use trainyard_checkpoint::{Error as CheckpointError, Storage, StorageError};
use trainyard_object::{Address, Bucket, Connection, Error, Kind, Patience, S3Storage};
use trainyard_s3_server::{ACCESS_KEY, SECRET_KEY, Server};

/// A server of its own for a test, with the bucket `runs`.
struct Store {
    server: Server,
    folder: TempDir,
}

fn store() -> Store {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("runs")).unwrap();
    let server = Server::start(folder.path()).unwrap();
    Store { server, folder }
}

impl Store {
    fn connection(&self) -> Connection {
        connection(self.server.endpoint())
    }

    fn storage(&self, address: &str) -> Result<S3Storage, Error> {
        S3Storage::open(&address.parse().unwrap(), &self.connection())
    }
}

fn connection(endpoint: String) -> Connection {
    Connection {
        endpoint: Some(endpoint),
        region: Some("us-east-1".into()),
        credentials: Some((ACCESS_KEY.into(), SECRET_KEY.into())),
    }
}

#[test]
fn a_bucket_is_a_storage() {
    let store = store();
    for address in ["s3://runs/jobs/digits", "s3://runs"] {
        let storage = store.storage(address).unwrap();
        contract::is_a_storage(&storage);
        contract::refuses_keys(&storage);
        storage.delete("a/bc").unwrap();
    }
}

#[test]
fn prefixes_of_one_bucket_do_not_see_each_other() {
    let store = store();
    let names = ["s3://runs/jobs/a", "s3://runs/jobs/ab", "s3://runs/jobs"];
    let storages = names.map(|name| store.storage(name).unwrap());
    storages[0].put("key", &[b"a"]).unwrap();
    storages[1].put("key", &[b"ab"]).unwrap();
    assert_eq!(storages[0].get("key", 9).unwrap(), b"a");
    assert_eq!(storages[0].list("").unwrap().len(), 1);
    assert_eq!(storages[2].list("a").unwrap().len(), 2);
    assert_eq!(storages[2].list("ab/").unwrap().len(), 1);
}

#[test]
fn of_many_put_if_absent_exactly_one_wins() {
    let store = store();
    let address: Address = "s3://runs/race".parse().unwrap();
    contract::exactly_one_wins(3, &|| {
        S3Storage::open_existing(&address, &store.connection()).unwrap()
    });
}

/// Larger than several parts of an upload, from slices that do not fit them.
#[test]
fn a_large_object_is_uploaded_in_parts_and_read_back() {
    let store = store();
    let storage = store.storage("s3://runs/large").unwrap();
    let bytes: Vec<u8> = (0..40_000_001u32)
        .map(|i| (i.wrapping_mul(i) >> 7) as u8)
        .collect();
    let parts: Vec<&[u8]> = bytes.chunks(1_234_567).collect();
    storage.put("shard", &parts).unwrap();
    assert!(storage.get("shard", u64::MAX).unwrap() == bytes);
    assert_eq!(storage.list("").unwrap()[0].bytes, bytes.len() as u64);
    let bucket = Bucket::new("runs", &store.connection(), Patience::Short).unwrap();
    let mut read = Vec::new();
    let reader = bucket.read("large/shard").unwrap();
    reader.take(12_345_678).read_to_end(&mut read).unwrap();
    assert!(read == bytes[..12_345_678]);
}

#[test]
fn t10_checkpoints_are_committed_cleaned_and_fenced() {
    let store = store();
    let open_storage = || -> Arc<dyn Storage> { Arc::new(store.storage("s3://runs/j").unwrap()) };
    let (first, second) = (open_storage(), open_storage());
    let mut log = open(&first);
    log.claim(1, "server-0").unwrap();
    for step in [50, 100, 150] {
        checkpoint(&*first, &mut log, step, 1, 3).unwrap();
        log.clean(2).unwrap();
    }
    assert_eq!(resume(&second, &open(&second)).unwrap(), Some(150));
    let mut successor = open(&second);
    successor.claim(2, "server-0").unwrap();
    let fenced = checkpoint(&*first, &mut log, 200, 1, 3).unwrap_err();
    assert!(
        matches!(fenced, CheckpointError::Fenced { by: 2, .. }),
        "{fenced}"
    );
    assert!(matches!(log.clean(1), Err(CheckpointError::Fenced { .. })));
    checkpoint(&*second, &mut successor, 200, 2, 1).unwrap();
    let log = open(&first);
    let manifests: BTreeMap<u64, _> = log.manifests().map(|m| (m.step, m)).collect();
    assert_eq!(
        manifests.keys().copied().collect::<Vec<_>>(),
        [100, 150, 200]
    );
    manifests
        .values()
        .for_each(|manifest| assert_whole(&*first, manifest));
}

/// Shards without a manifest are no checkpoint.
#[test]
fn t08_the_manifest_is_what_counts() {
    let store = store();
    let storage: Arc<dyn Storage> = Arc::new(store.storage("s3://runs/j").unwrap());
    support::write_shards(&*storage, 50, 1, 2).unwrap();
    assert_eq!(resume(&storage, &open(&storage)).unwrap(), None);
}

#[test]
fn a_store_that_is_busy_is_asked_again() {
    let store = store();
    let storage = store.storage("s3://runs/j").unwrap();
    store.server.fail(3);
    storage.put("key", &[b"value"]).unwrap();
    store.server.fail(2);
    assert_eq!(storage.get("key", 9).unwrap(), b"value");
}

/// What opening says, and how fast.
fn refused(connection: &Connection, address: &str) -> Error {
    let begin = Instant::now();
    let error = S3Storage::open(&address.parse().unwrap(), connection).unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(15), "{error}");
    let place = address.split('/').nth(2).unwrap();
    assert!(error.to_string().contains(place), "{error}");
    error
}

#[test]
fn t09_a_store_without_conditional_writes_is_refused() {
    let store = store();
    store.server.ignore_conditions();
    let error = refused(&store.connection(), "s3://runs/j");
    assert_eq!(error.kind, Kind::Unsupported);
    assert!(error.to_string().contains("If-None-Match"), "{error}");
    let left = std::fs::read_dir(store.folder.path().join("runs/j"));
    assert_eq!(left.map_or(0, |left| left.count()), 0, "nothing is left");
}

#[test]
fn t09_a_missing_bucket_is_named() {
    let store = store();
    let error = refused(&store.connection(), "s3://other/j");
    assert_eq!(error.kind, Kind::NoBucket, "{error}");
    assert!(error.to_string().contains("create it"), "{error}");
    let address = "s3://other/j".parse().unwrap();
    let reading = S3Storage::open_existing(&address, &store.connection()).unwrap();
    let error = reading.list("log/").unwrap_err();
    assert!(error.to_string().contains("no bucket other"), "{error}");
}

#[test]
fn t09_a_store_that_is_not_there_is_named() {
    let endpoint = "http://127.0.0.1:1".to_owned(); // nobody listens there
    let error = refused(&connection(endpoint.clone()), "s3://runs/j");
    assert_eq!(error.kind, Kind::Unreachable, "{error}");
    assert!(error.to_string().contains(&endpoint), "{error}");
    let StorageError::Store { again, .. } = StorageError::from(error) else {
        panic!("another error");
    };
    assert!(again);
}

#[test]
fn t09_wrong_credentials_are_named() {
    let store = store();
    for (access, secret) in [("stranger", SECRET_KEY), (ACCESS_KEY, "wrong")] {
        let connection = Connection {
            credentials: Some((access.into(), secret.into())),
            ..store.connection()
        };
        let error = refused(&connection, "s3://runs/j");
        assert_eq!(error.kind, Kind::Denied, "{error}");
        assert!(error.to_string().contains("AWS_ACCESS_KEY_ID"), "{error}");
    }
}
