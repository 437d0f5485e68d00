//! Losses and gradients against PyTorch's, from the same weights and batches. `gradients.py` makes
//! the fixture and explains its formulas.

use serde::Deserialize;
use std::collections::BTreeMap;
use tch::Tensor;
use trainyard_core::layout::Layout;
use trainyard_core::metrics::{BlockResult, Loss, Objective, Task, TaskKind};
use trainyard_core::optimizer::Optimizer;
use trainyard_crds::training_job::Model;
use trainyard_runtime::arch::Architecture;
use trainyard_torch::network::{Network, summed_loss};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    task: String,
    model: Model,
    input_shape: Vec<u64>,
    outputs: u64,
    rows: usize,
    learning_rate: f64,
    losses: Vec<f64>,
    gradients: BTreeMap<String, Vec<f32>>,
}

fn formula(count: usize, factor: usize, offset: usize, modulus: usize, scale: f32) -> Vec<f32> {
    let value =
        |i: usize| (((i * factor + offset) % modulus) as f32 - (modulus / 2) as f32) / scale;
    (0..count).map(value).collect()
}

fn labels(case: &Case, step: usize) -> (Task, Vec<f32>) {
    let rows = 0..case.rows;
    match case.task.as_str() {
        "binary" => (
            Task::Binary,
            rows.map(|row| ((row + step) % 2) as f32).collect(),
        ),
        "multiclass" => (
            Task::Multiclass,
            rows.map(|row| ((7 * row + step) % 3) as f32).collect(),
        ),
        _ => (Task::Regression, formula(case.rows, 13, step, 17, 4.0)),
    }
}

/// PyTorch's kernels are libtorch's, but shapes, padding, groups, reductions and the layers' order
/// are ours to get right: a mistake in any of them is far above rounding.
fn close(ours: f64, theirs: f64, what: &str) {
    let bound = 1e-5 * theirs.abs().max(1.0);
    assert!(
        (ours - theirs).abs() <= bound,
        "{what}: {ours}, PyTorch has {theirs}"
    );
}

fn check(case: &Case) {
    let architecture =
        Architecture::new(&case.model, &case.input_shape, case.outputs).expect("a model that fits");
    let layout = Layout::new(architecture.params.clone()).expect("a layout");
    let network = Network::new(&architecture, &layout);
    let names: Vec<&str> = layout
        .params()
        .map(|placed| placed.param.name.as_str())
        .collect();
    assert_eq!(names, case.gradients.keys().collect::<Vec<_>>());
    let weights = layout.params().enumerate();
    let mut weights: Vec<Vec<f32>> = weights
        .map(|(index, placed)| formula(placed.len, 37, 11 * index, 101, 128.0))
        .collect();
    let optimizer = Optimizer::Sgd {
        momentum: 0.0,
        dampening: 0.0,
        nesterov: false,
        weight_decay: 0.0,
    };
    let width: u64 = case.input_shape.iter().product();
    for (step, expected) in case.losses.iter().enumerate() {
        let input =
            Tensor::from_slice(&formula(case.rows * width as usize, 29, 5 * step, 97, 32.0));
        let input = input.view(network.batch_shape(case.rows).as_slice());
        let variable = |(values, placed): (&Vec<f32>, &trainyard_core::layout::Placed)| {
            let shape: Vec<i64> = placed.param.shape.iter().map(|&size| size as i64).collect();
            Tensor::from_slice(values)
                .view(shape.as_slice())
                .set_requires_grad(true)
        };
        let variables: Vec<Tensor> = weights.iter().zip(layout.params()).map(variable).collect();
        let (task, labels) = labels(case, step);
        let loss = summed_loss(
            task,
            Loss::of(task.kind(case.outputs)),
            &network.forward(&variables, &input, None),
            &labels,
            &[],
        );
        close(
            loss.double_value(&[]),
            *expected,
            &format!("loss of step {step}"),
        );
        loss.backward();
        for ((variable, values), name) in variables.iter().zip(&mut weights).zip(&names) {
            let gradient = Vec::<f32>::try_from(variable.grad().flatten(0, -1)).expect("floats");
            if step == 0 {
                let theirs = &case.gradients[*name];
                assert_eq!(gradient.len(), theirs.len());
                gradient
                    .iter()
                    .zip(theirs)
                    .for_each(|(ours, theirs)| close((*ours).into(), (*theirs).into(), name));
            }
            let old = values.clone();
            optimizer
                .apply(
                    step as u64,
                    case.learning_rate,
                    case.rows as f32,
                    &old,
                    &gradient,
                    &mut [],
                    values,
                )
                .expect("equal lengths");
        }
    }
}

#[test]
fn t06_losses_and_gradients_equal_pytorchs() {
    trainyard_torch::engine::use_threads(1);
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("gradients.json")).expect("the fixture");
    assert_eq!(cases.len(), 6);
    for case in &cases {
        check(case);
    }
}

/// Losses in f32 with gradients are those that evaluation sums in f64, which are PyTorch's; and a weight multiplies both.
#[test]
fn t02_every_loss_and_its_gradient_is_that_of_evaluation() {
    let smoothed = Loss::CrossEntropy {
        label_smoothing: 0.1,
    };
    let of_value = [
        Loss::MeanSquaredError {},
        Loss::MeanAbsoluteError {},
        Loss::Huber { delta: 0.5 },
        Loss::Poisson {},
    ];
    let cases = of_value.map(|loss| (Task::Regression, loss, 1));
    for (task, loss, width) in cases.into_iter().chain([
        (Task::Binary, smoothed, 1),
        (Task::Multiclass, smoothed, 3),
        (Task::Multiclass, Loss::of(task_kind()), 3),
    ]) {
        let rows = 11;
        let outputs = formula(rows * width, 29, 5, 97, 32.0);
        let labels: Vec<f32> = match task {
            Task::Regression => (0..rows).map(|row| (row % 4) as f32 + 0.25).collect(),
            _ => (0..rows)
                .map(|row| (row % (width + 1).min(3)) as f32)
                .collect(),
        };
        let weights: Vec<f32> = (0..rows).map(|row| 0.5 * (1 + row % 3) as f32).collect();
        let objective = Objective {
            loss,
            ..task.kind(width as u64).into()
        };
        let exact = |values: &[f32]| -> f64 {
            let rows = values.chunks(width).zip(&labels).zip(&weights);
            let each = rows.map(|((values, label), weight)| {
                let block = BlockResult::from_outputs(objective, values, &[*label]).expect("a row");
                block.loss_sum * f64::from(*weight)
            });
            each.sum()
        };
        let variable = Tensor::from_slice(&outputs)
            .view([rows as i64, width as i64])
            .set_requires_grad(true);
        let sum = summed_loss(task, loss, &variable, &labels, &weights);
        let what = format!("{task:?} {loss:?}");
        close(sum.double_value(&[]), exact(&outputs), &what);
        sum.backward();
        let gradient = Vec::<f32>::try_from(variable.grad().flatten(0, -1)).expect("floats");
        for (place, ours) in gradient.iter().enumerate() {
            let moved = |by: f32| {
                let mut outputs = outputs.clone();
                outputs[place] += by;
                exact(&outputs)
            };
            let step = 1.0 / 1024.0; // exact in f32
            let slope = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
            // A difference quotient is exact to the square of its step; at a corner it is not the gradient.
            assert!(
                (f64::from(*ours) - slope).abs() < 2e-3,
                "{what} {place}: {ours}, slope {slope}"
            );
        }
    }
}

fn task_kind() -> TaskKind {
    TaskKind::Multiclass { classes: 3 }
}
