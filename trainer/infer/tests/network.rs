//! Networks of every kind: what they compute, and that nothing but the row decides it.

use proptest::prelude::*;
use serde_json::{Value, json};
use trainyard_core::layout::Layout;
use trainyard_core::philox::{Purpose, Stream};
use trainyard_infer::{Isa, Network, Scratch};
use trainyard_runtime::arch::{Architecture, Layer};

/// A network with drawn parameters.
struct Drawn {
    architecture: Architecture,
    layout: Layout,
    parameters: Vec<f32>,
}

fn draw(count: usize, seed: u64, bound: f32) -> Vec<f32> {
    let mut numbers = vec![0.0; count];
    Stream::new(seed, Purpose::Init, 0, 0, 0).fill_uniform(&mut numbers, -bound, bound);
    numbers
}

impl Drawn {
    fn new(model: &Value, shape: &[u64], outputs: u64, seed: u64) -> Self {
        let model = serde_json::from_value(model.clone()).expect("a model");
        let architecture = Architecture::new(&model, shape, outputs).expect("it fits");
        let layout = Layout::new(architecture.params.clone()).expect("it fits");
        let parameters = draw(layout.len(), seed, 0.5);
        Self {
            architecture,
            layout,
            parameters,
        }
    }

    fn network(&self, isa: Isa) -> Network {
        Network::with(isa, &self.architecture, &self.layout, &self.parameters)
    }

    fn parameter(&self, name: &str) -> Vec<f64> {
        let found = self
            .layout
            .params()
            .find(|placed| placed.param.name == name);
        let range = found.expect(name).range();
        self.parameters[range].iter().map(|&x| x.into()).collect()
    }

    /// What PyTorch's documentation says of each layer, in double precision, on a row `[channels, height, width]`.
    fn defined(&self, row: &[f32]) -> Vec<f64> {
        let mut x: Vec<f64> = row.iter().map(|&x| x.into()).collect();
        let shape = &self.architecture.input_shape;
        let mut image = match shape[..] {
            [c, h, w] => [c as usize, h as usize, w as usize],
            _ => [x.len(), 1, 1],
        };
        for layer in &self.architecture.layers {
            let [channels, height, width] = image;
            x = match layer {
                Layer::Linear(name) => {
                    let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
                    let weight = self.parameter(&weight);
                    let rows = weight.chunks_exact(x.len()).zip(self.parameter(&bias));
                    rows.map(|(w, b)| b + w.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>())
                        .collect()
                }
                Layer::Conv2d { name, padding } => {
                    let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
                    let (weight, bias) = (self.parameter(&weight), self.parameter(&bias));
                    let k = 2 * *padding as usize + 1;
                    image[0] = bias.len();
                    let mut out = Vec::new();
                    for (filter, bias) in weight.chunks_exact(channels * k * k).zip(bias) {
                        for (y, column) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x)))
                        {
                            let mut sum = bias;
                            for (at, w) in filter.iter().enumerate() {
                                let (c, dy, dx) = (at / (k * k), at / k % k, at % k);
                                let seen = (y + dy)
                                    .checked_sub(k / 2)
                                    .zip((column + dx).checked_sub(k / 2));
                                if let Some((y, column)) =
                                    seen.filter(|(y, c)| *y < height && *c < width)
                                {
                                    sum += w * x[(c * height + y) * width + column];
                                }
                            }
                            out.push(sum);
                        }
                    }
                    out
                }
                Layer::GroupNorm { name, groups } => {
                    let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
                    let (weight, bias) = (self.parameter(&weight), self.parameter(&bias));
                    let (plane, size) = (height * width, x.len() / *groups as usize);
                    let mut out = Vec::new();
                    for group in x.chunks_exact(size) {
                        let mean = group.iter().sum::<f64>() / size as f64;
                        let variance =
                            group.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / size as f64;
                        for x in group {
                            let channel = out.len() / plane;
                            let scaled = (x - mean) / (variance + 1e-5).sqrt();
                            out.push(scaled * weight[channel] + bias[channel]);
                        }
                    }
                    out
                }
                Layer::Activation(function) => {
                    use trainyard_crds::training_job::Activation;
                    x.iter()
                        .map(|&x| match function {
                            Activation::Relu => x.max(0.0),
                            Activation::Tanh => x.tanh(),
                            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
                            Activation::Gelu => 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt())),
                        })
                        .collect()
                }
                Layer::MaxPool(window) => {
                    let p = *window as usize;
                    image = [channels, height / p, width / p];
                    let mut out = Vec::new();
                    for plane in x.chunks_exact(height * width) {
                        for y in 0..height / p {
                            for column in 0..width / p {
                                let seen = (0..p * p).map(|at| {
                                    plane[(y * p + at / p) * width + column * p + at % p]
                                });
                                out.push(seen.fold(f64::NEG_INFINITY, f64::max));
                            }
                        }
                    }
                    out
                }
                Layer::Flatten | Layer::Dropout { .. } => x,
            };
        }
        x
    }
}

