//! Members that are there and do nothing: who is found to be in the way, and when.

use std::time::Duration;

use trainyard_core::control::{FromCoordinator, ToCoordinator};
use trainyard_core::coordinator::{Action, Event, Outcome, PeerId};

use super::bench::*;

/// How a member answers when it is asked what it waits for.
#[derive(Clone)]
enum Answer {
    Nothing,
    Leaves(Vec<u32>),
    Saving,
    Servers(Vec<u32>),
}

/// Time passes, with everybody's heartbeat, until members are given up or the work is over; those that are asked
/// answer. Returns who was refused, after how long, and how the work ended.
fn stand_still(
    bench: &mut Bench,
    limit: Duration,
    answer: impl Fn(PeerId) -> Answer,
) -> (Vec<PeerId>, Duration, Option<Outcome>) {
    let begin = bench.now;
    while bench.now < begin + limit {
        bench.now += Duration::from_millis(50);
        let mut actions = Vec::new();
        for peer in SERVERS.iter().chain(&WORKERS) {
            actions.extend(bench.say(*peer, ToCoordinator::Heartbeat));
        }
        actions.extend(bench.event(Event::Tick));
        let asked = actions.clone();
        for action in asked {
            let Action::Send(peer, FromCoordinator::Stalled { id, .. }) = action else {
                continue;
            };
            actions.extend(match answer(peer) {
                Answer::Nothing => Vec::new(),
                Answer::Leaves(leaves) => {
                    let saving = false;
                    bench.say(peer, ToCoordinator::LeavesMissing { id, leaves, saving })
                }
                Answer::Saving => {
                    let (leaves, saving) = (vec![0, 1, 2, 3], true);
                    bench.say(peer, ToCoordinator::LeavesMissing { id, leaves, saving })
                }
                Answer::Servers(servers) => {
                    bench.say(peer, ToCoordinator::ServersAwaited { id, servers })
                }
            });
        }
        let refused = actions.iter().filter_map(|action| match action {
            Action::Send(peer, FromCoordinator::Refused { again, .. }) => {
                assert!(*again, "another in its place is welcome");
                Some(*peer)
            }
            _ => None,
        });
        let refused: Vec<PeerId> = refused.collect();
        let outcome = outcome(&actions);
        if !refused.is_empty() || outcome.is_some() {
            return (refused, bench.now - begin, outcome);
        }
    }
    (Vec::new(), bench.now - begin, None)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Steps of 10 ms are usual.
fn steady() -> Bench {
    let mut config = config();
    config.epochs = 10_000;
    let mut bench = Bench::training(config, 0);
    for _ in 0..3 {
        bench.now += Duration::from_millis(10);
        bench.event(Event::Tick);
        bench.step();
    }
    bench.now += Duration::from_millis(10);
    bench.event(Event::Tick);
    bench
}

/// Everybody answers; worker 0 has leaves 0 and 1, and worker 1 has the others.
fn lacking(leaves: Vec<u32>) -> impl Fn(PeerId) -> Answer {
    move |peer| match SERVERS.contains(&peer) {
        true => Answer::Leaves(leaves.clone()),
        false => Answer::Servers(Vec::new()),
    }
}

/// Another process joins as worker 0, in place of the `times`-th one.
fn rejoin(bench: &mut Bench, times: u64) {
    let mut again = worker(0);
    again.incarnation += times;
    bench.say(WORKERS[0], ToCoordinator::Join(again));
}

/// Worker 0 has received the newest version.
fn ready(bench: &mut Bench) {
    let version = bench.coordinator.record().step;
    let chunks = 0;
    bench.say(WORKERS[0], ToCoordinator::Ready { version, chunks });
}

fn named(bench: &Bench) -> Vec<String> {
    let stuck = bench.coordinator.progress().stuck;
    stuck
        .iter()
        .map(|stuck| format!("{} {}", stuck.member, stuck.reason))
        .collect()
}

#[test]
fn t34_the_worker_that_owes_what_is_missing_is_given_up_and_its_leaves_go_to_others() {
    let mut bench = steady();
    let (refused, after, _) = stand_still(&mut bench, seconds(60), lacking(vec![2, 3]));
    assert_eq!(refused, [WORKERS[1]]);
    assert!(
        (seconds(10)..seconds(11)).contains(&after),
        "after two heartbeat timeouts: {after:?}"
    );
    assert_eq!(
        named(&bench),
        ["worker-1 has owed gradients of step 3 for 10 s"]
    );
    assert_eq!(bench.coordinator.progress().workers, 1);
    let warnings = bench.coordinator.progress().warnings;
    assert!(warnings[0].starts_with("worker 1 has owed"), "{warnings:?}");
    // Until another is there.
    let mut again = worker(1);
    again.incarnation += 1;
    bench.say(PeerId(50), ToCoordinator::Join(again));
    assert_eq!(named(&bench), Vec::<String>::new());
}

#[test]
fn t34_who_does_not_answer_is_given_up() {
    let mut bench = steady();
    let (refused, after, _) = stand_still(&mut bench, seconds(60), |peer| match peer {
        peer if peer == WORKERS[0] => Answer::Nothing,
        peer => lacking(vec![0, 1, 2, 3])(peer),
    });
    assert_eq!(refused, [WORKERS[0]], "whatever the others owe");
    assert!((seconds(15)..seconds(16)).contains(&after), "{after:?}");
    let mut bench = steady();
    let (refused, ..) = stand_still(&mut bench, seconds(60), |peer| match peer {
        peer if peer == SERVERS[1] => Answer::Nothing,
        peer => lacking(vec![0])(peer),
    });
    assert_eq!(refused, [SERVERS[1]]);
    let stuck = named(&bench);
    assert!(
        stuck[0].starts_with("server-1 does not answer"),
        "{stuck:?}"
    );
}

#[test]
fn t34_where_all_workers_wait_for_a_server_it_is_the_server() {
    let waiting = |peer| match SERVERS.contains(&peer) {
        true => Answer::Leaves(vec![0, 1, 2, 3]),
        false => Answer::Servers(vec![1]),
    };
    let mut bench = steady();
    let (refused, ..) = stand_still(&mut bench, seconds(60), waiting);
    assert_eq!(refused, [SERVERS[1]]);
    assert_eq!(
        named(&bench),
        ["server-1 has sent no parameters of step 3 for 10 s"]
    );
}

#[test]
fn t34_where_another_server_has_got_what_this_one_lacks_it_is_this_one() {
    let mut bench = steady();
    bench.say(SERVERS[0], ToCoordinator::Applied { version: 4 });
    let (refused, ..) = stand_still(&mut bench, seconds(60), lacking(vec![0, 1, 2, 3]));
    assert_eq!(refused, [SERVERS[1]], "all workers have pushed to server 0");
}

#[test]
fn t34_a_worker_alone_that_waits_is_replaced_first_and_its_server_when_that_does_not_help() {
    let waiting = |peer| match SERVERS.contains(&peer) {
        true => Answer::Leaves(vec![0, 1, 2, 3]),
        false => Answer::Servers(vec![1]),
    };
    let mut bench = steady();
    bench.event(Event::Closed(WORKERS[1]));
    let (refused, ..) = stand_still(&mut bench, seconds(60), waiting);
    assert_eq!(refused, [WORKERS[0]]);
    // The next one does not even receive its first version.
    rejoin(&mut bench, 1);
    let (refused, ..) = stand_still(&mut bench, seconds(60), waiting);
    assert_eq!(refused, [SERVERS[1]]);
}

#[test]
fn t34_a_coordinator_whose_own_shard_is_stuck_makes_room_for_another() {
    let mut bench = steady();
    let (refused, _, outcome) = stand_still(&mut bench, seconds(60), |peer| match peer {
        peer if peer == SERVERS[0] => Answer::Nothing,
        peer => lacking(vec![0])(peer),
    });
    assert_eq!((refused, outcome), (Vec::new(), Some(Outcome::Drained)));
}

#[test]
fn t34_a_worker_that_owes_blocks_is_given_up_and_others_compute_them() {
    let mut bench = Bench::training(config(), 5000);
    for _ in 0..2 {
        bench.now += Duration::from_millis(10);
        bench.event(Event::Tick);
        bench.step();
    }
    assert_eq!(bench.phase(), "Validating");
    let answers = |_| Answer::Servers(Vec::new());
    // Neither has answered: as nobody else is there, both are given up.
    let (refused, after, _) = stand_still(&mut bench, seconds(60), answers);
    assert_eq!(refused, WORKERS);
    assert!((seconds(10)..seconds(11)).contains(&after), "{after:?}");
}

#[test]
fn t34_a_slow_job_is_given_time_and_one_that_nobody_knows_more() {
    let mut config = config();
    config.epochs = 100;
    let mut bench = Bench::training(config, 0);
    let lacking = lacking(vec![0]);
    let (_, after, _) = stand_still(&mut bench, seconds(3600), &lacking);
    assert!((seconds(600)..seconds(602)).contains(&after), "{after:?}");

    let mut bench = steady();
    for _ in 0..3 {
        for _ in 0..30 {
            bench.now += seconds(1);
            bench.event(Event::Tick);
        }
        bench.step();
    }
    for peer in SERVERS.iter().chain(&WORKERS) {
        bench.say(*peer, ToCoordinator::Heartbeat);
    }
    let _ = bench.event(Event::Tick);
    let (_, after, _) = stand_still(&mut bench, seconds(3600), &lacking);
    assert!(after > seconds(500), "20 times the usual: {after:?}");
}

#[test]
fn t34_a_member_that_is_silent_is_named_when_it_does_not_come_back() {
    let mut bench = steady();
    for _ in 0..100 {
        bench.now += Duration::from_millis(200);
        bench.step(); // without it
        for peer in [SERVERS[0], SERVERS[1], WORKERS[0]] {
            bench.say(peer, ToCoordinator::Heartbeat);
        }
        bench.event(Event::Tick);
        let silent = bench.now >= seconds(15) + Duration::from_millis(40);
        if bench.now >= seconds(6) {
            assert_eq!(bench.coordinator.progress().workers, 1);
            assert_eq!(named(&bench).len(), usize::from(silent), "{:?}", bench.now);
        }
    }
    assert_eq!(named(&bench), ["worker-1 has been silent for 20 s"]);
    bench.say(PeerId(60), ToCoordinator::Join(worker(1)));
    assert_eq!(named(&bench), Vec::<String>::new(), "it is back");
}

#[test]
fn t34_a_server_that_waits_for_its_storage_is_not_stuck() {
    let mut bench = steady();
    let saving = |peer| match SERVERS.contains(&peer) {
        true => Answer::Saving,
        false => Answer::Servers(Vec::new()),
    };
    let (refused, ..) = stand_still(&mut bench, seconds(300), saving);
    assert_eq!(refused, []);
    let warnings = bench.coordinator.progress().warnings;
    assert!(
        warnings[0].contains("the storage of server 0"),
        "{warnings:?}"
    );
}

#[test]
fn t34_a_newcomer_is_given_time() {
    let mut bench = steady();
    for peer in WORKERS {
        bench.event(Event::Closed(peer));
    }
    let answers = |_| Answer::Servers(vec![0, 1]);
    // However long nobody was there.
    stand_still(&mut bench, seconds(100), answers);
    rejoin(&mut bench, 1);
    let (refused, after, _) = stand_still(&mut bench, seconds(100), answers);
    assert_eq!(refused, [WORKERS[0]]);
    assert!(after >= seconds(10), "{after:?}");
}

#[test]
fn t34_a_storage_that_all_wait_for_is_named() {
    let mut config = config();
    config.epochs = 1;
    let mut bench = Bench::training(config, 0);
    bench.step();
    bench.step();
    let (refused, ..) = stand_still(&mut bench, seconds(100), |_| Answer::Nothing);
    assert_eq!(refused, []);
    let warnings = bench.coordinator.progress().warnings;
    assert!(
        warnings[0].contains("the storage has not taken the checkpoint of step 2 for 60 s"),
        "{warnings:?}"
    );
}

#[test]
fn t34_where_a_second_worker_does_no_better_it_is_the_server() {
    let mut bench = steady();
    bench.event(Event::Closed(WORKERS[1]));
    bench.say(SERVERS[0], ToCoordinator::Applied { version: 4 });
    let (refused, ..) = stand_still(&mut bench, seconds(60), lacking(vec![0, 1, 2, 3]));
    assert_eq!(refused, [WORKERS[0]]);
    rejoin(&mut bench, 1);
    ready(&mut bench);
    let (refused, ..) = stand_still(&mut bench, seconds(60), lacking(vec![0, 1, 2, 3]));
    assert_eq!(refused, [SERVERS[1]], "server 0 has got all");
}

#[test]
fn t34_those_who_are_missed_are_not_counted_without_end() {
    let mut bench = steady();
    for crowd in 0..4 {
        for index in 2..600 {
            let peer = PeerId(1000 + 1000 * crowd + u64::from(index));
            let mut newcomer = worker(1000 * crowd as u32 + index);
            newcomer.incarnation += 1000 * crowd;
            bench.say(peer, ToCoordinator::Join(newcomer));
        }
        for _ in 0..20 {
            bench.now += seconds(1);
            bench.step();
            bench.say(SERVERS[1], ToCoordinator::Heartbeat);
            bench.event(Event::Tick);
        }
    }
    let named = named(&bench);
    assert_eq!(named.len(), 1024);
    assert!(named[1023].starts_with("worker-3599 "), "the latest stay");
}

/// The pace of steps.
const STEP: Duration = Duration::from_millis(10);

/// Steps up to the next validation, which is left to do. Returns what was asked for.
fn to_validation(bench: &mut Bench) -> Vec<Action> {
    let mut asked = Vec::new();
    while bench.phase() == "Training" {
        bench.now += STEP;
        bench.event(Event::Tick);
        asked = bench.step();
    }
    assert_eq!(bench.phase(), "Validating");
    bench.event(Event::Tick);
    asked
}

/// A pass over 500 rows has a single block.
#[test]
fn t34_how_long_a_pass_of_one_block_takes_is_known_for_the_next() {
    let mut config = config();
    config.epochs = 100;
    let mut bench = Bench::training(config, 500);
    let asked = to_validation(&mut bench);
    for _ in 0..6 {
        bench.now += Duration::from_millis(500);
        for peer in SERVERS.iter().chain(&WORKERS) {
            bench.say(*peer, ToCoordinator::Heartbeat);
        }
        bench.event(Event::Tick);
    }
    answer(&mut bench, &asked, 500, 0.5);
    bench.event(Event::Tick);
    to_validation(&mut bench);
    let (refused, after, _) =
        stand_still(&mut bench, seconds(3600), |_| Answer::Servers(Vec::new()));
    assert_eq!(refused.len(), 1);
    assert!((seconds(55)..seconds(62)).contains(&after), "{after:?}");
}

#[test]
fn t34_a_step_that_has_waited_for_a_member_that_is_gone_is_no_measure() {
    let mut bench = steady();
    let answers = lacking(Vec::new());
    stand_still(&mut bench, seconds(9), &answers);
    bench.event(Event::Closed(WORKERS[1]));
    bench.event(Event::Tick);
    bench.now += STEP;
    bench.event(Event::Tick);
    bench.step();
    bench.event(Event::Tick);
    let (refused, after, _) = stand_still(&mut bench, seconds(3600), lacking(vec![0]));
    assert_eq!(refused, [WORKERS[0]]);
    assert!((seconds(10)..seconds(11)).contains(&after), "{after:?}");
}

/// A machine that becomes a thousand times slower: one that is replaced in vain is given time, and what a step takes
/// now is known from then on.
#[test]
fn t34_a_job_that_becomes_very_slow_goes_on() {
    let mut bench = steady();
    bench.event(Event::Closed(WORKERS[1]));
    let answers = lacking(vec![0, 1, 2, 3]);
    let mut replaced = 0;
    for _ in 0..30 {
        // A step takes 25 seconds, and is begun anew by each new worker.
        loop {
            let (refused, ..) = stand_still(&mut bench, seconds(25), &answers);
            if refused.is_empty() {
                break;
            }
            replaced += 1;
            assert!(replaced <= 3, "each is given more time than the one before");
            rejoin(&mut bench, 1);
            stand_still(&mut bench, seconds(5), &answers);
            ready(&mut bench);
        }
        bench.step();
    }
}

/// Whoever comes is fast at first, and then a hundred times slower, as where a machine gives processor time in advance.
/// That a few steps were done is no reason to give the next one less time.
#[test]
fn t34_a_job_that_is_fast_for_a_moment_after_each_restart_goes_on() {
    let mut bench = steady();
    bench.event(Event::Closed(WORKERS[1]));
    let answers = lacking(vec![0, 1, 2, 3]);
    let mut replaced = 0;
    for _ in 0..30 {
        for _ in 0..5 {
            bench.now += STEP;
            bench.event(Event::Tick);
            bench.step();
        }
        let (refused, ..) = stand_still(&mut bench, seconds(60), &answers);
        if !refused.is_empty() {
            replaced += 1;
            rejoin(&mut bench, replaced);
            ready(&mut bench);
        }
        bench.step();
    }
    assert_eq!(replaced, 3, "after 10, 20 and 40 s");
    // In time the job is as it was.
    for _ in 0..2000 {
        bench.now += 100 * STEP;
        for peer in SERVERS.iter().chain(&WORKERS) {
            bench.say(*peer, ToCoordinator::Heartbeat);
        }
        bench.event(Event::Tick);
        bench.step();
    }
    let (_, after, _) = stand_still(&mut bench, seconds(3600), &answers);
    assert!((seconds(18)..seconds(22)).contains(&after), "{after:?}");
}

/// What a worker has begun is waited for, but not if it is stuck: the others do it, and it is saved.
#[test]
fn t34_a_stop_does_without_a_worker_that_is_stuck() {
    let mut bench = steady();
    let asked = bench.say(OBSERVER, ToCoordinator::Stop);
    let id = halt_id(&asked, WORKERS[0]);
    bench.say(WORKERS[0], ToCoordinator::Halted { id, next: 4 });
    let (refused, after, _) = stand_still(&mut bench, seconds(60), |peer| match peer {
        peer if peer == WORKERS[1] => Answer::Nothing,
        peer => lacking(vec![2, 3])(peer),
    });
    assert_eq!(refused, [WORKERS[1]]);
    assert!((seconds(15)..seconds(16)).contains(&after), "{after:?}");
    let actions = bench.step();
    assert!(sent(&actions, SERVERS[0]).contains(&&FromCoordinator::Snapshot { version: 4 }));
    bench.written(4);
    let saved = Some(Outcome::Stopped { saved: true });
    assert_eq!(outcome(&bench.committed(4)), saved);
}
