//! What a folder of images holds: for a first manifest.

use std::collections::{BTreeMap, BTreeSet};

use super::rows::Bad;
use super::{Listed, decode, open};
use crate::error::{DataError, ErrorKind};
use crate::files::Files;
use crate::options::Limits;
use crate::parallel::pipeline;

/// What a folder of images holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagesReport {
    /// Images.
    pub images: u64,
    /// The classes, with their images.
    pub classes: BTreeMap<String, u64>,
    /// Their sizes: heights and widths in pixels.
    pub sizes: BTreeSet<(u32, u32)>,
    /// What a user should know, a sentence each.
    pub warnings: Vec<String>,
}

/// Tells what the images in a folder are, as their headers say.
///
/// # Errors
/// As [`load`](crate::load()) of such a folder, as far as headers tell.
pub fn inspect_images(
    files: &dyn Files,
    folder: &str,
    limits: &Limits,
) -> Result<ImagesReport, DataError> {
    let listed = Listed::new(files, folder)?;
    listed.check_classes(folder)?;
    let mut classes = BTreeMap::new();
    for class in listed.images.iter().filter_map(|(class, _)| class.as_ref()) {
        *classes.entry(class.clone()).or_default() += 1;
    }
    let mut sizes = BTreeSet::new();
    let mut bad = Bad::default();
    let mut next = listed.images.iter();
    pipeline(
        limits.threads,
        || Ok(next.next()),
        |(_, uri)| {
            let header = open(files, uri).and_then(|bytes| decode::size_of(&bytes, limits));
            match header.map_err(|e| e.in_file(uri)) {
                Err(error) if error.kind == ErrorKind::Io => Err(error),
                header => Ok(header),
            }
        },
        |header| {
            match header {
                Ok(size) => {
                    // Images have far fewer pixels than fit.
                    sizes.insert((size.height as u32, size.width as u32));
                }
                Err(error) => bad.add(error),
            }
            Ok(())
        },
    )?;
    bad.told(listed.images.len())
        .map_err(|e| e.in_file(folder))?;
    Ok(ImagesReport {
        images: listed.images.len() as u64,
        classes,
        sizes,
        warnings: listed.warnings,
    })
}
