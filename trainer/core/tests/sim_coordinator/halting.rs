//! Leaving: workers that drain, servers that drain, stops.

use std::time::Duration;

use trainyard_core::control::{FromCoordinator, Join, Release, ToCoordinator};
use trainyard_core::coordinator::{Action, Config, Event, Outcome, PeerId};

use super::bench::*;

#[test]
fn t12_a_drained_worker_is_released_at_a_steps_end() {
    let mut bench = Bench::training(config(), 0);
    bench.step();
    let actions = bench.say(WORKERS[0], ToCoordinator::Drain);
    assert_eq!(
        view(&actions, WORKERS[1]).map(|view| (view.rank, view.members)),
        Some((Some(0), 1))
    );
    assert_eq!(
        sent(&actions, WORKERS[0]),
        [] as [&FromCoordinator; 0],
        "it goes on with the view it has"
    );
    assert_eq!(bench.say(WORKERS[0], ToCoordinator::Drain), []);
    let actions = bench.step();
    let released = FromCoordinator::Release(Release::Drained);
    assert_eq!(sent(&actions, WORKERS[0]), [&released]);
    assert!(actions.contains(&Action::Close(WORKERS[0])));
    assert_eq!(
        bench.say(WORKERS[0], ToCoordinator::Drain),
        [Action::Close(WORKERS[0])]
    );
}

#[test]
fn t12_when_all_workers_drain_they_finish_the_step_together() {
    let mut bench = Bench::training(config(), 0);
    bench.say(WORKERS[0], ToCoordinator::Drain);
    let actions = bench.say(WORKERS[1], ToCoordinator::Drain);
    let shares = WORKERS.map(|peer| view(&actions, peer).map(|view| (view.rank, view.members)));
    assert_eq!(shares, [Some((Some(0), 2)), Some((Some(1), 2))]);
    let actions = bench.step();
    for peer in WORKERS {
        assert_eq!(
            sent(&actions, peer),
            [&FromCoordinator::Release(Release::Drained)]
        );
    }
    assert_eq!(bench.phase(), "WaitingForWorkers");
}

#[test]
fn t12_when_everyone_drains_the_step_is_finished_and_saved() {
    let mut bench = Bench::training(config(), 0);
    bench.step();
    for peer in WORKERS {
        bench.say(peer, ToCoordinator::Drain);
    }
    let asked = bench.say(SERVERS[0], ToCoordinator::Drain);
    bench.say(SERVERS[1], ToCoordinator::Drain);
    let id = halt_id(&asked, WORKERS[0]);
    bench.say(WORKERS[0], ToCoordinator::Halted { id, next: 2 });
    let actions = bench.say(WORKERS[1], ToCoordinator::Halted { id, next: 1 });
    // Both may do the step that one has begun.
    assert_eq!(
        WORKERS.map(|peer| view(&actions, peer).map(|view| view.limit)),
        [Some(2), Some(2)]
    );
    let actions = bench.step();
    assert!(sent(&actions, SERVERS[1]).contains(&&FromCoordinator::Snapshot { version: 2 }));
    let actions = bench.written(2);
    assert_eq!(checkpoint(&actions), Some(2), "{actions:?}");
    let actions = bench.committed(2);
    assert_eq!(outcome(&actions), Some(Outcome::Drained));
    assert_eq!(
        sent(&actions, SERVERS[1]),
        [&FromCoordinator::Release(Release::Drained)]
    );
}

/// A worker may have begun a step beyond the one that was counted when it asked to leave.
#[test]
fn t12_workers_that_leave_with_everyone_finish_what_they_have_begun() {
    let mut bench = Bench::training(config(), 0);
    bench.step();
    for peer in WORKERS {
        bench.say(peer, ToCoordinator::Drain);
    }
    let asked = bench.say(SERVERS[0], ToCoordinator::Drain);
    let id = halt_id(&asked, WORKERS[0]);
    for peer in WORKERS {
        bench.say(peer, ToCoordinator::Halted { id, next: 3 });
    }
    let released = FromCoordinator::Release(Release::Drained);
    let actions = bench.step();
    for peer in WORKERS {
        assert!(!sent(&actions, peer).contains(&&released), "{actions:?}");
    }
    bench.step();
    bench.written(3);
    let actions = bench.committed(3);
    for peer in WORKERS {
        assert!(sent(&actions, peer).contains(&&released), "{actions:?}");
    }
    assert_eq!(outcome(&actions), Some(Outcome::Drained));
}

#[test]
fn t12_a_stop_before_anything_was_done_is_over_at_once() {
    let mut bench = Bench::new(config());
    bench.say(OBSERVER, ToCoordinator::Join(observer()));
    assert_eq!(
        outcome(&bench.say(OBSERVER, ToCoordinator::Stop)),
        stopped(true)
    );
}

