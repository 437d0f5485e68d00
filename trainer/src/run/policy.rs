//! What to do when a process of a run ends: pure, so that it can be tested.

use std::collections::BTreeMap;
use std::time::Duration;

/// Shortest and longest wait before a process is started again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A process that lived this long starts the backoff anew.
const HEALTHY: Duration = Duration::from_secs(30);

/// How a process ended, as far as the policy minds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Exit code 0.
    Clean,
    /// Exit code 75.
    TryAgain,
    /// Killed by a signal, or a panic (101).
    Crash,
    /// Any other exit code: trying again will not help.
    Permanent(i32),
}

impl End {
    /// From an exit code, or none for a signal.
    pub fn of(code: Option<i32>) -> End {
        match code {
            Some(0) => End::Clean,
            Some(75) => End::TryAgain,
            Some(101) | None => End::Crash,
            Some(code) => End::Permanent(code),
        }
    }
}

/// What follows.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Start it again after this wait.
    Restart(Duration),
    /// The run has failed.
    Fail,
    /// The run has failed: too many restarts.
    Exhausted,
}

/// Restarts so far, of members named by `M`.
#[derive(Clone, Debug)]
pub struct Restarts<M> {
    /// Crashes counted against `backoffLimit`.
    pub counted: u32,
    /// Crashes in a row of each member that did not live long; one that flaps delays only itself.
    streaks: BTreeMap<M, u32>,
}

impl<M> Default for Restarts<M> {
    fn default() -> Self {
        Restarts {
            counted: 0,
            streaks: BTreeMap::new(),
        }
    }
}

impl<M: Ord> Restarts<M> {
    /// Judges the end of a member's process that lived for `lived`.
    pub fn judge(&mut self, member: M, end: End, lived: Duration, backoff_limit: u32) -> Verdict {
        match end {
            End::Permanent(_) => Verdict::Fail,
            End::Clean | End::TryAgain => Verdict::Restart(BACKOFF.0),
            End::Crash => {
                self.counted += 1;
                if self.counted > backoff_limit {
                    return Verdict::Exhausted;
                }
                let streak = self.streaks.entry(member).or_default();
                *streak = if lived >= HEALTHY { 0 } else { *streak + 1 };
                let doubled = BACKOFF.0 * 2u32.saturating_pow(streak.saturating_sub(1).min(16));
                Verdict::Restart(doubled.min(BACKOFF.1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(1);

    fn restart(milliseconds: u64) -> Verdict {
        Verdict::Restart(Duration::from_millis(milliseconds))
    }

    #[test]
    fn crashes_back_off_and_are_counted_and_retries_are_not() {
        let mut restarts = Restarts::default();
        assert_eq!(restarts.judge(0, End::of(None), SHORT, 3), restart(100));
        assert_eq!(
            restarts.judge(0, End::of(Some(101)), SHORT, 3),
            restart(200)
        );
        assert_eq!(restarts.judge(0, End::of(Some(75)), SHORT, 3), restart(100));
        assert_eq!(restarts.judge(0, End::of(None), HEALTHY, 3), restart(100));
        assert_eq!(
            restarts.judge(0, End::of(None), SHORT, 3),
            Verdict::Exhausted
        );
        assert_eq!(restarts.judge(0, End::of(Some(2)), SHORT, 3), Verdict::Fail);
    }

    #[test]
    fn a_member_that_flaps_does_not_delay_another() {
        let mut restarts = Restarts::default();
        for _ in 0..5 {
            restarts.judge("flapping", End::Crash, SHORT, 100);
        }
        assert_eq!(
            restarts.judge("other", End::Crash, SHORT, 100),
            restart(100)
        );
    }

    #[test]
    fn the_wait_is_bounded() {
        let mut restarts = Restarts::default();
        for _ in 0..100 {
            let verdict = restarts.judge(0, End::Crash, Duration::ZERO, 1000);
            assert!(matches!(verdict, Verdict::Restart(wait) if wait <= BACKOFF.1));
        }
    }
}
