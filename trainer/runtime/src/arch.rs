//! A model's layers and parameters, from the spec and the shapes of the data alone.
//!
//! Servers need the parameters' names, shapes and initialization, and no libtorch; workers run the
//! layers with it (`trainyard_torch::network`).

use anyhow::{Result, bail};
use trainyard_core::layout::{Init, Param};
use trainyard_crds::training_job::{Activation, ConvBlock, Model};

use crate::memory;

/// One operation of a network. Parameters are named, not owned.
#[derive(Clone, Debug, PartialEq)]
pub enum Layer {
    /// `y = x W^T + b`; `NAME.weight` is `[out, in]`, `NAME.bias` `[out]`.
    Linear(String),
    /// Stride 1, zero padding that keeps the size; `NAME.weight` is `[out, in, k, k]`.
    Conv2d {
        /// Prefix of the parameters' names.
        name: String,
        /// Zeros on each side.
        padding: i64,
    },
    /// `NAME.weight` and `NAME.bias` are `[channels]`.
    GroupNorm {
        /// Prefix of the parameters' names.
        name: String,
        /// Number of groups.
        groups: i64,
    },
    /// Element-wise function.
    Activation(Activation),
    /// Window and stride of a max pooling.
    MaxPool(i64),
    /// `[n, ...]` to `[n, product]`.
    Flatten,
    /// Inverted dropout, numbered so that each layer draws its own mask.
    Dropout {
        /// Probability of a zero.
        p: f32,
        /// Number of this dropout layer.
        index: u32,
    },
}

/// A network: layers in order, and what they learn.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// Shape of one input row.
    pub input_shape: Vec<u64>,
    /// Layers, first to last.
    pub layers: Vec<Layer>,
    /// Parameters in the order of the layers.
    pub params: Vec<Param>,
    /// Floats that one row takes where it takes most: what goes into a layer and what comes out. Small files
    /// may describe a network that pools images of gigabytes.
    pub activations: u64,
}

/// Bounds of the API, which nobody has checked on what was not read as a manifest: within them, and on
/// rows of a schema that was checked, no size overflows.
const MAX_LAYERS: usize = 64;
const MAX_WIDTH: u32 = 65_536;
const MAX_CHANNELS: u32 = 4096;
const MAX_KERNEL: u32 = 31;
const POOLS: std::ops::RangeInclusive<u32> = 2..=32;

/// Why a model does not fit its data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchitectureError {
    /// A cnn on rows that are not images.
    #[error(
        "model.cnn needs images of shape [channels, height, width], but the data has rows of shape {0:?}: use npy or idx images, or model.mlp"
    )]
    NotImages(Vec<u64>),
    /// Pooling leaves nothing.
    #[error(
        "model.cnn.blocks[{block}].pool is {pool}, larger than what is left of the image ({height} x {width}): use fewer or smaller pools"
    )]
    PooledAway {
        /// The block.
        block: usize,
        /// Its pool.
        pool: u32,
        /// Height before it.
        height: u64,
        /// Width before it.
        width: u64,
    },
    /// A size that the API does not allow.
    #[error(
        "the model has a size out of the bounds of spec.model: it was changed, or written by a newer version"
    )]
    OutOfBounds,
    /// Rows or outputs without elements, or with more than can be counted.
    #[error("rows of shape {0:?} and {1} outputs are none that a model can have")]
    Shape(Vec<u64>, u64),
    /// GroupNorm groups do not divide the channels.
    #[error("model.cnn.blocks[{block}].groups ({groups}) must divide channels ({channels})")]
    Groups {
        /// The block.
        block: usize,
        /// Its groups.
        groups: u32,
        /// Its channels.
        channels: u32,
    },
}

struct Builder {
    layers: Vec<Layer>,
    params: Vec<Param>,
    linears: usize,
    dropouts: u32,
    /// Elements of a row before the next layer.
    elements: u64,
    activations: u64,
}

impl Builder {
    /// Adds a layer after which a row has as many elements.
    fn push(&mut self, layer: Layer, elements: u64) {
        let both = self.elements.saturating_add(elements);
        self.activations = self.activations.max(both);
        self.elements = elements;
        self.layers.push(layer);
    }

    /// PyTorch's default for linear and convolution layers (`kaiming_uniform_` with `a = sqrt 5`):
    /// weight and bias uniform in +-1/sqrt(fan in).
    fn weights(&mut self, name: &str, shape: Vec<u64>) {
        let fan_in: u64 = shape.iter().skip(1).product();
        let bound = (1.0 / (fan_in.max(1) as f64).sqrt()) as f32;
        let outputs = shape.first().copied().unwrap_or(1);
        let init = Init::Uniform { bound };
        self.params.push(Param {
            name: format!("{name}.weight"),
            shape,
            init: init.clone(),
        });
        self.params.push(Param {
            name: format!("{name}.bias"),
            shape: vec![outputs],
            init,
        });
    }

    fn linear(&mut self, inputs: u64, outputs: u64) {
        let name = format!("layers.{}", self.linears);
        self.linears += 1;
        self.weights(&name, vec![outputs, inputs]);
        self.push(Layer::Linear(name), outputs);
    }

