//! Processes that are there and do nothing: which of them to end, so that others take their places. Pure, so that it
//! can be tested.

use std::time::{Duration, Instant};

use trainyard_contract::{Member, Stuck};

/// How long server 0 may stay silent after its connection was given up for silence.
const MUTE: Duration = Duration::from_secs(10);

/// How long a process that was killed may take to be gone. One that waits for a dead disk, or for a debugger, is never
/// gone; nor does it do anything any more.
pub const GONE: Duration = Duration::from_secs(5);

/// Longest pause of the supervisor itself in which it has still listened.
const LISTENING: Duration = Duration::from_secs(2);

/// Since when server 0 is silent, if it is.
#[derive(Debug, Default)]
pub struct Silence {
    since: Option<Instant>,
    looked: Option<Instant>,
}

impl Silence {
    /// It has said something, or is another process.
    pub fn broken(&mut self) {
        self.since = None;
    }

    /// It has said nothing for the heartbeat timeout.
    pub fn heard(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// Whether it has been silent for too long. To be asked all the time: who has not listened, hears nothing.
    pub fn is_too_long(&mut self, now: Instant) -> bool {
        let listened = self
            .looked
            .replace(now)
            .is_none_or(|looked| now.duration_since(looked) <= LISTENING);
        if !listened {
            self.since = None;
        }
        self.since
            .is_some_and(|since| now.duration_since(since) >= MUTE)
    }
}

/// Members whose processes are meant by what the coordinator says; `running_for` says for how long that of a member
/// has been running.
pub fn meant(
    stuck: &[Stuck],
    running_for: impl Fn(Member) -> Option<Duration>,
) -> Vec<(Member, String)> {
    let since = |stuck: &&Stuck| {
        let running = running_for(stuck.member);
        running.is_some_and(|running| running > Duration::from_secs(stuck.seconds))
    };
    let meant = stuck.iter().filter(since);
    meant
        .map(|stuck| (stuck.member, stuck.reason.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t34_a_process_that_was_started_later_is_not_meant() {
        let stuck = |index, seconds| Stuck {
            member: Member::worker(index),
            seconds,
            reason: "has been silent".into(),
        };
        let running_for = |member: Member| match member.index {
            0 => Some(Duration::from_secs(60)),
            1 => Some(Duration::from_secs(3)),
            _ => None,
        };
        let meant = meant(&[stuck(0, 15), stuck(1, 15), stuck(2, 15)], running_for);
        assert_eq!(meant, [(Member::worker(0), "has been silent".to_owned())]);
    }

    #[test]
    fn t34_server_0_is_given_up_after_a_silence_that_was_listened_to() {
        let begin = Instant::now();
        let at = |seconds: f64| begin + Duration::from_secs_f64(seconds);
        let mut silence = Silence::default();
        let listen = |silence: &mut Silence, from: u32, to: u32| {
            (2 * from..2 * to).find(|half| silence.is_too_long(at(f64::from(*half) / 2.0)))
        };
        assert_eq!(listen(&mut silence, 0, 100), None, "it is not silent");
        silence.heard(at(100.0));
        assert_eq!(listen(&mut silence, 100, 109), None);
        silence.broken();
        assert_eq!(listen(&mut silence, 109, 120), None, "it was heard");
        silence.heard(at(120.0));
        silence.heard(at(125.0));
        assert_eq!(listen(&mut silence, 120, 140), Some(2 * 130));
        // Whoever was suspended has not listened.
        silence.broken();
        silence.heard(at(140.0));
        assert!(!silence.is_too_long(at(500.0)));
    }
}
