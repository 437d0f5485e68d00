//! A first manifest for a folder of images.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use trainyard_data::{Folder, ImagesReport, inspect_images};
use trainyard_runtime::exit::BadInput;
use trainyard_runtime::memory::limits;

use crate::ui::format::count;

use super::{InitArgs, Task, Written, relative, tail, yaml};

/// Height and width that images of different sizes are resized to, unless they are smaller: what a processor trains on in
/// minutes.
const SIDE: u32 = 64;
/// Channels of the first block, and the most of a later one.
const CHANNELS: (u32, u32) = (16, 64);
/// The least side after the last block.
const LEAST: u32 = 4;

/// A manifest for the images in a folder.
///
/// # Errors
/// [`BadInput`] if there are none, or they lie in no folders of classes.
pub(super) fn write(args: &InitArgs) -> Result<Written> {
    let folder = args.data.display().to_string();
    if let Some(label) = &args.label {
        bail!(BadInput(format!(
            "{folder} is a folder of images, which have no column {label:?}: leave --label out"
        )));
    }
    let bad = |error: trainyard_data::DataError| BadInput(error.to_string());
    let report = inspect_images(&Folder::working(), &folder, &limits()).map_err(bad)?;
    let task = match (args.task, report.classes.len()) {
        (Some(Task::Regression), _) => bail!(BadInput(
            "the folders of images are classes: choose another --task".to_owned()
        )),
        (_, 0 | 1) => bail!(BadInput(format!(
            "{folder} has images of only one class: put those of each class into a folder of their own"
        ))),
        (Some(Task::MulticlassClassification), _) | (None, 3..) => Task::MulticlassClassification,
        (_, 2) => Task::BinaryClassification,
        (Some(Task::BinaryClassification), classes) => bail!(BadInput(format!(
            "{folder} has images of {classes} classes: choose another --task"
        ))),
    };
    let size = resized(&report);
    let only = report.sizes.first().copied().unwrap_or((SIDE, SIDE));
    let (height, width) = size.unwrap_or(only);
    let uri = relative(&args.data, &args.output)?;
    let mut manifest = args.head(&uri, task, &model(height.min(width)));
    let uri = yaml(&uri);
    write!(manifest, "      images:\n        uri: {uri}\n")?;
    if size.is_some() {
        let sizes = report.sizes.len();
        writeln!(
            manifest,
            "        # The images have {sizes} sizes: they are resized to this one.\n        height: {height}\n        width: {width}"
        )?;
    }
    manifest += &tail(report.images);
    let mut told = vec![format!(
        "{} of {}",
        count(report.images, "image", "images"),
        count(report.classes.len() as u64, "class", "classes")
    )];
    told.extend(report.warnings);
    Ok(Written { manifest, told })
}

/// The size that images of different sizes are resized to.
fn resized(report: &ImagesReport) -> Option<(u32, u32)> {
    let sides = |of: fn((u32, u32)) -> u32| {
        let sides = report.sizes.iter().copied().map(of);
        sides.min().unwrap_or(SIDE).clamp(1, SIDE)
    };
    match report.sizes.len() {
        1 => None,
        _ => Some((sides(|(height, _)| height), sides(|(_, width)| width))),
    }
}

/// Blocks that halve images until they are small.
fn model(side: u32) -> String {
    let (mut side, mut channels) = (side, CHANNELS.0);
    let mut blocks = Vec::new();
    while side / 2 >= LEAST && blocks.len() < 6 {
        blocks.push(format!("{{channels: {channels}, groups: 4, pool: 2}}"));
        side /= 2;
        channels = (2 * channels).min(CHANNELS.1);
    }
    if blocks.is_empty() {
        blocks.push(format!("{{channels: {channels}, groups: 4}}"));
    }
    format!("cnn: {{blocks: [{}], hidden: [64]}}", blocks.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn images_of_different_sizes_are_resized_to_none_that_is_larger() {
        let report = |sizes: &[(u32, u32)]| ImagesReport {
            images: 1,
            classes: BTreeMap::new(),
            sizes: sizes.iter().copied().collect(),
            warnings: Vec::new(),
        };
        assert_eq!(resized(&report(&[(600, 400)])), None);
        assert_eq!(resized(&report(&[(600, 400), (300, 500)])), Some((64, 64)));
        assert_eq!(resized(&report(&[(28, 400), (300, 20)])), Some((28, 20)));
    }

    #[test]
    fn blocks_halve_an_image_until_it_is_small() {
        assert_eq!(
            model(8),
            "cnn: {blocks: [{channels: 16, groups: 4, pool: 2}], hidden: [64]}"
        );
        assert_eq!(
            model(3),
            "cnn: {blocks: [{channels: 16, groups: 4}], hidden: [64]}"
        );
        assert_eq!(model(64).matches("pool").count(), 4);
        assert_eq!(model(4000).matches("pool").count(), 6);
        assert!(model(64).contains("channels: 64") && !model(64).contains("channels: 128"));
    }
}
