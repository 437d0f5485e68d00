//! The records of a block.

use std::borrow::Cow;

use memchr::{memchr, memchr3};
use trainyard_core::schema::Encoding;

use super::blocks::{Block, line_ends};
use super::{Fields, encoding};
use crate::error::{DataError, quoted};
use crate::options::Limits;

/// Bytes of a field that are looked at eight at a time.
const SHORT: usize = 32;

/// What stands between fields, and what bounds a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    delimiter: u8,
    encoding: Encoding,
    record_limit: usize,
    column_limit: usize,
    /// Fields that each record must have; any number if none.
    fields: Option<usize>,
}

impl Format {
    pub(super) fn new(delimiter: u8, encoding: Encoding, limits: &Limits) -> Self {
        Self {
            delimiter,
            encoding,
            record_limit: usize::try_from(limits.record_bytes).unwrap_or(usize::MAX),
            column_limit: limits.columns,
            fields: None,
        }
    }
}

/// Reads the records of a block, one after the other.
pub(crate) struct Cursor {
    bytes: Vec<u8>,
    format: Format,
    /// Where the next record starts, or blank lines before it.
    at: usize,
    /// The line of that place.
    line: u64,
    /// The fields of the current record.
    fields: Vec<Field>,
    /// The current record's fields that have doubled quotes, with single ones.
    unescaped: Vec<u8>,
    /// Whether the current record has fields within quotes, where lines may end.
    has_quotes: bool,
    /// Where the first NUL byte is.
    nul: usize,
}

/// A field without its quotes.
#[derive(Clone, Copy, Debug)]
struct Field {
    start: usize,
    end: usize,
    /// Whether it lies in `unescaped`.
    had_doubled: bool,
}

impl Cursor {
    pub(crate) fn new(block: Block, format: Format) -> Self {
        let bytes = match encoding::to_utf8(&block.bytes, format.encoding) {
            Cow::Borrowed(_) => block.bytes,
            Cow::Owned(bytes) => bytes,
        };
        Self {
            nul: memchr(0, &bytes).unwrap_or(bytes.len()),
            bytes,
            format,
            at: 0,
            line: block.line,
            fields: Vec::new(),
            unescaped: Vec::new(),
            has_quotes: false,
        }
    }

    /// How its records are read.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// How many fields the current record has.
    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    /// From here on each record must have so many fields.
    pub(super) fn expect(&mut self, fields: usize) {
        self.format.fields = Some(fields);
    }

    /// Reads the fields of the record that starts at `start`, and moves behind it.
    fn record(&mut self, start: usize) -> Result<(), DataError> {
        self.fields.clear();
        self.unescaped.clear();
        self.has_quotes = false;
        let mut at = start;
        loop {
            if self.fields.len() >= self.format.column_limit {
                let limit = self.format.column_limit;
                return Err(too_long(format!("the record has more than {limit} fields")));
            }
            let end = match self.bytes.get(at) {
                Some(b'"') => {
                    self.has_quotes = true;
                    self.quoted(start, at)?
                }
                _ => self.plain(at),
            };
            if self.nul < end {
                let remedy = "it is not text, or it is UTF-16: save it as UTF-8";
                return Err(DataError::data("the file holds a NUL byte", remedy));
            }
            if end - start > self.format.record_limit {
                return Err(self.too_many_bytes());
            }
            match self.bytes.get(end) {
                Some(&byte) if byte == self.format.delimiter => at = end + 1,
                _ => {
                    self.at = end;
                    return Ok(());
                }
            }
        }
    }

    /// Reads a field without quotes, and returns where it ends.
    fn plain(&mut self, start: usize) -> usize {
        let end = end_of_field(&self.bytes, start, self.format.delimiter);
        self.fields.push(Field {
            start,
            end,
            had_doubled: false,
        });
        end
    }

