//! A node's gradient on its way to the servers.

use std::ops::Range;

use trainyard_core::round::Tally;
use trainyard_core::tree::{self, Node, Tree};

use crate::engine::Gradient;

/// A node's gradient on its way out, in the parts it was computed in.
#[derive(Debug)]
pub struct Push {
    /// The step.
    pub step: u64,
    /// The node.
    pub node: Node,
    /// Disjoint nodes that make up `node`.
    pub parts: Vec<Gradient>,
}

impl Push {
    /// Rows and loss of the node, added in the tree's order.
    pub(super) fn tally(&self, tree: Tree, node: Node) -> Tally {
        if let Some(part) = self.parts.iter().find(|part| part.node == node) {
            return part.tally;
        }
        if tree.span(node).len() < 2 {
            return Tally::default();
        }
        let (left, right) = node.children();
        self.tally(tree, left) + self.tally(tree, right)
    }

    /// The node's sum over a range of the arena, if it is there in one part.
    pub(super) fn whole(&self, range: &Range<usize>) -> Option<&[f32]> {
        let part = self.parts.iter().find(|part| part.node == self.node)?;
        part.sum.get(range.clone())
    }

    /// Adds the parts below `node` over a range of the arena, in the tree's order.
    pub(super) fn add_up(&self, tree: Tree, node: Node, range: &Range<usize>, out: &mut Vec<f32>) {
        out.clear();
        if let Some(part) = self.parts.iter().find(|part| part.node == node) {
            out.extend_from_slice(&part.sum[range.clone()]);
            return;
        }
        if tree.span(node).len() < 2 {
            return; // not reached: parts cover the node
        }
        let (left, right) = node.children();
        self.add_up(tree, left, range, out);
        let part = |node| self.parts.iter().find(|part| part.node == node);
        let mut other = Vec::new();
        let right = match part(right) {
            Some(part) => &part.sum[range.clone()],
            None => {
                self.add_up(tree, right, range, &mut other);
                &other
            }
        };
        tree::add(out, right);
    }
}
