//! A stranger on the wire: what does not come from the program's own processes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use trainyard_contract::Role::Worker;
use trainyard_core::control::Role;
use trainyard_core::wire::{Body, Limits};
use trainyard_runtime::net::{Channel, Connection, Hello, Identity, Timing, connect, read_header};

use super::{Roster, Spec, key};

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

/// A stream to server 0 on which nothing has been said.
pub fn stranger(roster: &Roster) -> io::Result<Box<dyn Write>> {
    let address = roster.coordinator();
    Ok(match address.strip_prefix("unix:") {
        Some(path) => Box::new(UnixStream::connect(path)?),
        None => Box::new(TcpStream::connect(address)?),
    })
}

/// A connection that is introduced as a worker's.
pub fn introduced(roster: &Roster, identity: Identity, channel: Channel) -> io::Result<Connection> {
    let hello = Hello {
        channel,
        role: Role::Worker(99),
    };
    let address = roster.coordinator().parse().expect("an address");
    connect(
        &address,
        identity,
        hello,
        &key().of_role(Worker),
        &Timing::default(),
    )
}

/// A frame.
pub fn frame(identity: Identity, body: Body, payload: &[u8]) -> Vec<u8> {
    let header = identity.header(body).before(payload);
    [&header.encode()[..], payload].concat()
}

/// Stands between workers and the bulk port of a server, and loses pushes: each of the first
/// connections for gradients ends when its `n`-th push has been taken from the worker and not been
/// given to the server.
pub struct Losing {
    /// Where workers are to connect.
    pub address: String,
    lost: Arc<AtomicU32>,
}

impl Losing {
    /// Loses one push on each of `times` connections to `server`.
    pub fn start(server: String, n: u32, times: u32) -> Losing {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let lost = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&lost);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (server, lost) = (server.clone(), Arc::clone(&count));
                std::thread::spawn(move || relay(stream, &server, n, times, &lost));
            }
        });
        Losing { address, lost }
    }

    /// Pushes lost so far.
    pub fn lost(&self) -> u32 {
        self.lost.load(Ordering::SeqCst)
    }
}

/// Relays one connection until either side ends it.
fn relay(worker: TcpStream, server: &str, n: u32, times: u32, lost: &AtomicU32) -> Option<()> {
    let server = TcpStream::connect(server).ok()?;
    let back = (server.try_clone().ok()?, worker.try_clone().ok()?);
    std::thread::spawn(move || {
        let (mut server, mut worker) = back;
        let _ = io::copy(&mut server, &mut worker);
        let _ = worker.shutdown(Shutdown::Both);
    });
    let (mut from, mut to) = (worker, server);
    let end = (from.try_clone().ok()?, to.try_clone().ok()?);
    let mut pushes = 0;
    // Frame by frame: what is lost is a whole push, and the worker has written all of it.
    while let Ok(header) = read_header(&mut from, &Limits::default()) {
        let mut payload = vec![0; header.body.payload_len() as usize];
        if from.read_exact(&mut payload).is_err() {
            break;
        }
        if matches!(header.body, Body::Push { .. }) {
            pushes += 1;
            if pushes == n
                && lost
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |lost| {
                        (lost < times).then_some(lost + 1)
                    })
                    .is_ok()
            {
                break;
            }
        }
        if to
            .write_all(&header.encode())
            .and_then(|()| to.write_all(&payload))
            .is_err()
        {
            break;
        }
    }
    let _ = (
        end.0.shutdown(Shutdown::Both),
        end.1.shutdown(Shutdown::Both),
    );
    Some(())
}
