//! One server's slice of a checkpoint: a safetensors file.
//!
//! It holds the tensor `parameters` and one for each slot of the optimizer, all f32 of the same
//! length, little-endian, over the same range of the arena's floats, and says in its metadata
//! which range, step and generation it belongs to.

mod header;
mod load;
mod verify;
mod write;

pub use load::{Slice, load_range};
pub use verify::verify_shard;
pub(crate) use write::parse_key;
pub use write::{Section, ShardId, write_shard};

use serde::{Deserialize, Serialize};

const _: () = assert!(
    cfg!(target_endian = "little"),
    "shards are written from memory as it is: little-endian machines only"
);

/// Name of the tensor that holds the parameters.
pub const PARAMETERS: &str = "parameters";

/// Folder of all shards.
pub(crate) const CHECKPOINTS: &str = "checkpoints/";

/// What the manifest says of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardRecord {
    /// Key in the storage.
    pub key: String,
    /// First float of the arena that it holds.
    pub start: u64,
    /// The float after its last.
    pub end: u64,
    /// Names of the optimizer's slots that it holds beside the parameters.
    pub slots: Vec<String>,
    /// Size of the stored object in bytes.
    pub bytes: u64,
    /// SHA-256 (hex) of the safetensors file.
    pub sha256: String,
    /// SHA-256 (hex) of the stored object; another than `sha256` once it is encrypted.
    pub stored_sha256: String,
}
