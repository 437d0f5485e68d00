//! An S3-compatible object store for checkpoints, artifacts and data.
//!
//! - [`Address`] is `s3://bucket/prefix`.
//! - [`Bucket`] has the operations on a bucket, for plain threads: they wait on a runtime of their own.
//! - [`S3Storage`] is a [`Storage`](trainyard_checkpoint::Storage) below a prefix. A store without
//!   conditional writes (`If-None-Match: *`), on which the commit log stands, is refused.
//!
//! Every operation is bounded in time: [`Patience`] says how long it is tried. Errors name bucket and
//! key, what is wrong, and what to do.

#![warn(clippy::print_stderr, clippy::print_stdout)]
#![forbid(unsafe_code)]

mod address;
mod bucket;
mod connection;
mod error;
mod reader;
mod storage;

pub use address::Address;
pub use bucket::Bucket;
pub use connection::{Connection, Patience, has_credentials};
pub use error::{Error, Kind};
pub use reader::Reader;
pub use storage::S3Storage;