fn outputs(network: &Network, inputs: &[f32]) -> Vec<f32> {
    let mut out = Vec::new();
    network.forward(inputs, &mut Scratch::default(), &mut out);
    out
}

fn networks() -> Vec<(Value, Vec<u64>)> {
    let block = |channels: u32, kernel: u32, pool: Option<u32>, groups: Option<u32>| {
        let mut block = json!({"channels": channels, "kernelSize": kernel});
        if let Some(pool) = pool {
            block["pool"] = json!(pool);
        }
        if let Some(groups) = groups {
            block["groups"] = json!(groups);
        }
        block
    };
    let cnn = |blocks: Vec<Value>, activation: &str| json!({"cnn": {"blocks": blocks, "hidden": [20], "activation": activation}});
    vec![
        (json!({"mlp": {"hidden": []}}), vec![7]),
        (
            json!({"mlp": {"hidden": [33, 16], "activation": "tanh"}}),
            vec![30],
        ),
        (
            json!({"mlp": {"hidden": [300, 5], "activation": "sigmoid", "dropout": 0.5}}),
            vec![300],
        ),
        (
            json!({"mlp": {"hidden": [17], "activation": "gelu"}}),
            vec![3, 4, 5],
        ),
        (cnn(vec![block(8, 3, Some(2), None)], "relu"), vec![1, 8, 8]),
        (
            cnn(
                vec![block(16, 3, None, Some(4)), block(12, 5, Some(3), Some(3))],
                "gelu",
            ),
            vec![3, 9, 7],
        ),
        (
            cnn(
                vec![block(20, 1, None, None), block(32, 7, Some(2), Some(1))],
                "tanh",
            ),
            vec![2, 5, 4],
        ),
        (json!({"cnn": {"blocks": [], "hidden": []}}), vec![2, 3, 4]),
    ]
}

#[test]
fn s01_each_layer_computes_what_pytorch_says() {
    for (place, (model, shape)) in networks().into_iter().enumerate() {
        let drawn = Drawn::new(&model, &shape, 3, place as u64);
        let width = shape.iter().product::<u64>() as usize;
        let inputs = draw(5 * width, 99, 2.0);
        let found = outputs(&drawn.network(Isa::fastest()), &inputs);
        assert_eq!(found.len(), 5 * 3, "{model}");
        for (row, found) in inputs.chunks_exact(width).zip(found.chunks_exact(3)) {
            for (found, expected) in found.iter().zip(drawn.defined(row)) {
                let distance = (f64::from(*found) - expected).abs();
                assert!(
                    distance <= 1e-5 + 1e-5 * expected.abs(),
                    "{model}: {found}, expected {expected}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Alone, at any place among others, and with every set of instructions.
    #[test]
    fn s03_a_row_has_the_same_bits_in_any_company(
        which in 0usize..8,
        rows in 1usize..40,
        place in any::<proptest::sample::Index>(),
        seed in any::<u64>(),
    ) {
        let (model, shape) = networks().swap_remove(which);
        let drawn = Drawn::new(&model, &shape, 5, seed);
        let width = shape.iter().product::<u64>() as usize;
        let inputs = draw(rows * width, seed ^ 7, 3.0);
        let place = place.index(rows);
        let alone = outputs(&drawn.network(Isa::fastest()), &inputs[place * width..][..width]);
        for isa in Isa::available() {
            let together = outputs(&drawn.network(isa), &inputs);
            let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&together[place * 5..][..5]), bits(&alone), "{} with {:?}", model, isa);
        }
    }
}

/// Numbers that are none go through every layer, and reach no other row.
#[test]
fn s11_a_nan_stays_in_its_row() {
    for (model, shape) in networks() {
        let drawn = Drawn::new(&model, &shape, 3, 5);
        let width = shape.iter().product::<u64>() as usize;
        let mut inputs = draw(3 * width, 4, 1.0);
        let network = drawn.network(Isa::fastest());
        let good = outputs(&network, &inputs);
        inputs[width + width / 2] = f32::NAN;
        let found = outputs(&network, &inputs);
        assert!(found[3..6].iter().all(|x| x.is_nan()), "{model}: {found:?}");
        assert_eq!(found[..3], good[..3], "{model}");
        assert_eq!(found[6..], good[6..], "{model}");
    }
}
