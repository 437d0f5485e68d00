//! Manifests as files and as objects: what is read, what is refused and where, and the definition that says so.

#[path = "../common/mod.rs"]
mod common;
mod corpus;
mod generated;
mod reader;
mod update;
