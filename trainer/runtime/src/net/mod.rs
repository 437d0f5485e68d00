//! Connections: framing over a byte stream, the first frame, and the control stream.
//!
//! One address of a server takes every connection of the protocol; the first frame says what it is
//! for. Bulk connections carry data one way, so that no two full socket buffers ever face each
//! other. Nothing outside this module knows TCP from Unix sockets; a test keeps it so.

mod address;
mod connection;
mod control;
mod frame;
mod handshake;
mod listener;
mod search;
mod socket;
mod until;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use address::{Address, AddressError, LONGEST_PATH};
pub use connection::{Closer, Connection, ReadHalf, WriteHalf};
pub use control::{ControlReceiver, ControlSender};
pub use frame::{read_header, read_payload, write_frame};
pub use handshake::{Channel, Hello, Met, accept, connect};
pub use listener::{Incoming, Listener};
pub use search::Search;

use std::io;
use std::time::Duration;

use trainyard_core::wire::{Body, Header};

/// Bounds on waiting.
#[derive(Copy, Clone, Debug)]
pub struct Timing {
    /// How often peers say that they are alive.
    pub heartbeat_interval: Duration,
    /// A peer silent for this long is lost.
    pub heartbeat_timeout: Duration,
    /// How long a stop may take before the previous checkpoint has to do.
    pub grace: Duration,
    /// How long a connection may take to be made and introduced.
    pub connect: Duration,
    /// How long a process looks for a coordinator before it gives up with exit code 75.
    pub orphaned: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            heartbeat_interval: Duration::from_millis(500),
            heartbeat_timeout: Duration::from_secs(5),
            grace: Duration::from_secs(20),
            connect: Duration::from_secs(10),
            // Server 0 may have to wait for a node and for its image.
            orphaned: Duration::from_secs(600),
        }
    }
}

/// Who a process is on the wire.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The job's id.
    pub job: u64,
    /// Generation in force.
    pub generation: u32,
    /// Which start of the process this is.
    pub incarnation: u64,
}

impl Identity {
    /// A header from this process.
    pub fn header(&self, body: Body) -> Header {
        Header {
            job: self.job,
            generation: self.generation,
            incarnation: self.incarnation,
            payload: 0,
            body,
        }
    }
}

/// The error for what a peer may not say: [`io::ErrorKind::InvalidData`].
pub fn refused(why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}
