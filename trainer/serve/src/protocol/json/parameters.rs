//! The object `parameters` of a request, an input or an output.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::protocol::error::ProtocolError;

/// Parameters that mean something here. All others are ignored, as clients send their own; so is `null`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::protocol) struct Parameters {
    binary_data_size: Option<Value>,
    binary_data: Option<Value>,
    binary_data_output: Option<Value>,
    classification: Option<Value>,
    timeout: Option<Value>,
    priority: Option<Value>,
    shared_memory_region: Option<Value>,
    shared_memory_offset: Option<Value>,
    shared_memory_byte_size: Option<Value>,
    sequence_id: Option<Value>,
    sequence_start: Option<Value>,
    sequence_end: Option<Value>,
}

/// The value of a parameter, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Flag(bool),
    Whole(u64),
    Text { is_empty: bool },
    Other,
}

impl Parameters {
    /// Those that were given, or none.
    ///
    /// # Errors
    /// If one would change the meaning of the request and is not served.
    pub(in crate::protocol) fn supported(given: Option<Box<Self>>) -> Result<Self, ProtocolError> {
        let Some(parameters) = given else {
            return Ok(Self::default());
        };
        parameters.check_supported()?;
        Ok(*parameters)
    }

    /// Bytes of an input in binary.
    pub(in crate::protocol) fn binary_data_size(&self) -> Result<Option<u64>, ProtocolError> {
        whole("binary_data_size", self.binary_data_size)
    }

    /// Whether an output is wanted in binary.
    pub(in crate::protocol) fn binary_data(&self) -> Result<Option<bool>, ProtocolError> {
        flag("binary_data", self.binary_data)
    }

    /// Whether outputs are wanted in binary that say nothing of it.
    pub(in crate::protocol) fn binary_data_output(&self) -> Result<Option<bool>, ProtocolError> {
        flag("binary_data_output", self.binary_data_output)
    }

    /// How many classes are wanted of an output; 0 is none.
    pub(in crate::protocol) fn classification(&self) -> Result<Option<u32>, ProtocolError> {
        let count = whole("classification", self.classification)?;
        // More than there are classes are all of them.
        Ok(count.map(|count| u32::try_from(count).unwrap_or(u32::MAX)))
    }

    /// Microseconds that the request may take; 0 is no bound.
    pub(in crate::protocol) fn timeout(&self) -> Result<Option<u64>, ProtocolError> {
        whole("timeout", self.timeout)
    }

    /// Its priority; 0 is none.
    pub(in crate::protocol) fn priority(&self) -> Result<Option<u64>, ProtocolError> {
        whole("priority", self.priority)
    }

    fn check_supported(&self) -> Result<(), ProtocolError> {
        let memory = [
            ("shared_memory_region", self.shared_memory_region),
            ("shared_memory_offset", self.shared_memory_offset),
            ("shared_memory_byte_size", self.shared_memory_byte_size),
        ];
        let sequence = [
            ("sequence_id", self.sequence_id),
            ("sequence_start", self.sequence_start),
            ("sequence_end", self.sequence_end),
        ];
        if let Some((name, _)) = memory.iter().find(|(_, value)| value.is_some()) {
            return Err(ProtocolError::unsupported(format!(
                "parameter {name} is not supported: there is no shared memory; send the tensor in the request"
            )));
        }
        let is_asked = |value: Option<Value>| value.is_some_and(|value| !value.is_nothing());
        match sequence.iter().find(|(_, value)| is_asked(*value)) {
            None => Ok(()),
            Some((name, _)) => Err(ProtocolError::unsupported(format!(
                "parameter {name} is not supported: the model keeps no state between requests; leave it out"
            ))),
        }
    }
}

impl Value {
    /// Whether it is what clients send for "no sequence".
    fn is_nothing(self) -> bool {
        matches!(
            self,
            Self::Flag(false) | Self::Whole(0) | Self::Text { is_empty: true }
        )
    }
}

fn whole(name: &str, value: Option<Value>) -> Result<Option<u64>, ProtocolError> {
    match value {
        None => Ok(None),
        Some(Value::Whole(value)) => Ok(Some(value)),
        Some(_) => Err(wrong(name, "a whole number from 0")),
    }
}

fn flag(name: &str, value: Option<Value>) -> Result<Option<bool>, ProtocolError> {
    match value {
        None => Ok(None),
        Some(Value::Flag(value)) => Ok(Some(value)),
        Some(_) => Err(wrong(name, "true or false")),
    }
}

fn wrong(name: &str, expected: &str) -> ProtocolError {
    ProtocolError::invalid(format!(
        "parameter {name} is not {expected}; correct it, or leave it out"
    ))
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Flag(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
                Ok(Value::Whole(value))
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
                let is_empty = text.is_empty();
                Ok(Value::Text { is_empty })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Value::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Value::Other)
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::error::ErrorKind;

    fn parameters(json: &str) -> Parameters {
        serde_json::from_str(json).expect(json)
    }

    #[test]
    fn s04_parameters_of_unknown_meaning_are_ignored() {
        let read = parameters(
            r#"{"mine": {"a": [1]}, "timeout": 5, "content_type": "np", "binary_data": null}"#,
        );
        assert_eq!(read.timeout(), Ok(Some(5)));
        assert_eq!((read.binary_data(), read.priority()), (Ok(None), Ok(None)));
        assert_eq!(read.check_supported(), Ok(()));
    }

    #[test]
    fn s04_shared_memory_and_sequences_are_refused_by_name() {
        for (json, name) in [
            (r#"{"shared_memory_region": "r"}"#, "shared_memory_region"),
            (r#"{"shared_memory_offset": 0}"#, "shared_memory_offset"),
            (r#"{"sequence_id": 7}"#, "sequence_id"),
            (r#"{"sequence_id": "a"}"#, "sequence_id"),
            (r#"{"sequence_id": -1}"#, "sequence_id"),
            (
                r#"{"sequence_id": 0, "sequence_start": true}"#,
                "sequence_start",
            ),
            (r#"{"sequence_end": true}"#, "sequence_end"),
        ] {
            let error = parameters(json).check_supported().expect_err(json);
            assert_eq!(error.kind, ErrorKind::Unsupported);
            let begin = format!("parameter {name} is not supported");
            assert!(error.message.starts_with(&begin), "{error}");
        }
        for json in [
            r#"{"sequence_id": 0, "sequence_start": false, "sequence_end": false}"#,
            r#"{"sequence_id": ""}"#,
        ] {
            assert_eq!(parameters(json).check_supported(), Ok(()));
        }
    }

    #[test]
    fn s04_parameters_of_another_kind_are_refused_by_name() {
        for json in ["-1", "1.5", "\"1\"", "true", "[1]", "{}", "1e30"] {
            let read = parameters(&format!(r#"{{"timeout": {json}}}"#));
            let error = read.timeout().expect_err(json);
            assert!(
                error
                    .message
                    .starts_with("parameter timeout is not a whole")
            );
        }
        let read = parameters(r#"{"binary_data": 1, "classification": 18446744073709551615}"#);
        let error = read.binary_data().expect_err("1 is no flag");
        assert!(error.message.contains("is not true or false"));
        assert_eq!(read.classification(), Ok(Some(u32::MAX)));
    }
}
