//! Requests: tensors and what is wanted of them.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;

use super::data::Data;
use super::datatype::Datatype;
use super::error::{ProtocolError, quoted};

/// A tensor with its elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Type of its elements as the client sends them; see [`Data`] for how they are held.
    pub datatype: Datatype,
    /// Its dimensions, the outermost first.
    pub shape: Vec<u64>,
    /// As many elements as the shape has, row after row.
    pub data: Data,
}

impl Tensor {
    /// A tensor whose elements are in binary, such as an entry of gRPC's `raw_input_contents`.
    ///
    /// # Errors
    /// If the bytes are not those of the shape; the name is in the message.
    pub fn from_binary(
        name: String,
        datatype: Datatype,
        shape: Vec<u64>,
        bytes: Bytes,
    ) -> Result<Self, ProtocolError> {
        let data = element_count(&shape)
            .and_then(|count| Data::from_binary(datatype, count, bytes))
            .map_err(|error| error.at(format_args!("input {}", quoted(&name))))?;
        Ok(Self {
            name,
            datatype,
            shape,
            data,
        })
    }
}

/// An output that a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedOutput {
    /// Its name.
    pub name: String,
    /// Whether it is wanted in binary; none if the client leaves it to [`InferRequest::binary_output`].
    pub binary: Option<bool>,
    /// How many of the greatest elements of each row are wanted, as [`classify`](super::classify) writes them; 0 for the tensor
    /// itself.
    pub class_count: u32,
}

/// What a client asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferRequest {
    /// What the client calls the request; the answer has it too.
    pub id: Option<String>,
    /// The inputs: at least one, each name once.
    pub inputs: Vec<Tensor>,
    /// The outputs that are wanted, each name once; all of the model's if there is none.
    pub outputs: Vec<RequestedOutput>,
    /// Whether outputs are wanted in binary of which nothing else is said.
    pub binary_output: bool,
    /// How long the request may take, from its arrival; none if the client sets no bound.
    pub timeout: Option<Duration>,
    /// Its priority: 1 is the highest, 0 is what the server gives.
    pub priority: u64,
}

impl InferRequest {
    /// Whether an output is to be sent in binary.
    pub fn wants_binary(&self, output: &str) -> bool {
        let asked = self.outputs.iter().find(|asked| asked.name == output);
        asked
            .and_then(|asked| asked.binary)
            .unwrap_or(self.binary_output)
    }

    /// Each input and each output has a name of its own.
    ///
    /// # Errors
    /// If one comes twice.
    pub fn check_names(&self) -> Result<(), ProtocolError> {
        if let Some(name) = repeated(self.inputs.iter().map(|input| &input.name)) {
            return Err(ProtocolError::invalid(format!(
                "input {} is given twice; give it once",
                quoted(name)
            )));
        }
        match repeated(self.outputs.iter().map(|output| &output.name)) {
            None => Ok(()),
            Some(name) => Err(ProtocolError::invalid(format!(
                "output {} is asked for twice; ask for it once",
                quoted(name)
            ))),
        }
    }
}

/// The first name that has come before.
fn repeated<'n>(mut names: impl ExactSizeIterator<Item = &'n String>) -> Option<&'n String> {
    if names.len() < 2 {
        return None;
    }
    let mut seen = HashSet::with_capacity(names.len());
    names.find(|name| !seen.insert(name.as_str()))
}

/// The elements of a shape.
///
/// # Errors
/// If they are more than a `u64` counts. A dimension 0 hides no others that are too large: whoever multiplies them is safe.
pub(super) fn element_count(shape: &[u64]) -> Result<u64, ProtocolError> {
    let count = shape.iter().try_fold(1_u64, |count, dimension| {
        count.checked_mul((*dimension).max(1))
    });
    match count {
        Some(_) if shape.contains(&0) => Ok(0),
        Some(count) => Ok(count),
        None => Err(ProtocolError::invalid(format!(
            "shape {shape:?} has more elements than 64 bits can count; give the shape of the data"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s04_elements_of_a_shape_are_counted_without_overflow() {
        for (shape, count) in [
            (&[][..], 1),
            (&[2, 3], 6),
            (&[0, 30], 0),
            (&[1 << 32, 1 << 31], 1 << 63),
        ] {
            assert_eq!(element_count(shape), Ok(count));
        }
        for shape in [
            &[1 << 32, 1 << 32][..],
            &[u64::MAX, 2],
            &[u64::MAX, u64::MAX, 0],
            &[0, u64::MAX, u64::MAX],
        ] {
            let error = element_count(shape).expect_err("too many");
            assert!(error.message.contains("more elements than 64 bits"));
        }
    }

    #[test]
    fn s04_a_tensor_in_binary_is_refused_by_its_name() {
        let read = |shape| {
            let bytes = Bytes::from_static(&[0; 8]);
            Tensor::from_binary("age".into(), Datatype::Fp32, shape, bytes)
        };
        let tensor = read(vec![2, 1]).expect("two floats");
        assert_eq!(tensor.data, Data::Fp32(vec![0.0, 0.0]));
        for shape in [vec![], vec![1], vec![3], vec![u64::MAX]] {
            let error = read(shape).expect_err("other sizes");
            let begin = "input \"age\": its binary data has 8 bytes,";
            assert!(error.message.starts_with(begin), "{error}");
        }
    }

    #[test]
    fn s04_an_output_is_in_binary_as_it_says_or_else_as_the_request_does() {
        let output = |name: &str, binary| RequestedOutput {
            name: name.into(),
            binary,
            class_count: 0,
        };
        let mut request = InferRequest {
            outputs: vec![
                output("a", Some(true)),
                output("b", Some(false)),
                output("c", None),
            ],
            ..InferRequest::default()
        };
        for all in [false, true] {
            request.binary_output = all;
            let wants = ["a", "b", "c", "d"].map(|name| request.wants_binary(name));
            assert_eq!(wants, [true, false, all, all]);
        }
    }
}
