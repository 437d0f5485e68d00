//! Where a job keeps its checkpoints and its artifact: a folder, or a prefix of a bucket.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Result;
use tempfile::TempDir;
use trainyard_checkpoint::{FolderStorage, Storage};
use trainyard_object::{Address, Bucket, Connection, Kind, Patience, S3Storage};

use crate::artifact;
use crate::exit::{BadInput, TryAgain};

/// The place that `--storage` and other arguments name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A folder of this machine or of a volume.
    Folder(PathBuf),
    /// Keys below a prefix.
    S3(Address, Connection),
}

impl Location {
    /// Opens the storage to read and write it.
    ///
    /// # Errors
    /// If it cannot be used, with what to do about it.
    pub fn open(&self) -> Result<Arc<dyn Storage>> {
        match self {
            Location::Folder(path) => Ok(Arc::new(FolderStorage::open(path)?)),
            Location::S3(address, connection) => {
                let storage = S3Storage::open(address, connection).map_err(failed)?;
                Ok(Arc::new(storage))
            }
        }
    }

    /// Opens a storage that must exist, to read it.
    ///
    /// # Errors
    /// As [`Location::open`].
    pub fn open_existing(&self) -> Result<Arc<dyn Storage>> {
        match self {
            Location::Folder(path) => Ok(Arc::new(FolderStorage::open_existing(path)?)),
            Location::S3(address, connection) => {
                let storage = S3Storage::open_existing(address, connection).map_err(failed)?;
                Ok(Arc::new(storage))
            }
        }
    }

    /// Where the artifact of the job in this storage is.
    pub fn artifact(&self) -> Location {
        match self {
            Location::Folder(path) => Location::Folder(path.join(artifact::FOLDER)),
            Location::S3(address, connection) => {
                Location::S3(address.join(artifact::FOLDER), connection.clone())
            }
        }
    }

    /// The files `names` of this place, in a folder: the place itself, or a temporary one with copies
    /// of those that are there.
    ///
    /// # Errors
    /// If they cannot be fetched.
    pub fn fetch(&self, names: &[&str]) -> Result<Fetched> {
        let (address, connection) = match self {
            Location::Folder(path) => {
                return Ok(Fetched {
                    path: path.clone(),
                    _temporary: None,
                });
            }
            Location::S3(address, connection) => (address, connection),
        };
        let folder = tempfile::Builder::new().prefix("trainyard-").tempdir()?;
        let bucket = Bucket::new(&address.bucket, connection, Patience::Short).map_err(failed)?;
        for name in names {
            let mut reader = match bucket.read(&address.join(name).key) {
                Err(error) if error.kind == Kind::NotFound => continue,
                reader => reader.map_err(failed)?,
            };
            let mut file = std::fs::File::create(folder.path().join(name))?;
            match name.ends_with(".json") {
                // What is longer is refused where it is read.
                true => io::copy(&mut reader.take(artifact::JSON_LIMIT + 1), &mut file)?,
                false => io::copy(&mut reader, &mut file)?,
            };
        }
        Ok(Fetched {
            path: folder.path().to_owned(),
            _temporary: Some(folder),
        })
    }
}

/// Files in a folder, which is gone when this is dropped if it was a temporary one.
#[derive(Debug)]
pub struct Fetched {
    path: PathBuf,
    _temporary: Option<TempDir>,
}

impl Fetched {
    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// An error of a store, marked by who can mend it.
pub fn failed(error: trainyard_object::Error) -> anyhow::Error {
    match error.kind {
        Kind::Unreachable => TryAgain(error.to_string()).into(),
        Kind::Other => error.into(),
        _ => BadInput(error.to_string()).into(),
    }
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match Address::is_meant(text) {
            true => Location::S3(text.parse()?, Connection::default()),
            false => Location::Folder(text.into()),
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Folder(path) => path.display().fmt(f),
            Location::S3(address, _) => address.fmt(f),
        }
    }
}
