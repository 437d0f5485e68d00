//! The folder of a run's Unix sockets: private, with a short path, and gone with the run.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Result;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat, statat,
    unlinkat,
};
use rustix::process::geteuid;
use trainyard_runtime::exit::BadInput;
use trainyard_runtime::net::Address;

/// What the names of these folders begin with.
const PREFIX: &str = "trainyard-sockets-";

/// Names that are looked at for folders of runs that were killed; a temporary folder may hold very many.
const LOOKED_AT: usize = 10_000;

/// Folders of killed runs that one run removes.
const REMOVED: usize = 100;

/// A folder that only this user can enter. Its lock tells other runs that this one is alive.
#[derive(Debug)]
pub struct SocketFolder {
    path: PathBuf,
    /// The folder itself, locked until it is dropped or the process ends.
    locked: OwnedFd,
}

impl SocketFolder {
    /// Makes a folder for the sockets of `servers` servers: in `$XDG_RUNTIME_DIR` if it is this user's own,
    /// else in the temporary folder. What killed runs have left there is removed.
    ///
    /// # Errors
    /// [`BadInput`] if no place will do, with what is wrong with each.
    pub fn create(servers: u32) -> Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let runtime = runtime.filter(|path| is_private(path));
        let temporary = [std::env::temp_dir(), "/tmp".into()];
        Self::create_in(
            &runtime.into_iter().chain(temporary).collect::<Vec<_>>(),
            servers,
        )
    }

    fn create_in(places: &[PathBuf], servers: u32) -> Result<Self> {
        let mut reasons: Vec<String> = Vec::new();
        for place in places {
            remove_stale(place);
            match Self::create_at(place, servers) {
                Ok(folder) => return Ok(folder),
                Err(reason) if !reasons.contains(&reason) => reasons.push(reason),
                Err(_) => {}
            }
        }
        let message = format!(
            "there is no place for the sockets of this run ({}); set TMPDIR to a short folder that you can write",
            reasons.join("; ")
        );
        Err(BadInput(message).into())
    }

    fn create_at(place: &Path, servers: u32) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", place.display());
        loop {
            let folder = tempfile::Builder::new()
                .prefix(PREFIX)
                .permissions(Permissions::from_mode(0o700))
                .tempdir_in(place)
                .map_err(|error| failed(&error))?;
            let last = address(folder.path(), servers.saturating_sub(1));
            last.map_err(|error| error.to_string())?;
            let locked = open(folder.path()).map_err(|error| failed(&error))?;
            flock(&locked, FlockOperation::LockExclusive).map_err(|error| failed(&error))?;
            // Before it was locked, another run may have taken it for one that was left behind.
            if is_at(&locked, folder.path()) {
                let path = folder.keep();
                return Ok(SocketFolder { path, locked });
            }
        }
    }

    /// Where server `index` listens.
    ///
    /// # Errors
    /// If the path is too long, which it is not for the servers that the folder was made for.
    pub fn address(&self, index: u32) -> Result<Address> {
        Ok(address(&self.path, index)?)
    }

    /// Removes it. What cannot be removed is left to the next run.
    pub fn remove(&self) {
        let _ = remove(&self.path, &self.locked);
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        self.remove();
    }
}

fn address(folder: &Path, index: u32) -> Result<Address, trainyard_runtime::net::AddressError> {
    Address::unix(&folder.join(format!("server-{index}")))
}

/// Whether a folder is this user's, and nobody else can write there.
fn is_private(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| {
        path.is_absolute()
            && metadata.is_dir()
            && metadata.uid() == geteuid().as_raw()
            && metadata.mode() & 0o022 == 0
    })
}

/// Whether a folder that is open is still the one at `path`.
fn is_at(folder: &OwnedFd, path: &Path) -> bool {
    let identity = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    let there = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map(identity);
    there.is_ok() && there == fstat(folder).map(identity)
}

fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
}

/// Removes the folders of runs that were killed. Another run's is locked; another user's, and whatever
/// holds anything but sockets, stays.
fn remove_stale(place: &Path) {
    let Ok(entries) = std::fs::read_dir(place) else {
        return;
    };
    let ours = |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with(PREFIX));
    let folders = entries.take(LOOKED_AT).flatten();
    let folders = folders.filter(|entry| ours(&entry.file_name()));
    for entry in folders.take(REMOVED) {
        if let Err(error) = remove_if_stale(&entry.path()) {
            tracing::debug!(%error, folder = %entry.path().display(), "a folder of sockets stays");
        }
    }
}

