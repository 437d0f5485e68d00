//! Strangers, some of each kind in every round.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use trainyard_core::wire::Body;
use trainyard_runtime::net::Identity;

use crate::common::process::doors;
use crate::common::wire::{frame, identity};
use crate::common::{Roster, Spec};

/// How long a stranger waits at a door that does not open.
const PATIENCE: Duration = Duration::from_secs(1);

/// What one of them does with its connection.
#[derive(Copy, Clone, Debug)]
enum Habit {
    /// Says nothing.
    Silent,
    /// Says what is no frame.
    Garbage,
    /// Says hello, and does not go on when it is challenged.
    Hello,
    /// Says half a hello.
    HalfHello,
    /// Proves nothing, and goes on with pushes.
    Flood,
    /// Sends an HTTP request where there is no HTTP.
    Lost,
    /// Leaves at once.
    Leaving,
}

const HABITS: [Habit; 7] = [
    Habit::Silent,
    Habit::Garbage,
    Habit::Hello,
    Habit::HalfHello,
    Habit::Flood,
    Habit::Lost,
    Habit::Leaving,
];

/// How many of each kind call at each door of the protocol in a round.
const OF_EACH: usize = 2;

/// How many call where HTTP is served, and say nothing or half a request.
const AT_HTTP: usize = 4;

/// Those that have called, and their connections.
pub struct Strangers {
    spec: Spec,
    called: usize,
    open: Vec<TcpStream>,
}

impl Strangers {
    /// Nobody yet. They know the job of `spec`.
    pub fn new(spec: &Spec) -> Self {
        let (spec, open) = (spec.clone(), Vec::new());
        let called = 0;
        Strangers { spec, called, open }
    }

    /// Some of each kind call at every door.
    pub fn call(&mut self, roster: &Roster) {
        let ours = identity(&self.spec, roster);
        let http = roster.http();
        let servers = roster.of("server").into_iter();
        let doors: BTreeSet<String> = servers.flat_map(|(_, pid)| doors(pid)).collect();
        for door in doors.iter().filter(|door| **door != http) {
            for habit in HABITS.iter().cycle().take(OF_EACH * HABITS.len()) {
                self.at(door, |stream| behave(*habit, stream, ours));
            }
        }
        for said in [&b""[..], b"GET /status HTTP/1.1\r\nHost: "]
            .iter()
            .cycle()
            .take(AT_HTTP)
        {
            self.at(&http, |stream| stream.write_all(said));
        }
        self.open.retain(is_open);
    }

    fn at(&mut self, door: &str, behave: impl FnOnce(&mut TcpStream) -> std::io::Result<()>) {
        let Ok(address) = door.parse() else { return };
        let Ok(mut stream) = TcpStream::connect_timeout(&address, PATIENCE) else {
            return;
        };
        self.called += 1;
        let _ = stream.set_write_timeout(Some(PATIENCE));
        let _ = behave(&mut stream); // whoever is shown out cannot go on
        self.open.push(stream);
    }

    /// How many have called, and how many of them nobody has shown out.
    pub fn count(&mut self) -> (usize, usize) {
        self.open.retain(is_open);
        (self.called, self.open.len())
    }
}

fn behave(habit: Habit, stream: &mut TcpStream, ours: Identity) -> std::io::Result<()> {
    let text = r#"{"channel":"control","role":{"kind":"worker","index":3},"random":"000102030405060708090a0b0c0d0e0f"}"#;
    let len = text.len() as u32;
    let hello = frame(ours, Body::Hello { len }, text.as_bytes());
    match habit {
        Habit::Silent => Ok(()),
        Habit::Garbage => stream.write_all(&[0xa5; 1 << 16]),
        Habit::Hello => stream.write_all(&hello),
        Habit::HalfHello => stream.write_all(&hello[..hello.len() / 2]),
        Habit::Flood => {
            stream.write_all(&hello)?;
            let len = 1 << 10;
            let push = frame(ours, Body::Control { len }, &[b' '; 1 << 10]);
            (0..1024).try_for_each(|_| stream.write_all(&push))
        }
        Habit::Lost => stream.write_all(b"GET / HTTP/1.1\r\nHost: trainyard\r\n\r\n"),
        Habit::Leaving => stream.shutdown(std::net::Shutdown::Both),
    }
}

/// Whether the other side has not ended a connection yet.
fn is_open(stream: &TcpStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return false;
    }
    let mut said = [0; 4096];
    loop {
        match (&*stream).read(&mut said) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}
