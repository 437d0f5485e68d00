//! The way from the coordinator to one peer.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use trainyard_core::control::FromCoordinator;
use trainyard_runtime::net::ControlSender;

/// Messages that may be on their way to a peer. A thousand workers that join at once cause fewer.
const WAITING: usize = 4096;

/// Longest wait for what was sent to leave when the coordinator's work is over.
const FLUSH: Duration = Duration::from_secs(5);

/// Takes messages for a peer, and never waits for it: a thread of its own writes them. When it is
/// dropped, the connection ends after what was sent.
#[derive(Debug)]
pub struct Outlet {
    queue: SyncSender<FromCoordinator>,
    sender: Arc<ControlSender>,
}

impl Outlet {
    /// Sends a message; `false` if the connection is broken, or the peer so slow that it had to be
    /// broken.
    pub fn send(&self, message: FromCoordinator) -> bool {
        let sent = self.queue.try_send(message).is_ok();
        if !sent {
            self.sender.abort();
        }
        sent
    }
}

/// The threads that write to peers.
#[derive(Debug)]
pub struct Writers {
    /// Each thread holds a clone, and nothing is ever sent.
    alive: Sender<()>,
    ended: Receiver<()>,
}

impl Writers {
    /// No threads yet.
    pub fn new() -> Self {
        let (alive, ended) = channel();
        Writers { alive, ended }
    }

    /// A way to the peer that `sender` sends to.
    ///
    /// # Errors
    /// If there is no thread for it.
    pub fn outlet(&self, sender: ControlSender) -> io::Result<Outlet> {
        self.bounded(sender, WAITING)
    }

    fn bounded(&self, sender: ControlSender, waiting: usize) -> io::Result<Outlet> {
        let sender = Arc::new(sender);
        let (queue, messages) = sync_channel(waiting);
        let (writer, alive) = (Arc::clone(&sender), self.alive.clone());
        std::thread::Builder::new().spawn(move || {
            // What cannot be sent breaks the connection, and whoever reads from it notices.
            let _ = messages
                .iter()
                .try_for_each(|message| writer.send(&message));
            writer.close();
            drop(alive);
        })?;
        Ok(Outlet { queue, sender })
    }

    /// Closes the outlets, and waits for what was sent to them and to those closed before; but not for
    /// long.
    pub fn finish(self, outlets: Vec<Outlet>) {
        let senders: Vec<_> = outlets
            .into_iter()
            .map(|outlet| Arc::clone(&outlet.sender))
            .collect();
        drop(self.alive);
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(FLUSH) {
            senders.iter().for_each(|sender| sender.abort());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use trainyard_core::control::{Progress, Release};

    use super::*;
    use trainyard_runtime::net::testing::{IDENTITY, listeners, pair};
    use trainyard_runtime::net::{Channel, ControlReceiver, Timing};

    /// Both ends of a control stream, over TCP and over a Unix socket: a sender and a receiver.
    fn pairs() -> Vec<(ControlSender, ControlReceiver)> {
        let made = listeners().map(|(listener, _folder)| {
            let (theirs, ours) = pair(&listener, Channel::Control, &Timing::default());
            let (sender, _) = ours.control(IDENTITY, FLUSH).expect("a sender");
            let (_, receiver) = theirs
                .control(IDENTITY, Duration::from_secs(60))
                .expect("a receiver");
            (sender, receiver)
        });
        made.into()
    }

    fn large() -> FromCoordinator {
        FromCoordinator::Progress(Box::new(Progress {
            phase: "x".repeat(1 << 18),
            ..Progress::default()
        }))
    }

    /// The coordinator is one thread: were it to wait for one peer, it would lose all others.
    #[test]
    fn t14_a_control_peer_that_never_reads_is_broken_off_and_not_waited_for() {
        for (sender, mut receiver) in pairs() {
            let writers = Writers::new();
            let outlet = writers.bounded(sender, 16).expect("an outlet");
            let begin = Instant::now();
            // More than the sockets hold and the queue takes.
            let sent = (0..1000).take_while(|_| outlet.send(large())).count();
            assert!((16..1000).contains(&sent), "{sent} messages were taken");
            // Sooner than the writer gives up.
            assert!(begin.elapsed() < FLUSH, "it was waited for");
            // The writer is let go, who holds the connection last.
            writers.finish(vec![outlet]);
            let ended = loop {
                match receiver.receive::<FromCoordinator>() {
                    Ok(_) => {}
                    Err(error) => break error,
                }
            };
            assert!(
                matches!(
                    ended.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                ),
                "{ended}"
            );
        }
    }

    #[test]
    fn t12_what_was_sent_leaves_before_the_connection_ends() {
        for (sender, mut receiver) in pairs() {
            let writers = Writers::new();
            let outlet = writers.outlet(sender).expect("an outlet");
            assert!(outlet.send(large()));
            assert!(outlet.send(FromCoordinator::Release(Release::Done)));
            let reader = std::thread::spawn(move || {
                let messages: [io::Result<FromCoordinator>; 3] =
                    std::array::from_fn(|_| receiver.receive());
                messages
            });
            writers.finish(vec![outlet]);
            let [first, second, third] = reader.join().expect("no panic");
            assert_eq!(first.expect("a message"), large());
            assert_eq!(
                second.expect("a message"),
                FromCoordinator::Release(Release::Done)
            );
            assert_eq!(
                third.expect_err("the end").kind(),
                io::ErrorKind::UnexpectedEof
            );
        }
    }
}
