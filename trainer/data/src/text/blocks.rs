//! A file cut into blocks of whole records.
//!
//! Where records end is told by quotes and line ends alone, which is far faster than to read the fields. So one thread can
//! cut a file for several that [read](super::Cursor) it.

use std::io::{self, Read};

use memchr::{memchr, memchr_iter, memrchr2};

use super::UTF8_REMEDY;
use crate::error::DataError;
use crate::files::cannot;
use crate::options::Limits;

/// Bytes that are read at once.
const READ: usize = 1 << 20;

/// Whole records of a file.
///
/// Where a record is longer than the limit, or a quote is never closed, the block holds what was read of it: who reads
/// it finds out.
#[derive(Debug, Default)]
pub(crate) struct Block {
    pub bytes: Vec<u8>,
    /// The line on which it starts, from 1.
    pub line: u64,
}

/// The blocks of a file, one after the other.
pub(crate) struct Blocks<'a> {
    source: Box<dyn Read + Send + 'a>,
    delimiter: u8,
    record_limit: u64,
    /// What was read and is not yet handed out; it begins with a record, or with blank lines.
    buffer: Vec<u8>,
    /// Bytes of the buffer that were looked at.
    seen: usize,
    /// Where the last complete record of the buffer ends.
    cut: usize,
    /// Whether `seen` lies within quotes.
    quoted: bool,
    /// The line on which the buffer starts.
    line: u64,
    /// Blank lines before the buffer with nothing between.
    blank: u64,
    /// Whether nothing is left to read.
    is_read: bool,
    /// Why reading ended before the file did.
    fault: Option<DataError>,
}

impl<'a> Blocks<'a> {
    /// Looks at the first bytes, and passes over a byte-order mark.
    ///
    /// # Errors
    /// If they are not those of a text in UTF-8.
    pub(crate) fn new(
        mut source: Box<dyn Read + Send + 'a>,
        delimiter: u8,
        limits: &Limits,
    ) -> Result<Self, DataError> {
        let mut head = Vec::with_capacity(READ);
        let read = source.by_ref().take(6).read_to_end(&mut head);
        read.map_err(|e| cannot("read", &e))?;
        if head.starts_with(b"\xef\xbb\xbf") {
            head.drain(..3);
        }
        if let Some((problem, remedy)) = not_text(&head) {
            return Err(DataError::data(problem, remedy).on_line(1));
        }
        Ok(Self {
            source,
            delimiter,
            record_limit: limits.record_bytes,
            buffer: head,
            seen: 0,
            cut: 0,
            quoted: false,
            line: 1,
            blank: 0,
            is_read: false,
            fault: None,
        })
    }

    /// The next block; none at the end.
    ///
    /// # Errors
    /// If the file cannot be read, after all that could be.
    pub(crate) fn next(&mut self) -> Result<Option<Block>, DataError> {
        loop {
            if self.is_read {
                break;
            }
            self.read();
            self.look();
            if self.cut > 0 {
                return self.hand_out(self.cut).map(Some);
            }
            if self.buffer.len() as u64 > self.record_limit {
                self.is_read = true;
            }
        }
        let rest = match self.fault {
            None => self.buffer.len(),
            Some(_) => self.cut,
        };
        match (rest, self.fault.take()) {
            (0, None) => Ok(None),
            (0, Some(fault)) => {
                self.buffer.clear();
                Err(fault)
            }
            (rest, fault) => {
                self.fault = fault;
                self.hand_out(rest).map(Some)
            }
        }
    }

