//! Who takes part in a job: its servers, its workers and its finisher.

use std::fmt;
use std::iter::successors;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a process does in a job.
///
/// Match on it exhaustively, without `_`: then the compiler names every place that a new role concerns.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Holds parameters.
    Server,
    /// Computes gradients.
    Worker,
    /// Exports the artifact when training is complete.
    Finisher,
}

impl Role {
    /// All roles, in their order.
    pub fn all() -> impl Iterator<Item = Role> {
        // A match rather than a list: a role that is added cannot be forgotten here.
        successors(Some(Role::Server), |role| match role {
            Role::Server => Some(Role::Worker),
            Role::Worker => Some(Role::Finisher),
            Role::Finisher => None,
        })
    }

    /// The role in command lines, names and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Server => "server",
            Role::Worker => "worker",
            Role::Finisher => "finisher",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = NotAMember;

    fn from_str(text: &str) -> Result<Self, NotAMember> {
        let role = Role::all().find(|role| role.name() == text);
        role.ok_or_else(|| NotAMember(text.into()))
    }
}

/// A member of a job, by role and index: `server-0`, `worker-3`. It stays the same when its process or pod is replaced.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Its role.
    pub role: Role,
    /// Its index in the role, from 0.
    pub index: u32,
}

impl Member {
    /// Server 0, which hosts the coordinator.
    pub const COORDINATOR: Member = Member::server(0);
    /// The finisher: a job has one.
    pub const FINISHER: Member = Member {
        role: Role::Finisher,
        index: 0,
    };

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

    /// As users are told of it in sentences: `server 0`.
    pub fn in_words(self) -> String {
        format!("{} {}", self.role, self.index)
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.role, self.index)
    }
}

impl FromStr for Member {
    type Err = NotAMember;

    /// Reads exactly what `Display` writes.
    fn from_str(text: &str) -> Result<Self, NotAMember> {
        let error = || NotAMember(text.into());
        let (role, index) = text.split_once('-').ok_or_else(error)?;
        let role = role.parse().map_err(|_| error())?;
        let index = index.parse().map_err(|_| error())?;
        let member = Member { role, index };
        // `parse` takes `+1` and `01` for numbers too.
        (member.to_string() == text)
            .then_some(member)
            .ok_or_else(error)
    }
}

/// A text that names no role or member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAMember(String);

impl fmt::Display for NotAMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotAMember(text) = self;
        write!(
            f,
            "{text:?} names nobody in a job; names are such as server-0 and worker-3"
        )
    }
}

impl std::error::Error for NotAMember {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_named_by_role_and_index() {
        assert_eq!(Member::server(0).to_string(), "server-0");
        assert_eq!(Member::worker(13).to_string(), "worker-13");
        assert_eq!("worker-3".parse(), Ok(Member::worker(3)));
        assert_eq!("server-0".parse(), Ok(Member::COORDINATOR));
        assert_eq!(Member::FINISHER.to_string(), "finisher-0");
    }

    #[test]
    fn every_member_is_read_as_it_was_written() {
        for role in Role::all() {
            assert_eq!(role.name().parse(), Ok(role));
            for index in [0, 7, u32::MAX] {
                let member = Member { role, index };
                assert_eq!(member.to_string().parse(), Ok(member));
            }
        }
        assert_eq!(
            Role::all().collect::<Vec<_>>(),
            [Role::Server, Role::Worker, Role::Finisher]
        );
    }

    #[test]
    fn nothing_else_names_a_member() {
        let wrong = [
            "",
            "server",
            "server-",
            "-0",
            "server-01",
            "server-+1",
            "server--1",
            "Server-0",
            "server-0-0",
            "worker-4294967296",
            " worker-1",
            "observer-0",
        ];
        for text in wrong {
            let error = text.parse::<Member>().expect_err(text);
            assert!(error.to_string().contains("server-0"), "{error}");
        }
    }

    /// As `run.json` lists processes.
    #[test]
    fn a_member_is_role_and_index_in_json() {
        let text = serde_json::to_string(&Member::worker(1)).expect("JSON");
        assert_eq!(text, r#"{"role":"worker","index":1}"#);
    }
}
