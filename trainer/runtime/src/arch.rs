//! A model's layers and parameters, from the spec and the shapes of the data alone.
//!
//! Servers need the parameters' names, shapes and initialization, and no libtorch; workers run the
//! layers with it (`trainyard_torch::network`).

use trainyard_core::layout::{Init, Param};
use trainyard_crds::training_job::{Activation, Model};

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
}

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
}

impl Builder {
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
        self.layers.push(Layer::Linear(name));
    }

    fn hidden(&mut self, mut inputs: u64, hidden: &[u32], activation: Activation, p: f64) -> u64 {
        for &width in hidden {
            self.linear(inputs, width.into());
            self.layers.push(Layer::Activation(activation));
            if p > 0.0 {
                self.layers.push(Layer::Dropout {
                    p: p as f32,
                    index: self.dropouts,
                });
                self.dropouts += 1;
            }
            inputs = width.into();
        }
        inputs
    }
}

impl Architecture {
    /// The network of `model` on rows of `input_shape` with an output layer of `outputs`.
    ///
    /// # Errors
    /// If the model does not fit the shapes.
    pub fn new(
        model: &Model,
        input_shape: &[u64],
        outputs: u64,
    ) -> Result<Self, ArchitectureError> {
        let mut b = Builder {
            layers: Vec::new(),
            params: Vec::new(),
            linears: 0,
            dropouts: 0,
        };
        match model {
            Model::Mlp(mlp) => {
                if input_shape.len() > 1 {
                    b.layers.push(Layer::Flatten);
                }
                let inputs = input_shape.iter().product();
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
                    b.layers.push(Layer::Conv2d {
                        name,
                        padding: (k / 2) as i64,
                    });
                    channels = block.channels.into();
                    if let Some(groups) = block.groups {
                        b.group_norm(index, groups, block.channels)?;
                    }
                    b.layers.push(Layer::Activation(cnn.activation));
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
                        b.layers.push(Layer::MaxPool(p as i64));
                        (height, width) = (height / p, width / p);
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
        })
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
