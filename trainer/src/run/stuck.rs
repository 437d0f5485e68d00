//! Processes that are there and do nothing: which of them to end, so that others take their places. Pure, so that it
//! can be tested.

use std::time::{Duration, Instant};

use trainyard_contract::{Member, Stuck};

/// How often processes that do nothing are looked for at least.
pub const LOOK: Duration = Duration::from_millis(500);

/// How long server 0 may stay silent after its connection was given up for silence.
pub const MUTE: Duration = Duration::from_secs(10);

/// How long a process that was killed may take to be gone. One that waits for a dead disk, or for a debugger, is never
/// gone; nor does it do anything any more.
pub const GONE: Duration = Duration::from_secs(5);

/// Seconds are told whole, and what is told has been on its way: a process that was started so much before it became
/// stuck may be another one.
const SKEW: Duration = Duration::from_secs(2);

/// Longest pause of the supervisor itself in which it has still listened.
const LISTENING: Duration = Duration::from_secs(2);

/// Since when a process is silent, if it is.
#[derive(Debug, Default)]
pub struct Silence {
    since: Option<Instant>,
    looked: Option<Instant>,
}

impl Silence {
    /// It has said something, or is another process.
    pub fn ends(&mut self) {
        self.since = None;
    }

    /// It says nothing, perhaps for longer already.
    pub fn begins(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// Whether it has been silent for so long. To be asked all the time: who has not listened, hears nothing.
    pub fn lasts(&mut self, now: Instant, limit: Duration) -> bool {
        let listened = self
            .looked
            .replace(now)
            .is_none_or(|looked| now.duration_since(looked) <= LISTENING);
        if !listened {
            self.since = None;
        }
        self.since
            .is_some_and(|since| now.duration_since(since) >= limit)
    }
}

/// Members whose processes are meant by what the coordinator said; `had_run_for` says for how long that of a member
/// had been running when it said so.
pub fn meant(
    stuck: &[Stuck],
    had_run_for: impl Fn(Member) -> Option<Duration>,
) -> Vec<(Member, String)> {
    let since = |stuck: &&Stuck| {
        let ran = had_run_for(stuck.member);
        ran.is_some_and(|ran| ran > Duration::from_secs(stuck.seconds) + SKEW)
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
        let had_run_for = |member: Member| match member.index {
            0 => Some(Duration::from_secs(60)),
            1 => Some(Duration::from_secs(3)),
            // Its predecessor was stuck for 15.9 s, and it was started at once.
            2 => Some(Duration::from_millis(15_800)),
            _ => None,
        };
        let stuck = [0, 1, 2, 3].map(|index| stuck(index, 15));
        let meant = meant(&stuck, had_run_for);
        assert_eq!(meant, [(Member::worker(0), "has been silent".to_owned())]);
    }

    #[test]
    fn t34_server_0_is_given_up_after_a_silence_that_was_listened_to() {
        let begin = Instant::now();
        let at = |seconds: f64| begin + Duration::from_secs_f64(seconds);
        let mut silence = Silence::default();
        let listen = |silence: &mut Silence, from: u32, to: u32| {
            (2 * from..2 * to).find(|half| silence.lasts(at(f64::from(*half) / 2.0), MUTE))
        };
        assert_eq!(listen(&mut silence, 0, 100), None, "it is not silent");
        silence.begins(at(100.0));
        assert_eq!(listen(&mut silence, 100, 109), None);
        silence.ends();
        assert_eq!(listen(&mut silence, 109, 120), None, "it was heard");
        silence.begins(at(120.0));
        silence.begins(at(125.0));
        assert_eq!(listen(&mut silence, 120, 140), Some(2 * 130));
        // Whoever was suspended has not listened.
        silence.ends();
        silence.begins(at(140.0));
        assert!(!silence.lasts(at(500.0), MUTE));
    }
}
