//! What carries data and control between the processes of a run: Unix sockets that are closed to other
//! users, or TCP, with the same bits.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Signal, Uid, geteuid};
use tempfile::TempDir;
use trainyard_core::wire::Body;
use trainyard_runtime::net::{Address, Channel, Listener};

use crate::common::process::doors;
use crate::common::wire::{frame, identity, introduced, stranger};
use crate::common::{Roster, Run, Spec, example, folder, reference, send, sha};

fn job() -> Spec {
    example("breast-cancer/job.yaml")
}

/// A job that goes on for as long as a test needs it, with its sockets in `place`.
fn endless(place: &TempDir) -> Spec {
    let place = place.path().to_str().expect("text");
    job().epochs(100_000).env("XDG_RUNTIME_DIR", place)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The folder of a run's sockets.
fn sockets(roster: &Roster) -> PathBuf {
    let address = roster.coordinator();
    let path = address.strip_prefix("unix:").expect("a Unix socket");
    Path::new(path).parent().expect("a folder").to_owned()
}

#[test]
fn t29_the_digest_is_the_same_over_unix_sockets_and_over_tcp() {
    let spec = job().epochs(4).on(2, 2);
    let expected = reference::train(&spec).sha;
    for transport in ["unix", "tcp"] {
        let folder = folder();
        let spec = spec.clone().args(["--transport", transport]);
        let mut run = spec.start(folder.path());
        let roster = run.until("a roster", Run::roster);
        let address = roster.coordinator();
        assert_eq!(address.starts_with("unix:/"), transport == "unix");
        assert_eq!(sha(&run.finish()), expected, "over {transport}");
    }
}

#[test]
fn t29_a_run_listens_where_only_its_user_comes_and_on_tcp_for_http_alone() {
    let (folder, place) = (folder(), folder());
    let mut run = endless(&place).on(2, 2).start(folder.path());
    run.reach(10);
    let roster = run.roster().expect("it has told who runs");
    let private = sockets(&roster);
    assert_eq!(private.parent(), Some(place.path()));
    let mode = |path: &Path| fs::metadata(path).expect("it is there").mode() & 0o7777;
    assert_eq!(mode(&private), 0o700);
    let found = entries(&private);
    assert_eq!(found.len(), 2, "one for each server: {found:?}");
    for socket in found {
        assert_eq!(mode(&socket), 0o600, "{}", socket.display());
    }
    let members = roster.of("server").into_iter().map(|m| ("server", m));
    let members = members.chain(roster.of("worker").into_iter().map(|m| ("worker", m)));
    for (role, (index, pid)) in members {
        let http = usize::from((role, index) == ("server", 0));
        assert_eq!(doors(pid).len(), http, "{role} {index}");
    }
}

/// Becomes `nobody` in a thread of its own, of which the kernel asks the same as of a process.
fn as_another_user<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let nobody = Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("root may");
            work()
        });
        thread.join().expect("no panic")
    })
}

#[test]
fn t29_another_user_cannot_connect_even_if_the_folder_is_opened() {
    if !geteuid().is_root() {
        println!("skipped: only root can be another user");
        return;
    }
    let (folder, place) = (folder(), folder());
    let spec = endless(&place).on(1, 1);
    let mut run = spec.start(folder.path());
    run.reach(10);
    let roster = run.roster().expect("it has told who runs");
    let ours = identity(&spec, &roster);
    let connect = || stranger(&roster).map(drop).map_err(|error| error.kind());
    assert_eq!(as_another_user(connect), Err(ErrorKind::PermissionDenied));
    connect().expect("this user can");
    let open = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o777));
    let private = sockets(&roster);
    for path in [place.path(), &private, &private.join("server-0")] {
        open(path).expect("ours");
    }
    let dropped = run.until("a counter", |run| run.metric("peers_dropped_total"));
    for _ in 0..4 {
        as_another_user(|| {
            let socket = private.join("server-0");
            let mut stream = UnixStream::connect(socket).expect("the way is open");
            let hello = br#"{"channel":"control","role":{"kind":"worker","index":1}}"#;
            let len = hello.len() as u32;
            let _ = stream.write_all(&frame(ours, Body::Hello { len }, hello));
            let answer = stream.read_to_end(&mut Vec::new());
            assert!(matches!(answer, Ok(0) | Err(_)), "{answer:?}");
        });
    }
    let refused = "a process of user 65534 is at the other end";
    run.until("refusals", |run| {
        run.metric("peers_dropped_total")
            .filter(|now| *now >= dropped + 4.0)
    });
    let log = fs::read_to_string(folder.path().join("logs/server-0.log")).expect("a log");
    assert!(log.contains(refused), "{log}");
    run.reach(20);
}

