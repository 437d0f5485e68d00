//! What one worker says would end the job: another must say the same.

use std::time::Duration;

use trainyard_core::control::{FromCoordinator, ToCoordinator};
use trainyard_core::coordinator::{Action, Event, PeerId};
use trainyard_core::round::Tally;

use super::bench::*;

fn not_finite(step: u64, leaf: u32) -> ToCoordinator {
    ToCoordinator::NonFinite {
        step,
        place: format!("leaf {leaf}"),
        value: "NaN".into(),
    }
}

fn failed(message: &str) -> ToCoordinator {
    ToCoordinator::Failed {
        message: message.into(),
    }
}

/// How many share the leaves, as this worker is told.
fn members(actions: &[Action], worker: PeerId) -> (Option<u32>, u32) {
    let view = view(actions, worker).expect("membership has changed");
    (view.rank, view.members)
}

#[test]
fn t16_a_loss_that_two_workers_find_not_finite_fails_the_job_with_step_and_place() {
    let mut bench = Bench::training(config(), 0);
    bench.step();
    let first = bench.say(WORKERS[1], not_finite(1, 3));
    assert_eq!(outcome(&first), None);
    assert_eq!(members(&first, WORKERS[0]), (Some(0), 1), "it computes all");
    assert_eq!(members(&first, WORKERS[1]), (None, 1));
    let message = failure(&bench.say(WORKERS[0], not_finite(1, 0)));
    assert!(message.contains("NaN at step 1, leaf 3"), "{message}");
}

#[test]
fn t16_a_sum_over_the_batch_that_is_not_finite_needs_no_witness() {
    let mut bench = Bench::training(config(), 0);
    let tally = Tally {
        rows: 5,
        loss: f64::INFINITY,
    };
    let message = failure(&bench.event(Event::StepReduced { step: 0, tally }));
    assert!(message.contains("inf at step 0"), "{message}");
}

#[test]
fn t16_a_block_that_two_workers_find_not_finite_fails_the_job() {
    let mut bench = Bench::training(config(), 2000);
    bench.step();
    let actions = bench.step();
    let (peer, id, _, blocks) = evaluations(&actions).remove(0);
    let results = |count: usize| {
        let blocks = blocks.iter().take(count);
        blocks.map(|b| (*b, result(1024, f64::NAN))).collect()
    };
    let first = bench.say(
        peer,
        ToCoordinator::Blocks {
            id,
            results: results(1),
        },
    );
    assert_eq!(outcome(&first), None);
    let (other, ..) = evaluations(&first).remove(0);
    assert_ne!(other, peer, "the other computes its blocks");
    let message = failure(&bench.say(
        other,
        ToCoordinator::Blocks {
            id,
            results: results(1),
        },
    ));
    assert!(
        message.contains("NaN at step 2, validation block 0"),
        "{message}"
    );
}

#[test]
fn t16_a_worker_alone_is_believed() {
    let mut bench = Bench::training(config(), 0);
    bench.say(WORKERS[0], ToCoordinator::Drain);
    bench.step();
    let message = failure(&bench.say(WORKERS[1], not_finite(1, 3)));
    assert!(message.contains("NaN at step 1, leaf 3"), "{message}");
}

/// Time passes, and those that are there beat.
fn pass(bench: &mut Bench, limit: Duration, there: &[PeerId]) -> (Vec<Action>, Duration) {
    let begin = bench.now;
    while bench.now < begin + limit {
        bench.now += TIMEOUT / 5;
        let mut actions = Vec::new();
        for peer in there {
            actions.extend(bench.say(*peer, ToCoordinator::Heartbeat));
        }
        actions.extend(bench.event(Event::Tick));
        if outcome(&actions).is_some() {
            return (actions, bench.now - begin);
        }
    }
    (Vec::new(), limit)
}

#[test]
fn t16_the_last_worker_is_believed_when_no_other_comes_back() {
    // In whatever order it lies and the other goes.
    for goes_first in [true, false] {
        let mut bench = Bench::training(config(), 0);
        bench.now += TIMEOUT / 5;
        bench.event(Event::Tick);
        let mut said = Vec::new();
        if goes_first {
            bench.event(Event::Closed(WORKERS[0]));
        }
        said.extend(bench.say(WORKERS[1], not_finite(0, 3)));
        if !goes_first {
            said.extend(bench.event(Event::Closed(WORKERS[0])));
        }
        assert_eq!(outcome(&said), None, "the other may be restarted");
        let (ended, after) = pass(&mut bench, 100 * TIMEOUT, &[SERVERS[1], WORKERS[1]]);
        let message = failure(&ended);
        assert!(message.contains("NaN at step 0, leaf 3"), "{message}");
        assert!((12 * TIMEOUT..14 * TIMEOUT).contains(&after), "{after:?}");
    }
}

#[test]
fn t34_a_worker_that_comes_back_disproves_what_was_said_meanwhile() {
    let mut bench = Bench::training(config(), 0);
    bench.event(Event::Closed(WORKERS[0]));
    assert_eq!(outcome(&bench.say(WORKERS[1], not_finite(0, 3))), None);
    let (ended, _) = pass(&mut bench, 6 * TIMEOUT, &[SERVERS[1], WORKERS[1]]);
    assert_eq!(ended, []);
    bench.say(PeerId(50), ToCoordinator::Join(worker(0)));
    let ready = ToCoordinator::Ready {
        version: 0,
        chunks: 0,
    };
    bench.say(PeerId(50), ready);
    let done = bench.step();
    assert!(refusal(&done).contains("is not so"), "{done:?}");
}

