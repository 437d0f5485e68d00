//! Who holds the job up: progress shows life, and not a heartbeat.
//!
//! While the job moves on nobody is suspected. Where it has stood still for much longer than it takes
//! otherwise, the servers that are behind say which leaves they lack, and workers say whose parameters they
//! lack. Who owes something and says nothing, or holds all that it needs, is dismissed: its leaves go to
//! others, and it is named, so that whoever has started its process replaces that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trainyard_contract::{Member, Stuck};

use super::{Action, Coordinator, Outcome, PeerId, Phase};
use crate::assignment::leaf_range;
use crate::control::{FromCoordinator, Role};

/// A job that has stood still for so many times as long as its slowest recent step took is stalled.
const PATIENCE: u32 = 20;
/// Heartbeat timeouts for which it must have stood still at least.
const SHORTEST: u32 = 2;
/// Heartbeat timeouts for which it must have stood still where it is not known how long a step takes.
const UNKNOWN: u32 = 120;
/// Batches that take as long as a block, at most.
const BATCHES: f64 = 16.0;
/// Bytes that a storage gives a server in a second at least.
const SLOWEST: u64 = 1 << 20;
/// Heartbeat timeouts of silence from which on a process is taken to be stuck. One that was silent for one
/// timeout is not waited for any longer, but may come back with what it holds.
const MUTE: u32 = 3;

/// What the job waits for members to do.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Work {
    /// Servers set themselves up, or publish other parameters.
    Loading,
    /// Workers receive their first version.
    Joining,
    /// Servers that were released leave.
    Leaving,
    Steps,
    /// Blocks of this pass.
    Blocks(u64),
}

/// What is different once the job has moved on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Mark {
    work: Work,
    version: u64,
    /// Parts of it that are done.
    done: u64,
    /// Rows of a block that is evaluated.
    rows: u64,
}

/// How long work has taken at most, of late.
#[derive(Clone, Debug, Default)]
struct Pace {
    step: Option<Duration>,
    /// Seconds that a worker takes to evaluate a row.
    row: Option<f64>,
}

/// A question to those who may hold the job up.
#[derive(Clone, Debug)]
struct Inquiry {
    id: u64,
    version: u64,
    deadline: Duration,
    /// Leaves that servers lack.
    servers: BTreeMap<PeerId, Option<Vec<u32>>>,
    /// Servers that workers lack parameters of.
    workers: BTreeMap<PeerId, Option<Vec<u32>>>,
}

/// A member that is no longer waited for.
#[derive(Clone, Debug)]
struct Missed {
    since: Duration,
    /// What it does not do; none if it is silent.
    owes: Option<String>,
}

/// Whether the job moves on, and who is in its way.
#[derive(Clone, Debug, Default)]
pub(super) struct Stall {
    mark: Option<Mark>,
    since: Duration,
    pace: Pace,
    inquiry: Option<Inquiry>,
    /// The version at which workers that wait for parameters were replaced in vain.
    replaced_at: Option<u64>,
    missed: BTreeMap<Role, Missed>,
}

fn member(role: Role) -> Option<Member> {
    match role {
        Role::Server(index) => Some(Member::server(index)),
        Role::Worker(index) => Some(Member::worker(index)),
        Role::Observer => None,
    }
}

impl Pace {
    /// Something took this long.
    fn learn(&mut self, mark: &Mark, took: Duration) {
        let slower = |known: f64, new: f64| new.max(known * 15.0 / 16.0);
        match mark.work {
            Work::Steps => {
                let known = self.step.map_or(0.0, |step| step.as_secs_f64());
                let step = slower(known, took.as_secs_f64());
                self.step = Duration::try_from_secs_f64(step).ok();
            }
            Work::Blocks(_) if mark.rows > 0 => {
                let new = took.as_secs_f64() / mark.rows as f64;
                self.row = Some(slower(self.row.unwrap_or(0.0), new));
            }
            Work::Blocks(_) | Work::Loading | Work::Joining | Work::Leaving => {}
        }
    }

    /// How long the work may take from one mark to the next, if anything is known of it.
    fn expected(&self, mark: &Mark, members: u64, batch: u64) -> Option<Duration> {
        match mark.work {
            Work::Loading | Work::Leaving => None,
            // Every step takes a version to every worker.
            Work::Steps | Work::Joining => self.step,
            Work::Blocks(_) => {
                let of_rows = |row: f64| row * mark.rows as f64;
                // A step takes a row through the network and back, and its workers share the batch. What many
                // rows take together is less than what as many small batches do.
                let batches = (mark.rows as f64 / batch as f64).min(BATCHES);
                let of_steps = |step: Duration| step.as_secs_f64() * members as f64 * batches;
                let known = self.row.map(of_rows).or_else(|| self.step.map(of_steps))?;
                Duration::try_from_secs_f64(known).ok()
            }
        }
    }
}

