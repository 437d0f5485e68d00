//! Folders of images: each image is a row, and the folder that it lies in its class.

mod decode;
mod list;
mod report;
mod resize;
mod rows;

pub(crate) use list::Listed;
pub use report::{ImagesReport, inspect_images};

use std::io::Read;

use trainyard_core::metrics::Task;
use trainyard_core::schema::ArrayInput;

use crate::array::{Array, Dtype};
use crate::classes::RawLabels;
use crate::columns::RawValues;
use crate::error::{DataError, ErrorKind};
use crate::files::{Files, cannot};
use crate::options::{Color, ImageOptions, Limits};
use crate::parallel::pipeline;

use rows::Rows;

/// The most bytes of an image's file.
const FILE: u64 = 256 << 20;
/// Threads for each that there may be: a store takes its time to answer, and meanwhile others decode.
const THREADS: usize = 4;

/// Height and width in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub height: usize,
    pub width: usize,
}

impl Size {
    fn pixels(self) -> usize {
        self.height * self.width
    }
}

/// A decoded image.
struct Image {
    size: Size,
    color: Color,
    /// Channel after channel, each row after row.
    pixels: Vec<u8>,
    seen: Seen,
}

/// What images had that their rows have not, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Images with transparency.
    transparent: u64,
    /// Images with 16 bits a sample.
    deep: u64,
    /// Images in colour that became gray without being asked for.
    grayed: u64,
}

impl Seen {
    pub(crate) fn add(&mut self, other: Seen) {
        self.transparent += other.transparent;
        self.deep += other.deep;
        self.grayed += other.grayed;
    }

    /// What a user should know of it, a sentence each.
    pub(crate) fn told(&self) -> Vec<String> {
        let of = |count: u64, text: &str| {
            let images = if count == 1 { "image" } else { "images" };
            (count > 0).then(|| format!("{count} {images} {text}"))
        };
        [
            of(
                self.transparent,
                "with transparency: it is left out, and the colours below it are used",
            ),
            of(self.deep, "with 16 bits a sample: the upper 8 are used"),
            of(
                self.grayed,
                "in colour became gray, as the model's images are",
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// What rows images are to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// The size; that of the first image if none.
    pub size: Option<Size>,
    /// Whether images of other sizes are resized.
    pub resize: bool,
    /// The channels; if none, one where all images are gray, else three.
    pub color: Option<Color>,
}

impl From<&ImageOptions> for Form {
    fn from(options: &ImageOptions) -> Self {
        let size = options.size.map(|(height, width)| Size {
            height: height as usize,
            width: width as usize,
        });
        Self {
            size,
            resize: size.is_some(),
            color: options.color,
        }
    }
}

impl Form {
    /// What images become for a model.
    ///
    /// # Errors
    /// If the model's inputs cannot be images.
    pub(crate) fn of(input: &ArrayInput) -> Result<Self, DataError> {
        let color = match input.shape.first() {
            Some(1) => Some(Color::Grayscale),
            Some(3) => Some(Color::Rgb),
            _ => None,
        };
        let (Some(color), [_, height, width]) = (color, &input.shape[..]) else {
            let shape = &input.shape;
            let problem =
                format!("the model reads arrays of the shape {shape:?}, which are no images");
            return Err(DataError::options(problem, "give an NPY or IDX file"));
        };
        if input.dtype != Dtype::U8.name() {
            let dtype = &input.dtype;
            let problem = format!(
                "the model was trained on numbers of the type {dtype}, and images are bytes"
            );
            return Err(DataError::options(
                problem,
                "give an NPY file with the numbers that stand for the images",
            ));
        }
        Ok(Self {
            size: Some(Size {
                height: *height as usize,
                width: *width as usize,
            }),
            resize: input.resize,
            color: Some(color),
        })
    }
}

/// The name of the label: images have no column that could give it one.
pub(crate) const LABEL: &str = "class";

/// Images as rows.
pub(crate) struct Images {
    pub rows: Array,
    pub labels: RawLabels,
    /// The file of each row.
    pub files: Vec<String>,
    pub warnings: Vec<String>,
}

/// Reads the images in the folder of `options`.
pub(crate) fn read(
    files: &dyn Files,
    options: &ImageOptions,
    form: Form,
    task: Task,
    limits: &Limits,
) -> Result<Images, DataError> {
    let folder = options.uri.as_str();
    if task == Task::Regression {
        let problem = "the folders of images are classes, and the task is a regression";
        let remedy = "set the task to a classification, or give the images as an array (npy)";
        return Err(DataError::options(problem, remedy).in_file(folder));
    }
    let listed = Listed::new(files, folder)?;
    listed.check_classes(folder)?;
    let mut labels = RawLabels::new(task);
    let mut bytes = 0;
    for (class, _) in &listed.images {
        if let RawValues::Codes { names, codes } = &mut labels.0 {
            let name = class.as_deref().unwrap_or_default();
            codes.push(names.intern(name, limits, &mut bytes)?);
        }
    }
    let uris: Vec<String> = listed.images.into_iter().map(|(_, uri)| uri).collect();
    let mut seen = Seen::default();
    let rows = decode(files, &uris, form, &mut seen, limits);
    let rows = rows.map_err(|e| e.in_file(folder))?;
    if options.color.is_some() {
        seen.grayed = 0; // it was asked for
    }
    let mut warnings = listed.warnings;
    warnings.extend(seen.told());
    Ok(Images {
        rows,
        labels,
        files: uris,
        warnings,
    })
}

/// Decodes files to rows of one size.
///
/// # Errors
/// Of a store, the first. Of images, all are told together, so that one run tells what to mend.
pub(crate) fn decode(
    files: &dyn Files,
    uris: &[String],
    form: Form,
    seen: &mut Seen,
    limits: &Limits,
) -> Result<Array, DataError> {
    let mut rows = Rows::new(form, limits);
    let mut next = uris.iter();
    let one = |uri: &String| {
        let image = open(files, uri).and_then(|bytes| decode::decode(&bytes, limits));
        match image.map(|image| image.formed(form)) {
            Err(error) if error.kind == ErrorKind::Io => Err(error.in_file(uri)),
            other => Ok((uri.clone(), other)),
        }
    };
    pipeline(
        limits.threads.saturating_mul(THREADS),
        || Ok(next.next()),
        one,
        |(uri, image): (String, Result<Image, DataError>)| {
            let bad = match image {
                Ok(image) => {
                    seen.add(image.seen);
                    match rows.add(image) {
                        Err(error) if error.kind != ErrorKind::Data => {
                            return Err(error.in_file(&uri));
                        }
                        added => added,
                    }
                }
                Err(error) => Err(error),
            };
            if let Err(error) = bad {
                rows.bad.add(error.in_file(&uri));
            }
            Ok(())
        },
    )?;
    rows.finish(uris.len())
}

/// Reads a whole file.
fn open(files: &dyn Files, uri: &str) -> Result<Vec<u8>, DataError> {
    let reader = files.open(uri).map_err(|e| cannot("open", &e))?;
    let mut bytes = Vec::new();
    let read = reader.take(FILE + 1).read_to_end(&mut bytes);
    read.map_err(|e| cannot("read", &e))?;
    if bytes.len() as u64 > FILE {
        let problem = format!("the file is over {} MiB", FILE >> 20);
        return Err(DataError::limit(problem, "make the image smaller"));
    }
    Ok(bytes)
}
