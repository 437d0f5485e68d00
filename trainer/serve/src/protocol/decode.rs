//! Bodies of requests over HTTP.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;

use super::data::Data;
use super::datatype::Datatype;
use super::error::{ProtocolError, quoted};
use super::header::{self, json_length};
use super::json::{self, Bounds, InputJson, OutputJson, Parameters, RequestJson};
use super::limits::Limits;
use super::request::{InferRequest, RequestedOutput, Tensor, element_count};
use super::strings::ByteStrings;

/// The only input of a model, which a client may send as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawInput<'a> {
    /// Its name.
    pub name: &'a str,
    /// Type of its elements.
    pub datatype: Datatype,
    /// Its dimensions without the first one, which is the number of rows.
    pub row_shape: &'a [u64],
}

/// Reads the body of a request, decompressed.
///
/// `header_length` is the value of `Inference-Header-Content-Length`, if it is there: the bytes of JSON, which inputs in binary
/// follow. Where it is 0, the body is the one input of the model, `raw_input`, and nothing else; the number of rows follows from
/// its length, or is 1 for `BYTES`, where the body is the one string, as with Triton. A model with several inputs has no
/// `raw_input`.
///
/// # Errors
/// If the body is no request, or larger than the limits.
pub fn decode_request(
    body: Bytes,
    header_length: Option<&[u8]>,
    raw_input: Option<RawInput<'_>>,
    limits: &Limits,
) -> Result<InferRequest, ProtocolError> {
    if body.len() > limits.body_bytes {
        return Err(ProtocolError::too_large(format!(
            "the body has {} bytes, at most {} are read; send fewer rows at once",
            body.len(),
            limits.body_bytes
        )));
    }
    let left = Cell::new(0);
    let bounds = Bounds::new(limits, &left);
    let Some(value) = header_length else {
        return request(json::read(&body, bounds)?, None, bounds);
    };
    let length = json_length(value, body.len())?;
    if length == 0 {
        return raw_request(body, raw_input, bounds);
    }
    let mut binary = body;
    let json = binary.split_to(length);
    let read = json::read(&json, bounds).map_err(|error| {
        error.at(format_args!(
            "the first {length} bytes, which {} counts",
            header::NAME
        ))
    })?;
    request(read, Some(binary), bounds)
}

/// Reads a body that is an array of numbers, nested or not: its shape, and the numbers row after row. A `null` is NaN.
///
/// # Errors
/// If it is something else, or larger than the limits.
pub fn decode_numbers(body: &[u8], limits: &Limits) -> Result<(Vec<u64>, Vec<f64>), ProtocolError> {
    let left = Cell::new(0);
    json::read_array(body, Bounds::new(limits, &left))?.into_numbers()
}

/// Checks what was read; `binary` is what follows the JSON.
fn request(
    json: RequestJson,
    mut binary: Option<Bytes>,
    bounds: Bounds,
) -> Result<InferRequest, ProtocolError> {
    let parameters = Parameters::supported(json.parameters)?;
    let inputs = tensors(json.inputs.unwrap_or_default(), &mut binary, bounds)?;
    if let Some(rest) = binary.filter(|rest| !rest.is_empty()) {
        return Err(ProtocolError::invalid(format!(
            "{} bytes are left after the inputs in binary; make their binary_data_size add up to all that follows the JSON",
            rest.len()
        )));
    }
    let outputs = json.outputs.unwrap_or_default().into_iter().enumerate();
    let request = InferRequest {
        id: json.id,
        inputs,
        outputs: outputs.map(requested).collect::<Result<_, _>>()?,
        binary_output: parameters.binary_data_output()?.unwrap_or(false),
        timeout: parameters
            .timeout()?
            .filter(|timeout| *timeout > 0)
            .map(Duration::from_micros),
        priority: parameters.priority()?.unwrap_or(0),
    };
    request.check_names()?;
    Ok(request)
}

fn tensors(
    inputs: Vec<InputJson>,
    binary: &mut Option<Bytes>,
    bounds: Bounds,
) -> Result<Vec<Tensor>, ProtocolError> {
    if inputs.is_empty() {
        return Err(ProtocolError::invalid(
            "the request has no inputs; give those of the model",
        ));
    }
    let mut tensors = Vec::with_capacity(inputs.len());
    for (index, mut input) in inputs.into_iter().enumerate() {
        let Some(name) = input.name.take() else {
            return Err(nameless("input", index));
        };
        let (datatype, shape, data) = content(input, binary, bounds)
            .map_err(|error| error.at(format_args!("input {}", quoted(&name))))?;
        tensors.push(Tensor {
            name,
            datatype,
            shape,
            data,
        });
    }
    Ok(tensors)
}

