//! Requests as clients write them.

use serde_json::json;

use crate::protocol::{Data, Datatype, Tensor};

/// How a tensor is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As JSON without inner arrays.
    Flat,
    /// As JSON nested as the shape.
    Nested,
    /// Behind the JSON.
    Binary,
}

/// A body with the value of `Inference-Header-Content-Length`, if it has one. The fields of an input come in the order of their
/// names, so `data` comes before `shape`, or in the reversed one.
pub(super) fn body(inputs: &[(Tensor, Form)], is_reversed: bool) -> (Vec<u8>, Option<String>) {
    let mut binary = Vec::new();
    let inputs: Vec<String> = inputs
        .iter()
        .map(|(tensor, form)| input(tensor, *form, is_reversed, &mut binary))
        .collect();
    let mut body = format!(r#"{{"id": "7", "inputs": [{}]}}"#, inputs.join(", ")).into_bytes();
    let header = (!binary.is_empty()).then(|| body.len().to_string());
    body.extend(binary);
    (body, header)
}

fn input(tensor: &Tensor, form: Form, is_reversed: bool, binary: &mut Vec<u8>) -> String {
    let elements = elements(&tensor.data);
    let content = match form {
        Form::Flat => format!(r#""data": [{}]"#, elements.join(", ")),
        Form::Nested => format!(r#""data": {}"#, nested(&elements, &tensor.shape)),
        Form::Binary => {
            let before = binary.len();
            put_binary(tensor, binary);
            let size = binary.len() - before;
            format!(r#""parameters": {{"binary_data_size": {size}}}"#)
        }
    };
    let mut fields = [
        content,
        format!(r#""datatype": "{}""#, tensor.datatype.name()),
        format!(r#""name": {}"#, json!(tensor.name)),
        format!(r#""shape": {:?}"#, tensor.shape),
    ];
    if is_reversed {
        fields.reverse();
    }
    format!("{{{}}}", fields.join(", "))
}

fn nested(elements: &[String], shape: &[u64]) -> String {
    match shape {
        [] | [_] => format!("[{}]", elements.join(", ")),
        [length, inner @ ..] => {
            let size = elements.len() / (*length).max(1) as usize;
            let rows = 0..*length as usize;
            let rows = rows.map(|row| nested(&elements[row * size..(row + 1) * size], inner));
            format!("[{}]", rows.collect::<Vec<_>>().join(", "))
        }
    }
}

fn elements(data: &Data) -> Vec<String> {
    fn texts<T: ToString>(values: &[T]) -> Vec<String> {
        values.iter().map(T::to_string).collect()
    }
    match data {
        Data::Bool(values) => texts(values),
        Data::Uint8(values) => texts(values),
        Data::Uint16(values) => texts(values),
        Data::Uint32(values) => texts(values),
        Data::Uint64(values) => texts(values),
        Data::Int8(values) => texts(values),
        Data::Int16(values) => texts(values),
        Data::Int32(values) => texts(values),
        Data::Int64(values) => texts(values),
        Data::Fp32(values) => values
            .iter()
            .map(|value| json!(value).to_string())
            .collect(),
        Data::Fp64(values) => values
            .iter()
            .map(|value| json!(value).to_string())
            .collect(),
        Data::Bytes(values) => {
            let text = |value| json!(String::from_utf8_lossy(value)).to_string();
            values.iter().map(text).collect()
        }
    }
}

fn put_binary(tensor: &Tensor, out: &mut Vec<u8>) {
    let upper = |value: &f32| value.to_le_bytes()[2..].to_vec();
    match (&tensor.data, tensor.datatype) {
        (Data::Fp32(values), Datatype::Bf16) => out.extend(values.iter().flat_map(upper)),
        (data, _) => data.put_binary(out),
    }
}