    /// Reads on.
    fn read(&mut self) {
        let mut filled = self.buffer.len();
        let wanted = filled + READ;
        self.buffer.resize(wanted, 0);
        while filled < wanted && !self.is_read {
            match self.source.read(&mut self.buffer[filled..]) {
                Ok(0) => self.is_read = true,
                Ok(got) => filled += got,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.fault = Some(cannot("read", &e));
                    self.is_read = true;
                }
            }
        }
        self.buffer.truncate(filled);
    }

    /// Looks for the end of the last complete record.
    fn look(&mut self) {
        // What follows decides what the last byte means: a quote may be doubled, and a line end may be of two bytes.
        let held_back = match (self.is_read, self.buffer.last()) {
            (false, Some(b'"' | b'\r')) => 1,
            _ => 0,
        };
        let bytes = &self.buffer[..self.buffer.len() - held_back];
        let mut at = self.seen;
        while at < bytes.len() {
            let quote = memchr(b'"', &bytes[at..]).map(|offset| at + offset);
            let end = quote.unwrap_or(bytes.len());
            if self.quoted {
                at = match quote {
                    // Half of a doubled one.
                    Some(quote) if bytes.get(quote + 1) == Some(&b'"') => quote + 2,
                    Some(quote) => {
                        self.quoted = false;
                        quote + 1
                    }
                    None => end,
                };
                continue;
            }
            if let Some(line_end) = memrchr2(b'\n', b'\r', &bytes[at..end]) {
                self.cut = at + line_end + 1;
            }
            at = end;
            if let Some(quote) = quote {
                let before = quote.checked_sub(1).map(|before| bytes[before]);
                // Any other is a character like others.
                let opens = |byte| byte == self.delimiter || byte == b'\n' || byte == b'\r';
                self.quoted = before.is_none_or(opens);
                at += 1;
            }
        }
        self.seen = at;
    }

    /// The first bytes of the buffer.
    fn hand_out(&mut self, cut: usize) -> Result<Block, DataError> {
        let mut rest = Vec::with_capacity(self.buffer.len() - cut + READ);
        rest.extend_from_slice(&self.buffer[cut..]);
        let mut bytes = std::mem::replace(&mut self.buffer, rest);
        bytes.truncate(cut);
        self.seen = self.seen.saturating_sub(cut);
        self.cut = 0;
        let block = Block {
            line: self.line,
            bytes,
        };
        let lines = line_ends(&block.bytes);
        self.line += lines;
        self.blank += lines;
        let is_blank = block.bytes.iter().all(|byte| matches!(byte, b'\n' | b'\r'));
        if !is_blank {
            self.blank = 0;
        } else if self.blank > self.record_limit {
            // A file of nothing else would be read to its end.
            let problem = format!("more than {} blank lines", self.record_limit);
            let line = self.line - self.blank + self.record_limit + 1;
            return Err(DataError::limit(problem, "remove them").on_line(line));
        }
        Ok(block)
    }
}

/// How many lines end in `bytes`: with `\n`, `\r` or both.
pub(super) fn line_ends(bytes: &[u8]) -> u64 {
    let line_feeds = memchr_iter(b'\n', bytes).count();
    let alone = |&at: &usize| bytes.get(at + 1) != Some(&b'\n');
    let returns = memchr_iter(b'\r', bytes).filter(alone).count();
    (line_feeds + returns) as u64
}

/// What a file is that begins with `head` and is no text in UTF-8, and what to do.
fn not_text(head: &[u8]) -> Option<(&'static str, &'static str)> {
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return Some(("the file is UTF-16", UTF8_REMEDY));
    }
    if head.starts_with(b"\x93NUMPY") {
        let remedy = "name it as npy features, or write it as CSV";
        return Some(("the file is an NPY array", remedy));
    }
    let remedy = "it may be an IDX array (name it as idx images), or no data at all";
    head.starts_with(b"\0\0")
        .then_some(("the file begins with NUL bytes", remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a few bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let most = self.1.min(out.len());
            self.0.read(&mut out[..most])
        }
    }

    fn blocks(text: &[u8]) -> Vec<Block> {
        let source = Box::new(Slow(text, 1000));
        let mut blocks = Blocks::new(source, b',', &Limits::default()).unwrap();
        std::iter::from_fn(|| blocks.next().unwrap()).collect()
    }

    #[test]
    fn blocks_are_whole_records_wherever_the_file_is_cut() {
        let record = "1,\"a \"\"quoted\"\"\r\nfield, of \n lines\",5\" wide\r\n";
        for shift in 0..record.len() {
            let text = format!("{}\n{}", "x".repeat(shift), record.repeat(60_000));
            let blocks = blocks(text.as_bytes());
            assert!(blocks.len() > 2, "{}", blocks.len());
            let mut line = 1;
            for (place, block) in blocks.iter().enumerate() {
                let starts = match place {
                    0 => block.bytes.starts_with(&text.as_bytes()[..shift + 1]),
                    _ => block.bytes.starts_with(b"1,\"a "),
                };
                assert!(starts && block.bytes.ends_with(b"wide\r\n"), "{shift}");
                assert_eq!(block.line, line);
                line += line_ends(&block.bytes);
            }
            let all: Vec<u8> = blocks.into_iter().flat_map(|block| block.bytes).collect();
            assert!(all == text.as_bytes());
        }
    }

    #[test]
    fn lines_end_in_three_ways() {
        assert_eq!(line_ends(b"a\nb\r\nc\rd\r\r\n\n"), 6);
        assert_eq!(line_ends(b""), 0);
    }
}
