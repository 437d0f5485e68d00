//! A server's chunks without the server: what is taken, refused, counted, handed out and kept.

use std::num::NonZeroUsize;
use std::sync::Arc;

use trainyard_core::layout::{Init, Layout, Param};
use trainyard_core::optimizer::Optimizer;
use trainyard_core::round::Tally;
use trainyard_core::sampling::Plan;
use trainyard_core::schedule::{LearningRate, Schedule};
use trainyard_core::shard::{
    Chunk, Feed, Held, Part, Progress, Push, Refusal, Rules, Shared, Snapshot, Taken, Version,
    Versions,
};
use trainyard_core::tree::{Node, Tree};
use trainyard_core::wire::{as_bytes, checksum};

const ROWS: u64 = 8;
const STEPS: u64 = 6;

/// An arena of 48 floats, of which 40 are parameters, in chunks of 16: of three chunks the last two.
fn rules(checkpoint_every: u64) -> Rules {
    let param = Param {
        name: "w".into(),
        shape: vec![40],
        init: Init::Constant(0.0),
    };
    let layout = Layout::new(vec![param]).expect("a layout");
    let layout = layout.in_chunks_of(NonZeroUsize::new(16).expect("not 0"));
    let plan = Plan::new(ROWS * STEPS, ROWS, 1, 1).expect("a plan");
    Rules {
        layout: layout.expect("three chunks"),
        chunks: 1..3,
        tree: Tree::new(2).expect("two leaves"),
        optimizer: Optimizer::Sgd {
            momentum: 0.5,
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
    }
}

/// A shard at `version`, whose parameters are all 1.
fn shard_at(rules: &Rules, version: u64) -> (Vec<Chunk>, Progress) {
    let parameters = vec![1.0; rules.floats().len()];
    let state = vec![vec![0.0; parameters.len()]];
    let chunks = rules.chunks_at(version, &parameters, &state);
    let progress = Progress::new(rules.chunks.len(), version);
    (chunks.expect("the lengths are right"), progress)
}

fn push(
    rules: &Rules,
    chunk: &mut Chunk,
    step: u64,
    node: u32,
    reached: u64,
) -> Result<Taken, Refusal> {
    let node = Node::new(node).expect("not 0");
    let rows = if node == Node::ROOT { ROWS } else { ROWS / 2 };
    let push = Push {
        step,
        node,
        chunk: chunk.id(),
        tally: Tally { rows, loss: 1.0 },
    };
    let len = rules.chunk_len(chunk.id()).expect("owned");
    chunk.take(rules, reached, &push, vec![rows as f32; len], Vec::new)
}

/// Applies the step that a chunk is at.
fn step(rules: &Rules, chunk: &mut Chunk) {
    let at = chunk.version();
    let taken = push(rules, chunk, at, 1, at).expect("a true push");
    assert!(matches!(taken, Taken::Applied { .. }), "{taken:?}");
}

fn numbers(versions: &Versions) -> Vec<u64> {
    versions
        .iter()
        .flatten()
        .map(|version| version.number)
        .collect()
}

#[test]
fn t22_a_step_is_applied_when_all_of_it_is_there_and_once() {
    let rules = rules(u64::MAX);
    let (mut chunks, _) = shard_at(&rules, 0);
    let chunk = &mut chunks[0];
    assert!(matches!(
        push(&rules, chunk, 0, 2, 0),
        Ok(Taken::Held { .. })
    ));
    assert!(matches!(
        push(&rules, chunk, 0, 2, 0),
        Ok(Taken::Duplicate(_))
    ));
    assert_eq!(numbers(&chunk.versions()), [0]);
    match push(&rules, chunk, 0, 3, 0) {
        Ok(Taken::Applied { tally, sum, freed }) => {
            assert_eq!((tally.rows, tally.loss), (ROWS, 2.0));
            assert_eq!(
                (sum.len(), freed.len()),
                (16, 0),
                "the other half holds the new version"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(numbers(&chunk.versions()), [0, 1]);
    assert!(
        matches!(push(&rules, chunk, 0, 3, 1), Ok(Taken::Late(payload)) if payload.len() == 16)
    );
    // 1 - 0.5 * (4 + 4) / 8, and the momentum is the mean gradient.
    let (parameters, state) = chunk.part();
    assert!(
        parameters.iter().all(|value| *value == 0.5),
        "{parameters:?}"
    );
    assert!(state.iter().all(|value| *value == 1.0), "{state:?}");
}

#[test]
fn t22_the_padding_of_a_chunk_stays_zero() {
    let rules = rules(u64::MAX);
    let (mut chunks, _) = shard_at(&rules, 0);
    step(&rules, &mut chunks[1]);
    let (parameters, _) = chunks[1].part();
    assert!(parameters[..8].iter().all(|value| *value == 0.5));
    assert!(
        parameters[8..].iter().all(|value| *value == 0.0),
        "{parameters:?}"
    );
}

/// Who still sends a version, or writes it, keeps it as it was.
#[test]
fn t22_a_version_that_somebody_holds_does_not_change() {
    let rules = rules(u64::MAX);
    let (mut chunks, _) = shard_at(&rules, 0);
    let chunk = &mut chunks[0];
    let mut held: Vec<Part> = Vec::new();
    for _ in 0..4 {
        held.push(chunk.part());
        step(&rules, chunk);
    }
    let first: Vec<f32> = held.iter().map(|(parameters, _)| parameters[0]).collect();
    let moved: Vec<f32> = held.iter().map(|(_, state)| state[0]).collect();
    assert_eq!(first, [1.0, 0.5, -0.25, -1.125]);
    assert_eq!(moved, [0.0, 1.0, 1.5, 1.75]);
}

#[test]
fn t22_the_buffer_of_the_version_before_last_is_used_again() {
    let rules = rules(u64::MAX);
    let (mut chunks, _) = shard_at(&rules, 0);
    let chunk = &mut chunks[0];
    let address = |versions: &Versions, at: usize| versions[at].as_ref().map(|v| v.values.as_ptr());
    step(&rules, chunk);
    let oldest = address(&chunk.versions(), 0);
    step(&rules, chunk);
    assert_eq!(address(&chunk.versions(), 1), oldest);
}

/// A receiver computes it from what arrives: one of other parameters would be refused for ever.
#[test]
fn t13_each_version_has_the_checksum_of_its_own_parameters() {
    let rules = rules(u64::MAX);
    let (mut chunks, _) = shard_at(&rules, 0);
    let chunk = &mut chunks[0];
    let mut told = Vec::new();
    let mut check = |chunk: &Chunk| {
        for version in chunk.versions().into_iter().flatten() {
            let expected = checksum(as_bytes(&version.values));
            assert_eq!(version.checksum, expected, "version {}", version.number);
            told.push((version.number, version.checksum));
        }
    };
    check(chunk);
    for _ in 0..3 {
        step(&rules, chunk); // from the third on into a buffer that has held another version
        check(chunk);
    }
    assert!(chunk.replace(9, &[9.0; 16]));
    check(chunk);
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), 5, "one for each version: {told:?}");
}

#[test]
fn t13_a_push_that_cannot_be_true_is_refused() {
    let rules = rules(u64::MAX);
    let (mut chunks, _) = shard_at(&rules, 2);
    let chunk = &mut chunks[0];
    let future = |step| Refusal::Future {
        chunk: 1,
        step,
        version: 2,
    };
    let refused =
        |chunk: &mut Chunk, step, node, reached| push(&rules, chunk, step, node, reached).err();
    assert_eq!(refused(chunk, 3, 1, 2), Some(future(3)));
    assert_eq!(refused(chunk, 2, 1, 1), Some(future(2)));
    assert_eq!(refused(chunk, STEPS, 1, STEPS), Some(future(STEPS)));
    assert_eq!(refused(chunk, 2, 4, 2), Some(Refusal::Node(4)));
    for rows in [0, 3, 5, 8] {
        let node = Node::new(3).expect("not 0");
        let push = Push {
            step: 2,
            node,
            chunk: 1,
            tally: Tally { rows, loss: 1.0 },
        };
        let refused = chunk.take(&rules, 2, &push, vec![0.0; 16], Vec::new).err();
        let wanted = Refusal::Rows {
            step: 2,
            node: 3,
            expected: 4,
            actual: rows,
        };
        assert_eq!(refused, Some(wanted));
        let refused = chunk.take(&rules, 2, &push, vec![0.0; 15], Vec::new).err();
        let wanted = Refusal::Length {
            chunk: 1,
            expected: 16,
            actual: 15,
        };
        assert_eq!(refused, Some(wanted));
    }
    assert_eq!(rules.chunk_len(0), Err(Refusal::Chunk(0)));
    assert_eq!(rules.chunk_len(3), Err(Refusal::Chunk(3)));
    assert_eq!(rules.chunk_len(2), Ok(16));
    step(&rules, chunk); // nothing of it was counted
}

/// The loss of a leaf is an f32. Larger ones, each finite, could add up to what no checkpoint can hold.
#[test]
fn t13_a_loss_that_no_rows_have_is_refused() {
    let rules = rules(u64::MAX);
    let (mut chunks, _) = shard_at(&rules, 2);
    let most = f64::from(f32::MAX) * ROWS as f64;
    let mut taken = |loss: f64| {
        let push = Push {
            step: 2,
            node: Node::ROOT,
            chunk: 1,
            tally: Tally { rows: ROWS, loss },
        };
        chunks[0].take(&rules, 2, &push, vec![0.0; 16], Vec::new)
    };
    for loss in [
        1.01 * most,
        -1.01 * most,
        f64::MAX,
        f64::MIN,
        f64::NAN,
        f64::INFINITY,
    ] {
        let refused = taken(loss).err();
        assert!(
            matches!(refused, Some(Refusal::Loss { .. })),
            "{loss}: {refused:?}"
        );
    }
    assert!(matches!(taken(most), Ok(Taken::Applied { .. })));
}

#[test]
fn t13_parameters_of_another_length_are_refused() {
    let rules = rules(u64::MAX);
    assert_eq!(rules.floats(), 16..48);
    for (parameters, state, name, actual) in [(31, 32, "parameters", 31), (32, 33, "state", 33)] {
        let error = rules.chunks_at(0, &vec![0.0; parameters], &[vec![0.0; state]]);
        let error = error.expect_err("a wrong length");
        assert_eq!(
            (error.name, error.actual, error.expected),
            (name, actual, 32)
        );
    }
    for actual in [31, 33] {
        let wanted = Refusal::Length {
            chunk: 1,
            expected: 32,
            actual,
        };
        assert_eq!(rules.part(1, &vec![0.0; actual]), Err(wanted));
    }
    let parameters: Vec<f32> = (0..32_u8).map(f32::from).collect();
    assert_eq!(rules.part(2, &parameters), Ok(&parameters[16..]));
}

/// Each slot's floats of a chunk lie together, as the optimizer wants them.
#[test]
fn t22_a_shard_takes_up_the_state_of_each_chunk() {
    let mut rules = rules(u64::MAX);
    rules.optimizer = Optimizer::Adam {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.0,
    };
    let floats = |from: u8| (from..from + 32).map(f32::from).collect::<Vec<f32>>();
    let chunks = rules.chunks_at(7, &floats(0), &[floats(100), floats(200)]);
    let chunks = chunks.expect("the lengths are right");
    let (parameters, state) = chunks[1].part();
    assert_eq!((chunks[1].id(), chunks[1].version()), (2, 7));
    assert_eq!(parameters[..], floats(0)[16..]);
    assert_eq!(state[..16], floats(100)[16..]);
    assert_eq!(state[16..], floats(200)[16..]);
}

#[test]
fn t22_other_parameters_become_the_newest_version_once() {
    let rules = rules(1);
    let (mut chunks, mut progress) = shard_at(&rules, 4);
    for (chunk, whole) in chunks.iter_mut().zip([None, Some(6)]) {
        assert!(!chunk.replace(4, &[9.0; 16]), "it is not newer");
        assert!(chunk.replace(6, &[9.0; 16]));
        assert!(!chunk.replace(6, &[8.0; 16]), "it was asked for before");
        assert_eq!(numbers(&chunk.versions()), [4, 6], "each by its name");
        assert_eq!(chunk.part().0[..], [9.0; 16]);
        let reached = progress.replaced(chunk);
        assert_eq!(reached.whole, whole);
        assert!(reached.snapshot.is_none(), "it came from a checkpoint");
    }
    assert_eq!(progress.version(), 6);
}

#[test]
fn t22_a_snapshot_has_every_chunk_at_the_version_of_the_checkpoint() {
    let rules = rules(2);
    let (mut chunks, mut progress) = shard_at(&rules, 0);
    let mut told: Vec<(u64, Option<u64>)> = Vec::new();
    for version in 1..=4 {
        for at in [1, 0] {
            step(&rules, &mut chunks[at]);
            let reached = progress.applied(&rules, &chunks[at]);
            assert_eq!(progress.newest(), (2 - at, version));
            if let Some(snapshot) = &reached.snapshot {
                let parts = snapshot.parts.iter().zip(&chunks);
                for ((parameters, state), chunk) in parts {
                    let (ours, slots) = chunk.part();
                    assert!(Arc::ptr_eq(parameters, &ours) && Arc::ptr_eq(state, &slots));
                }
                assert_eq!(snapshot.parts.len(), 2);
            }
            match reached.whole {
                Some(whole) => told.push((whole, reached.snapshot.map(|s| s.version))),
                None => assert!(reached.snapshot.is_none()),
            }
        }
    }
    assert_eq!(told, [(1, None), (2, Some(2)), (3, None), (4, Some(4))]);
}

/// Cannot happen while every chunk waits for the others; were it to, there is no snapshot.
#[test]
fn t22_a_snapshot_is_never_of_mixed_versions() {
    let rules = rules(1);
    let (mut chunks, mut progress) = shard_at(&rules, 0);
    for at in [0, 0, 1, 1] {
        step(&rules, &mut chunks[at]);
        let reached = progress.applied(&rules, &chunks[at]);
        assert!(reached.snapshot.is_none(), "{:?}", reached.snapshot);
    }
}

#[test]
fn t22_a_snapshot_on_demand_is_of_one_version() {
    let rules = rules(u64::MAX);
    let (mut chunks, _) = shard_at(&rules, 0);
    let parts = |chunks: &[Chunk]| -> Vec<(u64, Part)> {
        chunks
            .iter()
            .map(|chunk| (chunk.version(), chunk.part()))
            .collect()
    };
    assert_eq!(
        Snapshot::at(0, parts(&chunks)).map(|s| s.parts.len()),
        Some(2)
    );
    assert!(Snapshot::at(1, parts(&chunks)).is_none());
    step(&rules, &mut chunks[0]);
    assert!(Snapshot::at(0, parts(&chunks)).is_none());
    assert!(Snapshot::at(1, parts(&chunks)).is_none());
}

fn versions(old: Option<u64>, new: u64) -> Versions {
    let values: Shared = Arc::new(vec![0.0]);
    [
        old.map(|old| Version::new(old, Arc::clone(&values))),
        Some(Version::new(new, values)),
    ]
}

fn sent(feed: &mut Feed, chunk: u32, versions: Versions) -> Vec<u64> {
    numbers(&feed.unsent(chunk, versions))
}

#[test]
fn t22_a_feed_sends_its_chunks_in_turn_and_a_chunk_that_changed_again_once() {
    let mut feed = Feed::new(3..9, 1, 2, &Held::default(), |_| 0).unwrap();
    let taken: Vec<u32> = std::iter::from_fn(|| feed.take()).collect();
    assert_eq!(taken, [3, 5, 7], "what there is when it connects");
    assert!(!feed.offer(4), "of another connection");
    assert!(!feed.offer(1) && !feed.offer(9), "of another server");
    assert!(feed.offer(5) && feed.offer(3));
    assert!(!feed.offer(5), "it waits already");
    assert_eq!(
        (feed.take(), feed.take(), feed.take()),
        (Some(5), Some(3), None)
    );
    assert!(feed.offer(5), "it may wait again");
}

#[test]
fn t22_a_feed_sends_each_version_once() {
    let mut feed = Feed::new(0..2, 0, 1, &Held::default(), |_| 0).unwrap();
    assert_eq!(sent(&mut feed, 0, versions(Some(4), 5)), [4, 5]);
    assert_eq!(sent(&mut feed, 0, versions(Some(4), 5)), [0; 0]);
    assert_eq!(sent(&mut feed, 0, versions(Some(5), 6)), [6]);
    assert_eq!(sent(&mut feed, 0, versions(Some(7), 8)), [7, 8]);
    assert_eq!(sent(&mut feed, 1, versions(None, 0)), [0]);
}

#[test]
fn t13_a_feed_is_refused_to_who_holds_what_never_was() {
    let feed =
        |held: [Option<u64>; 2]| Feed::new(3..7, 1, 2, &Held::of(held), |chunk| chunk.into());
    let held = |chunk, held| Refusal::Held {
        chunk,
        held,
        version: chunk.into(),
    };
    assert!(feed([Some(3), Some(5)]).is_ok(), "of chunks 3 and 5");
    assert_eq!(feed([Some(4), None]).unwrap_err(), held(3, 4));
    assert_eq!(feed([None, Some(6)]).unwrap_err(), held(5, 6));
    let mut feed = feed([Some(3), Some(4)]).unwrap();
    assert_eq!(
        sent(&mut feed, 3, versions(Some(2), 3)),
        [0; 0],
        "it is here"
    );
    assert_eq!(sent(&mut feed, 5, versions(Some(4), 5)), [5]);
}
