//! How a connection begins: who opens it and for what, and the proof that both sides belong to the job.
//!
//! | | frame | says |
//! |---|---|---|
//! | 1 | hello, from who opens the connection | role, index, channel, and a random number |
//! | 2 | challenge, from the server | a random number, and a code of all that was said so far |
//! | 3 | proof, from who opens the connection | a code of all that was said so far |
//!
//! The codes are HMACs under the key of the opener's role ([`Key`]), each with a label of its own. Generation
//! and incarnation are in the frames' headers and so in the codes. What was recorded on one connection proves
//! nothing on another, because the random numbers are others; and neither side learns the key from the other.
//! What follows on the connection is neither encrypted nor protected against who can change it on its way.

use std::io;
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use trainyard_contract::Key;
use trainyard_core::control::Role;
use trainyard_core::shard::Held;
use trainyard_core::wire::{Body, Fence, Header, Kind, Limits, encode_control};

use super::address::Address;
use super::connection::Connection;
use super::frame::{read_header, read_payload};
use super::listener::Incoming;
use super::socket::Socket;
use super::until::Until;
use super::{Identity, Timing, refused};

/// Most bytes of a payload here.
const LIMITS: Limits = Limits { control: 16 << 10 };

/// What the codes of the two sides begin with.
const SERVER: &[u8] = b"trainyard: challenge";
const OPENER: &[u8] = b"trainyard: proof";

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

/// Who opens a connection, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// What the connection is for.
    pub channel: Channel,
    /// Who opens it.
    pub role: Role,
}

/// Payload of the first frame.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Opening {
    #[serde(flatten)]
    hello: Hello,
    #[serde(with = "hex")]
    random: [u8; 16],
}

/// Payload of the second frame.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Challenge {
    #[serde(with = "hex")]
    random: [u8; 16],
    #[serde(with = "hex")]
    code: [u8; 32],
}

/// Payload of the third frame.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Proof {
    #[serde(with = "hex")]
    code: [u8; 32],
}

/// A peer that has proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    /// Who it is, and what the connection is for.
    pub hello: Hello,
    /// Which start of its process it is.
    pub incarnation: u64,
}

/// Opens a connection, introduces this process, and proves by the `key` of its role that it belongs to the
/// job. The server proves the same.
///
/// # Errors
/// If no place of `to` accepts in time; [`io::ErrorKind::InvalidData`] if the server has another key.
pub fn connect(
    to: &Address,
    identity: Identity,
    hello: Hello,
    key: &Key,
    timing: &Timing,
) -> io::Result<Connection> {
    let socket = Socket::connect(to, timing.connect)?;
    socket.prepare(timing)?;
    socket.give_up(timing.heartbeat_timeout)?;
    let mut connection = Connection::new(socket);
    let end = Instant::now() + timing.connect;
    let random = random()?;
    let opening = send(
        &mut connection,
        identity,
        Body::Hello { len: 0 },
        &Opening { hello, random },
        end,
    )?;
    let (header, payload) = receive(&mut connection, Kind::Challenge, end).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => io::Error::new(
            error.kind(),
            format!("{to} has closed the connection: it is not ready, or of another version, job or generation"),
        ),
        _ => error,
    })?;
    let challenge: Challenge = parse(&payload)?;
    let said = said(&header);
    let parts = [SERVER, &opening, &said, &challenge.random];
    if !key.verifies(parts, &challenge.code) {
        return Err(refused(format!("{to} has not the key of this job")));
    }
    let code = key.code([OPENER, &opening, &said, &challenge.random]);
    send(
        &mut connection,
        identity,
        Body::Proof { len: 0 },
        &Proof { code },
        end,
    )?;
    connection.reader.set_timeout(None)?;
    connection.writer.set_timeout(None)?;
    connection.writer.give_up(timing.heartbeat_timeout)?;
    Ok(connection)
}

/// Meets who has opened a connection. A peer that takes too long, speaks another protocol, is of another job or
/// an older generation, or does not prove that it has the key of its role is refused, and so is another user of
/// this machine. `key` is the servers'.
///
/// # Errors
/// Of the connection; [`io::ErrorKind::InvalidData`] naming what was refused.
pub fn accept(
    Incoming(mut connection): Incoming,
    ours: Identity,
    key: &Key,
    timing: &Timing,
) -> io::Result<(Connection, Met)> {
    connection.prepare(timing)?;
    let met = meet(&mut connection, ours, key, timing)?;
    connection.reader.set_timeout(None)?;
    connection.writer.set_timeout(None)?;
    // A worker reads no parameters while it computes on the arena that they are for, however long
    // that takes, and the system tells this from a network that is gone as little as we do.
    if !matches!(met.hello.channel, Channel::Pull { .. }) {
        connection.writer.give_up(timing.heartbeat_timeout)?;
    }
    Ok((connection, met))
}

