//! Who may push what: the coordinator says it, and each server keeps it.
//!
//! Workers are told the same in their views and keep to it, so that the gate refuses nobody who is well.
//! It is against those who are not: a push past the limit would move parameters on that the coordinator
//! still waits for, and the leaves of another worker are not for a worker to say.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Push, Refusal};
use crate::assignment::leaf_range;
use crate::tree::Tree;

/// Steps for which a worker may push leaves that are another's since. It may have begun one before the change,
/// and another before it heard of it.
const GRACE: u64 = 2;

/// Former shares of a worker that are remembered. There are more only while workers join faster than steps are
/// computed.
const FORMER: usize = 64;

/// A worker, told from its successors under the same index.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pusher {
    /// Index of the worker.
    pub index: u32,
    /// Which start of its process this is.
    pub incarnation: u64,
}

/// What servers are to let through, as the coordinator says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Passes {
    /// Steps `>= limit` are not begun. It never falls within a generation.
    pub limit: u64,
    /// Workers that share the leaves, in rank order.
    pub members: Vec<Pusher>,
}

/// What becomes of a push.
#[derive(Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is let through.
    Pass,
    /// It cannot be true.
    Refuse(Refusal),
    /// Its worker may have heard of a change before this server: only if it has not come when some time has
    /// passed, the push is refused.
    Wait(Refusal),
}

/// Leaves that a worker may push.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Share {
    leaves: Range<u32>,
    /// The first step for which it may not, if they are another's since.
    until: Option<u64>,
}

impl Share {
    fn covers(&self, leaves: &Range<u32>) -> bool {
        self.leaves.start <= leaves.start && leaves.end <= self.leaves.end
    }
}

/// What a server lets through: see the module's documentation.
#[derive(Clone, Debug)]
pub struct Gate {
    tree: Tree,
    limit: u64,
    shares: BTreeMap<Pusher, Vec<Share>>,
}

impl Gate {
    /// A gate that is closed.
    pub fn new(tree: Tree) -> Self {
        Gate {
            tree,
            limit: 0,
            shares: BTreeMap::new(),
        }
    }

    /// Takes what the coordinator says, at a moment at which the shard is at `version`.
    pub fn set(&mut self, passes: Passes, version: u64) {
        let Passes { limit, members } = passes;
        self.limit = self.limit.max(limit);
        for shares in self.shares.values_mut() {
            for share in shares.iter_mut() {
                share.until.get_or_insert(version.saturating_add(GRACE));
            }
            shares.retain(|share| share.until > Some(version));
        }
        self.shares.retain(|_, shares| !shares.is_empty());
        for (rank, member) in members.iter().enumerate() {
            let leaves = leaf_range(self.tree.leaves(), members.len(), rank);
            let shares = self.shares.entry(*member).or_default();
            let now = Share {
                leaves,
                until: None,
            };
            shares.retain(|former| !now.covers(&former.leaves));
            if shares.len() >= FORMER {
                shares.remove(0);
            }
            shares.push(now);
        }
    }