impl Stall {
    /// Nobody has listened for a while: what was waited for may have come.
    pub(super) fn forgive(&mut self, now: Duration) {
        self.since = now;
        self.inquiry = None;
    }

    /// A peer fell silent at this time.
    pub(super) fn silent(&mut self, role: Role, since: Duration) {
        self.missed.insert(role, Missed { since, owes: None });
    }

    /// A member is there, perhaps again.
    pub(super) fn joined(&mut self, role: Role) {
        self.missed.remove(&role);
    }

    /// Members that are to be replaced.
    pub(super) fn stuck(&self, now: Duration, timeout: Duration) -> Vec<Stuck> {
        let stuck = |(role, missed): (&Role, &Missed)| {
            let time = now.saturating_sub(missed.since);
            let reason = match &missed.owes {
                Some(owes) => owes.clone(),
                None if time < MUTE * timeout => return None,
                None => format!("has been silent for {} s", time.as_secs()),
            };
            Some(Stuck {
                member: member(*role)?,
                seconds: time.as_secs(),
                reason,
            })
        };
        self.missed.iter().filter_map(stuck).collect()
    }

    /// An answer of a server.
    pub(super) fn leaves_missing(&mut self, peer: PeerId, id: u64, leaves: Vec<u32>) {
        let inquiry = self.inquiry.as_mut().filter(|inquiry| inquiry.id == id);
        if let Some(answer) = inquiry.and_then(|inquiry| inquiry.servers.get_mut(&peer)) {
            *answer = Some(leaves);
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
            Phase::Training if self.version() < self.limit => Some(Mark {
                work: Work::Steps,
                version: self.version(),
                done: self.peers.applied_in_sum(),
                rows: 0,
            }),
            Phase::Validating(pass) | Phase::Final(pass) => Some(Mark {
                work: Work::Blocks(pass.id),
                version: pass.version,
                done: pass.done(),
                rows: pass.rows_of_block(),
            }),
            _ => None,
        }
    }

