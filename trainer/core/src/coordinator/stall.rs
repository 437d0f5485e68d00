//! Who holds the job up: progress shows life, and not a heartbeat.
//!
//! While the job moves on nobody is suspected. Where it has stood still for much longer than it takes
//! otherwise, the servers that are behind say which leaves they lack, and workers say whose parameters they
//! lack. Who owes something and says nothing, or holds all that it needs, is dismissed: its leaves go to
//! others, and it is named, so that whoever has started its process replaces that.

use std::collections::BTreeMap;
use std::time::Duration;

use trainyard_contract::Stuck;

use super::inquiry::Inquiry;
use super::{Coordinator, PeerId, Phase};
use crate::control::Role;

/// A job that has stood still for so many times as long as its slowest recent step took is stalled.
const PATIENCE: u32 = 20;
/// Heartbeat timeouts for which it must have stood still at least.
const SHORTEST: u32 = 2;
/// Heartbeat timeouts for which it must have stood still where it is not known how long a step takes.
const UNKNOWN: u32 = 120;
/// How often the time that a job may stand still is doubled, where it does not move on with others either.
const MOST_DOUBLED: u32 = 8;
/// A job that has moved on for so many times as long as it stood still before is as it was.
const STEADY: u32 = 8;
/// What is left of the slowest step after another one: the first ones are slow.
const FORGOTTEN: f64 = 15.0 / 16.0;
/// Batches that take as long as a block, at most.
const BATCHES: f64 = 16.0;
/// How much longer a step takes than an evaluation of as many rows, which computes no gradients.
const GRADIENTS: f64 = 2.0;
/// Heartbeat timeouts after which a storage that all wait for is named.
pub(super) const SLOW_STORAGE: u32 = 12;
/// Bytes that a storage gives a server in a second at least.
const SLOWEST: u64 = 1 << 20;
/// The most members that are missed at a time: those of the largest local run.
const MOST_MISSED: usize = 1024;
/// Heartbeat timeouts of silence from which on a process is taken to be stuck. One that was silent for one
/// timeout is not waited for any longer, but may come back with what it holds.
const MUTE: u32 = 3;

/// What the job waits for members to do.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Servers set themselves up, or publish other parameters.
    Loading,
    /// Workers receive their first version.
    Joining,
    /// Servers that were released leave.
    Leaving,
    /// The storage takes a checkpoint or the result, which all wait for.
    Saving,
    Steps,
    /// Blocks of this pass.
    Blocks(u64),
}

/// What is different once the job has moved on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub work: Work,
    pub version: u64,
    /// Parts of it that are done.
    done: u64,
    /// Rows of a block that is evaluated.
    rows: u64,
}

impl Mark {
    /// Whether the next mark says that what this one waits for was done. A pass has blocks of about one size, and perhaps
    /// only one; the last step before a pass waits for more than a step.
    fn led_to(&self, next: &Mark) -> bool {
        self.work == next.work || matches!(self.work, Work::Blocks(_))
    }

    /// Whether the job has moved on from where somebody was given up. That other workers join is no progress yet.
    fn is_past(&self, judged: &Mark) -> bool {
        match (self.work, judged.work) {
            (Work::Joining, _) => false,
            (_, Work::Joining) => self.version > judged.version,
            (this, that) if this == that => {
                (self.version, self.done) > (judged.version, judged.done)
            }
            _ => true,
        }
    }
}

/// How long work has taken at most, of late, while the same members were there.
#[derive(Clone, Debug, Default)]
struct Pace {
    step: Option<Duration>,
    /// Seconds that a worker takes to evaluate a row.
    row: Option<f64>,
}

/// A member that is no longer waited for.
#[derive(Clone, Debug)]
struct Missed {
    since: Duration,
    /// What it does not do; none if it is silent.
    owes: Option<String>,
}

/// Somebody was given up.
#[derive(Copy, Clone, Debug)]
struct Judged {
    /// Where the job stood.
    at: Mark,
    /// How often somebody was since the job was steady.
    times: u32,
    /// When the job is steady again, if it moves on until then.
    steady: Duration,
}

