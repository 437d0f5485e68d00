//! What to do when a process of a run ends: pure, so that it can be tested. What the end means is judged as by the operator; the
//! waits are shorter, since nothing has to be scheduled, and somebody watches.

use std::collections::BTreeMap;
use std::time::Duration;

use trainyard_contract::{Member, Role, Verdict, doubled};

/// Shortest wait before a process is started again.
const SHORTEST: Duration = Duration::from_millis(100);
/// Longest wait after a crash.
const LONGEST_AFTER_CRASH: Duration = Duration::from_secs(10);
/// Longest wait of a process that asked to be tried again: what it waits for is elsewhere, and may be
/// away for long.
const LONGEST_OF_RETRIES: Duration = Duration::from_secs(30);
/// A process that lived this long starts the backoff anew.
const HEALTHY: Duration = Duration::from_secs(30);
/// How long the word that the job is over may take after the end of a process that has heard it.
pub const WORD: Duration = Duration::from_secs(2);

/// What a run does when one of its processes has ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
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
    /// Ends in a row of each member that did not live long; one that flaps delays only itself.
    streaks: BTreeMap<M, u32>,
    /// How far the job was when a member last ended for lack of memory.
    lacked: BTreeMap<M, u64>,
}

impl<M> Default for Restarts<M> {
    fn default() -> Self {
        Restarts {
            counted: 0,
            streaks: BTreeMap::new(),
            lacked: BTreeMap::new(),
        }
    }
}

impl<M: Ord> Restarts<M> {
    /// What follows from the end of a member's process that lived for `lived`.
    pub fn react(
        &mut self,
        member: M,
        verdict: Verdict,
        lived: Duration,
        backoff_limit: u32,
    ) -> Reaction {
        let longest = match verdict {
            Verdict::Permanent => return Reaction::Fail,
            // It was asked to leave, and nothing is wrong.
            Verdict::Left => return Reaction::Restart(SHORTEST),
            Verdict::Disrupted => LONGEST_OF_RETRIES,
            Verdict::Failed => {
                self.counted += 1;
                if self.counted > backoff_limit {
                    return Reaction::Exhausted;
                }
                LONGEST_AFTER_CRASH
            }
        };
        let streak = self.streaks.entry(member).or_default();
        *streak = match lived >= HEALTHY {
            true => 1,
            false => streak.saturating_add(1),
        };
        Reaction::Restart(doubled(SHORTEST, *streak - 1, longest))
    }
}

impl<M: Ord> Restarts<M> {
    /// A member has ended for lack of memory, when the job had come to step `furthest`. Returns whether another
    /// start is hopeless: there was one already, and the job has not come any further. One alone may have met others
    /// that were loading.
    pub fn is_hopeless(&mut self, member: M, furthest: u64) -> bool {
        self.lacked.insert(member, furthest) == Some(furthest)
    }
}

/// Whether a process that has left in order has just heard that the job is over: the word is on its
/// way to the run as well, and nobody is to be missed until it should be here.
///
/// Only server 0 may end the run by leaving. A worker also leaves in order when it is told to and finds
/// no coordinator, and then server 0 may be in the midst of writing the result. Another server leaves in
/// order only when it was released, also if the phase that was last heard is an earlier one.
pub fn heard_the_end(member: Member, verdict: Verdict, phase: &str) -> bool {
    let over = ["Completing", "Finished", "Stopped", "Failed"];
    verdict == Verdict::Left && (over.contains(&phase) || member.role == Role::Server)
}

/// That there were too many restarts, as the end of a clause.
pub fn used_up(backoff_limit: u32) -> String {
    match backoff_limit {
        0 => " and backoffLimit allows no restart".into(),
        1 => " and the restart that backoffLimit allows is used up".into(),
        limit => format!(" and the {limit} restarts that backoffLimit allows are used up"),
    }
}

