//! A stranger on the wire: what does not come from the program's own processes.

use std::io;
use std::net::TcpStream;

use trainyard::net::{Channel, Hello, Identity, Timing, connect};
use trainyard_core::control::Role;
use trainyard_core::wire::{Body, Header};

use super::{Roster, Spec};

/// An identity that the servers of a run take for one of theirs.
pub fn identity(spec: &Spec, roster: &Roster) -> Identity {
    let job = trainyard::run::read_job(&spec.file, &spec.sets).expect("a good manifest");
    let generation = roster.0["generation"].as_u64().expect("a generation") as u32;
    Identity {
        job: job.id,
        generation,
        incarnation: 0xdead_beef,
    }
}

/// A connection that is introduced as a worker's.
pub fn introduced(roster: &Roster, identity: Identity, channel: Channel) -> io::Result<TcpStream> {
    let hello = Hello {
        channel,
        role: Role::Worker(99),
    };
    connect(&roster.coordinator(), identity, hello, &Timing::default())
}

/// A frame's header.
pub fn header(identity: Identity, body: Body) -> [u8; 64] {
    let Identity {
        job,
        generation,
        incarnation,
    } = identity;
    Header {
        job,
        generation,
        incarnation,
        body,
    }
    .encode()
}
