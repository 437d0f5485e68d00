//! Running a network with libtorch.

use std::collections::HashMap;

use tch::{IndexOp, Kind, Reduction, Tensor};
use trainyard_core::layout::Layout;
use trainyard_core::metrics::{Loss, Task};
use trainyard_core::philox::{Purpose, Stream};
use trainyard_crds::training_job::Activation;
use trainyard_runtime::arch::{Architecture, Layer};

/// Where a leaf's dropout masks come from: the same on any worker, any thread, any attempt.
#[derive(Copy, Clone, Debug)]
pub struct DropoutKey {
    /// Seed of the job.
    pub seed: u64,
    /// Step, from 0.
    pub step: u64,
    /// Leaf, from 0.
    pub leaf: u32,
}

/// A layer with its parameters' places in name order.
#[derive(Clone, Debug)]
enum Op {
    Linear {
        weight: usize,
        bias: usize,
    },
    Conv2d {
        weight: usize,
        bias: usize,
        padding: i64,
    },
    GroupNorm {
        weight: usize,
        bias: usize,
        groups: i64,
    },
    Activation(Activation),
    MaxPool(i64),
    Flatten,
    Dropout {
        p: f32,
        index: u32,
    },
}

/// A network bound to the name order of a layout.
#[derive(Clone, Debug)]
pub struct Network {
    ops: Vec<Op>,
    input_shape: Vec<i64>,
}

impl Network {
    /// Binds the layers of `architecture` to the parameters of `layout`, which was made from it.
    pub fn new(architecture: &Architecture, layout: &Layout) -> Self {
        let places: HashMap<String, usize> = layout
            .params()
            .enumerate()
            .map(|(place, p)| (p.param.name.clone(), place))
            .collect();
        // A layout made from this architecture has every name; place 0 would be a shape error.
        let find =
            |name: &str, part: &str| places.get(&format!("{name}.{part}")).copied().unwrap_or(0);
        let bind = |layer: &Layer| match layer {
            Layer::Linear(name) => Op::Linear {
                weight: find(name, "weight"),
                bias: find(name, "bias"),
            },
            Layer::Conv2d { name, padding } => Op::Conv2d {
                weight: find(name, "weight"),
                bias: find(name, "bias"),
                padding: *padding,
            },
            Layer::GroupNorm { name, groups } => Op::GroupNorm {
                weight: find(name, "weight"),
                bias: find(name, "bias"),
                groups: *groups,
            },
            Layer::Activation(function) => Op::Activation(*function),
            Layer::MaxPool(window) => Op::MaxPool(*window),
            Layer::Flatten => Op::Flatten,
            Layer::Dropout { p, index } => Op::Dropout {
                p: *p,
                index: *index,
            },
        };
        Network {
            ops: architecture.layers.iter().map(bind).collect(),
            input_shape: architecture.input_shape.iter().map(|&d| d as i64).collect(),
        }
    }

    /// Shape of a batch of `rows` rows.
    pub fn batch_shape(&self, rows: usize) -> Vec<i64> {
        std::iter::once(rows as i64)
            .chain(self.input_shape.iter().copied())
            .collect()
    }

    /// Outputs `[n, outputs]` (logits or values) for inputs `[n, ...]`. `params` are in name
    /// order; with `dropout` the network is in training mode.
    pub fn forward(
        &self,
        params: &[Tensor],
        input: &Tensor,
        dropout: Option<DropoutKey>,
    ) -> Tensor {
        let mut x = input.shallow_clone();
        for op in &self.ops {
            x = match op {
                Op::Linear { weight, bias } => x.linear(&params[*weight], Some(&params[*bias])),
                Op::Conv2d {
                    weight,
                    bias,
                    padding,
                } => x.conv2d(
                    &params[*weight],
                    Some(&params[*bias]),
                    [1, 1],
                    [*padding, *padding],
                    [1, 1],
                    1,
                ),
                Op::GroupNorm {
                    weight,
                    bias,
                    groups,
                } => x.group_norm(
                    *groups,
                    Some(&params[*weight]),
                    Some(&params[*bias]),
                    1e-5,
                    false,
                ),
                Op::Activation(Activation::Relu) => x.relu(),
                Op::Activation(Activation::Tanh) => x.tanh(),
                Op::Activation(Activation::Sigmoid) => x.sigmoid(),
                Op::Activation(Activation::Gelu) => x.gelu("none"),
                Op::MaxPool(window) => x.max_pool2d(
                    [*window, *window],
                    [*window, *window],
                    [0, 0],
                    [1, 1],
                    false,
                ),
                Op::Flatten => x.flatten(1, -1),
                Op::Dropout { p, index } => match dropout {
                    Some(key) => &x * mask(key, *index, *p, &x.size()),
                    None => x,
                },
            };
        }
        x
    }
}

fn mask(key: DropoutKey, layer: u32, p: f32, shape: &[i64]) -> Tensor {
    let mut values = vec![0.0; shape.iter().product::<i64>() as usize];
    Stream::new(key.seed, Purpose::Dropout, key.step, key.leaf, layer).dropout_mask(&mut values, p);
    Tensor::from_slice(&values).view(shape)
}

/// Loss of outputs `[n, outputs]` against labels, **summed** over the rows: as PyTorch defines the losses with
/// `reduction="sum"`. With `weights`, each row's loss is multiplied by its weight before; without, none is.
pub fn summed_loss(
    task: Task,
    loss: Loss,
    outputs: &Tensor,
    labels: &[f32],
    weights: &[f32],
) -> Tensor {
    if weights.is_empty() {
        return losses(task, loss, outputs, labels, Reduction::Sum);
    }
    let each = losses(task, loss, outputs, labels, Reduction::None);
    (each * Tensor::from_slice(weights)).sum(Kind::Float)
}

fn losses(
    task: Task,
    loss: Loss,
    outputs: &Tensor,
    labels: &[f32],
    reduction: Reduction,
) -> Tensor {
    let (value, targets) = (|| outputs.i((.., 0)), || Tensor::from_slice(labels));
    match (task, loss) {
        (Task::Binary, loss) => {
            let smoothing = smoothing(loss);
            let smoothed =
                |label: &f32| (f64::from(*label) * (1.0 - smoothing) + smoothing / 2.0) as f32;
            let targets: Vec<f32> = labels.iter().map(smoothed).collect();
            value().binary_cross_entropy_with_logits::<Tensor>(
                &Tensor::from_slice(&targets),
                None,
                None,
                reduction,
            )
        }
        (Task::Multiclass, loss) => {
            let classes = targets().to_kind(Kind::Int64);
            outputs.cross_entropy_loss::<Tensor>(&classes, None, reduction, -100, smoothing(loss))
        }
        (Task::Regression, Loss::MeanAbsoluteError {}) => value().l1_loss(&targets(), reduction),
        (Task::Regression, Loss::Huber { delta }) => {
            value().huber_loss(&targets(), reduction, delta)
        }
        (Task::Regression, Loss::Poisson {}) => {
            let each = value().exp() - targets() * value();
            match reduction {
                Reduction::Sum => each.sum(Kind::Float),
                _ => each,
            }
        }
        (Task::Regression, Loss::MeanSquaredError {} | Loss::CrossEntropy { .. }) => {
            value().mse_loss(&targets(), reduction)
        }
    }
}

fn smoothing(loss: Loss) -> f64 {
    match loss {
        Loss::CrossEntropy { label_smoothing } => label_smoothing,
        _ => 0.0,
    }
}
