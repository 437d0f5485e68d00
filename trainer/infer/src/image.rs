//! Layers of images. A row is computed by itself: an image has pixels enough to fill the kernels.
//!
//! Between layers an image lies pixel after pixel, the channels of a pixel side by side, as the outputs of [`Linear`] do: a
//! convolution is a linear layer on what each pixel sees.

use trainyard_crds::training_job::Activation;

use crate::activation;
use crate::lanes::{Isa, LANES, Sixteen, flat, flat_mut};
use crate::linear::Linear;

/// Numbers that pixels are gathered in before they are multiplied: they stay in a core's second cache.
const GATHERED: usize = 1 << 16;
/// What is added to a variance, as in PyTorch.
const EPSILON: f64 = 1e-5;

/// Shape of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

impl Shape {
    pub(crate) fn pixels(self) -> usize {
        self.height * self.width
    }
}

/// An image between layers: `pixels x stride`, of which the first `channels` of a pixel count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pub(crate) shape: Shape,
    stride: usize,
    values: Vec<Sixteen>,
}

/// A layer of images.
#[derive(Clone, Debug)]
pub(crate) enum Layer {
    /// Stride 1, zeros around the image, which keeps its size.
    Convolution {
        linear: Linear,
        kernel: usize,
    },
    /// Normalizes groups of channels that lie side by side.
    GroupNorm {
        weight: Vec<f32>,
        bias: Vec<f32>,
        groups: usize,
    },
    Activation(Activation),
    /// The largest of each window; what is left at the edges is dropped.
    MaxPool(usize),
}

impl Layer {
    /// A convolution with weights `[channels, inputs, kernel, kernel]`. A sum goes line by line, in a line from left to right, and
    /// over the channels of each pixel.
    pub(crate) fn convolution(weights: &[f32], bias: &[f32], inputs: usize, kernel: usize) -> Self {
        let column = |seen: usize| {
            let (pixel, channel) = (seen / inputs.max(1), seen % inputs.max(1));
            channel * kernel * kernel + pixel
        };
        Self::Convolution {
            linear: Linear::new(weights, bias, column),
            kernel,
        }
    }

    /// Shape after the layer.
    pub(crate) fn shape(&self, before: Shape) -> Shape {
        match self {
            Self::Convolution { linear, .. } => Shape {
                channels: linear.outputs,
                ..before
            },
            Self::MaxPool(window) => Shape {
                height: before.height / window,
                width: before.width / window,
                ..before
            },
            Self::GroupNorm { .. } | Self::Activation(_) => before,
        }
    }
}

/// Memory of an image's layers.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    now: Image,
    next: Image,
    gathered: Vec<f32>,
}

impl Scratch {
    /// Takes an image `[channels, height, width]` through layers and adds its numbers `[height, width, channels]` to `out`.
    pub(crate) fn forward(
        &mut self,
        isa: Isa,
        layers: &[Layer],
        shape: Shape,
        input: &[f32],
        out: &mut Vec<f32>,
    ) {
        self.now.take(shape, input);
        for layer in layers {
            match layer {
                Layer::Convolution { linear, kernel } => {
                    self.convolve(isa, linear, *kernel);
                    std::mem::swap(&mut self.now, &mut self.next);
                }
                Layer::GroupNorm {
                    weight,
                    bias,
                    groups,
                } => self.now.normalize(weight, bias, *groups),
                Layer::Activation(function) => {
                    activation::apply(*function, flat_mut(&mut self.now.values));
                }
                Layer::MaxPool(window) => {
                    self.now
                        .pool(*window, layer.shape(self.now.shape), &mut self.next);
                    std::mem::swap(&mut self.now, &mut self.next);
                }
            }
        }
        let channels = self.now.shape.channels;
        let pixels = flat(&self.now.values).chunks_exact(self.now.stride.max(1));
        for pixel in pixels {
            out.extend_from_slice(&pixel[..channels]);
        }
    }

    /// Gathers what some pixels see, multiplies, and so on.
    fn convolve(&mut self, isa: Isa, linear: &Linear, kernel: usize) {
        let shape = self.now.shape;
        self.next.shape = Shape {
            channels: linear.outputs,
            ..shape
        };
        self.next.stride = linear.width() * LANES;
        self.next.values.clear();
        let at_once = (GATHERED / linear.inputs.max(1)).clamp(1, shape.pixels());
        let mut part = Vec::new();
        for first in (0..shape.pixels()).step_by(at_once) {
            let pixels = first..shape.pixels().min(first + at_once);
            self.gathered.clear();
            for pixel in pixels.clone() {
                self.now.gather(pixel, kernel, &mut self.gathered);
            }
            let count = pixels.len();
            linear.forward(isa, &self.gathered, linear.inputs, count, &mut part);
            self.next.values.extend_from_slice(&part);
        }
    }
}

impl Image {
    /// Takes `[channels, height, width]`.
    fn take(&mut self, shape: Shape, input: &[f32]) {
        let sixteens = shape.channels.div_ceil(LANES);
        *self = Self {
            shape,
            stride: sixteens * LANES,
            values: std::mem::take(&mut self.values),
        };
        self.values.clear();
        self.values
            .resize(sixteens * shape.pixels(), Sixteen::default());
        let stride = self.stride;
        let values = flat_mut(&mut self.values);
        for (channel, plane) in input.chunks_exact(shape.pixels().max(1)).enumerate() {
            for (pixel, &value) in plane.iter().enumerate() {
                values[pixel * stride + channel] = value;
            }
        }
    }