/// Whether the job moves on, and who is in its way.
#[derive(Clone, Debug, Default)]
pub(super) struct Stall {
    mark: Option<Mark>,
    /// When the job last moved on, or, if it has not since, it was last looked for who is in the way.
    pub since: Duration,
    judged: Option<Judged>,
    /// The membership when it was last looked at, and since when the same members have been there and the job has not
    /// moved on.
    epoch: u64,
    settled: Duration,
    pace: Pace,
    pub inquiry: Option<Inquiry>,
    /// The version at which workers were replaced.
    pub replaced_at: Option<u64>,
    missed: BTreeMap<Role, Missed>,
}

impl Pace {
    /// From one mark to the next it took this long. Many steps may have been taken since it was last looked.
    fn learn(&mut self, mark: &Mark, next: &Mark, took: Duration) {
        let slower = |known: f64, new: f64, times: i32| new.max(known * FORGOTTEN.powi(times));
        match mark.work {
            Work::Steps => {
                let steps = next.version.saturating_sub(mark.version).clamp(1, 1000) as u32;
                let known = self.step.map_or(0.0, |step| step.as_secs_f64());
                let step = slower(known, took.as_secs_f64() / f64::from(steps), steps as i32);
                self.step = Duration::try_from_secs_f64(step).ok();
            }
            Work::Blocks(_) if mark.rows > 0 => {
                let new = took.as_secs_f64() / mark.rows as f64;
                self.row = Some(slower(self.row.unwrap_or(0.0), new, 1));
            }
            Work::Blocks(_) | Work::Loading | Work::Joining | Work::Leaving | Work::Saving => {}
        }
    }

    /// How long the work may take from one mark to the next, if anything is known of it.
    fn expected(&self, mark: &Mark, members: u64, batch: u64) -> Option<Duration> {
        match mark.work {
            Work::Loading | Work::Leaving | Work::Saving => None,
            // Every step takes a version to every worker.
            Work::Steps | Work::Joining => self.step,
            Work::Blocks(_) => {
                let of_rows = |row: f64| row * mark.rows as f64;
                // A step takes a row through the network and back, and its workers share the batch. What many
                // rows take together is less than what as many small batches do.
                let batches = (mark.rows as f64 / batch as f64).min(BATCHES);
                let of_steps =
                    |step: Duration| step.as_secs_f64() * members as f64 * batches / GRADIENTS;
                let known = self.row.map(of_rows).or_else(|| self.step.map(of_steps))?;
                Duration::try_from_secs_f64(known).ok()
            }
        }
    }
}

impl Stall {
    /// Nobody has listened for a while: what was waited for may have come.
    pub(super) fn forgive(&mut self, now: Duration) {
        (self.since, self.settled) = (now, now);
        self.inquiry = None;
    }

    /// Somebody is given up where the job stands now, after as long as `patience`.
    pub(super) fn judged(&mut self, now: Duration, at: &Mark, patience: Duration) {
        self.judged = Some(Judged {
            at: *at,
            times: self.times_judged() + 1,
            steady: now + STEADY * patience,
        });
    }

    /// How often somebody was given up since the job was steady.
    fn times_judged(&self) -> u32 {
        self.judged.map_or(0, |judged| judged.times)
    }

    /// The job stands at another mark.
    fn moved(&mut self, now: Duration, mark: Option<Mark>) {
        let past = |at: &Mark| mark.is_some_and(|mark| mark.is_past(at));
        self.judged
            .take_if(|judged| past(&judged.at) && now >= judged.steady);
        self.mark = mark;
        self.forgive(now);
    }

    /// A peer fell silent at this time.
    pub(super) fn silent(&mut self, role: Role, since: Duration) {
        self.miss(role, Missed { since, owes: None });
    }

    /// A member is no longer waited for, since it does not do this.
    pub(super) fn given_up(&mut self, role: Role, since: Duration, owes: &str) {
        let owes = Some(owes.to_owned());
        self.miss(role, Missed { since, owes });
    }

