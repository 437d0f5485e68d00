//! Who is in the way of a job that stands still: asked, judged, sent away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::stall::{Mark, SLOW_STORAGE, Work};
use super::{Action, Coordinator, Outcome, PeerId, Phase};
use crate::assignment::leaf_range;
use crate::control::{FromCoordinator, Role};

/// A question to those who may hold the job up.
#[derive(Clone, Debug)]
pub(super) struct Inquiry {
    pub id: u64,
    pub deadline: Duration,
    /// Leaves that servers lack.
    pub servers: BTreeMap<PeerId, Option<Vec<u32>>>,
    /// Servers that wait for their storage.
    pub saving: BTreeSet<PeerId>,
    /// Servers that workers lack parameters of.
    pub workers: BTreeMap<PeerId, Option<Vec<u32>>>,
}

impl Coordinator {
    /// Asks the servers that are behind, and the workers that may owe something.
    pub(super) fn inquire(&mut self, now: Duration, mark: &Mark) {
        if mark.work == Work::Saving {
            self.stall.since = now;
            let patience = (SLOW_STORAGE * self.config.heartbeat_timeout).as_secs();
            return self.warn(format!(
                "the storage has not taken the checkpoint of step {} for {patience} s, and all wait for it",
                mark.version
            ));
        }
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
        // Newcomers have had no time to do anything.
        let patience = self.patience(mark);
        let had_time = |peer: &PeerId| {
            let since = self.peers.since(*peer);
            since.is_some_and(|since| now.saturating_sub(since) >= patience)
        };
        let workers: Vec<PeerId> = workers.into_iter().filter(had_time).collect();
        self.ids += 1;
        let (id, version) = (self.ids, mark.version);
        for peer in servers.iter().chain(&workers) {
            self.send(*peer, FromCoordinator::Stalled { id, version });
        }
        let unanswered = |peers: Vec<PeerId>| peers.into_iter().map(|peer| (peer, None)).collect();
        self.stall.inquiry = Some(Inquiry {
            id,
            deadline: now + self.config.heartbeat_timeout,
            servers: unanswered(servers),
            saving: BTreeSet::new(),
            workers: unanswered(workers),
        });
    }

    /// Dismisses those who are in the way.
    pub(super) fn judge(&mut self, now: Duration, mark: &Mark) {
        let Some(inquiry) = self.stall.inquiry.take() else {
            return;
        };
        let stood = now.saturating_sub(self.stall.since).as_secs();
        self.stall.since = now;
        let mute = inquiry.mute();
        if !mute.is_empty() {
            let owes = format!("does not answer, and the job has stood still for {stood} s");
            return self.give_up_all(now, mark, mute, &owes);
        }
        let version = mark.version;
        if let Some(server) = inquiry
            .saving
            .first()
            .and_then(|peer| self.peers.name(*peer))
        {
            return self.warn(format!(
                "training waits for the storage of {server} to take a checkpoint, and stands still"
            ));
        }
        let (owing, owed) = match mark.work {
            // Whoever answers is at it.
            Work::Loading | Work::Leaving | Work::Saving => return,
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
        if owing.is_empty() {
            return;
        }
        let owes = format!("has owed {owed} for {stood} s");
        let all = owing.len() == inquiry.workers.len();
        let several = all && owing.len() > 1;
        // Where other workers did no better, it is not the workers.
        let again = all && self.stall.replaced_at == Some(version);
        let waits = |peer: &PeerId| !inquiry.awaited(*peer).is_empty();
        let (waiting, idle): (Vec<PeerId>, Vec<PeerId>) = owing.into_iter().partition(waits);
        if idle.is_empty() && (again || several) {
            let awaited =
                |server: &u32| waiting.iter().all(|p| inquiry.awaited(*p).contains(server));
            let servers = (0..self.config.servers).filter(awaited);
            let servers: Vec<PeerId> = servers.filter_map(|s| self.peers.server_peer(s)).collect();
            if !servers.is_empty() {
                let sends = format!("has sent no parameters of step {version} for {stood} s");
                return self.give_up_all(now, mark, servers, &sends);
            }
        } else if mark.work == Work::Steps && (again || several) {
            let elsewhere = self.peers.furthest() > version;
            if elsewhere || (again && self.config.servers == 1) {
                let servers = inquiry.servers.keys().copied().collect();
                let takes = format!("has taken no gradients of step {version} for {stood} s");
                return self.give_up_all(now, mark, servers, &takes);
            }
        }
        self.stall.replaced_at = Some(version);
        let in_the_way = if idle.is_empty() { waiting } else { idle };
        self.give_up_all(now, mark, in_the_way, &owes);
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

    fn give_up_all(&mut self, now: Duration, at: &Mark, peers: Vec<PeerId>, owes: &str) {
        let patience = self.patience(at);
        self.stall.judged(now, at, patience);
        peers
            .into_iter()
            .for_each(|peer| self.give_up(now, peer, owes));
    }

    /// Waits for a member no longer, and names it.
    fn give_up(&mut self, now: Duration, peer: PeerId, owes: &str) {
        let Some(role) = self.peers.role(peer) else {
            return;
        };
        let Some(member) = self.peers.name(peer) else {
            return;
        };
        self.warn(format!("{member} {owes}; it is replaced"));
        if role == Role::Server(0) {
            // It is this very process. Its supervisor starts another under a newer generation.
            let all = self.peers.take_all();
            all.into_iter()
                .for_each(|peer| self.actions.push(Action::Close(peer)));
            return self.end(Outcome::Drained);
        }
        self.stall.given_up(role, now, owes);
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
