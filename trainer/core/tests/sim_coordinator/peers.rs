//! What peers say that they should not, and what it costs them.

use trainyard_core::control::{Block, EVALUATION_BLOCK_ROWS, RowSet, ToCoordinator};
use trainyard_core::coordinator::{Action, Commit, Config, Event};
use trainyard_core::metrics::{BlockResult, Detail};
use trainyard_core::round::Tally;

use super::bench::*;

#[test]
fn results_that_cannot_be_true_cost_the_peer_its_place() {
    let scores = Detail::Binary {
        scores: vec![0.0; 1024],
        labels: vec![false; 1024],
    };
    let bad = [
        result(3, 1.0),
        BlockResult {
            rows: 1024,
            loss_sum: 1.0,
            detail: scores,
        },
    ];
    for bad in bad {
        let mut bench = Bench::training(config(), 2000);
        bench.step();
        let actions = bench.step();
        let (peer, id, _, blocks) = evaluations(&actions).remove(0);
        let refused = bench.say(
            peer,
            ToCoordinator::Blocks {
                id,
                results: vec![(blocks[0], bad)],
            },
        );
        assert!(refusal(&refused).contains("validation block 0"));
        // Its blocks go to the other worker.
        let (other, _, _, again) = evaluations(&refused).remove(0);
        assert!(other != peer && again == blocks);
        // Results of unknown blocks and other passes are ignored.
        let unknown = vec![
            (Block(RowSet::Train, 0), result(9, 1.0)),
            (Block(RowSet::Validation, 99), result(9, 1.0)),
        ];
        bench.say(
            other,
            ToCoordinator::Blocks {
                id,
                results: unknown.clone(),
            },
        );
        bench.say(
            other,
            ToCoordinator::Blocks {
                id: id + 1,
                results: unknown,
            },
        );
        assert_eq!(bench.phase(), "Validating");
        answer(&mut bench, &actions, 2000, 0.5);
        answer(&mut bench, &refused, 2000, 0.5);
        assert_eq!(bench.phase(), "Training");
    }
}

#[test]
fn evaluations_are_asked_for_in_bounded_messages() {
    let rows = 1000 * EVALUATION_BLOCK_ROWS;
    let mut bench = Bench::training(config(), rows);
    bench.step();
    let mut orders = bench.step();
    let mut rounds = 0;
    while bench.phase() == "Validating" {
        assert!(
            evaluations(&orders)
                .iter()
                .all(|(_, _, _, blocks)| blocks.len() <= 64)
        );
        orders = answer(&mut bench, &orders, rows, 0.25);
        rounds += 1;
        assert!(rounds < 2000);
    }
    let validation = bench.coordinator.progress().validation.expect("validated");
    assert_eq!(validation.loss, Some(0.25));
}

#[test]
fn parts_of_checkpoints_that_nobody_wants_are_not_kept() {
    let mut bench = Bench::training(
        Config {
            checkpoint_every: 2,
            ..config()
        },
        0,
    );
    bench.step();
    for version in [0, 1, 3, 4, 100, u64::MAX] {
        assert_eq!(bench.written(version), [], "version {version}");
    }
    // What came too early does not count later.
    bench.step();
    bench.step();
    assert!(committing(&bench.step()).is_empty());
    // The real ones do, each once, and repeats of what is committed do not.
    for version in [2, 4] {
        let actions = bench.written(version);
        assert_eq!(committing(&actions), [version]);
        assert_eq!(bench.written(version), []);
        bench.committed(version);
    }
    assert_eq!([bench.written(2), bench.written(4)].concat(), []);
    assert_eq!(bench.coordinator.progress().checkpoint, Some(4));
}

#[test]
fn a_part_from_a_server_without_chunks_is_ignored() {
    let mut bench = Bench::new(Config {
        checkpoint_every: 1,
        ..config()
    });
    bench.say(WORKERS[0], ToCoordinator::Join(worker(0)));
    bench.serve(0, [1, 0]);
    bench.event(Event::StepReduced {
        step: 0,
        tally: Tally { rows: 5, loss: 1.0 },
    });
    bench.say(SERVERS[0], ToCoordinator::Applied { version: 1 });
    let write = |peer| {
        Event::Message(
            peer,
            ToCoordinator::ShardWritten {
                version: 1,
                record: shard(peer.0, 1),
            },
        )
    };
    assert_eq!(bench.event(write(SERVERS[1])), []);
    let actions = bench.event(write(SERVERS[0]));
    assert!(
        matches!(commit(&actions), Some(Commit::Checkpoint { shards, .. }) if shards.len() == 1),
        "{actions:?}"
    );
}

#[test]
fn versions_never_go_back() {
    let mut bench = Bench::training(config(), 0);
    bench.step();
    bench.step();
    bench.say(
        SERVERS[1],
        ToCoordinator::Ready {
            version: 0,
            chunks: 0,
        },
    );
    bench.say(SERVERS[1], ToCoordinator::Applied { version: 1 });
    bench.event(Event::StepReduced {
        step: 0,
        tally: Tally { rows: 5, loss: 1.0 },
    });
    bench.event(Event::StepReduced {
        step: 7,
        tally: Tally { rows: 5, loss: 1.0 },
    });
    assert_eq!(bench.coordinator.progress().step, 2);
    assert_eq!(bench.coordinator.progress().samples, 10);
}

#[test]
fn only_those_who_may_decide_are_heard() {
    let mut bench = Bench::training(config(), 0);
    let ignored = [
        (
            OBSERVER,
            ToCoordinator::Failed {
                message: "no".into(),
            },
        ),
        (OBSERVER, ToCoordinator::Drain),
        (WORKERS[0], ToCoordinator::Stop),
        (WORKERS[0], ToCoordinator::Applied { version: 6 }),
        (
            WORKERS[0],
            ToCoordinator::ShardWritten {
                version: 6,
                record: shard(0, 6),
            },
        ),
        (SERVERS[0], ToCoordinator::Halted { id: 1, next: 6 }),
        (SERVERS[0], ToCoordinator::SnapshotMissed { version: 0 }),
    ];
    for (peer, message) in ignored {
        assert_eq!(bench.say(peer, message), []);
    }
    // Nobody else holds what a server holds.
    let message = failure(&bench.say(
        SERVERS[1],
        ToCoordinator::Failed {
            message: "no file".into(),
        },
    ));
    assert_eq!(message, "no file");
}

fn committing(actions: &[Action]) -> Vec<u64> {
    let commits = actions.iter().filter_map(|action| match action {
        Action::Commit(commit) => match &**commit {
            Commit::Checkpoint {
                version,
                shards,
                record,
                ..
            } => {
                assert_eq!((shards.len(), record.step), (2, *version));
                Some(*version)
            }
            _ => None,
        },
        _ => None,
    });
    commits.collect()
}

#[test]
fn checkpoints_pass_over_those_that_storage_has_no_time_for() {
    let mut bench = Bench::training(
        Config {
            checkpoint_every: 1,
            ..config()
        },
        0,
    );
    let mut issued = Vec::new();
    for version in 1..=5 {
        bench.step();
        issued.extend(committing(&bench.written(version)));
    }
    assert_eq!(issued, [1], "one at a time");
    assert_eq!(committing(&bench.committed(1)), [5]);
    bench.step();
    assert_eq!(committing(&bench.written(6)), [] as [u64; 0]);
    assert_eq!(committing(&bench.committed(5)), [6]);
    assert_eq!(bench.phase(), "Training", "the end waits for its commit");
    bench.committed(6);
    assert_eq!(bench.phase(), "Evaluating");
}
