//! Writing a shard without copying it.

use super::header::{self, About};
use super::{CHECKPOINTS, PARAMETERS};
use crate::digest::Sha256Hex;
use crate::error::Error;
use crate::storage::Storage;
use std::ops::Range;
use trainyard_core::manifest::ShardRecord;

/// From this size on, in bytes, the digest is worth a thread of its own.
const THREAD_FROM: u64 = 1 << 20;

/// Which shard of which checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardId {
    /// Generation of the server that writes it.
    pub generation: u64,
    /// Steps done.
    pub step: u64,
    /// Index of the server, from 0.
    pub index: u32,
    /// Number of servers.
    pub of: u32,
}

impl ShardId {
    /// The shard's key, in which servers count from 1 as is usual for sharded safetensors:
    /// `checkpoints/000000000050-g0002/shard-0001-of-0003.safetensors`.
    pub fn key(&self) -> String {
        let Self {
            generation,
            step,
            index,
            of,
        } = self;
        let number = u64::from(*index) + 1;
        format!("{CHECKPOINTS}{step:012}-g{generation:04}/shard-{number:04}-of-{of:04}.safetensors")
    }
}

/// Step and generation of the checkpoint that a shard's key belongs to.
pub(crate) fn parse_key(key: &str) -> Option<(u64, u64)> {
    let (folder, file) = key.strip_prefix(CHECKPOINTS)?.split_once('/')?;
    let (step, generation) = folder.split_once("-g")?;
    if !file.starts_with("shard-") || !file.ends_with(".safetensors") {
        return None;
    }
    Some((step.parse().ok()?, generation.parse().ok()?))
}

/// One tensor of a shard, as the pieces it lies in, in order.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    /// Its name: [`PARAMETERS`] or the optimizer's name of the slot, as in `exp_avg`.
    pub name: &'a str,
    /// Its floats.
    pub parts: Vec<&'a [f32]>,
}

/// Writes the shard that holds the floats `range` of the arena; durable when it returns.
///
/// The first section must be the parameters; each must have as many floats as the range. The same
/// arguments always give the same bytes, so writing a shard again is harmless. The digest of a
/// large shard is computed on a second thread while the first writes.
pub fn write_shard(
    storage: &dyn Storage,
    id: ShardId,
    range: Range<usize>,
    sections: &[Section<'_>],
) -> Result<ShardRecord, Error> {
    check(id, &range, sections)?;
    let about = About {
        generation: id.generation,
        step: id.step,
        index: id.index,
        of: id.of,
        start: range.start as u64,
        end: range.end as u64,
    };
    let names: Vec<_> = sections.iter().map(|section| section.name).collect();
    let header = header::encode(&about, &names).map_err(|reason| Error::Invalid { reason })?;
    let mut parts = vec![header.as_slice()];
    for section in sections {
        parts.extend(
            section
                .parts
                .iter()
                .map(|part| bytemuck::cast_slice::<f32, u8>(part)),
        );
    }
    let key = id.key();
    let bytes = parts.iter().map(|part| part.len() as u64).sum();
    let sha256 = put_and_digest(storage, &key, &parts, bytes)?;
    Ok(ShardRecord {
        key,
        start: about.start,
        end: about.end,
        slots: names[1..].iter().map(|&name| name.to_owned()).collect(),
        bytes,
        sha256,
    })
}

fn put_and_digest(
    storage: &dyn Storage,
    key: &str,
    parts: &[&[u8]],
    bytes: u64,
) -> Result<String, Error> {
    if bytes < THREAD_FROM {
        storage.put(key, parts)?;
        return Ok(digest_of(parts));
    }
    std::thread::scope(|scope| {
        let digest = scope.spawn(|| digest_of(parts));
        storage.put(key, parts)?;
        Ok(digest.join().unwrap_or_else(|_| digest_of(parts)))
    })
}

fn digest_of(parts: &[&[u8]]) -> String {
    let mut digest = Sha256Hex::new();
    for part in parts {
        digest.update(part);
    }
    digest.finish()
}

fn check(id: ShardId, range: &Range<usize>, sections: &[Section<'_>]) -> Result<(), Error> {
    let invalid = |reason: String| Err(Error::Invalid { reason });
    if id.index >= id.of {
        return invalid(format!("shard index {} is not below {}", id.index, id.of));
    }
    if range.end < range.start {
        return invalid(format!("floats {range:?} are no range"));
    }
    if sections.first().map(|section| section.name) != Some(PARAMETERS) {
        return invalid(format!("the first section must be {PARAMETERS:?}"));
    }
    for (i, section) in sections.iter().enumerate() {
        let name = section.name;
        if name.starts_with("__") || sections[..i].iter().any(|other| other.name == name) {
            return invalid(format!("section name {name:?} is taken"));
        }
        let floats: usize = section.parts.iter().map(|part| part.len()).sum();
        if floats != range.len() {
            return invalid(format!(
                "section {name:?} has {floats} floats, its range {range:?} has {}",
                range.len()
            ));
        }
    }
    Ok(())
}
