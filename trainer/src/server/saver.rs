//! Writes this server's part of checkpoints while training goes on.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::{Result, bail};
use parking_lot::{Condvar, Mutex, MutexGuard};
use trainyard_checkpoint::{
    Section, ShardId, ShardRecord, Storage, shard::PARAMETERS, write_shard,
};
use trainyard_core::control::ToCoordinator;
use trainyard_core::shard::Snapshot;

/// Snapshots of training that may wait while another is written. Each may be a copy of the shard.
const WAITING: usize = 1;

/// Snapshots on their way to the [`Writer`].
#[derive(Debug, Default)]
pub struct Snapshots {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Snapshot>,
    /// Threads of training that wait for room.
    offering: usize,
    closed: bool,
}

impl Snapshots {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    /// Adds a snapshot that training has come to. Waits for room, and so does training: storage is
    /// slower than it.
    pub fn offer(&self, snapshot: Snapshot) {
        let mut queue = self.lock();
        queue.offering += 1;
        while queue.waiting.len() >= WAITING && !queue.closed {
            self.changed.wait(&mut queue);
        }
        queue.offering -= 1;
        self.add(queue, snapshot);
    }

    /// Whether training waits for the storage.
    pub fn is_full(&self) -> bool {
        self.lock().offering > 0
    }

    /// Adds a snapshot that was asked for, at once: who asks has other things to hear.
    pub fn order(&self, snapshot: Snapshot) {
        self.add(self.lock(), snapshot);
    }

    fn add(&self, mut queue: MutexGuard<'_, Queue>, snapshot: Snapshot) {
        if !queue.closed {
            queue.waiting.push_back(snapshot);
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Option<Snapshot> {
        let mut queue = self.lock();
        while queue.waiting.is_empty() && !queue.closed {
            self.changed.wait(&mut queue);
        }
        let next = queue.waiting.pop_front();
        self.changed.notify_all();
        next
    }

    /// Drops what waits, and lets everyone go who waits: nobody needs it any more.
    pub fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        queue.waiting.clear();
        self.changed.notify_all();
    }
}

/// Which server writes, and which part of the arena.
#[derive(Clone, Debug)]
pub struct Writer {
    /// Generation in force.
    pub generation: u32,
    /// Index of this server.
    pub index: u32,
    /// Number of servers.
    pub of: u32,
    /// Floats of the shard.
    pub floats: std::ops::Range<usize>,
    /// Names of the optimizer's slots.
    pub slots: &'static [&'static str],
}

impl Writer {
    /// Writes what comes until `snapshots` is closed, and reports each.
    pub fn run(
        self,
        storage: &Arc<dyn Storage>,
        snapshots: &Snapshots,
        report: &dyn Fn(ToCoordinator),
    ) {
        while let Some(snapshot) = snapshots.next() {
            let version = snapshot.version;
            let written = self.write(storage.as_ref(), &snapshot);
            drop(snapshot); // from here on the chunks need no copies
            report(match written {
                Ok(record) => ToCoordinator::ShardWritten { version, record },
                Err(error) => ToCoordinator::ShardFailed {
                    version,
                    message: format!("{error:#}"),
                },
            });
        }
    }

    fn write(&self, storage: &dyn Storage, snapshot: &Snapshot) -> Result<ShardRecord> {
        let parameters: Vec<&[f32]> = snapshot.parts.iter().map(|(p, _)| p.as_slice()).collect();
        if parameters
            .iter()
            .any(|part| part.iter().any(|value| !value.is_finite()))
        {
            bail!("parameters are NaN or infinite: lower the learning rate or check the data");
        }
        let mut sections = vec![Section {
            name: PARAMETERS,
            parts: parameters,
        }];
        for (slot, name) in self.slots.iter().enumerate() {
            let part = |(p, s): &'_ (Arc<Vec<f32>>, Arc<Vec<f32>>)| {
                slot * p.len()..(slot + 1) * p.len().min(s.len())
            };
            let parts = snapshot
                .parts
                .iter()
                .map(|both| &both.1[part(both)])
                .collect();
            sections.push(Section { name, parts });
        }
        let id = ShardId {
            generation: self.generation.into(),
            step: snapshot.version,
            index: self.index,
            of: self.of,
        };
        Ok(write_shard(storage, id, self.floats.clone(), &sections)?)
    }
}