    /// Adds what the kernel around a pixel sees: zeros outside of the image.
    fn gather(&self, pixel: usize, kernel: usize, seen: &mut Vec<f32>) {
        let Shape {
            channels,
            height,
            width,
        } = self.shape;
        let padding = kernel / 2;
        let (line, column) = (pixel / width, pixel % width);
        let values = flat(&self.values);
        // Of a line that the kernel sees, columns `left..right` lie in the image.
        let left = column.saturating_sub(padding);
        let right = width.min(column + padding + 1);
        let before = (padding - (column - left)) * channels;
        let after = (kernel - (right - left)) * channels - before;
        for offset in 0..kernel {
            let inside = (line + offset)
                .checked_sub(padding)
                .filter(|line| *line < height);
            let Some(line) = inside else {
                seen.resize(seen.len() + kernel * channels, 0.0);
                continue;
            };
            seen.resize(seen.len() + before, 0.0);
            let start = (line * width + left) * self.stride;
            let pixels = &values[start..start + (right - left) * self.stride];
            match channels == self.stride {
                true => seen.extend_from_slice(pixels),
                false => {
                    for pixel in pixels.chunks_exact(self.stride) {
                        seen.extend_from_slice(&pixel[..channels]);
                    }
                }
            }
            seen.resize(seen.len() + after, 0.0);
        }
    }

    /// `(x - mean) / sqrt(variance + epsilon) * weight + bias` over the pixels and channels of each group. Sums are of each channel
    /// over the pixels, then over the channels, in double precision.
    fn normalize(&mut self, weight: &[f32], bias: &[f32], groups: usize) {
        let channels = self.shape.channels;
        let size = (channels / groups.max(1)).max(1);
        let count = (size * self.shape.pixels()) as f64;
        // The mean of each channel's group.
        let grouped = |sums: Vec<[f64; LANES]>| -> Vec<f64> {
            let sums = &sums.as_flattened()[..channels];
            let groups = sums.chunks(size);
            groups
                .flat_map(|group| {
                    std::iter::repeat_n(group.iter().sum::<f64>() / count, group.len())
                })
                .collect()
        };
        let zeros = vec![[0.0; LANES]; self.stride / LANES];
        let means = grouped(self.sums(&zeros, |x, _| x));
        let mut centers = zeros;
        centers.as_flattened_mut()[..channels].copy_from_slice(&means);
        let variances = grouped(self.sums(&centers, |x, center| (x - center) * (x - center)));
        let (mut scales, mut shifts) = (
            vec![Sixteen::default(); centers.len()],
            vec![Sixteen::default(); centers.len()],
        );
        for channel in 0..channels {
            let scale = f64::from(weight[channel]) / libm::sqrt(variances[channel] + EPSILON);
            let shift = f64::from(bias[channel]) - means[channel] * scale;
            flat_mut(&mut scales)[channel] = scale as f32;
            flat_mut(&mut shifts)[channel] = shift as f32;
        }
        for pixel in self.values.chunks_exact_mut(scales.len()) {
            for ((values, scales), shifts) in pixel.iter_mut().zip(&scales).zip(&shifts) {
                for lane in 0..LANES {
                    values.0[lane] = values.0[lane] * scales.0[lane] + shifts.0[lane];
                }
            }
        }
    }

    /// The sum of a function of the numbers of each channel, and of its center.
    fn sums(
        &self,
        centers: &[[f64; LANES]],
        function: impl Fn(f64, f64) -> f64,
    ) -> Vec<[f64; LANES]> {
        let mut sums = vec![[0.0; LANES]; centers.len()];
        for pixel in self.values.chunks_exact(centers.len()) {
            for ((sum, values), center) in sums.iter_mut().zip(pixel).zip(centers) {
                for lane in 0..LANES {
                    sum[lane] += function(values.0[lane].into(), center[lane]);
                }
            }
        }
        sums
    }

    /// Writes the largest of each window to `out`.
    fn pool(&self, window: usize, shape: Shape, out: &mut Self) {
        out.shape = shape;
        out.stride = self.stride;
        out.values.clear();
        let sixteens = self.stride / LANES;
        let mut line = Vec::new();
        for y in 0..shape.height {
            for x in 0..shape.width {
                line.clear();
                line.resize(sixteens, Sixteen([f32::NEG_INFINITY; LANES]));
                for dy in 0..window {
                    let start = ((y * window + dy) * self.shape.width + x * window) * sixteens;
                    let seen = &self.values[start..start + window * sixteens];
                    for pixel in seen.chunks_exact(sixteens) {
                        for (most, values) in line.iter_mut().zip(pixel) {
                            for (most, value) in most.0.iter_mut().zip(values.0) {
                                // A NaN stays one.
                                *most = if *most >= value || most.is_nan() {
                                    *most
                                } else {
                                    value
                                };
                            }
                        }
                    }
                }
                out.values.extend_from_slice(&line);
            }
        }
    }
}
