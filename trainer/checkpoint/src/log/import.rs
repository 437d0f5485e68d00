//! Taking over a checkpoint of another job.

use super::Log;
use crate::error::Error;
use crate::shard::{PARAMETERS, Section, ShardId, load_range, write_shard};
use crate::storage::Storage;
use serde_json::Value;
use trainyard_core::manifest::Manifest;

impl Log {
    /// Copies a checkpoint from another storage and commits it as one of this job, whose JSON is `spec`.
    /// Every digest is verified on the way; the memory used is that of one shard.
    ///
    /// It may be interrupted anywhere and repeated: the commit comes last.
    ///
    /// # Errors
    /// As [`load_range`], [`write_shard`] and [`Log::commit`].
    pub fn import(
        &mut self,
        from: &dyn Storage,
        checkpoint: &Manifest,
        spec: Value,
    ) -> Result<(), Error> {
        let generation = self.held_claim()?.generation;
        checkpoint.check()?;
        let of = checkpoint.shards.len() as u32;
        let mut shards = Vec::with_capacity(checkpoint.shards.len());
        for (index, shard) in (0..).zip(&checkpoint.shards) {
            let range = shard.start as usize..shard.end as usize;
            let slice = load_range(from, checkpoint, range.clone())?;
            let slots = slice.slots.iter();
            let slots = slots.map(|(name, values)| (name.as_str(), values.as_slice()));
            let sections: Vec<Section<'_>> = [(PARAMETERS, slice.parameters.as_slice())]
                .into_iter()
                .chain(slots)
                .map(|(name, values)| Section {
                    name,
                    parts: vec![values],
                })
                .collect();
            let step = checkpoint.step;
            let id = ShardId {
                generation,
                step,
                index,
                of,
            };
            shards.push(write_shard(&*self.storage, id, range, &sections)?);
        }
        self.commit(Manifest {
            identity: self.identity.clone(),
            generation,
            imported: true,
            shards,
            spec,
            ..checkpoint.clone()
        })
    }
}