/// Whether somebody else claims the checkpoints: a run hands out every generation of its own, so a
/// higher one is another's.
pub fn taken_over(claimed: Option<u64>, handed_out: u32) -> bool {
    claimed.is_some_and(|claimed| claimed > handed_out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(1);

    fn restart(milliseconds: u64) -> Reaction {
        Reaction::Restart(Duration::from_millis(milliseconds))
    }

    #[test]
    fn crashes_back_off_and_are_counted_and_retries_are_not() {
        let mut restarts = Restarts::default();
        assert_eq!(restarts.react(0, Verdict::Failed, SHORT, 3), restart(100));
        assert_eq!(restarts.react(0, Verdict::Failed, SHORT, 3), restart(200));
        assert_eq!(
            restarts.react(0, Verdict::Disrupted, SHORT, 3),
            restart(400)
        );
        assert_eq!(restarts.react(0, Verdict::Failed, HEALTHY, 3), restart(100));
        assert_eq!(
            restarts.react(0, Verdict::Failed, SHORT, 3),
            Reaction::Exhausted
        );
        assert_eq!(
            restarts.react(0, Verdict::Permanent, SHORT, 3),
            Reaction::Fail
        );
    }

    #[test]
    fn retries_double_their_wait_to_half_a_minute_and_never_end_the_run() {
        let mut restarts = Restarts::default();
        let mut wait = || match restarts.react(0, Verdict::Disrupted, SHORT, 0) {
            Reaction::Restart(wait) => wait.as_millis(),
            other => panic!("{other:?}"),
        };
        let waits: Vec<u128> = (0..11).map(|_| wait()).collect();
        let doubling = [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600];
        assert_eq!(waits[..9], doubling);
        assert_eq!(waits[9..], [30_000, 30_000]);
        assert!((0..10_000).all(|_| wait() == 30_000));
        // One that worked for a while begins anew.
        assert_eq!(
            restarts.react(0, Verdict::Disrupted, HEALTHY, 0),
            restart(100)
        );
        assert_eq!(
            restarts.react(0, Verdict::Disrupted, SHORT, 0),
            restart(200)
        );
    }

    #[test]
    fn t20_a_member_that_lacks_memory_again_before_a_step_is_not_started_a_third_time() {
        let mut restarts = Restarts::default();
        assert!(!restarts.is_hopeless("worker 0", 0));
        assert!(!restarts.is_hopeless("worker 1", 0), "another one");
        assert!(restarts.is_hopeless("worker 0", 0));
        assert!(!restarts.is_hopeless("worker 1", 7), "it has trained since");
        assert!(restarts.is_hopeless("worker 1", 7));
    }

    #[test]
    fn t12_whoever_leaves_in_order_is_back_at_once() {
        let mut restarts = Restarts::default();
        for _ in 0..10 {
            assert_eq!(restarts.react(0, Verdict::Left, SHORT, 0), restart(100));
        }
    }

    #[test]
    fn t10_only_a_generation_of_another_run_takes_over() {
        assert!(!taken_over(None, 1));
        assert!(!taken_over(Some(3), 3), "our own server 0 has claimed it");
        assert!(!taken_over(Some(3), 4), "not yet claimed");
        assert!(taken_over(Some(4), 3));
    }

    #[test]
    fn the_end_is_only_heard_where_it_is_near() {
        let heard = |verdict, phase| heard_the_end(Member::worker(0), verdict, phase);
        assert!(heard(Verdict::Left, "Completing"));
        assert!(heard(Verdict::Left, "Finished"));
        assert!(!heard(Verdict::Left, "Training"));
        assert!(!heard(Verdict::Failed, "Completing"));
        let server = |verdict| heard_the_end(Member::server(1), verdict, "Training");
        assert!(server(Verdict::Left) && !server(Verdict::Failed));
    }

    #[test]
    fn a_member_that_flaps_does_not_delay_another() {
        let mut restarts = Restarts::default();
        for _ in 0..5 {
            restarts.react("flapping", Verdict::Failed, SHORT, 100);
        }
        assert_eq!(
            restarts.react("other", Verdict::Failed, SHORT, 100),
            restart(100)
        );
    }

    #[test]
    fn the_wait_is_bounded() {
        let mut restarts = Restarts::default();
        for _ in 0..100 {
            let verdict = restarts.react(0, Verdict::Failed, Duration::ZERO, 1000);
            assert!(matches!(verdict, Reaction::Restart(wait) if wait <= LONGEST_AFTER_CRASH));
        }
    }
}
