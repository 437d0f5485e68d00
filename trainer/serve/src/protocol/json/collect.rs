//! The field `data`: its elements, however they are nested.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Bounds;
use super::elements::{Elements, Mixed};
use crate::protocol::error::ProtocolError;

/// The elements of an array of arrays, and its shape.
#[derive(Debug, Default)]
pub(in crate::protocol) struct Collected {
    pub(super) elements: Elements,
    /// The length of the arrays at each depth, the outermost first.
    lengths: Vec<usize>,
    /// The depth of the arrays that have no array in them.
    leaf_depth: Option<usize>,
    /// What is wrong first. What comes after it is not kept.
    problem: Option<ProtocolError>,
}

impl Collected {
    /// Their number is that of the shape, and they lie flat or as the shape says.
    pub(super) fn check(&mut self, shape: &[u64], count: u64) -> Result<(), ProtocolError> {
        if let Some(problem) = self.problem.take() {
            return Err(problem);
        }
        // Arrays without entries have none that could show the dimensions within them.
        let shown = shape.iter().position(|dimension| *dimension == 0);
        let shown = shown.map_or(shape.len(), |last| last + 1);
        let lengths = self.lengths.iter().map(|length| *length as u64);
        if self.lengths.len() > 1 && !lengths.eq(shape.iter().copied().take(shown)) {
            return Err(ProtocolError::invalid(format!(
                "data is nested as {:?}, shape is {shape:?}; nest it as the shape says, or not at all",
                self.lengths
            )));
        }
        let found = self.elements.len();
        if found as u64 != count {
            return Err(ProtocolError::invalid(format!(
                "data has {found} elements, shape {shape:?} has {count}; send one element for each"
            )));
        }
        Ok(())
    }

    /// The shape in which the elements are nested. What was read is in memory, so its product is no larger than that.
    pub(super) fn shape(&self) -> Vec<u64> {
        self.lengths.iter().map(|length| *length as u64).collect()
    }

    fn fail(&mut self, problem: impl FnOnce() -> ProtocolError) {
        if self.problem.is_none() {
            self.problem = Some(problem());
        }
    }

    fn push(&mut self, kind: &str, push: impl FnOnce(&mut Elements) -> Result<(), Mixed>) {
        if self.problem.is_none() && push(&mut self.elements) == Err(Mixed) {
            let (place, others) = (self.elements.len(), self.elements.kind());
            let others = match place {
                0 => String::new(),
                _ => format!(", those before are {others}"),
            };
            self.fail(|| {
                ProtocolError::invalid(format!(
                    "element {place} of data is {kind}{others}; send numbers, strings or booleans alone"
                ))
            });
        }
    }

    /// An array has ended that holds `length` entries, of which `arrays` are arrays.
    fn end(&mut self, depth: usize, length: usize, arrays: usize) {
        let known = match self.lengths.get(depth) {
            Some(known) => *known,
            // Inner arrays end before the outer ones, which come without a length at first.
            None => {
                self.lengths.resize(depth + 1, usize::MAX);
                usize::MAX
            }
        };
        if known == usize::MAX
            && let Some(first) = self.lengths.get_mut(depth)
        {
            *first = length;
        }
        let is_even = known == usize::MAX || known == length;
        let is_pure = arrays == 0 || arrays == length;
        let is_level = arrays > 0 || *self.leaf_depth.get_or_insert(depth) == depth;
        if !(is_even && is_pure && is_level) {
            self.fail(|| {
                ProtocolError::invalid(
                    "data is ragged: its arrays differ in length or depth; nest it as the shape says, or not at all",
                )
            });
        }
    }
}

/// Reads the field; none if it is `null`.
pub(super) struct DataSeed<'l> {
    pub(super) bounds: Bounds<'l>,
}

impl<'de> DeserializeSeed<'de> for DataSeed<'_> {
    type Value = Option<Collected>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let mut collected = Collected::default();
        let outside = Entry {
            depth: None,
            bounds: self.bounds,
            collected: &mut collected,
        };
        let is_array = outside.deserialize(deserializer)?;
        Ok(is_array.then_some(collected))
    }
}

/// Reads an entry of an array: an element or an array. Its value tells whether it was an array.
struct Entry<'c, 'l> {
    /// The depth of the array that it is in; none for the field itself.
    depth: Option<usize>,
    bounds: Bounds<'l>,
    collected: &'c mut Collected,
}