    /// The first step that may not be begun.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// What becomes of a worker's push to a shard whose chunks have all reached `version`.
    pub fn judge(&self, pusher: Pusher, push: &Push, version: u64) -> Judgement {
        let Push {
            step, node, chunk, ..
        } = *push;
        if step < version {
            return Judgement::Pass; // what comes late changes nothing
        }
        if step > version {
            return Judgement::Refuse(Refusal::Future {
                chunk,
                step,
                version,
            });
        }
        if !self.tree.valid(node) {
            return Judgement::Refuse(Refusal::Node(node.get()));
        }
        if step >= self.limit {
            let limit = self.limit;
            return Judgement::Wait(Refusal::Limit { step, limit });
        }
        let span = self.tree.span(node);
        let owns = |share: &Share| share.covers(&span) && share.until.is_none_or(|end| step < end);
        let shares = self.shares.get(&pusher);
        match shares.is_some_and(|shares| shares.iter().any(owns)) {
            true => Judgement::Pass,
            false => Judgement::Wait(Refusal::Leaves {
                worker: pusher.index,
                node: node.get(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::round::Tally;
    use crate::tree::Node;

    const TREE: u32 = 4;

    fn pusher(index: u32) -> Pusher {
        Pusher {
            index,
            incarnation: 10 + u64::from(index),
        }
    }

    fn passes(limit: u64, members: &[u32]) -> Passes {
        Passes {
            limit,
            members: members.iter().map(|index| pusher(*index)).collect(),
        }
    }

    fn node(number: u32) -> Node {
        Node::new(number).expect("not 0")
    }

    /// What becomes of a push for the step in progress.
    fn judge(gate: &Gate, pusher: Pusher, step: u64, node: Node) -> Judgement {
        let push = Push {
            step,
            node,
            chunk: 0,
            tally: Tally::default(),
        };
        gate.judge(pusher, &push, step)
    }

    fn passes_through(gate: &Gate, pusher: Pusher, step: u64, node: Node) -> bool {
        judge(gate, pusher, step, node) == Judgement::Pass
    }

    #[test]
    fn t13_a_gate_lets_members_push_their_leaves_below_the_limit() {
        let mut gate = Gate::new(Tree::new(TREE).expect("a power of two"));
        let closed = judge(&gate, pusher(0), 0, Node::ROOT);
        let limit = |step, limit| Judgement::Wait(Refusal::Limit { step, limit });
        assert_eq!(closed, limit(0, 0));
        gate.set(passes(3, &[0, 1]), 0);
        for (worker, own) in [(0, [2, 4, 5]), (1, [3, 6, 7])] {
            for number in 1..8 {
                let expected = match own.contains(&number) {
                    true => Judgement::Pass,
                    false => Judgement::Wait(Refusal::Leaves {
                        worker,
                        node: number,
                    }),
                };
                assert_eq!(judge(&gate, pusher(worker), 2, node(number)), expected);
            }
        }
        assert_eq!(judge(&gate, pusher(0), 3, node(2)), limit(3, 3));
        let not_in_the_tree = Judgement::Refuse(Refusal::Node(8));
        assert_eq!(judge(&gate, pusher(0), 0, node(8)), not_in_the_tree);
        let other = Pusher {
            incarnation: 99,
            ..pusher(0)
        };
        assert!(!passes_through(&gate, other, 0, node(2)), "another process");
        assert!(!passes_through(&gate, pusher(2), 0, node(2)), "no member");
    }

    #[test]
    fn t13_a_push_for_another_step_than_that_in_progress_does_not_wait() {
        let gate = Gate::new(Tree::new(TREE).expect("a power of two"));
        let push = |step| Push {
            step,
            node: Node::ROOT,
            chunk: 5,
            tally: Tally::default(),
        };
        assert_eq!(gate.judge(pusher(0), &push(6), 7), Judgement::Pass, "late");
        let future = Refusal::Future {
            chunk: 5,
            step: u64::MAX,
            version: 7,
        };
        let judged = gate.judge(pusher(0), &push(u64::MAX), 7);
        assert_eq!(judged, Judgement::Refuse(future));
    }

    #[test]
    fn what_was_begun_before_a_change_may_be_pushed_after_it_for_a_moment() {
        let mut gate = Gate::new(Tree::new(TREE).expect("a power of two"));
        gate.set(passes(90, &[0]), 0);
        gate.set(passes(90, &[0, 1]), 8);
        for step in 8..8 + GRACE {
            assert!(
                passes_through(&gate, pusher(0), step, Node::ROOT),
                "alone it was its"
            );
        }
        assert!(
            !passes_through(&gate, pusher(0), 8 + GRACE, Node::ROOT),
            "long ago"
        );
        assert!(passes_through(&gate, pusher(0), 80, node(2)), "its own");
        assert!(
            !passes_through(&gate, pusher(1), 8, Node::ROOT),
            "it was never its"
        );
        // However many join before the step is over.
        for newest in 2..200 {
            gate.set(passes(90, &(0..=newest).collect::<Vec<_>>()), 8);
        }
        assert!(
            passes_through(&gate, pusher(0), 8, Node::ROOT),
            "alone it was its"
        );
        gate.set(passes(90, &[1]), 8 + GRACE);
        gate.set(passes(90, &[1]), 8 + 2 * GRACE);
        assert_eq!(gate.shares.len(), 1, "those that left are forgotten");
        assert!(
            passes_through(&gate, pusher(1), 8 + GRACE, Node::ROOT),
            "alone it is its"
        );
    }

    #[test]
    fn the_limit_never_falls() {
        let mut gate = Gate::new(Tree::new(TREE).expect("a power of two"));
        gate.set(passes(9, &[0]), 0);
        gate.set(passes(5, &[0]), 0);
        assert!(
            passes_through(&gate, pusher(0), 8, Node::ROOT),
            "it was let begin"
        );
    }

    #[test]
    fn more_members_than_leaves_own_nothing() {
        let mut gate = Gate::new(Tree::new(1).expect("a power of two"));
        gate.set(passes(1, &[0, 1]), 0);
        assert!(passes_through(&gate, pusher(0), 0, Node::ROOT), "the first");
        assert!(!passes_through(&gate, pusher(1), 0, Node::ROOT), "too many");
    }
}
