//! The folder of a run: one run at a time, one job for ever.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Serialize;
use trainyard_checkpoint::{Error, Log, Storage, spec_differences};
use trainyard_runtime::exit::BadInput;
use trainyard_runtime::job::{Job, determining};
use trainyard_runtime::storage::Location;

/// Differences of a job that are named.
const SHOWN: usize = 3;

const LOCK: &str = ".lock";

/// What a run leaves in its folder, beside the lock.
const OURS: [&str; 6] = [
    "artifact",
    "checkpoints",
    "log",
    "logs",
    "job.json",
    "run.json",
];

/// Folders that are tried for a run that was not told where to go.
const NUMBERS: u32 = 9999;

/// The folder for a run of `job` that was told none: `base`, or the first of `base-2`, `base-3`, ... in
/// which no other job has trained. So a manifest can be changed and run again and again.
pub fn choose(base: &Path, job: &Job) -> PathBuf {
    let numbered = (2..=NUMBERS).map(|number| {
        let mut name = base.as_os_str().to_owned();
        name.push(format!("-{number}"));
        PathBuf::from(name)
    });
    let mut candidates = std::iter::once(base.to_owned()).chain(numbered);
    let free = candidates.find(|path| !holds_another(path, job));
    free.unwrap_or_else(|| base.to_owned())
}

/// The commit log in a folder, of whatever job.
fn any_log(path: &Path) -> Option<Log> {
    let storage = Location::Folder(path.to_owned()).open_existing();
    Log::open_any(storage.ok()?).ok()
}

/// Whether another job has checkpoints in a folder.
fn holds_another(path: &Path, job: &Job) -> bool {
    any_log(path).is_some_and(|log| *log.identity() != job.identity() && !is_empty(&log))
}

/// Whether nothing was ever saved in a log.
fn is_empty(log: &Log) -> bool {
    log.latest().is_none() && log.damaged().is_empty()
}

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
    /// If another run is in it, or something that is no run, or it cannot be written.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(name) = strange(path) {
            return Err(BadInput(format!(
                "{} is no run's folder, but holds {name}: choose a new or empty folder with --out",
                path.display()
            ))
            .into());
        }
        let create = || {
            fs::create_dir_all(path.join("logs"))?;
            File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path.join(LOCK))
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

    /// Deletes what earlier runs have left here.
    ///
    /// # Errors
    /// If something cannot be deleted.
    pub fn clear(&self) -> Result<()> {
        for name in OURS {
            let path = self.path.join(name);
            let removed = match path.is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            match removed {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error)
                        .with_context(|| format!("{} cannot be deleted", path.display()));
                }
                _ => {}
            }
        }
        Ok(fs::create_dir_all(self.path.join("logs"))?)
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

/// The name of something in a folder that no run has made, if no run has ever been there. Hidden files do
/// not count: systems and editors leave some everywhere, and copies of a run's folder lack them.
fn strange(path: &Path) -> Option<String> {
    if path.join(LOCK).exists() || any_log(path).is_some() {
        return None;
    }
    let entries = fs::read_dir(path).ok()?.flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with('.')).min()
}

/// Whether another job has begun in a storage, and has saved nothing.
pub fn is_abandoned(storage: &Arc<dyn Storage>, job: &Job) -> bool {
    let log = Log::open_any(Arc::clone(storage));
    log.is_ok_and(|log| *log.identity() != job.identity() && is_empty(&log))
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
