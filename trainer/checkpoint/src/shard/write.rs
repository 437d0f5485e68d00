//! Writing a shard without copying it.

use super::header::{self, About};
use super::{CHECKPOINTS, PARAMETERS};
use crate::digest::Sha256Hex;
use crate::error::Error;
use crate::storage::Storage;
use std::ops::Range;
use trainyard_core::manifest::ShardRecord;
use trainyard_core::merkle::Digest;
use trainyard_core::state::SectionDigest;

/// From this size on, in bytes, the digests are worth a thread of their own.
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
/// arguments always give the same bytes, so writing a shard again is harmless. The digests of a
/// large shard are computed on a second thread while the first writes.
///
/// A range that begins with a chunk of the arena, as those of servers do, gets the subtrees of which
/// [`Manifest::state_digests`](trainyard_core::manifest::Manifest::state_digests) makes digests of
/// the whole state; another gets none.
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
    let tensors = sections.iter().flat_map(|section| &section.parts);
    let mut parts = vec![header.as_slice()];
    parts.extend(tensors.map(|part| bytemuck::cast_slice::<f32, u8>(part)));
    let key = id.key();
    let bytes = parts.iter().map(|part| part.len() as u64).sum();
    let digests = || digests_of(&header, range.start, sections);
    let (sha256, subtrees) = match bytes < THREAD_FROM {
        true => {
            storage.put(&key, &parts)?;
            digests()
        }
        false => std::thread::scope(|scope| {
            let beside = scope.spawn(digests);
            storage.put(&key, &parts)?;
            Ok::<_, Error>(beside.join().unwrap_or_else(|_| digests()))
        })?,
    };
    Ok(ShardRecord {
        key,
        start: about.start,
        end: about.end,
        slots: names[1..].iter().map(|&name| name.to_owned()).collect(),
        bytes,
        sha256,
        subtrees,
    })
}

/// The digest of the file, and the subtrees of every section of a range that begins at `start`.
/// One pass makes both, so that what the one has read is still in the cache for the other.
fn digests_of(header: &[u8], start: usize, sections: &[Section<'_>]) -> (String, Vec<Vec<Digest>>) {
    let mut file = Sha256Hex::new();
    file.update(header);
    let mut subtrees = Vec::new();
    for section in sections {
        let mut tree = SectionDigest::starting_at(start);
        for part in &section.parts {
            file.update(bytemuck::cast_slice(part));
            if let Some(tree) = &mut tree {
                tree.update(part);
            }
        }
        subtrees.extend(tree.map(SectionDigest::finish));
    }
    (file.finish(), subtrees)
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
