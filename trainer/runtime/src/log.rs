//! The log of a member: lines on standard error, of which no place in the program writes without bound.
//!
//! A peer that is refused a thousand times a second would otherwise fill the disk within a day. What a process
//! ends with is not written through here, and is never left out.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use trainyard_contract::env;

/// Lines that one place in the program may write in a [`WINDOW`].
const LINES: u32 = 100;
/// The time after which it may write again.
const WINDOW: Duration = Duration::from_secs(60);

/// Begins to log, as the environment asks for. Levels below `info` were asked for, and are not bounded.
pub fn begin() {
    let filter = EnvFilter::try_from_env(env::LOG).unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .log_internal_errors(false) // they would be printed, and panic where the log cannot be written
        .with_writer(Bounded::new(io::stderr))
        .init();
}

/// Writers of a log for which each call site has a quota.
struct Bounded<M> {
    make: M,
    begin: Instant,
    sites: Mutex<HashMap<Identifier, Site>>,
}

/// A place in the program that has written.
struct Site {
    name: String,
    quota: Quota,
}

impl<M> Bounded<M> {
    fn new(make: M) -> Self {
        Bounded {
            make,
            begin: Instant::now(),
            sites: Mutex::default(),
        }
    }

    /// What is to be written before an event of `meta` at `now`; none if the event is left out.
    fn admit(&self, meta: &Metadata<'_>, now: Duration) -> Option<String> {
        let mut before = String::new();
        let mut sites = self.sites.lock();
        if [Level::WARN, Level::INFO].contains(meta.level()) {
            let site = sites.entry(meta.callsite()).or_insert_with(|| Site {
                name: match meta.line() {
                    Some(line) => format!("{}:{line}", meta.target()),
                    None => meta.target().to_owned(),
                },
                quota: Quota::at(now),
            });
            site.settle(now, &mut before);
            match site.quota.take() {
                Taken::Line => {}
                Taken::Last => {
                    let (name, seconds) = (&site.name, WINDOW.as_secs());
                    before += &format!(
                        "after this, lines of {name} are left out: {LINES} in {seconds} s are enough\n"
                    );
                }
                Taken::None => return None,
            }
        }
        // Also of places that have nothing to say any more.
        let mut settle = |site: &mut Site| site.settle(now, &mut before);
        sites.values_mut().for_each(&mut settle);
        Some(before)
    }
}

impl Site {
    /// Ends the window if it is over, and says what was left out in it.
    fn settle(&mut self, now: Duration, said: &mut String) {
        if let Some(left_out) = self.quota.settle(now) {
            *said += &format!("{left_out} more lines of {} were left out\n", self.name);
        }
    }
}

/// How much one place has written in its window.
#[derive(Debug)]
struct Quota {
    begin: Duration,
    lines: u32,
    left_out: u64,
}

/// What a place may write.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// A line.
    Line,
    /// A line, and no more in this window.
    Last,
    /// Nothing.
    None,
}

impl Quota {
    fn at(begin: Duration) -> Self {
        Quota {
            begin,
            lines: 0,
            left_out: 0,
        }
    }

    /// Ends the window if it is over; returns how many lines were left out in it, if any were.
    fn settle(&mut self, now: Duration) -> Option<u64> {
        if now.saturating_sub(self.begin) < WINDOW {
            return None;
        }
        let left_out = self.left_out;
        *self = Quota::at(now);
        (left_out > 0).then_some(left_out)
    }

    /// Asks for a line, in a window that was settled.
    fn take(&mut self) -> Taken {
        self.lines = self.lines.saturating_add(1);
        match self.lines {
            ..LINES => Taken::Line,
            LINES => Taken::Last,
            _ => {
                self.left_out += 1;
                Taken::None
            }
        }
    }
}

/// Writes one event, or leaves it out.
struct Entry<W> {
    to: W,
    /// What comes before the event; none if it is left out.
    before: Option<String>,
}

impl<W: Write> Write for Entry<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.before {
            None => Ok(bytes.len()),
            Some(before) if before.is_empty() => self.to.write(bytes),
            Some(before) => {
                let before = std::mem::take(before);
                self.to.write_all(before.as_bytes())?;
                self.to.write(bytes)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Bounded<M> {
    type Writer = Entry<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Entry {
            to: self.make.make_writer(),
            before: Some(String::new()),
        }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Self::Writer {
        Entry {
            to: self.make.make_writer_for(meta),
            before: self.admit(meta, self.begin.elapsed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A log in memory.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn t13_a_flood_of_warnings_is_cut_and_others_are_not() {
        let memory = Memory::default();
        let writer = memory.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(Bounded::new(move || writer.clone()))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            for peer in 0..10_000 {
                tracing::warn!(peer, "a peer was dropped");
                if peer % 1_000 == 0 {
                    tracing::info!("still here");
                }
            }
            for _ in 0..200 {
                tracing::error!("an end");
            }
        });
        let text = String::from_utf8(memory.0.lock().clone()).expect("text");
        let count = |part| text.matches(part).count();
        assert_eq!(count("a peer was dropped"), LINES as usize);
        assert_eq!(count("are left out"), 1, "it is said once");
        assert_eq!((count("still here"), count("an end")), (10, 200));
    }

    #[test]
    fn t13_a_window_that_is_over_is_settled_and_the_next_begins() {
        let seconds = Duration::from_secs;
        let mut quota = Quota::at(seconds(0));
        let mut taken = Vec::new();
        for _ in 0..LINES + 7 {
            assert_eq!(quota.settle(seconds(59)), None);
            taken.push(quota.take());
        }
        assert_eq!(taken[LINES as usize - 1], Taken::Last);
        assert_eq!(
            taken.iter().filter(|taken| **taken == Taken::None).count(),
            7
        );
        assert_eq!(quota.settle(seconds(60)), Some(7));
        assert_eq!(quota.take(), Taken::Line);
        assert_eq!(quota.settle(seconds(120)), None, "nothing was left out");
    }
}
