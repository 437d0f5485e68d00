//! The elements of tensors.

use bytes::{Buf, Bytes};

use super::error::ProtocolError;

/// Type of the elements of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datatype {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned integers.
    Uint8,
    /// See [`Datatype::Uint8`].
    Uint16,
    /// See [`Datatype::Uint8`].
    Uint32,
    /// See [`Datatype::Uint8`].
    Uint64,
    /// Signed integers.
    Int8,
    /// See [`Datatype::Int8`].
    Int16,
    /// See [`Datatype::Int8`].
    Int32,
    /// See [`Datatype::Int8`].
    Int64,
    /// Half precision; in binary only.
    Fp16,
    /// The upper half of single precision; in binary only.
    Bf16,
    /// Single precision.
    Fp32,
    /// Double precision.
    Fp64,
    /// Byte strings. In binary each has its length before it, four bytes in little-endian order.
    Bytes,
}

const NAMES: [(&str, Datatype); 14] = [
    ("BOOL", Datatype::Bool),
    ("UINT8", Datatype::Uint8),
    ("UINT16", Datatype::Uint16),
    ("UINT32", Datatype::Uint32),
    ("UINT64", Datatype::Uint64),
    ("INT8", Datatype::Int8),
    ("INT16", Datatype::Int16),
    ("INT32", Datatype::Int32),
    ("INT64", Datatype::Int64),
    ("FP16", Datatype::Fp16),
    ("BF16", Datatype::Bf16),
    ("FP32", Datatype::Fp32),
    ("FP64", Datatype::Fp64),
    ("BYTES", Datatype::Bytes),
];

impl Datatype {
    /// The type with this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn of(name: &str) -> Result<Self, ProtocolError> {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, datatype)| *datatype).ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            let shown: String = name.chars().take(32).collect();
            ProtocolError::invalid(format!(
                "there is no datatype {shown:?}; use one of {}",
                names.join(", ")
            ))
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        let found = NAMES.iter().find(|(_, datatype)| *datatype == self);
        found.map_or("", |(name, _)| name)
    }

    /// Bytes of an element in binary; none where each has its own length.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }

    /// The least and the greatest integer, of types of integers.
    pub(crate) fn range(self) -> Option<(i128, i128)> {
        Some(match self {
            Self::Uint8 => (0, u8::MAX.into()),
            Self::Uint16 => (0, u16::MAX.into()),
            Self::Uint32 => (0, u32::MAX.into()),
            Self::Uint64 => (0, u64::MAX.into()),
            Self::Int8 => (i8::MIN.into(), i8::MAX.into()),
            Self::Int16 => (i16::MIN.into(), i16::MAX.into()),
            Self::Int32 => (i32::MIN.into(), i32::MAX.into()),
            Self::Int64 => (i64::MIN.into(), i64::MAX.into()),
            _ => return None,
        })
    }
}

/// The elements of a tensor, row after row.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Of `BOOL`.
    Bool(Vec<bool>),
    /// Of `UINT8`: images are as large here as on the wire.
    Uint8(Bytes),
    /// Of the other integers but `UINT64`.
    Int(Vec<i64>),
    /// Of `UINT64`.
    Uint64(Vec<u64>),
    /// Of `FP16`, `BF16` and `FP32`. In JSON a `null` is NaN.
    Fp32(Vec<f32>),
    /// Of `FP64`.
    Fp64(Vec<f64>),
    /// Of `BYTES`.
    Bytes(ByteStrings),
}

/// Byte strings, one after the other in one buffer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ByteStrings {
    buffer: Bytes,
    /// Where each begins and ends.
    places: Vec<(usize, usize)>,
}

