//! Artifacts, fetched and checked.

use std::sync::Arc;

use anyhow::{Context, Result};
use trainyard_data::Limits;
use trainyard_infer::Model;
use trainyard_runtime::artifact::{
    FILES, GOLDEN, Golden, GoldenRows, ModelFiles, PROVENANCE, Provenance, ROWS, artifact_at,
    provenance, verify_files,
};
use trainyard_runtime::exit::BadInput;

use crate::model::ServedModel;
use crate::options::Source;

/// A model, and what proves it.
pub struct Loaded {
    /// The model.
    pub model: Arc<ServedModel>,
    /// Normalized rows.
    pub normalized: Golden,
    /// Rows in the original columns.
    pub rows: GoldenRows,
    /// Where the model comes from.
    pub provenance: Provenance,
}

/// Reads an artifact, once every file has the digest that it should have. `version` numbers the model by its name.
///
/// # Errors
/// [`BadInput`] if a file is missing, damaged or of another format, or the files do not fit together; others if they cannot be
/// fetched.
pub fn load(source: &Source, version: &dyn Fn(&str) -> String, limits: &Limits) -> Result<Loaded> {
    let place = artifact_at(&source.place)?;
    let names: Vec<&str> = FILES.into_iter().chain([PROVENANCE]).collect();
    let files = place.fetch(&names)?;
    let path = files.path();
    let provenance = provenance(path)?;
    let bad = |problem: String| anyhow::Error::from(BadInput(format!("{place}: {problem}")));
    if provenance.format_version < 2 || provenance.provenance_sha256.is_none() {
        return Err(bad(format!(
            "{PROVENANCE}: it has format {} and {} digest of its own, and format 2 with one is needed to prove the model: export the \
             artifact again",
            provenance.format_version,
            if provenance.provenance_sha256.is_some() {
                "a"
            } else {
                "no"
            }
        )));
    }
    for file in verify_files(path, &provenance) {
        if let Some(problem) = file.problem {
            return Err(bad(format!(
                "{}: {problem}; export the artifact again",
                file.name
            )));
        }
    }
    let files = ModelFiles::read(path)?;
    if files.model.model_sha256 != provenance.model_sha256 || files.model.job != provenance.job {
        return Err(bad(format!(
            "model.json and {PROVENANCE} are of different models; export the artifact again"
        )));
    }
    let normalized = Golden::read(&path.join(GOLDEN))
        .with_context(|| GOLDEN)
        .map_err(|error| bad(format!("{error:#}")))?;
    let rows = GoldenRows::read(&path.join(ROWS)).map_err(|error| bad(format!("{error:#}")))?;
    let name = source.name.as_deref().unwrap_or(&provenance.job);
    let model = ServedModel::new(name, &version(name), Model::new(files), limits)?;
    Ok(Loaded {
        model,
        normalized,
        rows,
        provenance,
    })
}
