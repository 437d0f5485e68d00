//! Elements of JSON become those of a datatype.

use std::fmt::Debug;

use super::collect::Collected;
use super::elements::Elements;
use crate::protocol::data::Data;
use crate::protocol::datatype::Datatype;
use crate::protocol::error::ProtocolError;
use crate::protocol::strings::{Builder, ByteStrings};

/// Below this, which is 2^53, a float that is whole stands for one integer only.
const EXACT: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;

impl Collected {
    /// The `count` elements of a shape, in a type.
    ///
    /// # Errors
    /// If there are not as many, or one is not of this type.
    pub(in crate::protocol) fn into_data(
        mut self,
        datatype: Datatype,
        shape: &[u64],
        count: u64,
    ) -> Result<Data, ProtocolError> {
        self.check(shape, count)?;
        let elements = self.elements;
        Ok(match datatype {
            Datatype::Fp16 | Datatype::Bf16 => {
                return Err(ProtocolError::invalid(format!(
                    "{} has no form in JSON; send it in binary, or as FP32",
                    datatype.name()
                )));
            }
            Datatype::Bool => Data::Bool(bools(elements)?),
            Datatype::Uint8 => Data::Uint8(integers::<u8>(elements, datatype)?.into()),
            Datatype::Uint16 => Data::Uint16(integers(elements, datatype)?),
            Datatype::Uint32 => Data::Uint32(integers(elements, datatype)?),
            Datatype::Uint64 => Data::Uint64(integers(elements, datatype)?),
            Datatype::Int8 => Data::Int8(integers(elements, datatype)?),
            Datatype::Int16 => Data::Int16(integers(elements, datatype)?),
            Datatype::Int32 => Data::Int32(integers(elements, datatype)?),
            Datatype::Int64 => Data::Int64(integers(elements, datatype)?),
            Datatype::Fp32 => Data::Fp32(singles(elements)?),
            Datatype::Fp64 => Data::Fp64(doubles(elements, datatype)?),
            Datatype::Bytes => Data::Bytes(strings(elements)?),
        })
    }
}

impl Collected {
    /// Numbers of double precision, with their shape.
    ///
    /// # Errors
    /// If they are ragged, or no numbers.
    pub(in crate::protocol) fn into_numbers(
        mut self,
    ) -> Result<(Vec<u64>, Vec<f64>), ProtocolError> {
        let shape = self.shape();
        self.check(&shape, shape.iter().product())?;
        Ok((shape, doubles(self.elements, Datatype::Fp64)?))
    }
}

fn bools(elements: Elements) -> Result<Vec<bool>, ProtocolError> {
    match elements {
        Elements::Bools(values) => Ok(values),
        Elements::Strings(_) => Err(other_kind(&elements, Datatype::Bool, "true and false")),
        numbers => {
            let values = integers::<u8>(numbers, Datatype::Bool)?;
            match values.iter().position(|value| *value > 1) {
                None => Ok(values.iter().map(|value| *value == 1).collect()),
                Some(place) => Err(out_of_range(place, values.get(place), Datatype::Bool)),
            }
        }
    }
}

fn integers<T: TryFrom<i64> + TryFrom<u64>>(
    elements: Elements,
    datatype: Datatype,
) -> Result<Vec<T>, ProtocolError> {
    match elements {
        Elements::Empty => Ok(Vec::new()),
        Elements::Signed(values) => each(values, |place, value| {
            T::try_from(value).map_err(|_| out_of_range(place, Some(&value), datatype))
        }),
        Elements::Unsigned(values) => each(values, |place, value| {
            T::try_from(value).map_err(|_| out_of_range(place, Some(&value), datatype))
        }),
        Elements::Floats(values) => each(values, |place, value| {
            T::try_from(whole(place, value, datatype)?)
                .map_err(|_| out_of_range(place, Some(&value), datatype))
        }),
        Elements::Nulls(_) => Err(null(0, datatype)),
        Elements::Bools(_) | Elements::Strings(_) => {
            Err(other_kind(&elements, datatype, "whole numbers"))
        }
    }
}

