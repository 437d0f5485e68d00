//! How large the shards of a checkpoint are in the storage, whatever their records say.

use crate::error::Error;
use crate::storage::Storage;
use std::collections::BTreeMap;
use trainyard_core::manifest::ShardRecord;

/// The sizes of stored shards, listed a folder at a time.
pub(crate) struct StoredSizes<'a> {
    storage: &'a dyn Storage,
    /// By folder, then by key.
    folders: BTreeMap<String, BTreeMap<String, u64>>,
}

impl<'a> StoredSizes<'a> {
    /// Those in a storage; nothing is listed yet.
    pub fn new(storage: &'a dyn Storage) -> Self {
        StoredSizes {
            storage,
            folders: BTreeMap::new(),
        }
    }

    /// The size of what is stored under a key, if anything is.
    ///
    /// # Errors
    /// What the storage reports.
    pub fn of(&mut self, key: &str) -> Result<Option<u64>, Error> {
        let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
        if !self.folders.contains_key(folder) {
            let objects = self.storage.list(folder)?.into_iter();
            let sizes = objects.map(|object| (object.key, object.bytes)).collect();
            self.folders.insert(folder.to_owned(), sizes);
        }
        Ok(self
            .folders
            .get(folder)
            .and_then(|sizes| sizes.get(key).copied()))
    }

    /// Checks that a shard is there and has the size that its record states.
    ///
    /// # Errors
    /// [`Error::MissingShard`] or [`Error::Corrupt`] if not, or what the storage reports.
    pub fn check(&mut self, record: &ShardRecord) -> Result<(), Error> {
        let (key, bytes) = (record.key.clone(), record.bytes);
        match self.of(&key)? {
            None => Err(Error::MissingShard { key }),
            Some(found) if found != bytes => {
                let reason = match found > bytes {
                    true => format!("it is longer than the {bytes} bytes written"),
                    false => format!("it has {found} of the {bytes} bytes written"),
                };
                Err(Error::Corrupt { key, reason })
            }
            Some(_) => Ok(()),
        }
    }
}
