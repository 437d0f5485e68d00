//! Who may join, who replaces whom, and who is lost.

use std::time::Duration;

use trainyard_core::control::{FromCoordinator, Join, Role, ToCoordinator};
use trainyard_core::coordinator::{Action, Coordinator, Event, PeerId, Start};
use trainyard_core::facts::DataFacts;
use trainyard_core::record::Record;
use trainyard_core::shard::{Passes, Pusher};

use super::bench::*;

#[test]
fn a_join_that_differs_is_refused_with_the_difference_named() {
    let other_facts = |change: fn(&mut DataFacts)| {
        let mut facts = facts(0);
        change(&mut facts);
        Join {
            facts: Some(facts.into()),
            ..worker(7)
        }
    };
    let cases = [
        (
            Join {
                spec_digest: "other".into(),
                ..server(1)
            },
            "specDigest",
        ),
        (
            Join {
                capability: Some("neon".into()),
                ..worker(7)
            },
            "capability",
        ),
        (
            Join {
                facts: None,
                ..worker(7)
            },
            "data facts",
        ),
        (
            Join {
                capability: None,
                ..worker(7)
            },
            "capability",
        ),
        (other_facts(|f| f.train_rows = 11), "training rows"),
        (other_facts(|f| f.validation_rows = 1), "validation rows"),
        (other_facts(|f| f.input_shape = vec![2]), "input shape"),
        (other_facts(|f| f.outputs = 2), "outputs"),
        (other_facts(|f| f.digest = "else".into()), "data digest"),
        (other_facts(|f| f.schema.label.name = "y".into()), "schema"),
        (server(2), "out of range: this job has 2 servers"),
        (
            Join {
                incarnation: 9,
                ..server(1)
            },
            "a higher generation",
        ),
        (
            Join {
                incarnation: 9,
                born: 2,
                ..server(1)
            },
            "a higher generation",
        ),
        (server(1), "lost its state"),
    ];
    for (join, expected) in cases {
        let mut bench = Bench::training(config(), 0);
        let reason = refusal(&bench.say(PeerId(30), ToCoordinator::Join(join)));
        assert!(
            reason.contains(expected),
            "{reason:?} does not name {expected:?}"
        );
        assert_eq!(bench.phase(), "Training");
        assert_eq!(bench.coordinator.progress().servers, 2);
    }
}

/// Older versions did not record the maker of the CPU, by which MKL picks its kernels.
#[test]
fn a_checkpoint_without_the_maker_of_the_cpu_takes_that_of_the_first_worker() {
    let record = Record {
        step: 2,
        ..Record::default()
    };
    let mut older = (*manifest(record, 0)).clone();
    older.capability = "avx2 kernels, MKL AVX2,STRICT".into();
    let start = Start {
        manifest: older.into(),
        best: None,
    };
    let mut bench = Bench {
        coordinator: Coordinator::new(config(), Some(start)),
        now: Duration::ZERO,
    };
    let mut join = |peer: u64, maker: &str| {
        let capability = format!("avx2 kernels, MKL AVX2,STRICT on {maker}");
        let join = Join {
            capability: Some(capability),
            ..worker(peer as u32)
        };
        bench.say(PeerId(peer), ToCoordinator::Join(join))
    };
    let welcome = |actions: &[Action], peer| {
        let first = sent(actions, PeerId(peer)).into_iter().next().cloned();
        matches!(first, Some(FromCoordinator::Welcome { .. }))
    };
    assert!(welcome(&join(10, "AuthenticAMD"), 10));
    let reason = refusal(&join(11, "GenuineIntel"));
    for part in ["on AuthenticAMD", "on GenuineIntel", "DEFAULT"] {
        assert!(reason.contains(part), "{reason}");
    }
    assert!(welcome(&join(12, "AuthenticAMD"), 12));
}

