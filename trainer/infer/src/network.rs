//! A network, bound to its parameters.

use std::collections::HashMap;

use trainyard_core::layout::Layout;
use trainyard_crds::training_job::Activation;
use trainyard_runtime::arch::{Architecture, Layer};

use crate::activation;
use crate::image::{self, Shape};
use crate::lanes::{Isa, LANES, Sixteen, flat, flat_mut};
use crate::linear::Linear;

/// A network that computes outputs of rows. Holds the parameters in the order of its kernels.
#[derive(Clone, Debug)]
pub struct Network {
    isa: Isa,
    /// Numbers of a row.
    inputs: usize,
    /// What comes first, if rows are images that are not flattened at once.
    images: Option<(Shape, Vec<image::Layer>)>,
    dense: Vec<Dense>,
}

/// A layer of all rows together.
#[derive(Clone, Debug)]
enum Dense {
    Linear(Linear),
    Activation(Activation),
}

/// Memory for the layers, to be used again: one for each thread.
#[derive(Debug, Default)]
pub struct Scratch {
    image: image::Scratch,
    features: Vec<f32>,
    now: Vec<Sixteen>,
    next: Vec<Sixteen>,
}

/// Parameters by name.
struct Named<'a>(HashMap<String, &'a [f32]>);

impl<'a> Named<'a> {
    fn new(layout: &Layout, parameters: &'a [f32]) -> Self {
        let place = |placed: &trainyard_core::layout::Placed| {
            (
                placed.param.name.clone(),
                parameters.get(placed.range()).unwrap_or_default(),
            )
        };
        Self(layout.params().map(place).collect())
    }

    /// Weight and bias of a layer. A layout that was made from the architecture has them.
    fn of(&self, layer: &str) -> (&'a [f32], &'a [f32]) {
        let find = |part: &str| {
            let found = self.0.get(&format!("{layer}.{part}"));
            found.copied().unwrap_or_default()
        };
        (find("weight"), find("bias"))
    }
}

impl Network {
    /// Binds the layers of `architecture` to the arena of their parameters, which lie in it as `layout` says; that was made from the
    /// same architecture.
    pub fn new(architecture: &Architecture, layout: &Layout, parameters: &[f32]) -> Self {
        Self::with(Isa::fastest(), architecture, layout, parameters)
    }

    /// As [`Network::new`], with the kernels of an instruction set that this CPU has.
    pub fn with(
        isa: Isa,
        architecture: &Architecture,
        layout: &Layout,
        parameters: &[f32],
    ) -> Self {
        let named = Named::new(layout, parameters);
        let inputs = architecture.input_shape.iter().product::<u64>() as usize;
        let flattened = architecture
            .layers
            .iter()
            .position(|layer| *layer == Layer::Flatten);
        let (first, rest) = architecture.layers.split_at(flattened.unwrap_or(0));
        let (images, last) = match architecture.input_shape[..] {
            [channels, height, width] if !first.is_empty() => {
                let shape = Shape {
                    channels: channels as usize,
                    height: height as usize,
                    width: width as usize,
                };
                let (layers, last) = image_layers(first, shape, &named);
                (Some((shape, layers)), Some(last))
            }
            _ => (None, None),
        };
        Network {
            isa,
            inputs,
            images,
            dense: dense_layers(rest, last, &named),
        }
    }

    /// Numbers of a row.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Adds the outputs of rows to `out`, row after row; `inputs` are those of the rows one after the other.
    pub fn forward(&self, inputs: &[f32], scratch: &mut Scratch, out: &mut Vec<f32>) {
        let rows = inputs.len().checked_div(self.inputs).unwrap_or(0);
        let mut features = inputs;
        if let Some((shape, layers)) = &self.images {
            scratch.features.clear();
            for row in inputs.chunks_exact(self.inputs) {
                scratch
                    .image
                    .forward(self.isa, layers, *shape, row, &mut scratch.features);
            }
            features = &scratch.features;
        }
        let mut stride = features.len().checked_div(rows).unwrap_or(0);
        let mut outputs = stride;
        for (place, layer) in self.dense.iter().enumerate() {
            match layer {
                Dense::Linear(linear) => {
                    let from = match place {
                        0 => features,
                        _ => flat(&scratch.now),
                    };
                    linear.forward(self.isa, from, stride, rows, &mut scratch.next);
                    std::mem::swap(&mut scratch.now, &mut scratch.next);
                    (stride, outputs) = (linear.width() * LANES, linear.outputs);
                }
                Dense::Activation(function) => {
                    activation::apply(*function, flat_mut(&mut scratch.now));
                }
            }
        }
        for row in flat(&scratch.now).chunks_exact(stride.max(1)) {
            out.extend_from_slice(&row[..outputs]);
        }
    }
}

/// The layers before rows are flattened, and the shape after them.
fn image_layers(
    layers: &[Layer],
    mut shape: Shape,
    named: &Named<'_>,
) -> (Vec<image::Layer>, Shape) {
    let mut bound = Vec::new();
    for layer in layers {
        let layer = match layer {
            Layer::Conv2d { name, padding } => {
                let (weight, bias) = named.of(name);
                let kernel = 2 * *padding as usize + 1;
                image::Layer::convolution(weight, bias, shape.channels, kernel)
            }
            Layer::GroupNorm { name, groups } => {
                let (weight, bias) = named.of(name);
                image::Layer::GroupNorm {
                    weight: weight.to_vec(),
                    bias: bias.to_vec(),
                    groups: *groups as usize,
                }
            }
            Layer::Activation(function) => image::Layer::Activation(*function),
            Layer::MaxPool(window) => image::Layer::MaxPool(*window as usize),
            // Nothing to do, or none of a layer of images.
            Layer::Dropout { .. } | Layer::Flatten | Layer::Linear(_) => continue,
        };
        shape = layer.shape(shape);
        bound.push(layer);
    }
    (bound, shape)
}

/// The layers from where rows are flat. PyTorch flattens channel after channel; here the channels of a pixel lie side by side, so the
/// first layer's weights change places.
fn dense_layers(layers: &[Layer], last: Option<Shape>, named: &Named<'_>) -> Vec<Dense> {
    let mut last = last;
    let mut bound = Vec::new();
    for layer in layers {
        match layer {
            Layer::Linear(name) => {
                let (weight, bias) = named.of(name);
                let linear = match last.take() {
                    Some(shape) => Linear::new(weight, bias, |input| {
                        let (pixel, channel) = (input / shape.channels, input % shape.channels);
                        channel * shape.pixels() + pixel
                    }),
                    None => Linear::new(weight, bias, |input| input),
                };
                bound.push(Dense::Linear(linear));
            }
            Layer::Activation(function) => bound.push(Dense::Activation(*function)),
            _ => {}
        }
    }
    bound
}
