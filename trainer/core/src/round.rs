//! The ledger of one chunk in one step.
//!
//! A push is a fact, `(step, node, chunk) -> value`: it may arrive late, twice, in any order, and
//! two workers may have computed overlapping parts. A [`Round`] takes such facts until they make
//! up the root of the reduction tree, counting each leaf exactly once and always adding
//! `left + right` of siblings, so the sum has the bits of [`tree::reduce`](crate::tree::reduce).

use crate::tree::{Node, Tree};
use std::ops::Add;

/// What a push says beside its gradients: the rows it stands for and their summed loss.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Number of rows.
    pub rows: u64,
    /// Sum of the loss over those rows.
    pub loss: f64,
}

impl Add for Tally {
    type Output = Tally;

    /// `left + right`, added along the tree exactly as the gradients are.
    fn add(self, right: Tally) -> Tally {
        Tally {
            rows: self.rows.saturating_add(right.rows),
            loss: self.loss + right.loss,
        }
    }
}

/// What became of an offered value. Every buffer that the ledger does not keep is handed back, so
/// that the caller can reuse it.
#[derive(Debug)]
pub enum Offer<B> {
    /// The node is not in the tree: the sender is broken or speaks of another job.
    Invalid(B),
    /// The leaves of the node are already counted; the value is handed back unused.
    Duplicate(B),
    /// The value is counted, and more is needed.
    Held {
        /// Buffers of values that were added into another or replaced by one that covers them.
        freed: Vec<B>,
    },
    /// All leaves are counted. The round is empty again and ready for the next step.
    Complete {
        /// The value of the root.
        sum: B,
        /// The tally of the root.
        tally: Tally,
        /// As in [`Offer::Held`].
        freed: Vec<B>,
    },
}

/// A value that waits for its sibling.
#[derive(Debug)]
struct Held<B> {
    node: Node,
    /// The first leaf below `node`: the sort key.
    start: u32,
    value: B,
    tally: Tally,
}

/// The pushes of one chunk in one step, as far as they have been added.
///
/// The round does not know which step it collects. The caller offers only pushes of the step in
/// progress; a late push of a finished step must be recognized by its step number.
///
/// Held nodes never contain one another and are never siblings, so at most `max(1, V/2)` values
/// are held, and no more than were offered: pushes of `W` workers that each cover a contiguous
/// range hold at most `2 W log2 V`.
#[derive(Debug)]
pub struct Round<B> {
    tree: Tree,
    /// Sorted by first leaf, which makes siblings neighbours and descendants a slice.
    held: Vec<Held<B>>,
}

impl<B> Round<B> {
    /// An empty round over `tree`. Allocates nothing until a value is held.
    pub fn new(tree: Tree) -> Self {
        Round {
            tree,
            held: Vec::new(),
        }
    }

    /// Offers the value of `node` and its tally; `add` adds its second argument to its first.
    ///
    /// Costs `O(log V)` comparisons and at most `log2 V` additions. A push of the root is
    /// complete without an addition or an allocation.
    pub fn offer(
        &mut self,
        node: Node,
        value: B,
        tally: Tally,
        add: &mut dyn FnMut(&mut B, &B),
    ) -> Offer<B> {
        if !self.tree.valid(node) {
            return Offer::Invalid(value);
        }
        let span = self.tree.span(node);
        let after = self.held.partition_point(|h| h.start <= span.start);
        if after > 0 && self.held[after - 1].node.contains(node) {
            return Offer::Duplicate(value);
        }
        // Not covered by anything, so whatever starts within the span lies below the node.
        let at = self.held.partition_point(|h| h.start < span.start);
        let end = self.held.partition_point(|h| h.start < span.end);
        let mut freed: Vec<B> = self.held.drain(at..end).map(|h| h.value).collect();
        let top = self.merge(
            at,
            Held {
                node,
                start: span.start,
                value,
                tally,
            },
            add,
            &mut freed,
        );
        match top {
            Some(root) => Offer::Complete {
                sum: root.value,
                tally: root.tally,
                freed,
            },
            None => Offer::Held { freed },
        }
    }

    /// Adds `new`, whose place is `at`, to its sibling as long as that is held; keeps the result,
    /// or returns it if it is the root.
    fn merge(
        &mut self,
        mut at: usize,
        mut new: Held<B>,
        add: &mut dyn FnMut(&mut B, &B),
        freed: &mut Vec<B>,
    ) -> Option<Held<B>> {
        while let (Some(parent), Some(sibling)) = (new.node.parent(), new.node.sibling()) {
            let neighbour = if new.node.is_left() {
                Some(at)
            } else {
                at.checked_sub(1)
            };
            let Some(index) =
                neighbour.filter(|&i| self.held.get(i).is_some_and(|h| h.node == sibling))
            else {
                self.held.insert(at, new);
                return None;
            };
            let other = self.held.remove(index);
            let (mut left, right) = if new.node.is_left() {
                (new, other)
            } else {
                (other, new)
            };
            add(&mut left.value, &right.value);
            left.tally = left.tally + right.tally;
            left.node = parent;
            freed.push(right.value);
            new = left;
            at = index;
        }
        Some(new)
    }

    /// The leaves that are not counted, in order.
    pub fn missing(&self) -> Vec<u32> {
        let mut missing = Vec::new();
        let mut next = 0;
        for held in &self.held {
            missing.extend(next..held.start);
            next = self.tree.span(held.node).end;
        }
        missing.extend(next..self.tree.leaves());
        missing
    }

    /// The number of values held.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}