/// Another version of the program would send the same again.
#[test]
fn a_message_that_cannot_be_decoded_is_refused_with_its_sender_named() {
    let mut bench = Bench::training(config(), 0);
    let senders = [
        (SERVERS[1], Role::Server(1), "server 1"),
        (PeerId(30), Role::Worker(7), "worker 7"),
    ];
    for (peer, role, name) in senders {
        let actions = bench.event(Event::Undecodable {
            peer,
            role,
            error: "missing field `key`".into(),
        });
        let reason = refusal(&actions);
        for part in [name, "missing field `key`", "the same version"] {
            assert!(reason.contains(part), "{reason}");
        }
        assert!(actions.contains(&Action::Close(peer)));
    }
    let progress = bench.coordinator.progress();
    assert_eq!((progress.servers, progress.workers), (1, 2));
}

#[test]
fn a_newer_generation_is_taken_from_processes_of_this_job_only() {
    let newer = |join: Join| Join {
        generation: 4,
        born: 4,
        ..join
    };
    let mut bench = Bench::training(config(), 0);
    let foreign = Join {
        spec_digest: "other".into(),
        ..newer(server(1))
    };
    refusal(&bench.say(PeerId(30), ToCoordinator::Join(foreign)));
    let actions = bench.say(PeerId(31), ToCoordinator::Join(newer(observer())));
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::Regenerate(_)))
    );
    let actions = bench.say(PeerId(32), ToCoordinator::Join(newer(server(1))));
    assert_eq!(actions, [Action::Regenerate(4)]);
    assert_eq!(
        bench.say(WORKERS[0], ToCoordinator::Heartbeat),
        [Action::Close(WORKERS[0])]
    );
}

/// A generation is claimed in the log for good: a stranger cannot use all of them up.
#[test]
fn t13_a_generation_that_no_supervisor_can_have_come_to_is_refused() {
    for generation in [u32::MAX, config().generation + 1_000_001] {
        let mut bench = Bench::training(config(), 0);
        for join in [server(1), worker(7)] {
            let join = Join {
                generation,
                born: generation,
                ..join
            };
            let reason = refusal(&bench.say(PeerId(30), ToCoordinator::Join(join)));
            assert!(reason.contains(&generation.to_string()), "{reason}");
            assert_eq!(bench.phase(), "Training");
        }
    }
    let mut bench = Bench::training(config(), 0);
    let generation = config().generation + 1_000_000;
    let join = Join {
        generation,
        born: generation,
        ..server(1)
    };
    let actions = bench.say(PeerId(30), ToCoordinator::Join(join));
    assert_eq!(actions, [Action::Regenerate(generation)]);
}

/// A generation is the supervisor's to give, to a server that it starts. Who has only heard of one is to look for
/// the coordinator that it heard of.
#[test]
fn t13_only_a_server_that_was_started_under_a_newer_generation_brings_it() {
    let mut bench = Bench::training(config(), 0);
    for (peer, join) in [(30, worker(7)), (31, server(1))] {
        let peer = PeerId(peer);
        let join = Join {
            generation: 4,
            ..join
        };
        let actions = bench.say(peer, ToCoordinator::Join(join));
        assert_eq!(actions, [Action::Close(peer)]);
        assert_eq!(bench.phase(), "Training");
    }
}

#[test]
fn a_connection_that_joins_twice_is_closed_and_counts_once() {
    let mut bench = Bench::training(config(), 0);
    refusal(&bench.say(WORKERS[0], ToCoordinator::Join(server(1))));
    assert_eq!(bench.coordinator.progress().workers, 1);
    assert_eq!(bench.coordinator.progress().servers, 2);
    assert_eq!(
        bench.say(WORKERS[0], ToCoordinator::Heartbeat),
        [Action::Close(WORKERS[0])]
    );
    assert_eq!(
        bench.say(PeerId(77), ToCoordinator::Heartbeat),
        [Action::Close(PeerId(77))],
        "a stranger"
    );
}

