//! Rows a second of a trained network, against libtorch on the same parameters. One thread each.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use tch::Tensor;
use trainyard_core::layout::Layout;
use trainyard_core::philox::{Purpose, Stream};
use trainyard_infer::{Isa, Network, Scratch};
use trainyard_runtime::arch::Architecture;
use trainyard_torch::network::Network as Torch;

use crate::ratio::{Pace, Target, report};

/// Pairs of a comparison.
const ROUNDS: usize = 5;
/// How long one of a pair is measured.
const WINDOW: Duration = Duration::from_millis(100);
const BATCHES: [usize; 4] = [1, 4, 16, 64];

/// Microseconds a row.
fn pace(rows: usize, mut forward: impl FnMut()) -> Pace {
    let (begin, mut times, mut best) = (Instant::now(), 0, f64::MAX);
    while begin.elapsed() < WINDOW {
        let one = Instant::now();
        forward();
        best = best.min(one.elapsed().as_secs_f64());
        times += 1;
    }
    let per_row = 1e6 / rows as f64;
    Pace {
        mean: begin.elapsed().as_secs_f64() / f64::from(times) * per_row,
        best: best * per_row,
    }
}

/// Compares the kernels of answers with those of training.
pub fn report_inference() -> Result<()> {
    tch::set_num_threads(1);
    println!(
        "inference: a row, one thread, {:?} against libtorch",
        Isa::fastest()
    );
    let cnn = json!({"cnn": {"blocks": [
        {"channels": 16, "kernelSize": 3, "groups": 4},
        {"channels": 32, "kernelSize": 3, "groups": 8, "pool": 2},
    ], "hidden": [64], "activation": "relu"}});
    let networks = [
        (
            "breast cancer mlp",
            json!({"mlp": {"hidden": [128, 64, 32]}}),
            vec![30],
            1,
        ),
        ("digits cnn", cnn, vec![1, 8, 8], 10),
        (
            "mlp of 10 million parameters",
            json!({"mlp": {"hidden": [2048, 2048, 2048]}}),
            vec![784],
            10,
        ),
    ];
    for (name, model, shape, outputs) in networks {
        let architecture = Architecture::new(&serde_json::from_value(model)?, &shape, outputs)?;
        let layout = Layout::new(architecture.params.clone())?;
        let mut parameters = vec![0.0; layout.len()];
        layout.initialize(7, 0..layout.len(), &mut parameters)?;
        let torch = Torch::new(&architecture, &layout);
        let ours = Network::new(&architecture, &layout, &parameters);
        let tensors: Vec<Tensor> = layout
            .params()
            .map(|placed| {
                let shape: Vec<i64> = placed.param.shape.iter().map(|&d| d as i64).collect();
                Tensor::from_slice(&parameters[placed.range()]).view(shape.as_slice())
            })
            .collect();
        for rows in BATCHES {
            let mut inputs = vec![0.0; rows * ours.inputs()];
            Stream::new(7, Purpose::Init, 1, 0, 0).fill_uniform(&mut inputs, -2.0, 2.0);
            let (mut scratch, mut out) = (Scratch::default(), Vec::new());
            let (mut own, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                own.push(pace(rows, || {
                    out.clear();
                    ours.forward(&inputs, &mut scratch, &mut out);
                }));
                theirs.push(pace(rows, || {
                    let _guard = tch::no_grad_guard();
                    let input =
                        Tensor::from_slice(&inputs).view(torch.batch_shape(rows).as_slice());
                    let _ = std::hint::black_box(torch.forward(&tensors, &input, None));
                }));
            }
            let what = format!("{name}, {rows} at once");
            report(&what, &own, &theirs, "us", Target::AtMost(1.0));
        }
    }
    Ok(())
}
