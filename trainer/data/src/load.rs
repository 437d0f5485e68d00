//! In progress.
use std::io::Read;

use crate::error::DataError;
use crate::files::Files;
use crate::options::{Limits, LoadOptions};
use crate::schema::InputSchema;
use crate::table::{Dataset, Encoded};

/// Reads, splits, fits and encodes what `options` name.
pub fn load(files: &dyn Files, options: &LoadOptions) -> Result<Dataset, DataError> {
    let _ = (files, options);
    Err(DataError::options("in progress", ""))
}

impl InputSchema {
    /// Encodes a CSV file for prediction; the label column may be absent.
    pub fn encode_csv(
        &self,
        name: &str,
        reader: impl Read,
        limits: &Limits,
    ) -> Result<Encoded, DataError> {
        let _ = (name, reader.bytes(), limits);
        Err(DataError::options("in progress", ""))
    }

    /// Encodes an NPY or IDX array (told apart by their first bytes) for prediction.
    pub fn encode_array(
        &self,
        name: &str,
        reader: impl Read,
        limits: &Limits,
    ) -> Result<Encoded, DataError> {
        let _ = (name, reader.bytes(), limits);
        Err(DataError::options("in progress", ""))
    }
}