    fn hidden(&mut self, mut inputs: u64, hidden: &[u32], activation: Activation, p: f64) -> u64 {
        for &width in hidden {
            self.linear(inputs, width.into());
            self.push(Layer::Activation(activation), width.into());
            if p > 0.0 {
                let (p, index) = (p as f32, self.dropouts);
                self.push(Layer::Dropout { p, index }, width.into());
                self.dropouts += 1;
            }
            inputs = width.into();
        }
        inputs
    }
}

/// Elements of a row, of which there are at least one and not too many: see [`InputSchema::check`].
///
/// [`InputSchema::check`]: trainyard_core::schema::InputSchema::check
fn elements(shape: &[u64]) -> Option<u64> {
    let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
    elements.filter(|n| (1..=1 << 32).contains(n))
}

fn is_bounded(model: &Model) -> bool {
    let widths = |hidden: &[u32]| {
        hidden.len() <= MAX_LAYERS && hidden.iter().all(|width| (1..=MAX_WIDTH).contains(width))
    };
    match model {
        Model::Mlp(mlp) => widths(&mlp.hidden),
        Model::Cnn(cnn) => {
            let block = |block: &ConvBlock| {
                (1..=MAX_CHANNELS).contains(&block.channels)
                    && (1..=MAX_KERNEL).contains(&block.kernel_size)
                    // Or what comes out would have another size than what goes in.
                    && !block.kernel_size.is_multiple_of(2)
                    && block.pool.is_none_or(|pool| POOLS.contains(&pool))
            };
            widths(&cnn.hidden) && cnn.blocks.len() <= MAX_LAYERS && cnn.blocks.iter().all(block)
        }
    }
}

impl Architecture {
    /// The network of `model` on rows of `input_shape` with an output layer of `outputs`.
    ///
    /// # Errors
    /// If the model does not fit the shapes, or has sizes that the API does not allow.
    pub fn new(
        model: &Model,
        input_shape: &[u64],
        outputs: u64,
    ) -> Result<Self, ArchitectureError> {
        if !is_bounded(model) {
            return Err(ArchitectureError::OutOfBounds);
        }
        let inputs = elements(input_shape).filter(|_| outputs > 0);
        let inputs =
            inputs.ok_or_else(|| ArchitectureError::Shape(input_shape.to_vec(), outputs))?;
        let mut b = Builder {
            layers: Vec::new(),
            params: Vec::new(),
            linears: 0,
            dropouts: 0,
            elements: inputs,
            activations: inputs,
        };
        match model {
            Model::Mlp(mlp) => {
                if input_shape.len() > 1 {
                    b.layers.push(Layer::Flatten);
                }
                let last = b.hidden(inputs, &mlp.hidden, mlp.activation, mlp.dropout);
                b.linear(last, outputs);
            }
            Model::Cnn(cnn) => {
                let &[mut channels, mut height, mut width] = input_shape else {
                    return Err(ArchitectureError::NotImages(input_shape.to_vec()));
                };
                for (index, block) in cnn.blocks.iter().enumerate() {
                    let k = u64::from(block.kernel_size);
                    let name = format!("blocks.{index}.conv");
                    b.weights(&name, vec![block.channels.into(), channels, k, k]);
                    channels = block.channels.into();
                    let padding = (k / 2) as i64;
                    b.push(Layer::Conv2d { name, padding }, channels * height * width);
                    if let Some(groups) = block.groups {
                        b.group_norm(index, groups, block.channels)?;
                    }
                    b.push(Layer::Activation(cnn.activation), channels * height * width);
                    if let Some(pool) = block.pool {
                        let p = u64::from(pool);
                        if p > height || p > width {
                            return Err(ArchitectureError::PooledAway {
                                block: index,
                                pool,
                                height,
                                width,
                            });
                        }
                        (height, width) = (height / p, width / p);
                        b.push(Layer::MaxPool(p as i64), channels * height * width);
                    }
                }
                b.layers.push(Layer::Flatten);
                let last = b.hidden(
                    channels * height * width,
                    &cnn.hidden,
                    cnn.activation,
                    cnn.dropout,
                );
                b.linear(last, outputs);
            }
        }
        Ok(Architecture {
            input_shape: input_shape.to_vec(),
            layers: b.layers,
            params: b.params,
            activations: b.activations,
        })
    }

    /// Checks that the memory at hand takes a batch of so many rows: what computes it does not ask.
    ///
    /// # Errors
    /// If it does not.
    pub fn check_memory(&self, rows: usize) -> Result<()> {
        let floats = self.activations.saturating_mul(rows as u64);
        let needed = floats.saturating_mul(size_of::<f32>() as u64);
        match memory::at_hand() {
            Some(bytes) if bytes < needed => bail!(
                "the model takes {} MiB for {rows} rows of shape {:?}, and {} MiB of memory are at hand: use a machine \
                 with more",
                needed >> 20,
                self.input_shape,
                bytes >> 20
            ),
            _ => Ok(()),
        }
    }

