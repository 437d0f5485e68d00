//! A simulated server's chunks, as `server/shard.rs` of the trainer has them.

use std::ops::Range;
use std::rc::Rc;

use trainyard_core::coordinator::checkpoint_due;
use trainyard_core::round::{Offer, Round, Tally};
use trainyard_core::tree::Node;

use super::reference::Reference;
use super::toy::{Toy, add, bits};

pub type Values = Rc<Vec<f32>>;

/// Parameters and optimizer state of a chunk.
pub type Part = (Values, Values);

struct Chunk {
    version: u64,
    current: Values,
    previous: Option<Values>,
    state: Values,
    round: Round<Vec<f32>>,
}

/// Parameters and state of every chunk at a version.
#[derive(Clone)]
pub struct Snapshot {
    pub version: u64,
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug)]
pub struct Push {
    pub step: u64,
    pub node: Node,
    pub chunk: u32,
    pub tally: Tally,
    pub values: Vec<f32>,
}

pub enum Notice {
    Reduced {
        step: u64,
        tally: Tally,
    },
    Applied(u64),
    Snapshot(Snapshot),
    /// A chunk has a new version.
    Published(u32),
}

pub struct Shard {
    pub range: Range<u32>,
    /// The version that is the restored best, if there is one.
    pub restored: Option<u64>,
    chunks: Vec<Chunk>,
    collecting: Option<(u64, Vec<Option<Part>>)>,
}

impl Shard {
    pub fn new(toy: &Toy, range: Range<u32>, version: u64, parts: Vec<Part>) -> Shard {
        let chunk = |(current, state)| Chunk {
            version,
            current,
            previous: None,
            state,
            round: Round::new(toy.tree),
        };
        Shard {
            range,
            restored: None,
            chunks: parts.into_iter().map(chunk).collect(),
            collecting: None,
        }
    }

    pub fn version(&self) -> u64 {
        self.chunks
            .iter()
            .map(|chunk| chunk.version)
            .min()
            .unwrap_or(0)
    }

    /// A chunk's versions, oldest first.
    pub fn versions(&self, chunk: u32) -> Vec<(u64, Values)> {
        let chunk = &self.chunks[(chunk - self.range.start) as usize];
        let previous = chunk
            .previous
            .iter()
            .map(|values| (chunk.version - 1, values.clone()));
        previous
            .chain([(chunk.version, chunk.current.clone())])
            .collect()
    }

    pub fn snapshot(&self, version: u64) -> Option<Snapshot> {
        let whole = self.chunks.iter().all(|chunk| chunk.version == version);
        let parts = self
            .chunks
            .iter()
            .map(|chunk| (chunk.current.clone(), chunk.state.clone()));
        whole.then(|| Snapshot {
            version,
            parts: parts.collect(),
        })
    }

    pub fn restore(&mut self, version: u64, parts: Vec<Values>) -> Vec<Notice> {
        let mut notices = Vec::new();
        self.restored = Some(version);
        for (id, values) in self.range.clone().zip(parts) {
            let chunk = &mut self.chunks[(id - self.range.start) as usize];
            chunk.previous = Some(std::mem::replace(&mut chunk.current, values));
            chunk.version = version;
            notices.push(Notice::Published(id));
        }
        if !self.chunks.is_empty() {
            notices.push(Notice::Applied(version));
        }
        notices
    }

    /// Takes a push. What becomes of it is checked against the reference at once.
    pub fn push(&mut self, toy: &Toy, reference: &Reference, push: Push) -> Vec<Notice> {
        let Push {
            step,
            node,
            chunk: id,
            tally,
            values,
        } = push;
        let chunk = &mut self.chunks[(id - self.range.start) as usize];
        if step < chunk.version {
            return Vec::new(); // late
        }
        assert_eq!(
            step, chunk.version,
            "a push for a step whose parameters nobody can have"
        );
        let (sum, tally) = match chunk.round.offer(node, values, tally, &mut add) {
            Offer::Complete { sum, tally, .. } => (sum, tally),
            Offer::Invalid(_) => panic!("node {node:?} is not in the tree"),
            Offer::Held { .. } | Offer::Duplicate(_) => return Vec::new(),
        };
        let expected = reference.tallies[step as usize];
        assert_eq!(tally.rows, expected.rows, "rows of step {step}");
        assert_eq!(
            tally.loss.to_bits(),
            expected.loss.to_bits(),
            "loss of step {step}"
        );
        let mut new = vec![0.0; chunk.current.len()];
        let mut state = chunk.state.to_vec();
        let (rate, weight) = (toy.rate.at(step), tally.rows as f32);
        toy.optimizer
            .apply(
                step,
                rate,
                weight,
                &chunk.current,
                &sum,
                &mut state,
                &mut new,
            )
            .unwrap();
        let (parameters, slots) = reference.chunk(toy, id, step + 1);
        assert_eq!(
            bits(&new),
            bits(parameters),
            "parameters of chunk {id} after step {step}"
        );
        assert_eq!(
            bits(&state),
            bits(&slots),
            "state of chunk {id} after step {step}"
        );
        chunk.version += 1;
        chunk.previous = Some(std::mem::replace(&mut chunk.current, Rc::new(new)));
        chunk.state = Rc::new(state);
        let version = chunk.version;
        self.applied(toy, id, version, tally)
    }

    fn applied(&mut self, toy: &Toy, id: u32, version: u64, tally: Tally) -> Vec<Notice> {
        let mut notices = Vec::new();
        if checkpoint_due(&toy.plan, toy.every, toy.early.is_some(), version) {
            notices.extend(self.collect(id, version).map(Notice::Snapshot));
        }
        if id == 0 {
            notices.push(Notice::Reduced {
                step: version - 1,
                tally,
            });
        }
        notices.push(Notice::Published(id));
        if self.version() == version {
            notices.push(Notice::Applied(version));
        }
        notices
    }

    fn collect(&mut self, id: u32, version: u64) -> Option<Snapshot> {
        let empty = || (version, vec![None; self.chunks.len()]);
        let mut open = self
            .collecting
            .take()
            .filter(|(v, _)| *v == version)
            .unwrap_or_else(empty);
        let at = (id - self.range.start) as usize;
        open.1[at] = Some((
            self.chunks[at].current.clone(),
            self.chunks[at].state.clone(),
        ));
        if open.1.iter().all(Option::is_some) {
            return Some(Snapshot {
                version,
                parts: open.1.into_iter().flatten().collect(),
            });
        }
        self.collecting = Some(open);
        None
    }
}
