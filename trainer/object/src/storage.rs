//! A prefix of a bucket as a storage of checkpoints.

use std::ops::ControlFlow;

use trainyard_checkpoint::storage::check_key;
use trainyard_checkpoint::{Object, Storage, StorageError};

use crate::address::Address;
use crate::bucket::Bucket;
use crate::connection::{Connection, Patience};
use crate::error::{Error, Kind};

/// A [`Storage`] below a prefix of a bucket. Any number of processes may use one at once.
#[derive(Debug)]
pub struct S3Storage {
    bucket: Bucket,
    root: Address,
}

impl S3Storage {
    /// Opens a prefix for writing and reading. What it needs of the store is tried out: a write that
    /// must fail because its key is taken.
    ///
    /// # Errors
    /// If the bucket is missing, the credentials do not do, the store cannot be reached within some
    /// seconds, or it knows no conditional writes ([`Kind::Unsupported`]).
    pub fn open(root: &Address, connection: &Connection) -> Result<Self, Error> {
        let storage = Self::with(root, connection, Patience::Short)?;
        storage.probe()?;
        Self::with(root, connection, Patience::Long)
    }

    /// Opens a prefix for reading: nothing is written.
    ///
    /// # Errors
    /// If the settings contradict each other.
    pub fn open_existing(root: &Address, connection: &Connection) -> Result<Self, Error> {
        Self::with(root, connection, Patience::Short)
    }

    fn with(root: &Address, connection: &Connection, patience: Patience) -> Result<Self, Error> {
        Ok(S3Storage {
            bucket: Bucket::new(&root.bucket, connection, patience)?,
            root: root.clone(),
        })
    }

    fn key(&self, key: &str) -> String {
        self.root.join(key).key
    }

    /// Puts an object twice, and sees whether the second is refused.
    fn probe(&self) -> Result<(), Error> {
        // As the standard library's hash maps, it panics on a system that gives none.
        let unique = getrandom::u64().expect("the system gives random bytes");
        let key = self.key(&format!("probe-{unique:016x}"));
        let first = self.bucket.put_if_absent(&key, b"first");
        let second = first.and_then(|()| match self.bucket.put_if_absent(&key, b"second") {
            Err(error) if error.kind == Kind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(()) => Err(self.unconditional()),
        });
        let _ = self.bucket.delete(&key); // what is left of it is small, and nobody reads it
        second.map_err(|error| match error.kind {
            Kind::Unsupported => self.unconditional(),
            _ => error,
        })
    }

    fn unconditional(&self) -> Error {
        Error::new(
            Kind::Unsupported,
            &self.root,
            format!(
                "the store at {} ignores `If-None-Match: *`, so that two coordinators could commit the same checkpoint",
                self.bucket.endpoint()
            ),
            "use a store with conditional writes (AWS S3, MinIO, Ceph, Cloudflare R2 and others have them), or a volume",
        )
    }
}

impl Storage for S3Storage {
    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<(), StorageError> {
        check_key(key)?;
        Ok(self.bucket.put(&self.key(key), parts)?)
    }

    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError> {
        check_key(key)?;
        Ok(self.bucket.put_if_absent(&self.key(key), bytes)?)
    }

    fn read(
        &self,
        key: &str,
        sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        check_key(key)?;
        let mut reader = self.bucket.read(&self.key(key))?;
        while let Some(piece) = reader.next_piece()? {
            if sink(&piece).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn list(&self, prefix: &str) -> Result<Vec<Object>, StorageError> {
        // The store lists folders; a prefix may end within a name.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let below = match (self.root.key.as_str(), folder) {
            (root, "") => root.to_owned(),
            (_, folder) => self.key(folder),
        };
        let own = |key: String| match self.root.key.is_empty() {
            true => Some(key),
            false => Some(
                key.strip_prefix(&self.root.key)?
                    .strip_prefix('/')?
                    .to_owned(),
            ),
        };
        let objects = self.bucket.list(&below)?.into_iter();
        let mut objects: Vec<Object> = objects
            .filter_map(|(key, bytes)| Some((own(key)?, bytes)))
            .filter(|(key, _)| key.starts_with(prefix) && check_key(key).is_ok())
            .map(|(key, bytes)| Object { key, bytes })
            .collect();
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        check_key(key)?;
        Ok(self.bucket.delete(&self.key(key))?)
    }
}