/// The integer that a float stands for.
fn whole(place: usize, value: f64, datatype: Datatype) -> Result<i64, ProtocolError> {
    if value.is_nan() {
        return Err(null(place, datatype));
    }
    if value.fract() != 0.0 {
        return Err(ProtocolError::invalid(format!(
            "element {place} of data is {value:?}, {} takes whole numbers; round it, or send FP64",
            datatype.name()
        )));
    }
    if value.abs() >= EXACT {
        return Err(ProtocolError::invalid(format!(
            "element {place} of data is about {value:?}: digits of it may be lost, since a number of data has a point or an exponent, or none of 64 bits holds all; write each as a whole number that {} can hold",
            datatype.name()
        )));
    }
    Ok(value as i64)
}

fn doubles(elements: Elements, datatype: Datatype) -> Result<Vec<f64>, ProtocolError> {
    match elements {
        Elements::Empty => Ok(Vec::new()),
        Elements::Nulls(count) => Ok(vec![f64::NAN; count]),
        Elements::Floats(values) => Ok(values),
        Elements::Signed(values) => Ok(values.into_iter().map(|value| value as f64).collect()),
        Elements::Unsigned(values) => Ok(values.into_iter().map(|value| value as f64).collect()),
        Elements::Bools(_) | Elements::Strings(_) => {
            Err(other_kind(&elements, datatype, "numbers"))
        }
    }
}

/// Integers become doubles first, like all numbers: what one is must not depend on those beside it.
fn singles(elements: Elements) -> Result<Vec<f32>, ProtocolError> {
    let doubles = doubles(elements, Datatype::Fp32)?;
    let singles: Vec<f32> = doubles.iter().map(|value| *value as f32).collect();
    // JSON has no infinity, so that a number became infinite if one is.
    match singles.iter().position(|value| value.is_infinite()) {
        None => Ok(singles),
        Some(place) => Err(out_of_range(place, doubles.get(place), Datatype::Fp32)),
    }
}

fn strings(elements: Elements) -> Result<ByteStrings, ProtocolError> {
    match elements {
        Elements::Empty => Ok(ByteStrings::default()),
        Elements::Strings(values) => Ok(values.finish()),
        Elements::Nulls(count) => {
            let mut strings = Builder::default();
            (0..count).for_each(|_| strings.push(b""));
            Ok(strings.finish())
        }
        _ => Err(other_kind(&elements, Datatype::Bytes, "strings")),
    }
}

fn each<S, T>(
    values: Vec<S>,
    convert: impl Fn(usize, S) -> Result<T, ProtocolError>,
) -> Result<Vec<T>, ProtocolError> {
    let mut converted = Vec::with_capacity(values.len());
    for (place, value) in values.into_iter().enumerate() {
        converted.push(convert(place, value)?);
    }
    Ok(converted)
}

fn other_kind(found: &Elements, datatype: Datatype, expected: &str) -> ProtocolError {
    ProtocolError::invalid(format!(
        "data has {}, {} takes {expected}; send those, or another datatype",
        found.kind(),
        datatype.name()
    ))
}

fn null(place: usize, datatype: Datatype) -> ProtocolError {
    ProtocolError::invalid(format!(
        "element {place} of data is null, {} has no missing values; send a value, or null in FP32, FP64 or BYTES",
        datatype.name()
    ))
}

fn out_of_range(place: usize, value: Option<impl Debug>, datatype: Datatype) -> ProtocolError {
    let value = value.map_or(String::new(), |value| format!("{value:?}"));
    ProtocolError::invalid(format!(
        "element {place} of data is {value}, which {} cannot hold; send it in a wider datatype",
        datatype.name()
    ))
}

#[cfg(test)]
mod tests;