/// What an input is beside its name.
fn content(
    input: InputJson,
    binary: &mut Option<Bytes>,
    bounds: Bounds,
) -> Result<(Datatype, Vec<u64>, Data), ProtocolError> {
    let parameters = Parameters::supported(input.parameters)?;
    let datatype = input.datatype.ok_or_else(|| missing("datatype"))??;
    let shape = input.shape.ok_or_else(|| missing("shape"))??;
    let count = element_count(&shape)?;
    let data = match (input.data, parameters.binary_data_size()?) {
        (Some(_), Some(_)) => Err(ProtocolError::invalid(
            "it has both data and binary_data_size; send one of them",
        )),
        (None, None) => Err(ProtocolError::invalid(
            "it has neither data nor the parameter binary_data_size; send one of them",
        )),
        (Some(collected), None) => collected.into_data(datatype, &shape, count),
        (None, Some(size)) => {
            bounds.spend(count)?;
            Data::from_binary(datatype, count, take(binary, size)?)
        }
    }?;
    Ok((datatype, shape, data))
}

fn nameless(what: &str, index: usize) -> ProtocolError {
    missing("name").at(format_args!("{what} {index} (from 0)"))
}

fn missing(field: &str) -> ProtocolError {
    ProtocolError::invalid(format!("it has no {field}; give it"))
}

/// Takes the next `size` bytes behind the JSON.
fn take(binary: &mut Option<Bytes>, size: u64) -> Result<Bytes, ProtocolError> {
    let Some(binary) = binary else {
        return Err(ProtocolError::invalid(format!(
            "it is in binary, and the header {} is missing; give the bytes of the JSON in it",
            header::NAME
        )));
    };
    match usize::try_from(size) {
        Ok(size) if size <= binary.len() => Ok(binary.split_to(size)),
        _ => Err(ProtocolError::invalid(format!(
            "its binary_data_size is {size}, and {} bytes are left of the body; send all of it",
            binary.len()
        ))),
    }
}

fn requested((index, output): (usize, OutputJson)) -> Result<RequestedOutput, ProtocolError> {
    let name = output.name.ok_or_else(|| nameless("output", index))?;
    let options = || {
        let parameters = Parameters::supported(output.parameters)?;
        Ok((parameters.binary_data()?, parameters.classification()?))
    };
    let (binary, classes) = options()
        .map_err(|error: ProtocolError| error.at(format_args!("output {}", quoted(&name))))?;
    Ok(RequestedOutput {
        name,
        binary,
        class_count: classes.unwrap_or(0),
    })
}

/// A request whose body is an input.
fn raw_request(
    body: Bytes,
    raw_input: Option<RawInput<'_>>,
    bounds: Bounds,
) -> Result<InferRequest, ProtocolError> {
    let Some(raw) = raw_input else {
        return Err(ProtocolError::invalid(format!(
            "{} is 0, so that the body would be the one input of the model, which has several; describe them in JSON",
            header::NAME
        )));
    };
    let tensor = raw_tensor(body, raw, bounds)
        .map_err(|error| error.at(format_args!("input {}", quoted(raw.name))))?;
    Ok(InferRequest {
        inputs: vec![tensor],
        binary_output: true,
        ..InferRequest::default()
    })
}

fn raw_tensor(
    body: Bytes,
    RawInput {
        name,
        datatype,
        row_shape,
    }: RawInput<'_>,
    bounds: Bounds,
) -> Result<Tensor, ProtocolError> {
    let row = element_count(row_shape)?;
    let (rows, data) = match datatype.size() {
        None if row == 1 => (1, Data::Bytes(ByteStrings::one(body))),
        None => {
            return Err(ProtocolError::invalid(format!(
                "a raw body is one BYTES element, a row has {row}; describe the input in JSON"
            )));
        }
        Some(size) => {
            let row_bytes = row.saturating_mul(size as u64);
            let found = body.len() as u64;
            let rows = found.checked_div(row_bytes).unwrap_or(0);
            if rows == 0 || !found.is_multiple_of(row_bytes) {
                return Err(ProtocolError::invalid(format!(
                    "the raw body has {found} bytes, a row has {row_bytes}; send whole rows, at least one"
                )));
            }
            let count = rows * row;
            bounds.spend(count)?;
            (rows, Data::from_binary(datatype, count, body)?)
        }
    };
    let shape = std::iter::once(rows).chain(row_shape.iter().copied());
    Ok(Tensor {
        name: name.to_owned(),
        datatype,
        shape: shape.collect(),
        data,
    })
}
