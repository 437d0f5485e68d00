//! A folder that appears whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
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
        let prefix = format!(".{name}.");
        remove_abandoned(parent, &prefix);
        let path = parent.join(format!("{prefix}{:016x}", crate::incarnation()));
        fs::create_dir(&path).with_context(cannot)?;
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
                let old = self.path.with_extension("old");
                fs::rename(&self.target, &old)?;
                fs::rename(&self.path, &self.target)?;
                fs::remove_dir_all(old)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Removes drafts whose process was killed. Best effort: they only cost space.
fn remove_abandoned(parent: &Path, prefix: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_draft = entry
            .file_name()
            .to_str()
            .and_then(|name| name.strip_prefix(prefix))
            .is_some_and(|rest| rest.len() == 16 && u64::from_str_radix(rest, 16).is_ok());
        let path = entry.path();
        if is_draft && File::open(&path).is_ok_and(|folder| folder.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Best effort: what remains has a name of its own, and costs only space.
        let _ = fs::remove_dir_all(&self.path);
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
