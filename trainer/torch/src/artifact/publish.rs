//! The artifact of a finished job, beside its checkpoints, in a folder and an object store alike.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use trainyard_checkpoint::{Manifest, Storage};
use trainyard_runtime::artifact::{FILES, FOLDER, PROVENANCE, is_whole, key};
use trainyard_runtime::storage::Location;

use super::export;

/// Exports a complete checkpoint to [`FOLDER`] in its own storage, which is at `place`, unless the
/// whole artifact is there: it may be repeated at any time.
///
/// # Errors
/// As [`export`], or if the storage cannot be written.
pub fn publish(place: &Location, storage: &Arc<dyn Storage>, manifest: &Manifest) -> Result<()> {
    if is_whole(storage.as_ref(), manifest)? {
        return Ok(());
    }
    match place {
        Location::Folder(path) => {
            export(Arc::clone(storage), manifest, &path.join(FOLDER))?;
            Ok(())
        }
        Location::S3(..) => upload(storage, manifest),
    }
}

/// Exports to a store without renaming. [`PROVENANCE`], which names every other file, is there only
/// while all of them are: an old one is removed first, and the new one put last.
///
/// The files are made in the system's temporary folder, with as much room as the artifact takes.
fn upload(storage: &Arc<dyn Storage>, manifest: &Manifest) -> Result<()> {
    let workshop = tempfile::Builder::new()
        .prefix("trainyard-")
        .tempdir()
        .context("no temporary folder can be made: set TMPDIR to one that is writable")?;
    let made = workshop.path().join(FOLDER);
    export(Arc::clone(storage), manifest, &made)?;
    // Meanwhile another finisher may have published it, one that was taken for lost.
    if is_whole(storage.as_ref(), manifest)? {
        return Ok(());
    }
    let mut there = storage.list(FOLDER)?.into_iter();
    if there.any(|object| object.key == key(PROVENANCE)) {
        storage.delete(&key(PROVENANCE))?;
    }
    for name in FILES.into_iter().chain([PROVENANCE]) {
        let bytes = read(&made.join(name))?;
        storage.put(&key(name), &[&bytes])?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}
