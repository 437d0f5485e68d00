//! Answers over HTTP.

use bytes::Bytes;
use serde::ser::{SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};

use super::data::Data;

/// An output with its elements.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputTensor {
    /// Its name.
    pub name: String,
    /// Its dimensions, the outermost first.
    pub shape: Vec<u64>,
    /// As many elements as the shape has, row after row. Its datatype is [`Data::datatype`], so never `FP16` or `BF16`.
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
    /// The outputs, in the order in which they were asked for.
    pub outputs: Vec<OutputTensor>,
}

/// The body of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// JSON, and the outputs in binary behind it.
    pub body: Bytes,
    /// What the header `Inference-Header-Content-Length` must say, the bytes of the JSON; none if no output is in binary.
    pub header_length: Option<usize>,
}

/// Writes an answer.
///
/// A float is the shortest decimal that is read back as it was. JSON has neither NaN nor infinity: they become `null`, so refuse
/// them before. A byte string that is no UTF-8 is changed where it is none; in binary it is not.
pub fn encode_response(response: &InferResponse) -> Encoded {
    let binary = || response.outputs.iter().filter(|output| output.binary);
    let binary_len: usize = binary().map(|output| output.data.binary_len()).sum();
    let mut body = Vec::with_capacity(512 + binary_len);
    // Writing to memory cannot fail, nor can these types be refused.
    let _ = serde_json::to_writer(&mut body, &ResponseJson(response));
    let json_len = body.len();
    for output in binary() {
        output.data.put_binary(&mut body);
    }
    Encoded {
        body: body.into(),
        header_length: binary().next().map(|_| json_len),
    }
}

struct ResponseJson<'a>(&'a InferResponse);

impl Serialize for ResponseJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let InferResponse {
            model_name,
            model_version,
            id,
            outputs,
        } = self.0;
        let mut json = serializer.serialize_struct("InferResponse", 4)?;
        json.serialize_field("model_name", model_name)?;
        json.serialize_field("model_version", model_version)?;
        if let Some(id) = id {
            json.serialize_field("id", id)?;
        }
        json.serialize_field("outputs", &List(|| outputs.iter().map(OutputJson)))?;
        json.end()
    }
}

/// Anything that can be iterated, as a list.
struct List<F>(F);

impl<F: Fn() -> I, I: ExactSizeIterator<Item: Serialize>> Serialize for List<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let items = (self.0)();
        let mut list = serializer.serialize_seq(Some(items.len()))?;
        for item in items {
            list.serialize_element(&item)?;
        }
        list.end()
    }
}

struct OutputJson<'a>(&'a OutputTensor);

impl Serialize for OutputJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Parameters {
            binary_data_size: usize,
        }
        let OutputTensor {
            name,
            shape,
            data,
            binary,
        } = self.0;
        let mut json = serializer.serialize_struct("OutputTensor", 4)?;
        json.serialize_field("name", name)?;
        json.serialize_field("datatype", &data.datatype())?;
        json.serialize_field("shape", shape)?;
        match binary {
            true => {
                let binary_data_size = data.binary_len();
                json.serialize_field("parameters", &Parameters { binary_data_size })?;
            }
            false => json.serialize_field("data", &DataJson(data))?,
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
            Data::Uint16(values) => values.serialize(serializer),
            Data::Uint32(values) => values.serialize(serializer),
            Data::Uint64(values) => values.serialize(serializer),
            Data::Int8(values) => values.serialize(serializer),
            Data::Int16(values) => values.serialize(serializer),
            Data::Int32(values) => values.serialize(serializer),
            Data::Int64(values) => values.serialize(serializer),
            Data::Fp32(values) => values.serialize(serializer),
            Data::Fp64(values) => values.serialize(serializer),
            Data::Bytes(values) => {
                List(|| values.iter().map(String::from_utf8_lossy)).serialize(serializer)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(name: &str, data: Data, binary: bool) -> OutputTensor {
        OutputTensor {
            name: name.into(),
            shape: vec![data.len() as u64],
            data,
            binary,
        }
    }

    fn response(outputs: Vec<OutputTensor>) -> InferResponse {
        InferResponse {
            model_name: "churn".into(),
            model_version: "3".into(),
            id: Some("a\"b".into()),
            outputs,
        }
    }

    #[test]
    fn s04_an_answer_in_json_has_the_fields_of_the_protocol() {
        let floats = Data::Fp32(vec![0.1, 1.0, 16_777_216.0, f32::NAN, f32::INFINITY]);
        let strings = Data::Bytes([&b"yes"[..], b"\xff"].into_iter().collect());
        let encoded = encode_response(&response(vec![
            output("p", floats, false),
            output("q", strings, false),
        ]));
        let expected = concat!(
            r#"{"model_name":"churn","model_version":"3","id":"a\"b","outputs":["#,
            r#"{"name":"p","datatype":"FP32","shape":[5],"data":[0.1,1.0,16777216.0,null,null]},"#,
            r#"{"name":"q","datatype":"BYTES","shape":[2],"data":["yes","#,
            "\"\u{fffd}\"]}]}"
        );
        assert_eq!(encoded.body, expected);
        assert_eq!(encoded.header_length, None);
    }

    #[test]
    fn s04_outputs_in_binary_follow_the_json_in_their_order() {
        let encoded = encode_response(&response(vec![
            output("a", Data::Bytes(["no"].into_iter().collect()), true),
            output("b", Data::Bool(vec![true]), false),
            output("c", Data::Int16(vec![-2]), true),
        ]));
        let length = encoded.header_length.expect("two are in binary");
        let (json, binary) = encoded.body.split_at(length);
        assert_eq!(binary, b"\x02\0\0\0no\xfe\xff");
        let json: serde_json::Value = serde_json::from_slice(json).expect("JSON");
        let sizes = ["/outputs/0", "/outputs/1", "/outputs/2"].map(|output| {
            json.pointer(&format!("{output}/parameters/binary_data_size"))
                .cloned()
        });
        assert_eq!(sizes, [Some(6.into()), None, Some(2.into())]);
        assert!(json.pointer("/outputs/0/data").is_none());
    }

    #[test]
    fn s04_an_answer_whose_binary_outputs_are_empty_has_its_length_all_the_same() {
        let encoded = encode_response(&response(vec![output("a", Data::Fp32(vec![]), true)]));
        assert_eq!(encoded.header_length, Some(encoded.body.len()));
    }
}
