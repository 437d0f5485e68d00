//! The reduction tree: numbering, covers, rows, and the reference loop.

use proptest::prelude::*;
use trainyard_core::tree::{MAX_LEAVES, Node, Tree, TreeError, reduce};

fn tree(leaves: u32) -> Tree {
    Tree::new(leaves).expect("a power of two")
}

fn node(n: u32) -> Node {
    Node::new(n).expect("not 0")
}

/// Trees of every size up to 2^`most` leaves.
fn any_tree(most: u32) -> impl Strategy<Value = Tree> {
    (0..=most).prop_map(|log| tree(1 << log))
}

#[test]
fn only_powers_of_two_within_bounds_make_a_tree() {
    for leaves in [0, 3, 6, 100, MAX_LEAVES + 1, 2 * MAX_LEAVES, u32::MAX] {
        assert_eq!(Tree::new(leaves), Err(TreeError::Leaves(leaves)));
    }
    for log in 0..=16 {
        assert_eq!(tree(1 << log).leaves(), 1 << log);
    }
    let message = Tree::new(12).unwrap_err().to_string();
    assert!(
        message.contains("12 leaves") && message.contains("power of two"),
        "{message}"
    );
}

#[test]
fn the_numbering_is_that_of_a_heap() {
    assert_eq!(Node::new(0), None);
    assert_eq!((Node::ROOT.parent(), Node::ROOT.sibling()), (None, None));
    assert_eq!(node(5).parent(), Some(node(2)));
    assert_eq!(
        (node(4).sibling(), node(5).sibling()),
        (Some(node(5)), Some(node(4)))
    );
    assert_eq!(node(3).children(), (node(6), node(7)));
    assert_eq!(tree(8).span(node(1)), 0..8);
    assert_eq!(tree(8).span(node(3)), 4..8);
    assert_eq!(tree(8).span(node(10)), 2..3);
    assert_eq!(tree(1).span(Node::ROOT), 0..1);
    assert_eq!(tree(1).leaf(0), Node::ROOT);
}

#[test]
fn nodes_out_of_the_tree_are_told_and_harm_nothing() {
    let huge = node(u32::MAX);
    assert!(!tree(8).valid(node(16)) && !tree(MAX_LEAVES).valid(huge));
    assert_eq!(tree(8).span(node(16)), 0..0);
    let (left, right) = huge.children();
    assert!(!tree(MAX_LEAVES).valid(left) && !tree(MAX_LEAVES).valid(right));
    assert!(!tree(8).valid(tree(8).leaf(8)) && !tree(8).valid(tree(8).leaf(u32::MAX)));
    assert!(Node::ROOT.contains(huge) && !huge.contains(Node::ROOT));
}

#[test]
fn containment_is_containment_of_leaves() {
    let tree = tree(32);
    for a in (1..64).map(node) {
        for b in (1..64).map(node) {
            let (outer, inner) = (tree.span(a), tree.span(b));
            let nested = outer.start <= inner.start && inner.end <= outer.end;
            // Of two nodes with the same leaves there is only one.
            assert_eq!(a.contains(b), nested, "{a:?} {b:?}");
        }
    }
}

/// The fewest nodes for a set of leaves, by definition: a node is needed exactly if all its
/// leaves are wanted and not all of its parent's.
fn cover_by_definition(tree: Tree, wanted: &[bool]) -> Vec<Node> {
    let full = |n: Node| tree.span(n).all(|leaf| wanted[leaf as usize]);
    let mut nodes: Vec<Node> = (1..2 * tree.leaves())
        .map(node)
        .filter(|&n| full(n) && !n.parent().is_some_and(full))
        .collect();
    nodes.sort_by_key(|&n| tree.span(n).start);
    nodes
}

