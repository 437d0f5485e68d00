//! The folder of a run: one run at a time, one job for ever.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use serde::Serialize;
use trainyard_checkpoint::{Error, Log, Storage, spec_differences};
use trainyard_runtime::exit::BadInput;
use trainyard_runtime::job::{Job, determining};
use trainyard_runtime::storage::Location;

/// Differences of a job that are named.
const SHOWN: usize = 3;

/// What differs between the job in the storage and this one, field by field.
fn differences(storage: Arc<dyn Storage>, job: &Job) -> Option<String> {
    let log = Log::open_any(storage).ok()?;
    let mut differences = Vec::new();
    let theirs = &log.identity().job;
    if *theirs != job.name {
        differences.push(format!("it is of job {theirs}, this is {}", job.name));
    }
    let all = spec_differences(
        &determining(&log.latest()?.spec["spec"]),
        &determining(&job.to_json().ok()?["spec"]),
    );
    differences.extend(all.iter().take(SHOWN).cloned());
    if all.len() > SHOWN {
        differences.push(format!("and {} more fields differ", all.len() - SHOWN));
    }
    (!differences.is_empty()).then(|| differences.join(", "))
}

/// What to do if another run is in a place.
pub fn elsewhere(location: &Location) -> &'static str {
    match location {
        Location::Folder(_) => "choose another folder with --out",
        Location::S3(..) => "choose another prefix in spec.checkpoint.storage.s3",
    }
}

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
        let lock = create().map_err(|error| {
            BadInput(format!(
                "{} cannot be written: {error}; choose another folder with --out",
                path.display()
            ))
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

/// The commit log of `job` in a storage.
///
/// # Errors
/// If the storage belongs to another job.
pub fn log(storage: &Arc<dyn Storage>, location: &Location, job: &Job) -> Result<Log> {
    match Log::open(Arc::clone(storage), job.identity()) {
        Err(error @ Error::OtherJob { .. }) => {
            let why = differences(Arc::clone(storage), job);
            let why = why.unwrap_or_else(|| error.to_string());
            let remedy = elsewhere(location);
            let message = format!("{location} holds another run: {why}; {remedy}");
            Err(BadInput(message).into())
        }
        other => Ok(other?),
    }
}
