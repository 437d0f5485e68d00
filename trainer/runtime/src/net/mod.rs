//! Connections: framing over a byte stream, the first frame, and the control stream.
//!
//! One port of a server takes every connection of the protocol; the first frame says what it is
//! for. Bulk connections carry data one way, so that no two full socket buffers ever face each
//! other. Everything above works on `Read + Write`, so that another transport can take TCP's place.

mod control;
mod search;
mod until;

pub use control::{ControlReceiver, ControlSender};
pub use search::Search;
use until::Until;

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use serde::{Deserialize, Serialize};
use trainyard_core::control::Role;
use trainyard_core::wire::{Body, Fence, HEADER_LEN, Header, Limits};

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
            body,
        }
    }
}

/// What a connection is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    },
}

/// Payload of the first frame of a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// What the connection is for.
    pub channel: Channel,
    /// Who opens it.
    pub role: Role,
}

/// Repeats a system call that a signal has interrupted.
///
/// Calls on a socket with a timeout are not
/// restarted by the system when a process that was stopped goes on, whatever its handlers (signal(7)).
///
/// # Errors
/// Those of the call, but for the interruption.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn refused(why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

/// Reads and checks a header.
///
/// # Errors
/// Of the stream; [`io::ErrorKind::InvalidData`] for bytes that are no header.
pub fn read_header(stream: &mut impl Read, limits: &Limits) -> io::Result<Header> {
    let mut bytes = [0; HEADER_LEN];
    stream.read_exact(&mut bytes)?;
    Header::decode(&bytes, limits).map_err(refused)
}

/// Writes a header and its payload with as few system calls as the stream allows.
///
/// # Errors
/// Of the stream.
pub fn write_frame(stream: &mut impl Write, header: &Header, payload: &[u8]) -> io::Result<()> {
    let head = header.encode();
    let total = head.len() + payload.len();
    let mut sent = 0;
    while sent < total {
        let written = uninterrupted(|| match sent < head.len() {
            true => stream.write_vectored(&[IoSlice::new(&head[sent..]), IoSlice::new(payload)]),
            false => stream.write(&payload[sent - head.len()..]),
        });
        match written? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => sent += n,
        }
    }
    Ok(())
}

