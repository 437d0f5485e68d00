//! The reduction tree over the leaves of a step, and the reference loop that adds along it.
//!
//! Nodes are numbered as in a binary heap: the root is 1, the children of `k` are `2k` and
//! `2k + 1`, and of `V` leaves leaf `i` is node `V + i`. A node stands for an aligned, contiguous
//! range of leaves; two nodes are either nested or disjoint, which is what lets a ledger accept
//! overlapping and repeated pushes and still count every leaf once.

use std::ops::Range;

/// The most leaves a step can be cut into.
pub const MAX_LEAVES: u32 = 65_536;

/// A node of the reduction tree, by its heap number (the root is 1).
///
/// A `Node` knows its relatives without knowing how deep the tree is; whether it lies in a given
/// tree is for [`Tree::valid`] to say.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(u32);

impl Node {
    /// The node that stands for all leaves.
    pub const ROOT: Node = Node(1);

    /// The node with heap number `n`; `None` for 0, which numbers no node.
    pub fn new(n: u32) -> Option<Node> {
        (n >= 1).then_some(Node(n))
    }

    /// The heap number, at least 1.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The node above; `None` for the root.
    pub fn parent(self) -> Option<Node> {
        Node::new(self.0 / 2)
    }

    /// The other child of the same parent; `None` for the root.
    pub fn sibling(self) -> Option<Node> {
        (self.0 > 1).then_some(Node(self.0 ^ 1))
    }

    /// The left and the right child. Far below any tree (heap numbers of 2^31 and more) the
    /// numbers saturate, and no tree calls them valid.
    pub fn children(self) -> (Node, Node) {
        let left = self.0.saturating_mul(2);
        (Node(left), Node(left.saturating_add(1)))
    }

    /// Whether `other` is this node or lies below it.
    pub fn contains(self, other: Node) -> bool {
        let (mine, theirs) = (self.0.leading_zeros(), other.0.leading_zeros());
        mine >= theirs && other.0 >> (mine - theirs) == self.0
    }

    /// Whether this node is the left child of its parent. The root is not.
    pub(crate) fn is_left(self) -> bool {
        self.0.is_multiple_of(2)
    }
}

/// Why a number of leaves makes no tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The number of leaves is not a power of two from 1 to [`MAX_LEAVES`].
    #[error("{0} leaves: microBatches must be a power of two from 1 to {MAX_LEAVES}")]
    Leaves(u32),
}

/// The complete binary tree over a power-of-two number of leaves.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    leaves: u32,
}

impl Tree {
    /// The tree over `leaves` leaves.
    ///
    /// # Errors
    /// [`TreeError::Leaves`] unless `leaves` is a power of two from 1 to [`MAX_LEAVES`].
    pub fn new(leaves: u32) -> Result<Tree, TreeError> {
        if leaves.is_power_of_two() && leaves <= MAX_LEAVES {
            Ok(Tree { leaves })
        } else {
            Err(TreeError::Leaves(leaves))
        }
    }

    /// The number of leaves, `V`.
    pub fn leaves(self) -> u32 {
        self.leaves
    }

    /// The node of leaf `i`. For `i >= V` the result is a node that is not [`valid`](Self::valid).
    pub fn leaf(self, i: u32) -> Node {
        Node(self.leaves.saturating_add(i))
    }

    /// Whether `n` lies in this tree.
    pub fn valid(self, n: Node) -> bool {
        n.0 < 2 * self.leaves
    }

    /// The leaves below `n` (a leaf is below itself); empty if `n` is not in this tree.
    pub fn span(self, n: Node) -> Range<u32> {
        if !self.valid(n) {
            return 0..0;
        }
        let levels_up = n.0.leading_zeros() - self.leaves.leading_zeros();
        let start = (n.0 << levels_up) - self.leaves;
        start..start + (1 << levels_up)
    }

    /// The fewest nodes that together stand for exactly `leaves`, in leaf order: at most
    /// `2 log2 V`. Leaves beyond the tree are left out.
    pub fn cover(self, leaves: Range<u32>) -> Vec<Node> {
        let end = leaves.end.min(self.leaves);
        let mut at = leaves.start;
        let mut nodes = Vec::new();
        while at < end {
            // The widest node that starts here is bounded by the alignment of `at` and by what
            // is left: both are powers of two, so taking it never costs a node later.
            let aligned = if at == 0 {
                self.leaves
            } else {
                at & at.wrapping_neg()
            };
            let left = 1 << (end - at).ilog2();
            let width = aligned.min(left);
            nodes.push(Node((self.leaves + at) / width));
            at += width;
        }
        nodes
    }

    /// The fewest nodes that together stand for exactly the leaves whose entry is `true`, in leaf
    /// order. Missing entries count as `false`, those beyond the tree are left out.
    pub fn cover_set(self, leaves: &[bool]) -> Vec<Node> {
        let end = leaves.len().min(self.leaves as usize);
        let mut nodes = Vec::new();
        let mut at = 0;
        while at < end {
            let run = leaves[at..end].iter().take_while(|&&wanted| wanted).count();
            // Aligned nodes never reach across a gap, so each run is covered on its own.
            nodes.extend(self.cover(at as u32..(at + run) as u32));
            at += run.max(1);
        }
        nodes
    }

    /// The rows of leaf `leaf` out of the `n` rows of a step: `floor(i n / V) .. floor((i+1) n / V)`.
    ///
    /// The leaves partition the rows in order, and their sizes differ by at most one. Empty for a
    /// leaf beyond the tree.
    pub fn rows(self, leaf: u32, n: u64) -> Range<u64> {
        self.cut(leaf, n)..self.cut(leaf.saturating_add(1), n)
    }

    /// The rows of all leaves below `node` out of the `n` rows of a step; empty if it is not in this
    /// tree.
    pub fn node_rows(self, node: Node, n: u64) -> Range<u64> {
        let leaves = self.span(node);
        self.cut(leaves.start, n)..self.cut(leaves.end, n)
    }

    /// The first row of leaf `leaf` out of `n`; `n` beyond the tree.
    fn cut(self, leaf: u32, n: u64) -> u64 {
        let leaf = u128::from(leaf.min(self.leaves));
        // At most n, so it fits.
        (leaf * u128::from(n) / u128::from(self.leaves)) as u64
    }
}

/// `left += right`, element by element: the one addition of the tree, on which the bits of a model
/// depend. Both have the same length.
#[inline]
pub fn add(left: &mut [f32], right: &[f32]) {
    for (l, r) in left.iter_mut().zip(right) {
        *l += *r;
    }
}

/// The value of `node`: the values of its leaves, added along the tree, `left += right`.
///
/// The traversal is post-order, so at most `log2 V + 1` values are alive at any time. This is the
/// definition that every ledger of pushes must reproduce bit for bit; loops that do it all in one
/// process use it as it stands. `node` should be [valid](Tree::valid): one below the tree's leaves
/// is handed to `leaf` as an index of `V` or more.
pub fn reduce<B>(
    tree: Tree,
    node: Node,
    leaf: &mut impl FnMut(u32) -> B,
    add: &mut impl FnMut(&mut B, B),
) -> B {
    if node.get() >= tree.leaves() {
        return leaf(node.get() - tree.leaves());
    }
    let (left, right) = node.children();
    let mut sum = reduce(tree, left, leaf, add);
    let right = reduce(tree, right, leaf, add);
    add(&mut sum, right);
    sum
}
