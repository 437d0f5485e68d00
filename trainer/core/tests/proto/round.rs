//! The ledger of a chunk: whatever arrives, in whatever order, the sum has the same bits.

use proptest::prelude::*;
use trainyard_core::assignment::leaf_range;
use trainyard_core::round::{Offer, Round, Tally};
use trainyard_core::tree::{Node, Tree, reduce};
use trainyard_core::wire::{Body, Fence, Header, Limits, as_bytes, as_bytes_mut};

const FLOATS: usize = 5;

/// A buffer with a name, so that lost or doubled buffers are seen.
#[derive(Clone, Debug)]
struct Buffer {
    id: usize,
    floats: [f32; FLOATS],
}

fn add(left: &mut Buffer, right: &Buffer) {
    for (l, r) in left.floats.iter_mut().zip(right.floats) {
        *l += r;
    }
}

fn bits(floats: &[f32]) -> Vec<u32> {
    floats.iter().map(|f| f.to_bits()).collect()
}

/// The values of one chunk in one step: a gradient and a tally for each leaf.
#[derive(Clone, Debug)]
struct Step {
    tree: Tree,
    leaves: Vec<([f32; FLOATS], Tally)>,
}

impl Step {
    /// The true value of a node, as any worker that computes it would push it.
    fn value(&self, node: Node) -> ([f32; FLOATS], Tally) {
        reduce(
            self.tree,
            node,
            &mut |i| self.leaves[i as usize],
            &mut |left, right| {
                for (l, r) in left.0.iter_mut().zip(right.0) {
                    *l += r;
                }
                left.1.rows += right.1.rows;
                left.1.loss += right.1.loss;
            },
        )
    }
}

/// Floats over many magnitudes with signed zeros and subnormals, so that sums depend on order.
fn float() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => (-1.0_f32..1.0, -30..30).prop_map(|(x, e)| x * 2.0_f32.powi(e)),
        1 => Just(-0.0_f32),
        1 => Just(f32::from_bits(1)),
        1 => Just(16_777_216.0_f32),
    ]
}

fn step(most_log: u32) -> impl Strategy<Value = Step> {
    (0..=most_log).prop_flat_map(step_of)
}

/// A step of 2^`log` leaves.
fn step_of(log: u32) -> impl Strategy<Value = Step> {
    let leaf = (prop::array::uniform5(float()), 0..100_u64, -1e9..1e9_f64)
        .prop_map(|(floats, rows, loss)| (floats, Tally { rows, loss }));
    prop::collection::vec(leaf, 1 << log).prop_map(|leaves| Step {
        tree: Tree::new(leaves.len() as u32).expect("a power of two"),
        leaves,
    })
}

/// The pushes of every member of a membership.
fn pushes(tree: Tree, members: usize) -> Vec<Node> {
    (0..members)
        .flat_map(|rank| tree.cover(leaf_range(tree.leaves(), members, rank)))
        .collect()
}

/// Members come and go: each membership pushes its nodes, some of them lost; the last one stays
/// until its pushes are through. Strays are computed by whoever. Everything arrives in any order.
fn scenario() -> impl Strategy<Value = (Step, Vec<Node>)> {
    let stray = any::<prop::sample::Index>();
    let parts = (
        step(5),
        1..40_usize,
        prop::collection::vec((1..40_usize, any::<u64>()), 0..4),
        prop::collection::vec(stray, 0..12),
    );
    parts.prop_flat_map(|(step, last, earlier, strays)| {
        let tree = step.tree;
        let mut all = pushes(tree, last);
        for (members, lost) in earlier {
            let sent = pushes(tree, members).into_iter().enumerate();
            all.extend(
                sent.filter(|&(i, _)| lost >> (i % 64) & 1 == 0)
                    .map(|(_, node)| node),
            );
        }
        let count = 2 * tree.leaves() as usize - 1;
        all.extend(
            strays
                .iter()
                .filter_map(|stray| Node::new(1 + stray.index(count) as u32)),
        );
        (Just(step), Just(all).prop_shuffle())
    })
}

/// Which leaves are counted: the specification that the ledger is held against.
struct Counted(Vec<bool>);

impl Counted {
    fn has(&self, tree: Tree, node: Node) -> bool {
        tree.span(node).all(|leaf| self.0[leaf as usize])
    }

    fn add(&mut self, tree: Tree, node: Node) {
        tree.span(node)
            .for_each(|leaf| self.0[leaf as usize] = true);
    }
}

