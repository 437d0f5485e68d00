//! What goes wrong between the operator and the API server, and the operator's own end at a given write.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::Method;

use crate::calls::Right;
use crate::cluster::Cluster;
use crate::http::Call;
use crate::store::{Kind, Refusal};

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It is carried out and answered.
    Pass,
    /// It is carried out, but the connection breaks before the answer.
    PassAndLose,
    /// It is carried out, and the operator is dead before the answer.
    PassAndHang,
    /// The connection breaks before it arrives.
    Lose,
    /// The operator is dead before it is sent.
    Hang,
    /// It is refused.
    Refuse(Refusal),
}

/// On which side of a write the operator dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Before,
    After,
}

/// How often what goes wrong, each out of a thousand requests.
#[derive(Clone, Debug, Default)]
pub struct Chaos {
    pub errors: u32,
    pub losses: u32,
    pub crashes: u32,
    /// Longest life of a watch, in seconds; 0 leaves it to the client.
    pub watch_seconds: u64,
}

/// Who may come through to the API server, and how.
#[derive(Default)]
pub struct Gate {
    dead: BTreeSet<u32>,
    frozen: BTreeSet<u32>,
    /// Writes of operators so far, each a point to die at.
    pub writes: u64,
    /// Writes but those of events.
    pub durable_writes: u64,
    pub crash_at: Option<(u64, When)>,
    pub chaos: Chaos,
    pub lags: BTreeMap<(u32, &'static str), Duration>,
    /// The only namespace that operators work in and have rights in, if they are limited to one.
    pub scope: Option<String>,
    /// The rights that operators' requests needed.
    pub used: BTreeSet<Right>,
}

impl Gate {
    pub fn is_dead(&self, operator: u32) -> bool {
        self.dead.contains(&operator)
    }

    pub fn deaths(&self) -> usize {
        self.dead.len()
    }

    pub fn kill(&mut self, operator: u32) {
        self.dead.insert(operator);
    }

    pub fn is_frozen(&self, operator: u32) -> bool {
        self.frozen.contains(&operator)
    }

    /// Stops an operator's requests on their way, or lets them go on.
    pub fn freeze(&mut self, operator: u32, frozen: bool) {
        match frozen {
            true => self.frozen.insert(operator),
            false => self.frozen.remove(&operator),
        };
    }

    pub fn lag(&self, operator: u32, kind: &Kind) -> Duration {
        self.lags
            .get(&(operator, kind.plural))
            .copied()
            .unwrap_or_default()
    }
}

impl Cluster {
    pub fn admit(&mut self, operator: u32, call: &Call) -> Verdict {
        if operator == 0 {
            return Verdict::Pass;
        }
        if self.gate.is_dead(operator) {
            return Verdict::Hang;
        }
        let verdict = match self.authorize(call) {
            Ok(()) => self.verdict(operator, call),
            Err(refusal) => Verdict::Refuse(refusal),
        };
        if call.is_write() {
            let comment = match &verdict {
                Verdict::Pass => String::new(),
                other => format!(": {other:?}"),
            };
            self.note(format!("operator {operator} {}{comment}", call.describe()));
        }
        verdict
    }

    fn verdict(&mut self, operator: u32, call: &Call) -> Verdict {
        if call.is_write() {
            let write = self.gate.writes;
            self.gate.writes += 1;
            self.gate.durable_writes += u64::from(!call.is_event());
            let drawn = self.draw(self.gate.chaos.crashes);
            let when = match self.gate.crash_at {
                Some((at, when)) if at == write => Some(when),
                _ if drawn => Some(if self.rng.bool() {
                    When::Before
                } else {
                    When::After
                }),
                _ => None,
            };
            if let Some(when) = when {
                self.gate.kill(operator);
                return match when {
                    When::Before => Verdict::Hang,
                    When::After => Verdict::PassAndHang,
                };
            }
        }
        if self.draw(self.gate.chaos.losses) {
            return match self.rng.bool() {
                true => Verdict::Lose,
                false => Verdict::PassAndLose,
            };
        }
        if self.draw(self.gate.chaos.errors) {
            return Verdict::Refuse(match self.rng.u8(0..3) {
                0 => Refusal {
                    retry_after: Some(self.rng.u32(1..4)),
                    ..Refusal::new(429, "TooManyRequests", "too many requests")
                },
                1 if call.method == Method::PUT => {
                    Refusal::new(409, "Conflict", "the object has been modified")
                }
                _ => Refusal::new(500, "InternalError", "etcdserver: request timed out"),
            });
        }
        Verdict::Pass
    }

    fn draw(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.rng.u32(0..1000) < per_mille
    }

    /// How long a request or its answer travels.
    pub fn latency(&mut self, operator: u32) -> Duration {
        match operator {
            0 => Duration::ZERO,
            _ => Duration::from_millis(self.rng.u64(1..15)),
        }
    }

    /// How long a watch lasts that asks for `limit` seconds.
    pub fn watch_ends(&mut self, operator: u32, limit: u64) -> Duration {
        let seconds = match self.gate.chaos.watch_seconds {
            longest if longest > 0 && operator > 0 => self.rng.u64(1..=longest),
            _ => limit,
        };
        Duration::from_secs(seconds)
    }
}