fn remove_if_stale(path: &Path) -> rustix::io::Result<()> {
    let folder = open(path)?;
    if fstat(&folder)?.st_uid != geteuid().as_raw() {
        return Err(rustix::io::Errno::PERM);
    }
    flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
    remove(path, &folder)
}

/// Removes a folder that holds sockets and nothing else.
fn remove(path: &Path, folder: &OwnedFd) -> rustix::io::Result<()> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Socket {
            unlinkat(folder, name, AtFlags::empty())?;
        }
    }
    unlinkat(CWD, path, AtFlags::REMOVEDIR)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use trainyard_runtime::net::Listener;

    fn names(place: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(place).expect("a folder").flatten();
        entries.map(|entry| entry.path()).collect()
    }

    /// A folder as a run leaves it that is killed: the lock goes with the process.
    fn killed(place: &Path) -> PathBuf {
        let folder = SocketFolder::create_at(place, 2).expect("a folder");
        for index in 0..2 {
            Listener::bind(&folder.address(index).expect("short")).expect("a socket");
        }
        let path = folder.path.clone();
        flock(&folder.locked, FlockOperation::Unlock).expect("a lock");
        std::mem::forget(folder);
        path
    }

    #[test]
    fn t29_the_folder_is_private_and_gone_with_its_sockets() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = SocketFolder::create_in(&[place.path().into()], 2).expect("a folder");
        let mode = fs::metadata(&folder.path).expect("it is there").mode();
        assert_eq!(mode & 0o7777, 0o700);
        let door = Listener::bind(&folder.address(0).expect("short")).expect("a socket");
        let socket = fs::metadata(folder.path.join("server-0")).expect("it is there");
        assert_eq!(socket.mode() & 0o7777, 0o600);
        drop(door);
        drop(folder);
        assert_eq!(names(place.path()), Vec::<PathBuf>::new());
    }

    #[test]
    fn t25_what_a_killed_run_has_left_goes_and_what_another_uses_stays() {
        let place = tempfile::tempdir().expect("a folder");
        let alive = SocketFolder::create_at(place.path(), 1).expect("a folder");
        let dead = killed(place.path());
        let filled = killed(place.path());
        fs::write(filled.join("notes"), "not ours").expect("writable");
        let link = place.path().join(format!("{PREFIX}link"));
        let elsewhere = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink(elsewhere.path(), &link).expect("a link");
        let named_alike = place.path().join(format!("{PREFIX}file"));
        fs::write(&named_alike, "no folder").expect("writable");
        let next = SocketFolder::create_in(&[place.path().into()], 1).expect("a folder");
        let mut expected = [&alive.path, &next.path, &filled, &link, &named_alike];
        let mut found = names(place.path());
        found.sort();
        expected.sort();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected);
        assert!(!dead.exists() && elsewhere.path().exists());
        assert_eq!(names(&filled), [filled.join("notes")]);
    }

    #[test]
    fn t25_a_place_whose_path_is_too_long_is_passed_over() {
        let place = tempfile::tempdir().expect("a folder");
        let long = place.path().join("x".repeat(100));
        fs::create_dir(&long).expect("writable");
        let missing = place.path().join("missing");
        let folder = SocketFolder::create_in(&[long.clone(), place.path().into()], 1);
        let folder = folder.expect("the second will do");
        assert_eq!(folder.path.parent(), Some(place.path()));
        let error = SocketFolder::create_in(&[long.clone(), missing.clone()], 1);
        let error = error.expect_err("neither will do").to_string();
        for part in ["at most 107 bytes", "missing", "set TMPDIR"] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(names(&long), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_place_that_others_can_write_is_not_private() {
        let place = tempfile::tempdir().expect("a folder");
        let mode = |mode| {
            fs::set_permissions(place.path(), Permissions::from_mode(mode)).expect("ours");
            is_private(place.path())
        };
        assert!(mode(0o700) && mode(0o755));
        assert!(!mode(0o777) && !mode(0o770));
        assert!(!is_private(Path::new("relative")));
    }
}
