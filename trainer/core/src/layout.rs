//! The flat arena: where each parameter lies, how the arena is cut, what it starts as, and the
//! digest that names a model.

use std::num::NonZeroUsize;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::philox::{Purpose, STREAM_DRAWS, Stream};

mod digest;

pub use digest::{ModelHasher, model_sha256};

/// Floats in a chunk of a job (256 KiB); the arena's last may be shorter.
pub const CHUNK: usize = 65_536;

/// Floats in the 64-byte block on which every parameter starts.
pub const ALIGNMENT: usize = 16;

/// How a parameter is initialized.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Init {
    /// Uniform in `[-bound, bound]`, from the parameter's own random stream.
    Uniform {
        /// Largest magnitude.
        bound: f32,
    },
    /// The same value everywhere.
    Constant(f32),
}

/// A parameter as the model declares it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Param {
    /// Unique name, such as `layers.0.weight`.
    pub name: String,
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: Vec<u64>,
    /// Its values before step 0.
    pub init: Init,
}

/// A parameter with its place in the arena.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// The parameter.
    pub param: Param,
    /// First float; a multiple of [`ALIGNMENT`].
    pub offset: usize,
    /// Floats, without padding.
    pub len: usize,
}

impl Placed {
    /// Where the parameter lies in the arena.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len
    }
}

/// Why parameters cannot be laid out, or an arena does not fit its layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// There is nothing to train.
    #[error("the model has no parameters")]
    Empty,
    /// Two parameters have one name.
    #[error("two parameters are named {0}")]
    Duplicate(String),
    /// A parameter has no elements.
    #[error("parameter {name} has shape {shape:?}: every dimension must be at least 1")]
    ZeroDimension {
        /// The parameter.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// A parameter, or all of them together, cannot be addressed.
    #[error("parameter {name} of shape {shape:?} makes the model too large to address")]
    TooLarge {
        /// The parameter with which the model grows too large.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// A range reaches past the arena, or a buffer does not match its range.
    #[error("{actual} floats were given for {expected} of the arena")]
    Length {
        /// What the layout needs.
        expected: usize,
        /// What was given.
        actual: usize,
    },
    /// Tensors to be digested are not in strictly ascending name order.
    #[error("tensor {0} is out of name order, or repeated")]
    Order(String),
    /// A tensor's bytes are not four for each element of its shape.
    #[error("tensor {name} of shape {shape:?} has {bytes} bytes; F32 has 4 for each element")]
    Bytes {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Bytes given.
        bytes: usize,
    },
}

/// The arena of a model: parameters in name order (bytewise), each on a 64-byte boundary, zero
/// padding behind each up to the next boundary.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    params: Vec<Placed>,
    len: usize,
    chunk: usize,
    chunks: u32,
}

/// Of `chunks` chunks, those of server `k` of `m`: `ceil(k C / m) .. ceil((k + 1) C / m)`. Empty if there
/// is no such server, or fewer chunks than servers leave it none. Chunk 0 is always with server 0: the
/// coordinator, which lives there, counts steps by it.
pub fn shard(chunks: u32, k: u32, m: u32) -> Range<u32> {
    let cut = |i: u64| match m {
        0 => chunks,
        _ => (i.min(m.into()) * u64::from(chunks)).div_ceil(m.into()) as u32,
    };
    cut(k.into())..cut(u64::from(k) + 1)
}

