//! The IDX header: two zero bytes, a type, the number of axes, and their lengths as big-endian
//! u32 (<http://yann.lecun.com/exdb/mnist/>).

use std::io::Read;

use super::{Dtype, Header, fill};
use crate::error::DataError;

/// Reads what follows the first four bytes.
pub(super) fn header(magic: [u8; 4], source: &mut dyn Read) -> Result<Header, DataError> {
    let [_, _, kind, axes] = magic;
    let dtype = match kind {
        0x08 => Dtype::U8,
        0x09 => Dtype::I8,
        0x0b => Dtype::I16,
        0x0c => Dtype::I32,
        0x0d => Dtype::F32,
        0x0e => Dtype::F64,
        _ => {
            let problem = format!("0x{kind:02x} is no element type of the IDX format");
            return Err(DataError::data(
                problem,
                "the file is damaged, or of another format",
            ));
        }
    };
    if !(1..=4).contains(&axes) {
        let problem = format!("expected an array of 1 to 4 axes, found {axes}");
        return Err(DataError::data(
            problem,
            "the file is damaged, or holds no images or labels",
        ));
    }
    let mut shape = Vec::new();
    for _ in 0..axes {
        let mut length = [0u8; 4];
        fill(source, &mut length)?;
        shape.push(u64::from(u32::from_be_bytes(length)));
    }
    Ok(Header {
        dtype,
        big_endian: true,
        fortran: false,
        shape,
    })
}
