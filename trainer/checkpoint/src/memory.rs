//! A storage without a disk, for tests and simulations.

use crate::storage::{Object, Storage, StorageError, check_key};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Objects in memory; every operation is atomic, nothing survives the process.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl MemoryStorage {
    /// An empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        // No operation leaves the map half changed, so a panic elsewhere spoils nothing.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for MemoryStorage {
    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<(), StorageError> {
        check_key(key)?;
        self.objects().insert(key.to_owned(), parts.concat());
        Ok(())
    }

    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError> {
        check_key(key)?;
        let mut objects = self.objects();
        if objects.contains_key(key) {
            let path = key.to_owned();
            return Err(StorageError::AlreadyExists { path });
        }
        objects.insert(key.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn read(
        &self,
        key: &str,
        sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        check_key(key)?;
        let bytes = self.objects().get(key).cloned();
        let bytes = bytes.ok_or_else(|| StorageError::NotFound {
            path: key.to_owned(),
        })?;
        let _ = sink(&bytes);
        Ok(())
    }

    fn list(&self, prefix: &str) -> Result<Vec<Object>, StorageError> {
        let objects = self.objects();
        let from = objects.range(prefix.to_owned()..);
        let matching = from.take_while(|(key, _)| key.starts_with(prefix));
        Ok(matching
            .map(|(key, bytes)| Object {
                key: key.clone(),
                bytes: bytes.len() as u64,
            })
            .collect())
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        check_key(key)?;
        self.objects().remove(key);
        Ok(())
    }
}
