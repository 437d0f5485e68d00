//! Connections for tests, over TCP and over Unix sockets.

use trainyard_contract::Key;
use trainyard_core::control::Role;
use trainyard_core::shard::Held;

use super::{
    Address, Channel, Connection, Hello, Identity, Listener, Met, Timing, accept, connect,
};

/// The key of the servers.
pub fn key() -> Key {
    Key::of_servers([7; Key::BYTES])
}

/// That of the workers.
pub fn workers_key() -> Key {
    key().of_role(trainyard_contract::Role::Worker)
}

/// Who both ends are.
pub const IDENTITY: Identity = Identity {
    job: 1,
    generation: 1,
    incarnation: 1,
};

/// A listener of each kind on an address of its own, and what keeps that address.
pub fn listeners() -> [(Listener, Option<tempfile::TempDir>); 2] {
    let folder = tempfile::tempdir().expect("a folder");
    let path = Address::unix(&folder.path().join("door")).expect("a short path");
    let tcp = "127.0.0.1:0".parse().expect("an address");
    [
        (Listener::bind(&tcp).expect("a free port"), None),
        (Listener::bind(&path).expect("a new path"), Some(folder)),
    ]
}

/// For all parameters of a server, to somebody who holds none.
pub fn pull() -> Channel {
    Channel::Pull {
        index: 0,
        of: 1,
        held: Held::default(),
    }
}

/// Both ends of a connection that is introduced as `channel`: ours has called.
pub fn pair(listener: &Listener, channel: Channel, timing: &Timing) -> (Connection, Connection) {
    let role = Role::Worker(0);
    let hello = Hello { channel, role };
    let incarnation = IDENTITY.incarnation;
    std::thread::scope(|scope| {
        let calling = hello.clone();
        let ours = scope.spawn(move || {
            let connection = connect(
                listener.address(),
                IDENTITY,
                calling,
                &workers_key(),
                timing,
            );
            connection.expect("connected")
        });
        let incoming = listener.accept().expect("a connection");
        let (theirs, met) = accept(incoming, IDENTITY, &key(), timing).expect("introduced");
        assert_eq!(met, Met { hello, incarnation });
        (ours.join().expect("no panic"), theirs)
    })
}
