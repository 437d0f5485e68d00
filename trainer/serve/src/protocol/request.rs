//! Requests over HTTP: JSON, with tensors in binary behind it or without.

use std::collections::HashSet;

use bytes::Bytes;
use serde::Deserialize;

use super::data::{Data, Datatype};
use super::error::ProtocolError;
use super::json::Collected;

/// The most inputs, and the most outputs asked for.
const TENSORS: usize = 1 << 16;
/// The most dimensions of a tensor.
const DIMENSIONS: usize = 16;
/// Parameters of Triton's extensions that are not served, and what to do instead.
const SHARED_MEMORY: &str = "shared memory is not supported; send the tensors in the request";
const SEQUENCE: &str = "the model keeps no state between requests; leave out the sequence";

/// A tensor with its elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Type of its elements.
    pub datatype: Datatype,
    /// Its dimensions, the outermost first.
    pub shape: Vec<u64>,
    /// As many elements as the shape says.
    pub data: Data,
}

/// An output that a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedOutput {
    /// Its name.
    pub name: String,
    /// Whether it is to be sent in binary; as the request says of all, if nothing is said here.
    pub binary: Option<bool>,
    /// How many of the greatest elements are wanted, as texts with their places and labels; 0 for the tensor itself.
    pub class_count: u64,
}

/// What a client wants to know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferRequest {
    /// What the client calls the request; it comes back with the answer.
    pub id: Option<String>,
    /// The inputs, each name once.
    pub inputs: Vec<Tensor>,
    /// The outputs that are wanted, each name once; all of them if there is none.
    pub outputs: Vec<RequestedOutput>,
    /// Whether outputs are sent in binary of which the client says nothing.
    pub binary_output: bool,
    /// Microseconds that the request may wait, if the client says so.
    pub timeout: Option<u64>,
}

/// Parameters that mean something here. Others are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Parameters {
    binary_data_size: Option<u64>,
    binary_data: Option<bool>,
    binary_data_output: Option<bool>,
    classification: Option<u64>,
    timeout: Option<u64>,
    shared_memory_region: Option<Scalar>,
    sequence_id: Option<Scalar>,
    sequence_start: Option<Scalar>,
    sequence_end: Option<Scalar>,
}

/// A value of a parameter.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Bool(bool),
    Int(i64),
    Text(String),
}

impl Scalar {
    /// Whether it is what stands for nothing.
    fn is_nothing(&self) -> bool {
        match self {
            Self::Bool(value) => !value,
            Self::Int(value) => *value == 0,
            Self::Text(value) => value.is_empty(),
        }
    }
}

impl Parameters {
    fn check(&self) -> Result<(), ProtocolError> {
        if self.shared_memory_region.is_some() {
            return Err(ProtocolError::invalid(SHARED_MEMORY));
        }
        let sequence = [&self.sequence_id, &self.sequence_start, &self.sequence_end];
        match sequence.into_iter().flatten().all(Scalar::is_nothing) {
            true => Ok(()),
            false => Err(ProtocolError::invalid(SEQUENCE)),
        }
    }
}

#[derive(Deserialize)]
struct RequestJson {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Option<Parameters>,
    inputs: Vec<InputJson>,
    #[serde(default)]
    outputs: Option<Vec<OutputJson>>,
}

#[derive(Deserialize)]
struct InputJson {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    #[serde(default)]
    parameters: Option<Parameters>,
    #[serde(default)]
    data: Option<Collected>,
}

#[derive(Deserialize)]
struct OutputJson {
    name: String,
    #[serde(default)]
    parameters: Option<Parameters>,
}