impl ByteStrings {
    /// The strings.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.places
            .iter()
            .map(|&(start, end)| self.buffer.get(start..end).unwrap_or_default())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Strings of which each has its length before it, four bytes in little-endian order. Stops at one more than `most`.
    fn with_lengths(buffer: Bytes, most: usize) -> Result<Self, ProtocolError> {
        let mut places = Vec::new();
        let mut at = 0;
        while at < buffer.len() && places.len() <= most {
            let rest = &buffer[at..];
            let Some(length) = rest.first_chunk::<4>() else {
                return Err(ProtocolError::invalid(format!(
                    "element {} is cut off: its length takes 4 bytes, {} are left",
                    places.len(),
                    rest.len()
                )));
            };
            let length = u32::from_le_bytes(*length) as usize;
            if length > rest.len() - 4 {
                return Err(ProtocolError::invalid(format!(
                    "element {} is cut off: it has {length} bytes by its length, {} are left",
                    places.len(),
                    rest.len() - 4
                )));
            }
            places.push((at + 4, at + 4 + length));
            at += 4 + length;
        }
        Ok(Self { buffer, places })
    }
}

impl<S: AsRef<[u8]>> FromIterator<S> for ByteStrings {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let (mut buffer, mut places) = (Vec::new(), Vec::new());
        for string in strings {
            let start = buffer.len();
            buffer.extend_from_slice(string.as_ref());
            places.push((start, buffer.len()));
        }
        Self {
            buffer: buffer.into(),
            places,
        }
    }
}

fn numbers<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|chunk| read(*chunk)).collect()
}

