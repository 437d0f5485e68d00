//! The NPY header, versions 1 to 3
//! (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>): a Python dict
//! with the keys `descr`, `fortran_order` and `shape`.
//!
//! Parsed here rather than by a crate because headers are input: the crates that read them accept
//! any Python literal, recurse as deep as it does, and multiply the claimed dimensions unchecked.

use std::io::Read;

use super::{Dtype, Header, fill};
use crate::error::{DataError, quoted};

/// Longest header accepted; NumPy's own limit.
const LONGEST: usize = 10_000;

/// Reads what follows the first four bytes.
pub(super) fn header(source: &mut dyn Read) -> Result<Header, DataError> {
    let mut rest = [0u8; 4];
    fill(source, &mut rest)?;
    let length_bytes = match rest {
        [b'P', b'Y', 1, 0] => 2,
        [b'P', b'Y', 2 | 3, 0] => 4,
        [b'P', b'Y', major, minor] => {
            let problem = format!("version {major}.{minor} of the NPY format is not known");
            return Err(DataError::data(problem, "write the array with numpy.save"));
        }
        _ => {
            return Err(DataError::data(
                "not an NPY file",
                "write the array with numpy.save",
            ));
        }
    };
    let mut length = [0u8; 4];
    fill(source, &mut length[..length_bytes])?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST {
        let problem = format!("the header claims {length} bytes, over {LONGEST}");
        return Err(DataError::data(
            problem,
            "the file is damaged; write it again",
        ));
    }
    let mut text = vec![0u8; length];
    fill(source, &mut text)?;
    let text = String::from_utf8_lossy(&text);
    Parser {
        text: text.trim_end(),
    }
    .header()
}

/// A parser of the one dict that the format allows.
struct Parser<'a> {
    text: &'a str,
}

impl<'a> Parser<'a> {
    fn header(mut self) -> Result<Header, DataError> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.expect('{')?;
        while !self.accept('}') {
            let key = self.string()?;
            self.expect(':')?;
            let fresh = match key {
                "descr" => descr.replace(self.descr()?).is_none(),
                "fortran_order" => fortran.replace(self.boolean()?).is_none(),
                "shape" => shape.replace(self.shape()?).is_none(),
                _ => false,
            };
            if !fresh {
                return Err(damaged(format!(
                    "an unknown or repeated key {}",
                    quoted(key)
                )));
            }
            if !self.accept(',') {
                self.expect('}')?;
                break;
            }
        }
        if !self.text.trim_start().is_empty() {
            return Err(damaged(format!(
                "text after the dict: {}",
                quoted(self.text)
            )));
        }
        match (descr, fortran, shape) {
            (Some((dtype, big_endian)), Some(fortran), Some(shape)) => Ok(Header {
                dtype,
                big_endian,
                fortran,
                shape,
            }),
            _ => Err(damaged("no descr, fortran_order or shape".to_owned())),
        }
    }

    fn accept(&mut self, token: char) -> bool {
        self.text = self.text.trim_start();
        match self.text.strip_prefix(token) {
            Some(rest) => {
                self.text = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: char) -> Result<(), DataError> {
        if self.accept(token) {
            return Ok(());
        }
        Err(damaged(format!(
            "expected {token}, found {}",
            quoted(self.text)
        )))
    }

    fn string(&mut self) -> Result<&'a str, DataError> {
        let quote = if self.accept('"') { '"' } else { '\'' };
        if quote == '\'' {
            self.expect('\'')?;
        }
        let Some((string, rest)) = self.text.split_once(quote) else {
            return Err(damaged("a string is not closed".to_owned()));
        };
        self.text = rest;
        Ok(string)
    }

    fn boolean(&mut self) -> Result<bool, DataError> {
        self.text = self.text.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.text.strip_prefix(word) {
                self.text = rest;
                return Ok(value);
            }
        }
        Err(damaged(format!(
            "expected True or False, found {}",
            quoted(self.text)
        )))
    }

    fn shape(&mut self) -> Result<Vec<u64>, DataError> {
        let mut shape = Vec::new();
        self.expect('(')?;
        while !self.accept(')') {
            self.text = self.text.trim_start();
            let digits = self.text.len()
                - self
                    .text
                    .trim_start_matches(|c: char| c.is_ascii_digit())
                    .len();
            let (number, rest) = self.text.split_at(digits);
            let length: u64 = number
                .parse()
                .map_err(|_| damaged(format!("expected a length, found {}", quoted(self.text))))?;
            shape.push(length);
            // Python 2 wrote its long integers with an L.
            self.text = rest.strip_prefix('L').unwrap_or(rest);
            if !self.accept(',') {
                self.expect(')')?;
                break;
            }
        }
        if shape.len() > 4 {
            let problem = format!("expected at most 4 axes, found {}", shape.len());
            return Err(DataError::data(
                problem,
                "reshape it to [rows, features] or images",
            ));
        }
        Ok(shape)
    }

    fn descr(&mut self) -> Result<(Dtype, bool), DataError> {
        let remedy = "convert it with array.astype('float32')";
        if self.text.trim_start().starts_with('[') {
            let problem = "a structured array (one with named fields) is not supported";
            return Err(DataError::data(
                problem,
                "write its fields as the columns of one array",
            ));
        }
        let descr = self.string()?;
        let mut chars = descr.chars();
        let order = chars.next();
        let dtype = match chars.as_str() {
            // A boolean is a byte that is 0 or 1.
            "b1" | "u1" => Dtype::U8,
            "i1" => Dtype::I8,
            "u2" => Dtype::U16,
            "i2" => Dtype::I16,
            "u4" => Dtype::U32,
            "i4" => Dtype::I32,
            "u8" => Dtype::U64,
            "i8" => Dtype::I64,
            "f4" => Dtype::F32,
            "f8" => Dtype::F64,
            _ => {
                let problem = format!("elements of type {} are not supported", quoted(descr));
                return Err(DataError::data(problem, remedy));
            }
        };
        match order {
            Some('<') => Ok((dtype, false)),
            Some('>') => Ok((dtype, true)),
            Some('|') if dtype.size() == 1 => Ok((dtype, false)),
            _ => {
                let problem = format!("the byte order of type {} is not known", quoted(descr));
                Err(DataError::data(problem, remedy))
            }
        }
    }
}

fn damaged(problem: String) -> DataError {
    DataError::data(
        format!("in the NPY header: {problem}"),
        "write the array with numpy.save",
    )
}
