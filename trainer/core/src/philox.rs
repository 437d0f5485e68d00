//! Counter-based random numbers: named streams of Philox4x32-10.
//!
//! The generator is the one of Salmon, Moraes, Dror and Shaw, *Parallel random numbers: as easy as
//! 1, 2, 3* (SC 2011), as in their Random123 library: a keyed bijection of 128-bit counters. A draw is
//! a pure function of (seed, purpose, coordinates, index), so a dropout mask or an initial weight is
//! the same on whichever worker or server computes it, in whatever order.
//!
//! # Layout, version 1
//! A stream is named by `(seed, purpose, a, b, c)`. Its block `n` of four draws is Philox of
//!
//! ```text
//! counter[0] = n
//! counter[1] = a, bits 0..32
//! counter[2] = b
//! counter[3] = version (4 bits) | purpose (4 bits) | c, bits 0..16 | a, bits 32..40   (high to low)
//! key        = seed XOR (a, bits 40..64, and c, bits 16..32, as one 40-bit number)
//! ```
//!
//! Under one seed, distinct tuples have distinct (key, upper counter) pairs, so their streams
//! never share a block; each has 2^34 draws before it repeats. While `a < 2^40` and `c < 2^16`,
//! which holds for every step, epoch and layer in practice, the key is the seed itself and
//! streams of different seeds cannot share a block either.

use std::array;

/// Version of the stream layout; part of every counter, so that a new layout is a new set of
/// streams rather than a silent change of an old one.
pub const STREAM_VERSION: u32 = 1;

/// Draws in a stream before it repeats.
pub const STREAM_DRAWS: u64 = 1 << 34;

/// What a stream is for; the meaning of its coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Initial parameters: `a` is the parameter's index in name order.
    Init,
    /// The order of an epoch's rows: `a` is the epoch.
    Shuffle,
    /// The choice of validation rows.
    Split,
    /// Dropout masks: `a` is the step, `b` the leaf, `c` the layer.
    Dropout,
}

impl Purpose {
    /// The number in the counter; never reused for another purpose.
    const fn code(self) -> u32 {
        match self {
            Purpose::Init => 1,
            Purpose::Shuffle => 2,
            Purpose::Split => 3,
            Purpose::Dropout => 4,
        }
    }
}

/// Blocks computed side by side: as many as keep the compiler's vector loops fullest.
const LANES: usize = 16;
const BATCH: usize = 4 * LANES;

const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Philox4x32-10 of one counter.
///
/// ```
/// use trainyard_core::philox::philox4x32;
/// assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
/// ```
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    lanes(counter.map(|word| [word]), key).map(|[word]| word)
}

/// Philox4x32-10 of `N` counters, given and returned word by word so that each loop over the
/// lanes is one vector operation.
#[inline(always)]
fn lanes<const N: usize>(mut x: [[u32; N]; 4], mut key: [u32; 2]) -> [[u32; N]; 4] {
    for _ in 0..10 {
        let mut y = [[0; N]; 4];
        for lane in 0..N {
            let p0 = u64::from(MULTIPLIER[0]) * u64::from(x[0][lane]);
            let p1 = u64::from(MULTIPLIER[1]) * u64::from(x[2][lane]);
            y[0][lane] = (p1 >> 32) as u32 ^ x[1][lane] ^ key[0];
            y[1][lane] = p1 as u32;
            y[2][lane] = (p0 >> 32) as u32 ^ x[3][lane] ^ key[1];
            y[3][lane] = p0 as u32;
        }
        x = y;
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    x
}

/// A position in one named stream of random draws. Draw `i` is word `i mod 4` of block `i / 4`.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    /// `counter[1..4]`.
    name: [u32; 3],
    /// Index of the next draw.
    next: u64,
    /// The block that holds draw `next`, unless `next` is its first draw.
    block: [u32; 4],
}

