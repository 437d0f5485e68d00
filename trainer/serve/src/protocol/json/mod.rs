//! The JSON of a request, straight from its bytes into vectors.
//!
//! Fields come in any order, so `data` may stand before `datatype`, `shape` and even `name`. Whatever is wrong inside an input is
//! therefore kept as a result, and told once its name is known. What is no JSON at all is told with its line and column.

mod body;
mod collect;
mod convert;
mod elements;
mod parameters;
mod shape;

use std::cell::Cell;

pub(super) use body::{InputJson, OutputJson, RequestJson};
pub(super) use parameters::Parameters;

use serde::de::DeserializeSeed;

use self::collect::{Collected, DataSeed};
use super::error::ProtocolError;
use super::limits::Limits;

/// Longest message of the reader of JSON, in bytes: it may repeat a text of the request.
const LONGEST: usize = 200;

/// What may still be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds<'l> {
    pub(super) limits: &'l Limits,
    /// Elements of all inputs that are left of the limit.
    elements: &'l Cell<u64>,
}

impl<'l> Bounds<'l> {
    /// All of the limits; `elements` is set to what is left.
    pub(super) fn new(limits: &'l Limits, elements: &'l Cell<u64>) -> Self {
        elements.set(limits.elements);
        Self { limits, elements }
    }

    /// Counts elements.
    ///
    /// # Errors
    /// If they are more than are left.
    pub(super) fn spend(self, elements: u64) -> Result<(), ProtocolError> {
        match self.elements.get().checked_sub(elements) {
            Some(left) => {
                self.elements.set(left);
                Ok(())
            }
            None => Err(ProtocolError::too_large(format!(
                "the request has more than {} elements; send fewer rows at once",
                self.limits.elements
            ))),
        }
    }
}

/// Reads the JSON of a request.
///
/// # Errors
/// If it is no JSON, or a field is of another kind than the protocol says.
pub(super) fn read(json: &[u8], bounds: Bounds) -> Result<RequestJson, ProtocolError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    RequestJson::read(&mut deserializer, bounds)
        .and_then(|request| deserializer.end().map(|()| request))
        .map_err(|error| {
            ProtocolError::invalid(format!(
                "the JSON of the request cannot be read: {}; see the Open Inference Protocol for its form",
                short(&error)
            ))
        })
}

/// Reads an array by itself.
///
/// # Errors
/// If it is no JSON, or no array.
pub(super) fn read_array(json: &[u8], bounds: Bounds) -> Result<Collected, ProtocolError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read = DataSeed { bounds }
        .deserialize(&mut deserializer)
        .and_then(|array| deserializer.end().map(|()| array));
    match read {
        Ok(Some(collected)) => Ok(collected),
        Ok(None) => Err(ProtocolError::invalid(
            "the body is null; send an array of numbers",
        )),
        Err(error) => Err(ProtocolError::invalid(format!(
            "the array cannot be read: {}; send an array of numbers, nested as its shape",
            short(&error)
        ))),
    }
}

/// The message of an error, without most of a long text that it repeats.
fn short(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.char_indices().nth(LONGEST) {
        None => message,
        Some((end, _)) => format!(
            "{}... at line {} column {}",
            message.get(..end).unwrap_or_default(),
            error.line(),
            error.column()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s04_an_input_takes_little_memory_before_its_elements() {
        // A list that grows is there once as it was and once with twice the room.
        let read = 3 * size_of::<InputJson>() + size_of::<Parameters>();
        let tensor = size_of::<crate::protocol::Tensor>();
        assert!(read + tensor <= 2048, "{read} + {tensor}");
    }
}
