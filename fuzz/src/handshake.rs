//! The first frames of a connection, as whoever accepts it reads them, and as whoever has opened it.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use tempfile::TempDir;
use trainyard_contract::Key;
use trainyard_core::control::Role;
use trainyard_runtime::net::{
    Address, Channel, Hello, Identity, Listener, Timing, accept, connect,
};

use crate::frames::mended;

const IDENTITY: Identity = Identity {
    job: 1,
    generation: 1,
    incarnation: 1,
};

/// Says the input to both sides of a handshake, as it is and with checksums that match.
pub fn run(input: &[u8]) -> bool {
    thread_local!(static DOORS: Doors = Doors::new());
    DOORS.with(|doors| {
        let said = [
            doors.to_server(input),
            doors.to_opener(input),
            doors.to_server(&mended(input)),
            doors.to_opener(&mended(input)),
        ];
        // All frames were understood, and the code in the last of them is wrong.
        let heard = |why: &String| why.contains("not proved") || why.contains("not the key");
        said.iter().any(heard)
    })
}

/// Where connections are made, in a folder that lasts as long as its thread.
struct Doors {
    /// Of a server of ours.
    listener: Listener,
    path: PathBuf,
    /// Of a server that says the input.
    stranger: UnixListener,
    stranger_at: Address,
    key: Key,
    timing: Timing,
    _folder: TempDir,
}

impl Doors {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ours");
        let address = Address::unix(&path).expect("a short path");
        let theirs = folder.path().join("theirs");
        Doors {
            listener: Listener::bind(&address).expect("a new path"),
            stranger: UnixListener::bind(&theirs).expect("a new path"),
            stranger_at: Address::unix(&theirs).expect("a short path"),
            path,
            key: Key::of_servers([7; Key::BYTES]),
            timing: Timing::default(),
            _folder: folder,
        }
    }

    /// Why it is refused.
    fn to_server(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.path).expect("it listens");
        say(&mut stream, bytes);
        let incoming = self.listener.accept().expect("a connection");
        let met = accept(incoming, IDENTITY, &self.key, &self.timing);
        // Its challenge holds a random number, which no input knows.
        met.expect_err("nobody has proved anything").to_string()
    }

    /// Why it is refused.
    fn to_opener(&self, bytes: &[u8]) -> String {
        let hello = Hello {
            channel: Channel::Control,
            role: Role::Worker(0),
        };
        std::thread::scope(|scope| {
            let server = scope.spawn(|| {
                let (mut stream, _) = self.stranger.accept().expect("a connection");
                say(&mut stream, bytes);
                stream // Closed now, what was said might not be read.
            });
            let met = connect(&self.stranger_at, IDENTITY, hello, &self.key, &self.timing);
            drop(server.join());
            met.expect_err("nobody has proved anything").to_string()
        })
    }
}

/// All of an input, and the end. Whoever has read enough may have closed the connection.
fn say(stream: &mut UnixStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
}
