//! Looking for a coordinator that is not there yet, or no longer where it was.

use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use super::{Address, Timing};
use crate::exit::TryAgain;

/// Shortest and longest wait before another attempt.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// A search that has had no success yet. Its time counts from the first failure.
#[derive(Debug)]
pub struct Search {
    begin: Option<Instant>,
    patience: Duration,
    backoff: Duration,
    last: String,
}

impl Search {
    /// Begins a search.
    pub fn new(timing: &Timing) -> Self {
        Search {
            begin: None,
            patience: timing.orphaned,
            backoff: BACKOFF.0,
            last: String::new(),
        }
    }

    /// An attempt has failed.
    pub fn failed(&mut self, why: impl Display) {
        let why = why.to_string();
        self.begin.get_or_insert_with(Instant::now);
        tracing::debug!(why, "no coordinator");
        if self.last.is_empty() {
            tracing::info!(why, "looking for the coordinator");
        }
        self.last = why;
    }

    /// Waits before the next attempt, longer each time.
    ///
    /// # Errors
    /// [`TryAgain`] if the search has taken too long.
    pub fn wait(&mut self, coordinator: &Address) -> Result<(), TryAgain> {
        if self
            .begin
            .is_some_and(|begin| begin.elapsed() > self.patience)
        {
            return Err(TryAgain(format!(
                "no coordinator at {coordinator} for {} seconds: {}",
                self.patience.as_secs(),
                self.last
            )));
        }
        std::thread::sleep(self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
        Ok(())
    }
}

/// The addresses of `HOST:PORT`, looked up anew: a replacement may have another.
///
/// # Errors
/// If the name has none, or the name service does not answer in time.
pub(super) fn resolve(to: &str, patience: Duration) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = to.parse() {
        return Ok(vec![address]);
    }
    // The system's own bound is the product of all servers, search domains and attempts.
    let (sender, resolved) = sync_channel(1);
    let name = to.to_owned();
    std::thread::spawn(move || {
        let addresses = name.to_socket_addrs().map(Iterator::collect);
        let _ = sender.send(addresses);
    });
    let failed = |why: String| io::Error::other(format!("cannot look up {to}: {why}"));
    match resolved.recv_timeout(patience) {
        Ok(addresses) => addresses.map_err(|error: io::Error| failed(error.to_string())),
        Err(RecvTimeoutError::Timeout) => Err(failed(format!(
            "no answer within {} seconds",
            patience.as_secs()
        ))),
        Err(RecvTimeoutError::Disconnected) => Err(failed("the look-up has failed".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_resolved() {
        let resolve = |to| super::resolve(to, Duration::from_secs(10));
        let address = resolve("127.0.0.1:7000").expect("an address");
        assert_eq!(address, ["127.0.0.1:7000".parse().expect("an address")]);
        let named = resolve("localhost:7000").expect("every machine knows it");
        assert!(named.iter().all(|address| address.ip().is_loopback()));
        let error = resolve("no-port").expect_err("it has no port").to_string();
        assert!(error.contains("cannot look up no-port"), "{error}");
    }

    #[test]
    fn a_search_ends_with_what_failed_last() {
        let timing = Timing {
            orphaned: Duration::ZERO,
            ..Timing::default()
        };
        let mut search = Search::new(&timing);
        let here = "here:1".parse().expect("an address");
        search.wait(&here).expect("nothing has failed so far");
        search.failed("connection refused");
        let error = search.wait(&here).expect_err("its time is over");
        assert_eq!(
            error.to_string(),
            "no coordinator at here:1 for 0 seconds: connection refused"
        );
    }
}
