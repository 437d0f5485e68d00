//! Loading any range of the arena, whatever number of servers wrote it.

use super::PARAMETERS;
use super::sizes::StoredSizes;
use super::verify::read_verified;
use crate::error::Error;
use crate::storage::Storage;
use std::ops::Range;
use trainyard_core::manifest::{Manifest, ShardRecord};

/// A range of the arena's state.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// The parameters, one a float of the range.
    pub parameters: Vec<f32>,
    /// The optimizer's slots by name, in the order they were written, each as long.
    pub slots: Vec<(String, Vec<f32>)>,
}

/// Loads the floats `range` of a checkpoint from the shards that overlap it.
///
/// Each of these is read once, whole and through a small buffer, so that its size, digest and
/// metadata are verified; the memory used is that of the result.
///
/// # Errors
/// [`Error::MissingShard`] or [`Error::Corrupt`] naming the shard, [`Error::Invalid`] for a range
/// outside the arena or a manifest whose shards do not cover it, [`Error::NoMemory`].
pub fn load_range(
    storage: &dyn Storage,
    manifest: &Manifest,
    range: Range<usize>,
) -> Result<Slice, Error> {
    manifest.check()?;
    if range.start > range.end || range.end as u64 > manifest.floats {
        let floats = manifest.floats;
        let reason = format!("floats {range:?} are not in the checkpoint's 0..{floats}");
        return Err(Error::Invalid { reason });
    }
    let overlaps = |shard: &&ShardRecord| {
        shard.start.max(range.start as u64) < shard.end.min(range.end as u64)
    };
    let shards: Vec<&ShardRecord> = manifest.shards.iter().filter(overlaps).collect();
    // Before anything is allocated: the sizes of what is stored bound what is read. Those that the
    // records state are worth nothing by themselves.
    let mut stored = StoredSizes::new(storage);
    for shard in &shards {
        check_size(shard)?;
        stored.check(shard)?;
    }
    let slots = manifest.slots();
    let mut tensors = Vec::with_capacity(1 + slots.len());
    for _ in 0..1 + slots.len() {
        tensors.push(zeros(range.len())?);
    }
    for shard in shards {
        load_shard(storage, shard, &range, &mut tensors)?;
    }
    let mut tensors = tensors.into_iter();
    Ok(Slice {
        parameters: tensors.next().unwrap_or_default(),
        slots: slots.iter().cloned().zip(tensors).collect(),
    })
}

/// As many zeros.
///
/// # Errors
/// [`Error::NoMemory`] if they do not fit the memory.
pub fn zeros(floats: usize) -> Result<Vec<f32>, Error> {
    let mut zeros = Vec::new();
    zeros
        .try_reserve_exact(floats)
        .map_err(|_| Error::NoMemory { floats })?;
    zeros.resize(floats, 0.0);
    Ok(zeros)
}

fn check_size(shard: &ShardRecord) -> Result<(), Error> {
    let tensors = 1 + shard.slots.len() as u64;
    let needed = (shard.end - shard.start)
        .checked_mul(4)
        .and_then(|bytes| bytes.checked_mul(tensors));
    match needed {
        Some(needed) if needed < shard.bytes && usize::try_from(shard.end).is_ok() => Ok(()),
        _ => Err(Error::Corrupt {
            key: shard.key.clone(),
            reason: format!(
                "its record gives {} bytes to {} tensors ({PARAMETERS} and slots) of floats {}..{}",
                shard.bytes, tensors, shard.start, shard.end
            ),
        }),
    }
}

fn load_shard(
    storage: &dyn Storage,
    shard: &ShardRecord,
    range: &Range<usize>,
    tensors: &mut [Vec<f32>],
) -> Result<(), Error> {
    let tensor_bytes = (shard.end - shard.start) * 4;
    read_verified(storage, shard, &mut |offset, mut bytes| {
        let mut offset = offset;
        // A piece may span tensors.
        while !bytes.is_empty() {
            let tensor = offset / tensor_bytes;
            let within = offset % tensor_bytes;
            let here = bytes.len().min((tensor_bytes - within) as usize);
            let (piece, rest) = bytes.split_at(here);
            if let Some(target) = tensors.get_mut(tensor as usize) {
                let target = bytemuck::cast_slice_mut::<f32, u8>(target);
                copy_overlap(
                    shard.start * 4 + within,
                    piece,
                    range.start as u64 * 4,
                    target,
                );
            }
            offset += here as u64;
            bytes = rest;
        }
    })
}

/// Copies what `source`, which begins at `source_at`, and `target`, which begins at `target_at`,
/// have in common. Positions are bytes.
fn copy_overlap(source_at: u64, source: &[u8], target_at: u64, target: &mut [u8]) {
    let begin = source_at.max(target_at);
    let end = (source_at + source.len() as u64).min(target_at + target.len() as u64);
    if begin < end {
        let from = &source[(begin - source_at) as usize..(end - source_at) as usize];
        target[(begin - target_at) as usize..(end - target_at) as usize].copy_from_slice(from);
    }
}
