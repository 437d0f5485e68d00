//! Arrays of numbers: NPY and IDX files, fitted and encoded.

mod encode;
mod idx;
mod npy;

use std::io::Read;

use trainyard_core::metrics::Task;

use crate::classes::{DISTINCT, RawLabels};
use crate::columns::RawValues;
use crate::error::DataError;
use crate::files::cannot;
use crate::golden::RawArray;
use crate::number;
use crate::options::Limits;
use crate::table::ENCODED;

/// The formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// NumPy's.
    Npy,
    /// MNIST's.
    Idx,
}

/// Element types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dtype {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

impl Dtype {
    const ALL: [Self; 10] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::U64,
        Self::I64,
        Self::F32,
        Self::F64,
    ];

    /// Bytes of one element.
    fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// NumPy's name without the byte order.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::U8 => "u1",
            Self::I8 => "i1",
            Self::U16 => "u2",
            Self::I16 => "i2",
            Self::U32 => "u4",
            Self::I32 => "i4",
            Self::U64 => "u8",
            Self::I64 => "i8",
            Self::F32 => "f4",
            Self::F64 => "f8",
        }
    }

    fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub dtype: Dtype,
    pub big_endian: bool,
    /// Whether the first axis varies fastest.
    pub fortran: bool,
    pub shape: Vec<u64>,
}

/// An array as read: little-endian or big-endian elements, the last axis varying fastest.
#[derive(Clone, Debug)]
pub(crate) struct Array {
    pub dtype: Dtype,
    big_endian: bool,
    pub shape: Vec<usize>,
    /// The place of its first row in the file.
    first: u64,
    bytes: Vec<u8>,
}

/// Rows of an array, part by part.
pub(crate) struct ArrayRows<'a> {
    /// What is still to be read; none where all was read at once.
    source: Option<Box<dyn Read + 'a>>,
    header: Header,
    /// What was read at once.
    whole: Option<Array>,
    /// Rows handed out.
    rows: u64,
}

impl<'a> ArrayRows<'a> {
    /// Reads the header; of an array in which the first axis varies fastest, all.
    pub(crate) fn new(source: Box<dyn Read + 'a>, limits: &Limits) -> Result<Self, DataError> {
        let (header, source) = Array::open(source, None)?;
        let (source, whole) = match header.fortran {
            true => (None, Some(Array::payload(source, header.clone(), limits)?)),
            false => {
                header.bytes(limits)?;
                header.check_rows()?;
                (Some(source), None)
            }
        };
        Ok(Self {
            source,
            header,
            whole,
            rows: 0,
        })
    }

    /// The rows of an array in memory.
    pub(crate) fn of(raw: RawArray, limits: &Limits) -> Result<Self, DataError> {
        let Some(dtype) = Dtype::ALL
            .into_iter()
            .find(|dtype| dtype.name() == raw.dtype)
        else {
            let problem = format!("{:?} is no type of numbers", raw.dtype);
            return Err(DataError::data(
                problem,
                "give one of NumPy's, such as u1 or f4",
            ));
        };
        let header = Header::plain(dtype, raw.shape);
        header.check_rows()?;
        let expected = header.bytes(limits)?;
        let found = raw.bytes.len() as u64;
        if found != expected {
            return Err(header.cut_short(limits, found));
        }
        let whole = Array::new(&header, raw.bytes);
        Ok(Self {
            source: None,
            header,
            whole: Some(whole),
            rows: 0,
        })
    }

    /// The next rows, at most `most`; none at the end.
    pub(crate) fn next(
        &mut self,
        most: usize,
        limits: &Limits,
    ) -> Result<Option<Array>, DataError> {
        let all = self.header.shape.first().copied().unwrap_or(0);
        let rows = (all - self.rows).min(most as u64);
        if rows == 0 {
            return Ok(None);
        }
        let first = self.rows;
        self.rows += rows;
        let mut header = self.header.clone();
        header.shape[0] = rows;
        let part = match (&self.whole, &mut self.source) {
            (Some(whole), _) => whole.rows_at(first as usize, rows as usize),
            (None, Some(source)) => {
                let expected = header.bytes(limits)?;
                let mut bytes = Vec::new();
                let read = source.by_ref().take(expected).read_to_end(&mut bytes);
                read.map_err(|e| cannot("read", &e))?;
                if (bytes.len() as u64) < expected {
                    let before = self.header.bytes(limits)? / all * first;
                    return Err(self.header.cut_short(limits, before + bytes.len() as u64));
                }
                if self.rows == all && source.read(&mut [0]).map_err(|e| cannot("read", &e))? > 0 {
                    return Err(self.header.too_long(limits));
                }
                Array::new(&header, bytes)
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Array { first, ..part }))
    }
}

