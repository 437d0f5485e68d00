//! The safetensors header of a shard.

use super::PARAMETERS;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The only metadata entry: one JSON text, because the order of several would be random and the
/// same checkpoint must be the same bytes.
const ENTRY: &str = "trainyard";

/// Largest header read, in bytes; ours have hundreds.
pub(super) const LIMIT: usize = 1 << 20;

/// What a shard says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct About {
    pub generation: u64,
    pub step: u64,
    /// 0-based.
    pub index: u32,
    pub of: u32,
    /// Range of floats of the arena.
    pub start: u64,
    pub end: u64,
}

/// The bytes before the tensors: length, JSON, and spaces up to a multiple of 8.
pub(super) fn encode(about: &About, tensors: &[&str]) -> Result<Vec<u8>, String> {
    let floats = usize::try_from(about.end - about.start).map_err(|e| e.to_string())?;
    let bytes = floats.checked_mul(4).ok_or("the shard is too large")?;
    let mut infos = Vec::with_capacity(tensors.len());
    for (i, name) in tensors.iter().enumerate() {
        let begin = bytes.checked_mul(i).ok_or("the shard is too large")?;
        let end = begin.checked_add(bytes).ok_or("the shard is too large")?;
        let info = TensorInfo {
            dtype: Dtype::F32,
            shape: vec![floats],
            data_offsets: (begin, end),
        };
        infos.push(((*name).to_owned(), info));
    }
    let about = serde_json::to_string(about).map_err(|e| e.to_string())?;
    let metadata = HashMap::from([(ENTRY.to_owned(), about)]);
    let metadata = Metadata::new(Some(metadata), infos).map_err(|e| e.to_string())?;
    let mut json = serde_json::to_vec(&metadata).map_err(|e| e.to_string())?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.append(&mut json);
    Ok(header)
}

/// Reads the JSON part, and checks that the tensors are `parameters` and `slots`, in this order. Returns how
/// many bytes they have, too.
pub(super) fn decode(json: &[u8], slots: &[String]) -> Result<(About, u64), String> {
    let metadata: Metadata = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    let entry = metadata.metadata().as_ref().and_then(|m| m.get(ENTRY));
    let entry = entry.ok_or("its header does not describe a shard")?;
    let about: About = serde_json::from_str(entry).map_err(|e| e.to_string())?;
    let floats = about.end.checked_sub(about.start);
    let names = metadata.offset_keys();
    let expected = std::iter::once(PARAMETERS).chain(slots.iter().map(String::as_str));
    if !names.iter().map(String::as_str).eq(expected) {
        return Err(format!("it holds the tensors {}", names.join(", ")));
    }
    for name in &names {
        let of_range = |info: &TensorInfo| {
            info.dtype == Dtype::F32 && info.shape.iter().map(|&n| n as u64).eq(floats)
        };
        if !metadata.info(name).is_some_and(of_range) {
            return Err(format!("tensor {name} is not f32 of its range"));
        }
    }
    Ok((about, metadata.data_len() as u64))
}
