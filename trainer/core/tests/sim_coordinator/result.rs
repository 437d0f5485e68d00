//! Early stopping, and the way to the result.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use trainyard_core::control::{Block, FromCoordinator, Join, RowSet, ToCoordinator};
use trainyard_core::coordinator::{
    Action, Commit, Config, Coordinator, EarlyStopping, Event, Outcome, PeerId, Record, Start,
};
use trainyard_core::metrics::{BlockResult, Metric, Metrics, TaskKind};
use trainyard_core::round::Tally;

use super::bench::*;

fn early(restore_best: bool) -> Config {
    let early = EarlyStopping {
        metric: Metric::Loss,
        patience: 1,
        min_delta: 0.0,
        restore_best,
        counts_undefined: false,
    };
    Config {
        early_stopping: Some(early),
        epochs: 5,
        ..config()
    }
}

/// Trains one epoch of two steps, whose checkpoint is written and whose validation has this loss;
/// returns what follows.
fn epoch(bench: &mut Bench, loss: f64) -> Vec<Action> {
    bench.step();
    let orders = bench.step();
    let version = bench.coordinator.record().step;
    assert_eq!(
        bench.written(version),
        [],
        "the commit waits for the metrics"
    );
    let mut actions = answer(bench, &orders, 10, loss);
    assert!(commit(&actions).is_some());
    actions.extend(bench.committed(version));
    actions
}

fn commits_as_best(actions: &[Action]) -> Option<bool> {
    match commit(actions) {
        Some(Commit::Checkpoint { best, .. }) => Some(*best),
        _ => None,
    }
}

/// Orders to restore: the version to publish, and the step of the checkpoint.
fn restores(actions: &[Action], peer: PeerId) -> Vec<(u64, u64)> {
    let orders = sent(actions, peer)
        .into_iter()
        .filter_map(|message| match message {
            FromCoordinator::Restore { version, manifest } => Some((*version, manifest.step)),
            _ => None,
        });
    orders.collect()
}

#[test]
fn early_stopping_restores_the_best_epoch() {
    let mut bench = Bench::training(early(true), 10);
    assert_eq!(commits_as_best(&epoch(&mut bench, 0.5)), Some(true));
    let actions = epoch(&mut bench, 0.7);
    assert_eq!(commits_as_best(&actions), Some(false));
    assert!(bench.coordinator.record().stopped_early);
    assert_eq!(
        SERVERS.map(|peer| restores(&actions, peer)),
        [vec![(5, 2)], vec![(5, 2)]]
    );
    // One server's order was lost: it is said again until it is done.
    bench.event(Event::Closed(SERVERS[1]));
    let actions = bench.say(
        PeerId(2),
        ToCoordinator::Join(Join {
            ready: Some(4),
            ..server(1)
        }),
    );
    assert_eq!(restores(&actions, PeerId(2)), [(5, 2)]);
    bench.say(SERVERS[0], ToCoordinator::Applied { version: 5 });
    let orders = bench.say(PeerId(2), ToCoordinator::Applied { version: 5 });
    let asked = evaluations(&orders);
    assert!(asked.iter().all(|(_, _, version, _)| *version == 5));
    let sets = asked
        .iter()
        .flat_map(|(_, _, _, blocks)| blocks)
        .map(|Block(set, _)| *set);
    assert_eq!(
        sets.collect::<BTreeSet<_>>(),
        [RowSet::Train, RowSet::Validation].into()
    );
    let actions = answer(&mut bench, &orders, 10, 0.4);
    let Some(Commit::Complete {
        source,
        record,
        metrics,
    }) = commit(&actions)
    else {
        panic!("{actions:?}");
    };
    assert_eq!(source.step, 2);
    assert_eq!((record.step, record.stopped_early), (4, true));
    assert_eq!(metrics.train.loss, Some(0.4));
    assert_eq!(
        metrics.validation.loss,
        Some(0.4),
        "of the parameters that were restored"
    );
    assert_eq!(outcome(&bench.event(Event::Completed)), Some(Outcome::Done));
}

#[test]
fn early_stopping_without_restoring_keeps_the_last_epoch() {
    let mut bench = Bench::training(early(false), 10);
    epoch(&mut bench, 0.5);
    let orders = epoch(&mut bench, 0.7);
    let actions = answer(&mut bench, &orders, 10, 0.4);
    let Some(Commit::Complete {
        source, metrics, ..
    }) = commit(&actions)
    else {
        panic!("{actions:?}");
    };
    assert_eq!(source.step, 4);
    assert_eq!(metrics.validation.loss, Some(0.4), "of the last parameters");
}

#[test]
fn stops_in_the_last_phases_are_saved_already() {
    // Validating: the epoch's end is committed without its metrics.
    let mut bench = Bench::training(early(true), 10);
    bench.step();
    bench.step();
    assert_eq!(bench.phase(), "Validating");
    assert_eq!(outcome(&bench.say(OBSERVER, ToCoordinator::Stop)), None);
    let actions = bench.written(2);
    assert_eq!(checkpoint(&actions), Some(2), "{actions:?}");
    assert_eq!(commits_as_best(&actions), Some(false));
    assert_eq!(outcome(&bench.committed(2)), stopped(true));

    // Restoring, and evaluating the result.
    let mut bench = Bench::training(early(true), 10);
    epoch(&mut bench, 0.5);
    epoch(&mut bench, 0.7);
    assert_eq!(bench.phase(), "RestoringBest");
    let mut later = Bench {
        coordinator: bench.coordinator.clone(),
        now: bench.now,
    };
    assert_eq!(
        outcome(&bench.say(OBSERVER, ToCoordinator::Stop)),
        stopped(true)
    );
    for peer in SERVERS {
        later.say(peer, ToCoordinator::Applied { version: 5 });
    }
    assert_eq!(later.phase(), "Evaluating");
    assert_eq!(
        outcome(&later.say(OBSERVER, ToCoordinator::Stop)),
        stopped(true)
    );
}

