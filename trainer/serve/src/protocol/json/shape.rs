//! The field `shape`.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

use crate::protocol::error::ProtocolError;

/// Reads the dimensions of a tensor, the outermost first.
pub(super) struct ShapeSeed {
    /// The most that there may be.
    pub(super) most: usize,
}

impl<'de> DeserializeSeed<'de> for ShapeSeed {
    type Value = Result<Vec<u64>, ProtocolError>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ShapeSeed {
    type Value = Result<Vec<u64>, ProtocolError>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of dimensions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut shape = Ok(Vec::new());
        let mut count = 0;
        // After a problem the rest is still read: the input's name may follow.
        while let Some(Dimension(dimension)) = seq.next_element()? {
            count += 1;
            match (&mut shape, dimension) {
                (Ok(dimensions), Ok(dimension)) if count <= self.most => dimensions.push(dimension),
                (Ok(_), Ok(_)) => shape = Err(self.too_many()),
                (Ok(_), Err(error)) => shape = Err(error),
                (Err(_), _) => {}
            }
        }
        Ok(shape)
    }
}

impl ShapeSeed {
    fn too_many(&self) -> ProtocolError {
        ProtocolError::invalid(format!(
            "shape has more than {} dimensions; send a tensor with fewer",
            self.most
        ))
    }
}

struct Dimension(Result<u64, ProtocolError>);

impl Dimension {
    fn wrong(found: impl fmt::Debug) -> Self {
        Self(Err(ProtocolError::invalid(format!(
            "shape has the dimension {found:?}; give whole numbers from 0, the number of rows too"
        ))))
    }
}

impl<'de> Deserialize<'de> for Dimension {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = Dimension;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a dimension, which is a whole number")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Dimension, E> {
                Ok(Dimension(Ok(value)))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Dimension, E> {
                Ok(Dimension::wrong(value))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Dimension, E> {
                Ok(Dimension::wrong(value))
            }
        }

        deserializer.deserialize_any(Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(json: &str) -> Result<Vec<u64>, ProtocolError> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let read = ShapeSeed { most: 3 }.deserialize(&mut deserializer);
        read.unwrap_or_else(|error| Err(ProtocolError::invalid(error.to_string())))
    }

    #[test]
    fn s04_a_shape_is_a_few_whole_numbers() {
        assert_eq!(shape("[]"), Ok(vec![]));
        assert_eq!(
            shape("[2, 0, 18446744073709551615]"),
            Ok(vec![2, 0, u64::MAX])
        );
        for (json, problem) in [
            ("[-1, 30]", "shape has the dimension -1;"),
            ("[1.5]", "shape has the dimension 1.5;"),
            (
                "[18446744073709551616]",
                "shape has the dimension 1.8446744073709552e19;",
            ),
            ("[1, 1, 1, 1, -1]", "shape has more than 3 dimensions;"),
            (
                r#"["2"]"#,
                "invalid type: string \"2\", expected a dimension",
            ),
            (
                "2",
                "invalid type: integer `2`, expected a list of dimensions",
            ),
        ] {
            let error = shape(json).expect_err(json);
            assert!(error.message.starts_with(problem), "{error}");
        }
    }
}