#[test]
fn a_process_that_comes_again_replaces_its_former_connection() {
    let mut bench = Bench::training(config(), 0);
    let actions = bench.say(PeerId(12), ToCoordinator::Join(worker(0)));
    assert!(actions.contains(&Action::Close(WORKERS[0])));
    assert_eq!(
        bench.coordinator.progress().workers,
        1,
        "it is not ready yet"
    );
    let actions = bench.say(
        PeerId(12),
        ToCoordinator::Ready {
            version: 0,
            chunks: 0,
        },
    );
    assert_eq!(
        view(&actions, PeerId(12)).map(|view| (view.rank, view.members)),
        Some((Some(0), 2))
    );

    let again = Join {
        ready: Some(0),
        ..server(1)
    };
    let actions = bench.say(PeerId(2), ToCoordinator::Join(again));
    assert!(actions.contains(&Action::Close(SERVERS[1])));
    assert!(
        !sent(&actions, PeerId(2))
            .iter()
            .any(|m| matches!(m, FromCoordinator::Open { .. }))
    );
    assert_eq!(bench.coordinator.progress().servers, 2);
}

#[test]
fn a_server_that_was_given_up_makes_room_while_nothing_is_trained() {
    let mut bench = Bench::new(config());
    bench.say(
        PeerId(1),
        ToCoordinator::Join(Join {
            incarnation: 9,
            born: 2,
            ..server(1)
        }),
    );
    let actions = bench.say(PeerId(2), ToCoordinator::Join(server(1)));
    assert!(actions.contains(&Action::Close(PeerId(1))));
    assert_eq!(
        sent(&actions, PeerId(2)),
        [&FromCoordinator::Welcome { generation: 3 }]
    );
    refusal(&bench.say(
        PeerId(3),
        ToCoordinator::Join(Join {
            incarnation: 9,
            born: 2,
            ..server(1)
        }),
    ));
}

/// Of a shape whose product is beyond 64 bits, for one. Nobody sizes anything by it, and the job goes on with
/// those who know better.
#[test]
fn facts_that_contradict_themselves_are_refused() {
    let mut bench = Bench::new(config());
    let wrong = [
        DataFacts {
            input_shape: vec![1 << 40, 1 << 40],
            ..facts(0)
        },
        DataFacts {
            validation_rows: u64::MAX,
            ..facts(0)
        },
        DataFacts {
            train_rows: 0,
            ..facts(0)
        },
    ];
    for facts in wrong {
        let rows = facts.train_rows;
        let join = Join {
            facts: Some(facts.into()),
            ..worker(0)
        };
        let message = refusal(&bench.say(WORKERS[0], ToCoordinator::Join(join)));
        let begin = format!("worker 0 has found {rows} training rows: ");
        assert!(message.starts_with(&begin), "{message}");
    }
    let actions = bench.say(WORKERS[0], ToCoordinator::Join(worker(0)));
    let welcome = FromCoordinator::Welcome { generation: 3 };
    assert_eq!(sent(&actions, WORKERS[0])[0], &welcome);
}

#[test]
fn a_server_at_another_step_fails_the_job() {
    let mut bench = Bench::new(config());
    bench.say(SERVERS[1], ToCoordinator::Join(server(1)));
    let message = failure(&bench.say(
        SERVERS[1],
        ToCoordinator::Ready {
            version: 8,
            chunks: 1,
        },
    ));
    assert!(message.contains("server 1 holds step 8"), "{message}");
}

#[test]
fn a_silent_peer_is_lost_and_the_others_take_over() {
    let mut bench = Bench::training(config(), 0);
    let mut closed = Vec::new();
    for second in 1..=6 {
        bench.now = Duration::from_secs(second);
        bench.say(WORKERS[1], ToCoordinator::Heartbeat);
        bench.say(SERVERS[1], ToCoordinator::Heartbeat);
        let actions = bench.event(Event::Tick);
        assert!(
            sent(&actions, WORKERS[1]).contains(&&FromCoordinator::Heartbeat),
            "we are alive"
        );
        if let Some(view) = view(&actions, WORKERS[1]) {
            assert_eq!((view.rank, view.members), (Some(0), 1));
        }
        closed.extend(
            actions
                .into_iter()
                .filter(|action| matches!(action, Action::Close(_))),
        );
    }
    // Server 0 is this process, and an observer may be silent.
    assert_eq!(closed, [Action::Close(WORKERS[0])]);
}

