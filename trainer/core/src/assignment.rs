//! Which worker computes which leaves of a step.
//!
//! Assignment is a pure function of the tree and of a worker's rank among the current members, so
//! nothing travels per step: everyone who knows the membership knows who owns which leaf.
//!
//! # The rule for leaves, and what it trades
//! A step lasts as long as its most loaded worker, so no rule can beat a largest share of
//! `L = ceil(V / W)` leaves, and the rule keeps to it. What is left to choose is where the
//! boundaries lie, and that decides traffic: a worker pushes one value for each aligned node that
//! its range decomposes into. Ranges are contiguous, hence at most `2 log2 V` nodes; to come
//! closer to one node each, boundaries are put on coarse positions as far as `L` allows:
//!
//! - If `L` is a power of two, the leaves are dealt out as whole nodes of `L` leaves, and as many
//!   of them as there are workers left over are split in two. **Every worker pushes one node.**
//!   This covers every `W >= V/2` and every power of two.
//! - Otherwise the leaves are dealt out in blocks of `g`, the largest power of two that divides
//!   `L`: the `V/g` blocks are cut at `floor(r (V/g) / W)`. A coarser block would enlarge the
//!   largest share. A range then has at most `2 log2 (V/g)` nodes.
//!
//! Up to `V = 128` (tested) no `W` needs more nodes in total than cuts at `floor(r V / W)` would,
//! and over all `W` the total is within 5 % of the best contiguous ranges that keep to `L`.
//!
//! The price is that the smaller shares may be smaller than under `floor(r V / W)`: down to half
//! of `L`, never empty unless `W > V`. Workers with a small share wait for the others either way.

use std::ops::Range;

/// The leaves that the member of rank `rank` computes, out of `leaves` (a power of two) shared by
/// `members`.
///
/// The ranges of ranks `0..members` partition `0..leaves` in order. No range is longer than
/// `ceil(leaves / members)`; ranks from `leaves` on get an empty one, and so does any rank that
/// is not a member.
pub fn leaf_range(leaves: u32, members: usize, rank: usize) -> Range<u32> {
    let sharing = u32::try_from(members).unwrap_or(u32::MAX).min(leaves);
    match u32::try_from(rank) {
        Ok(rank) if rank < sharing => {
            boundary(leaves, sharing, rank)..boundary(leaves, sharing, rank + 1)
        }
        _ => leaves..leaves,
    }
}

/// The first leaf of rank `rank`, for `1 <= sharing <= leaves` and `rank <= sharing`.
fn boundary(leaves: u32, sharing: u32, rank: u32) -> u32 {
    let largest = leaves.div_ceil(sharing);
    if largest.is_power_of_two() {
        let split = sharing - (leaves / largest).min(sharing);
        if rank < 2 * split {
            rank * (largest / 2)
        } else {
            (rank - split) * largest
        }
    } else {
        let block = largest & largest.wrapping_neg();
        let blocks = u64::from(leaves / block);
        // At most `blocks`, so it fits.
        block * (u64::from(rank) * blocks / u64::from(sharing)) as u32
    }
}