/// Offers `order` to a fresh round and holds every answer against the specification. Returns how
/// often the round was completed.
fn replay(step: &Step, order: &[Node]) -> Result<usize, TestCaseError> {
    let tree = step.tree;
    let (root, root_tally) = step.value(Node::ROOT);
    let mut round = Round::new(tree);
    let mut counted = Counted(vec![false; tree.leaves() as usize]);
    let mut inside = std::collections::BTreeSet::new();
    let mut completed = 0;
    for (id, &node) in order.iter().enumerate() {
        let (floats, tally) = step.value(node);
        inside.insert(id);
        let known = counted.has(tree, node);
        counted.add(tree, node);
        let whole = counted.has(tree, Node::ROOT);
        let back = match round.offer(node, Buffer { id, floats }, tally, &mut add) {
            Offer::Invalid(_) => return Err(TestCaseError::fail("a node of the tree is refused")),
            Offer::Duplicate(value) => {
                prop_assert!(known, "{:?} adds leaves", node);
                prop_assert_eq!(value.id, id);
                prop_assert_eq!(bits(&value.floats), bits(&floats), "handed back unused");
                vec![value]
            }
            Offer::Held { freed } => {
                prop_assert!(!known && !whole);
                freed
            }
            Offer::Complete {
                sum,
                tally,
                mut freed,
            } => {
                prop_assert!(!known && whole);
                prop_assert_eq!(bits(&sum.floats), bits(&root));
                prop_assert_eq!(tally.rows, root_tally.rows);
                prop_assert_eq!(tally.loss.to_bits(), root_tally.loss.to_bits());
                counted.0.fill(false);
                completed += 1;
                freed.push(sum);
                freed
            }
        };
        for buffer in back {
            prop_assert!(inside.remove(&buffer.id), "buffer {} twice", buffer.id);
        }
        // Holding exactly the smallest cover of what is counted is the bound on memory.
        prop_assert_eq!(round.held(), tree.cover_set(&counted.0).len());
        prop_assert_eq!(round.held(), inside.len());
        let missing = (0..tree.leaves()).filter(|leaf| !counted.0[*leaf as usize]);
        prop_assert_eq!(round.missing(), missing.collect::<Vec<_>>());
        prop_assert!(round.held() <= (tree.leaves() as usize / 2).max(1));
    }
    Ok(completed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn t04_duplicated_reordered_and_overlapping_pushes_give_the_same_bits(
        (step, order) in scenario(),
    ) {
        prop_assert!(replay(&step, &order)? >= 1);
    }

    /// Leaf by leaf, in any order and any number of times.
    #[test]
    fn t04_leaves_in_any_order_give_the_same_bits(
        step in step(6),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..300),
    ) {
        let leaves: Vec<_> = (0..step.tree.leaves()).map(|i| step.tree.leaf(i)).collect();
        let mut nodes: Vec<_> = order.iter().map(|i| *i.get(&leaves)).collect();
        nodes.extend(&leaves);
        prop_assert!(replay(&step, &nodes)? >= 1);
    }

    /// Pushes of two steps and two generations through the wire, mixed up: only those of the
    /// step and generation in progress count, and the sums of both steps are right.
    #[test]
    fn t04_late_and_fenced_pushes_do_not_count((steps, members, shuffled) in traffic()) {
        let tree = steps[0].tree;
        let mut round = Round::new(tree);
        let (mut current, mut done) = (0, Vec::new());
        let (mut fenced, mut late, mut duplicates, mut counted) = (0, 0, 0, 0);
        // Once more in good order, so that the second step follows the end of the first.
        let again = frames(&steps, members);
        let total = shuffled.len() + again.len();
        for bytes in shuffled.into_iter().chain(again) {
            let (header, floats) = unframe(&bytes);
            let Body::Push { step, node, rows, loss, .. } = header.body else {
                return Err(TestCaseError::fail("not a push"));
            };
            if header.fence(7, 2) != Fence::Current {
                prop_assert_eq!(header.fence(7, 2), Fence::Older);
                fenced += 1;
            } else if step != current {
                // Of the finished step, or ahead of its time: causality forbids that in a job.
                late += 1;
            } else {
                let tally = Tally { rows: u64::from(rows), loss };
                match round.offer(node, Buffer { id: 0, floats }, tally, &mut add) {
                    Offer::Invalid(_) => return Err(TestCaseError::fail("refused")),
                    Offer::Duplicate(_) => duplicates += 1,
                    Offer::Held { .. } => counted += 1,
                    Offer::Complete { sum, tally, .. } => {
                        counted += 1;
                        done.push((sum.floats, tally));
                        current += 1;
                    }
                }
            }
        }
        let each = pushes(tree, members).len();
        prop_assert_eq!(fenced, 4 * each);
        prop_assert_eq!(counted, 2 * each);
        prop_assert_eq!(fenced + late + duplicates + counted, total);
        prop_assert_eq!(done.len(), 2);
        for ((floats, tally), step) in done.iter().zip(&steps) {
            let (root, root_tally) = step.value(Node::ROOT);
            prop_assert_eq!(bits(floats), bits(&root));
            prop_assert_eq!(*tally, root_tally);
        }
    }

    #[test]
    fn pushes_of_few_workers_hold_few_values(log in 4..10_u32, members in 1..9_usize, seed in any::<u64>()) {
        let tree = Tree::new(1 << log).expect("a power of two");
        let mut nodes = pushes(tree, members);
        nodes.sort_by_key(|n| (u64::from(n.get()) ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut round = Round::new(tree);
        let mut completed = false;
        for node in nodes {
            let offer = round.offer(node, (), Tally::default(), &mut |(), ()| ());
            completed |= matches!(offer, Offer::Complete { .. });
            prop_assert!(round.held() <= 2 * members * log as usize);
        }
        prop_assert!(completed);
    }
}

/// The frames of two steps in two generations, as the members of one membership push them.
fn frames(steps: &[Step; 2], members: usize) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for (generation, number) in [(1, 0), (2, 0), (2, 0), (2, 1), (1, 1)] {
        for node in pushes(steps[0].tree, members) {
            let (mut floats, mut tally) = steps[number].value(node);
            if generation == 1 {
                // Another history: it would change the sum if it were let in.
                floats = floats.map(|f| f + 1.0);
                tally.rows += 1;
            }
            frames.push(frame(generation, number as u64, node, &floats, tally));
        }
    }
    frames
}

/// Two steps over one tree, the members that push them, and all their frames shuffled.
fn traffic() -> impl Strategy<Value = ([Step; 2], usize, Vec<Vec<u8>>)> {
    let steps = (0..4_u32).prop_flat_map(|log| [step_of(log), step_of(log)]);
    (steps, 1..6_usize).prop_flat_map(|(steps, members)| {
        let frames = Just(frames(&steps, members)).prop_shuffle();
        (Just(steps), Just(members), frames)
    })
}

fn frame(generation: u32, step: u64, node: Node, floats: &[f32], tally: Tally) -> Vec<u8> {
    let len = as_bytes(floats).len() as u32;
    let body = Body::push(step, node, 0, len, tally).expect("few rows");
    let header = Header {
        job: 7,
        generation,
        incarnation: 1,
        payload: 0,
        body,
    };
    let payload = as_bytes(floats);
    [&header.before(payload).encode(), payload].concat()
}

fn unframe(bytes: &[u8]) -> (Header, [f32; FLOATS]) {
    let (head, payload) = bytes.split_first_chunk().expect("a whole header");
    let header = Header::decode(head, &Limits::default()).expect("as encoded");
    let mut floats = [0.0; FLOATS];
    as_bytes_mut(&mut floats).copy_from_slice(payload);
    (header, floats)
}

/// The properties above can fail only if order matters in their data.
#[test]
fn the_order_of_addition_matters() {
    let leaves = [1e8, 1.0, -1e8, 1.0_f32].map(|x| ([x; FLOATS], Tally::default()));
    let tree = Tree::new(4).expect("a power of two");
    let in_tree = Step {
        tree,
        leaves: leaves.to_vec(),
    }
    .value(Node::ROOT)
    .0[0];
    let in_line: f32 = leaves.iter().map(|leaf| leaf.0[0]).sum();
    assert_eq!((in_tree, in_line), (0.0, 1.0));
}

/// Floats cannot tell `left + right` from `right + left`; strings can.
#[test]
fn siblings_are_added_left_and_right_whoever_comes_first() {
    let tree = Tree::new(4).expect("a power of two");
    for order in 0..4_u32.pow(4) {
        let order: Vec<u32> = (0..4).map(|digit| order >> (2 * digit) & 3).collect();
        if (0..4).any(|leaf| !order.contains(&leaf)) {
            continue;
        }
        let mut round = Round::new(tree);
        let mut add = |left: &mut String, right: &String| *left = format!("({left}{right})");
        let mut sums = Vec::new();
        for leaf in order {
            let text = leaf.to_string();
            match round.offer(tree.leaf(leaf), text, Tally::default(), &mut add) {
                Offer::Complete { sum, .. } => sums.push(sum),
                Offer::Held { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(sums, ["((01)(23))"]);
    }
}

#[test]
fn the_root_alone_completes_without_an_addition() {
    for leaves in [1, 8] {
        let tree = Tree::new(leaves).expect("a power of two");
        let mut round = Round::new(tree);
        let tally = Tally { rows: 3, loss: 0.5 };
        match round.offer(Node::ROOT, 42, tally, &mut |_, _| panic!("nothing to add")) {
            Offer::Complete {
                sum,
                tally: total,
                freed,
            } => {
                assert_eq!((sum, total), (42, tally));
                assert_eq!(freed.capacity(), 0);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_node_out_of_the_tree_is_handed_back_and_changes_nothing() {
    let mut round = Round::new(Tree::new(4).expect("a power of two"));
    let mut add = |left: &mut f32, right: &f32| *left += right;
    let mut offer = |n, value| {
        round.offer(
            Node::new(n).expect("not 0"),
            value,
            Tally::default(),
            &mut add,
        )
    };
    assert!(matches!(offer(4, 1.0), Offer::Held { .. }));
    assert!(matches!(offer(8, 5.0), Offer::Invalid(5.0)));
    assert!(matches!(offer(u32::MAX, 6.0), Offer::Invalid(6.0)));
    assert!(matches!(offer(4, 7.0), Offer::Duplicate(7.0)));
    assert!(matches!(offer(3, 2.0), Offer::Held { .. }));
    assert!(matches!(offer(5, 4.0), Offer::Complete { sum: 7.0, .. }));
}
