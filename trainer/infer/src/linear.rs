//! Linear layers, which take nearly all of the time.
//!
//! An output is `bias + s_0 + s_1 + ...`, added in this order, where `s_b` is the chain of fused multiply-adds, from 0, of the
//! inputs of block `b`: [`BLOCK`] inputs, the last block those that are left. The chains of sixteen outputs run side by side
//! in [`Lanes`], those of several rows and of several sixteens in a tile. Nothing depends on which tile a row is in.

use crate::lanes::{Isa, LANES, Lanes, Plain, Sixteen};

/// Inputs of a block. The weights that a tile reads of one stay in a core's first cache.
const BLOCK: usize = 256;
/// Panels that all rows are computed with before the next are read: 128 KiB of weights stay in a core's second cache.
const PANELS: usize = 8;

/// Weights and biases in the order in which the kernel reads them: by blocks of inputs, in a block by panels of sixteen
/// outputs, in a panel by inputs. Zeros fill the last panel.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    weights: Vec<Sixteen>,
    bias: Vec<Sixteen>,
    /// Inputs of a row.
    pub(crate) inputs: usize,
    /// Outputs of a row.
    pub(crate) outputs: usize,
}

impl Linear {
    /// Of weights `[outputs, inputs]`, where input `i` is in column `column(i)`.
    pub(crate) fn new(weights: &[f32], bias: &[f32], column: impl Fn(usize) -> usize) -> Self {
        let outputs = bias.len();
        let inputs = weights.len().checked_div(outputs).unwrap_or(0);
        let panels = outputs.div_ceil(LANES);
        let mut packed = Vec::with_capacity(inputs * panels);
        for first in (0..inputs).step_by(BLOCK) {
            let block = first..inputs.min(first + BLOCK);
            for panel in 0..panels {
                let rows = panel * LANES..outputs.min((panel + 1) * LANES);
                for input in block.clone() {
                    let mut lanes = Sixteen::default();
                    for (lane, row) in lanes.0.iter_mut().zip(rows.clone()) {
                        *lane = weights[row * inputs + column(input)];
                    }
                    packed.push(lanes);
                }
            }
        }
        let padded = |chunk: &[f32]| {
            let mut lanes = Sixteen::default();
            lanes.0[..chunk.len()].copy_from_slice(chunk);
            lanes
        };
        Self {
            weights: packed,
            bias: bias.chunks(LANES).map(padded).collect(),
            inputs,
            outputs,
        }
    }

    /// Sixteens that the outputs of a row take.
    pub(crate) fn width(&self) -> usize {
        self.bias.len()
    }

    /// The parts of the weights in the order in which they lie.
    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let width = self.width();
        let blocks = (0..self.inputs).step_by(BLOCK);
        blocks.flat_map(move |first| {
            let inputs = BLOCK.min(self.inputs - first);
            (0..width).step_by(PANELS).map(move |panel| {
                let panels = PANELS.min(width - panel);
                let start = first * width + panel * inputs;
                Part {
                    first,
                    inputs,
                    panel,
                    weights: &self.weights[start..start + panels * inputs],
                }
            })
        })
    }

    /// Outputs of `rows` rows, of which one begins every `stride` numbers of `inputs`. Outputs past those of the layer are 0.
    pub(crate) fn forward(
        &self,
        isa: Isa,
        inputs: &[f32],
        stride: usize,
        rows: usize,
        outputs: &mut Vec<Sixteen>,
    ) {
        outputs.clear();
        for _ in 0..rows {
            outputs.extend_from_slice(&self.bias);
        }
        if rows == 0 {
            return;
        }
        assert!(inputs.len() >= (rows - 1) * stride + self.inputs);
        let mut work = Work {
            linear: self,
            inputs,
            stride,
            rows,
            outputs,
        };
        match isa {
            // SAFETY: the CPU has the instructions, or there would be no such `Isa`.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512(&mut work) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2(&mut work) },
            Isa::Portable => portable(&mut work),
        }
    }
}

/// Rows to be multiplied.
struct Work<'a> {
    linear: &'a Linear,
    inputs: &'a [f32],
    stride: usize,
    rows: usize,
    outputs: &'a mut [Sixteen],
}

/// Some panels of a block.
#[derive(Clone, Copy)]
struct Part<'a> {
    /// First input of the block.
    first: usize,
    /// Inputs of the block.
    inputs: usize,
    /// First panel.
    panel: usize,
    /// The weights of the panels.
    weights: &'a [Sixteen],
}

