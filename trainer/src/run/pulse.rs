//! Whether a process runs at all: as long as it does, it writes into a pipe.
//!
//! This is what the kubelet learns from a container's `/healthz`. It tells of a process that was stopped, or that the system
//! does not let go on, also before it has ever said a word to the coordinator.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::time::{Duration, Instant};

use super::stuck::Silence;

/// How long a process may take to begin: it may have to read libtorch from a slow disk.
const BEGINNING: Duration = Duration::from_secs(30);

/// How long one that has begun may give no sign that it runs.
const FROZEN: Duration = Duration::from_secs(15);

/// The same, where it is to end anyway.
const FROZEN_AT_THE_END: Duration = Duration::from_secs(5);

/// Our end of the pipe that a process writes into.
#[derive(Debug)]
pub struct Pulse {
    pipe: PipeReader,
    silence: Silence,
    /// Whether it has ever written.
    begun: bool,
}

impl Pulse {
    /// The pipe of a process that is about to be started; it inherits the other end.
    ///
    /// # Errors
    /// If the system gives no pipe.
    pub fn new(now: Instant) -> io::Result<(Self, PipeWriter)> {
        let (pipe, other) = io::pipe()?;
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let mut silence = Silence::default();
        silence.begins(now);
        let pulse = Pulse {
            pipe,
            silence,
            begun: false,
        };
        Ok((pulse, other))
    }

    /// For how long the process has written nothing, if that is too long for one that is to go on, or that is to end
    /// if it is `ending`. To be asked all the time, as [`Silence::lasts`].
    pub fn missing(&mut self, now: Instant, ending: bool) -> Option<Duration> {
        let mut bytes = [0; 256];
        while self.pipe.read(&mut bytes).is_ok_and(|read| read > 0) {
            self.begun = true;
            self.silence.ends();
        }
        self.silence.begins(now);
        let limit = match (ending, self.begun) {
            (true, _) => FROZEN_AT_THE_END,
            (false, true) => FROZEN,
            (false, false) => BEGINNING,
        };
        self.silence.lasts(now, limit).then_some(limit)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn t34_a_process_that_writes_nothing_is_noticed() {
        let begin = Instant::now();
        let (mut pulse, mut process) = Pulse::new(begin).expect("a pipe");
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let missing = |pulse: &mut Pulse, from: u64, to: u64| {
            (from..to).find(|second| pulse.missing(at(*second), false).is_some())
        };
        assert_eq!(missing(&mut pulse, 0, 100), Some(30), "it has not begun");
        process.write_all(&[0; 1000]).expect("there is room");
        assert_eq!(missing(&mut pulse, 31, 100), Some(46));
        process.write_all(&[0]).expect("there is room");
        assert_eq!(missing(&mut pulse, 47, 62), None, "it goes on");
        drop(process);
        assert_eq!(missing(&mut pulse, 62, 120), Some(62), "nobody is there");
    }
}
