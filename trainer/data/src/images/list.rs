//! Which images lie in a folder.

use crate::error::{DataError, quoted};
use crate::files::{Files, Pattern, cannot};

/// The images in a folder.
pub(crate) struct Listed {
    /// The URI of each, with the name of the folder in the given one that it lies in.
    pub images: Vec<(Option<String>, String)>,
    /// Of files that are no images.
    pub warnings: Vec<String>,
}

impl Listed {
    /// Lists all images in a folder and the folders in it, in the order of the bytes of their URIs. Names that begin with
    /// a point are passed over.
    pub(crate) fn new(files: &dyn Files, folder: &str) -> Result<Self, DataError> {
        if folder.contains(['*', '?']) {
            let remedy = "give the folder: all images in the folders in it are read";
            return Err(DataError::options("a pattern is no folder", remedy).in_file(folder));
        }
        let mut trimmed = folder.trim_end_matches('/');
        while let Some(rest) = trimmed.strip_prefix("./") {
            trimmed = rest;
        }
        let inside = match trimmed {
            "." => String::new(),
            _ => format!("{trimmed}/"),
        };
        let all = files.list(&Pattern::new(&format!("{inside}**/*"))?);
        let all = all.map_err(|e| cannot("list", &e).in_file(folder))?;
        let mut images = Vec::new();
        let mut others: Vec<String> = Vec::new();
        for uri in all {
            if !is_image(&uri) {
                others.push(uri);
                continue;
            }
            let below = uri.strip_prefix(&inside).unwrap_or(&uri);
            let class = below.split_once('/').map(|(class, _)| class.to_owned());
            images.push((class, uri));
        }
        if images.is_empty() {
            let problem = match others.len() {
                0 => "there is no such folder, or no file is in it".to_owned(),
                count => format!("none of its {count} files is a PNG or JPEG image"),
            };
            let remedy =
                "give a folder that has a folder of images (.png, .jpg, .jpeg) for each class";
            return Err(DataError::options(problem, remedy).in_file(folder));
        }
        let count = others.len();
        let left_out = others.first().map(|first| match count {
            1 => format!("{} is no PNG or JPEG image, and is left out", quoted(first)),
            _ => format!(
                "{count} files are no PNG or JPEG images, and are left out; the first is {}",
                quoted(first)
            ),
        });
        Ok(Self {
            images,
            warnings: left_out.into_iter().collect(),
        })
    }

    /// As [`Listed::new`]; a URI with the name of an image stands for it alone, unless it ends with a slash.
    pub(crate) fn folder_or_file(files: &dyn Files, uri: &str) -> Result<Self, DataError> {
        match is_image(uri) {
            false => Self::new(files, uri),
            true => Ok(Self {
                images: vec![(None, uri.to_owned())],
                warnings: Vec::new(),
            }),
        }
    }

    /// Checks that each image lies in the folder of a class.
    pub(super) fn check_classes(&self, folder: &str) -> Result<(), DataError> {
        let mut without = self.images.iter().filter(|(class, _)| class.is_none());
        let Some((_, first)) = without.next() else {
            return Ok(());
        };
        let problem = match without.count() {
            0 => format!("the image {} lies in no folder of a class", quoted(first)),
            more => format!(
                "{} images, such as {}, lie in no folder of a class",
                more + 1,
                quoted(first)
            ),
        };
        let remedy = "put the images of each class into a folder of their own, whose name is that of the class";
        Err(DataError::data(problem, remedy).in_file(folder))
    }
}

/// Whether a file's name is that of an image. Images of other formats are too: reading them tells what to do.
fn is_image(uri: &str) -> bool {
    const NAMES: [&str; 11] = [
        "png", "jpg", "jpeg", "jpe", "gif", "webp", "bmp", "tif", "tiff", "heic", "avif",
    ];
    let name = uri.rsplit_once('.').map(|(_, name)| name);
    name.is_some_and(|name| NAMES.iter().any(|image| name.eq_ignore_ascii_case(image)))
}