impl Layout {
    /// Lays the parameters out, whatever order they come in.
    ///
    /// # Errors
    /// If there are none, a name repeats, a dimension is 0, or the sizes are too large: 2^34 floats
    /// in one parameter, 2^48 (2^32 chunks) in all.
    pub fn new(mut params: Vec<Param>) -> Result<Self, LayoutError> {
        params.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = params.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(LayoutError::Duplicate(pair[0].name.clone()));
        }
        let mut placed = Vec::with_capacity(params.len());
        let mut end = 0;
        for param in params {
            let (offset, len) = (end, elements(&param)?);
            end = padded_end(offset, len).ok_or_else(|| too_large(&param))?;
            placed.push(Placed { param, offset, len });
        }
        if placed.is_empty() {
            return Err(LayoutError::Empty);
        }
        // `padded_end` keeps the number of chunks within 32 bits.
        Ok(Layout {
            params: placed,
            len: end,
            chunk: CHUNK,
            chunks: end.div_ceil(CHUNK) as u32,
        })
    }

    /// The same arena in chunks of another length. Jobs have [`CHUNK`]; a simulation cuts an arena of a
    /// few floats into several.
    ///
    /// # Errors
    /// If there would be more than 2^32 chunks.
    pub fn in_chunks_of(self, floats: NonZeroUsize) -> Result<Self, LayoutError> {
        let chunk = floats.get();
        match u32::try_from(self.len.div_ceil(chunk)) {
            Ok(chunks) => Ok(Layout {
                chunk,
                chunks,
                ..self
            }),
            Err(_) => Err(self
                .params
                .last()
                .map_or(LayoutError::Empty, |last| too_large(&last.param))),
        }
    }

    /// Floats in the arena, padding included; a multiple of [`ALIGNMENT`], never 0.
    #[allow(clippy::len_without_is_empty, reason = "a layout is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Parameters in name order, with their places.
    pub fn params(&self) -> std::slice::Iter<'_, Placed> {
        self.params.iter()
    }

    /// Parameters as users count them: floats without padding.
    pub fn parameter_count(&self) -> usize {
        self.params.iter().map(|placed| placed.len).sum()
    }

    /// Chunks in the arena.
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// The floats of a chunk; empty if there is no such chunk.
    pub fn chunk_range(&self, chunk: u32) -> Range<usize> {
        let cut = |i: u64| (i * self.chunk as u64).min(self.len as u64) as usize;
        cut(chunk.into())..cut(u64::from(chunk) + 1)
    }

    /// The floats that a range of chunks covers.
    pub fn floats(&self, chunks: &Range<u32>) -> Range<usize> {
        match chunks.is_empty() {
            true => 0..0,
            false => self.chunk_range(chunks.start).start..self.chunk_range(chunks.end - 1).end,
        }
    }

    /// The chunks of server `k` of `m`: see [`shard`].
    pub fn shard(&self, k: u32, m: u32) -> Range<u32> {
        shard(self.chunks, k, m)
    }

    /// Writes version 0 of the arena's `range` into `out`. Padding is 0.
    ///
    /// Element `i` of the parameter with index `p` in name order is draw `i` of the stream
    /// `(seed, Init, p)`, so a server computes its own part alone.
    ///
    /// # Errors
    /// If `range` reaches past the arena, or `out` is not as long as it.
    pub fn initialize(
        &self,
        seed: u64,
        range: Range<usize>,
        out: &mut [f32],
    ) -> Result<(), LayoutError> {
        let (expected, actual) = (range.len(), out.len());
        if expected != actual {
            return Err(LayoutError::Length { expected, actual });
        }
        if range.end > self.len {
            return Err(LayoutError::Length {
                expected: self.len,
                actual: range.end,
            });
        }
        out.fill(0.0);
        let first = self
            .params
            .partition_point(|placed| placed.range().end <= range.start);
        for (index, placed) in self.params.iter().enumerate().skip(first) {
            let start = placed.offset.max(range.start);
            let end = placed.range().end.min(range.end);
            if start >= end {
                break;
            }
            let values = &mut out[start - range.start..end - range.start];
            match placed.param.init {
                Init::Constant(value) => values.fill(value),
                Init::Uniform { bound } => {
                    let mut stream = Stream::new(seed, Purpose::Init, index as u64, 0, 0);
                    stream.seek((start - placed.offset) as u64);
                    stream.fill_uniform(values, -bound, bound);
                }
            }
        }
        Ok(())
    }

    /// Writes 0 into the padding of `values`, which are the arena's floats from `start` on.
    ///
    /// An optimizer updates all of a chunk alike, and what it makes of padding, whose gradient is 0,
    /// may be no number: `0 / (sqrt(0) + epsilon)` is NaN if `epsilon` is 0.
    pub fn clear_padding(&self, start: usize, values: &mut [f32]) {
        let end = start + values.len();
        // Padding follows its parameter; that of one that ends at `start` may reach into the range.
        let first = self
            .params
            .partition_point(|placed| padded(placed.range().end) <= start);
        for placed in &self.params[first..] {
            let gap = placed.range().end.max(start)..padded(placed.range().end).min(end);
            if placed.offset >= end {
                break;
            }
            if !gap.is_empty() {
                values[gap.start - start..gap.end - start].fill(0.0);
            }
        }
    }

    /// `modelSha256` of a whole arena.
    ///
    /// # Errors
    /// If `arena` is not [`Layout::len`] long.
    pub fn model_sha256(&self, arena: &[f32]) -> Result<String, LayoutError> {
        let mut hasher = ModelHasher::new(self);
        hasher.update(arena)?;
        hasher.finish()
    }
}

/// Floats of a parameter, if its stream of initial values has as many.
fn elements(param: &Param) -> Result<usize, LayoutError> {
    if param.shape.contains(&0) {
        return Err(LayoutError::ZeroDimension {
            name: param.name.clone(),
            shape: param.shape.clone(),
        });
    }
    let len = param
        .shape
        .iter()
        .try_fold(1_u64, |len, &dim| len.checked_mul(dim));
    let len = len
        .filter(|&len| len <= STREAM_DRAWS)
        .and_then(|len| usize::try_from(len).ok());
    len.ok_or_else(|| too_large(param))
}

/// Where what follows a placed parameter starts.
fn padded(end: usize) -> usize {
    end.next_multiple_of(ALIGNMENT)
}

/// Where the next parameter starts, if that many floats can be cut into chunks.
fn padded_end(offset: usize, len: usize) -> Option<usize> {
    let end = offset
        .checked_add(len)?
        .checked_next_multiple_of(ALIGNMENT)?;
    u32::try_from(end.div_ceil(CHUNK)).is_ok().then_some(end)
}

fn too_large(param: &Param) -> LayoutError {
    LayoutError::TooLarge {
        name: param.name.clone(),
        shape: param.shape.clone(),
    }
}
