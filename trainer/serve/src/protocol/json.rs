//! Numbers and texts of JSON, straight into vectors of their type. `data` may stand before `datatype` and `shape`, so what is found
//! decides how it is held, and the datatype is applied later.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::data::{Data, Datatype};
use super::error::ProtocolError;

/// Arrays in arrays that `data` may have.
const DEPTH: usize = 16;
/// Integers up to which every one has its own number of double precision.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The field `data`: its elements, and the lengths of the arrays that they were in.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    items: Items,
    /// By depth. Arrays of one depth have one length.
    pub(crate) lengths: Vec<usize>,
    /// The depth of the arrays in which elements stand.
    innermost: Option<usize>,
}

#[derive(Debug, Default)]
enum Items {
    /// Nulls, and nothing else so far.
    #[default]
    Empty,
    Nulls(usize),
    Bools(Vec<bool>),
    Ints(Vec<i64>),
    /// NaN for null. Integers among them are rounded, as most readers of JSON do.
    Floats {
        values: Vec<f64>,
        has_null: bool,
    },
    Texts {
        buffer: String,
        ends: Vec<usize>,
    },
}

impl Items {
    fn name(&self) -> &'static str {
        match self {
            Self::Empty | Self::Nulls(_) => "null",
            Self::Bools(_) => "booleans",
            Self::Ints(_) | Self::Floats { .. } => "numbers",
            Self::Texts { .. } => "texts",
        }
    }

    fn mixed<E: Error>(&self, other: &str) -> E {
        E::custom(format!(
            "`data` has {} and {other}; give elements of one type",
            self.name()
        ))
    }

    fn push_null<E: Error>(&mut self) -> Result<(), E> {
        match self {
            Self::Empty => *self = Self::Nulls(1),
            Self::Nulls(count) => *count += 1,
            Self::Ints(_) => {
                self.be_floats();
                return self.push_null();
            }
            Self::Floats { values, has_null } => {
                values.push(f64::NAN);
                *has_null = true;
            }
            Self::Texts { buffer, ends } => ends.push(buffer.len()),
            Self::Bools(_) => return Err(self.mixed("null")),
        }
        Ok(())
    }

    fn push_bool<E: Error>(&mut self, value: bool) -> Result<(), E> {
        match self {
            Self::Empty => *self = Self::Bools(vec![value]),
            Self::Bools(values) => values.push(value),
            _ => return Err(self.mixed("booleans")),
        }
        Ok(())
    }

    fn push_int<E: Error>(&mut self, value: i64) -> Result<(), E> {
        match self {
            Self::Empty => *self = Self::Ints(vec![value]),
            Self::Ints(values) => values.push(value),
            _ => return self.push_float(value as f64),
        }
        Ok(())
    }

    fn push_float<E: Error>(&mut self, value: f64) -> Result<(), E> {
        match self {
            Self::Floats { values, .. } => values.push(value),
            Self::Empty | Self::Nulls(_) | Self::Ints(_) => {
                self.be_floats();
                return self.push_float(value);
            }
            Self::Bools(_) | Self::Texts { .. } => return Err(self.mixed("numbers")),
        }
        Ok(())
    }

    fn push_text<E: Error>(&mut self, text: &str) -> Result<(), E> {
        match self {
            Self::Empty | Self::Nulls(_) => {
                let nulls = if let Self::Nulls(nulls) = self {
                    *nulls
                } else {
                    0
                };
                *self = Self::Texts {
                    buffer: text.to_owned(),
                    ends: vec![0; nulls],
                };
                return self.push_text_end();
            }
            Self::Texts { buffer, .. } => buffer.push_str(text),
            _ => return Err(self.mixed("texts")),
        }
        self.push_text_end()
    }

    fn push_text_end<E: Error>(&mut self) -> Result<(), E> {
        if let Self::Texts { buffer, ends } = self {
            ends.push(buffer.len());
        }
        Ok(())
    }

    fn be_floats(&mut self) {
        let (values, has_null) = match std::mem::take(self) {
            Self::Nulls(nulls) => (vec![f64::NAN; nulls], true),
            Self::Ints(values) => (values.iter().map(|value| *value as f64).collect(), false),
            _ => (Vec::new(), false),
        };
        *self = Self::Floats { values, has_null };
    }
}

