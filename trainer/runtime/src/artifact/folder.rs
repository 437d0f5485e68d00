//! A folder that appears whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{FILES, MODEL, PROVENANCE};
use crate::exit::BadInput;

/// Whether a folder is an artifact, whole or damaged.
pub fn is_artifact(path: &Path) -> bool {
    path.join(MODEL).is_file() && path.join(PROVENANCE).is_file()
}

/// A folder under construction beside its final place. Dropped before [`Draft::publish`], it is
/// removed; if the process is killed, the next draft for the same place removes it.
pub struct Draft {
    path: PathBuf,
    target: PathBuf,
    /// Locked as long as somebody works on the draft.
    lock: File,
}

impl Draft {
    /// Starts a folder that is to become `target`.
    ///
    /// # Errors
    /// If something stands at `target` that is no artifact, or the place cannot be written.
    pub fn new(target: &Path) -> Result<Self> {
        let name = target
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| {
                BadInput(format!(
                    "{} is no name for a folder: choose another one with --out",
                    target.display()
                ))
            })?;
        check_target(target)?;
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let cannot = || {
            format!(
                "{} cannot be written: choose another folder with --out",
                target.display()
            )
        };
        fs::create_dir_all(parent).with_context(cannot)?;
        remove_abandoned(parent, name);
        let path = parent.join(draft_name(name));
        // Under the lock: who is to discard all drafts sees this one, or prevents it.
        let mut drafts = DRAFTS.lock();
        fs::create_dir(&path).with_context(cannot)?;
        drafts.push(path.clone());
        drop(drafts);
        let lock = File::open(&path)?;
        // Where a file system has no locks, drafts of killed processes stay.
        let _ = lock.try_lock();
        Ok(Draft {
            path,
            target: target.to_owned(),
            lock,
        })
    }

    /// The folder until it is published.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a file of the folder is until it is published.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes all files durable, then gives the folder its name, in place of an artifact that may
    /// have it.
    ///
    /// # Errors
    /// If something else took the name, or the disk fails.
    pub fn publish(self) -> Result<()> {
        for entry in fs::read_dir(&self.path)? {
            File::open(entry?.path())?.sync_all()?;
        }
        self.lock.sync_all()?;
        check_target(&self.target)?;
        self.rename()
            .with_context(|| format!("{} cannot be written", self.target.display()))?;
        if let Some(parent) = self.path.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(()) // what is left under the draft's name, if anything, is the old artifact
    }

    fn rename(&self) -> io::Result<()> {
        if !self.target.exists() {
            return fs::rename(&self.path, &self.target);
        }
        match renameat_with(CWD, &self.path, CWD, &self.target, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(()),
            // A file system that cannot exchange: for a moment there is none of the two.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                let name = self.target.file_name().and_then(|name| name.to_str());
                let old = draft_name(name.unwrap_or_default());
                let old = self.path.with_file_name(old);
                fs::rename(&self.target, &old)?;
                fs::rename(&self.path, &self.target)?;
                fs::remove_dir_all(old) // if not now, as a draft that was abandoned
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A name for a draft of the artifact `name`.
fn draft_name(name: &str) -> String {
    format!(".{name}.{:016x}", crate::incarnation())
}

/// The artifact whose draft has this name.
fn of_draft(name: &str) -> Option<&str> {
    let (artifact, digits) = name.strip_prefix('.')?.rsplit_once('.')?;
    let is_number = digits.len() == 16 && u64::from_str_radix(digits, 16).is_ok();
    is_number.then_some(artifact)
}

/// Removes drafts whose process was killed: those of the artifact `name`, and those of others that are
/// unfinished. Best effort: they only cost space.
fn remove_abandoned(parent: &Path, name: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let (path, found) = (entry.path(), entry.file_name());
        let Some(artifact) = found.to_str().and_then(of_draft) else {
            continue;
        };
        // A folder, or nothing is opened: a pipe of that name would be waited for.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let is_ours = || artifact == name || is_unfinished(&path);
        if is_folder && is_ours() && File::open(&path).is_ok_and(|folder| folder.try_lock().is_ok())
        {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// Whether a folder holds files of an artifact, and nothing else. An empty one may be a draft that has just
/// been begun, and is not locked yet; a whole artifact may be one that was about to be replaced.
fn is_unfinished(folder: &Path) -> bool {
    let is_empty = fs::read_dir(folder).map(|mut entries| entries.next().is_none());
    matches!(is_empty, Ok(false))
        && matches!(foreign(folder), Ok(None))
        && !folder.join(PROVENANCE).exists()
}

/// Drafts of this process that are not published.
static DRAFTS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Attempts to remove a draft into which another thread is still writing.
const DISCARDS: u32 = 100;

/// Removes what this process has under construction, and keeps it from beginning more: it is about to end.
pub fn discard_drafts() {
    let mut drafts = DRAFTS.lock();
    for draft in drafts.drain(..) {
        for _ in 0..DISCARDS {
            match fs::remove_dir_all(&draft) {
                // A file was made meanwhile.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                _ => break,
            }
        }
    }
    std::mem::forget(drafts);
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Best effort: what remains has a name of its own, and costs only space.
        let _ = fs::remove_dir_all(&self.path);
        DRAFTS.lock().retain(|path| *path != self.path);
    }
}

/// The name of something in an artifact's folder that no export has made, apart from what desktops and
/// network file systems leave everywhere.
///
/// # Errors
/// If the folder cannot be read.
pub fn foreign(artifact: &Path) -> io::Result<Option<String>> {
    let is_ours = |name: &str| name == PROVENANCE || FILES.contains(&name);
    let is_litter = |name: &str| {
        [".DS_Store", "._", ".nfs"]
            .iter()
            .any(|l| name.starts_with(l))
    };
    for entry in fs::read_dir(artifact)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !is_ours(&name) && !is_litter(&name) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Nothing but an artifact or an empty folder is ever replaced, and nothing that somebody has put into an
/// artifact is ever deleted.
fn check_target(target: &Path) -> Result<()> {
    if is_artifact(target) {
        return match foreign(target)? {
            None => Ok(()),
            Some(name) => bail!(BadInput(format!(
                "{} holds {name}, which is no part of an artifact, so it is not replaced: move {name} away, or \
                 choose another folder",
                target.display()
            ))),
        };
    }
    let occupied = match fs::read_dir(target) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    };
    if occupied {
        bail!(BadInput(format!(
            "{} exists and is no artifact, so it is not replaced: choose another folder with --out, or remove it",
            target.display()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with something in it.
    fn folder(parent: &Path, name: &str, file: &str) -> PathBuf {
        let path = parent.join(name);
        fs::create_dir(&path).expect("writable");
        fs::write(path.join(file), "x").expect("writable");
        path
    }

    #[test]
    fn a_draft_of_a_process_that_was_killed_is_removed_by_the_next_one() {
        let parent = tempfile::tempdir().expect("a folder");
        let draft = |name: &str, file| folder(parent.path(), name, file);
        let abandoned = [
            draft(".a.00000000deadbeef", "half"),
            draft(".other.00000000deadbeef", MODEL),
        ];
        let held = draft(".a.00000000deadbeee", MODEL);
        let lock = File::open(&held).expect("a folder");
        lock.try_lock().expect("nobody has it");
        let strangers = [
            draft(".whole.00000000deadbeef", PROVENANCE),
            draft(".other.00000000deadbeee", "thesis.txt"),
            draft(".other.beef", MODEL),
            draft("other.00000000deadbeef", MODEL),
        ];
        let new = Draft::new(&parent.path().join("a")).expect("a draft");
        let is_there = |path: &PathBuf| path.exists();
        assert!(!abandoned.iter().any(is_there), "space is given back");
        assert!(held.exists() && strangers.iter().all(is_there));
        assert!(new.path().exists());
        drop(new);
        assert_eq!(fs::read_dir(parent.path()).expect("a folder").count(), 5);
    }

    #[test]
    fn a_pipe_that_is_called_like_a_draft_is_not_waited_for() {
        let parent = tempfile::tempdir().expect("a folder");
        let pipe = parent.path().join(".a.00000000deadbeef");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.expect("mkfifo is there").success());
        Draft::new(&parent.path().join("a")).expect("a draft");
        assert!(pipe.exists());
    }
}