impl Stream {
    /// The stream named by these arguments, at its first draw. See the module for the layout.
    pub fn new(seed: u64, purpose: Purpose, a: u64, b: u32, c: u32) -> Self {
        let key = seed ^ ((a >> 40) << 16 | u64::from(c >> 16));
        let tag = STREAM_VERSION << 28 | purpose.code() << 24 | (c & 0xFFFF) << 8;
        Stream {
            key: [key as u32, (key >> 32) as u32],
            name: [a as u32, b, tag | (a >> 32) as u32 & 0xFF],
            next: 0,
            block: [0; 4],
        }
    }

    /// Moves to draw `index`, so that any part of a long sequence can be computed alone.
    pub fn seek(&mut self, index: u64) {
        self.next = index;
        if !index.is_multiple_of(4) {
            self.block = self.block_at(index / 4);
        }
    }

    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        let word = (self.next % 4) as usize;
        if word == 0 {
            self.block = self.block_at(self.next / 4);
        }
        self.next = self.next.wrapping_add(1);
        self.block[word]
    }

    /// Uniform in `[0, 1)`: a multiple of 2^-24, exact in f32.
    pub fn uniform(&mut self) -> f32 {
        unit(self.next_u32())
    }

    /// Uniform in `0..n` without bias; 0 if `n` is 0. Takes two draws, and two more for each
    /// rejection.
    ///
    /// Lemire, *Fast random integer generation in an interval* (2019), on 64 bits (low draw first).
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        let mut product = u128::from(self.next_u64()) * u128::from(n);
        if (product as u64) < n {
            let threshold = n.wrapping_neg() % n;
            while (product as u64) < threshold {
                product = u128::from(self.next_u64()) * u128::from(n);
            }
        }
        (product >> 64) as u64
    }

    /// Fills `values` with draws uniform in `[low, high]`: `low + (high - low) * uniform()`, where
    /// only rounding reaches `high`. The same values as that many calls of [`Stream::uniform`].
    pub fn fill_uniform(&mut self, values: &mut [f32], low: f32, high: f32) {
        let span = high - low;
        self.fill(values, |bits| low + span * unit(bits));
    }

    /// Fills `mask` with 0 (with probability `p`) or `1 / (1 - p)`: the factors of inverted
    /// dropout. An element is kept if its draw's [`Stream::uniform`] is at least `p`. Outside of
    /// `(0, 1)` nothing (`p <= 0`) or everything (`p >= 1`, NaN) is dropped.
    pub fn dropout_mask(&mut self, mask: &mut [f32], p: f32) {
        let keep = if p <= 0.0 {
            1.0
        } else if p < 1.0 {
            1.0 / (1.0 - p)
        } else {
            0.0
        };
        self.fill(mask, |bits| if unit(bits) >= p { keep } else { 0.0 });
    }

    fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        u64::from(self.next_u32()) << 32 | low
    }

    fn block_at(&self, block: u64) -> [u32; 4] {
        let [a, b, c] = self.name;
        philox4x32([block as u32, a, b, c], self.key)
    }

    /// `values[i] = f(draw next + i)`, in vectors wherever whole blocks are wanted.
    #[inline(always)]
    fn fill(&mut self, values: &mut [f32], f: impl Fn(u32) -> f32) {
        let head = values.len().min((self.next.wrapping_neg() % 4) as usize);
        let (head, body) = values.split_at_mut(head);
        for value in head {
            *value = f(self.next_u32());
        }
        let mut batches = body.chunks_exact_mut(BATCH);
        for batch in &mut batches {
            let first = (self.next / 4) as u32;
            let [a, b, c] = self.name.map(|word| [word; LANES]);
            let counters = [array::from_fn(|i| first.wrapping_add(i as u32)), a, b, c];
            let draws = lanes::<LANES>(counters, self.key);
            for (lane, block) in batch.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                for (word, value) in block.iter_mut().enumerate() {
                    *value = f(draws[word][lane]);
                }
            }
            self.next = self.next.wrapping_add(BATCH as u64);
        }
        for value in batches.into_remainder() {
            *value = f(self.next_u32());
        }
    }
}

/// The upper 24 bits as a multiple of 2^-24 in `[0, 1)`.
#[inline(always)]
fn unit(bits: u32) -> f32 {
    // Through i32: that conversion is one vector instruction everywhere.
    (bits >> 8) as i32 as f32 * (1.0 / 16_777_216.0)
}