impl Header {
    /// Of numbers in little-endian order, the last axis varying fastest.
    pub(crate) fn plain(dtype: Dtype, shape: Vec<u64>) -> Self {
        Self {
            dtype,
            big_endian: false,
            fortran: false,
            shape,
        }
    }

    /// Bytes of the elements that it announces.
    fn bytes(&self, limits: &Limits) -> Result<u64, DataError> {
        let elements = self.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
        let bytes = elements
            .filter(|&n| n <= limits.values)
            .and_then(|n| n.checked_mul(self.dtype.size() as u64))
            .filter(|&n| n <= limits.file_bytes && usize::try_from(n).is_ok());
        bytes.ok_or_else(|| {
            let problem = format!(
                "the header's shape {:?} is larger than the limit",
                self.shape
            );
            DataError::limit(problem, "split the array, or mend the header")
        })
    }

    fn check_rows(&self) -> Result<(), DataError> {
        if self.shape.contains(&0) || self.shape.is_empty() {
            let problem = format!("the array of shape {:?} holds no rows", self.shape);
            let remedy = "the first axis must count rows, at least one";
            return Err(DataError::data(problem, remedy));
        }
        Ok(())
    }

    fn cut_short(&self, limits: &Limits, found: u64) -> DataError {
        let expected = self.bytes(limits).unwrap_or_default();
        let problem = format!("the header announces {expected} bytes of data, found {found}");
        DataError::data(problem, "the file is cut short; write it again")
    }

    fn too_long(&self, limits: &Limits) -> DataError {
        let expected = self.bytes(limits).unwrap_or_default();
        let problem = format!("the header announces {expected} bytes of data, found more");
        DataError::data(problem, "keep one array a file; write it again")
    }
}

