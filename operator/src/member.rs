//! Who takes part in a job: its servers and workers.

use std::fmt;

/// A role of a job's pods.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Holds parameters.
    Server,
    /// Computes gradients.
    Worker,
}

impl Role {
    /// The role in names and labels.
    pub fn name(self) -> &'static str {
        match self {
            Role::Server => "server",
            Role::Worker => "worker",
        }
    }
}

/// A server or worker, whichever pod it runs in.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Its role.
    pub role: Role,
    /// Its index in the role, from 0.
    pub index: u32,
}

impl Member {
    /// Server 0, which hosts the coordinator.
    pub const COORDINATOR: Member = Member::server(0);

    /// A server.
    pub const fn server(index: u32) -> Self {
        let role = Role::Server;
        Member { role, index }
    }

    /// A worker.
    pub const fn worker(index: u32) -> Self {
        let role = Role::Worker;
        Member { role, index }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.role.name(), self.index)
    }
}