    /// The network of `model` on the smallest rows that it can have, with one output: on any data it has at
    /// least as many parameters.
    ///
    /// # Errors
    /// If the model fits no data.
    pub fn smallest(model: &Model) -> Result<Self, ArchitectureError> {
        let input_shape = match model {
            Model::Mlp(_) => vec![1],
            Model::Cnn(cnn) => {
                let pools = cnn.blocks.iter().filter_map(|block| block.pool);
                let side = pools.fold(1, |side: u64, pool| side.saturating_mul(pool.into()));
                vec![1, side, side]
            }
        };
        Self::new(model, &input_shape, 1)
    }
}

impl Builder {
    fn group_norm(
        &mut self,
        block: usize,
        groups: u32,
        channels: u32,
    ) -> Result<(), ArchitectureError> {
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(ArchitectureError::Groups {
                block,
                groups,
                channels,
            });
        }
        let name = format!("blocks.{block}.norm");
        let shape = vec![u64::from(channels)];
        for (part, value) in [("weight", 1.0), ("bias", 0.0)] {
            let name = format!("{name}.{part}");
            self.params.push(Param {
                name,
                shape: shape.clone(),
                init: Init::Constant(value),
            });
        }
        self.layers.push(Layer::GroupNorm {
            name,
            groups: groups.into(),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use trainyard_core::layout::{Layout, LayoutError};

    fn network(
        model: Value,
        shape: &[u64],
        outputs: u64,
    ) -> Result<Architecture, ArchitectureError> {
        let model = serde_json::from_value(model).expect("a model");
        Architecture::new(&model, shape, outputs)
    }

    /// The spec of a checkpoint, or of an artifact, was read by no reader of manifests.
    #[test]
    fn sizes_that_the_api_does_not_allow_are_refused() {
        let cnn =
            |block: Value, hidden: Value| json!({"cnn": {"blocks": [block], "hidden": hidden}});
        let wrong = [
            json!({"mlp": {"hidden": [0]}}),
            json!({"mlp": {"hidden": [u32::MAX]}}),
            json!({"mlp": {"hidden": vec![1; 65]}}),
            cnn(json!({"channels": u32::MAX}), json!([])),
            cnn(json!({"channels": 8, "kernelSize": u32::MAX}), json!([])),
            cnn(json!({"channels": 8, "kernelSize": 0}), json!([])),
            cnn(json!({"channels": 8, "kernelSize": 4}), json!([])),
            cnn(json!({"channels": 8, "pool": 0}), json!([])),
            cnn(json!({"channels": 8}), json!([u32::MAX])),
            json!({"cnn": {"blocks": vec![json!({"channels": 1}); 65]}}),
        ];
        for model in wrong {
            let refused = network(model.clone(), &[1, 8, 8], 1);
            assert_eq!(refused, Err(ArchitectureError::OutOfBounds), "{model}");
        }
    }

    #[test]
    fn shapes_whose_product_cannot_be_counted_are_refused() {
        let shapes: [&[u64]; 5] = [
            &[1 << 40, 1 << 40],
            &[u64::MAX],
            &[0],
            &[1 << 16, 1 << 16, 2],
            &[3, 0, 3],
        ];
        for shape in shapes {
            let refused = network(json!({"mlp": {}}), shape, 1);
            assert!(
                matches!(refused, Err(ArchitectureError::Shape(..))),
                "{shape:?}"
            );
        }
        assert!(network(json!({"mlp": {}}), &[3], 0).is_err(), "no outputs");
    }

    #[test]
    fn a_row_takes_most_where_a_layer_has_much_before_and_after_it() {
        let mlp = network(json!({"mlp": {"hidden": [5, 9]}}), &[3], 2).expect("it fits");
        assert_eq!(mlp.activations, 9 + 9, "of the activation function");
        let pooled = json!({"cnn": {"blocks": [{"channels": 2, "pool": 4}], "hidden": []}});
        let pooled = network(pooled, &[1, 8, 8], 3).expect("it fits");
        assert_eq!(pooled.activations, 2 * (2 * 8 * 8));
        assert_eq!(
            network(json!({"mlp": {}}), &[7], 1)
                .expect("it fits")
                .activations,
            8
        );
    }

    /// Within the bounds nothing overflows; what is too large for a machine is for the layout to say.
    #[test]
    fn the_largest_sizes_that_are_allowed_can_be_counted() {
        let block = json!({"channels": 4096, "kernelSize": 31});
        let largest = json!({"cnn": {"blocks": vec![block; 64], "hidden": vec![65_536; 64]}});
        let shapes: [&[u64]; 3] = [
            &[1 << 32, 1, 1],
            &[1, 1 << 16, 1 << 16],
            &[1 << 16, 1, 1 << 16],
        ];
        for shape in shapes {
            let network = network(largest.clone(), shape, u64::MAX).expect("within the bounds");
            let refused = Layout::new(network.params);
            assert!(matches!(refused, Err(LayoutError::TooLarge { .. })));
        }
        network(json!({"mlp": {"hidden": [65_536]}}), &[1 << 32], 1).expect("within the bounds");
    }
}
