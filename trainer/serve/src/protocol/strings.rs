//! Many byte strings in one buffer.

use bytes::Bytes;

use super::error::ProtocolError;

/// Bytes that hold the length of a byte string in binary.
pub(super) const LENGTH_BYTES: usize = size_of::<u32>();

/// Byte strings, one after the other in one buffer. Those of a request in binary lie in its body, which lives as long as they do.
#[derive(Clone, Debug, Default)]
pub struct ByteStrings {
    buffer: Bytes,
    /// Where each ends.
    ends: Vec<usize>,
    /// Bytes between the end of one and the start of the next: its length, where they come from binary.
    gap: usize,
}

impl ByteStrings {
    /// The strings, in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let mut end_before = 0;
        self.ends.iter().map(move |&end| {
            let start = end_before + self.gap;
            end_before = end;
            self.buffer.get(start..end).unwrap_or_default()
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The one string that is this buffer.
    pub(super) fn one(buffer: Bytes) -> Self {
        Self {
            ends: vec![buffer.len()],
            buffer,
            gap: 0,
        }
    }

    /// Exactly `count` strings, each with its length before it.
    ///
    /// # Errors
    /// If one is cut off, or there are fewer or more.
    pub(super) fn with_lengths(buffer: Bytes, count: u64) -> Result<Self, ProtocolError> {
        // As many as the bytes can hold, whatever the shape says.
        let most = usize::try_from(count).unwrap_or(usize::MAX);
        let mut ends = Vec::with_capacity(most.min(buffer.len() / LENGTH_BYTES));
        let mut rest = &buffer[..];
        while !rest.is_empty() {
            let place = ends.len();
            if place as u64 == count {
                return Err(ProtocolError::invalid(format!(
                    "{} bytes are left after the {count} elements of its shape; send one element for each",
                    rest.len()
                )));
            }
            rest = split_string(rest).ok_or_else(|| {
                ProtocolError::invalid(format!(
                    "element {place} is cut off at the end of the {} bytes; before each string send its length in 4 bytes",
                    buffer.len()
                ))
            })?;
            ends.push(buffer.len() - rest.len());
        }
        if ends.len() as u64 != count {
            return Err(ProtocolError::invalid(format!(
                "the {} bytes hold {} elements, its shape has {count}; send one element for each",
                buffer.len(),
                ends.len()
            )));
        }
        Ok(Self {
            buffer,
            ends,
            gap: LENGTH_BYTES,
        })
    }
}

/// What follows the first string and its length; none if it is cut off.
fn split_string(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    rest.get(usize::try_from(u32::from_le_bytes(*length)).ok()?..)
}

impl PartialEq for ByteStrings {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<S: AsRef<[u8]>> FromIterator<S> for ByteStrings {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let mut builder = Builder::default();
        for string in strings {
            builder.push(string.as_ref());
        }
        builder.finish()
    }
}

/// Byte strings that still become more.
#[derive(Debug, Default)]
pub(super) struct Builder {
    buffer: Vec<u8>,
    ends: Vec<usize>,
}

impl Builder {
    pub(super) fn push(&mut self, string: &[u8]) {
        self.buffer.extend_from_slice(string);
        self.ends.push(self.buffer.len());
    }

    pub(super) fn finish(self) -> ByteStrings {
        ByteStrings {
            buffer: self.buffer.into(),
            ends: self.ends,
            gap: 0,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s04_byte_strings_are_the_same_wherever_they_come_from() {
        let read = ByteStrings::with_lengths(
            Bytes::from_static(b"\x01\0\0\0a\0\0\0\0\x02\0\0\0\xff\0"),
            3,
        );
        let read = read.expect("three strings");
        let strings: [&[u8]; 3] = [b"a", b"", b"\xff\0"];
        assert!(read.iter().eq(strings));
        assert_eq!(read, strings.into_iter().collect());
        assert_eq!((read.len(), read.iter().len()), (3, 3));
        assert_ne!(read, [b"a", b"b"].into_iter().collect());
    }

    #[test]
    fn s04_byte_strings_that_are_cut_off_few_or_many_are_refused() {
        for (bytes, problem) in [
            (&b"\x01\0\0"[..], "element 0 is cut off"),
            (b"\0\0\0\0\x05\0\0\0abcd", "element 1 is cut off"),
            (b"\xff\xff\xff\xffa", "element 0 is cut off"),
            (b"\0\0\0\0", "the 4 bytes hold 1 elements, its shape has 2"),
            (b"", "the 0 bytes hold 0 elements, its shape has 2"),
            (b"\0\0\0\0\0\0\0\0\0", "1 bytes are left after the 2"),
        ] {
            let error = ByteStrings::with_lengths(Bytes::from_static(bytes), 2);
            let error = error.expect_err(problem);
            assert!(error.message.starts_with(problem), "{error}");
        }
    }
}
