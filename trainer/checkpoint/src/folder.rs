//! A folder as a storage.
//!
//! Objects are files under the root; unfinished ones live in `.tmp` and become visible by one
//! rename or link once their content is durable, so no reader ever sees half an object.

use crate::disk::{Disk, HostDisk};
use crate::storage::{Object, Storage, StorageError, check_key};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Folder of unfinished files, below the root. No key can name it, for its leading dot.
const TEMPORARY: &str = ".tmp";
/// How often a put starts over because another process removed the folder it was about to use.
const ATTEMPTS: u32 = 16;
/// How deep [`Storage::list`] follows folders; keys of this crate have three segments.
const DEPTH: usize = 16;
/// "Operation not permitted", on every Unix.
const EPERM: i32 = 1;

/// A [`Storage`] in a folder of a local or network file system with hard links.
///
/// Any number of processes may use one folder at once.
#[derive(Debug)]
pub struct FolderStorage<D: Disk = HostDisk> {
    root: PathBuf,
    disk: D,
    /// Names this storage's unfinished files: two writers of one name would publish each other's
    /// content, and processes of different hosts or containers may share an id.
    writer: u64,
    counter: AtomicU64,
}

impl FolderStorage {
    /// Opens a folder, creating it (and its parents) if it is missing, and removes unfinished
    /// files that no process is writing any more.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StorageError> {
        let root = root.into();
        Self::open_on(HostDisk::of(&root), root)
    }

    /// Opens a folder that must exist, for reading: nothing is created or removed.
    pub fn open_existing(root: impl Into<PathBuf>) -> Result<Self, StorageError> {
        let root = root.into();
        let storage = Self::unopened(HostDisk::of(&root), root);
        let listed = storage.disk.list(&storage.root);
        listed.map_err(|e| StorageError::from_io("listing", shown(&storage.root), e))?;
        Ok(storage)
    }
}

impl<D: Disk> FolderStorage<D> {
    /// [`FolderStorage::open`] on any [`Disk`].
    pub fn open_on(disk: D, root: impl Into<PathBuf>) -> Result<Self, StorageError> {
        let storage = Self::unopened(disk, root.into());
        storage.make_root()?;
        storage.remove_stale();
        Ok(storage)
    }

    fn unopened(disk: D, root: PathBuf) -> Self {
        Self {
            root,
            disk,
            // As the standard library's hash maps, it panics on a system that gives none.
            writer: getrandom::u64().expect("the system gives random bytes"),
            counter: AtomicU64::new(0),
        }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn make_root(&self) -> Result<(), StorageError> {
        let mut missing = Vec::new();
        let mut folder = self.root.as_path();
        // Only what is missing is touched: the parents of an existing root may not be ours to open.
        while let Err(error) = self.disk.list(folder) {
            let parent = folder.parent();
            match (error.kind(), parent) {
                (io::ErrorKind::NotFound, Some(parent)) => {
                    missing.push(folder);
                    folder = match parent.as_os_str().is_empty() {
                        true => Path::new("."),
                        false => parent,
                    };
                }
                _ => return Err(StorageError::from_io("opening", shown(folder), error)),
            }
        }
        let mut parent = folder;
        for folder in missing.into_iter().rev() {
            self.mkdir(folder)?;
            self.fsync_dir(parent)?;
            parent = folder;
        }
        self.mkdir(&self.root.join(TEMPORARY))
    }

    /// Best effort: a file that cannot be removed now costs space, not correctness.
    fn remove_stale(&self) {
        let folder = self.root.join(TEMPORARY);
        for entry in self.disk.list(&folder).unwrap_or_default() {
            let path = folder.join(&entry.name);
            if entry.file_bytes.is_some() && self.disk.is_abandoned(&path).unwrap_or(false) {
                let _ = self.disk.unlink(&path);
            }
        }
    }

    fn mkdir(&self, folder: &Path) -> Result<(), StorageError> {
        match self.disk.mkdir(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result.map_err(|e| StorageError::from_io("creating", shown(folder), e)),
        }
    }

    fn fsync_dir(&self, folder: &Path) -> Result<(), StorageError> {
        let result = self.disk.fsync_dir(folder);
        result.map_err(|e| StorageError::from_io("syncing", shown(folder), e))
    }

    /// Puts `parts` at `key` by `publish`, which gives the finished file its name.
    fn put_by(
        &self,
        key: &str,
        parts: &[&[u8]],
        publish: impl Fn(&D, &Path, &Path) -> io::Result<()>,
    ) -> Result<(), StorageError> {
        check_key(key)?;
        let target = self.root.join(key);
        let mut attempt = 0;
        loop {
            attempt += 1;
            let (temporary, file) = self.write_temporary(&target, parts)?;
            let mut result = self.make_parents(key);
            if result.is_ok() {
                let published = publish(&self.disk, &temporary, &target);
                result = published.map_err(|e| publish_error(&target, e));
            }
            match result {
                Ok(()) => result = self.sync_parents(key),
                // Whose ever it is, the caller may build on it, so it must not vanish.
                Err(StorageError::AlreadyExists { .. }) => self.sync_parents(key)?,
                Err(_) => {}
            }
            // After a rename there is nothing left to remove.
            let _ = self.disk.unlink(&temporary);
            // Holding the file until here keeps others from taking it for a stale one.
            drop(file);
            match result {
                // Another process deleted the folder's last object, and the folder with it.
                Err(StorageError::NotFound { .. }) if attempt < ATTEMPTS => {}
                result => return result,
            }
        }
    }

    /// Writes a durable file in `.tmp`; errors name `target`, which is what the user knows.
    fn write_temporary(
        &self,
        target: &Path,
        parts: &[&[u8]],
    ) -> Result<(PathBuf, D::File), StorageError> {
        let name_error = |e| StorageError::from_io("writing", shown(target), e);
        let (path, mut file) = self.create_temporary().map_err(name_error)?;
        let written = parts
            .iter()
            .try_for_each(|part| self.disk.write(&mut file, part))
            .and_then(|()| self.disk.fsync(&mut file));
        if let Err(error) = written {
            let _ = self.disk.unlink(&path);
            return Err(name_error(error));
        }
        Ok((path, file))
    }

    fn create_temporary(&self) -> io::Result<(PathBuf, D::File)> {
        let folder = self.root.join(TEMPORARY);
        loop {
            let count = self.counter.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{:016x}-{count}", self.writer));
            match self.disk.create_new(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.disk.mkdir(&folder)?;
                }
                Err(error) => return Err(error),
                Ok(file) => return Ok((path, file)),
            }
        }
    }

