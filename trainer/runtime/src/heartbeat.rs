//! "I am alive", at a steady rate, while it is.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use trainyard_core::control::ToCoordinator;

use crate::exit::ExitCode;
use crate::net::ControlSender;
use crate::signals;

/// How often a process shows its supervisor that it is alive.
const PULSE: Duration = Duration::from_secs(1);

/// Writes a byte into `pipe` every second, from a thread of its own, for as long as the process runs: also while it
/// loads data, or has no coordinator.
///
/// # Errors
/// If the pipe cannot be used, or there are no threads left.
pub fn show_life(pipe: OwnedFd) -> io::Result<()> {
    // Where nobody reads for long, nothing more is to be said.
    rustix::io::ioctl_fionbio(&pipe, true)?;
    let mut pipe = File::from(pipe);
    let is_read = |error: io::Error| error.kind() != ErrorKind::BrokenPipe;
    let beat = move || {
        while pipe.write(&[0]).map_or_else(is_read, |_| true) {
            std::thread::sleep(PULSE);
        }
    };
    std::thread::Builder::new()
        .name("alive".into())
        .spawn(beat)?;
    Ok(())
}

/// Stops the heartbeat when dropped.
pub struct Beating {
    _stop: SyncSender<()>,
}

/// Sends a heartbeat every `interval` from a thread of its own, until dropped or disconnected.
///
/// The thread that hears the coordinator must drop it when the connection ends. Where it has not within `patience`
/// it is stuck: nobody else can know, for there is no connection on which it could owe an answer. Then the process
/// ends with [`ExitCode::TryAgain`].
pub fn start(sender: Arc<ControlSender>, interval: Duration, patience: Duration) -> Beating {
    let (stop, stopped) = sync_channel::<()>(1);
    std::thread::spawn(move || {
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(interval) {
            if sender.send(&ToCoordinator::Heartbeat).is_ok() {
                continue;
            }
            if let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(patience) {
                let seconds = patience.as_secs();
                tracing::error!(
                    "the connection to the coordinator has ended, and the thread that should hear so has done \
                     nothing for {seconds} s: this process is stuck"
                );
                signals::leave(ExitCode::TryAgain);
            }
            return;
        }
    });
    Beating { _stop: stop }
}
