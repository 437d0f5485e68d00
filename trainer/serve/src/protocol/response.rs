//! Answers over HTTP.

use serde::ser::{SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};

use super::data::{Data, Datatype};
use super::request::InferRequest;

/// An output with its elements.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputTensor {
    /// Its name.
    pub name: String,
    /// Type of its elements.
    pub datatype: Datatype,
    /// Its dimensions, the outermost first.
    pub shape: Vec<u64>,
    /// As many elements as the shape says.
    pub data: Data,
    /// Whether it is sent in binary.
    pub binary: bool,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct InferResponse {
    /// The model.
    pub model_name: String,
    /// Its version.
    pub model_version: String,
    /// What the client called the request.
    pub id: Option<String>,
    /// The outputs.
    pub outputs: Vec<OutputTensor>,
}

/// The body of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// JSON, and outputs in binary behind it.
    pub body: Vec<u8>,
    /// Bytes of the JSON, if outputs in binary follow it.
    pub header_length: Option<usize>,
}

/// Whether an output is to be sent in binary.
pub fn wants_binary(request: &InferRequest, name: &str) -> bool {
    let asked = request.outputs.iter().find(|output| output.name == name);
    asked
        .and_then(|output| output.binary)
        .unwrap_or(request.binary_output)
}

/// Writes an answer. A number that is NaN or infinite, which JSON does not have, becomes `null`: no answer should hold one.
pub fn encode(response: &InferResponse) -> Encoded {
    let mut binary = Vec::new();
    let sizes: Vec<Option<usize>> = response
        .outputs
        .iter()
        .map(|output| {
            let before = binary.len();
            output.binary.then(|| {
                output.data.put_binary(output.datatype, &mut binary);
                binary.len() - before
            })
        })
        .collect();
    let mut body = Vec::with_capacity(256 + binary.len());
    // Writing to memory, of types that all have a form in JSON, cannot fail.
    let _ = serde_json::to_writer(&mut body, &ResponseJson(response, &sizes));
    let is_binary = sizes.iter().any(Option::is_some);
    let header_length = is_binary.then_some(body.len());
    body.extend_from_slice(&binary);
    Encoded {
        body,
        header_length,
    }
}

struct ResponseJson<'a>(&'a InferResponse, &'a [Option<usize>]);

impl Serialize for ResponseJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(response, sizes) = self;
        let mut json = serializer.serialize_struct("Response", 4)?;
        json.serialize_field("model_name", &response.model_name)?;
        json.serialize_field("model_version", &response.model_version)?;
        if let Some(id) = &response.id {
            json.serialize_field("id", id)?;
        }
        let outputs: Vec<OutputJson> = response
            .outputs
            .iter()
            .zip(*sizes)
            .map(|(output, size)| OutputJson(output, *size))
            .collect();
        json.serialize_field("outputs", &outputs)?;
        json.end()
    }
}

struct OutputJson<'a>(&'a OutputTensor, Option<usize>);

impl Serialize for OutputJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Parameters {
            binary_data_size: usize,
        }
        let Self(output, size) = self;
        let mut json = serializer.serialize_struct("Output", 4)?;
        json.serialize_field("name", &output.name)?;
        json.serialize_field("datatype", output.datatype.name())?;
        json.serialize_field("shape", &output.shape)?;
        match *size {
            Some(binary_data_size) => {
                json.serialize_field("parameters", &Parameters { binary_data_size })?;
            }
            None => json.serialize_field("data", &DataJson(&output.data))?,
        }
        json.end()
    }
}

struct DataJson<'a>(&'a Data);

impl Serialize for DataJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Data::Bool(values) => values.serialize(serializer),
            Data::Uint8(values) => values[..].serialize(serializer),
            Data::Int(values) => values.serialize(serializer),
            Data::Uint64(values) => values.serialize(serializer),
            Data::Fp32(values) => values.serialize(serializer),
            Data::Fp64(values) => values.serialize(serializer),
            Data::Bytes(values) => {
                let mut seq = serializer.serialize_seq(Some(values.len()))?;
                for value in values.iter() {
                    seq.serialize_element(&String::from_utf8_lossy(value))?;
                }
                seq.end()
            }
        }
    }
}

/// The greatest elements of each row, as texts `VALUE:INDEX:LABEL`: Triton's extension `classification`. `values` has a row after
/// the other, one element for each label; of equal elements the first comes first.
pub fn classify(
    name: &str,
    values: &[f32],
    labels: &[String],
    count: u64,
    binary: bool,
) -> OutputTensor {
    let width = labels.len().max(1);
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(width);
    let rows = values.chunks_exact(width);
    let shape = vec![rows.len() as u64, count as u64];
    let greatest = |row: &[f32]| -> Vec<String> {
        let mut places: Vec<usize> = (0..row.len()).collect();
        places.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        let text = |place: &usize| {
            let label = labels.get(*place).map_or("", String::as_str);
            format!("{:.6}:{place}:{label}", row[*place])
        };
        places.iter().take(count).map(text).collect()
    };
    OutputTensor {
        name: name.to_owned(),
        datatype: Datatype::Bytes,
        shape,
        data: Data::Bytes(rows.flat_map(greatest).collect()),
        binary,
    }
}