#[test]
fn a_coordinator_that_slept_blames_nobody() {
    let mut bench = Bench::training(config(), 0);
    bench.now = Duration::from_secs(60);
    let actions = bench.event(Event::Tick);
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::Close(_))),
        "{actions:?}"
    );
    assert_eq!(bench.coordinator.progress().workers, 2);
}

#[test]
fn t15_what_workers_warn_of_is_told_once_and_bounded() {
    let mut bench = Bench::new(config());
    let join = |index, warnings: &[&str]| {
        let warnings = warnings.iter().map(|text| (*text).to_owned()).collect();
        let facts = Some(facts(0).into());
        ToCoordinator::Join(Join {
            facts,
            warnings,
            ..worker(index)
        })
    };
    bench.say(WORKERS[0], join(0, &["one", "two"]));
    bench.say(WORKERS[1], join(1, &["one", "three"]));
    let warnings = bench.coordinator.progress().warnings;
    assert_eq!(warnings, ["one", "two", "three"]);
    // A server without a part of the model is a mistake too.
    bench.serve(0, [1, 0]);
    let warnings = bench.coordinator.progress().warnings;
    assert!(
        warnings[3].starts_with("the model has fewer parts"),
        "{warnings:?}"
    );
}

fn passes(actions: &[Action], peer: PeerId) -> Option<&Passes> {
    sent(actions, peer)
        .into_iter()
        .rev()
        .find_map(|message| match message {
            FromCoordinator::Passes(passes) => Some(passes),
            _ => None,
        })
}

#[test]
fn t13_servers_are_told_what_to_let_through_before_workers_hear_of_it() {
    let mut bench = Bench::training(config(), 0);
    let third = PeerId(12);
    bench.say(third, ToCoordinator::Join(worker(2)));
    let actions = bench.say(
        third,
        ToCoordinator::Ready {
            version: 0,
            chunks: 0,
        },
    );
    let members = [0, 1, 2].map(|index| Pusher {
        index,
        incarnation: 200 + u64::from(index),
    });
    for server in SERVERS {
        let told = passes(&actions, server).expect("it is told");
        assert_eq!((told.limit, &told.members[..]), (6, &members[..]));
    }
    let of = |wanted: fn(&FromCoordinator) -> bool| {
        actions
            .iter()
            .enumerate()
            .filter_map(move |(at, action)| match action {
                Action::Send(_, message) if wanted(message) => Some(at),
                _ => None,
            })
    };
    let last = of(|message| matches!(message, FromCoordinator::Passes(_))).next_back();
    let first = of(|message| matches!(message, FromCoordinator::View(_))).next();
    assert!(last.is_some() && last < first, "{actions:?}");
    // A halt lets what was begun be finished: servers are told of no lower limit.
    let actions = bench.say(OBSERVER, ToCoordinator::Stop);
    assert!(view(&actions, WORKERS[0]).is_some_and(|view| view.limit == 0));
    assert_eq!(passes(&actions, SERVERS[0]), None);
}

#[test]
fn t13_a_server_that_is_back_on_another_stream_is_told_again() {
    let mut bench = Bench::training(config(), 0);
    bench.event(Event::Closed(SERVERS[1]));
    let back = Join {
        ready: Some(0),
        ..server(1)
    };
    let actions = bench.say(PeerId(40), ToCoordinator::Join(back));
    assert_eq!(passes(&actions, PeerId(40)).map(|told| told.limit), Some(6));
}

#[test]
fn t13_a_server_that_holds_what_cannot_exist_is_refused() {
    let mut bench = Bench::training(config(), 0);
    let version = 8; // six steps, and the best parameters after them
    let reason = refusal(&bench.say(SERVERS[1], ToCoordinator::Applied { version }));
    assert!(
        reason.contains("server 1") && reason.contains('8'),
        "{reason}"
    );
    let join = Join {
        ready: Some(u64::MAX),
        ..server(1)
    };
    let reason = refusal(&bench.say(PeerId(41), ToCoordinator::Join(join)));
    assert!(reason.contains("server 1"), "{reason}");
    assert_eq!(bench.phase(), "Training");
}