/// Opens a connection and introduces this process.
///
/// # Errors
/// If no address of `to` accepts in time.
pub fn connect(
    to: &str,
    identity: Identity,
    hello: Hello,
    timing: &Timing,
) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    for address in search::resolve(to, timing.connect)? {
        match TcpStream::connect_timeout(&address, timing.connect) {
            Ok(mut stream) => {
                prepare(&stream, timing)?;
                give_up(&stream, timing.heartbeat_timeout)?;
                let payload = serde_json::to_vec(&hello)?;
                let header = identity.header(Body::Hello {
                    len: payload.len() as u32,
                });
                write_frame(&mut stream, &header, &payload)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(io::Error::new(
        last.kind(),
        format!("cannot connect to {to}: {last}"),
    ))
}

/// Small frames leave at once, and a host that has vanished is noticed although nobody writes: on
/// a bulk connection one side only ever reads.
fn prepare(stream: &TcpStream, timing: &Timing) -> io::Result<()> {
    let silence = timing.heartbeat_timeout.as_secs(); // the system counts in seconds
    let part = |n: u64| Duration::from_secs((silence / n).max(1));
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, part(2))?;
    sockopt::set_tcp_keepintvl(stream, part(6))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    Ok(())
}

/// Bounds how long what was written may stay unacknowledged, which would otherwise be the system's
/// quarter of an hour.
fn give_up(stream: &TcpStream, after: Duration) -> io::Result<()> {
    let milliseconds = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
    Ok(sockopt::set_tcp_user_timeout(stream, milliseconds.max(1))?)
}

/// Reads the first frame of an accepted connection. Whoever takes too long, speaks another
/// protocol, or is of another job or an older generation is refused.
///
/// # Errors
/// Of the stream; [`io::ErrorKind::InvalidData`] naming what was refused.
pub fn accept(stream: &TcpStream, ours: Identity, timing: &Timing) -> io::Result<(Hello, Header)> {
    prepare(stream, timing)?;
    let mut until = Until::new(stream, Instant::now() + timing.connect);
    let header = read_header(&mut until, &Limits { control: 4096 })?;
    let Body::Hello { len } = header.body else {
        return Err(refused("the first frame is no hello"));
    };
    let mut payload = vec![0; len as usize];
    until.read_exact(&mut payload)?;
    let hello: Hello = serde_json::from_slice(&payload).map_err(refused)?;
    let fence = header.fence(ours.job, ours.generation);
    // A newer generation on a control stream is news for the coordinator, an older one is told so.
    let allowed = matches!(
        (hello.channel, fence),
        (_, Fence::Current) | (Channel::Control, Fence::Newer | Fence::Older)
    );
    if !allowed {
        return Err(refused(format!(
            "a connection of {fence:?} origin: {:?} {:?}",
            hello.role, hello.channel
        )));
    }
    stream.set_read_timeout(None)?;
    // A worker reads no parameters while it computes on the arena that they are for, however long
    // that takes, and the system tells this from a network that is gone as little as we do.
    if !matches!(hello.channel, Channel::Pull { .. }) {
        give_up(stream, timing.heartbeat_timeout)?;
    }
    Ok((hello, header))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Each byte comes in time, the last of them does not.
    #[test]
    fn t13_an_introduction_that_trickles_is_given_up() {
        let identity = Identity {
            job: 1,
            generation: 1,
            incarnation: 1,
        };
        let hello = Hello {
            channel: Channel::Push,
            role: Role::Worker(0),
        };
        let payload = serde_json::to_vec(&hello).expect("JSON");
        let len = payload.len() as u32;
        let introduction = [
            identity.header(Body::Hello { len }).encode().to_vec(),
            payload,
        ]
        .concat();
        let accepted = |pause: Duration, connect: Duration| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let address = listener.local_addr().expect("an address");
            let timing = Timing {
                connect,
                ..Timing::default()
            };
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut stream = TcpStream::connect(address).expect("a connection");
                    for byte in &introduction {
                        // It may have been given up.
                        let _ = stream.write_all(&[*byte]);
                        std::thread::sleep(pause);
                    }
                });
                let (stream, _) = listener.accept().expect("a connection");
                accept(&stream, identity, &timing)
            })
        };
        let (met, _) = accepted(Duration::ZERO, Duration::from_secs(60)).expect("it is in time");
        assert_eq!(met, hello);
        let error = accepted(Duration::from_millis(5), Duration::from_millis(100));
        let error = error.expect_err("it is late").kind();
        let late = [io::ErrorKind::TimedOut, io::ErrorKind::WouldBlock];
        assert!(late.contains(&error), "{error}");
    }

    /// Both ends of a connection introduced as `channel`.
    fn pair(channel: Channel, timing: &Timing) -> (TcpStream, TcpStream) {
        let identity = Identity {
            job: 1,
            generation: 1,
            incarnation: 1,
        };
        let role = Role::Worker(0);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let ours = connect(&address, identity, Hello { channel, role }, timing).expect("connected");
        let (theirs, _) = listener.accept().expect("a connection");
        accept(&theirs, identity, timing).expect("introduced");
        (ours, theirs)
    }

    /// A partition cannot be made here without privileges; that the system is told to notice one
    /// can be seen.
    #[test]
    fn t22_a_vanished_peer_is_noticed_about_as_soon_as_a_silent_one() {
        let timing = Timing {
            heartbeat_timeout: Duration::from_secs(7),
            ..Timing::default()
        };
        let pull = Channel::Pull { index: 0, of: 1 };
        for channel in [Channel::Control, Channel::Push, pull] {
            let (ours, theirs) = pair(channel, &timing);
            for stream in [&ours, &theirs] {
                assert!(sockopt::socket_keepalive(stream).expect("an option"));
                let (idle, every, count) = (
                    sockopt::tcp_keepidle(stream).expect("an option"),
                    sockopt::tcp_keepintvl(stream).expect("an option"),
                    sockopt::tcp_keepcnt(stream).expect("an option"),
                );
                let noticed = idle + every * count;
                assert!(noticed <= timing.heartbeat_timeout, "{noticed:?}");
            }
            let patience = |stream| sockopt::tcp_user_timeout(stream).expect("an option");
            assert_eq!(patience(&ours), 7000);
            // Who computes may leave parameters unread.
            let expected = if channel == pull { 0 } else { 7000 };
            assert_eq!(patience(&theirs), expected, "{channel:?}");
        }
    }
}
