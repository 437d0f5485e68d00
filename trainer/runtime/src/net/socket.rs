//! A connected stream socket: the one place that knows TCP from Unix sockets.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrUnix,
    SocketFlags, SocketType, recv, send, sendmsg, shutdown, socket_with,
};
use rustix::process::geteuid;

use super::Timing;
use super::address::{Address, Kind};
use super::search;

/// Bytes on their way in a Unix socket. Measured with 100 MB in chunks: from 128 KiB to 1 MiB makes no difference, 2 MiB
/// cost an eighth more processor time, because the data leave the cache. `net.core.wmem_max` may grant less.
const UNIX_BUFFER: usize = 512 << 10;

/// Repeats a system call that a signal has interrupted. Calls on a socket with a timeout are not
/// restarted by the system when a process that was stopped continues, whatever its handlers (signal(7)).
pub(super) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A blocking call says "would block" when its timeout is over.
fn late<T>(result: Result<T, impl Into<io::Error>>, what: &str) -> io::Result<T> {
    result
        .map_err(Into::into)
        .map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, what),
            _ => error,
        })
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Family {
    Tcp,
    Unix,
}

/// A connected socket; closed when dropped.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    family: Family,
}

impl Socket {
    /// Connects to the first place of an address that accepts in time.
    pub fn connect(to: &Address, patience: Duration) -> io::Result<Self> {
        let failed = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot connect to {to}: {error}"))
        };
        match &to.0 {
            Kind::Unix(path) => Self::connect_unix(path, patience).map_err(failed),
            Kind::Tcp(host) => {
                let addresses = search::resolve(host, patience)?;
                Self::connect_tcp(&addresses, patience).map_err(failed)
            }
        }
    }

    fn connect_tcp(addresses: &[SocketAddr], patience: Duration) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
        for address in addresses {
            match TcpStream::connect_timeout(address, patience) {
                Ok(stream) => return Ok(Self::tcp(stream.into())),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A server that has been stopped takes no more connections than fit its queue: the send timeout
    /// bounds the wait for a place there too.
    pub fn connect_unix(path: &Path, patience: Duration) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        let flags = SocketFlags::CLOEXEC;
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_timeout(&fd, Timeout::Send, Some(patience))?;
        let connected = uninterrupted(|| Ok(rustix::net::connect(&fd, &address)?));
        late(connected, "it takes no connections")?;
        sockopt::set_socket_timeout(&fd, Timeout::Send, None)?;
        Ok(Self::unix(fd))
    }

    pub fn tcp(fd: OwnedFd) -> Self {
        let family = Family::Tcp;
        Socket { fd, family }
    }

    pub fn unix(fd: OwnedFd) -> Self {
        let family = Family::Unix;
        Socket { fd, family }
    }

    /// Prepares a connection that was just made. Over TCP, small frames leave at once, and a host that
    /// has vanished is noticed although nobody writes: on a bulk connection one side only ever reads.
    /// A Unix socket has no such host: the system closes the connections of a process that has ended.
    ///
    /// # Errors
    /// Of the system; [`io::ErrorKind::InvalidData`] if a stranger is at the other end.
    pub fn prepare(&self, timing: &Timing) -> io::Result<()> {
        match self.family {
            Family::Tcp => {
                let silence = timing.heartbeat_timeout.as_secs(); // the system counts in seconds
                let part = |n: u64| Duration::from_secs((silence / n).max(1));
                sockopt::set_tcp_nodelay(&self.fd, true)?;
                sockopt::set_socket_keepalive(&self.fd, true)?;
                sockopt::set_tcp_keepidle(&self.fd, part(2))?;
                sockopt::set_tcp_keepintvl(&self.fd, part(6))?;
                sockopt::set_tcp_keepcnt(&self.fd, 3)?;
                Ok(())
            }
            Family::Unix => {
                let peer = sockopt::socket_peercred(&self.fd)?.uid.as_raw();
                trusted(peer, geteuid().as_raw())?;
                Ok(sockopt::set_socket_send_buffer_size(&self.fd, UNIX_BUFFER)?)
            }
        }
    }

    /// Bounds how long the other side may take no bytes: over TCP, how long what was written may stay
    /// unacknowledged, which would otherwise be the system's quarter of an hour; over a Unix socket,
    /// how long a write may wait for room, which would otherwise have no end.
    pub fn give_up(&self, after: Duration) -> io::Result<()> {
        match self.family {
            Family::Tcp => {
                let milliseconds = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
                Ok(sockopt::set_tcp_user_timeout(
                    &self.fd,
                    milliseconds.max(1),
                )?)
            }
            Family::Unix => self.set_write_timeout(Some(after)),
        }
    }

    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        Ok(sockopt::set_socket_timeout(
            &self.fd,
            Timeout::Recv,
            timeout,
        )?)
    }

    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        Ok(sockopt::set_socket_timeout(
            &self.fd,
            Timeout::Send,
            timeout,
        )?)
    }

    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = recv(&self.fd, buffer, RecvFlags::empty());
        late(read.map(|(n, _)| n), "nothing has come in time")
    }

    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let sent = send(&self.fd, bytes, SendFlags::NOSIGNAL);
        late(sent, "the other side has not read in time")
    }

    pub fn write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut control = SendAncillaryBuffer::default();
        let sent = sendmsg(&self.fd, parts, &mut control, SendFlags::NOSIGNAL);
        late(sent, "the other side has not read in time")
    }

    /// Waits until the other side sends something or the connection ends, and takes nothing away.
    pub fn peek(&self) -> io::Result<usize> {
        let peeked = uninterrupted(|| Ok(recv(&self.fd, &mut [0; 1][..], RecvFlags::PEEK)?));
        late(peeked.map(|(n, _)| n), "nothing has come in time")
    }

    /// Ends both directions, for all threads. That it is over already is no matter.
    pub fn close(&self) {
        let _ = shutdown(&self.fd, Shutdown::Both);
    }

    /// Ends the direction from here, after what was written.
    pub fn finish(&self) -> io::Result<()> {
        Ok(shutdown(&self.fd, Shutdown::Write)?)
    }

    #[cfg(test)]
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

/// Only this user and root may be at the other end of a Unix socket, whatever the mode of its folder.
fn trusted(peer: u32, ours: u32) -> io::Result<()> {
    if peer == ours || peer == 0 {
        return Ok(());
    }
    let why = format!("a process of user {peer} is at the other end; this one is of user {ours}");
    Err(io::Error::new(io::ErrorKind::InvalidData, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t29_another_user_is_refused_and_root_is_not() {
        for (peer, ours) in [(1000, 1000), (0, 1000), (0, 0)] {
            trusted(peer, ours).expect("it may");
        }
        for (peer, ours) in [(1001, 1000), (65534, 0)] {
            let error = trusted(peer, ours).expect_err("a stranger");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains(&peer.to_string()), "{error}");
        }
    }
}