impl Array {
    /// Reads a whole file. `format` is what it must be; `None` lets its first bytes tell.
    pub(crate) fn read<'a>(
        source: Box<dyn Read + 'a>,
        format: Option<Format>,
        limits: &Limits,
    ) -> Result<Self, DataError> {
        let (header, source) = Self::open(source, format)?;
        Self::payload(source, header, limits)
    }

    /// Reads the header of a file.
    fn open<'a>(
        mut source: Box<dyn Read + 'a>,
        format: Option<Format>,
    ) -> Result<(Header, Box<dyn Read + 'a>), DataError> {
        let mut magic = [0u8; 4];
        fill(&mut source, &mut magic)?;
        let found = match magic {
            [0x93, b'N', b'U', b'M'] => Some(Format::Npy),
            [0, 0, ..] => Some(Format::Idx),
            _ => None,
        };
        let header = match found.filter(|found| format.is_none_or(|format| format == *found)) {
            Some(Format::Npy) => npy::header(&mut source)?,
            Some(Format::Idx) => idx::header(magic, &mut source)?,
            None => {
                let expected = match format {
                    Some(Format::Npy) => "an NPY file",
                    Some(Format::Idx) => "an IDX file",
                    None => "an NPY or IDX file",
                };
                let problem = format!("expected {expected}, found other first bytes: {magic:02x?}");
                return Err(DataError::data(problem, "name a file of that format"));
            }
        };
        Ok((header, source))
    }

    /// Reads what the header announces. Memory grows with the bytes that arrive, not with what
    /// the header claims.
    fn payload<'a>(
        source: Box<dyn Read + 'a>,
        header: Header,
        limits: &Limits,
    ) -> Result<Self, DataError> {
        let expected = header.bytes(limits)?;
        // As read, beside it while it is reordered, and beside it encoded.
        let encoded = (expected / header.dtype.size() as u64).saturating_mul(ENCODED);
        let beside = if header.fortran {
            expected.max(encoded)
        } else {
            encoded
        };
        limits.check_memory(expected.saturating_add(beside))?;
        let mut bytes = Vec::new();
        let read = source.take(expected + 1).read_to_end(&mut bytes);
        read.map_err(|e| match e.kind() {
            std::io::ErrorKind::OutOfMemory => {
                DataError::limit("the array does not fit the memory", "use a larger machine")
            }
            _ => cannot("read", &e),
        })?;
        let found = bytes.len() as u64;
        if found < expected {
            return Err(header.cut_short(limits, found));
        }
        if found > expected {
            return Err(header.too_long(limits));
        }
        header.check_rows()?;
        let mut array = Self::new(&header, bytes);
        if header.fortran {
            array.reorder();
        }
        Ok(array)
    }

    /// The elements that a header announces. Their number was checked, so that each axis fits.
    pub(crate) fn new(header: &Header, bytes: Vec<u8>) -> Self {
        Self {
            dtype: header.dtype,
            big_endian: header.big_endian,
            shape: header.shape.iter().map(|&d| d as usize).collect(),
            first: 0,
            bytes,
        }
    }

    /// Some of the rows.
    fn rows_at(&self, first: usize, rows: usize) -> Self {
        let size = self.width() * self.dtype.size();
        let mut shape = self.shape.clone();
        shape[0] = rows;
        Self {
            shape,
            bytes: self.bytes[first * size..(first + rows) * size].to_vec(),
            ..*self
        }
    }

    /// Bytes that it holds as read.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Bytes that it takes as read and encoded.
    pub(crate) fn all_bytes(&self) -> u64 {
        let elements = self.bytes.len() / self.dtype.size();
        self.bytes().saturating_add(elements as u64 * ENCODED)
    }

    /// Rows: the length of the first axis.
    pub(crate) fn rows(&self) -> usize {
        self.shape[0]
    }

    /// Reorders elements from first-axis-fastest to last-axis-fastest.
    fn reorder(&mut self) {
        let size = self.dtype.size();
        let mut strides = vec![1; self.shape.len()];
        for axis in 1..self.shape.len() {
            strides[axis] = strides[axis - 1] * self.shape[axis - 1];
        }
        let mut index = vec![0; self.shape.len()];
        let mut source = 0;
        let mut out = Vec::with_capacity(self.bytes.len());
        for _ in 0..self.bytes.len() / size {
            out.extend_from_slice(&self.bytes[source * size..(source + 1) * size]);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                source += strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                source -= strides[axis] * self.shape[axis];
                index[axis] = 0;
            }
        }
        self.bytes = out;
    }

    /// Elements of one row.
    pub(crate) fn width(&self) -> usize {
        self.shape[1..].iter().product()
    }

    /// Replaces `out` with the elements of one row. Integers beyond 2^53 round to the nearest f64.
    pub(crate) fn row(&self, row: usize, out: &mut Vec<f64>) {
        let size = self.width() * self.dtype.size();
        let bytes = &self.bytes[row * size..(row + 1) * size];
        out.clear();
        macro_rules! decode {
            ($type:ty) => {
                out.extend(bytes.as_chunks().0.iter().map(|&element| {
                    let value = match self.big_endian {
                        true => <$type>::from_be_bytes(element),
                        false => <$type>::from_le_bytes(element),
                    };
                    value as f64
                }))
            };
        }
        match self.dtype {
            Dtype::U8 => decode!(u8),
            Dtype::I8 => decode!(i8),
            Dtype::U16 => decode!(u16),
            Dtype::I16 => decode!(i16),
            Dtype::U32 => decode!(u32),
            Dtype::I32 => decode!(i32),
            Dtype::U64 => decode!(u64),
            Dtype::I64 => decode!(i64),
            Dtype::F32 => decode!(f32),
            Dtype::F64 => decode!(f64),
        }
    }

    /// Refuses values that no f32 holds.
    pub(crate) fn check_values(&self) -> Result<(), DataError> {
        if !self.dtype.is_float() {
            return Ok(());
        }
        let mut values = Vec::new();
        for row in 0..self.rows() {
            self.row(row, &mut values);
            let checks = values.iter().map(|&value| number::check(value)).enumerate();
            if let Some((at, problem)) = checks.filter_map(|(i, c)| Some((i, c.err()?))).next() {
                let value = values[at];
                let row = self.first + row as u64;
                let problem =
                    format!("{problem}, found {value} at row {row} (from 0), element {at}");
                return Err(DataError::data(problem, "mend or remove the row"));
            }
        }
        Ok(())
    }

    /// Reads labels: one number a row, `[rows]` or `[rows, 1]`.
    pub(crate) fn labels(&self, task: Task, limits: &Limits) -> Result<RawLabels, DataError> {
        if !matches!(self.shape[..], [_] | [_, 1]) {
            let problem = format!("expected labels of shape [rows], found {:?}", self.shape);
            let remedy = "give one number a row (for one-hot labels, the index of the class)";
            return Err(DataError::data(problem, remedy));
        }
        self.check_values()?;
        let mut labels = RawLabels::new(task);
        let mut values = Vec::new();
        let mut bytes = 0;
        for row in 0..self.rows() {
            self.row(row, &mut values);
            let value = values[0];
            match &mut labels.0 {
                RawValues::Numbers(targets) => targets.push(value),
                RawValues::Codes { names, codes } => {
                    if value.fract() != 0.0 || value.abs() >= DISTINCT {
                        let problem =
                            format!("expected a class number, found {value} at row {row}");
                        let remedy = "store classes as integers, or set the task to regression";
                        return Err(DataError::data(problem, remedy));
                    }
                    let name = (value + 0.0).to_string();
                    codes.push(names.intern(&name, limits, &mut bytes)?);
                }
            }
        }
        Ok(labels)
    }
}

/// Fills a buffer from the file's header.
fn fill(source: &mut dyn Read, out: &mut [u8]) -> Result<(), DataError> {
    source.read_exact(out).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => DataError::data(
            "the file ends within its header",
            "it is empty or cut short; write it again",
        ),
        _ => cannot("read", &e),
    })
}