#[test]
fn every_range_is_covered_by_the_fewest_nodes() {
    for log in 0..=6 {
        let tree = tree(1 << log);
        for start in 0..=tree.leaves() {
            for end in start..=tree.leaves() {
                let wanted: Vec<bool> = (0..tree.leaves())
                    .map(|leaf| (start..end).contains(&leaf))
                    .collect();
                let nodes = tree.cover(start..end);
                assert_eq!(
                    nodes,
                    cover_by_definition(tree, &wanted),
                    "{start}..{end} of {tree:?}"
                );
                assert_eq!(nodes, tree.cover_set(&wanted));
                assert!(nodes.len() <= (2 * log as usize).max(1));
            }
        }
        assert_eq!(tree.cover(0..u32::MAX), [Node::ROOT]);
        assert_eq!(tree.cover(tree.leaves()..u32::MAX), []);
    }
}

#[test]
fn reduce_adds_left_and_right_in_order_and_holds_few_values() {
    let tree = tree(8);
    let mut add = |left: &mut String, right: String| *left = format!("({left}{right})");
    let text = reduce(tree, Node::ROOT, &mut |i| i.to_string(), &mut add);
    assert_eq!(text, "(((01)(23))((45)(67)))");
    let text = reduce(tree, node(6), &mut |i| i.to_string(), &mut add);
    assert_eq!(text, "(45)");

    let alive = std::cell::Cell::new(0);
    let most = std::cell::Cell::new(0);
    reduce(
        Tree::new(1024).expect("a power of two"),
        Node::ROOT,
        &mut |_| {
            alive.set(alive.get() + 1);
            most.set(most.get().max(alive.get()));
        },
        &mut |(), ()| alive.set(alive.get() - 1),
    );
    assert_eq!((alive.get(), most.get()), (1, 11));
}

proptest! {
    #[test]
    fn any_set_is_covered_by_the_fewest_nodes(
        tree in any_tree(7),
        mut wanted in prop::collection::vec(any::<bool>(), 130),
    ) {
        let nodes = tree.cover_set(&wanted);
        prop_assert_eq!(&nodes, &cover_by_definition(tree, &wanted));
        // What lies beyond the list is not wanted.
        wanted.truncate(5);
        let short = tree.cover_set(&wanted);
        wanted.resize(130, false);
        prop_assert_eq!(short, cover_by_definition(tree, &wanted));
    }

    #[test]
    fn t05_every_row_lies_in_exactly_one_leaf(tree in any_tree(16), n in 0..20_000_u64) {
        let mut next = 0;
        for leaf in 0..tree.leaves() {
            let rows = tree.rows(leaf, n);
            prop_assert_eq!(rows.start, next);
            prop_assert!(rows.end >= rows.start);
            let size = rows.end - rows.start;
            let even = n / u64::from(tree.leaves());
            prop_assert!(size == even || size == even + 1);
            next = rows.end;
        }
        prop_assert_eq!(next, n);
        prop_assert!(tree.rows(tree.leaves(), n).is_empty());
        prop_assert!(tree.rows(u32::MAX, n).is_empty());
    }

    #[test]
    fn t05_the_rows_of_a_node_are_those_of_its_leaves(tree in any_tree(10), n in 0..5_000_u64, of in any::<u32>()) {
        let any = node(1 + of % (2 * tree.leaves() - 1));
        let leaves = tree.span(any).map(|leaf| tree.rows(leaf, n));
        let rows = leaves.clone().map(|rows| rows.end - rows.start).sum::<u64>();
        let whole = tree.node_rows(any, n);
        prop_assert_eq!(whole.end - whole.start, rows);
        prop_assert_eq!(Some(whole.start), leaves.clone().map(|rows| rows.start).next());
        prop_assert!(tree.node_rows(tree.leaf(tree.leaves()), n).is_empty());
    }

    #[test]
    fn t05_rows_do_not_overflow(tree in any_tree(16), n in any::<u64>(), leaf in any::<u32>()) {
        let leaf = leaf % tree.leaves();
        let rows = tree.rows(leaf, n);
        let exact = |i: u32| u128::from(i) * u128::from(n) / u128::from(tree.leaves());
        prop_assert_eq!(u128::from(rows.start), exact(leaf));
        prop_assert_eq!(u128::from(rows.end), exact(leaf + 1));
    }
}