#[test]
fn t12_a_stop_in_training_saves_the_furthest_step_begun() {
    let mut bench = Bench::training(config(), 0);
    bench.step();
    let asked = bench.say(OBSERVER, ToCoordinator::Stop);
    assert_eq!(view(&asked, WORKERS[0]).map(|view| view.limit), Some(0));
    let id = halt_id(&asked, WORKERS[0]);
    bench.say(
        WORKERS[0],
        ToCoordinator::Halted {
            id: id + 1,
            next: 50,
        },
    );
    bench.say(WORKERS[0], ToCoordinator::Halted { id, next: 3 });
    bench.say(WORKERS[0], ToCoordinator::Halted { id, next: 50 });
    // The other one's connection breaks, and it is asked again.
    bench.event(Event::Closed(WORKERS[1]));
    let mut bench = Bench::training(config(), 0);
    bench.step();
    let asked = bench.say(OBSERVER, ToCoordinator::Stop);
    let id = halt_id(&asked, WORKERS[1]);
    let again = bench.say(PeerId(12), ToCoordinator::Join(worker(1)));
    assert_eq!(halt_id(&again, PeerId(12)), id);
    bench.say(WORKERS[0], ToCoordinator::Halted { id, next: 1 });
    let actions = bench.say(PeerId(12), ToCoordinator::Halted { id, next: 3 });
    assert_eq!(view(&actions, WORKERS[0]).map(|view| view.limit), Some(3));
    bench.step();
    let actions = bench.step();
    assert!(sent(&actions, SERVERS[0]).contains(&&FromCoordinator::Snapshot { version: 3 }));
    bench.written(3);
    let actions = bench.committed(3);
    assert_eq!(outcome(&actions), stopped(true));
    assert_eq!(
        sent(&actions, WORKERS[0]),
        [&FromCoordinator::Release(Release::Stopped)]
    );
    assert_eq!(
        bench.say(WORKERS[0], ToCoordinator::Heartbeat),
        [Action::Close(WORKERS[0])]
    );
    assert_eq!(bench.event(Event::Completed), []);
}

#[test]
fn t12_a_worker_out_of_sight_that_goes_on_is_followed() {
    let mut bench = Bench::training(config(), 0);
    let asked = bench.say(OBSERVER, ToCoordinator::Stop);
    let id = halt_id(&asked, WORKERS[0]);
    bench.event(Event::Closed(WORKERS[1]));
    bench.say(WORKERS[0], ToCoordinator::Halted { id, next: 0 });
    assert_eq!(bench.phase(), "Stopped", "nothing was begun");

    let mut bench = Bench::training(config(), 0);
    bench.step();
    let asked = bench.say(OBSERVER, ToCoordinator::Stop);
    let id = halt_id(&asked, WORKERS[0]);
    bench.event(Event::Closed(WORKERS[1]));
    let actions = bench.say(WORKERS[0], ToCoordinator::Halted { id, next: 1 });
    assert!(sent(&actions, SERVERS[1]).contains(&&FromCoordinator::Snapshot { version: 1 }));
    // The lost one has pushed step 1 to some chunk.
    let actions = bench.say(SERVERS[1], ToCoordinator::SnapshotMissed { version: 1 });
    assert_eq!(view(&actions, WORKERS[0]).map(|view| view.limit), Some(2));
    let actions = bench.step();
    assert!(sent(&actions, SERVERS[1]).contains(&&FromCoordinator::Snapshot { version: 2 }));
    bench.written(1);
    let actions = bench.written(2);
    assert_eq!(checkpoint(&actions), Some(2), "{actions:?}");
    assert_eq!(outcome(&bench.committed(2)), stopped(true));
}

#[test]
fn t12_past_the_grace_the_previous_checkpoint_stands() {
    let mut bench = Bench::training(config(), 0);
    bench.step();
    bench.say(OBSERVER, ToCoordinator::Stop);
    bench.now = Duration::from_secs(21);
    assert_eq!(outcome(&bench.event(Event::Tick)), stopped(false));
}

#[test]
fn t12_a_failed_write_ends_a_halt_unsaved() {
    let mut bench = Bench::training(config(), 0);
    bench.step();
    let id = halt_id(&bench.say(OBSERVER, ToCoordinator::Stop), WORKERS[0]);
    for peer in WORKERS {
        bench.say(peer, ToCoordinator::Halted { id, next: 1 });
    }
    let failed = ToCoordinator::ShardFailed {
        version: 1,
        message: "disk full".into(),
    };
    assert_eq!(outcome(&bench.say(SERVERS[1], failed)), stopped(false));
}

