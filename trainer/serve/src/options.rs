//! How a server is set up. Each default is in `docs/serving.md`.

use std::net::SocketAddr;
use std::time::Duration;

use trainyard_runtime::storage::Location;

use crate::protocol;

/// An artifact, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The name, if it is not that of the job.
    pub name: Option<String>,
    /// Where it is.
    pub place: Location,
}

/// What a server serves, where and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The artifacts. Several of one name are its versions 1, 2, and so on.
    pub sources: Vec<Source>,
    /// Where HTTP is served, if it is.
    pub http: Option<SocketAddr>,
    /// Where gRPC is served, if it is.
    pub grpc: Option<SocketAddr>,
    /// Threads that compute, and threads that read and write.
    pub threads: usize,
    /// What a request may have.
    pub limits: Limits,
    /// What a connection may do.
    pub connections: Connections,
    /// How it ends.
    pub ending: Ending,
}

/// What requests may have.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the body of a request, after decompression.
    pub body_bytes: usize,
    /// Bytes of the bodies of all requests that are read at once.
    pub bodies_bytes: usize,
    /// Rows of a request.
    pub rows: usize,
    /// Rows that are computed together.
    pub batch_rows: usize,
    /// How long a row waits for others.
    pub batch_delay: Duration,
    /// Rows that may wait.
    pub queue_rows: usize,
    /// Bytes of inputs that may wait.
    pub queue_bytes: usize,
    /// How long a request may wait.
    pub queue_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 16 << 20,
            bodies_bytes: 256 << 20,
            rows: 16_384,
            batch_rows: 48,
            batch_delay: Duration::ZERO,
            queue_rows: 65_536,
            queue_bytes: 256 << 20,
            queue_wait: Duration::from_millis(500),
        }
    }
}

impl Limits {
    /// What a request of the protocol may hold.
    pub fn protocol(&self) -> protocol::Limits {
        protocol::Limits {
            body_bytes: self.body_bytes,
            ..protocol::Limits::default()
        }
    }
}

/// What connections may do.
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    /// Connections that are open at once. Others wait to be accepted.
    pub most: usize,
    /// The oldest age of a connection, give or take a tenth.
    pub age: Duration,
    /// The most requests of a connection, give or take a tenth.
    pub requests: u32,
    /// How long a connection may be idle.
    pub idle: Duration,
    /// How long a client may take to send a part of a request, or to read a part of an answer.
    pub patience: Duration,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            most: 4096,
            age: Duration::from_secs(600),
            requests: 100_000,
            idle: Duration::from_secs(300),
            patience: Duration::from_secs(30),
        }
    }
}

/// How a server ends.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// How long it serves on after SIGTERM, not ready.
    pub drain: Duration,
    /// When it ends at the latest, counted from SIGTERM.
    pub grace: Duration,
}

impl Default for Ending {
    fn default() -> Self {
        Self {
            drain: Duration::from_secs(5),
            grace: Duration::from_secs(25),
        }
    }
}
