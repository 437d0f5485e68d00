//! How a process that has a role in a job begins: supervision, log, job file, listeners.

use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result, bail};
use trainyard_contract::{Key, Role, Supervision};

use crate::exit::{BadInput, on_panic};
use crate::heartbeat;
use crate::job::Job;
use crate::net::{Address, AddressError, Listener};
use crate::storage::Location;

/// Begins a role: a panic ends the process, the process ends with its supervisor if it has one, and
/// the log goes to standard error. Returns the job in the file `job`.
///
/// # Errors
/// If the supervisor has ended, or the job cannot be read.
pub fn begin(job: &str, supervision: &Supervision) -> Result<Job> {
    on_panic();
    if let Some(supervisor) = supervision.supervised {
        end_with(supervisor)?;
    }
    crate::log::begin();
    let text =
        std::fs::read_to_string(job).with_context(|| format!("the job {job} cannot be read"))?;
    Job::from_json(&text)
}

/// Shows the supervisor, if there is one, from now on that this process is alive. A process that is going to execute
/// its program anew does so first.
///
/// # Errors
/// If the pipe that was inherited is not open, or there are no threads left.
pub fn show_life(supervision: &Supervision) -> Result<()> {
    if let Some(fd) = supervision.alive_fd {
        heartbeat::show_life(inherited(fd)?)?;
    }
    Ok(())
}

/// Longest file with a key: 64 digits and some white space.
const KEY_BYTES: u64 = 1024;

/// The key of a role, from the file in the argument `--key-file`; `-` is standard input.
///
/// Without a file it is one that everybody knows: processes that were started without a key find each other, and
/// whoever reaches their ports can take part.
///
/// # Errors
/// [`BadInput`] if the file cannot be read or holds no key.
pub fn key(file: Option<&str>, role: Role) -> Result<Key> {
    let Some(file) = file else {
        tracing::warn!(
            "no key was given (--key-file): whoever reaches the ports of this job can take part in it"
        );
        return Ok(Key::of_servers([0; Key::BYTES]).of_role(role));
    };
    let failed = |why: &dyn std::fmt::Display| BadInput(format!("--key-file {file}: {why}"));
    let mut text = String::new();
    let read = match file {
        "-" => std::io::stdin().take(KEY_BYTES).read_to_string(&mut text),
        _ => File::open(file).and_then(|file| file.take(KEY_BYTES).read_to_string(&mut text)),
    };
    read.map_err(|error| failed(&error))?;
    Ok(Key::from_text(&text).map_err(|error| failed(&error))?)
}

fn end_with(supervisor: u32) -> Result<()> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get().cast_unsigned());
    if supervisor != 0 && supervisor != parent {
        bail!("the supervisor {supervisor} has ended");
    }
    Ok(())
}

/// An address in an argument.
///
/// # Errors
/// [`BadInput`] if it is none.
pub fn address(text: &str) -> Result<Address> {
    let refused = |error: AddressError| BadInput(error.to_string()).into();
    text.parse().map_err(refused)
}

/// The place of the checkpoints, in the argument `--storage`.
///
/// # Errors
/// [`BadInput`] if it is none.
pub fn storage(text: &str) -> Result<Location> {
    let place = text.parse::<Location>();
    place.map_err(|error| BadInput(format!("--storage {text}: {error}")).into())
}

/// A listener of the protocol on `address`, or the one that the supervisor opened as `fd`, so that its
/// address outlives this process.
///
/// # Errors
/// [`BadInput`] if the address cannot be used; others if the descriptor is not open.
pub fn listener(fd: Option<RawFd>, listen: &str) -> Result<Listener> {
    match fd {
        Some(fd) => Ok(Listener::inherited(inherited(fd)?)?),
        None => Listener::bind(&address(listen)?).map_err(|error| in_use(listen, &error)),
    }
}

/// As [`listener`], for HTTP; none without descriptor and address.
///
/// # Errors
/// As [`listener`].
pub fn http_listener(fd: Option<RawFd>, address: Option<&str>) -> Result<Option<TcpListener>> {
    match (fd, address) {
        (None, None) => Ok(None),
        (Some(fd), _) => Ok(Some(inherited(fd)?.into())),
        (None, Some(address)) => match TcpListener::bind(address) {
            Ok(listener) => Ok(Some(listener)),
            Err(error) => Err(in_use(address, &error)),
        },
    }
}

fn in_use(address: &str, error: &std::io::Error) -> anyhow::Error {
    let remedy = "choose another address or end what uses it";
    BadInput(format!("cannot listen on {address}: {error}; {remedy}")).into()
}

fn inherited(fd: RawFd) -> Result<OwnedFd> {
    // SAFETY: it is borrowed for this one call, which answers with an error if nothing is open under this number.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)
        .with_context(|| format!("the inherited descriptor {fd} is not open"))?;
    // SAFETY: it is open. The number comes from the supervisor, which opened it for this process alone; nothing
    // else here owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
