//! Strict, bounded reading of CSV records.
//!
//! The `csv` crate parses; in front of it stands [`Strict`], which refuses what the crate would
//! let through and which would yield a wrong table: a quote that is never closed (the rest of
//! the file becomes one field), text after a closing quote, NUL bytes, records without bound.

use std::collections::{HashSet, VecDeque};
use std::io::{self, Read};

use csv::ByteRecord;
use trainyard_core::schema::Encoding;

use crate::columns::Reading;
use crate::error::{DataError, excerpt, quoted};
use crate::files::cannot;
use crate::options::Limits;

/// Records of a CSV file, one at a time, after its header.
pub(crate) struct Records<'a> {
    reader: csv::Reader<Strict<Box<dyn Read + 'a>>>,
    record: ByteRecord,
    header: Vec<String>,
    /// The line of the current record, if it is a row that nobody has asked for: the first of a file without a header.
    waiting: Option<u64>,
}

impl<'a> Records<'a> {
    /// Reads the header, or without one the first row. Errors name lines and columns; the caller adds the file.
    pub(crate) fn new(
        source: Box<dyn Read + 'a>,
        reading: &Reading,
        limits: &Limits,
    ) -> Result<Self, DataError> {
        let delimiter = reading.delimiter;
        let source = decoded(source, reading.encoding);
        if !delimiter.is_ascii() || matches!(delimiter, b'"' | b'\r' | b'\n' | 0) {
            return Err(DataError::options(
                format!("0x{delimiter:02x} cannot be the delimiter"),
                "use a character such as \",\", \";\" or a tab",
            ));
        }
        let strict = Strict::new(source, delimiter, limits).map_err(|e| cannot("read", &e))?;
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .from_reader(strict);
        let mut records = Self {
            reader,
            record: ByteRecord::new(),
            header: Vec::new(),
            waiting: None,
        };
        match reading.headerless {
            false => records.read_header()?,
            true => records.count_columns()?,
        }
        Ok(records)
    }

    /// Names of the columns.
    pub(crate) fn header(&self) -> &[String] {
        &self.header
    }

    fn read_header(&mut self) -> Result<(), DataError> {
        let remedy = "the first line must name the columns";
        let Some(line) = self.advance()? else {
            return Err(DataError::data("the file is empty", remedy));
        };
        let mut names = HashSet::new();
        for (index, name) in self.record.iter().enumerate() {
            let name = match std::str::from_utf8(name) {
                Ok(name) => name.trim(),
                Err(_) => {
                    let problem = format!("the name of column {} is not UTF-8", index + 1);
                    return Err(DataError::data(problem, UTF8_REMEDY).on_line(line));
                }
            };
            // Columns without a name are left out.
            if !name.is_empty() && !names.insert(name) {
                let problem = format!("two columns are named {}", quoted(name));
                return Err(DataError::data(problem, "rename one of them").on_line(line));
            }
        }
        self.header = self
            .record
            .iter()
            .map(|name| String::from_utf8_lossy(name).trim().to_owned())
            .collect();
        Ok(())
    }

    /// Names the columns by their positions in the first row.
    fn count_columns(&mut self) -> Result<(), DataError> {
        self.waiting = self.advance()?;
        if self.waiting.is_none() {
            return Err(DataError::data("the file is empty", "add rows"));
        }
        let positions = 1..=self.record.len();
        self.header = positions
            .map(|position| format!("column {position}"))
            .collect();
        Ok(())
    }

    /// Moves to the next record and returns the line it starts on.
    pub(crate) fn next(&mut self) -> Result<Option<u64>, DataError> {
        if let Some(line) = self.waiting.take() {
            return Ok(Some(line));
        }
        let Some(line) = self.advance()? else {
            return Ok(None);
        };
        let (found, expected) = (self.record.len(), self.header.len());
        if found != expected {
            let problem = format!("expected {expected} fields as in the first line, found {found}");
            let remedy = "add or remove fields, or quote a field that holds the delimiter";
            return Err(DataError::data(problem, remedy).on_line(line));
        }
        Ok(Some(line))
    }

    /// A field of the current record, without surrounding blanks.
    pub(crate) fn field(&self, index: usize) -> Result<&str, DataError> {
        let bytes = self.record.get(index).unwrap_or_default();
        std::str::from_utf8(bytes).map(str::trim).map_err(|_| {
            let shown = excerpt(&String::from_utf8_lossy(bytes));
            DataError::data(format!("\"{shown}\" is not UTF-8"), UTF8_REMEDY)
        })
    }