impl Entry<'_, '_> {
    fn push<E: Error>(
        self,
        kind: &str,
        push: impl FnOnce(&mut Elements) -> Result<(), Mixed>,
    ) -> Result<bool, E> {
        match self.depth {
            Some(_) => self.collected.push(kind, push),
            None => self.collected.fail(|| {
                ProtocolError::invalid(format!(
                    "data is {kind}; send an array, also of one element"
                ))
            }),
        }
        // Where the field itself is an element it is kept like an array: with its problem.
        Ok(self.depth.is_none())
    }
}

impl<'de> DeserializeSeed<'de> for Entry<'_, '_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Entry<'_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an element or an array")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        self.push("a boolean", |elements| elements.push_bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<bool, E> {
        self.push("a number", |elements| elements.push_signed(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<bool, E> {
        self.push("a number", |elements| elements.push_unsigned(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<bool, E> {
        self.push("a number", |elements| elements.push_float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<bool, E> {
        self.push("a string", |elements| elements.push_string(value))
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        match self.depth {
            Some(_) => self.push("null", Elements::push_null),
            None => Ok(false),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.push("an object", |_| Err(Mixed))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        let Self {
            bounds, collected, ..
        } = self;
        let depth = self.depth.map_or(0, |depth| depth + 1);
        if depth >= bounds.limits.dimensions {
            // The reader of what is ignored does not recurse.
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            collected.fail(|| {
                ProtocolError::invalid(format!(
                    "data is nested more than {depth} deep; nest it as the shape says, or not at all"
                ))
            });
            return Ok(true);
        }
        let (mut length, mut arrays) = (0, 0);
        loop {
            let entry = Entry {
                depth: Some(depth),
                bounds,
                collected: &mut *collected,
            };
            let Some(is_array) = seq.next_element_seed(entry)? else {
                break;
            };
            length += 1;
            if is_array {
                arrays += 1;
            } else if let Err(error) = bounds.spend(1) {
                collected.fail(|| error);
            }
        }
        collected.end(depth, length, arrays);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::protocol::limits::Limits;

    fn check(json: &str, shape: &[u64]) -> Result<(), ProtocolError> {
        let (limits, left) = (
            Limits {
                dimensions: 3,
                elements: 8,
                ..Limits::default()
            },
            Cell::new(0),
        );
        let bounds = Bounds::new(&limits, &left);
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let collected = DataSeed { bounds }.deserialize(&mut deserializer);
        let mut collected = collected.expect(json).expect(json);
        collected.check(shape, shape.iter().product())
    }

    #[test]
    fn s04_data_lies_flat_or_nested_as_the_shape_says() {
        for (json, shape) in [
            ("[1, 2, 3, 4, 5, 6]", &[2, 3][..]),
            ("[[1, 2, 3], [4, 5, 6]]", &[2, 3]),
            ("[[[1], [2]], [[3], [4]]]", &[2, 2, 1]),
            ("[[], []]", &[2, 0]),
            ("[[], []]", &[2, 0, 3]),
            ("[]", &[0, 3]),
            ("[5]", &[]),
        ] {
            assert_eq!(check(json, shape), Ok(()), "{json}");
        }
    }

    #[test]
    fn s04_data_that_disagrees_with_its_shape_is_refused() {
        for (json, shape, problem) in [
            ("[[1, 2], [3]]", &[3][..], "data is ragged"),
            ("[[1], [[2]]]", &[2, 1], "data is ragged"),
            ("[1, [2]]", &[2], "data is ragged"),
            ("[[1], 2]", &[2], "data is ragged"),
            ("[[[]], []]", &[2, 1, 0], "data is ragged"),
            ("[[1, 2]]", &[2], "data is nested as [1, 2], shape is [2]"),
            (
                "[[1, 2], [3, 4], [5, 6]]",
                &[2, 3],
                "data is nested as [3, 2]",
            ),
            (
                "[1, 2, 3]",
                &[2],
                "data has 3 elements, shape [2] has 2; send one element for each",
            ),
            ("[[[[1]]]]", &[1, 1, 1], "data is nested more than 3 deep"),
            (
                "[1, \"a\"]",
                &[2],
                "element 1 of data is a string, those before are numbers",
            ),
            (
                "[true, null]",
                &[2],
                "element 1 of data is null, those before are booleans",
            ),
            ("[{\"a\": 1}]", &[1], "element 0 of data is an object; send"),
            ("1", &[1], "data is a number; send an array"),
            (
                "[1, 2, 3, 4, 5, 6, 7, 8, 9]",
                &[9],
                "the request has more than 8 elements",
            ),
        ] {
            let error = check(json, shape).expect_err(json);
            assert!(error.message.starts_with(problem), "{json}: {error}");
        }
    }
}
