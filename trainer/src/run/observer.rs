//! The run's own line to the coordinator: progress in, a stop out.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use trainyard_contract::Key;
use trainyard_core::control::{FromCoordinator, Join, Progress, Release, Role, ToCoordinator};
use trainyard_core::record::EpochRecord;
use trainyard_runtime::net::{self, Address, Channel, ControlSender, Hello, Identity, Timing};

/// What the observer hears.
#[derive(Debug)]
pub enum Heard {
    /// Where the job is, and when that was heard.
    Progress(Instant, Box<Progress>),
    /// Epochs that were finished, some of them perhaps once more.
    Epochs(Vec<EpochRecord>),
    /// How it ended.
    Released(Release),
    /// The coordinator is there.
    Alive,
    /// It has said nothing for the heartbeat timeout, although the connection stands; or its process does not
    /// answer at all.
    Silent,
}

/// A connection to the coordinator that is made again when it breaks.
#[derive(Clone, Default)]
pub struct Observer(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    sender: Option<Arc<ControlSender>>,
    stop: bool,
    over: bool,
}

impl Observer {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// Asks the coordinator to checkpoint and stop, now and after every reconnection.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.stop = true;
        if let Some(sender) = &state.sender {
            let _ = sender.send(&ToCoordinator::Stop);
        }
    }

    /// Ends the observing thread.
    pub fn close(&self) {
        let mut state = self.lock();
        state.over = true;
        if let Some(sender) = state.sender.take() {
            sender.close();
        }
    }

    /// Observes on a thread of its own.
    pub fn start(
        &self,
        coordinator: Address,
        key: Key,
        job: u64,
        timing: Timing,
        heard: impl Fn(Heard) -> bool + Send + 'static,
    ) {
        let this = self.clone();
        std::thread::spawn(move || {
            while !this.lock().over {
                if this
                    .observe(&coordinator, &key, job, &timing, &heard)
                    .is_none()
                {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        });
    }

    fn observe(
        &self,
        to: &Address,
        key: &Key,
        job: u64,
        timing: &Timing,
        heard: &impl Fn(Heard) -> bool,
    ) -> Option<()> {
        let identity = Identity {
            job,
            generation: 0,
            incarnation: trainyard_runtime::incarnation(),
        };
        let hello = Hello {
            channel: Channel::Control,
            role: Role::Observer,
        };
        let connection = match net::connect(to, identity, hello, key, timing) {
            Ok(connection) => connection,
            Err(error) => {
                if is_silence(&error) {
                    heard(Heard::Silent);
                }
                return None;
            }
        };
        let control = connection.control(identity, timing.heartbeat_timeout);
        let (sender, mut receiver) = control.ok()?;
        let sender = Arc::new(sender);
        sender
            .send(&ToCoordinator::Join(join(identity.incarnation)))
            .ok()?;
        {
            let mut state = self.lock();
            if state.stop {
                sender.send(&ToCoordinator::Stop).ok()?;
            }
            state.sender = Some(sender);
        }
        loop {
            let heard_more = match receiver.receive() {
                Ok(FromCoordinator::Progress(progress)) => {
                    heard(Heard::Progress(Instant::now(), progress))
                }
                Ok(FromCoordinator::Epochs { epochs }) => heard(Heard::Epochs(epochs)),
                Ok(FromCoordinator::Release(release)) => heard(Heard::Released(release)),
                Ok(_) => heard(Heard::Alive),
                Err(error) => {
                    if is_silence(&error) {
                        heard(Heard::Silent);
                    }
                    break;
                }
            };
            if !heard_more {
                self.close();
                break;
            }
        }
        self.lock().sender = None;
        None
    }
}

/// Whether nothing came in time, rather than the end of the connection.
fn is_silence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    )
}

fn join(incarnation: u64) -> Join {
    Join {
        role: Role::Observer,
        incarnation,
        generation: 0,
        born: 0,
        spec_digest: String::new(),
        capability: None,
        facts: None,
        warnings: Vec::new(),
        address: None,
        ready: None,
    }
}

/// Where messages of the run's threads meet.
pub fn relay<T: Send + 'static>(
    to: Sender<T>,
    wrap: impl Fn(Heard) -> T + Send + 'static,
) -> impl Fn(Heard) -> bool + Send {
    move |heard| to.send(wrap(heard)).is_ok()
}