/// A number of half precision; every one has its own in single precision.
fn half(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (bits >> 15, (bits >> 10) & 0x1f, u32::from(bits & 0x3ff));
    let magnitude = match exponent {
        // Multiples of 2^-24.
        0 => fraction as f32 / (1 << 24) as f32,
        0x1f => f32::from_bits(0x7f80_0000 | fraction << 13),
        exponent => f32::from_bits((u32::from(exponent) + 112) << 23 | fraction << 13),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

impl Data {
    /// `count` elements in binary, in little-endian order.
    ///
    /// # Errors
    /// If there are not as many bytes.
    pub fn from_binary(
        datatype: Datatype,
        count: u64,
        mut bytes: Bytes,
    ) -> Result<Self, ProtocolError> {
        let Some(size) = datatype.size() else {
            let most = usize::try_from(count).unwrap_or(usize::MAX);
            let strings = ByteStrings::with_lengths(bytes, most)?;
            if strings.len() as u64 != count {
                let found = match strings.len() as u64 > count {
                    true => format!("more than {count}"),
                    false => strings.len().to_string(),
                };
                return Err(ProtocolError::invalid(format!(
                    "the data has {found} elements, the shape has {count}; send one for each"
                )));
            }
            return Ok(Self::Bytes(strings));
        };
        let expected = count.checked_mul(size as u64);
        if expected != Some(bytes.len() as u64) {
            let expected = expected.map_or_else(|| "more than 2^64".into(), |n| n.to_string());
            return Err(ProtocolError::invalid(format!(
                "the data has {} bytes, expected {expected}: {count} elements of {}",
                bytes.len(),
                datatype.name()
            )));
        }
        Ok(match datatype {
            Datatype::Bool => {
                if let Some(place) = bytes.iter().position(|byte| *byte > 1) {
                    return Err(ProtocolError::invalid(format!(
                        "element {place} is {}; a BOOL is 0 or 1",
                        bytes[place]
                    )));
                }
                Self::Bool(bytes.iter().map(|byte| *byte == 1).collect())
            }
            Datatype::Uint8 => Self::Uint8(bytes.copy_to_bytes(bytes.len())),
            Datatype::Int8 => Self::Int(numbers(&bytes, |b| i8::from_le_bytes(b).into())),
            Datatype::Uint16 => Self::Int(numbers(&bytes, |b| u16::from_le_bytes(b).into())),
            Datatype::Int16 => Self::Int(numbers(&bytes, |b| i16::from_le_bytes(b).into())),
            Datatype::Uint32 => Self::Int(numbers(&bytes, |b| u32::from_le_bytes(b).into())),
            Datatype::Int32 => Self::Int(numbers(&bytes, |b| i32::from_le_bytes(b).into())),
            Datatype::Int64 => Self::Int(numbers(&bytes, i64::from_le_bytes)),
            Datatype::Uint64 => Self::Uint64(numbers(&bytes, u64::from_le_bytes)),
            Datatype::Fp16 => Self::Fp32(numbers(&bytes, |b| half(u16::from_le_bytes(b)))),
            Datatype::Bf16 => Self::Fp32(numbers(&bytes, |b| {
                f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)
            })),
            Datatype::Fp32 => Self::Fp32(numbers(&bytes, f32::from_le_bytes)),
            Datatype::Fp64 => Self::Fp64(numbers(&bytes, f64::from_le_bytes)),
            Datatype::Bytes => Self::Bytes(ByteStrings::default()),
        })
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Bool(values) => values.len(),
            Self::Uint8(values) => values.len(),
            Self::Int(values) => values.len(),
            Self::Uint64(values) => values.len(),
            Self::Fp32(values) => values.len(),
            Self::Fp64(values) => values.len(),
            Self::Bytes(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds the elements in binary, in little-endian order.
    pub fn put_binary(&self, datatype: Datatype, out: &mut Vec<u8>) {
        match self {
            Self::Bool(values) => out.extend(values.iter().map(|value| u8::from(*value))),
            Self::Uint8(values) => out.extend_from_slice(values),
            Self::Int(values) => {
                let size = datatype.size().unwrap_or(8);
                for value in values {
                    out.extend_from_slice(&value.to_le_bytes()[..size]);
                }
            }
            Self::Uint64(values) => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::Fp32(values) => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::Fp64(values) => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::Bytes(values) => {
                for value in values.iter() {
                    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
                    out.extend_from_slice(value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s04_every_half_is_the_number_that_it_stands_for() {
        for (bits, expected) in [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0400, 6.103_515_6e-5),
            (0x0001, 5.960_464_5e-8),
            (0x3555, 0.333_251_95),
            (0x7c00, f32::INFINITY),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(half(bits), expected, "{bits:#x}");
        }
        assert!(half(0x7e00).is_nan());
    }

    #[test]
    fn s04_binary_elements_are_read_and_written_alike() {
        for (name, datatype) in NAMES {
            let bytes: Vec<u8> = match datatype.size() {
                Some(size) => (0..3 * size).map(|i| (i % 2) as u8).collect(),
                None => b"\x01\0\0\0a\0\0\0\0\x02\0\0\0\xff\0".to_vec(),
            };
            let data = Data::from_binary(datatype, 3, bytes.clone().into()).expect(name);
            assert_eq!(data.len(), 3);
            assert_eq!(Datatype::of(name), Ok(datatype));
            if !matches!(datatype, Datatype::Fp16 | Datatype::Bf16) {
                let mut again = Vec::new();
                data.put_binary(datatype, &mut again);
                assert_eq!(again, bytes, "{name}");
            }
            for count in [0, 2, 4, u64::MAX, 1 << 61] {
                let error = Data::from_binary(datatype, count, bytes.clone().into());
                assert!(error.is_err(), "{name}: {count}");
            }
        }
    }

    #[test]
    fn s04_byte_strings_that_are_cut_off_are_refused() {
        for (bytes, problem) in [
            (
                &b"\x01\0\0"[..],
                "element 0 is cut off: its length takes 4 bytes, 3 are left",
            ),
            (
                b"\0\0\0\0\x05\0\0\0abcd",
                "element 1 is cut off: it has 5 bytes by its length, 4 are left",
            ),
            (
                b"\xff\xff\xff\xffa",
                "element 0 is cut off: it has 4294967295 bytes by its length, 1 are left",
            ),
            (b"\0\0\0\0", "the data has 1 elements, the shape has 2"),
            (
                b"\0\0\0\0\0\0\0\0\0\0\0\0",
                "the data has more than 2 elements",
            ),
        ] {
            let error = Data::from_binary(Datatype::Bytes, 2, bytes.to_vec().into());
            let error = error.expect_err(problem);
            assert!(error.message.starts_with(problem), "{error}");
        }
    }
}
