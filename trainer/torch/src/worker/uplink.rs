//! The way from a session to its coordinator, which may be another one tomorrow.

use std::sync::Arc;

use parking_lot::Mutex;
use trainyard_core::control::ToCoordinator;
use trainyard_runtime::net::ControlSender;

use super::messages;

/// The control stream in force, if there is one.
#[derive(Default)]
pub(super) struct Uplink(Mutex<Option<Arc<ControlSender>>>);

impl Uplink {
    /// From now on messages go to `sender`.
    pub fn set(&self, sender: Arc<ControlSender>) {
        *self.0.lock() = Some(sender);
    }

    /// Sends a message. Where there is no coordinator it is lost: what the next one must hear, the
    /// session tells again.
    pub fn send(&self, message: &ToCoordinator) {
        let sender = self.0.lock().clone();
        if let Some(sender) = sender {
            messages::send(message, |message| sender.send(message));
        }
    }

    /// Ends the control stream.
    pub fn close(&self) {
        if let Some(sender) = self.0.lock().take() {
            sender.close();
        }
    }
}
