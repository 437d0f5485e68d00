//! Opening files that somebody else may have put there.
//!
//! Nothing here waits: to open a named pipe waits until somebody else opens it, so each file is opened without
//! waiting, and must be a regular one. Reading a regular file does not heed that flag.

#![warn(clippy::print_stderr, clippy::print_stdout)]
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

/// Opens a file to read it, through symbolic links if there are some on its way.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if it is no regular file, or what the system says.
pub fn open(path: &Path) -> io::Result<File> {
    open_at(CWD, path.as_os_str(), OFlags::RDONLY)
}

/// Opens a file to read it; its folder may be a symbolic link, the file may not: it could lead out of the folder.
///
/// # Errors
/// As [`open`], and [`io::ErrorKind::InvalidInput`] for a link.
pub fn open_regular(path: &Path) -> io::Result<File> {
    open_at(CWD, path.as_os_str(), OFlags::RDONLY | OFlags::NOFOLLOW)
}

/// Opens a file to lock it, and makes it if it is missing; it may not be a symbolic link, as in [`open_regular`].
///
/// # Errors
/// As [`open_regular`].
pub fn open_lock(path: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW;
    open_at(CWD, path.as_os_str(), flags)
}

/// Opens the file `below` a folder to read it. The folder may be a symbolic link, as whoever named it wants; nothing
/// below it may be one: it could lead out of the folder.
///
/// # Errors
/// As [`open_regular`]; also if `below` is absolute, or climbs with `..`.
pub fn open_below(folder: &Path, below: &Path) -> io::Result<File> {
    let (Some(on_the_way), Some(name)) = (below.parent(), below.file_name()) else {
        return Err(refused("it is no regular file"));
    };
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    let mut at = openat(CWD, folder, FOLDER, Mode::empty())?;
    for part in on_the_way.components() {
        at = match part {
            Component::Normal(name) => step_into(&at, name)?,
            Component::CurDir => continue,
            _ => return Err(refused("its path leads out of its folder")),
        };
    }
    open_at(at, name, OFlags::RDONLY | OFlags::NOFOLLOW)
}

/// A folder that is only passed through.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn step_into(at: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let error = match openat(at, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(folder) => return Ok(folder),
        Err(error) => error,
    };
    // The system says of a link only that it is no folder.
    let is_link = statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_symlink());
    Err(match is_link {
        true => refused(&format!(
            "{} on its way is a symbolic link, which is not followed",
            name.display()
        )),
        false => error.into(),
    })
}

fn open_at(at: impl AsFd, name: &OsStr, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
    let file = loop {
        match openat(&at, name, flags, mode) {
            Err(Errno::INTR) => {}
            Err(Errno::LOOP) => return Err(refused("it is a symbolic link, not a regular file")),
            Err(Errno::NXIO) => return Err(refused("it is no regular file")),
            opened => break File::from(opened?),
        }
    };
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(refused("it is no regular file")),
    }
}

fn refused(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

#[cfg(test)]
mod tests;