/// Reads the body of a request. `header_length` is the header `Inference-Header-Content-Length`, if there is one: the bytes of JSON
/// before the tensors in binary. Where it is 0, the body is the only input of the model, of this name, type and shape of a row.
///
/// # Errors
/// If the body is no request: with the place and the remedy.
pub fn decode(
    body: Bytes,
    header_length: Option<&[u8]>,
    only: Option<(&str, Datatype, &[u64])>,
) -> Result<InferRequest, ProtocolError> {
    let length = header_length.map(|header| parse_length(header, body.len()));
    let (json, mut binary) = match length.transpose()? {
        Some(0) => return raw(body, only),
        Some(length) => (body.slice(..length), body.slice(length..)),
        None => (body, Bytes::new()),
    };
    let request: RequestJson = serde_json::from_slice(&json)
        .map_err(|error| ProtocolError::invalid(format!("the request cannot be read: {error}")))?;
    let parameters = request.parameters.unwrap_or_default();
    parameters.check()?;
    let outputs = request.outputs.unwrap_or_default();
    if request.inputs.len() > TENSORS || outputs.len() > TENSORS {
        return Err(ProtocolError::invalid(format!(
            "the request has more than {TENSORS} inputs or outputs"
        )));
    }
    let mut inputs = Vec::with_capacity(request.inputs.len());
    for input in request.inputs {
        let name = shown(&input.name);
        let tensor = input.tensor(&mut binary, header_length.is_some());
        inputs.push(tensor.map_err(|error| error.about(format_args!("input {name}")))?);
    }
    if !binary.is_empty() {
        return Err(ProtocolError::invalid(format!(
            "{} bytes are left after the inputs in binary; the sizes in binary_data_size must add up to what follows the JSON",
            binary.len()
        )));
    }
    let outputs = outputs.into_iter().map(OutputJson::requested);
    let request = InferRequest {
        id: request.id,
        inputs,
        outputs: outputs.collect::<Result<_, _>>()?,
        binary_output: parameters.binary_data_output.unwrap_or(false),
        timeout: parameters.timeout.filter(|timeout| *timeout > 0),
    };
    request.check_names()?;
    Ok(request)
}

/// The bytes of JSON.
fn parse_length(header: &[u8], body: usize) -> Result<usize, ProtocolError> {
    const NAME: &str = "Inference-Header-Content-Length";
    let text = std::str::from_utf8(header).unwrap_or_default().trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let length = text.parse::<usize>().ok().filter(|_| is_number);
    match length {
        Some(length) if length <= body => Ok(length),
        Some(length) => Err(ProtocolError::invalid(format!(
            "{NAME} is {length}, and the body has {body} bytes; give the bytes of the JSON"
        ))),
        None => Err(ProtocolError::invalid(format!(
            "{NAME} is {}; give the bytes of the JSON before the tensors",
            shown(&String::from_utf8_lossy(header))
        ))),
    }
}

/// The only input of a model, in binary.
fn raw(body: Bytes, only: Option<(&str, Datatype, &[u64])>) -> Result<InferRequest, ProtocolError> {
    let Some((name, datatype, row)) = only else {
        return Err(ProtocolError::invalid(
            "Inference-Header-Content-Length is 0, which sends the only input of a model; this model has several: describe them in JSON",
        ));
    };
    let elements = row.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
    let bytes = elements.and_then(|n| n.checked_mul(datatype.size().unwrap_or(1) as u64));
    let rows = bytes.and_then(|bytes| (body.len() as u64).checked_div(bytes));
    let rows = rows.unwrap_or(0);
    let mut shape = vec![rows];
    shape.extend(row);
    let count = elements.unwrap_or(0).saturating_mul(rows);
    let data = Data::from_binary(datatype, count, body)
        .map_err(|error| error.about(format_args!("input {}", shown(name))))?;
    let tensor = Tensor {
        name: name.to_owned(),
        datatype,
        shape,
        data,
    };
    Ok(InferRequest {
        inputs: vec![tensor],
        binary_output: true,
        ..InferRequest::default()
    })
}

