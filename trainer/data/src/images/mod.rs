//! Folders of images: each image is a row, and the folder that it lies in its class.

mod decode;
mod report;
mod resize;

pub use report::{ImagesReport, SizeCount, inspect_images};

use std::io::Read;

use trainyard_core::metrics::Task;
use trainyard_core::schema::ArrayInput;

use crate::array::{Array, Dtype};
use crate::classes::RawLabels;
use crate::columns::RawValues;
use crate::error::{DataError, ErrorKind, quoted};
use crate::files::{Files, Pattern, cannot};
use crate::options::{Color, ImageOptions, Limits};
use crate::parallel::pipeline;
use crate::table::ENCODED;

/// The most bytes of an image's file.
const FILE: u64 = 256 << 20;
/// Threads for each that there may be: a store takes its time to answer, and meanwhile others decode.
const THREADS: usize = 4;
/// Bad images that are told one by one.
const TOLD: usize = 10;

/// Height and width in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub height: usize,
    pub width: usize,
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
        let Some(pattern) = Pattern::of(&format!("{inside}**/*")) else {
            return Err(DataError::options("it is no folder", "").in_file(folder));
        };
        let all = files.list(&pattern?);
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

    /// As [`Listed::new`]; a URI with the name of an image stands for it alone.
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
    fn check_classes(&self, folder: &str) -> Result<(), DataError> {
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
    let mut rows = Rows {
        form,
        bytes: Vec::new(),
        color: form.color.unwrap_or(Color::Grayscale),
        count: 0,
        bad: Bad::default(),
        limits,
    };
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
            let added = image.and_then(|image| {
                seen.add(image.seen);
                rows.add(image)
            });
            match added {
                Err(error) if error.kind != ErrorKind::Data => Err(error.in_file(&uri)),
                Err(error) => {
                    rows.bad.add(error.in_file(&uri));
                    Ok(())
                }
                Ok(()) => Ok(()),
            }
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

impl Image {
    /// In the colours and of the size that are asked for, as far as they are known.
    fn formed(mut self, form: Form) -> Self {
        if form.color == Some(Color::Grayscale) && self.color == Color::Rgb {
            self.pixels = gray(&self.pixels);
            self.color = Color::Grayscale;
            self.seen.grayed += 1;
        }
        if let Some(size) = form.size.filter(|size| form.resize && *size != self.size) {
            let channels = self.pixels.chunks_exact(self.size.height * self.size.width);
            let resized = channels.map(|channel| resize::resize(channel, self.size, size));
            self.pixels = resized.collect::<Vec<Vec<u8>>>().concat();
            self.size = size;
        }
        self
    }
}

/// The luma of ITU-R BT.601 of three channels, with the weights and the rounding of Pillow's `convert("L")`.
fn gray(pixels: &[u8]) -> Vec<u8> {
    let (red, others) = pixels.split_at(pixels.len() / 3);
    let (green, blue) = others.split_at(red.len());
    let pixels = red.iter().zip(green).zip(blue);
    pixels
        .map(|((red, green), blue)| {
            let [red, green, blue] = [red, green, blue].map(|&sample| u32::from(sample));
            ((red * 19_595 + green * 38_470 + blue * 7_471 + 0x8000) >> 16) as u8
        })
        .collect()
}

/// Rows under construction.
struct Rows<'a> {
    form: Form,
    bytes: Vec<u8>,
    /// What the rows have so far.
    color: Color,
    count: usize,
    bad: Bad,
    limits: &'a Limits,
}

impl Rows<'_> {
    fn add(&mut self, image: Image) -> Result<(), DataError> {
        let size = *self.form.size.get_or_insert(image.size);
        if image.size != size {
            let problem = format!(
                "the image has {} x {} pixels (height x width), and {} x {} are expected",
                image.size.height, image.size.width, size.height, size.width
            );
            let remedy = "set `height` and `width` of the training images, so that all are resized, and train again";
            return Err(DataError::data(problem, remedy));
        }
        let pixels = size.height * size.width;
        if image.color == Color::Rgb && self.color == Color::Grayscale {
            // The rows so far are gray.
            self.check(self.count * pixels * 3)?;
            self.color = Color::Rgb;
            let rows = self.bytes.chunks_exact(pixels);
            self.bytes = rows.flat_map(|row| [row; 3].concat()).collect();
        }
        let copies = self.color.channels() * pixels / image.pixels.len();
        self.check(self.bytes.len() + copies * image.pixels.len())?;
        for _ in 0..copies {
            self.bytes.extend_from_slice(&image.pixels);
        }
        self.count += 1;
        Ok(())
    }

    /// Checks that so many values may be held, as read and encoded.
    fn check(&self, values: usize) -> Result<(), DataError> {
        if values as u64 > self.limits.values {
            let problem = format!("{values} values are over {}", self.limits.values);
            return Err(DataError::limit(
                problem,
                "use fewer images, or smaller ones",
            ));
        }
        self.limits.check_memory(values as u64 * (1 + ENCODED))
    }

    fn finish(self, images: usize) -> Result<Array, DataError> {
        self.bad.told(images)?;
        let size = self.form.size.unwrap_or(Size {
            height: 0,
            width: 0,
        });
        let shape = vec![self.count, self.color.channels(), size.height, size.width];
        Ok(Array::of_bytes(Dtype::U8, shape, self.bytes))
    }
}

/// Images that cannot be used: all are told together, so that one run tells what to mend.
#[derive(Default)]
struct Bad {
    /// The first of them.
    first: Vec<DataError>,
    count: usize,
}

impl Bad {
    fn add(&mut self, error: DataError) {
        self.count += 1;
        if self.first.len() < TOLD {
            self.first.push(error);
        }
    }

    /// The error that tells of them, if there are any among so many images.
    fn told(&self, images: usize) -> Result<(), DataError> {
        let first = match &self.first[..] {
            [] => return Ok(()),
            [one] => return Err(one.clone()),
            [first, ..] => first,
        };
        let mut told: Vec<String> = self
            .first
            .iter()
            .map(|bad| format!("{}: {}", bad.file, bad.problem))
            .collect();
        if self.count > told.len() {
            told.push(format!("and {} more", self.count - told.len()));
        }
        let problem = format!(
            "{} of {images} images cannot be used:\n  {}\n",
            self.count,
            told.join("\n  ")
        );
        Err(DataError::data(problem, first.remedy.clone()))
    }
}