fn meet(
    connection: &mut Connection,
    ours: Identity,
    key: &Key,
    timing: &Timing,
) -> io::Result<Met> {
    let end = Instant::now() + timing.connect;
    let (header, payload) = receive(connection, Kind::Hello, end)?;
    let Opening { hello, .. } = parse(&payload)?;
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
    let key = match hello.role {
        Role::Worker(_) => key.of_role(trainyard_contract::Role::Worker),
        Role::Server(_) | Role::Observer => key.clone(),
    };
    let opening = [&header.encode()[..], &payload].concat();
    let random = random()?;
    let said = said(&ours.header(Body::Bye));
    let code = key.code([SERVER, &opening, &said, &random]);
    let challenge = Challenge { random, code };
    send(
        connection,
        ours,
        Body::Challenge { len: 0 },
        &challenge,
        end,
    )?;
    let (_, payload) = receive(connection, Kind::Proof, end)?;
    let Proof { code } = parse(&payload)?;
    if !key.verifies([OPENER, &opening, &said, &random], &code) {
        let role = hello.role;
        return Err(refused(format!(
            "{role:?} has not proved that it has the key of its role"
        )));
    }
    Ok(Met {
        hello,
        incarnation: header.incarnation,
    })
}

/// Who the server says it is, as it goes into the codes.
fn said(header: &Header) -> [u8; 20] {
    let mut said = [0; 20];
    said[..8].copy_from_slice(&header.job.to_le_bytes());
    said[8..12].copy_from_slice(&header.generation.to_le_bytes());
    said[12..].copy_from_slice(&header.incarnation.to_le_bytes());
    said
}

/// Sends a frame; returns its bytes.
fn send<T: Serialize>(
    connection: &mut Connection,
    identity: Identity,
    body: Body,
    message: &T,
    end: Instant,
) -> io::Result<Vec<u8>> {
    let frame = encode_control(identity.header(body), message).map_err(refused)?;
    io::Write::write_all(&mut Until::new(&mut connection.writer, end), &frame)?;
    Ok(frame)
}

/// Receives the frame that is due.
fn receive(connection: &mut Connection, due: Kind, end: Instant) -> io::Result<(Header, Vec<u8>)> {
    let mut until = Until::new(&mut connection.reader, end);
    let header = read_header(&mut until, &LIMITS)?;
    let kind = header.body.kind();
    if kind != due {
        return Err(refused(format!("a {kind:?} frame where a {due:?} is due")));
    }
    let mut payload = vec![0; header.body.payload_len() as usize];
    read_payload(&mut until, &header, &mut payload)?;
    Ok((header, payload))
}

fn parse<T: DeserializeOwned>(payload: &[u8]) -> io::Result<T> {
    serde_json::from_slice(payload).map_err(refused)
}

fn random() -> io::Result<[u8; 16]> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(random)
}

