//! The folder of a run: one run at a time, one job for ever.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Serialize;
use trainyard_checkpoint::{FolderStorage, JobIdentity, Log, Storage};

use crate::exit::BadInput;
use crate::job::Job;

/// A locked run folder.
#[derive(Debug)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Creates or takes over `path` for `job`.
    ///
    /// # Errors
    /// If another run is in it, or it cannot be written.
    pub fn open(path: &Path) -> Result<Self> {
        let create = || {
            fs::create_dir_all(path.join("logs"))?;
            File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path.join(".lock"))
        };
        let lock = create().with_context(|| {
            format!(
                "{} cannot be written: choose another folder with --out",
                path.display()
            )
        })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!(
                    "another run is using {}: wait for it, or choose another folder with --out",
                    path.display()
                );
                return Err(BadInput(message).into());
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let path = fs::canonicalize(path)?;
        Ok(Folder { path, _lock: lock })
    }

    /// The commit log of `job` in this folder.
    ///
    /// # Errors
    /// If the folder belongs to another job.
    pub fn log(&self, job: &Job) -> Result<Log> {
        let storage: Arc<dyn Storage> = Arc::new(FolderStorage::open(&self.path)?);
        let identity = JobIdentity {
            job: job.name.clone(),
            spec_digest: job.spec_digest.clone(),
        };
        Ok(match Log::open(storage, identity) {
            Err(error @ trainyard_checkpoint::Error::OtherJob { .. }) => {
                let folder = self.path.display();
                let message = format!(
                    "{folder} belongs to another job: {error}; choose another folder with --out"
                );
                return Err(BadInput(message).into());
            }
            other => other?,
        })
    }

    /// Writes a JSON file that is whole whenever it is read.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let (file, part) = (
            self.path.join(name),
            self.path.join(format!(".{name}.part")),
        );
        fs::write(&part, serde_json::to_vec_pretty(value)?)?;
        fs::rename(&part, &file)?;
        Ok(())
    }
}
