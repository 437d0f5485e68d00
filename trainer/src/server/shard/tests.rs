//! A shard of two chunks and a tree of two leaves.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use trainyard_core::layout::{Init, Param};
use trainyard_core::optimizer::Optimizer;
use trainyard_core::schedule::Schedule;
use trainyard_core::tree::Node;

use super::*;

const ROWS: u64 = 8;
const STEPS: u64 = 10;

fn shard_with(notify: Notify, checkpoint_every: u64) -> Shard {
    let param = Param {
        name: "w".into(),
        shape: vec![CHUNK as u64 + 16],
        init: Init::Constant(0.0),
    };
    let layout = Layout::new(vec![param]).expect("a layout");
    let plan = Plan::new(ROWS * STEPS, ROWS, 1, 1).expect("a plan");
    let rules = Rules {
        chunks: 0..layout.chunks(),
        tree: Tree::new(2).expect("two leaves"),
        optimizer: Optimizer::Sgd {
            momentum: 0.0,
            dampening: 0.0,
            nesterov: false,
            weight_decay: 0.0,
        },
        learning_rate: LearningRate {
            base: 0.5,
            warmup_steps: 0,
            schedule: Schedule::Constant,
            total_steps: plan.total_steps(),
        },
        plan,
        checkpoint_every,
        early_stopping: false,
        layout,
    };
    let parameters = vec![1.0; rules.layout.len()];
    Shard::new(rules, 0, &parameters, &[], notify).expect("a shard")
}

/// A shard, and what it tells.
fn shard() -> (Shard, Receiver<Notice>) {
    let (sender, notices) = channel();
    let sender = Mutex::new(sender);
    let notify = Notify(Box::new(move |notice| drop(lock(&sender).send(notice))));
    (shard_with(notify, u64::MAX), notices)
}

fn push(shard: &Shard, step: u64, node: u32, chunk: u32, rows: u64) -> Result<(), Refusal> {
    let push = Push {
        step,
        node: Node::new(node).expect("not 0"),
        chunk,
        tally: Tally { rows, loss: 0.5 },
    };
    let payload = vec![rows as f32; shard.chunk_len(chunk).expect("ours")];
    shard.push(push, payload).map(drop)
}

fn values(shard: &Shard, chunk: u32) -> Arc<Vec<f32>> {
    let [_, newest] = shard.versions(chunk);
    newest.expect("a version").1
}

/// A peer claims the whole step, or a part of it, with rows that it cannot have. What others have
/// pushed stays, and the step is finished by those who have not yet.
#[test]
fn t13_an_untrue_push_for_the_current_step_takes_nothing_away() {
    let (shard, _notices) = shard();
    for chunk in shard.chunks() {
        push(&shard, 0, 2, chunk, 4).expect("a true push");
        for (node, rows) in [
            (1, 7),
            (1, 9),
            (1, 0),
            (1, u64::MAX),
            (2, 8),
            (3, 3),
            (3, 5),
        ] {
            let refused = push(&shard, 0, node, chunk, rows);
            let expected = if node == 1 { 8 } else { 4 };
            let wanted = Refusal::Rows {
                step: 0,
                node,
                expected,
                actual: rows,
            };
            assert_eq!(refused, Err(wanted));
        }
        assert_eq!(push(&shard, 0, 4, chunk, 4), Err(Refusal::Node(4)));
        push(&shard, 0, 3, chunk, 4).expect("a true push");
        // 1 - 0.5 * (4 + 4) / 8
        assert!(values(&shard, chunk).iter().all(|value| *value == 0.5));
    }
    assert_eq!(shard.version(), 1);
}

/// After the last step nobody has anything to push.
#[test]
fn t13_a_push_beyond_the_last_step_is_refused() {
    let (shard, _notices) = shard();
    for (step, chunk) in (0..STEPS).flat_map(|step| [(step, 0), (step, 1)]) {
        push(&shard, step, 1, chunk, ROWS).expect("a true push");
    }
    let refused = push(&shard, STEPS, 1, 0, ROWS);
    assert!(
        matches!(refused, Err(Refusal::Future { .. })),
        "{refused:?}"
    );
    assert_eq!(shard.version(), STEPS);
}