    /// Looks whether the job has moved on, and finds out who is in the way if it has not for long.
    pub(super) fn watch_for_stalls(&mut self, now: Duration) {
        let mark = self.mark();
        let known = self.stall.mark;
        let same = |known: &Mark, mark: &Mark| {
            (known.work, known.version, known.done) == (mark.work, mark.version, mark.done)
        };
        if !matches!((&known, &mark), (Some(known), Some(mark)) if same(known, mark)) {
            if let (Some(known), Some(mark)) = (&known, &mark)
                && known.work == mark.work
            {
                let took = now.saturating_sub(self.stall.since);
                self.stall.pace.learn(known, took);
            }
            self.stall.mark = mark;
            return self.stall.forgive(now);
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
    fn patience(&self, mark: &Mark) -> Duration {
        let timeout = self.config.heartbeat_timeout;
        let members = self.peers.members().len() as u64;
        let batch = self.config.batch_size.max(1);
        match self.stall.pace.expected(mark, members, batch) {
            Some(expected) => expected.saturating_mul(PATIENCE).max(SHORTEST * timeout),
            None if mark.work == Work::Leaving => MUTE * timeout,
            None => UNKNOWN * timeout + self.loading_time(),
        }
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

    /// Asks the servers that are behind, and the workers that may owe something.
    fn inquire(&mut self, now: Duration, mark: &Mark) {
        let (servers, workers) = match (mark.work, &self.phase) {
            (Work::Loading, _) => (self.peers.loading(mark.version), Vec::new()),
            (Work::Joining, _) => (Vec::new(), self.peers.able_workers()),
            (_, Phase::Idle(leaving)) => {
                let peer = |server: &u32| self.peers.server_peer(*server);
                (leaving.iter().filter_map(peer).collect(), Vec::new())
            }
            (Work::Blocks(_), Phase::Validating(pass) | Phase::Final(pass)) => {
                (Vec::new(), pass.owing().into_iter().collect())
            }
            _ => {
                let sharing = self.peers.sharing(self.config.leaves).to_vec();
                (self.peers.behind(mark.version), sharing)
            }
        };
        self.ids += 1;
        let (id, version) = (self.ids, mark.version);
        for peer in servers.iter().chain(&workers) {
            self.send(*peer, FromCoordinator::Stalled { id, version });
        }
        let unanswered = |peers: Vec<PeerId>| peers.into_iter().map(|peer| (peer, None)).collect();
        self.stall.inquiry = Some(Inquiry {
            id,
            version,
            deadline: now + self.config.heartbeat_timeout,
            servers: unanswered(servers),
            workers: unanswered(workers),
        });
    }

    /// Dismisses those who are in the way.
    fn judge(&mut self, now: Duration, mark: &Mark) {
        let Some(inquiry) = self.stall.inquiry.take() else {
            return;
        };
        let stood = now.saturating_sub(self.stall.since).as_secs();
        self.stall.since = now;
        let mute = inquiry.mute();
        if !mute.is_empty() {
            let owes = format!("does not answer, and the job has stood still for {stood} s");
            return self.give_up_all(now, mute, &owes);
        }
        let version = mark.version;
        let (owing, owed) = match mark.work {
            Work::Loading | Work::Leaving => return, // whoever answers is at it
            Work::Steps => (self.owing(&inquiry), format!("gradients of step {version}")),
            Work::Joining => (
                inquiry.asked_workers(),
                format!("its word that it holds step {version}"),
            ),
            Work::Blocks(_) => {
                let results = format!("results of the evaluation at step {version}");
                (inquiry.asked_workers(), results)
            }
        };
        let owes = format!("has owed {owed} for {stood} s");
        let all = owing.len() > 1 && owing.len() == inquiry.workers.len();
        if all && self.peers.furthest() > version && mark.work == Work::Steps {
            // Other servers have got what these lack.
            let servers = inquiry.servers.keys().copied().collect();
            let takes = format!("has taken no gradients of step {version} for {stood} s");
            return self.give_up_all(now, servers, &takes);
        }
        // Those who have all that they need do not use it.
        let idle = |peer: &PeerId| inquiry.awaited(*peer).is_empty();
        let idle: Vec<PeerId> = owing.iter().copied().filter(idle).collect();
        if !idle.is_empty() {
            return self.give_up_all(now, idle, &owes);
        }
        // The others wait for servers. If all do, or new workers do, it is those that do not send.
        if all || self.stall.replaced_at == Some(inquiry.version) {
            let awaited = |server: &u32| owing.iter().all(|p| inquiry.awaited(*p).contains(server));
            let servers = (0..self.config.servers).filter(awaited);
            let servers: Vec<PeerId> = servers.filter_map(|s| self.peers.server_peer(s)).collect();
            if !servers.is_empty() {
                let sends = format!("has sent no parameters of step {version} for {stood} s");
                return self.give_up_all(now, servers, &sends);
            }
        }
        self.stall.replaced_at = Some(inquiry.version);
        self.give_up_all(now, owing, &owes);
    }

    /// Workers that owe leaves that are missing.
    fn owing(&self, inquiry: &Inquiry) -> Vec<PeerId> {
        let missing = inquiry.servers.values().flatten().flatten();
        let missing: BTreeSet<u32> = missing.copied().collect();
        let sharing = self.peers.sharing(self.config.leaves);
        let owes = |rank: usize| {
            let own = leaf_range(self.config.leaves, sharing.len(), rank);
            missing.range(own).next().is_some()
        };
        let owing = sharing.iter().enumerate().filter(|(rank, _)| owes(*rank));
        owing
            .map(|(_, peer)| *peer)
            .filter(|peer| inquiry.workers.contains_key(peer))
            .collect()
    }

    fn give_up_all(&mut self, now: Duration, peers: Vec<PeerId>, owes: &str) {
        peers
            .into_iter()
            .for_each(|peer| self.give_up(now, peer, owes));
    }

    /// Waits for a member no longer, and names it.
    fn give_up(&mut self, now: Duration, peer: PeerId, owes: &str) {
        let Some(role) = self.peers.role(peer) else {
            return;
        };
        let Some(member) = member(role) else { return };
        let member = format!("{} {}", member.role, member.index);
        self.warn(format!("{member} {owes}; it is replaced"));
        if role == Role::Server(0) {
            // It is this very process. Its supervisor starts another under a newer generation.
            let all = self.peers.take_all();
            all.into_iter()
                .for_each(|peer| self.actions.push(Action::Close(peer)));
            return self.end(Outcome::Drained);
        }
        let owes = Some(owes.to_owned());
        self.stall.missed.insert(role, Missed { since: now, owes });
        self.refuse(peer, format!("{member} is in the way of the job"), true);
    }
}

impl Inquiry {
    /// Those who have not answered.
    fn mute(&self) -> Vec<PeerId> {
        let asked = self.servers.iter().chain(&self.workers);
        let mute = asked.filter(|(_, answer)| answer.is_none());
        mute.map(|(peer, _)| *peer).collect()
    }

    fn asked_workers(&self) -> Vec<PeerId> {
        self.workers.keys().copied().collect()
    }

    /// The servers that a worker waits for.
    fn awaited(&self, worker: PeerId) -> &[u32] {
        let answer = self.workers.get(&worker).and_then(Option::as_ref);
        answer.map_or(&[], Vec::as_slice)
    }
}
