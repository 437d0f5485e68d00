//! Where checkpoints live: five operations that a folder and an object store both keep.

use std::io;
use std::ops::ControlFlow;

/// One stored object, as [`Storage::list`] reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The key it was put under.
    pub key: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A flat, durable map from keys to objects.
///
/// There is no rename, append or mapping into memory, so that a folder and S3 behave alike. Every
/// operation is whole or not at all, and when a put returns `Ok` the object survives a loss of
/// power. Keys are `/`-separated; see [`check_key`].
pub trait Storage: Send + Sync {
    /// Stores the concatenation of `parts` under `key`, replacing what was there.
    ///
    /// The parts spare the caller a copy: a shard is a header and the server's own buffers.
    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<(), StorageError>;

    /// Stores `bytes` under `key` unless the key exists.
    ///
    /// Of any number of callers exactly one gets `Ok`; the others get
    /// [`StorageError::AlreadyExists`]. After any other error the object may or may not be there.
    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError>;

    /// Feeds the object's bytes, in order and in pieces of any size, to `sink` until it breaks.
    fn read(
        &self,
        key: &str,
        sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), StorageError>;

    /// All objects whose key starts with `prefix`, sorted by key.
    fn list(&self, prefix: &str) -> Result<Vec<Object>, StorageError>;

    /// Deletes an object; deleting what is not there is no error.
    ///
    /// A deletion need not survive a loss of power.
    fn delete(&self, key: &str) -> Result<(), StorageError>;

    /// The whole object, refused with [`StorageError::TooLarge`] beyond `limit` bytes.
    fn get(&self, key: &str, limit: u64) -> Result<Vec<u8>, StorageError> {
        let mut bytes = Vec::new();
        let mut too_large = false;
        self.read(key, &mut |piece| {
            too_large = (bytes.len() + piece.len()) as u64 > limit;
            if too_large {
                return ControlFlow::Break(());
            }
            bytes.extend_from_slice(piece);
            ControlFlow::Continue(())
        })?;
        if too_large {
            return Err(StorageError::TooLarge {
                path: key.to_owned(),
                limit,
            });
        }
        Ok(bytes)
    }
}

/// Why a storage operation failed, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// No space, no quota or no inodes left.
    #[error(
        "no space left to write {path}: free some space or a larger quota, or lower checkpoint.keep"
    )]
    DiskFull {
        /// The file or key concerned.
        path: String,
    },
    /// The file system is mounted read-only.
    #[error(
        "cannot write {path}: the file system is read-only; remount it writable or choose another checkpoint folder"
    )]
    ReadOnly {
        /// The file or key concerned.
        path: String,
    },
    /// The process may not read or write there.
    #[error(
        "permission denied on {path}: give this user read and write access to the checkpoint folder"
    )]
    PermissionDenied {
        /// The file or key concerned.
        path: String,
    },
    /// There is no such object.
    #[error("{path} does not exist: check the checkpoint folder's path, or restore the file")]
    NotFound {
        /// The file or key concerned.
        path: String,
    },
    /// [`Storage::put_if_absent`] found the key taken.
    #[error("{path} exists already")]
    AlreadyExists {
        /// The file or key concerned.
        path: String,
    },
    /// The object is larger than the reader allows.
    #[error(
        "{path} is larger than the {limit} bytes it may have: it is damaged or not a file of this program; remove or restore it"
    )]
    TooLarge {
        /// The file or key concerned.
        path: String,
        /// The largest size allowed, in bytes.
        limit: u64,
    },
    /// The key breaks the rules of [`check_key`].
    #[error("{key:?} is no storage key: {reason}")]
    InvalidKey {
        /// The refused key.
        key: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// The file system has no hard links, which [`Storage::put_if_absent`] of a folder needs.
    #[error(
        "the file system of {path} has no hard links, which checkpoints need: choose a folder on a file system that has them (ext4, xfs, NFS)"
    )]
    NoHardLinks {
        /// The file or key concerned.
        path: String,
    },
    /// An object store refused or failed.
    #[error("{path}: {problem}; {remedy}")]
    Store {
        /// The bucket or object concerned.
        path: String,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        remedy: String,
        /// Whether another attempt may succeed.
        again: bool,
    },
    /// Something else went wrong.
    #[error("{operation} {path}: {error}")]
    Io {
        /// What was attempted, as in "writing".
        operation: &'static str,
        /// The file or key concerned.
        path: String,
        /// The system's own error. It is told with this one, so it is no source, which would be told again.
        error: io::Error,
    },
}

impl StorageError {
    /// Names an error of the operating system.
    pub fn from_io(operation: &'static str, path: impl Into<String>, error: io::Error) -> Self {
        let path = path.into();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { path },
            io::ErrorKind::NotFound => Self::NotFound { path },
            _ => Self::Io {
                operation,
                path,
                error,
            },
        }
    }
}

/// Longest key accepted, in bytes: what S3 allows.
const KEY_LIMIT: usize = 1024;
/// Longest segment of a key, in bytes: what Linux file systems allow.
const SEGMENT_LIMIT: usize = 255;

/// Refuses a key that could mean different things in a folder and in an object store, or leave
/// the folder: segments of `[A-Za-z0-9._-]`, none empty, none starting with a dot.
pub fn check_key(key: &str) -> Result<(), StorageError> {
    let refuse = |reason| {
        Err(StorageError::InvalidKey {
            key: key.chars().take(80).collect(),
            reason,
        })
    };
    if key.len() > KEY_LIMIT {
        return refuse("it is longer than 1024 bytes");
    }
    for segment in key.split('/') {
        if segment.is_empty() {
            return refuse("it is empty, absolute, or has an empty segment");
        }
        if segment.len() > SEGMENT_LIMIT {
            return refuse("a segment is longer than 255 bytes");
        }
        if segment.starts_with('.') {
            return refuse("a segment starts with a dot");
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if !segment.bytes().all(allowed) {
            return refuse("only letters, digits, '.', '_' and '-' are allowed in a segment");
        }
    }
    Ok(())
}
