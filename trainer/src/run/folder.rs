//! The folder of a run: one run at a time, one job for ever.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use trainyard_checkpoint::{Error, Log, Storage, spec_differences};
use trainyard_files::{open_lock, open_regular};
use trainyard_runtime::artifact;
use trainyard_runtime::exit::{BadInput, TryAgain};
use trainyard_runtime::job::{Job, determining};
use trainyard_runtime::storage::Location;

use super::origin;

/// Differences of a job that are named.
const SHOWN: usize = 3;

const LOCK: &str = ".lock";

/// Folders that are tried for a run that was not told where to go.
const NUMBERS: u32 = 9999;

/// The folder for a run of `job` that was told none: `base`, or the first of `base-2`, `base-3`, ... in
/// which no other job has trained. So a manifest can be changed and run again and again. A run that
/// `resumes` goes where its job has trained.
pub fn choose(base: &Path, job: &Job, resumes: bool) -> PathBuf {
    let mut candidates = candidates(base);
    let chosen = match resumes {
        true => candidates
            .take_while(|path| path.exists())
            .find(|path| holds(path, |log| *log.identity() == job.identity())),
        false => candidates.find(|path| !holds(path, |log| *log.identity() != job.identity())),
    };
    chosen.unwrap_or_else(|| base.to_owned())
}

/// `base`, `base-2`, `base-3`, and so on.
pub fn candidates(base: &Path) -> impl Iterator<Item = PathBuf> {
    let numbered = |number| {
        let mut name = base.as_os_str().to_owned();
        name.push(format!("-{number}"));
        PathBuf::from(name)
    };
    std::iter::once(base.to_owned()).chain((2..=NUMBERS).map(numbered))
}

/// The commit log in a folder, of whatever job.
fn any_log(path: &Path) -> Option<Log> {
    let storage = Location::Folder(path.to_owned()).open_existing();
    Log::open_any(storage.ok()?).ok()
}

/// Whether a folder has checkpoints of such a job.
fn holds(path: &Path, such: impl FnOnce(&Log) -> bool) -> bool {
    any_log(path).is_some_and(|log| such(&log) && !is_empty(&log))
}

/// Whether a job has trained in a folder.
pub fn has_trained(path: &Path) -> bool {
    holds(path, origin::has_trained)
}

/// Keeps runs out of a folder as long as what is returned lives; nothing if no run was ever there.
///
/// # Errors
/// [`TryAgain`] if a run is in it.
pub fn keep_out(path: &Path) -> Result<Option<File>> {
    let Ok(lock) = open_regular(&path.join(LOCK)) else {
        return Ok(None);
    };
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => bail!(TryAgain(
            "a run is using it: wait for its end, or take an artifact that trainyard export makes of it".into()
        )),
        // A file system without locks has no runs that could be told.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(lock)),
    }
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
        Location::Folder(_) => "choose another folder with --out, or replace it with --overwrite",
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
            fs::create_dir_all(path)?;
            let lock = open_lock(&path.join(LOCK))?;
            fs::create_dir_all(path.join("logs"))?;
            Ok::<_, io::Error>(lock)
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

    /// Deletes the log of a run that has trained nothing.
    ///
    /// # Errors
    /// If it cannot be deleted.
    pub fn clear_log(&self) -> Result<()> {
        let log = self.path.join("log");
        fs::remove_dir_all(&log).with_context(|| format!("{} cannot be deleted", log.display()))
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
    // Other programs have locks of that name; a run's is empty.
    let locked = fs::metadata(path.join(LOCK)).is_ok_and(|lock| lock.is_file() && lock.len() == 0);
    if locked || any_log(path).is_some() {
        return None;
    }
    let entries = fs::read_dir(path).ok()?.flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let strange = |name: &String| !name.starts_with('.') && name != "lost+found";
    names.filter(strange).min()
}

/// Whether another job has begun in a folder, and has saved nothing. An artifact may be all that is left of
/// a run whose checkpoints were deleted.
pub fn is_abandoned(path: &Path, job: &Job) -> bool {
    let log = any_log(path).filter(|_| !path.join(artifact::FOLDER).exists());
    log.is_some_and(|log| *log.identity() != job.identity() && is_empty(&log))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t25_a_folder_that_is_not_a_runs_is_known() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        let add = |name: &str, text: &str| fs::write(path.join(name), text).expect("writable");
        assert_eq!(strange(path), None, "empty");
        assert_eq!(strange(&path.join("new")), None);
        add(".DS_Store", "x");
        fs::create_dir(path.join("lost+found")).expect("writable");
        assert_eq!(strange(path), None, "not the user's");
        add("thesis.txt", "x");
        assert_eq!(strange(path).as_deref(), Some("thesis.txt"));
        add(LOCK, "pid 7");
        assert_eq!(
            strange(path).as_deref(),
            Some("thesis.txt"),
            "another's lock"
        );
        add(LOCK, "");
        assert_eq!(strange(path), None);
    }
}
