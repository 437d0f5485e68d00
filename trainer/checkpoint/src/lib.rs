//! Checkpoints: a storage, shards, and the commit log.
//!
//! - [`Storage`]: put, put-if-absent, read, list, delete. [`FolderStorage`] keeps it in a folder.
//! - [`shard`]: every server writes its slice of the arena as one safetensors file
//!   ([`write_shard`]); any number of servers can load it again ([`load_range`]).
//! - [`Log`]: numbered entries. A [`Manifest`] committed there makes shards a checkpoint; a claim
//!   shuts out every older coordinator. Of checkpoints that are deleted a [`History`] remains.
//!
//! The order of a checkpoint: all servers write their shards, each durable when its
//! [`ShardRecord`] is returned; then the coordinator commits the manifest that names them, and
//! cleans. A crash anywhere leaves shards that no manifest names, which a later cleaning removes.

#![warn(clippy::print_stderr, clippy::print_stdout)]
#![forbid(unsafe_code)]

pub mod digest;
pub mod disk;
mod error;
mod folder;
mod log;
mod memory;
pub mod shard;
mod spec;
pub mod storage;

pub use digest::sha256_hex;
pub use error::{Error, Skipped};
pub use folder::FolderStorage;
pub use log::{Check, Claim, Cleaned, History, HistoryPoint, Loadable, Log};
pub use memory::MemoryStorage;
pub use shard::{Section, ShardId, Slice, load_range, verify_shard, write_shard, zeros};
pub use spec::spec_differences;
pub use storage::{Object, Storage, StorageError};
pub use trainyard_core::manifest::{JobIdentity, Manifest, ShardRecord};
