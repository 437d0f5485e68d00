//! The few file-system calls that [`crate::FolderStorage`] is made of.
//!
//! They stand behind a trait so that tests can lose power between any two of them, and within
//! any write, which no real file system does on request.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use trainyard_files::open_below;

/// What a path in a folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Last component of its path; not UTF-8 names are left out by [`Disk::list`].
    pub name: String,
    /// `None` for a folder, the size in bytes for a file.
    pub file_bytes: Option<u64>,
}

/// File-system calls with the durability of POSIX: content is durable after `fsync` of the file,
/// names after `fsync_dir` of their folder, nothing before.
pub trait Disk: Send + Sync {
    /// An open file. The creator holds it locked until it is dropped.
    type File;

    /// Creates a file that must not exist, and locks it.
    fn create_new(&self, path: &Path) -> io::Result<Self::File>;
    /// Appends all of `bytes`.
    fn write(&self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()>;
    /// Makes the file's content durable.
    fn fsync(&self, file: &mut Self::File) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn fsync_dir(&self, path: &Path) -> io::Result<()>;
    /// Gives a file a second name, which must not exist.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames a file, replacing another.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Creates one folder.
    fn mkdir(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn rmdir(&self, path: &Path) -> io::Result<()>;
    /// Feeds the content of a regular file to `sink` until it breaks.
    fn read(&self, path: &Path, sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> io::Result<()>;
    /// The files and folders directly in a folder, in any order.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Whether nobody holds the file open since [`Disk::create_new`].
    fn is_abandoned(&self, path: &Path) -> io::Result<bool>;
}

/// The operating system's file systems, for what is in one folder.
#[derive(Clone, Debug)]
pub struct HostDisk {
    folder: PathBuf,
}

/// Bytes read at once.
const PIECE: usize = 1 << 20;

impl HostDisk {
    /// What is in `folder`, which may be a symbolic link; no file is read through a link below it.
    pub fn of(folder: &Path) -> Self {
        let folder = folder.to_owned();
        HostDisk { folder }
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        let below = path.strip_prefix(&self.folder);
        open_below(&self.folder, below.map_err(io::Error::other)?)
    }
}

impl Disk for HostDisk {
    type File = File;

    fn create_new(&self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        // A file system without locks only loses the early removal of stale files.
        let _ = file.try_lock();
        Ok(file)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn fsync(&self, file: &mut File) -> io::Result<()> {
        file.sync_all()
    }

    fn fsync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn mkdir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn rmdir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn read(&self, path: &Path, sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> io::Result<()> {
        let mut file = self.open(path)?;
        let bytes = usize::try_from(file.metadata()?.len()).unwrap_or(PIECE);
        let mut buffer = vec![0; bytes.clamp(1, PIECE)];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => {
                    if sink(&buffer[..n]).is_break() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            // Deleted since it was listed, or no name of ours.
            let (Ok(metadata), Ok(name)) = (entry.metadata(), entry.file_name().into_string())
            else {
                continue;
            };
            let file_bytes = match (metadata.is_file(), metadata.is_dir()) {
                (true, _) => Some(metadata.len()),
                (_, true) => None,
                _ => continue,
            };
            entries.push(DirEntry { name, file_bytes });
        }
        Ok(entries)
    }

    fn is_abandoned(&self, path: &Path) -> io::Result<bool> {
        match self.open(path)?.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}