    fn make_parents(&self, key: &str) -> Result<(), StorageError> {
        folders(key).try_for_each(|folder| self.mkdir(&self.root.join(folder)))
    }

    /// Makes the name `key` durable, with all folders on its way: one that exists already may
    /// have been made by a process that died before it synced.
    fn sync_parents(&self, key: &str) -> Result<(), StorageError> {
        let mut on_the_way: Vec<_> = folders(key).collect();
        on_the_way.reverse();
        for folder in on_the_way {
            self.fsync_dir(&self.root.join(folder))?;
        }
        self.fsync_dir(&self.root)
    }

    fn list_into(
        &self,
        folder: &str,
        prefix: &str,
        depth: usize,
        objects: &mut Vec<Object>,
    ) -> Result<(), StorageError> {
        let path = self.root.join(folder);
        let entries = match self.disk.list(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            listed => listed.map_err(|e| StorageError::from_io("listing", shown(&path), e))?,
        };
        for entry in entries {
            let key = format!("{folder}{}", entry.name);
            if check_key(&key).is_err() {
                continue;
            }
            match entry.file_bytes {
                Some(bytes) if key.starts_with(prefix) => objects.push(Object { key, bytes }),
                None if depth > 0 => {
                    let below = format!("{key}/");
                    if below.starts_with(prefix) || prefix.starts_with(&below) {
                        self.list_into(&below, prefix, depth - 1, objects)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl<D: Disk> Storage for FolderStorage<D> {
    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.put_by(key, parts, D::rename)
    }

    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError> {
        self.put_by(key, &[bytes], |disk, from, to| {
            disk.hard_link(from, to)
                .map_err(|error| match error.raw_os_error() {
                    // What link(2) says of FAT and its like; access that is denied is EACCES.
                    Some(EPERM) => io::ErrorKind::Unsupported.into(),
                    _ => error,
                })
        })
    }

    fn read(
        &self,
        key: &str,
        sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        check_key(key)?;
        let path = self.root.join(key);
        let result = self.disk.read(&path, sink);
        result.map_err(|e| StorageError::from_io("reading", shown(&path), e))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Object>, StorageError> {
        let mut objects = Vec::new();
        self.list_into("", prefix, DEPTH, &mut objects)?;
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        check_key(key)?;
        let path = self.root.join(key);
        match self.disk.unlink(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StorageError::from_io("deleting", shown(&path), error));
            }
            _ => {}
        }
        // A folder that still holds something refuses; that is the test for emptiness.
        let mut on_the_way: Vec<_> = folders(key).collect();
        on_the_way.reverse();
        for folder in on_the_way {
            if self.disk.rmdir(&self.root.join(folder)).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// The folders that hold `key`, outermost first: `a`, `a/b` for `a/b/c`.
fn folders(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('/').map(|(at, _)| &key[..at])
}

fn publish_error(target: &Path, error: io::Error) -> StorageError {
    let path = shown(target);
    match error.kind() {
        io::ErrorKind::AlreadyExists => StorageError::AlreadyExists { path },
        io::ErrorKind::Unsupported => StorageError::NoHardLinks { path },
        _ => StorageError::from_io("publishing", path, error),
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
