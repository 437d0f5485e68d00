//! A shard of two chunks and a tree of two leaves.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock, Weak};

use trainyard_core::layout::{Init, Layout, Param};
use trainyard_core::optimizer::Optimizer;
use trainyard_core::sampling::Plan;
use trainyard_core::schedule::{LearningRate, Schedule};
use trainyard_core::tree::{Node, Tree};

use super::*;

const ROWS: u64 = 8;
const STEPS: u64 = 200;

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
    let notify = Notify(Box::new(move |notice| drop(sender.lock().send(notice))));
    (shard_with(notify, u64::MAX), notices)
}

fn applied(notices: &Receiver<Notice>) -> Vec<u64> {
    let version = |notice| match notice {
        Notice::Applied(version) => Some(version),
        _ => None,
    };
    notices.try_iter().filter_map(version).collect()
}

fn push(shard: &Shard, step: u64, node: u32, chunk: u32, rows: u64) -> Result<(), Refusal> {
    let push = Push {
        step,
        node: Node::new(node).expect("not 0"),
        chunk,
        tally: Tally { rows, loss: 0.5 },
    };
    let payload = vec![rows as f32; shard.rules.chunk_len(chunk).expect("ours")];
    shard.push(push, payload).map(drop)
}

fn values(shard: &Shard, chunk: u32) -> Arc<Vec<f32>> {
    let [_, newest] = shard.versions(chunk);
    newest.expect("a version").values
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

/// A chunk may run ahead of the others by the step that is under way, not by more.
#[test]
fn t13_a_push_for_a_step_that_nobody_can_have_begun_is_refused() {
    let (shard, notices) = shard();
    push(&shard, 0, 1, 0, ROWS).expect("a true push");
    let refused = push(&shard, 1, 1, 0, ROWS);
    assert!(
        matches!(refused, Err(Refusal::Future { .. })),
        "{refused:?}"
    );
    push(&shard, 0, 1, 1, ROWS).expect("a true push");
    push(&shard, 1, 1, 0, ROWS).expect("a true push");
    push(&shard, 1, 1, 1, ROWS).expect("a true push");
    assert_eq!(applied(&notices), [1, 2]);
}

/// Who sees a new version may complete the next one at once: by then this one is counted, and its loss
/// is told. What may keep a thread waiting keeps nobody else from a chunk.
#[test]
fn t22_a_version_is_counted_before_it_is_seen_and_nobody_waits_for_storage() {
    let this = Arc::new(OnceLock::<Weak<Shard>>::new());
    let (sender, notices) = channel();
    let sender = Mutex::new(sender);
    let notify = {
        let this = Arc::clone(&this);
        move |notice| {
            let shard = this.get().and_then(Weak::upgrade).expect("it lives");
            let free = |chunk: usize| shard.chunks[chunk].try_lock().is_some();
            match &notice {
                Notice::StepReduced { step, .. } => {
                    assert!(!free(0), "the next version can be seen");
                    assert_eq!(shard.progress.lock().newest(), (1, step + 1));
                }
                Notice::Applied(version) => {
                    assert!(free(0) && free(1), "a chunk is kept");
                    assert_eq!(shard.version(), *version);
                }
                Notice::Snapshot(_) => assert!(free(0) && free(1), "a chunk is kept"),
            }
            drop(sender.lock().send(notice));
        }
    };
    let shard = Arc::new(shard_with(Notify(Box::new(notify)), 1));
    this.set(Arc::downgrade(&shard)).expect("set once");
    for (step, chunk) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        push(&shard, step, 1, chunk, ROWS).expect("a true push");
    }
    let told: Vec<Notice> = notices.try_iter().collect();
    assert!(
        matches!(
            told[..],
            [
                Notice::StepReduced { step: 0, .. },
                Notice::Snapshot(Snapshot { version: 1, .. }),
                Notice::Applied(1),
                Notice::StepReduced { step: 1, .. },
                Notice::Snapshot(Snapshot { version: 2, .. }),
                Notice::Applied(2),
            ]
        ),
        "{told:?}"
    );
}

/// Two connections, each with its chunk, push as soon as they see the step before on both.
#[test]
fn t22_every_version_is_told_however_the_connections_run() {
    let (shard, notices) = shard();
    let newest = |chunk| {
        shard.versions(chunk)[1]
            .as_ref()
            .map(|version| version.number)
    };
    std::thread::scope(|scope| {
        for chunk in shard.chunks() {
            let (shard, newest) = (&shard, &newest);
            scope.spawn(move || {
                for step in 0..STEPS {
                    while shard.chunks().any(|chunk| newest(chunk) < Some(step)) {
                        std::thread::yield_now();
                    }
                    push(shard, step, 1, chunk, ROWS).expect("a true push");
                }
            });
        }
    });
    let mut told = applied(&notices);
    told.sort_unstable();
    assert!(told.into_iter().eq(1..=STEPS));
}

/// A server that was set up anew at an older version, under the generation that the worker knows.
#[test]
fn t13_a_worker_that_holds_what_never_was_is_refused() {
    let (shard, _notices) = shard();
    let subscribe = |held: [Option<u64>; 2]| shard.subscribe(0, 1, &Held::of(held)).map(drop);
    assert_eq!(subscribe([None, Some(0)]), Ok(()));
    let refusal = Refusal::Held {
        chunk: 1,
        held: 1,
        version: 0,
    };
    assert_eq!(subscribe([Some(0), Some(1)]), Err(refusal));
    push(&shard, 0, 1, 1, ROWS).expect("a whole step");
    assert_eq!(subscribe([Some(0), Some(1)]), Ok(()));
    // Of two connections, the second brings chunk 1.
    let second = shard.subscribe(1, 2, &Held::of([Some(2)])).map(drop);
    assert!(matches!(second, Err(Refusal::Held { chunk: 1, .. })));
}