    fn miss(&mut self, role: Role, missed: Missed) {
        self.missed.insert(role, missed);
        if self.missed.len() > MOST_MISSED {
            let oldest = self.missed.iter().min_by_key(|(_, missed)| missed.since);
            let oldest = oldest.map(|(role, _)| *role);
            oldest.map(|role| self.missed.remove(&role));
        }
    }

    /// A member is there, perhaps again.
    pub(super) fn joined(&mut self, role: Role) {
        self.missed.remove(&role);
    }

    /// Members that are to be replaced. Those that are silent have been for three heartbeat timeouts.
    pub(super) fn stuck(&self, now: Duration, timeout: Duration) -> Vec<Stuck> {
        let stuck = |(role, missed): (&Role, &Missed)| {
            let time = now.saturating_sub(missed.since);
            let reason = match &missed.owes {
                Some(owes) => owes.clone(),
                None if time < MUTE * timeout => return None,
                None => format!("has been silent for {} s", time.as_secs()),
            };
            Some(Stuck {
                member: role.member()?,
                seconds: time.as_secs(),
                reason,
            })
        };
        self.missed.iter().filter_map(stuck).collect()
    }

    /// An answer of a server.
    pub(super) fn leaves_missing(&mut self, peer: PeerId, id: u64, leaves: Vec<u32>, saving: bool) {
        if let Some(inquiry) = self.inquiry.as_mut().filter(|inquiry| inquiry.id == id)
            && let Some(answer) = inquiry.servers.get_mut(&peer)
        {
            *answer = Some(leaves);
            inquiry.saving.extend(saving.then_some(peer));
        }
    }

    /// An answer of a worker.
    pub(super) fn servers_awaited(&mut self, peer: PeerId, id: u64, servers: Vec<u32>) {
        let inquiry = self.inquiry.as_mut().filter(|inquiry| inquiry.id == id);
        if let Some(answer) = inquiry.and_then(|inquiry| inquiry.workers.get_mut(&peer)) {
            *answer = Some(servers);
        }
    }

    /// A peer is gone: it need not answer.
    pub(super) fn lost(&mut self, peer: PeerId) {
        if let Some(inquiry) = &mut self.inquiry {
            inquiry.servers.remove(&peer);
            inquiry.workers.remove(&peer);
        }
    }
}

impl Coordinator {
    /// What the job waits for, if it waits for members to do something.
    fn mark(&self) -> Option<Mark> {
        let of_servers = |work, version| Mark {
            work,
            version,
            done: self.peers.applied_in_sum() + u64::from(self.peers.servers_ready()),
            rows: 0,
        };
        match &self.phase {
            Phase::Gathering if self.facts.is_some() => {
                return Some(of_servers(Work::Loading, self.record.step));
            }
            Phase::Restoring => return Some(of_servers(Work::Loading, self.record.step + 1)),
            Phase::Idle(_) => return Some(of_servers(Work::Leaving, self.record.step)),
            Phase::Completing => return Some(of_servers(Work::Saving, self.record.step)),
            _ => {}
        }
        if !self.peers.all_servers_ready() {
            return None; // somebody is being started
        }
        match &self.phase {
            Phase::Training | Phase::Validating(_) | Phase::Final(_)
                if self.peers.members().is_empty() =>
            {
                // However often they come and go meanwhile.
                Some(Mark {
                    work: Work::Joining,
                    version: self.version(),
                    done: 0,
                    rows: 0,
                })
            }
            Phase::Training if self.awaits_storage() => {
                Some(of_servers(Work::Saving, self.version()))
            }
            Phase::Training if self.version() < self.limit => Some(self.of_steps()),
            Phase::Halting(halting) if halting.waits_for_workers() => Some(self.of_steps()),
            Phase::Validating(pass) | Phase::Final(pass) => Some(Mark {
                work: Work::Blocks(pass.id),
                version: pass.version,
                done: pass.done(),
                rows: pass.rows_of_block(),
            }),
            _ => None,
        }
    }

