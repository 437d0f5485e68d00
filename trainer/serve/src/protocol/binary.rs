//! Elements in binary: little-endian, without padding.

use bytes::Bytes;

use super::data::Data;
use super::datatype::Datatype;
use super::error::ProtocolError;
use super::strings::{ByteStrings, LENGTH_BYTES};

impl Data {
    /// Reads `count` elements, which are all that there is.
    ///
    /// # Errors
    /// If there are not as many bytes, or they are no elements of this type.
    pub fn from_binary(
        datatype: Datatype,
        count: u64,
        bytes: Bytes,
    ) -> Result<Self, ProtocolError> {
        if let Some(size) = datatype.size() {
            check_length(datatype, size, count, bytes.len())?;
        }
        Ok(match datatype {
            Datatype::Bool => Self::Bool(booleans(&bytes)?),
            Datatype::Uint8 => Self::Uint8(bytes),
            Datatype::Uint16 => Self::Uint16(numbers(&bytes, u16::from_le_bytes)),
            Datatype::Uint32 => Self::Uint32(numbers(&bytes, u32::from_le_bytes)),
            Datatype::Uint64 => Self::Uint64(numbers(&bytes, u64::from_le_bytes)),
            Datatype::Int8 => Self::Int8(numbers(&bytes, i8::from_le_bytes)),
            Datatype::Int16 => Self::Int16(numbers(&bytes, i16::from_le_bytes)),
            Datatype::Int32 => Self::Int32(numbers(&bytes, i32::from_le_bytes)),
            Datatype::Int64 => Self::Int64(numbers(&bytes, i64::from_le_bytes)),
            Datatype::Fp16 => Self::Fp32(numbers(&bytes, |b| half(u16::from_le_bytes(b)))),
            Datatype::Bf16 => Self::Fp32(numbers(&bytes, |[low, high]| {
                f32::from_le_bytes([0, 0, low, high])
            })),
            Datatype::Fp32 => Self::Fp32(numbers(&bytes, f32::from_le_bytes)),
            Datatype::Fp64 => Self::Fp64(numbers(&bytes, f64::from_le_bytes)),
            Datatype::Bytes => Self::Bytes(ByteStrings::with_lengths(bytes, count)?),
        })
    }

    /// Bytes that the elements take in binary.
    pub fn binary_len(&self) -> usize {
        match self {
            Self::Bytes(values) => {
                let len = |value| LENGTH_BYTES + countable(value).len();
                values.iter().map(len).sum()
            }
            // They are in memory, in at least as many bytes: there is no overflow.
            _ => self.len() * self.datatype().size().unwrap_or_default(),
        }
    }

    /// Appends the elements in binary: [`Data::binary_len`] bytes.
    pub fn put_binary(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bool(values) => out.extend(values.iter().map(|value| u8::from(*value))),
            Self::Uint8(values) => out.extend_from_slice(values),
            Self::Uint16(values) => put(out, values, u16::to_le_bytes),
            Self::Uint32(values) => put(out, values, u32::to_le_bytes),
            Self::Uint64(values) => put(out, values, u64::to_le_bytes),
            Self::Int8(values) => put(out, values, i8::to_le_bytes),
            Self::Int16(values) => put(out, values, i16::to_le_bytes),
            Self::Int32(values) => put(out, values, i32::to_le_bytes),
            Self::Int64(values) => put(out, values, i64::to_le_bytes),
            Self::Fp32(values) => put(out, values, f32::to_le_bytes),
            Self::Fp64(values) => put(out, values, f64::to_le_bytes),
            Self::Bytes(values) => {
                for value in values.iter().map(countable) {
                    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
                    out.extend_from_slice(value);
                }
            }
        }
    }
}

fn check_length(
    datatype: Datatype,
    size: usize,
    count: u64,
    found: usize,
) -> Result<(), ProtocolError> {
    if count.checked_mul(size as u64) == Some(found as u64) {
        return Ok(());
    }
    Err(ProtocolError::invalid(format!(
        "its binary data has {found} bytes, {count} elements of {} have {}; send {size} bytes for each element of its shape",
        datatype.name(),
        u128::from(count) * size as u128
    )))
}

