//! Images become rows of one size and colour.

use super::resize::Resizer;
use super::{Form, Image, Size};
use crate::array::{Array, Dtype, Header};
use crate::error::DataError;
use crate::options::{Color, Limits};
use crate::table::ENCODED;

/// Bad images that are told one by one.
const TOLD: usize = 10;

impl Image {
    /// In the colours and of the size that are asked for, as far as they are known.
    pub(super) fn formed(mut self, form: Form) -> Self {
        if form.color == Some(Color::Grayscale) && self.color == Color::Rgb {
            self.pixels = gray(&self.pixels);
            self.color = Color::Grayscale;
            self.seen.grayed += 1;
        }
        if let Some(size) = form.size.filter(|size| form.resize && *size != self.size) {
            let resizer = Resizer::new(self.size, size);
            let channels = self.pixels.chunks_exact(self.size.pixels());
            let resized: Vec<Vec<u8>> = channels.map(|channel| resizer.resize(channel)).collect();
            self.pixels = resized.concat();
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
pub(super) struct Rows<'a> {
    form: Form,
    bytes: Vec<u8>,
    /// What the rows have so far.
    color: Color,
    count: usize,
    pub bad: Bad,
    limits: &'a Limits,
}

impl<'a> Rows<'a> {
    /// None yet.
    pub(super) fn new(form: Form, limits: &'a Limits) -> Self {
        Self {
            form,
            bytes: Vec::new(),
            color: form.color.unwrap_or(Color::Grayscale),
            count: 0,
            bad: Bad::default(),
            limits,
        }
    }

    pub(super) fn add(&mut self, image: Image) -> Result<(), DataError> {
        let size = *self.form.size.get_or_insert(image.size);
        if image.size != size {
            let problem = format!(
                "the image has {} x {} pixels (height x width), and {} x {} are expected",
                image.size.height, image.size.width, size.height, size.width
            );
            let remedy = "set `height` and `width` of the training images, so that all are resized, and train again";
            return Err(DataError::data(problem, remedy));
        }
        let pixels = size.pixels();
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

    pub(super) fn finish(self, images: usize) -> Result<Array, DataError> {
        self.bad.told(images)?;
        let size = self.form.size.unwrap_or(Size {
            height: 0,
            width: 0,
        });
        let shape = [self.count, self.color.channels(), size.height, size.width];
        let header = Header::plain(Dtype::U8, shape.map(|d| d as u64).to_vec());
        Ok(Array::new(&header, self.bytes))
    }
}

/// Images that cannot be used: all are told together, so that one run tells what to mend.
#[derive(Default)]
pub(super) struct Bad {
    /// The first of them.
    first: Vec<DataError>,
    count: usize,
}

impl Bad {
    pub(super) fn add(&mut self, error: DataError) {
        self.count += 1;
        if self.first.len() < TOLD {
            self.first.push(error);
        }
    }

    /// The error that tells of them, if there are any among so many images.
    pub(super) fn told(&self, images: usize) -> Result<(), DataError> {
        match &self.first[..] {
            [] => return Ok(()),
            [one] => return Err(one.clone()),
            _ => {}
        }
        let mut told: Vec<String> = self
            .first
            .iter()
            .map(|bad| format!("{}: {}", bad.file, bad.problem))
            .collect();
        if self.count > told.len() {
            told.push(format!("and {} more", self.count - told.len()));
        }
        let problem = format!(
            "{} of {images} images cannot be used:\n  {}",
            self.count,
            told.join("\n  ")
        );
        let remedy = "write them again as PNG or JPEG, make them smaller, or remove them";
        Err(DataError::data(problem, remedy))
    }
}