    fn advance(&mut self) -> Result<Option<u64>, DataError> {
        match self.reader.read_byte_record(&mut self.record) {
            Ok(false) => Ok(None),
            Ok(true) => Ok(Some(self.reader.get_mut().next_start())),
            Err(error) => Err(
                match (self.reader.get_mut().fault.take(), error.into_kind()) {
                    (Some(fault), _) => fault,
                    (None, csv::ErrorKind::Io(error)) => cannot("read", &error),
                    (None, other) => DataError::data(format!("not CSV: {other:?}"), ""),
                },
            ),
        }
    }
}

const UTF8_REMEDY: &str =
    "save the file as UTF-8, or set `encoding` to Windows1252 or Latin1 if it is one of them";

/// The file as UTF-8.
fn decoded<'a>(source: Box<dyn Read + 'a>, encoding: Encoding) -> Box<dyn Read + 'a> {
    match encoding {
        Encoding::Utf8 => source,
        Encoding::Latin1 | Encoding::Windows1252 => Box::new(SingleByte {
            inner: source,
            is_windows: encoding == Encoding::Windows1252,
            raw: vec![0; 1 << 15],
            text: VecDeque::new(),
        }),
    }
}

/// Text of one byte a character as UTF-8.
struct SingleByte<R> {
    inner: R,
    is_windows: bool,
    raw: Vec<u8>,
    /// What was read, and not yet handed out.
    text: VecDeque<u8>,
}

/// The characters of Windows-1252 from 0x80 to 0x9f, as the WHATWG's Encoding Standard has them: five bytes that stand
/// for none are control characters.
const WINDOWS: [char; 32] = [
    '\u{20ac}', '\u{81}', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}',
    '\u{2c6}', '\u{2030}', '\u{160}', '\u{2039}', '\u{152}', '\u{8d}', '\u{17d}', '\u{8f}',
    '\u{90}', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}', '\u{2022}', '\u{2013}', '\u{2014}',
    '\u{2dc}', '\u{2122}', '\u{161}', '\u{203a}', '\u{153}', '\u{9d}', '\u{17e}', '\u{178}',
];

impl<R: Read> Read for SingleByte<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.text.is_empty() {
            let got = self.inner.read(&mut self.raw)?;
            for &byte in &self.raw[..got] {
                let character = match byte {
                    0x80..=0x9f if self.is_windows => WINDOWS[usize::from(byte - 0x80)],
                    byte => char::from(byte),
                };
                self.text
                    .extend(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        self.text.read(out)
    }
}

/// Where the scanner stands; the same automaton as the `csv` crate's, without its leniency.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a record; line ends here are blank lines.
    RecordStart,
    FieldStart,
    Plain,
    Quoted,
    /// After a quote within a quoted field: the field's end, or half of an escaped quote.
    Closing,
}

/// A reader that passes bytes on unchanged (but for a byte-order mark) and stops at the first
/// that the rules forbid. It also knows on which line each record starts, which the parser does
/// not quite (it counts blank lines and the second half of `\r\n` late).
struct Strict<R> {
    inner: R,
    head: VecDeque<u8>,
    delimiter: u8,
    record_limit: u64,
    column_limit: usize,
    state: State,
    line: u64,
    after_cr: bool,
    quote_line: u64,
    record_start: u64,
    record_bytes: u64,
    columns: usize,
    starts: VecDeque<u64>,
    fault: Option<DataError>,
    ended: bool,
}