/// Somebody else listens where the coordinator should: they are told nothing.
#[test]
fn t29_a_socket_of_another_user_is_not_trusted() {
    if !geteuid().is_root() {
        println!("skipped: only root can be another user");
        return;
    }
    let place = folder();
    fs::set_permissions(place.path(), Permissions::from_mode(0o777)).expect("ours");
    let path = place.path().join("server-0");
    let address = Address::unix(&path).expect("short");
    let trap = as_another_user(|| Listener::bind(&address)).expect("anybody can write there");
    let roster = Roster(serde_json::json!({"coordinator": address.to_string(), "generation": 1}));
    let ours = identity(&job(), &roster);
    let error = introduced(&roster, ours, Channel::Control).expect_err("it is not ours");
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    drop(trap);
}

#[test]
fn t25_the_sockets_are_gone_however_a_run_ends() {
    let place = folder();
    type End = fn(&mut Run);
    let ends: [(&str, End); 4] = [
        ("stopped", |run| run.signal(Signal::TERM)),
        ("stopped twice", |run| {
            run.signal(Signal::INT);
            run.event("stopping");
            run.signal(Signal::INT);
        }),
        ("refused", |run| {
            let roster = run.roster().expect("it has told who runs");
            let worker = roster.pid("worker", 0).expect("a worker");
            send(worker, Signal::KILL);
        }),
        ("killed", Run::kill),
    ];
    for (how, end) in ends {
        let folder = folder();
        let mut spec = endless(&place).on(1, 2);
        if how == "refused" {
            spec = spec.set("backoffLimit", 0);
        }
        let mut run = spec.start(folder.path());
        run.reach(5);
        assert_eq!(entries(place.path()).len(), 1, "{how}: of this run alone");
        end(&mut run);
        let ended = run.wait();
        assert_ne!(ended.code(), Some(0), "{how}: {ended}");
        let left = usize::from(how == "killed");
        assert_eq!(entries(place.path()).len(), left, "{how}: {ended}");
    }
    // What the killed run has left goes with the next, which ends well.
    let spec = job()
        .epochs(1)
        .env("XDG_RUNTIME_DIR", place.path().to_str().expect("text"));
    spec.finish();
    assert_eq!(entries(place.path()), Vec::<PathBuf>::new());
}

#[test]
fn t25_a_socket_that_cannot_be_had_is_a_clear_error() {
    let (folder, place) = (folder(), folder());
    job().epochs(1).start(folder.path()).finish();
    let taken = place.path().join("server-0");
    let address = Address::unix(&taken).expect("short");
    let _listener = Listener::bind(&address).expect("a new path");
    let long = format!("unix:{}", place.path().join("x".repeat(108)).display());
    let taken = address.to_string();
    for (listen, said) in [
        (taken.as_str(), "choose another address"),
        (&long, "at most 107 bytes"),
        ("unix:server-0", "must be absolute"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trainyard"));
        command.args(["server", "--index", "0", "--servers", "1"]);
        command.args(["--generation", "1", "--coordinator", &taken]);
        command.arg("--job").arg(folder.path().join("job.json"));
        command.arg("--storage").arg(folder.path());
        let output = command.args(["--listen", listen]).output();
        let output = output.expect("the program starts");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(listen.trim_start_matches("unix:")), "{told}");
        assert!(told.contains(said), "{told}");
    }
}
