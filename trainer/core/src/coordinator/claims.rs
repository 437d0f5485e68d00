//! What one worker says would end the job: another one computes the same before it does.

use std::time::Duration;

use super::evaluation::Evaluation;
use super::{Coordinator, PeerId, Phase};

/// Heartbeat timeouts for which a claim waits for somebody who can compute the same.
const PATIENCE: u32 = 60;
/// Heartbeat timeouts for which a worker that has left may come back, before a claim is believed that nobody else is
/// there to confirm.
const ABSENCE: u32 = 12;

/// Until when a claim can be disproved.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Work {
    Step(u64),
    /// An evaluation, by its id.
    Pass(u64),
}

/// A worker's word that this job cannot go on.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    peer: PeerId,
    since: Duration,
    work: Work,
    /// What it says, as a clause.
    says: String,
    /// How the job fails if it is true.
    message: String,
}

impl Coordinator {
    /// A worker says that a loss is no number.
    pub(super) fn claims_not_finite(&mut self, peer: PeerId, step: u64, place: &str, value: &str) {
        // It is a step that may be begun, or the version under evaluation.
        if step >= self.gate
            && self
                .pass_in_progress()
                .is_none_or(|pass| pass.version != step)
        {
            let reason = format!("nobody can have computed step {step} yet");
            return self.refuse(peer, reason, true);
        }
        let says = format!("says that the loss is {value} at step {step}, {place}");
        let message = self.not_finite_message(step, place, value);
        self.claim(peer, step, says, message);
    }

    /// A worker says that it met an error that will repeat anywhere.
    pub(super) fn claims_failure(&mut self, peer: PeerId, message: String) {
        let says = format!("says: {message}");
        self.claim(peer, self.record.step, says, message);
    }

    fn claim(&mut self, peer: PeerId, step: u64, says: String, message: String) {
        let pass = self.pass_in_progress().filter(|pass| pass.version == step);
        let work = pass.map_or(Work::Step(step), |pass| Work::Pass(pass.id));
        self.peers.set_aside(peer);
        self.claims.retain(|claim| claim.peer != peer);
        self.claims.push(Claim {
            peer,
            since: self.ticked,
            work,
            says,
            message,
        });
    }

    /// What became of claims: a second worker says the same, or nobody else is there who could; or the job
    /// has moved on without it.
    pub(super) fn settle_claims(&mut self, now: Duration) {
        let (disproved, open): (Vec<Claim>, Vec<Claim>) = std::mem::take(&mut self.claims)
            .into_iter()
            .partition(|claim| self.is_disproved(claim));
        self.claims = open;
        for claim in disproved {
            let Some(who) = self.peers.name(claim.peer) else {
                continue;
            };
            self.warn(format!(
                "{who} {}, and another worker has computed the same without that; it is replaced: look for errors \
                 of the memory on its machine",
                claim.says
            ));
            let reason = format!("what it {} is not so", claim.says);
            self.refuse(claim.peer, reason, true);
        }
        let Some(first) = self.claims.first() else {
            return;
        };
        let timeout = self.config.heartbeat_timeout;
        let late = now > first.since + PATIENCE * timeout;
        // One that was there a moment ago is being restarted.
        let absent = |left: Duration| now <= left + ABSENCE * timeout;
        let awaited = self.peers.others_can_compute() || self.left.is_some_and(absent);
        let nobody = !awaited || (late && self.peers.members().is_empty());
        let confirmed = self.claims.iter().find(|claim| self.is_confirmed(claim));
        let believed = confirmed.or_else(|| self.claims.first().filter(|_| nobody));
        if let Some(message) = believed.map(|claim| claim.message.clone()) {
            self.fail(message);
        }
    }

    /// Whether two workers say the same of the same work.
    fn is_confirmed(&self, claim: &Claim) -> bool {
        let role = self.peers.role(claim.peer);
        self.claims.iter().any(|other| {
            (other.work, &other.says) == (claim.work, &claim.says)
                && self.peers.role(other.peer) != role
        })
    }

    /// Whether others have computed what a worker could not.
    fn is_disproved(&self, claim: &Claim) -> bool {
        match (claim.work, &self.phase) {
            (Work::Step(step), _) => self.version() > step,
            (Work::Pass(id), Phase::Validating(pass) | Phase::Final(pass)) => pass.id != id,
            (Work::Pass(_), Phase::Training | Phase::Restoring | Phase::Completing) => true,
            // It was broken off.
            (Work::Pass(_), _) => false,
        }
    }

    /// A worker is gone. It says the same again if it comes back.
    pub(super) fn forget_claims(&mut self, peer: PeerId) {
        self.claims.retain(|claim| claim.peer != peer);
        // Who claims something is set aside.
        if self.peers.is_able_worker(peer) {
            self.left = Some(self.ticked);
        }
    }

    fn pass_in_progress(&self) -> Option<&Evaluation> {
        match &self.phase {
            Phase::Validating(pass) | Phase::Final(pass) => Some(pass),
            _ => None,
        }
    }
}