impl<R: Read> Strict<R> {
    fn new(mut inner: R, delimiter: u8, limits: &Limits) -> io::Result<Self> {
        let mut head = Vec::with_capacity(6);
        inner.by_ref().take(6).read_to_end(&mut head)?;
        if head.starts_with(b"\xef\xbb\xbf") {
            head.drain(..3);
        }
        let mut strict = Self {
            inner,
            head: VecDeque::new(),
            delimiter,
            record_limit: limits.record_bytes,
            column_limit: limits.columns,
            state: State::RecordStart,
            line: 1,
            after_cr: false,
            quote_line: 0,
            record_start: 1,
            record_bytes: 0,
            columns: 0,
            starts: VecDeque::new(),
            fault: None,
            ended: false,
        };
        if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
            strict.fail(1, "the file is UTF-16", UTF8_REMEDY);
        }
        if head.starts_with(b"\x93NUMPY") {
            let remedy = "name it as npy features, or write it as CSV";
            strict.fail(1, "the file is an NPY array", remedy);
        }
        if head.starts_with(b"\0\0") {
            let remedy = "it may be an IDX array (name it as idx images), or no data at all";
            strict.fail(1, "the file begins with NUL bytes", remedy);
        }
        strict.head = head.into();
        Ok(strict)
    }

    /// The line of the next record that the parser has not been asked about yet.
    fn next_start(&mut self) -> u64 {
        self.starts.pop_front().unwrap_or(self.line)
    }

    fn fail(&mut self, line: u64, problem: impl Into<String>, remedy: &str) {
        self.fault = Some(DataError::data(problem, remedy).on_line(line));
    }

    /// Follows one byte; false if it is refused.
    fn follow(&mut self, byte: u8) -> bool {
        let line_end = byte == b'\n' || byte == b'\r';
        if byte == b'\r' || (byte == b'\n' && !self.after_cr) {
            self.line += 1;
        }
        self.after_cr = byte == b'\r';
        if self.state == State::RecordStart {
            if line_end {
                // What is between two records is bounded as they are: a file of nothing else would be read to its end.
                self.record_bytes += 1;
                return self.blanks_within_bounds();
            }
            self.record_start = self.line;
            self.starts.push_back(self.line);
            self.record_bytes = 0;
            self.columns = 1;
            self.state = State::FieldStart;
        }
        self.record_bytes += 1;
        self.state = match (self.state, byte) {
            (State::Quoted, b'"') => State::Closing,
            (State::Quoted, _) => State::Quoted,
            (State::Closing, b'"') => State::Quoted,
            (_, _) if line_end => {
                self.record_bytes = 0;
                State::RecordStart
            }
            (_, b) if b == self.delimiter => {
                self.columns += 1;
                State::FieldStart
            }
            (State::FieldStart, b'"') => {
                self.quote_line = self.line;
                State::Quoted
            }
            (State::Closing, _) => {
                let problem = "text after the closing quote of a field";
                self.fail(
                    self.record_start,
                    problem,
                    "double every quote within a quoted field",
                );
                return false;
            }
            _ => State::Plain,
        };
        if byte == 0 {
            let remedy = "it is not text, or it is UTF-16: save it as UTF-8";
            self.fail(self.record_start, "the file holds a NUL byte", remedy);
            return false;
        }
        self.within_bounds()
    }

    fn blanks_within_bounds(&mut self) -> bool {
        if self.record_bytes <= self.record_limit {
            return true;
        }
        let problem = format!("more than {} blank lines", self.record_limit);
        self.fail(self.line, problem, "remove them");
        false
    }

    fn within_bounds(&mut self) -> bool {
        let problem = if self.columns > self.column_limit {
            format!("the record has more than {} fields", self.column_limit)
        } else if self.record_bytes > self.record_limit {
            format!("the record is longer than {} bytes", self.record_limit)
        } else {
            return true;
        };
        let remedy = match self.state {
            State::Quoted => "close the quoted field, or shorten it",
            _ => "shorten it; many numbers a row fit an NPY file better",
        };
        self.fault = Some(DataError::limit(problem, remedy).on_line(self.record_start));
        false
    }
}

impl<R: Read> Read for Strict<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.fault.is_some() {
            return Err(io::Error::other("refused"));
        }
        if self.ended || out.is_empty() {
            return Ok(0);
        }
        let mut got = self.head.read(out)?;
        while got == 0 {
            match self.inner.read(out) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) => break,
                read => got = read?,
            }
        }
        if got == 0 {
            self.ended = true;
            if self.state == State::Quoted {
                let problem = "a quoted field is never closed";
                self.fail(
                    self.quote_line,
                    problem,
                    "close the quote; double it within a field",
                );
                return Err(io::Error::other("refused"));
            }
        }
        // What precedes a refused byte is passed on first, so that the earliest error is told.
        match out[..got].iter().position(|&byte| !self.follow(byte)) {
            Some(0) => Err(io::Error::other("refused")),
            Some(good) => Ok(good),
            None => Ok(got),
        }
    }
}
