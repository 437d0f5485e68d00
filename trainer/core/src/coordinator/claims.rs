//! What one worker says would end the job: another one computes the same before it does.

use std::time::Duration;

use super::{Coordinator, PeerId, Phase};

/// Heartbeat timeouts for which a claim waits for somebody who can compute the same.
const PATIENCE: u32 = 60;

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
        if step >= self.attainable() {
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
        let work = match &self.phase {
            Phase::Validating(pass) | Phase::Final(pass) if pass.version == step => {
                Work::Pass(pass.id)
            }
            _ => Work::Step(step),
        };
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
        let (step, pass) = (self.version(), self.pass_in_progress());
        let disproved = |claim: &mut Claim| match claim.work {
            Work::Step(claimed) => step > claimed,
            Work::Pass(claimed) => pass != Some(claimed),
        };
        for claim in self.claims.extract_if(.., disproved).collect::<Vec<_>>() {
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
        let role = self.peers.role(first.peer);
        let other = |claim: &Claim| self.peers.role(claim.peer) != role;
        let late = now > first.since + PATIENCE * self.config.heartbeat_timeout;
        let nobody = !self.peers.others_can_compute() || (late && self.peers.members().is_empty());
        if nobody || self.claims.iter().any(other) {
            self.fail(first.message.clone());
        }
    }

    /// A worker is gone. It says the same again if it comes back.
    pub(super) fn forget_claims(&mut self, peer: PeerId) {
        self.claims.retain(|claim| claim.peer != peer);
    }

    fn pass_in_progress(&self) -> Option<u64> {
        match &self.phase {
            Phase::Validating(pass) | Phase::Final(pass) => Some(pass.id),
            _ => None,
        }
    }
}