/// Bytes as hexadecimal digits.
mod hex {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&base16ct::lower::encode_string(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        from: D,
    ) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(from)?;
        let mut bytes = [0; N];
        match base16ct::lower::decode(&text, &mut bytes) {
            Ok(decoded) if decoded.len() == N => Ok(bytes),
            _ => Err(D::Error::custom(format_args!(
                "{N} bytes are due, as hexadecimal digits"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;

    use trainyard_core::wire::HEADER_LEN;

    use super::super::testing::{IDENTITY, key, listeners, workers_key};
    use super::super::{Address, connect};
    use super::*;

    const WORKER: Role = Role::Worker(3);

    fn opening(identity: Identity, channel: Channel, role: Role) -> Vec<u8> {
        let hello = Hello { channel, role };
        let random = [5; 16];
        let header = identity.header(Body::Hello { len: 0 });
        encode_control(header, &Opening { hello, random }).expect("short")
    }

    fn proof(code: [u8; 32]) -> Vec<u8> {
        let header = IDENTITY.header(Body::Proof { len: 0 });
        encode_control(header, &Proof { code }).expect("short")
    }

    /// Opens a connection by hand: sends `sent`, and what `answer` makes of the challenge. Returns that, and whom
    /// the server has met.
    fn by_hand(
        sent: &[u8],
        answer: impl FnOnce(&Challenge) -> Vec<u8> + Send,
    ) -> (Vec<u8>, io::Result<Met>) {
        let [(listener, _), _] = listeners();
        std::thread::scope(|scope| {
            let address = listener.address().to_string();
            let opener = scope.spawn(move || {
                let mut stream = TcpStream::connect(address).expect("a connection");
                stream.write_all(sent).expect("it is read");
                let mut head = [0; HEADER_LEN];
                if stream.read_exact(&mut head).is_err() {
                    return Vec::new();
                }
                let header = Header::decode(&head, &LIMITS).expect("a header");
                let mut payload = vec![0; header.body.payload_len() as usize];
                stream.read_exact(&mut payload).expect("a challenge");
                let answer = answer(&parse(&payload).expect("a challenge"));
                stream.write_all(&answer).expect("it is read");
                // Until the server is done with it.
                let _ = stream.read(&mut [0]);
                answer
            });
            let incoming = listener.accept().expect("a connection");
            let met = accept(incoming, IDENTITY, &key(), &Timing::default());
            let met = met.map(|(_, met)| met);
            (opener.join().expect("no panic"), met)
        })
    }

    /// The proof of `opening`, under a key.
    fn code(key: &Key, opening: &[u8], random: &[u8; 16]) -> [u8; 32] {
        let said = said(&IDENTITY.header(Body::Bye));
        key.code([OPENER, opening, &said, random])
    }

    #[test]
    fn t13_who_has_the_key_of_its_role_is_met() {
        for (role, key) in [
            (WORKER, workers_key()),
            (Role::Server(1), key()),
            (Role::Observer, key()),
        ] {
            let opening = opening(IDENTITY, Channel::Control, role);
            let prove = |challenge: &Challenge| proof(code(&key, &opening, &challenge.random));
            let (_, met) = by_hand(&opening, prove);
            let met = met.expect("it belongs to the job");
            assert_eq!(
                (met.hello.role, met.incarnation),
                (role, IDENTITY.incarnation)
            );
        }
    }

    #[test]
    fn t13_who_has_another_key_or_that_of_workers_is_refused() {
        let stranger = Key::of_servers([8; Key::BYTES]);
        for (role, key) in [
            (WORKER, stranger.clone()),
            (WORKER, key()),
            (Role::Server(0), stranger.clone()),
            (Role::Observer, stranger),
            (Role::Server(0), workers_key()),
            (Role::Observer, workers_key()),
        ] {
            let opening = opening(IDENTITY, Channel::Control, role);
            let prove = |challenge: &Challenge| proof(code(&key, &opening, &challenge.random));
            let error = by_hand(&opening, prove).1.expect_err("it is a stranger");
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
            assert!(error.to_string().contains("has not proved"), "{error}");
        }
    }

    /// Role, index, channel, generation and incarnation are in the proof.
    #[test]
    fn t13_a_proof_is_of_what_was_said() {
        let other = |generation, incarnation| Identity {
            generation,
            incarnation,
            ..IDENTITY
        };
        let proved = opening(IDENTITY, Channel::Control, WORKER);
        for said in [
            opening(IDENTITY, Channel::Control, Role::Worker(4)),
            opening(IDENTITY, Channel::Push, WORKER),
            opening(other(2, 1), Channel::Control, WORKER),
            opening(other(1, 2), Channel::Control, WORKER),
        ] {
            let prove =
                |challenge: &Challenge| proof(code(&workers_key(), &proved, &challenge.random));
            by_hand(&said, prove)
                .1
                .expect_err("it has said something else");
        }
        let prove = |challenge: &Challenge| proof(code(&workers_key(), &proved, &challenge.random));
        by_hand(&proved, prove).1.expect("as it was said");
    }

    #[test]
    fn t13_what_was_recorded_proves_nothing_later() {
        let opening = opening(IDENTITY, Channel::Control, WORKER);
        let prove =
            |challenge: &Challenge| proof(code(&workers_key(), &opening, &challenge.random));
        let (recorded, met) = by_hand(&opening, prove);
        met.expect("it belongs to the job");
        let (_, met) = by_hand(&opening, |_| recorded);
        met.expect_err("it has only listened");
        // Nor does what the server itself has said.
        let (_, met) = by_hand(&opening, |challenge| proof(challenge.code));
        met.expect_err("it has only listened");
    }

    #[test]
    fn t13_a_server_with_another_key_is_not_believed() {
        let [(listener, _), _] = listeners();
        let timing = Timing::default();
        let to: Address = listener.address().clone();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let stranger = Key::of_servers([8; Key::BYTES]);
                let incoming = listener.accept().expect("a connection");
                accept(incoming, IDENTITY, &stranger, &timing).expect_err("they do not agree");
            });
            let hello = Hello {
                channel: Channel::Push,
                role: WORKER,
            };
            let error = connect(&to, IDENTITY, hello, &workers_key(), &timing);
            let error = error.expect_err("it is a stranger");
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert!(error.to_string().contains("has not the key"), "{error}");
        });
    }
}
