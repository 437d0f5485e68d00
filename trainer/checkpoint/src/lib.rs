//! Checkpoints: storage, shards, and the commit log.
#![forbid(unsafe_code)]

pub mod digest;
pub mod disk;
mod error;
mod folder;
mod log;
mod manifest;
mod memory;
pub mod shard;
pub mod storage;

pub use digest::sha256_hex;
pub use error::{Error, Skipped};
pub use folder::FolderStorage;
pub use log::{Check, Claim, Cleaned, Loadable, Log};
pub use manifest::{JobIdentity, Manifest};
pub use memory::MemoryStorage;
pub use shard::{Section, ShardId, ShardRecord, Slice, load_range, verify_shard, write_shard};
pub use storage::{Object, Storage, StorageError};