impl Collected {
    /// The elements, of a type.
    ///
    /// # Errors
    /// If they are of another one, or out of its range.
    pub(crate) fn data(self, datatype: Datatype) -> Result<Data, ProtocolError> {
        let items = match self.items {
            Items::Empty => match datatype {
                Datatype::Bytes => Items::Texts {
                    buffer: String::new(),
                    ends: Vec::new(),
                },
                Datatype::Bool => Items::Bools(Vec::new()),
                _ => Items::Ints(Vec::new()),
            },
            Items::Nulls(count) => match datatype {
                Datatype::Bytes => Items::Texts {
                    buffer: String::new(),
                    ends: vec![0; count],
                },
                _ => Items::Floats {
                    values: vec![f64::NAN; count],
                    has_null: true,
                },
            },
            items => items,
        };
        let wrong = |expected: &str, items: &Items| {
            Err(ProtocolError::invalid(format!(
                "expected {expected} for {}, found {}",
                datatype.name(),
                items.name()
            )))
        };
        match (datatype, items) {
            (Datatype::Fp16 | Datatype::Bf16, _) => Err(ProtocolError::invalid(format!(
                "{} has no form in JSON; send it in binary, or as FP32",
                datatype.name()
            ))),
            (Datatype::Bytes, Items::Texts { buffer, ends }) => {
                let starts = std::iter::once(0).chain(ends.iter().copied());
                let texts = starts.zip(&ends);
                Ok(Data::Bytes(
                    texts
                        .map(|(start, end)| buffer.get(start..*end).unwrap_or_default())
                        .collect(),
                ))
            }
            (Datatype::Bytes, items) => wrong("texts", &items),
            (Datatype::Bool, Items::Bools(values)) => Ok(Data::Bool(values)),
            (Datatype::Bool, Items::Ints(values)) if values.iter().all(|v| (0..=1).contains(v)) => {
                Ok(Data::Bool(values.iter().map(|value| *value == 1).collect()))
            }
            (Datatype::Bool, items) => wrong("true and false", &items),
            (Datatype::Fp64, Items::Ints(values)) => Ok(Data::Fp64(
                values.iter().map(|value| *value as f64).collect(),
            )),
            (Datatype::Fp64, Items::Floats { values, .. }) => Ok(Data::Fp64(values)),
            (Datatype::Fp32, Items::Ints(values)) => Ok(Data::Fp32(
                values.iter().map(|value| *value as f32).collect(),
            )),
            (Datatype::Fp32, Items::Floats { values, .. }) => {
                let single = |value: &f64| *value as f32;
                if let Some(large) = values
                    .iter()
                    .find(|v| v.is_finite() && single(v).is_infinite())
                {
                    return Err(ProtocolError::invalid(format!(
                        "{large} is out of the range of FP32; send FP64"
                    )));
                }
                Ok(Data::Fp32(values.iter().map(single).collect()))
            }
            (Datatype::Fp32 | Datatype::Fp64, items) => wrong("numbers", &items),
            (_, Items::Ints(values)) => ints(datatype, values),
            (_, Items::Floats { has_null: true, .. }) => Err(ProtocolError::invalid(format!(
                "null is no {}; a missing number is null in FP32 and FP64",
                datatype.name()
            ))),
            (_, Items::Floats { values, .. }) => {
                let is_whole = |value: &&f64| value.fract() == 0.0 && value.abs() <= EXACT;
                match values.iter().find(|value| !is_whole(value)) {
                    Some(value) => Err(ProtocolError::invalid(format!(
                        "{value} is no exact {}; send it in binary, or as FP64",
                        datatype.name()
                    ))),
                    None => ints(datatype, values.iter().map(|value| *value as i64).collect()),
                }
            }
            (_, items) => wrong("integers", &items),
        }
    }
}

fn ints(datatype: Datatype, values: Vec<i64>) -> Result<Data, ProtocolError> {
    let (least, greatest) = datatype
        .range()
        .unwrap_or((i64::MIN.into(), i64::MAX.into()));
    let is_out = |value: &&i64| !(least..=greatest).contains(&i128::from(**value));
    if let Some(value) = values.iter().find(is_out) {
        return Err(ProtocolError::invalid(format!(
            "{value} is out of the range of {}, {least} to {greatest}",
            datatype.name()
        )));
    }
    Ok(match datatype {
        Datatype::Uint8 => Data::Uint8(values.iter().map(|value| *value as u8).collect()),
        Datatype::Uint64 => Data::Uint64(values.iter().map(|value| *value as u64).collect()),
        _ => Data::Int(values),
    })
}

impl<'de> Deserialize<'de> for Collected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut collected = Self::default();
        let level = Level {
            depth: 0,
            collected: &mut collected,
        };
        deserializer.deserialize_seq(level)?;
        Ok(collected)
    }
}

/// What stands in an array of some depth: elements, or arrays.
struct Level<'a> {
    depth: usize,
    collected: &'a mut Collected,
}

impl<'de> serde::de::DeserializeSeed<'de> for Level<'_> {
    type Value = bool;

    /// Whether it was an array.
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.depth {
            0 => f.write_str("an array"),
            _ => f.write_str("a number, a text, a boolean, null or an array of them"),
        }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        self.collected.items.push_bool(value).map(|()| false)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<bool, E> {
        self.collected.items.push_int(value).map(|()| false)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<bool, E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => self.visit_f64(value as f64),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<bool, E> {
        self.collected.items.push_float(value).map(|()| false)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        self.collected.items.push_text(text).map(|()| false)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        self.collected.items.push_null().map(|()| false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        let Self { depth, collected } = self;
        if depth == DEPTH {
            return Err(A::Error::custom(format!(
                "`data` has more than {DEPTH} arrays in each other"
            )));
        }
        let (mut length, mut arrays) = (0, 0);
        loop {
            let level = Level {
                depth: depth + 1,
                collected: &mut *collected,
            };
            let Some(is_array) = seq.next_element_seed(level)? else {
                break;
            };
            length += 1;
            arrays += usize::from(is_array);
            if arrays != 0 && arrays != length {
                return Err(A::Error::custom(
                    "`data` has arrays and elements side by side; nest all alike",
                ));
            }
        }
        // The innermost arrays end first: lengths are known from the inside, and put where their depth is.
        if collected.lengths.len() <= depth {
            collected.lengths.resize(depth + 1, usize::MAX);
        }
        let known = &mut collected.lengths[depth];
        match *known {
            usize::MAX => *known = length,
            known if known != length => {
                return Err(A::Error::custom(format!(
                    "`data` has arrays of {known} and of {length} elements side by side"
                )));
            }
            _ => {}
        }
        if arrays == 0 && *collected.innermost.get_or_insert(depth) != depth {
            return Err(A::Error::custom(
                "`data` has arrays that are nested to different depths",
            ));
        }
        Ok(true)
    }
}