    /// Where the job stands while steps are taken.
    fn of_steps(&self) -> Mark {
        Mark {
            work: Work::Steps,
            version: self.version(),
            done: self.peers.applied_in_sum(),
            rows: 0,
        }
    }

    /// Whether all is trained, and only its checkpoint is missing.
    fn awaits_storage(&self) -> bool {
        let total = self.plan.as_ref().map_or(0, |plan| plan.total_steps());
        let over = self.version() >= total || self.record.stopped_early;
        over && !self.is_committed(self.version())
    }

    /// Looks whether the job has moved on, and finds out who is in the way if it has not for long.
    pub(super) fn watch_for_stalls(&mut self, now: Duration) {
        let mark = self.mark();
        let known = self.stall.mark;
        let epoch = self.peers.epoch();
        let same_members = std::mem::replace(&mut self.stall.epoch, epoch) == epoch;
        if !same_members {
            self.stall.settled = now;
        }
        let same = |known: &Mark, mark: &Mark| {
            (known.work, known.version, known.done) == (mark.work, mark.version, mark.done)
        };
        if !matches!((&known, &mark), (Some(known), Some(mark)) if same(known, mark)) {
            if let (Some(known), Some(mark)) = (&known, &mark)
                && known.led_to(mark)
                && same_members
            {
                let took = now.saturating_sub(self.stall.settled);
                self.stall.pace.learn(known, mark, took);
            }
            return self.stall.moved(now, mark);
        }
        let Some(mark) = mark else { return };
        self.stall.mark = Some(mark);
        match &self.stall.inquiry {
            Some(inquiry) => {
                let mut answers = inquiry.servers.values().chain(inquiry.workers.values());
                if now >= inquiry.deadline || answers.all(Option::is_some) {
                    self.judge(now, &mark);
                }
            }
            None if now.saturating_sub(self.stall.since) > self.patience(&mark) => {
                self.inquire(now, &mark)
            }
            None => {}
        }
    }

    /// How long the job may stand still.
    pub(super) fn patience(&self, mark: &Mark) -> Duration {
        let timeout = self.config.heartbeat_timeout;
        let members = self.peers.members().len() as u64;
        let batch = self.config.batch_size.max(1);
        let patience = match self.stall.pace.expected(mark, members, batch) {
            Some(expected) => expected.saturating_mul(PATIENCE).max(SHORTEST * timeout),
            None if mark.work == Work::Leaving => MUTE * timeout,
            None if mark.work == Work::Saving => SLOW_STORAGE * timeout,
            None => UNKNOWN * timeout + self.loading_time(),
        };
        // Where others did no better, perhaps all is slow. A few steps do not say otherwise: processor time that is
        // given in advance lasts for those.
        patience.saturating_mul(1 << self.stall.times_judged().min(MOST_DOUBLED))
    }

    /// How long a server may take to read its part of a checkpoint.
    fn loading_time(&self) -> Duration {
        let manifest = self.committed.as_ref().or(self.start.as_ref());
        let bytes = manifest.map_or(0, |manifest| {
            let slots = manifest.shards.first().map_or(0, |shard| shard.slots.len());
            (1 + slots as u64).saturating_mul(4 * manifest.floats)
        });
        Duration::from_secs(bytes / SLOWEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t34_a_slow_first_step_is_forgotten_by_steps_and_not_by_looks() {
        let mark = |version| Mark {
            work: Work::Steps,
            version,
            done: version,
            rows: 0,
        };
        let mut pace = Pace::default();
        pace.learn(&mark(0), &mark(1), Duration::from_secs(1));
        assert_eq!(pace.step, Some(Duration::from_secs(1)));
        pace.learn(&mark(1), &mark(101), Duration::from_millis(500));
        assert_eq!(pace.step, Some(Duration::from_millis(5)), "so many at once");
        pace.learn(&mark(101), &mark(101), Duration::from_secs(2));
        assert_eq!(pace.step, Some(Duration::from_secs(2)), "a part of a step");
    }
}
