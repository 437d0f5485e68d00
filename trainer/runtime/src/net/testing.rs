//! Connections for tests, over TCP and over Unix sockets.

use trainyard_core::control::Role;
use trainyard_core::shard::Held;

use super::{Address, Channel, Connection, Hello, Identity, Listener, Timing, accept, connect};

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
    let ours = connect(listener.address(), IDENTITY, hello.clone(), timing).expect("connected");
    let incoming = listener.accept().expect("a connection");
    let (theirs, met) = accept(incoming, IDENTITY, timing).expect("introduced");
    assert_eq!(met, hello);
    (ours, theirs)
}
