//! One server's slice of a checkpoint: a safetensors file.
//!
//! It holds the tensor `parameters` and one for each slot of the optimizer, all f32 of the same
//! length, little-endian, over the same range of the arena's floats, and says in its metadata
//! which range, step and generation it belongs to.

mod header;
mod load;
mod sizes;
mod verify;
mod write;

pub use load::{Slice, load_range, zeros};
pub(crate) use sizes::StoredSizes;
pub use verify::verify_shard;
pub(crate) use write::parse_key;
pub use write::{Section, ShardId, write_shard};

const _: () = assert!(
    cfg!(target_endian = "little"),
    "shards are written from memory as it is: little-endian machines only"
);

/// Name of the tensor that holds the parameters.
pub const PARAMETERS: &str = "parameters";

/// Folder of all shards.
pub(crate) const CHECKPOINTS: &str = "checkpoints/";
