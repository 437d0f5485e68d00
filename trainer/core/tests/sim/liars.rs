//! Members that lie, and strangers: pushes that are not true, as bytes on a connection for gradients.
//!
//! What a member says of its own leaves cannot be told from the truth unless another computes them too. All
//! else is refused, and changes no bit. A push that comes too early, or for leaves of another, may become one that
//! is due while it waits: so those hold what is true of them, and are counted where they are refused.

use trainyard_core::control::{Role, ToCoordinator};
use trainyard_core::round::Tally;
use trainyard_core::shard::{Gate, Judgement, Push, Pusher};
use trainyard_core::tree::Node;
use trainyard_core::wire::{Body, HEADER_LEN, Header, Limits, as_bytes, as_bytes_mut};

use super::server::Pending;
use super::world::{Event, Kind, Link, Pid, Way, World};

/// The job's number on the wire.
const JOB: u64 = 7;

#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lie {
    /// A step that may not be begun.
    PastTheGate,
    /// The truth, and after it something else.
    Twice,
    /// Leaves of another worker.
    ForOthers,
    /// Other rows than those of the leaves.
    WrongRows,
    /// A loss that is no number.
    NoLoss,
    /// Another generation.
    WrongGeneration,
    /// A chunk that the server does not own, or of another length.
    WrongChunk,
    /// The truth, of which a bit flips on its way.
    FlippedBit,
    /// From a process that has the key and has not joined.
    NotJoined,
    /// To the coordinator: a loss is no number.
    NotFinite,
    /// To the coordinator: nobody can compute this.
    Failed,
}

/// What liars say of the job, for which it may end if nobody else is there.
pub const FALSEHOOD: &str = "a falsehood";

pub const LIES: [Lie; 11] = [
    Lie::NotFinite,
    Lie::Failed,
    Lie::PastTheGate,
    Lie::Twice,
    Lie::ForOthers,
    Lie::WrongRows,
    Lie::NoLoss,
    Lie::WrongGeneration,
    Lie::WrongChunk,
    Lie::FlippedBit,
    Lie::NotJoined,
];

/// A frame on its way, before its sender's honesty is known.
struct Draft {
    push: Push,
    generation: u32,
    values: Vec<f32>,
}

impl Draft {
    fn bytes(&self) -> Vec<u8> {
        let Push {
            step,
            node,
            chunk,
            tally,
        } = self.push;
        let payload = as_bytes(&self.values);
        let body = Body::push(step, node, chunk, payload.len() as u32, tally);
        let header = Header {
            job: JOB,
            generation: self.generation,
            incarnation: 0,
            payload: 0,
            body: body.expect("few rows"),
        };
        [&header.before(payload).encode()[..], payload].concat()
    }
}

/// Nodes of the tree that this worker may push at a step in progress, or may not.
fn nodes(gate: &Gate, leaves: u32, pusher: Pusher, step: u64, own: bool) -> Vec<Node> {
    let may = |node: &Node| {
        let push = Push {
            step,
            node: *node,
            chunk: 0,
            tally: Tally::default(),
        };
        gate.judge(pusher, &push, step) == Judgement::Pass
    };
    let nodes = (1..2 * leaves).filter_map(Node::new);
    nodes.filter(|node| may(node) == own).collect()
}

impl World {
    pub fn plan_lies(&mut self) {
        let lies = *self.rng.pick(&[0, 0, 4, 40]).unwrap_or(&0);
        for _ in 0..lies {
            let time = self.rng.within(0, self.faults_until);
            self.at(time, Event::Lie);
        }
    }

    pub fn pusher(&self, link: Link) -> Option<Pusher> {
        let process = &self.processes[link.worker];
        match process.role {
            Role::Worker(index) => Some(Pusher {
                index,
                incarnation: process.incarnation,
            }),
            _ => None,
        }
    }

