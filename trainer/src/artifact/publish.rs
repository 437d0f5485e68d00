//! The artifact of a finished job, beside its checkpoints, in a folder and an object store alike.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use anyhow::{Context, Result};
use trainyard_checkpoint::{Manifest, Storage, StorageError};

use super::files::{Provenance, decode};
use super::load::JSON_LIMIT;
use super::{FILES, MODEL, PROVENANCE, export};

/// The artifact's place in a job's storage.
pub const FOLDER: &str = "artifact";

/// Exports a complete checkpoint to [`FOLDER`] in its own storage, unless its whole artifact is
/// there. [`PROVENANCE`], which names every other file, is there only while all of them are: it is
/// removed first and put last.
///
/// The files are made in the system's temporary folder, with as much room as the artifact takes.
///
/// # Errors
/// As [`export`], or if the temporary folder or the storage cannot be written.
pub fn publish(storage: &Arc<dyn Storage>, manifest: &Manifest) -> Result<()> {
    if is_whole(storage.as_ref(), manifest)? {
        return Ok(());
    }
    let workshop = tempfile::Builder::new()
        .prefix("trainyard-")
        .tempdir()
        .context("no temporary folder can be made: set TMPDIR to one that is writable")?;
    let made = workshop.path().join(FOLDER);
    export(Arc::clone(storage), manifest, &made)?;
    storage.delete(&key(PROVENANCE))?;
    for name in FILES.into_iter().chain([PROVENANCE]) {
        let bytes = fs::read(made.join(name)).with_context(|| name.to_owned())?;
        storage.put(&key(name), &[&bytes])?;
    }
    Ok(())
}

/// Whether a job's storage holds an artifact, whole or damaged.
///
/// # Errors
/// If the storage fails.
pub fn is_published(storage: &dyn Storage) -> Result<bool> {
    let objects = storage.list(&format!("{FOLDER}/"))?;
    let is_there = |name| objects.iter().any(|object| object.key == key(name));
    Ok(is_there(MODEL) && is_there(PROVENANCE))
}

fn key(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

/// Whether every file of this checkpoint's artifact is there, by name and size.
fn is_whole(storage: &dyn Storage, manifest: &Manifest) -> Result<bool> {
    let bytes = match storage.get(&key(PROVENANCE), JSON_LIMIT) {
        Err(StorageError::NotFound { .. } | StorageError::TooLarge { .. }) => return Ok(false),
        result => result?,
    };
    let Ok(provenance) = decode::<Provenance>(&bytes) else {
        return Ok(false); // damaged: it is made anew
    };
    let sizes: BTreeMap<String, u64> = storage
        .list(FOLDER)?
        .into_iter()
        .map(|object| (object.key, object.bytes))
        .collect();
    let is_there = |name: &str| {
        let recorded = provenance.files.get(name).map(|file| file.bytes);
        recorded.is_some() && sizes.get(&key(name)).copied() == recorded
    };
    Ok(provenance.checkpoint.complete
        && Some(&provenance.model_sha256) == manifest.model_sha256.as_ref()
        && provenance.spec_digest == manifest.identity.spec_digest
        && FILES.into_iter().all(is_there))
}
