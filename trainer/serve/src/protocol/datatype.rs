//! The types that elements of a tensor have, and their names.

use serde::{Serialize, Serializer};

use super::error::{ProtocolError, quoted};

/// Type of the elements of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Datatype {
    /// `BOOL`: one byte, 0 or 1.
    Bool,
    /// `UINT8`.
    Uint8,
    /// `UINT16`.
    Uint16,
    /// `UINT32`.
    Uint32,
    /// `UINT64`.
    Uint64,
    /// `INT8`.
    Int8,
    /// `INT16`.
    Int16,
    /// `INT32`.
    Int32,
    /// `INT64`.
    Int64,
    /// `FP16`: half precision (IEEE binary16), in binary only.
    Fp16,
    /// `BF16`: the upper half of single precision, in binary only.
    Bf16,
    /// `FP32`: single precision.
    Fp32,
    /// `FP64`: double precision.
    Fp64,
    /// `BYTES`: byte strings. In binary each has its length before it, four bytes in little-endian order.
    Bytes,
}

impl Datatype {
    /// Every type.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// The type of a name, as the protocol spells it.
    ///
    /// # Errors
    /// If there is none.
    pub fn from_name(name: &str) -> Result<Self, ProtocolError> {
        let mut all = Self::ALL.into_iter();
        all.find(|datatype| datatype.name() == name).ok_or_else(|| {
            ProtocolError::invalid(format!(
                "datatype {} is unknown; use one of {}",
                quoted(name),
                Self::ALL.map(Self::name).join(", ")
            ))
        })
    }

    /// Bytes of an element in binary; none for `BYTES`, of which each has its own length.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }
}

impl Serialize for Datatype {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s04_every_datatype_is_found_by_its_name_alone() {
        for datatype in Datatype::ALL {
            assert_eq!(Datatype::from_name(datatype.name()), Ok(datatype));
        }
        for name in ["", "fp32", "FP32 ", "FLOAT", "STRING", "TYPE_FP32"] {
            let error = Datatype::from_name(name).expect_err(name);
            assert!(error.message.contains("use one of BOOL, UINT8"), "{error}");
        }
    }
}
