//! Writes this server's part of checkpoints while training goes on.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use anyhow::{Result, bail};
use trainyard_checkpoint::{
    Section, ShardId, ShardRecord, Storage, shard::PARAMETERS, write_shard,
};
use trainyard_core::control::ToCoordinator;

use super::shard::Snapshot;

/// Which server writes, and which part of the arena. It must not hold the shard: the shard holds
/// the sending end of its snapshots, and this thread ends when that is dropped.
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
    /// Writes what comes until the shard is dropped, and reports each.
    pub fn run(
        self,
        storage: &Arc<dyn Storage>,
        snapshots: &Receiver<Snapshot>,
        report: &dyn Fn(ToCoordinator),
    ) {
        while let Ok(snapshot) = snapshots.recv() {
            let version = snapshot.version;
            let written = self.write(storage.as_ref(), &snapshot);
            drop(snapshot); // from here on the chunks need no copies
            let record = written.and_then(|record| Ok(serde_json::to_value(record)?));
            report(match record {
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