    /// Some worker, or who passes for one, says something that is not true.
    pub fn lie(&mut self) -> Option<()> {
        let links = self.links_where(|link| link.way == Way::Push);
        let link = *self.rng.pick(&links)?;
        let lie = *self.rng.pick(&LIES)?;
        if matches!(lie, Lie::NotFinite | Lie::Failed) {
            if self.rng.chance(80) {
                return None; // two of these end a job
            }
            return self.lie_to_coordinator(link.worker, lie);
        }
        let mut pusher = self.pusher(link)?;
        let Kind::Worker(worker) = &self.processes[link.worker].kind else {
            return None;
        };
        let chunks = worker.wires.get(link.lane)?.lane.chunks.clone();
        let Kind::Server {
            shard: Some(shard), ..
        } = &self.processes[link.server].kind
        else {
            return None;
        };
        // A version that workers may hold whole: who owns all leaves could take a server further than the others.
        let versions = self.processes.iter().filter(|process| process.alive);
        let versions = versions.filter_map(|process| match &process.kind {
            Kind::Server { shard, .. } => Some(shard.as_ref().map_or(0, |shard| shard.version())),
            _ => None,
        });
        let step = versions.min()?;
        let leaves = self.toy.tree.leaves();
        if step >= shard.gate.limit() {
            return None;
        }
        let own = nodes(&shard.gate, leaves, pusher, step, true);
        let others = nodes(&shard.gate, leaves, pusher, step, false);
        let limit = shard.gate.limit();
        let node = match lie {
            Lie::ForOthers => *self.rng.pick(&others)?,
            Lie::PastTheGate | Lie::NotJoined => Node::ROOT,
            _ => *self.rng.pick(&own)?,
        };
        let chunk = *self.rng.pick(&chunks)?;
        let step = match lie {
            Lie::PastTheGate => limit + self.rng.within(0, 2),
            _ => step,
        };
        let parameters = self.reference.parameters.get(step as usize)?;
        if step >= self.reference.steps() {
            return None;
        }
        let (truth, tally) = self.toy.node(parameters, step, node);
        let truth = truth[self.toy.chunk_range(chunk)].to_vec();
        let garbage: Vec<f32> = truth.iter().map(|value| value + 1.0).collect();
        let mut draft = Draft {
            push: Push {
                step,
                node,
                chunk,
                tally,
            },
            generation: link.generation,
            values: garbage,
        };
        let mut flip = None;
        match lie {
            Lie::WrongRows => draft.push.tally.rows += 1,
            Lie::NoLoss => draft.push.tally.loss = f64::NAN,
            Lie::WrongGeneration if self.rng.chance(50) => draft.generation += 1,
            Lie::WrongGeneration => draft.generation -= 1,
            Lie::WrongChunk if self.rng.chance(50) => draft.push.chunk = self.toy.chunks(),
            Lie::WrongChunk => draft.values.push(0.0),
            Lie::NotJoined => pusher.incarnation ^= 1,
            Lie::FlippedBit => {
                draft.values = truth.clone();
                flip = Some(self.rng.next());
            }
            Lie::Twice => {
                let garbage = std::mem::replace(&mut draft.values, truth);
                self.transmit_frame(link, pusher, draft.bytes(), None);
                draft.values = garbage;
            }
            Lie::ForOthers | Lie::PastTheGate => draft.values = truth,
            Lie::NotFinite | Lie::Failed => return None, // said elsewhere
        }
        let mut bytes = draft.bytes();
        if let Some(at) = flip {
            let bit = at % (8 * bytes.len() as u64);
            bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
        self.tally.lies.entry(lie).or_default().0 += 1;
        self.transmit_frame(link, pusher, bytes, Some(lie));
        Some(())
    }

    fn lie_to_coordinator(&mut self, worker: Pid, lie: Lie) -> Option<()> {
        let welcomed = self.processes[worker].welcomed && self.processes[worker].lie.is_none();
        let host = self.hosts.get(&self.leader?).filter(|_| welcomed)?;
        let step = host.coordinator.progress().step;
        let message = match lie {
            Lie::NotFinite => ToCoordinator::NonFinite {
                step,
                place: "leaf 0".into(),
                value: FALSEHOOD.into(),
            },
            _ => ToCoordinator::Failed {
                message: FALSEHOOD.into(),
            },
        };
        self.processes[worker].lie = Some(lie);
        self.tally.lies.entry(lie).or_default().0 += 1;
        self.disturbed = self.disturbed.max(self.now);
        self.report(worker, message);
        Some(())
    }

    fn transmit_frame(&mut self, link: Link, pusher: Pusher, bytes: Vec<u8>, lie: Option<Lie>) {
        let delay = self.rng.within(100, 3_000);
        let last = self.sent.entry(link.number).or_default();
        *last = (*last).max(self.now + delay);
        let time = *last;
        self.at(time, Event::Frame(link, pusher, bytes, lie));
    }

    /// A frame comes in, as the door of a real server takes it.
    pub fn framed(&mut self, link: Link, pusher: Pusher, bytes: &[u8], lie: Option<Lie>) {
        if !self.stands(link) || self.processes[link.server].generation != link.generation {
            return;
        }
        let Kind::Server {
            shard: Some(shard), ..
        } = &self.processes[link.server].kind
        else {
            return;
        };
        let decoded = decode(bytes).and_then(|(header, values)| {
            let push = Push::announced(&header, JOB, link.generation, &shard.rules);
            Ok((push.map_err(|refusal| refusal.to_string())?, values))
        });
        let since = self.now;
        match decoded {
            Ok((push, values)) => self.arrive(
                link,
                Pending {
                    since,
                    pusher,
                    push,
                    values,
                    lie,
                },
            ),
            Err(why) => self.refused(link, lie, &why),
        }
    }

    /// A server ends a connection for what came on it. That was no member's truth.
    pub fn refused(&mut self, link: Link, lie: Option<Lie>, why: &str) {
        self.trace(|| format!("refused {lie:?} on {link:?}: {why}"));
        match lie {
            Some(lie) => self.tally.lies.entry(lie).or_default().1 += 1,
            None => self.tally.refused += 1,
        }
        self.waiting.remove(&link.number);
        let delay = self.rng.within(100, 10_000);
        self.sever(link, delay);
    }
}

fn decode(bytes: &[u8]) -> Result<(Header, Vec<f32>), String> {
    let (head, payload) = bytes.split_first_chunk::<HEADER_LEN>().ok_or("too short")?;
    let header = Header::decode(head, &Limits::default()).map_err(|error| error.to_string())?;
    // A length that is wrong is read as far as the connection goes.
    let payload = payload
        .get(..header.body.payload_len() as usize)
        .ok_or("the payload is not there")?;
    header.check(payload).map_err(|error| error.to_string())?;
    let mut values = vec![0.0; payload.len() / 4];
    as_bytes_mut(&mut values).copy_from_slice(payload);
    Ok((header, values))
}
