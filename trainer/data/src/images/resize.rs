//! Resizing with a triangle filter that widens as an image shrinks ("bilinear, with antialiasing").
//!
//! The coefficients and their fixed point are those of Pillow's `Image.resize` with `BILINEAR`
//! (src/libImaging/Resample.c), which torchvision's `Resize` calls too: the same bytes as there. Weights are f64 sums,
//! products and quotients, pixels are integers: the same bytes on every CPU.

use std::borrow::Cow;

use super::Size;

/// Bits behind the point of a weight: a sum of products with bytes stays within an i32.
const PRECISION: u32 = 32 - 8 - 2;

/// What an output pixel is made of: weights of neighbouring input pixels.
struct Weights {
    /// The first of the input pixels.
    first: usize,
    weights: Vec<i32>,
}

/// Resizes channels of one size to another.
pub(super) struct Resizer {
    from: Size,
    to: Size,
    across: Vec<Weights>,
    down: Vec<Weights>,
    /// Bytes are rounded after each pass, so the order matters. It is that of Pillow 13.
    is_down_first: bool,
}

impl Resizer {
    pub(super) fn new(from: Size, to: Size) -> Self {
        let lost = |from: usize, to: usize| from as i64 - to as i64;
        let height = lost(from.height, to.height);
        Self {
            from,
            to,
            across: weights(from.width, to.width),
            down: weights(from.height, to.height),
            is_down_first: height > 0 && height > 2 * lost(from.width, to.width),
        }
    }

    /// Resizes one channel, row after row.
    pub(super) fn resize(&self, channel: &[u8]) -> Vec<u8> {
        match self.is_down_first {
            true => self
                .across(&self.down(channel, self.from.width))
                .into_owned(),
            false => self.down(&self.across(channel), self.to.width).into_owned(),
        }
    }

    fn across<'a>(&self, channel: &'a [u8]) -> Cow<'a, [u8]> {
        match self.from.width == self.to.width {
            true => channel.into(),
            false => across(channel, self.from.width, &self.across).into(),
        }
    }

    fn down<'a>(&self, channel: &'a [u8], width: usize) -> Cow<'a, [u8]> {
        match self.from.height == self.to.height {
            true => channel.into(),
            false => down(channel, width, &self.down).into(),
        }
    }
}

/// The weights of each output pixel along one axis.
fn weights(from: usize, to: usize) -> Vec<Weights> {
    let scale = from as f64 / to as f64;
    // The filter reaches one pixel to either side: an input pixel where the image grows, an output pixel where it shrinks.
    let reach = scale.max(1.0);
    let steepness = 1.0 / reach;
    let one = |place: usize| {
        let center = (place as f64 + 0.5) * scale;
        let first = (center - reach + 0.5).max(0.0) as usize;
        let end = ((center + reach + 0.5) as usize).min(from);
        let weight = |pixel: usize| {
            let distance = ((pixel as f64 - center + 0.5) * steepness).abs();
            (1.0 - distance).max(0.0)
        };
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |weight: &f64| (weight / sum * f64::from(1 << PRECISION) + 0.5) as i32;
        Weights {
            first,
            weights: weights.iter().map(fixed).collect(),
        }
    };
    (0..to).map(one).collect()
}

/// Resizes each row.
fn across(channel: &[u8], width: usize, weights: &[Weights]) -> Vec<u8> {
    let mut out = Vec::with_capacity(channel.len() / width * weights.len());
    for row in channel.chunks_exact(width) {
        out.extend(weights.iter().map(|pixel| {
            let inputs = &row[pixel.first..pixel.first + pixel.weights.len()];
            let products = inputs.iter().zip(&pixel.weights);
            let sum: i32 = products
                .map(|(input, weight)| i32::from(*input) * weight)
                .sum();
            rounded(sum)
        }));
    }
    out
}

/// Resizes each column.
fn down(channel: &[u8], width: usize, weights: &[Weights]) -> Vec<u8> {
    let mut out = Vec::with_capacity(width * weights.len());
    let mut sums = vec![0i32; width];
    for pixel in weights {
        sums.fill(0);
        let rows = channel.chunks_exact(width).skip(pixel.first);
        for (row, weight) in rows.zip(&pixel.weights) {
            let inputs = sums.iter_mut().zip(row);
            inputs.for_each(|(sum, input)| *sum += i32::from(*input) * weight);
        }
        out.extend(sums.iter().map(|&sum| rounded(sum)));
    }
    out
}

fn rounded(sum: i32) -> u8 {
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
}
