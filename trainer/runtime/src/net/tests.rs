//! Connections of both kinds, and what ends them.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{self, Timeout};
use trainyard_core::control::Role;
use trainyard_core::wire::{Body, encode_control};

use super::address::Kind;
use super::socket::Socket;
use super::testing::{IDENTITY, key, listeners, pair, pull};
use super::until::Until;
use super::*;

fn channels() -> [Channel; 3] {
    [Channel::Control, Channel::Push, pull()]
}

/// Both ends of a connection of each kind.
fn pairs(channel: Channel, timing: &Timing) -> [(Connection, Connection); 2] {
    listeners().map(|(listener, _folder)| pair(&listener, channel.clone(), timing))
}

/// A stream that has said nothing.
fn stranger(listener: &Listener) -> Box<dyn Write + Send> {
    match &listener.address().0 {
        Kind::Tcp(address) => {
            Box::new(std::net::TcpStream::connect(address).expect("a connection"))
        }
        Kind::Unix(path) => Box::new(UnixStream::connect(path).expect("a connection")),
    }
}

/// Each byte comes in time, the last of them does not.
#[test]
fn t13_an_introduction_that_trickles_is_given_up() {
    let hello = Hello {
        channel: Channel::Push,
        role: Role::Worker(0),
    };
    let header = IDENTITY.header(Body::Hello { len: 0 });
    let introduction = encode_control(header, &hello).expect("short");
    let timing = Timing {
        connect: Duration::from_millis(100),
        ..Timing::default()
    };
    for (listener, _folder) in listeners() {
        let mut stream = stranger(&listener);
        let error = std::thread::scope(|scope| {
            scope.spawn(|| {
                for byte in &introduction {
                    // It may have been given up.
                    let _ = stream.write_all(&[*byte]);
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            let incoming = listener.accept().expect("a connection");
            accept(incoming, IDENTITY, &key(), &timing).expect_err("it is late")
        });
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    }
}

/// A byte at a time, each of them in time, until nobody listens: the whole is not.
#[test]
fn t13_what_trickles_is_given_up() {
    for (mut ours, theirs) in pairs(Channel::Control, &Timing::default()) {
        let mut writer = theirs.writer;
        let trickling = std::thread::spawn(move || {
            while writer.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let end = Instant::now() + Duration::from_millis(100);
        let mut until = Until::new(&mut ours.reader, end);
        let error = until.read_exact(&mut [0; 1 << 20]).expect_err("too slow");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        ours.closer.close();
        trickling.join().expect("no panic");
    }
}

/// A partition cannot be made here without privileges; that the system is told to notice one
/// can be seen.
#[test]
fn t22_a_vanished_host_is_noticed_about_as_soon_as_a_silent_one() {
    let timing = Timing {
        heartbeat_timeout: Duration::from_secs(7),
        ..Timing::default()
    };
    let [(tcp, _), _] = listeners();
    for channel in channels() {
        let (ours, theirs) = pair(&tcp, channel.clone(), &timing);
        let sockets = [&ours, &theirs].map(|connection| connection.reader.0.fd());
        for socket in sockets {
            assert!(sockopt::tcp_nodelay(socket).expect("an option"));
            assert!(sockopt::socket_keepalive(socket).expect("an option"));
            let (idle, every, count) = (
                sockopt::tcp_keepidle(socket).expect("an option"),
                sockopt::tcp_keepintvl(socket).expect("an option"),
                sockopt::tcp_keepcnt(socket).expect("an option"),
            );
            let noticed = idle + every * count;
            assert!(noticed <= timing.heartbeat_timeout, "{noticed:?}");
            // What waits for acknowledgement is bounded elsewhere.
            let timeout = sockopt::socket_timeout(socket, Timeout::Send);
            assert_eq!(timeout.expect("an option"), None);
        }
        let patience = sockets.map(|socket| sockopt::tcp_user_timeout(socket).expect("an option"));
        // Who computes may leave parameters unread.
        let pull = matches!(channel, Channel::Pull { .. });
        assert_eq!(patience, [7000, if pull { 0 } else { 7000 }], "{channel:?}");
    }
}

/// Writes until it fails.
fn fill(writer: &mut WriteHalf) -> io::Error {
    loop {
        if let Err(error) = writer.write_all(&[0; 1 << 16]) {
            return error;
        }
    }
}

/// A process that hangs reads nothing. Over a Unix socket nothing but a write's own timeout ends it.
#[test]
fn t22_what_a_hung_process_does_not_read_is_given_up() {
    let timing = Timing {
        heartbeat_timeout: Duration::from_millis(200),
        ..Timing::default()
    };
    let [_, (unix, _folder)] = listeners();
    for channel in channels() {
        let (mut ours, mut theirs) = pair(&unix, channel.clone(), &timing);
        let begin = Instant::now();
        let error = fill(&mut ours.writer);
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{channel:?}: {error}");
        // The system counts such a time in ticks of its clock, which can lag: it may end a little early.
        assert!(begin.elapsed() >= timing.heartbeat_timeout / 2);
        if !matches!(channel, Channel::Pull { .. }) {
            let error = fill(&mut theirs.writer);
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{channel:?}: {error}");
            continue;
        }
        // A worker that computes is no worker that hangs: its parameters wait until it is closed.
        let socket = theirs.writer.0.fd();
        let timeout = sockopt::socket_timeout(socket, Timeout::Send);
        assert_eq!(timeout.expect("an option"), None);
        let waiting = std::thread::spawn(move || fill(&mut theirs.writer));
        theirs.closer.close();
        let error = waiting.join().expect("no panic");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
    }
}

/// The system closes what a process had open when it ends, however it ends.
#[test]
fn t22_a_process_that_is_gone_is_noticed_at_once() {
    for channel in channels() {
        for (mut ours, theirs) in pairs(channel, &Timing::default()) {
            let closer = ours.closer.clone();
            let watching = std::thread::spawn(move || closer.wait_for_end());
            let mut writer = ours.writer;
            let writing = std::thread::spawn(move || fill(&mut writer));
            drop(theirs);
            let error = writing.join().expect("no panic").kind();
            let broken = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
            assert!(broken.contains(&error), "{error}");
            // What was on its way may have been cut off.
            let seen = watching.join().expect("no panic").map_err(|e| e.kind());
            assert!(
                matches!(seen, Ok(()) | Err(ErrorKind::ConnectionReset)),
                "{seen:?}"
            );
            let read = ours.reader.read(&mut [0]).map_err(|error| error.kind());
            assert!(
                matches!(read, Ok(0) | Err(ErrorKind::ConnectionReset)),
                "{read:?}"
            );
        }
    }
}

#[test]
fn a_closer_ends_what_other_threads_wait_for() {
    for (mut ours, mut theirs) in pairs(pull(), &Timing::default()) {
        let closer = theirs.closer.clone();
        let threads = [
            std::thread::spawn(move || closer.wait_for_end().is_ok()),
            std::thread::spawn(move || matches!(theirs.reader.read(&mut [0]), Ok(0))),
            std::thread::spawn(move || fill(&mut theirs.writer).kind() == ErrorKind::BrokenPipe),
        ];
        theirs.closer.close();
        for thread in threads {
            assert!(thread.join().expect("no panic"));
        }
        let rest = ours.reader.read_to_end(&mut Vec::new());
        assert!(rest.is_ok(), "what was written is read first: {rest:?}");
    }
}

#[test]
fn something_sent_where_nothing_may_come_is_told_and_left_to_read() {
    for (ours, theirs) in pairs(Channel::Push, &Timing::default()) {
        let (mut reader, mut writer) = (ours.reader, theirs.writer);
        writer.write_all(b"x").expect("written");
        let error = ours.closer.wait_for_end().expect_err("it was sent");
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        let mut byte = [0];
        reader.read_exact(&mut byte).expect("it is still there");
        writer.finish().expect("open");
        ours.closer.wait_for_end().expect("the end");
    }
}

#[test]
fn a_server_that_takes_no_connections_is_not_waited_for() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("stopped");
    let flags = SocketFlags::CLOEXEC;
    let stopped = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let stopped = stopped.expect("a socket");
    bind(&stopped, &SocketAddrUnix::new(&path).expect("short")).expect("a new path");
    rustix::net::listen(&stopped, 0).expect("bound");
    let connect = || Socket::connect_unix(&path, Duration::from_millis(50));
    let first = connect().expect("there is room for one");
    let error = connect().expect_err("and for no other");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    drop(first);
}

#[test]
fn t25_a_socket_that_was_left_behind_is_replaced_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("server-1");
    let address = Address::unix(&path).expect("short");
    let first = Listener::bind(&address).expect("a new path");
    let mode = |path: &Path| {
        let metadata = std::fs::metadata(path).expect("it is there");
        metadata.permissions().mode() & 0o7777
    };
    assert_eq!(mode(&path), 0o600);
    let error = Listener::bind(&address).expect_err("somebody listens there");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    drop(first); // as the system does for a process that is killed
    assert!(path.exists());
    let second = Listener::bind(&address).expect("nobody listens there");
    pair(&second, Channel::Control, &Timing::default());
    let file = folder.path().join("notes");
    std::fs::write(&file, "not ours").expect("writable");
    let error = Listener::bind(&Address::unix(&file).expect("short")).expect_err("no socket");
    assert!(error.to_string().contains("no socket"), "{error}");
    assert_eq!(
        std::fs::read_to_string(&file).expect("it stays"),
        "not ours"
    );
}

#[test]
fn a_listener_knows_its_address_in_the_process_that_inherits_it() {
    for (listener, _folder) in listeners() {
        let fd = rustix::io::dup(&listener).expect("a copy");
        let inherited = Listener::inherited(fd).expect("a socket");
        assert_eq!(inherited.address(), listener.address());
        pair(&inherited, Channel::Push, &Timing::default());
    }
    let file = tempfile::tempfile().expect("a file");
    Listener::inherited(file.into()).expect_err("it is no socket");
}

/// What a file outside this module may not name. `TcpListener` is that of HTTP.
const TRANSPORT: [&str; 12] = [
    "TcpStream",
    "UnixStream",
    "UnixListener",
    "SocketAddrUnix",
    "try_clone",
    "set_read_timeout",
    "set_write_timeout",
    "set_nodelay",
    "sockopt",
    "Shutdown",
    "shutdown(",
    "socket2",
];

/// Lines that name one of them for something else.
const EXEMPT: [(&str, &str); 1] = [("src/run/process.rs", ".stdout(log.try_clone()?)")];

fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => sources(&path, found),
            false => found.push(path),
        }
    }
}

#[test]
fn no_transport_is_named_outside_this_module() {
    let trainer = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in ["src", "runtime/src", "torch/src"] {
        sources(&trainer.join(folder), &mut files);
    }
    assert!(files.len() > 70, "the sources are elsewhere");
    let mut named = Vec::new();
    for file in &files {
        let name = file
            .strip_prefix(&trainer)
            .expect("below")
            .to_string_lossy();
        // Pages are for whoever speaks HTTP, which is over TCP.
        if name.starts_with("runtime/src/net/") || name == "runtime/src/http/tests.rs" {
            continue;
        }
        let text = std::fs::read_to_string(file).expect("text");
        let lines = text.lines().map(str::trim).filter(|line| {
            TRANSPORT.iter().any(|word| line.contains(word))
                && !EXEMPT.contains(&(name.as_ref(), line))
        });
        named.extend(lines.map(|line| format!("{name}: {line}")));
    }
    assert!(named.is_empty(), "use net::Connection: {named:#?}");
}