/// One that lies and one whose disk fails do not bear each other out: a third computes the leaves of both.
#[test]
fn t34_two_that_say_different_things_are_no_two_that_say_the_same() {
    let mut bench = Bench::training(config(), 0);
    bench.say(PeerId(12), ToCoordinator::Join(worker(2)));
    let ready = ToCoordinator::Ready {
        version: 0,
        chunks: 0,
    };
    bench.say(PeerId(12), ready);
    assert_eq!(
        outcome(&bench.say(WORKERS[0], failed("no space left"))),
        None
    );
    assert_eq!(outcome(&bench.say(WORKERS[1], not_finite(0, 3))), None);
    let done = bench.step();
    assert!(refusal(&done).contains("is not so"), "{done:?}");
    assert_eq!(bench.phase(), "Training");
    assert_eq!(bench.coordinator.progress().workers, 1);
}

#[test]
fn t34_a_worker_whose_word_another_disproves_is_named_and_replaced() {
    for lie in [not_finite(0, 3), failed("out of order")] {
        let mut bench = Bench::training(config(), 0);
        assert_eq!(outcome(&bench.say(WORKERS[1], lie.clone())), None);
        // It may say it as often as it likes.
        assert_eq!(outcome(&bench.say(WORKERS[1], lie)), None);
        let done = bench.step();
        assert!(refusal(&done).contains("is not so"), "{done:?}");
        let again = sent(&done, WORKERS[1])
            .iter()
            .any(|message| matches!(message, FromCoordinator::Refused { again: true, .. }));
        assert!(again, "another in its place is welcome");
        let warnings = bench.coordinator.progress().warnings;
        assert!(
            warnings
                .iter()
                .any(|text| text.starts_with("worker 1 says")),
            "{warnings:?}"
        );
        assert_eq!(bench.phase(), "Training");
    }
}

#[test]
fn t34_a_block_that_another_computes_well_is_no_reason_to_fail() {
    let mut bench = Bench::training(config(), 2000);
    bench.step();
    let actions = bench.step();
    let (peer, id, _, blocks) = evaluations(&actions).remove(0);
    let results = vec![(blocks[0], result(1024, f64::NAN))];
    let given = bench.say(peer, ToCoordinator::Blocks { id, results });
    answer(&mut bench, &given, 2000, 0.5);
    let rest: Vec<Action> = actions
        .into_iter()
        .filter(|action| !matches!(action, Action::Send(to, _) if *to == peer))
        .collect();
    answer(&mut bench, &rest, 2000, 0.5);
    let done = bench.event(Event::Tick);
    assert!(refusal(&done).contains("is not so"), "{done:?}");
    assert_eq!(bench.phase(), "Training");
}

#[test]
fn t34_nobody_can_have_computed_what_nobody_may_begin() {
    let mut bench = Bench::training(config(), 0);
    let refused = bench.say(WORKERS[1], not_finite(1000, 0));
    assert!(refusal(&refused).contains("step 1000"), "{refused:?}");
    assert_eq!(bench.phase(), "Training");
}

#[test]
fn t34_a_failure_waits_no_longer_than_a_minute_for_somebody_who_can_compute() {
    let mut bench = Bench::training(config(), 0);
    bench.event(Event::Closed(WORKERS[0]));
    // One that is loading, and stays so.
    bench.say(WORKERS[0], ToCoordinator::Join(worker(0)));
    assert_eq!(outcome(&bench.say(WORKERS[1], failed("no memory"))), None);
    let mut waited = 0;
    let ended = loop {
        bench.now += TIMEOUT / 5;
        let mut actions = bench.say(WORKERS[0], ToCoordinator::Heartbeat);
        actions.extend(bench.say(WORKERS[1], ToCoordinator::Heartbeat));
        actions.extend(bench.say(SERVERS[1], ToCoordinator::Heartbeat));
        actions.extend(bench.event(Event::Tick));
        waited += 1;
        if outcome(&actions).is_some() || waited > 10_000 {
            break actions;
        }
    };
    assert_eq!(failure(&ended), "no memory");
    assert!(waited >= 60, "it waited for {waited} seconds");
}

#[test]
fn t16_a_stop_during_validation_makes_nobody_a_liar() {
    let mut bench = Bench::training(config(), 2000);
    bench.step();
    let actions = bench.step();
    let (peer, ..) = evaluations(&actions).remove(0);
    let told = ToCoordinator::NonFinite {
        step: 2,
        place: "validation block 0".into(),
        value: "NaN".into(),
    };
    assert_eq!(outcome(&bench.say(peer, told)), None);
    let stopping = bench.say(OBSERVER, ToCoordinator::Stop);
    let refused =
        |action: &Action| matches!(action, Action::Send(_, FromCoordinator::Refused { .. }));
    assert!(!stopping.iter().any(refused), "{stopping:?}");
    assert_eq!(bench.coordinator.progress().warnings, Vec::<String>::new());
}

/// The parameters of the best epoch are published as a version past all that were trained.
#[test]
fn t16_the_evaluation_of_the_restored_version_may_fail_too() {
    let mut bench = Bench::training(config(), 0);
    while bench.phase() == "Training" && bench.coordinator.record().step < 6 {
        bench.step();
        let step = bench.coordinator.record().step;
        bench.written(step);
        bench.committed(step);
    }
    assert_eq!(bench.phase(), "Evaluating");
    let told = ToCoordinator::NonFinite {
        step: 6,
        place: "training block 0".into(),
        value: "NaN".into(),
    };
    assert_eq!(outcome(&bench.say(WORKERS[0], told.clone())), None);
    let message = failure(&bench.say(WORKERS[1], told));
    assert!(message.contains("NaN at step 6"), "{message}");
}
