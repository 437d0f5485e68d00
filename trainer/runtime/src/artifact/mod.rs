//! Artifacts: a trained model as a folder that explains, checks and runs itself.
//!
//! ```text
//! model.json           what the model is: architecture, input schema, normalization, parameters
//! model.safetensors    the parameters by name
//! model.pt             TorchScript on normalized rows `[n, ...]`, for any n
//! golden.safetensors   inputs and the outputs that the trainer computed for them
//! golden-rows.json     rows in the original columns, and what must come of each (format 2)
//! metrics.json         metrics and the history of the epochs
//! provenance.json      what it was made of, and the digest of every other file
//! ```
//!
//! The same checkpoint always gives the same files: there is no time and no host in them.

mod checkpoint;
mod files;
mod folder;
mod golden;
mod read;
mod rows;
mod stored;
pub mod tensors;

pub use checkpoint::write_json;
pub use files::{
    Checkpoint, DataProvenance, FORMAT, FileRecord, History, MetricsFile, ModelFile, Output,
    ParameterShape, Provenance, Versions, decode, decode_provenance, identity, seal,
};
pub use folder::{Draft, discard_drafts, foreign, is_artifact};
pub use golden::{Golden, RTOL, is_within, tolerance};
pub use read::{
    JSON_LIMIT, ModelFiles, PROVENANCE_LIMIT, Verified, digest, metrics, model, provenance,
    verify_files,
};
pub use rows::{Answer, Expected, GoldenArray, GoldenInputs, GoldenRow, GoldenRows};
pub use stored::{FOLDER, artifact_at, is_published, is_whole, key};
/// What the model is.
pub const MODEL: &str = "model.json";
/// The parameters.
pub const PARAMETERS: &str = "model.safetensors";
/// The TorchScript module.
pub const SCRIPT: &str = "model.pt";
/// Inputs with the outputs that the trainer computed.
pub const GOLDEN: &str = "golden.safetensors";
/// Metrics and history.
pub const METRICS: &str = "metrics.json";
/// Where the model comes from.
pub const PROVENANCE: &str = "provenance.json";
/// Rows as a client would send them, and what must come of each.
pub const ROWS: &str = "golden-rows.json";
/// The files whose digests [`PROVENANCE`] holds.
pub const FILES: [&str; 6] = [MODEL, PARAMETERS, SCRIPT, GOLDEN, METRICS, ROWS];

/// The files of an artifact of a format: [`ROWS`] is new in format 2.
pub fn files_of(format: u32) -> impl Iterator<Item = &'static str> {
    let has_rows = format >= 2;
    FILES
        .into_iter()
        .filter(move |name| has_rows || *name != ROWS)
}

#[cfg(test)]
mod tests;
