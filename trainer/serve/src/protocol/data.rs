//! The elements of a tensor.

use bytes::Bytes;

use super::datatype::Datatype;
use super::strings::ByteStrings;

/// The elements of a tensor, row after row.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Of `BOOL`.
    Bool(Vec<bool>),
    /// Of `UINT8`. Those of a request in binary, such as an image, lie in its body, which lives as long as they do.
    Uint8(Bytes),
    /// Of `UINT16`.
    Uint16(Vec<u16>),
    /// Of `UINT32`.
    Uint32(Vec<u32>),
    /// Of `UINT64`.
    Uint64(Vec<u64>),
    /// Of `INT8`.
    Int8(Vec<i8>),
    /// Of `INT16`.
    Int16(Vec<i16>),
    /// Of `INT32`.
    Int32(Vec<i32>),
    /// Of `INT64`.
    Int64(Vec<i64>),
    /// Of `FP32`, and of `FP16` and `BF16`, which single precision holds exactly. A `null` in JSON is NaN.
    Fp32(Vec<f32>),
    /// Of `FP64`. A `null` in JSON is NaN.
    Fp64(Vec<f64>),
    /// Of `BYTES`. A `null` in JSON is an empty string.
    Bytes(ByteStrings),
}

impl Data {
    /// The type in which the elements are written. What came as `FP16` or `BF16` would be written as `FP32`.
    pub fn datatype(&self) -> Datatype {
        match self {
            Self::Bool(_) => Datatype::Bool,
            Self::Uint8(_) => Datatype::Uint8,
            Self::Uint16(_) => Datatype::Uint16,
            Self::Uint32(_) => Datatype::Uint32,
            Self::Uint64(_) => Datatype::Uint64,
            Self::Int8(_) => Datatype::Int8,
            Self::Int16(_) => Datatype::Int16,
            Self::Int32(_) => Datatype::Int32,
            Self::Int64(_) => Datatype::Int64,
            Self::Fp32(_) => Datatype::Fp32,
            Self::Fp64(_) => Datatype::Fp64,
            Self::Bytes(_) => Datatype::Bytes,
        }
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Bool(values) => values.len(),
            Self::Uint8(values) => values.len(),
            Self::Uint16(values) => values.len(),
            Self::Uint32(values) => values.len(),
            Self::Uint64(values) => values.len(),
            Self::Int8(values) => values.len(),
            Self::Int16(values) => values.len(),
            Self::Int32(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::Fp32(values) => values.len(),
            Self::Fp64(values) => values.len(),
            Self::Bytes(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