impl Work<'_> {
    /// Adds a part to the rows from `row` on, `ROWS` at a time, as long as there are as many; returns the next row.
    ///
    /// # Safety
    /// As for the methods of `V`.
    #[inline(always)]
    unsafe fn sweep<V: Lanes, const ROWS: usize, const SIDE: usize>(
        &mut self,
        part: Part<'_>,
        row: usize,
    ) -> usize {
        let tiles = (self.rows - row) / ROWS;
        let mut weights = part.weights;
        let mut panel = part.panel;
        while tiles > 0 && !weights.is_empty() {
            let is_whole = weights.len() >= SIDE * part.inputs;
            let side = if is_whole { SIDE } else { 1 };
            let (now, later) = weights.split_at(side * part.inputs);
            for tile in 0..tiles {
                let row = row + tile * ROWS;
                // SAFETY: as this function's.
                unsafe {
                    match is_whole {
                        true => self.tile::<V, ROWS, SIDE>(part, row, panel, now),
                        false => self.tile::<V, ROWS, 1>(part, row, panel, now),
                    }
                }
            }
            (weights, panel) = (later, panel + side);
        }
        row + tiles * ROWS
    }

    /// Adds the block of `part` to `ROWS x SIDE` sixteens of outputs.
    ///
    /// # Safety
    /// As for the methods of `V`.
    #[inline(always)]
    // Iterators have closures, which are not compiled for the instructions of `V`.
    #[allow(clippy::needless_range_loop)]
    unsafe fn tile<V: Lanes, const ROWS: usize, const SIDE: usize>(
        &mut self,
        part: Part<'_>,
        row: usize,
        panel: usize,
        weights: &[Sixteen],
    ) {
        let (count, stride, width) = (part.inputs, self.stride, self.linear.width());
        let inputs = &self.inputs[row * stride + part.first..];
        let outputs = &mut self.outputs[row * width + panel..];
        assert!(
            inputs.len() >= (ROWS - 1) * stride + count
                && weights.len() == SIDE * count
                && outputs.len() >= (ROWS - 1) * width + SIDE
        );
        // SAFETY: no index is larger than was just checked.
        unsafe {
            let mut sums = [[V::zero(); SIDE]; ROWS];
            for input in 0..count {
                let mut weight = [V::zero(); SIDE];
                for side in 0..SIDE {
                    weight[side] = V::load(weights.get_unchecked(side * count + input));
                }
                for row in 0..ROWS {
                    let x = *inputs.get_unchecked(row * stride + input);
                    for side in 0..SIDE {
                        sums[row][side] = weight[side].multiply_add(x, sums[row][side]);
                    }
                }
            }
            for row in 0..ROWS {
                for side in 0..SIDE {
                    sums[row][side].add_to(outputs.get_unchecked_mut(row * width + side));
                }
            }
        }
    }
}

// Tiles have about as many sums as hide the latency of an addition, and leave registers for the weights.

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(work: &mut Work<'_>) {
    use crate::lanes::x86::Wide;
    for part in work.linear.parts() {
        // SAFETY: this function is compiled for the instructions.
        unsafe {
            let row = work.sweep::<Wide, 8, 2>(part, 0);
            let row = work.sweep::<Wide, 4, 4>(part, row);
            let row = work.sweep::<Wide, 2, 4>(part, row);
            work.sweep::<Wide, 1, 4>(part, row);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(work: &mut Work<'_>) {
    use crate::lanes::x86::Pair;
    for part in work.linear.parts() {
        // SAFETY: this function is compiled for the instructions.
        unsafe {
            let row = work.sweep::<Pair, 6, 1>(part, 0);
            let row = work.sweep::<Pair, 2, 2>(part, row);
            work.sweep::<Pair, 1, 4>(part, row);
        }
    }
}

fn portable(work: &mut Work<'_>) {
    for part in work.linear.parts() {
        // SAFETY: it needs no special instructions.
        unsafe {
            let row = work.sweep::<Plain, 4, 1>(part, 0);
            work.sweep::<Plain, 1, 1>(part, row);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lanes::flat;

    /// The definition, a number after the other.
    fn defined(weights: &[f32], bias: &[f32], row: &[f32]) -> Vec<f32> {
        let outputs = weights.chunks_exact(row.len()).zip(bias);
        let output = |(weights, bias): (&[f32], &f32)| {
            let blocks = row.chunks(BLOCK).zip(weights.chunks(BLOCK));
            blocks.fold(*bias, |sum, (row, weights)| {
                let products = row.iter().zip(weights);
                sum + products.fold(0.0f32, |sum, (x, weight)| weight.mul_add(*x, sum))
            })
        };
        outputs.map(output).collect()
    }

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        use trainyard_core::philox::{Purpose, Stream};
        let mut numbers = vec![0.0; count];
        Stream::new(seed, Purpose::Init, 0, 0, 0).fill_uniform(&mut numbers, -2.0, 2.0);
        numbers
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the tile, the place in it and the instructions are.
        #[test]
        fn s03_an_output_is_the_sum_that_is_defined(
            inputs in prop_oneof![1usize..40, 200usize..700],
            outputs in prop_oneof![1usize..40, 100usize..200],
            rows in 1usize..24,
            gap in 0usize..5,
            seed in any::<u64>(),
        ) {
            let weights = numbers(inputs * outputs, seed);
            let (bias, stride) = (numbers(outputs, seed ^ 1), inputs + gap);
            let given = numbers(rows * stride, seed ^ 2);
            let linear = Linear::new(&weights, &bias, |input| input);
            for isa in Isa::available() {
                let mut found = Vec::new();
                linear.forward(isa, &given, stride, rows, &mut found);
                for (row, found) in flat(&found).chunks_exact(linear.width() * LANES).enumerate() {
                    let expected = defined(&weights, &bias, &given[row * stride..][..inputs]);
                    prop_assert_eq!(&found[..outputs], &expected[..], "{:?}, row {}", isa, row);
                    prop_assert!(found[outputs..].iter().all(|padding| *padding == 0.0));
                }
            }
        }
    }
}
