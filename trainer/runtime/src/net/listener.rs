//! The door of a server, before anybody has introduced themselves.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, accept_with,
    getsockname, listen, socket_with,
};

use super::address::{Address, Kind};
use super::connection::{Closer, Connection};
use super::socket::{Socket, uninterrupted};

/// Connections that may wait to be accepted; the system's own limit may be lower.
const BACKLOG: i32 = 4096;

/// Longest wait for somebody who may still listen where a socket was left behind.
const PROBE: Duration = Duration::from_secs(1);

/// A socket that takes connections.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    address: Address,
}

/// A connection that was taken, and whose other side has not introduced itself.
#[derive(Debug)]
pub struct Incoming(pub(super) Connection);

impl Incoming {
    /// Ends it from any thread.
    pub fn closer(&self) -> Closer {
        self.0.closer.clone()
    }
}

impl Listener {
    /// Listens on an address. The file of a Unix socket is for this user alone, and one that a dead
    /// process has left behind is replaced.
    ///
    /// # Errors
    /// If the address is in use or cannot be had.
    pub fn bind(address: &Address) -> io::Result<Self> {
        match &address.0 {
            Kind::Tcp(host) => Self::inherited(TcpListener::bind(host.as_str())?.into()),
            Kind::Unix(path) => Ok(Listener {
                fd: bind_unix(path)?,
                address: address.clone(),
            }),
        }
    }

    /// A listener that another process has opened for this one.
    ///
    /// # Errors
    /// If it is not open, or no socket of a kind that there is.
    pub fn inherited(fd: OwnedFd) -> io::Result<Self> {
        fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
        let address = bound(getsockname(&fd)?)?;
        Ok(Listener { fd, address })
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Waits for a connection.
    ///
    /// # Errors
    /// If none can be had now: no file descriptor is left, or the peer is gone already.
    pub fn accept(&self) -> io::Result<Incoming> {
        let fd = uninterrupted(|| Ok(accept_with(&self.fd, SocketFlags::CLOEXEC)?))?;
        Ok(Incoming(Connection::new(match &self.address.0 {
            Kind::Tcp(_) => Socket::tcp(fd),
            Kind::Unix(_) => Socket::unix(fd),
        })))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn bound(name: SocketAddrAny) -> io::Result<Address> {
    let unknown = || io::Error::new(io::ErrorKind::InvalidInput, "it has no address of ours");
    if name.address_family() != AddressFamily::UNIX {
        let address = std::net::SocketAddr::try_from(name)?;
        return Ok(Address(Kind::Tcp(address.to_string())));
    }
    let name = SocketAddrUnix::try_from(name)?;
    let path = name.path().ok_or_else(unknown)?;
    let path = path.to_str().map_err(io::Error::other)?;
    Address::unix(Path::new(path)).map_err(io::Error::other)
}

fn bind_unix(path: &Path) -> io::Result<OwnedFd> {
    remove_stale(path)?;
    let flags = SocketFlags::CLOEXEC;
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Before it is bound: Linux gives the file the mode of the socket, so there is no moment between.
    fchmod(&fd, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&fd, &SocketAddrUnix::new(path)?)?;
    listen(&fd, BACKLOG)?;
    Ok(fd)
}

/// Removes the socket of a process that has ended. Nothing else is touched: neither what is no socket,
/// nor a socket on which somebody listens.
fn remove_stale(path: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        let why = "something that is no socket has this name";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    }
    match Socket::connect_unix(path, PROBE) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            Err(io::ErrorKind::AddrInUse.into())
        }
        Err(error) => Err(error),
    }
}
