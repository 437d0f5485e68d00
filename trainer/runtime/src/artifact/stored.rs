//! An artifact in the storage of its job.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use trainyard_checkpoint::{Manifest, Storage, StorageError};

use super::files::{Provenance, decode};
use super::read::PROVENANCE_LIMIT;
use super::{MODEL, PROVENANCE, files_of};
use crate::exit::BadInput;
use crate::storage::Location;

/// The artifact's place in a job's storage.
pub const FOLDER: &str = "artifact";

/// The artifact at a place, or that of the run at it.
///
/// # Errors
/// If there is none, or it cannot be fetched.
pub fn artifact_at(place: &Location) -> Result<Location> {
    let holds = |place: &Location| -> Result<bool> {
        let files = place.fetch(&[MODEL])?;
        Ok(files.path().join(MODEL).exists())
    };
    if holds(place)? {
        return Ok(place.clone());
    }
    let inner = place.artifact();
    if holds(&inner)? {
        if let Location::Folder(path) = &inner
            && path.is_symlink()
        {
            bail!(BadInput(format!(
                "{inner} is a symbolic link, which is not followed: give the folder that it leads to"
            )));
        }
        return Ok(inner);
    }
    if let Location::Folder(path) = place
        && path.join("log").is_dir()
    {
        bail!(BadInput(format!(
            "{place} is a run without an artifact: go on with the run, or export a checkpoint with \
             trainyard export {place} --out DIR"
        )));
    }
    Ok(place.clone())
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

/// The key of a file of the artifact in a job's storage.
pub fn key(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

/// Whether every file of this checkpoint's artifact is there, by name and size.
///
/// # Errors
/// If the storage fails.
pub fn is_whole(storage: &dyn Storage, manifest: &Manifest) -> Result<bool> {
    let bytes = match storage.get(&key(PROVENANCE), PROVENANCE_LIMIT) {
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
        && files_of(provenance.format_version).all(is_there))
}
