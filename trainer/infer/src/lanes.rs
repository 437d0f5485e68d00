//! Sixteen numbers at a time, in the instructions of the CPU. Each number has its own chain of operations, so that all
//! instruction sets give the same bits.

/// Numbers in [`Lanes`].
pub(crate) const LANES: usize = 16;

/// Sixteen numbers in memory, on a boundary on which no load crosses a cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(crate) struct Sixteen(pub(crate) [f32; LANES]);

// SAFETY: sixteen numbers and nothing else, and any bytes are numbers.
unsafe impl bytemuck::Zeroable for Sixteen {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Sixteen {}

/// The numbers of sixteens.
pub(crate) fn flat(values: &[Sixteen]) -> &[f32] {
    bytemuck::cast_slice(values)
}

/// The numbers of sixteens.
pub(crate) fn flat_mut(values: &mut [Sixteen]) -> &mut [f32] {
    bytemuck::cast_slice_mut(values)
}

/// An instruction set, of those that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512 on x86-64.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2 with fused multiply-add on x86-64.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What every CPU of the target has.
    Portable,
}

impl Isa {
    /// Those that this CPU has, the fastest first.
    pub fn available() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                found.push(Self::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                found.push(Self::Avx2);
            }
        }
        found.push(Self::Portable);
        found
    }

    /// The fastest that this CPU has.
    pub fn fastest() -> Self {
        Self::available().first().copied().unwrap_or(Self::Portable)
    }
}

/// Sixteen numbers in registers.
///
/// # Safety
/// The methods may be called only where the CPU has the instructions of the type, in functions that are compiled for them.
pub(crate) trait Lanes: Copy {
    /// Sixteen zeros.
    unsafe fn zero() -> Self;
    unsafe fn load(from: &Sixteen) -> Self;
    /// `self * x + sum`, rounded once.
    unsafe fn multiply_add(self, x: f32, sum: Self) -> Self;
    /// Adds to numbers in memory.
    unsafe fn add_to(self, sums: &mut Sixteen);
}

/// Lanes of no special instructions.
#[derive(Clone, Copy)]
pub(crate) struct Plain([f32; LANES]);

impl Lanes for Plain {
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: &Sixteen) -> Self {
        Self(from.0)
    }

    #[inline(always)]
    unsafe fn multiply_add(self, x: f32, mut sum: Self) -> Self {
        for lane in 0..LANES {
            sum.0[lane] = self.0[lane].mul_add(x, sum.0[lane]);
        }
        sum
    }

    #[inline(always)]
    unsafe fn add_to(self, sums: &mut Sixteen) {
        for lane in 0..LANES {
            sums.0[lane] += self.0[lane];
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _mm256_add_ps, _mm256_fmadd_ps, _mm256_load_ps, _mm256_set1_ps,
        _mm256_setzero_ps, _mm256_store_ps, _mm512_add_ps, _mm512_fmadd_ps, _mm512_load_ps,
        _mm512_set1_ps, _mm512_setzero_ps, _mm512_store_ps,
    };

    use super::{Lanes, Sixteen};

    /// A register of AVX-512.
    #[derive(Clone, Copy)]
    pub(crate) struct Wide(__m512);

    /// Two registers of AVX2.
    #[derive(Clone, Copy)]
    pub(crate) struct Pair(__m256, __m256);

    impl Lanes for Wide {
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: who calls has the instructions.
            Self(unsafe { _mm512_setzero_ps() })
        }

        #[inline(always)]
        unsafe fn load(from: &Sixteen) -> Self {
            // SAFETY: as above; sixteen numbers on a boundary of 64 bytes.
            Self(unsafe { _mm512_load_ps(from.0.as_ptr()) })
        }

        #[inline(always)]
        unsafe fn multiply_add(self, x: f32, sum: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm512_fmadd_ps(self.0, _mm512_set1_ps(x), sum.0) })
        }

        #[inline(always)]
        unsafe fn add_to(self, sums: &mut Sixteen) {
            // SAFETY: as for `load`.
            unsafe {
                let sum = _mm512_add_ps(_mm512_load_ps(sums.0.as_ptr()), self.0);
                _mm512_store_ps(sums.0.as_mut_ptr(), sum);
            }
        }
    }

    impl Lanes for Pair {
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: who calls has the instructions.
            unsafe { Self(_mm256_setzero_ps(), _mm256_setzero_ps()) }
        }

        #[inline(always)]
        unsafe fn load(from: &Sixteen) -> Self {
            let from = from.0.as_ptr();
            // SAFETY: as above; sixteen numbers on a boundary of 64 bytes.
            unsafe { Self(_mm256_load_ps(from), _mm256_load_ps(from.add(8))) }
        }

        #[inline(always)]
        unsafe fn multiply_add(self, x: f32, sum: Self) -> Self {
            // SAFETY: as above.
            unsafe {
                let x = _mm256_set1_ps(x);
                Self(
                    _mm256_fmadd_ps(self.0, x, sum.0),
                    _mm256_fmadd_ps(self.1, x, sum.1),
                )
            }
        }

        #[inline(always)]
        unsafe fn add_to(self, sums: &mut Sixteen) {
            let sums = sums.0.as_mut_ptr();
            // SAFETY: as for `load`.
            unsafe {
                _mm256_store_ps(sums, _mm256_add_ps(_mm256_load_ps(sums), self.0));
                let high = sums.add(8);
                _mm256_store_ps(high, _mm256_add_ps(_mm256_load_ps(high), self.1));
            }
        }
    }
}
