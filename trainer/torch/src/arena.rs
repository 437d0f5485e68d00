//! Two flat arenas of parameters, one computed on while the other is received into.
//!
//! Every libtorch variable is a view of an arena, so that a version is received straight into
//! the tensors that compute on it, without a copy.

use std::ops::Range;

use tch::{Device, Kind, Tensor};
use trainyard_core::layout::Layout;

/// One version's parameters in memory that libtorch and the network threads share.
#[derive(Debug)]
pub struct Arena {
    tensor: Tensor,
    data: *mut f32,
    len: usize,
}

// SAFETY: `tensor` is touched only through `&mut self` or before the arena is shared (`variables`);
// everything else goes through `data`, whose access rules `chunk_mut` states.
unsafe impl Sync for Arena {}
// SAFETY: the memory behind `data` belongs to `tensor`, which may move between threads.
unsafe impl Send for Arena {}

impl Arena {
    /// A zeroed arena; libtorch aligns it to 64 bytes.
    pub fn new(len: usize) -> Self {
        let tensor = Tensor::zeros([len as i64], (Kind::Float, Device::Cpu));
        let data = tensor.data_ptr().cast();
        Arena { tensor, data, len }
    }

    /// Leaf variables over this arena in name order, with gradients enabled. Each thread that
    /// computes needs a set of its own.
    pub fn variables(&mut self, layout: &Layout) -> Vec<Tensor> {
        let view = |placed: &trainyard_core::layout::Placed| {
            let shape: Vec<i64> = placed.param.shape.iter().map(|&d| d as i64).collect();
            let flat = self
                .tensor
                .narrow(0, placed.offset as i64, placed.len as i64);
            flat.view(shape.as_slice()).detach().set_requires_grad(true)
        };
        layout.params().map(view).collect()
    }

    /// Part of the arena, to be received into.
    ///
    /// # Safety
    /// While the slice lives nobody else may read or write `range`: no other slice of it, and no
    /// computation on the variables. [`crate::worker::board::Board`] grants that right.
    #[expect(
        clippy::mut_from_ref,
        reason = "exclusive by the contract above, not by the borrow"
    )]
    pub unsafe fn chunk_mut(&self, range: Range<usize>) -> &mut [f32] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "a chunk outside the arena"
        );
        // SAFETY: in bounds by the assertion, exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(range.start), range.len()) }
    }
}

/// The floats of a contiguous CPU tensor.
pub fn floats(tensor: &Tensor) -> &[f32] {
    debug_assert!(tensor.is_contiguous() && tensor.kind() == Kind::Float);
    // SAFETY: a contiguous f32 tensor is `numel` floats from `data_ptr` on, and lives as long as
    // the borrow; nobody writes a gradient or an output that we hold.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast(), tensor.numel()) }
}
