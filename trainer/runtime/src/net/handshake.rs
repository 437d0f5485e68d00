//! The first frame of a connection: what it is for, and who opens it.

use std::io::{self, Read};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use trainyard_core::control::Role;
use trainyard_core::shard::Held;
use trainyard_core::wire::{Body, Fence, Limits};

use super::address::Address;
use super::connection::Connection;
use super::frame::{read_header, write_frame};
use super::listener::Incoming;
use super::socket::Socket;
use super::until::Until;
use super::{Identity, Timing, refused};

/// Most bytes of a hello.
const HELLO_BYTES: u32 = 16 << 10;

/// What a connection is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Channel {
    /// Messages to and from the coordinator.
    Control,
    /// Gradients, worker to server.
    Push,
    /// Parameters, server to worker: chunks `c` with `c % of == index`.
    Pull {
        /// Which of the parallel connections.
        index: u32,
        /// How many there are.
        of: u32,
        /// What the worker holds of these chunks.
        #[serde(default, skip_serializing_if = "Held::is_empty")]
        held: Held,
    },
}

/// Payload of the first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// What the connection is for.
    pub channel: Channel,
    /// Who opens it.
    pub role: Role,
}

/// Opens a connection and introduces this process.
///
/// # Errors
/// If no place of `to` accepts in time.
pub fn connect(
    to: &Address,
    identity: Identity,
    hello: Hello,
    timing: &Timing,
) -> io::Result<Connection> {
    let socket = Socket::connect(to, timing.connect)?;
    socket.prepare(timing)?;
    socket.give_up(timing.heartbeat_timeout)?;
    let mut connection = Connection::new(socket);
    let payload = serde_json::to_vec(&hello)?;
    let header = identity.header(Body::Hello {
        len: payload.len() as u32,
    });
    write_frame(&mut connection.writer, &header, &payload)?;
    Ok(connection)
}

/// Reads the first frame of a connection. A peer that takes too long, speaks another protocol, or is
/// of another job or an older generation is refused, and so is another user of this machine.
///
/// # Errors
/// Of the connection; [`io::ErrorKind::InvalidData`] naming what was refused.
pub fn accept(
    Incoming(socket): Incoming,
    ours: Identity,
    timing: &Timing,
) -> io::Result<(Connection, Hello)> {
    socket.prepare(timing)?;
    let mut connection = Connection::new(socket);
    let hello = introduction(&mut connection, ours, timing)?;
    connection.reader.set_timeout(None)?;
    // A worker reads no parameters while it computes on the arena that they are for, however long
    // that takes, and the system tells this from a network that is gone as little as we do.
    if !matches!(hello.channel, Channel::Pull { .. }) {
        connection.writer.give_up(timing.heartbeat_timeout)?;
    }
    Ok((connection, hello))
}

fn introduction(connection: &mut Connection, ours: Identity, timing: &Timing) -> io::Result<Hello> {
    let end = Instant::now() + timing.connect;
    let mut until = Until::new(&mut connection.reader, end);
    let limits = Limits {
        control: HELLO_BYTES,
    };
    let header = read_header(&mut until, &limits)?;
    let Body::Hello { len } = header.body else {
        return Err(refused("the first frame is no hello"));
    };
    let mut payload = vec![0; len as usize];
    until.read_exact(&mut payload)?;
    let hello: Hello = serde_json::from_slice(&payload).map_err(refused)?;
    let fence = header.fence(ours.job, ours.generation);
    // A newer generation on a control stream is news for the coordinator, an older one is told so.
    let allowed = matches!(
        (&hello.channel, fence),
        (_, Fence::Current) | (Channel::Control, Fence::Newer | Fence::Older)
    );
    if !allowed {
        let Hello { role, channel } = &hello;
        let error = refused(format!(
            "a connection of {fence:?} origin: {role:?} {channel:?}"
        ));
        // Whoever has not heard yet of a newer generation is no stranger.
        return Err(match fence {
            Fence::Older => io::Error::new(io::ErrorKind::ConnectionRefused, error),
            _ => error,
        });
    }
    Ok(hello)
}