#[test]
fn t09_a_failed_write_in_training_fails_the_job_by_name() {
    let mut bench = Bench::training(
        Config {
            checkpoint_every: 1,
            ..config()
        },
        0,
    );
    bench.step();
    let failed = ToCoordinator::ShardFailed {
        version: 1,
        message: "disk full".into(),
    };
    let message = failure(&bench.say(SERVERS[1], failed));
    assert!(
        message.contains("server 1") && message.contains("disk full"),
        "{message}"
    );
}

#[test]
fn t12_a_halt_order_that_was_lost_is_repeated() {
    let mut bench = Bench::training(config(), 0);
    bench.step();
    bench.event(Event::Closed(SERVERS[1]));
    let id = halt_id(&bench.say(OBSERVER, ToCoordinator::Stop), WORKERS[0]);
    for peer in WORKERS {
        bench.say(peer, ToCoordinator::Halted { id, next: 1 });
    }
    let actions = bench.say(
        PeerId(2),
        ToCoordinator::Join(Join {
            ready: Some(1),
            ..server(1)
        }),
    );
    assert!(sent(&actions, PeerId(2)).contains(&&FromCoordinator::Snapshot { version: 1 }));
}

#[test]
fn t12_a_stop_outweighs_a_leaving_server() {
    let mut bench = Bench::training(config(), 0);
    bench.step();
    let id = halt_id(&bench.say(SERVERS[1], ToCoordinator::Drain), WORKERS[0]);
    bench.say(OBSERVER, ToCoordinator::Stop);
    bench.say(SERVERS[0], ToCoordinator::Drain);
    for peer in WORKERS {
        bench.say(peer, ToCoordinator::Halted { id, next: 1 });
    }
    bench.written(1);
    assert_eq!(outcome(&bench.committed(1)), stopped(true));
}

#[test]
fn t12_a_leaving_server_is_released_when_all_is_saved() {
    let mut bench = Bench::training(config(), 0);
    bench.step();
    let id = halt_id(&bench.say(SERVERS[1], ToCoordinator::Drain), WORKERS[0]);
    for peer in WORKERS {
        bench.say(peer, ToCoordinator::Halted { id, next: 1 });
    }
    bench.written(1);
    let actions = bench.committed(1);
    assert_eq!(outcome(&actions), None);
    assert_eq!(
        sent(&actions, SERVERS[1]),
        [&FromCoordinator::Release(Release::Drained)]
    );
    bench.event(Event::Closed(SERVERS[1]));
    // Now the other one leaves, and the user stops what is left.
    let mut other = Bench {
        coordinator: bench.coordinator.clone(),
        now: bench.now,
    };
    assert_eq!(
        outcome(&other.say(SERVERS[0], ToCoordinator::Drain)),
        Some(Outcome::Drained)
    );
    assert_eq!(
        outcome(&bench.say(OBSERVER, ToCoordinator::Stop)),
        stopped(true)
    );
}

#[test]
fn a_coordinator_that_is_fenced_tells_nobody_that_the_job_failed() {
    let mut bench = Bench::training(config(), 0);
    let actions = bench.event(Event::Fenced);
    assert!(
        actions
            .iter()
            .all(|action| !matches!(action, Action::Send(..))),
        "{actions:?}"
    );
    assert_eq!(outcome(&actions), Some(Outcome::Drained));
}

#[test]
fn t12_a_halt_goes_as_far_as_any_server_has_come() {
    let mut bench = Bench::training(config(), 0);
    bench.step();
    let id = halt_id(&bench.say(OBSERVER, ToCoordinator::Stop), WORKERS[0]);
    // Pushes of a worker that is lost by now complete step 1 on one server.
    bench.event(Event::Closed(WORKERS[1]));
    bench.say(SERVERS[1], ToCoordinator::Applied { version: 2 });
    let actions = bench.say(WORKERS[0], ToCoordinator::Halted { id, next: 1 });
    assert_eq!(view(&actions, WORKERS[0]).map(|view| view.limit), Some(2));
    assert_eq!(sent(&actions, SERVERS[0]), [] as [&FromCoordinator; 0]);
}

/// A worker that says it has begun what it cannot have begun does not keep a halt waiting for it.
#[test]
fn t13_a_halt_waits_for_no_step_that_could_not_be_begun() {
    let mut bench = Bench::training(config(), 0);
    let actions = bench.say(OBSERVER, ToCoordinator::Stop);
    let id = halt_id(&actions, WORKERS[0]);
    bench.say(WORKERS[0], ToCoordinator::Halted { id, next: u64::MAX });
    let actions = bench.say(WORKERS[1], ToCoordinator::Halted { id, next: 0 });
    let limit = view(&actions, WORKERS[0]).expect("they are to go on").limit;
    assert_eq!(limit, 6, "the steps of the job");
}