/// A checkpoint at step 2, which is validated, and so the best, or not.
fn start(validated: bool) -> Start {
    let mut record = Record::default();
    let plan = trainyard_core::sampling::Plan::new(10, 5, 5, 1).expect("a plan");
    record.fold(&plan, Tally { rows: 5, loss: 1.0 });
    record.fold(&plan, Tally { rows: 5, loss: 1.0 });
    if validated {
        let metrics = Metrics {
            loss: Some(0.1),
            ..Metrics::default()
        };
        record.validated(metrics, early(true).early_stopping.as_ref(), false);
    }
    let manifest = manifest(record, 10);
    Start {
        best: validated.then(|| Arc::clone(&manifest)),
        manifest,
    }
}

#[test]
fn a_best_epoch_that_a_halt_committed_unvalidated_is_amended() {
    let mut bench = Bench {
        coordinator: Coordinator::new(early(true), Some(start(false))),
        now: Duration::ZERO,
    };
    let mut orders = Vec::new();
    for (index, peer) in (0..).zip(WORKERS) {
        bench.say(
            peer,
            ToCoordinator::Join(Join {
                facts: Some(facts(10).into()),
                ..worker(index)
            }),
        );
    }
    bench.serve(2, [1, 1]);
    orders.extend(bench.say(
        WORKERS[0],
        ToCoordinator::Ready {
            version: 2,
            chunks: 0,
        },
    ));
    assert_eq!(bench.phase(), "Validating");
    let actions = answer(&mut bench, &orders, 10, 0.5);
    let Some(Commit::Amend { source, record }) = commit(&actions) else {
        panic!("{actions:?}");
    };
    let best = record.best.as_ref().map(|best| best.step);
    assert_eq!((source.step, best), (2, Some(2)));
    assert_eq!(bench.phase(), "Training");
}

#[test]
fn a_best_checkpoint_that_is_gone_fails_rather_than_yield_another_result() {
    let mut lost = start(true);
    lost.best = None;
    let mut bench = Bench {
        coordinator: Coordinator::new(early(true), Some(lost)),
        now: Duration::ZERO,
    };
    bench.gather(10, 2);
    bench.step();
    let orders = bench.step();
    bench.written(4);
    let mut actions = answer(&mut bench, &orders, 10, 0.7);
    actions.extend(bench.committed(4));
    assert!(failure(&actions).contains("step 2) is gone"), "{actions:?}");
}

#[test]
fn records_and_results_survive_json() {
    let task = TaskKind::Regression;
    let block = BlockResult::from_outputs(task, &[f32::NAN, 1.0], &[0.0, 1.0]).expect("a block");
    let message = ToCoordinator::Blocks {
        id: 1,
        results: vec![(Block(RowSet::Train, 0), block)],
    };
    let text = serde_json::to_string(&message).expect("JSON");
    let back: ToCoordinator = serde_json::from_str(&text).expect("a message");
    let ToCoordinator::Blocks { results, .. } = back else {
        panic!("{text}")
    };
    assert!(results[0].1.loss_sum.is_nan());
    let record = start(true).manifest.coordinator.record.clone();
    let text = serde_json::to_string(&record).expect("JSON");
    assert_eq!(
        serde_json::from_str::<Record>(&text).expect("a record"),
        record
    );
}

/// The epochs that an observer is told of.
fn told(actions: &[Action], observer: PeerId) -> Vec<u64> {
    let messages = sent(actions, observer).into_iter();
    let epochs = messages.filter_map(|message| match message {
        FromCoordinator::Epochs { epochs } => Some(epochs.iter().map(|record| record.epoch)),
        _ => None,
    });
    epochs.flatten().collect()
}

#[test]
fn t23_observers_hear_of_each_epoch_once_when_it_is_validated() {
    const LATE: PeerId = PeerId(21);
    let mut bench = Bench::training(config(), 2);
    for epoch in 0..2 {
        assert!(told(&bench.step(), OBSERVER).is_empty());
        let asked = bench.step();
        assert!(told(&asked, OBSERVER).is_empty(), "it is being validated");
        let validated = answer(&mut bench, &asked, 2, 0.5);
        assert_eq!(told(&validated, OBSERVER), [epoch]);
    }
    let joined = bench.say(LATE, ToCoordinator::Join(observer()));
    assert_eq!(told(&joined, LATE), [0, 1], "what was before");
    assert!(told(&joined, OBSERVER).is_empty());

    let mut bench = Bench::training(config(), 0);
    bench.step();
    assert_eq!(told(&bench.step(), OBSERVER), [0], "nothing to validate");
}

#[test]
fn t15_early_stopping_on_a_metric_that_validation_cannot_define_is_told() {
    let mut early = early(true);
    if let Some(early) = &mut early.early_stopping {
        early.metric = Metric::Auc; // of a regression
    }
    let mut bench = Bench::training(early, 2);
    bench.step();
    let asked = bench.step();
    answer(&mut bench, &asked, 2, 0.5);
    let warnings = bench.coordinator.progress().warnings;
    let told = "earlyStopping.metric auc is undefined on the validation rows";
    assert!(
        warnings.iter().any(|text| text.starts_with(told)),
        "{warnings:?}"
    );
}