/// The elements of a shape.
///
/// # Errors
/// If a dimension is negative, or there are too many to be counted.
pub(crate) fn elements(shape: &[i64]) -> Result<(Vec<u64>, u64), ProtocolError> {
    if shape.len() > DIMENSIONS {
        return Err(ProtocolError::invalid(format!(
            "its shape has {} dimensions, more than {DIMENSIONS}",
            shape.len()
        )));
    }
    let dimension = |dimension: &i64| {
        u64::try_from(*dimension).map_err(|_| {
            ProtocolError::invalid(format!(
                "its shape {shape:?} has a negative dimension; give the number of elements"
            ))
        })
    };
    let dimensions: Vec<u64> = shape.iter().map(dimension).collect::<Result<_, _>>()?;
    let count = dimensions.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
    match count {
        Some(count) => Ok((dimensions, count)),
        None => Err(ProtocolError::invalid(format!(
            "its shape {shape:?} has more elements than can be counted"
        ))),
    }
}

impl InputJson {
    fn tensor(self, binary: &mut Bytes, has_binary: bool) -> Result<Tensor, ProtocolError> {
        let parameters = self.parameters.unwrap_or_default();
        parameters.check()?;
        let datatype = Datatype::of(&self.datatype)?;
        let (shape, count) = elements(&self.shape)?;
        let data = match (parameters.binary_data_size, self.data) {
            (Some(_), Some(_)) => {
                return Err(ProtocolError::invalid(
                    "it has `data` and binary_data_size; give one of them",
                ));
            }
            (None, None) => {
                return Err(ProtocolError::invalid(
                    "it has no data; give `data`, or binary_data_size and the tensor in binary behind the JSON",
                ));
            }
            (Some(_), None) if !has_binary => {
                return Err(ProtocolError::invalid(
                    "it has binary_data_size, and the request has no header Inference-Header-Content-Length; give the bytes of the JSON in it",
                ));
            }
            (Some(size), None) => {
                if size > binary.len() as u64 {
                    return Err(ProtocolError::invalid(format!(
                        "its binary_data_size is {size}, and {} bytes are left in the body",
                        binary.len()
                    )));
                }
                Data::from_binary(datatype, count, binary.split_to(size as usize))?
            }
            (None, Some(collected)) => {
                let nested = &collected.lengths;
                let is_nested =
                    nested.len() > 1 && !nested.iter().map(|n| *n as u64).eq(shape.iter().copied());
                if is_nested {
                    return Err(ProtocolError::invalid(format!(
                        "its data is nested as the shape {nested:?}, and its shape is {shape:?}"
                    )));
                }
                let data = collected.data(datatype)?;
                if data.len() as u64 != count {
                    return Err(ProtocolError::invalid(format!(
                        "its data has {} elements, its shape {shape:?} has {count}; send one for each",
                        data.len()
                    )));
                }
                data
            }
        };
        Ok(Tensor {
            name: self.name,
            datatype,
            shape,
            data,
        })
    }
}

impl OutputJson {
    fn requested(self) -> Result<RequestedOutput, ProtocolError> {
        let parameters = self.parameters.unwrap_or_default();
        let name = shown(&self.name);
        let checked = parameters.check();
        checked.map_err(|error| error.about(format_args!("output {name}")))?;
        Ok(RequestedOutput {
            name: self.name,
            binary: parameters.binary_data,
            class_count: parameters.classification.unwrap_or(0),
        })
    }
}

impl InferRequest {
    /// Refuses names that come twice.
    pub(crate) fn check_names(&self) -> Result<(), ProtocolError> {
        let mut names = HashSet::new();
        if let Some(twice) = self.inputs.iter().find(|input| !names.insert(&*input.name)) {
            let name = shown(&twice.name);
            return Err(ProtocolError::invalid(format!(
                "input {name} is given twice"
            )));
        }
        names.clear();
        match self
            .outputs
            .iter()
            .find(|output| !names.insert(&*output.name))
        {
            None => Ok(()),
            Some(twice) => Err(ProtocolError::invalid(format!(
                "output {} is asked for twice",
                shown(&twice.name)
            ))),
        }
    }
}

/// A name in a message: in quotes, and cut off where it is long.
pub(crate) fn shown(name: &str) -> String {
    const MOST: usize = 80;
    match name.char_indices().nth(MOST) {
        None => format!("{name:?}"),
        Some((end, _)) => format!("{:?}...", &name[..end]),
    }
}
