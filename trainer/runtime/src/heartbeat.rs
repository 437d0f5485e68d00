//! "I am alive", at a steady rate, while it is.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use trainyard_core::control::ToCoordinator;

use crate::net::ControlSender;

/// Stops the heartbeat when dropped.
pub struct Beating {
    _stop: SyncSender<()>,
}

/// Sends a heartbeat every `interval` from a thread of its own, until dropped or disconnected.
pub fn start(sender: Arc<ControlSender>, interval: Duration) -> Beating {
    let (stop, stopped) = sync_channel::<()>(1);
    std::thread::spawn(move || {
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(interval) {
            if sender.send(&ToCoordinator::Heartbeat).is_err() {
                return;
            }
        }
    });
    Beating { _stop: stop }
}