fn booleans(bytes: &[u8]) -> Result<Vec<bool>, ProtocolError> {
    if let Some((place, byte)) = bytes.iter().enumerate().find(|(_, byte)| **byte > 1) {
        return Err(ProtocolError::invalid(format!(
            "element {place} is the byte {byte}; a BOOL is 0 or 1"
        )));
    }
    Ok(bytes.iter().map(|byte| *byte == 1).collect())
}

fn numbers<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|chunk| read(*chunk)).collect()
}

fn put<const N: usize, T: Copy>(out: &mut Vec<u8>, values: &[T], write: impl Fn(T) -> [u8; N]) {
    out.reserve(values.len() * N);
    for value in values {
        out.extend_from_slice(&write(*value));
    }
}

/// As much of a string as its length in binary can count.
fn countable(value: &[u8]) -> &[u8] {
    value.get(..u32::MAX as usize).unwrap_or(value)
}

/// The number that has these bits in half precision.
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = (bits >> 10 & 0x1f, u32::from(bits & 0x3ff));
    let magnitude = match exponent {
        // Multiples of 2^-24.
        0 => fraction as f32 / (1 << 24) as f32,
        0x1f => f32::from_bits(0x7f80_0000 | fraction << 13),
        exponent => f32::from_bits((u32::from(exponent) + 127 - 15) << 23 | fraction << 13),
    };
    match bits >> 15 {
        0 => magnitude,
        _ => -magnitude,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s04_every_half_is_the_number_that_it_stands_for() {
        for bits in 0..0x7c00_u16 {
            let (exponent, fraction) = (i32::from(bits >> 10), f64::from(bits & 0x3ff));
            let expected = match exponent {
                0 => fraction * 2_f64.powi(-24),
                _ => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
            };
            assert_eq!(f64::from(half(bits)), expected, "{bits:#x}");
            let negative = half(bits | 0x8000);
            assert_eq!(negative.to_bits(), (-half(bits)).to_bits(), "{bits:#x}");
        }
        assert_eq!(half(0x7c00), f32::INFINITY);
        assert_eq!(half(0xfc00), f32::NEG_INFINITY);
        assert!(half(0x7c01).is_nan() && half(0xffff).is_nan());
    }

    #[test]
    fn s04_elements_in_binary_are_written_as_they_are_read() {
        for datatype in Datatype::ALL {
            let bytes: Vec<u8> = match datatype.size() {
                Some(size) => (0..3 * size).map(|i| (i % 2) as u8).collect(),
                None => b"\x01\0\0\0a\0\0\0\0\x02\0\0\0\xff\0".to_vec(),
            };
            let read = |count| Data::from_binary(datatype, count, bytes.clone().into());
            let data = read(3).expect("three elements");
            assert_eq!(data.len(), 3);
            for count in [0, 2, 4, 1 << 61, u64::MAX] {
                assert!(read(count).is_err(), "{}: {count}", datatype.name());
            }
            if !matches!(datatype, Datatype::Fp16 | Datatype::Bf16) {
                let mut again = Vec::new();
                data.put_binary(&mut again);
                assert_eq!(again, bytes);
                assert_eq!(
                    (data.binary_len(), data.datatype()),
                    (again.len(), datatype)
                );
            }
        }
    }

    #[test]
    fn s04_upper_halves_of_floats_are_exact() {
        let values = [1.0_f32, -2.5, 3.0e38, f32::INFINITY];
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes()[2..].to_vec())
            .collect();
        let expected = values.map(|value| f32::from_bits(value.to_bits() & 0xffff_0000));
        let data = Data::from_binary(Datatype::Bf16, 4, bytes.into());
        assert_eq!(data, Ok(Data::Fp32(expected.to_vec())));
    }

    #[test]
    fn s04_a_boolean_is_no_other_byte_than_0_or_1() {
        let error = Data::from_binary(Datatype::Bool, 3, Bytes::from_static(&[0, 1, 2]));
        let error = error.expect_err("2 is no boolean");
        assert_eq!(error.message, "element 2 is the byte 2; a BOOL is 0 or 1");
    }
}
