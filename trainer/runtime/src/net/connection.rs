//! A connection as the rest of the program knows it, whatever carries its bytes.
//!
//! A connection comes apart into three handles, each for a thread of its own: one reads, one writes,
//! and any number may close it or wait for its end. A handle never needs the state of another, so a
//! stream that cannot be cloned, such as one of TLS, fits behind the same three.

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use super::socket::Socket;
use super::{Timing, refused};

/// An introduced connection. Only [`connect`](super::connect) and [`accept`](super::accept) give one out.
#[derive(Debug)]
pub struct Connection {
    /// What comes from the other side.
    pub reader: ReadHalf,
    /// What goes to the other side.
    pub writer: WriteHalf,
    /// Ends it from any thread.
    pub closer: Closer,
}

/// The half that reads.
#[derive(Debug)]
pub struct ReadHalf(pub(super) Arc<Socket>);

/// The half that writes.
#[derive(Debug)]
pub struct WriteHalf(pub(super) Arc<Socket>);

/// Closes a connection, or waits for its end, while other threads read and write.
#[derive(Clone, Debug)]
pub struct Closer(Arc<Socket>);

impl Connection {
    pub(super) fn new(socket: Socket) -> Self {
        let socket = Arc::new(socket);
        Connection {
            reader: ReadHalf(Arc::clone(&socket)),
            writer: WriteHalf(Arc::clone(&socket)),
            closer: Closer(socket),
        }
    }

    /// See [`Socket::prepare`].
    pub(super) fn prepare(&self, timing: &Timing) -> io::Result<()> {
        self.reader.0.prepare(timing)
    }
}

impl ReadHalf {
    /// Bounds the wait for some bytes; the default is to wait for as long as it takes.
    ///
    /// # Errors
    /// Of the system.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(timeout)
    }
}

impl Read for ReadHalf {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl WriteHalf {
    /// Bounds the wait for room for some bytes.
    ///
    /// # Errors
    /// Of the system.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.set_write_timeout(timeout)
    }

    /// Bounds how long the other side may take no bytes.
    pub(super) fn give_up(&self, after: Duration) -> io::Result<()> {
        self.0.give_up(after)
    }

    /// Ends what goes to the other side, which reads all of it first.
    ///
    /// # Errors
    /// Of the system.
    pub fn finish(&mut self) -> io::Result<()> {
        self.0.finish()
    }
}

impl Write for WriteHalf {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Closer {
    /// Ends the connection at once: threads that read or write fail, and so does the other side.
    pub fn close(&self) {
        self.0.close();
    }

    /// Waits for the end of a connection on which the other side never writes.
    ///
    /// # Errors
    /// What broke it; [`io::ErrorKind::InvalidData`] if the other side has sent something.
    pub fn wait_for_end(&self) -> io::Result<()> {
        match self.0.peek()? {
            0 => Ok(()),
            _ => Err(refused("the other side has sent something")),
        }
    }
}