    /// Reads a field within quotes, the first of which is at `open`, and returns where it ends.
    fn quoted(&mut self, record: usize, open: usize) -> Result<usize, DataError> {
        let (before, mut start) = (self.unescaped.len(), open + 1);
        let close = loop {
            let Some(length) = memchr(b'"', &self.bytes[start..]) else {
                if self.bytes.len() - record > self.format.record_limit {
                    return Err(self.too_many_bytes());
                }
                let remedy = "close the quote; double it within a field";
                let line = self.line + line_ends(&self.bytes[record..open]);
                return Err(DataError::data("a quoted field is never closed", remedy).on_line(line));
            };
            let quote = start + length;
            if self.bytes.get(quote + 1) != Some(&b'"') {
                break quote;
            }
            self.unescaped.extend_from_slice(&self.bytes[start..=quote]);
            start = quote + 2;
        };
        let had_doubled = self.unescaped.len() > before || start > open + 1;
        let field = match had_doubled {
            true => {
                self.unescaped.extend_from_slice(&self.bytes[start..close]);
                (before, self.unescaped.len())
            }
            false => (start, close),
        };
        match self.bytes.get(close + 1) {
            None | Some(b'\n' | b'\r') => {}
            Some(&next) if next == self.format.delimiter => {}
            Some(&next) => {
                let remedy = match next {
                    b',' | b';' | b'\t' | b'|' => format!(
                        "set `delimiter` if it separates fields: {}",
                        quoted(&char::from(next).to_string())
                    ),
                    _ => "double every quote within a quoted field".to_owned(),
                };
                let problem = "text after the closing quote of a field";
                return Err(DataError::data(problem, remedy));
            }
        }
        self.fields.push(Field {
            start: field.0,
            end: field.1,
            had_doubled,
        });
        Ok(close + 1)
    }

    fn too_many_bytes(&self) -> DataError {
        let limit = self.format.record_limit;
        too_long(format!("the record is longer than {limit} bytes"))
    }
}

impl Fields for Cursor {
    fn next(&mut self) -> Result<Option<u64>, DataError> {
        let blank = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let blanks = rest.iter().take_while(|byte| blank(byte)).count();
        let start = self.at + blanks;
        self.line += line_ends(&self.bytes[self.at..start]);
        self.at = start;
        if start == self.bytes.len() {
            return Ok(None);
        }
        let line = self.line;
        self.record(start).map_err(|e| e.on_line(line))?;
        if self.has_quotes {
            self.line += line_ends(&self.bytes[start..self.at]);
        }
        match self.format.fields {
            Some(expected) if expected != self.fields.len() => {
                let found = self.fields.len();
                let problem =
                    format!("expected {expected} fields as in the first line, found {found}");
                let remedy = "add or remove fields, or quote a field that holds the delimiter";
                Err(DataError::data(problem, remedy).on_line(line))
            }
            _ => Ok(Some(line)),
        }
    }

    fn bytes(&self, index: usize) -> &[u8] {
        match self.fields.get(index) {
            None => &[],
            Some(field) if field.had_doubled => &self.unescaped[field.start..field.end],
            Some(field) => &self.bytes[field.start..field.end],
        }
    }
}

/// Where the field ends that starts at `start`: before a delimiter, a line end, or the end of `bytes`.
///
/// Most fields are short. Eight bytes are looked at in one step before the vectors of memchr are worth their start: a byte
/// of `x ^ pattern` is zero where the needle is, and subtracting 1 from each byte carries into the high bit of the first
/// zero ("Bit Twiddling Hacks", determine if a word has a zero byte).
fn end_of_field(bytes: &[u8], start: usize, delimiter: u8) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let zero_bytes = |x: u64| x.wrapping_sub(ONES) & !x & HIGH;
    let mut at = start;
    for _ in 0..SHORT / 8 {
        let Some(eight) = bytes.get(at..at + 8) else {
            break;
        };
        let word = u64::from_le_bytes(eight.try_into().expect("eight bytes"));
        let needles = [delimiter, b'\n', b'\r'].map(|needle| ONES * u64::from(needle));
        let found = needles.map(|needle| zero_bytes(word ^ needle));
        let found = found[0] | found[1] | found[2];
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let end = memchr3(delimiter, b'\n', b'\r', &bytes[at..]);
    end.map_or(bytes.len(), |length| at + length)
}

fn too_long(problem: String) -> DataError {
    let remedy = "shorten it, close a quote that may be open, or write many numbers a row as NPY";
    DataError::limit(problem, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_ends_at_the_first_byte_that_ends_one() {
        for length in 0..80 {
            for end in [&b""[..], b",", b"\n", b"\r", b"\r\n,"] {
                // Bytes that differ from those looked for in one bit, and what may follow.
                for filling in [b'-', b'.', b'\x0b', b'\x0c', 0x8d, 0xac, b'x'] {
                    let text = [&vec![filling; length][..], end, b",\n\r12345678"].concat();
                    assert_eq!(end_of_field(&text, 0, b','), length, "{text:?}");
                    let alone = vec![filling; length];
                    assert_eq!(end_of_field(&alone, 0, b','), length);
                }
            }
        }
    }
}
