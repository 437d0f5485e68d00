//! Where a job keeps its checkpoints and its artifact.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Result;
use trainyard_checkpoint::{FolderStorage, Storage};

use crate::artifact;

/// The place that `--storage` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A folder of this machine or of a volume.
    Folder(PathBuf),
}

impl Location {
    /// Opens the storage to read and write it.
    ///
    /// # Errors
    /// If it cannot be used, with what to do about it.
    pub fn open(&self) -> Result<Arc<dyn Storage>> {
        match self {
            Location::Folder(path) => Ok(Arc::new(FolderStorage::open(path)?)),
        }
    }

    /// Where the job's artifact is.
    pub fn artifact(&self) -> String {
        match self {
            Location::Folder(path) => path.join(artifact::FOLDER).display().to_string(),
        }
    }
}

impl FromStr for Location {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Location::Folder(text.into()))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Folder(path) => path.display().fmt(f),
        }
    }
}
