//! A simulated worker's memory: what it holds, what it has begun, what it has pushed.

use std::collections::BTreeMap;

use trainyard_core::assignment::leaf_range;
use trainyard_core::control::{Block, View};
use trainyard_core::shard::Shared;

use super::toy::Toy;

#[derive(Default)]
pub struct Worker {
    pub view: Option<View>,
    /// Steps from here on may not be begun.
    pub limit: u64,
    /// First step not begun.
    pub next: u64,
    pub ready_sent: bool,
    pub computing: bool,
    /// The two newest versions of each chunk.
    held: Vec<BTreeMap<u64, Shared>>,
    /// Leaves of `step` pushed to each server in this life of the connection.
    pushed: BTreeMap<u32, Vec<bool>>,
    step: u64,
    /// Blocks to evaluate: pass, version, blocks.
    pub evaluations: Vec<(u64, u64, Vec<Block>)>,
}

impl Worker {
    pub fn receive(&mut self, toy: &Toy, chunk: u32, version: u64, values: Shared) {
        self.held.resize_with(toy.chunks() as usize, BTreeMap::new);
        let held = &mut self.held[chunk as usize];
        held.insert(version, values);
        if held.len() > 2 {
            held.pop_first();
        }
    }

    /// The newest version held whole.
    pub fn version(&self) -> Option<u64> {
        let (first, others) = self.held.split_first()?;
        first
            .keys()
            .rev()
            .copied()
            .find(|v| others.iter().all(|held| held.contains_key(v)))
    }

    pub fn parameters(&self, version: u64) -> Option<Vec<f32>> {
        let chunks = self.held.iter().map(|held| held.get(&version));
        let chunks: Option<Vec<_>> = chunks.collect();
        Some(
            chunks?
                .into_iter()
                .flat_map(|values| values.iter().copied())
                .collect(),
        )
    }

    /// Forgets what a server was told: the connection broke, and pushes may be lost with it.
    pub fn forget(&mut self, server: u32) {
        self.pushed.remove(&server);
    }

    /// The step to work on now and the leaves that some server has not been told, if there are any.
    pub fn work(&mut self, toy: &Toy) -> Option<(u64, Vec<bool>)> {
        let step = self.version()?;
        let view = self.view.as_ref()?;
        let rank = view.rank?;
        if step >= self.next {
            if step >= self.limit {
                return None;
            }
            self.next = step + 1;
        }
        if step + 1 != self.next {
            return None; // a version beyond the last step
        }
        if step != self.step {
            self.step = step;
            self.pushed.clear();
        }
        let leaves = toy.tree.leaves();
        let mine = leaf_range(leaves, view.members as usize, rank as usize);
        let missing: Vec<bool> = (0..leaves)
            .map(|leaf| {
                mine.contains(&leaf)
                    && (0..toy.servers).any(|server| !self.has_pushed(toy, server, leaf))
            })
            .collect();
        missing.contains(&true).then_some((step, missing))
    }

    fn has_pushed(&self, toy: &Toy, server: u32, leaf: u32) -> bool {
        toy.shard(server).is_empty()
            || self
                .pushed
                .get(&server)
                .is_some_and(|pushed| pushed[leaf as usize])
    }

    /// Of these leaves, those that a server has not been told; from now on it has.
    pub fn push(&mut self, toy: &Toy, server: u32, leaves: &[bool]) -> Vec<bool> {
        let pushed = self
            .pushed
            .entry(server)
            .or_insert_with(|| vec![false; toy.tree.leaves() as usize]);
        let new: Vec<bool> = leaves
            .iter()
            .zip(pushed.iter())
            .map(|(leaf, pushed)| *leaf && !pushed)
            .collect();
        pushed
            .iter_mut()
            .zip(&new)
            .for_each(|(pushed, new)| *pushed |= new);
        new
    }

    /// A newer generation: nothing held is worth anything.
    pub fn roll_back(&mut self) {
        *self = Worker {
            computing: self.computing,
            ..Worker::default()
        };
    }

    /// The control stream is gone: begin nothing until a coordinator says so.
    pub fn orphan(&mut self) {
        self.limit = 0;
        self.ready_sent = false;
        self.evaluations.clear();
    }
}
