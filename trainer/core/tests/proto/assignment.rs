//! Assignment of leaves to workers.

use proptest::prelude::*;
use std::ops::Range;
use trainyard_core::assignment::leaf_range;
use trainyard_core::tree::Tree;

/// Every member's range, checked to partition the leaves with the promised shares.
fn ranges(leaves: u32, members: usize) -> Vec<Range<u32>> {
    let ranges: Vec<_> = (0..members)
        .map(|rank| leaf_range(leaves, members, rank))
        .collect();
    let most = leaves.div_ceil(members as u32);
    let mut next = 0;
    for (rank, range) in ranges.iter().enumerate() {
        let what = format!("rank {rank} of {members} over {leaves}: {range:?}");
        assert_eq!(range.start, next, "{what}");
        assert!(
            range.end >= range.start && range.len() as u32 <= most,
            "{what}"
        );
        assert_eq!(range.is_empty(), rank >= leaves as usize, "{what}");
        next = range.end;
    }
    assert_eq!(next, leaves);
    ranges
}

fn nodes(tree: Tree, ranges: &[Range<u32>]) -> usize {
    ranges
        .iter()
        .map(|range| tree.cover(range.clone()).len())
        .sum()
}

/// The fewest nodes in total over all contiguous, non-empty ranges with minimal largest share.
fn best_total(tree: Tree, members: usize) -> usize {
    let leaves = tree.leaves() as usize;
    let most = leaves.div_ceil(members);
    // best[b]: for the ranges so far, ending at leaf b.
    let mut best = vec![None; leaves + 1];
    best[0] = Some(0);
    for _ in 0..members {
        best = (0..=leaves)
            .map(|b| {
                let total = |a: usize| Some(best[a]? + tree.cover(a as u32..b as u32).len());
                (b.saturating_sub(most)..b).filter_map(total).min()
            })
            .collect();
    }
    best[leaves].expect("some partition exists")
}

#[test]
fn t05_every_leaf_has_exactly_one_worker_for_any_membership() {
    for log in 0..=8 {
        for members in 1..=(2 << log) {
            ranges(1 << log, members);
        }
    }
}

#[test]
fn few_nodes_per_worker() {
    for log in 0..=7_u32 {
        let tree = Tree::new(1 << log).expect("a power of two");
        let leaves = tree.leaves() as usize;
        for members in 1..=leaves {
            let ranges = ranges(tree.leaves(), members);
            let most = ranges.iter().map(|r| tree.cover(r.clone()).len()).max();
            let bound = if leaves.div_ceil(members).is_power_of_two() {
                1
            } else {
                2 * log
            };
            assert!(
                most <= Some(bound as usize),
                "{members} over {leaves}: {most:?}"
            );
            let even = |rank: usize| (rank * leaves / members) as u32;
            let plain: Vec<_> = (0..members).map(|r| even(r)..even(r + 1)).collect();
            assert!(
                nodes(tree, &ranges) <= nodes(tree, &plain),
                "{members} over {leaves}"
            );
        }
    }
}

#[test]
fn traffic_is_close_to_the_best_possible() {
    let (mut ours, mut best) = (0, 0);
    let tree = Tree::new(64).expect("a power of two");
    for members in 1..=64 {
        ours += nodes(tree, &ranges(64, members));
        best += best_total(tree, members);
    }
    assert!(
        best <= ours && ours * 100 <= best * 105,
        "{ours} nodes, {best} would do"
    );
}

#[test]
fn ranges_of_small_memberships_are_as_written_down() {
    // Fixed points: both ends of a running job must agree on them, whatever their release.
    assert_eq!(ranges(4, 3), [0..1, 1..2, 2..4]);
    assert_eq!(ranges(8, 3), [0..2, 2..5, 5..8]);
    assert_eq!(ranges(8, 5), [0..1, 1..2, 2..4, 4..6, 6..8]);
    assert_eq!(ranges(16, 3), [0..4, 4..10, 10..16]);
    assert_eq!(ranges(2, 3), [0..1, 1..2, 2..2]);
}

#[test]
fn ranks_and_memberships_out_of_range_are_harmless() {
    assert!(leaf_range(8, 0, 0).is_empty());
    assert!(leaf_range(8, 3, 3).is_empty());
    assert!(leaf_range(8, usize::MAX, usize::MAX).is_empty());
    assert_eq!(leaf_range(8, usize::MAX, 7), 7..8);
}

proptest! {
    #[test]
    fn t05_large_trees_are_partitioned_too(log in 9..=16_u32, members in 1..3000_usize) {
        let tree = Tree::new(1 << log).expect("a power of two");
        for range in ranges(tree.leaves(), members) {
            prop_assert!(tree.cover(range).len() <= 2 * log as usize);
        }
    }
}
