//! Predictions become tensors.

use trainyard_core::prediction::Prediction;
use trainyard_infer::Model;

use crate::protocol::{
    Data, Datatype, InferRequest, OutputTensor, ProtocolError, TensorMetadata, classify, quoted,
};

/// The class, or the value in the units of the target: the column of this name that `predict` writes.
const PREDICTION: &str = "prediction";
/// The probability of each class, in their order.
const PROBABILITIES: &str = "probabilities";

/// The outputs of a model.
pub(super) fn describe(model: &Model) -> Vec<TensorMetadata> {
    let classes = &model.file.output.classes;
    let describe = |name: &str, datatype: Datatype, shape: Vec<i64>| TensorMetadata {
        name: name.into(),
        datatype,
        shape,
    };
    match classes.len() {
        0 => vec![describe(PREDICTION, Datatype::Fp64, vec![-1])],
        count => vec![
            describe(PREDICTION, Datatype::Bytes, vec![-1]),
            describe(PROBABILITIES, Datatype::Fp32, vec![-1, count as i64]),
        ],
    }
}

/// The outputs that are asked for, in the order in which they are.
pub(super) fn answer(
    classes: &[String],
    request: &InferRequest,
    predictions: &[Prediction],
) -> Result<Vec<OutputTensor>, ProtocolError> {
    let all: &[&str] = match classes {
        [] => &[PREDICTION],
        _ => &[PREDICTION, PROBABILITIES],
    };
    if request.outputs.is_empty() {
        let tensor = |name: &&str| tensor(name, classes, predictions, request.binary_output);
        return Ok(all.iter().map(tensor).collect());
    }
    let answer = |output: &crate::protocol::RequestedOutput| {
        let name = output.name.as_str();
        if !all.contains(&name) {
            return Err(ProtocolError::invalid(format!(
                "output {} is none of the model's, which are {all:?}",
                quoted(name)
            )));
        }
        let binary = request.wants_binary(name);
        match (output.class_count, name) {
            (0, _) => Ok(tensor(name, classes, predictions, binary)),
            (count, PROBABILITIES) => {
                let values = probabilities(predictions);
                let (shape, data) = classify(&values, classes.len(), classes, count);
                Ok(OutputTensor {
                    name: name.to_owned(),
                    shape,
                    data,
                    binary,
                })
            }
            _ => Err(ProtocolError::invalid(format!(
                "output {name:?}: classification is of the output {PROBABILITIES:?}"
            ))),
        }
    };
    request.outputs.iter().map(answer).collect()
}

fn tensor(
    name: &str,
    classes: &[String],
    predictions: &[Prediction],
    binary: bool,
) -> OutputTensor {
    let rows = predictions.len() as u64;
    let (shape, data) = match (name, classes) {
        (PROBABILITIES, _) => (
            vec![rows, classes.len() as u64],
            Data::Fp32(probabilities(predictions)),
        ),
        (_, []) => {
            let value = |prediction: &Prediction| match prediction {
                Prediction::Value(value) => *value,
                Prediction::Class { .. } => f64::NAN,
            };
            let values = predictions.iter().map(value).collect();
            (vec![rows], Data::Fp64(values))
        }
        _ => {
            let class = |prediction: &Prediction| match prediction {
                Prediction::Class { class, .. } => classes.get(*class).map_or("", String::as_str),
                Prediction::Value(_) => "",
            };
            let names = predictions.iter().map(class).collect();
            (vec![rows], Data::Bytes(names))
        }
    };
    OutputTensor {
        name: name.to_owned(),
        shape,
        data,
        binary,
    }
}

fn probabilities(predictions: &[Prediction]) -> Vec<f32> {
    let of = |prediction: &Prediction| match prediction {
        Prediction::Class { probabilities, .. } => probabilities.clone(),
        Prediction::Value(_) => Vec::new(),
    };
    predictions.iter().flat_map(of).collect()
}
