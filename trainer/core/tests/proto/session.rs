//! A worker's session without the worker: what is begun, what is owed to whom, and what is received where.

use trainyard_core::control::{
    Block, Evaluate, FromCoordinator, Release, RowSet, ToCoordinator, View,
};
use trainyard_core::layout::{CHUNK, Init, Layout, Param};
use trainyard_core::session::{Admission, Ending, Lane, Next, Session};
use trainyard_core::shard::Held;
use trainyard_core::tree::{Node, Tree};

fn view(members: u32, limit: u64) -> FromCoordinator {
    let view = View {
        epoch: 1,
        rank: Some(0),
        members,
        limit,
        servers: vec!["a".into()],
    };
    FromCoordinator::View(view)
}

fn receive(session: &mut Session, version: u64, chunk: u32) -> Admission {
    let admission = session.admit(version, chunk);
    if let Admission::Write(_) = admission {
        session.received(version, chunk);
    }
    admission
}

fn receive_all(session: &mut Session, version: u64) {
    for chunk in 0..2 {
        receive(session, version, chunk);
    }
}

/// Four leaves, two chunks, two lanes that are open; rank 0 of `members`, which holds version 0 and has
/// said so.
fn session(members: u32, limit: u64) -> Session {
    let mut session = Session::new(Tree::new(4).unwrap(), 2);
    assert_eq!(session.due(), None);
    session.take(view(members, limit));
    assert_eq!(session.due(), Some(Next::Connect(vec!["a".into()])));
    session.connect(2);
    assert_eq!((session.push_opened(0), session.push_opened(1)), (1, 1));
    assert_eq!(receive(&mut session, 0, 0), Admission::Write(0));
    assert_eq!(session.due(), None, "not whole");
    receive(&mut session, 0, 1);
    assert_eq!(session.due(), Some(ready(0)));
    session
}

fn ready(version: u64) -> Next {
    Next::Tell(ToCoordinator::Ready { version, chunks: 0 })
}

fn compute(step: u64, leaves: [u8; 4]) -> Option<Next> {
    let leaves = leaves.map(|leaf| leaf == 1).to_vec();
    Some(Next::Compute { step, leaves })
}

fn node(number: u32) -> Node {
    Node::new(number).unwrap()
}

/// Pushes a node where it is owed; returns the lanes.
fn push(session: &mut Session, step: u64, number: u32) -> Vec<usize> {
    let mut lanes = Vec::new();
    for lane in 0..2 {
        if let Some(life) = session.owes(lane, step, node(number)) {
            session.pushed(lane, life, step, node(number));
            lanes.push(lane);
        }
    }
    lanes
}

#[test]
fn a_version_is_computed_once_it_is_whole_and_within_the_limit() {
    let mut session = session(1, 1);
    assert_eq!(session.due(), compute(0, [1; 4]));
    session.computed();
    assert_eq!(push(&mut session, 0, 1), [0, 1]);
    assert_eq!(session.due(), None, "leaves are pushed once");
    receive_all(&mut session, 1);
    assert_eq!(session.due(), None, "step 1 is beyond the limit");
    session.take(view(1, 2));
    assert_eq!(session.due(), compute(1, [1; 4]));
}

#[test]
fn a_member_computes_its_leaves_and_those_that_it_is_given_later() {
    let mut session = session(2, 9);
    assert_eq!(session.due(), compute(0, [1, 1, 0, 0]));
    session.computed();
    assert_eq!(push(&mut session, 0, 2), [0, 1]);
    session.take(view(1, 9));
    assert_eq!(session.due(), compute(0, [0, 0, 1, 1]));
    let FromCoordinator::View(mut reserve) = view(1, 9) else {
        panic!("a view")
    };
    reserve.rank = None;
    session.take(FromCoordinator::View(reserve));
    assert_eq!(session.due(), None, "it computes nothing for now");
}

#[test]
fn t22_what_went_on_a_connection_that_broke_is_pushed_again_on_that_lane_alone() {
    let mut session = session(1, 9);
    assert_eq!(session.due(), compute(0, [1; 4]));
    session.computed();
    assert_eq!(push(&mut session, 0, 1), [0, 1]);
    session.push_lost(1, 1);
    assert_eq!(session.due(), None, "it would be computed again for it");
    assert_eq!(session.owes(1, 0, node(1)), None, "it cannot be pushed");
    assert_eq!(session.push_opened(1), 2);
    session.push_lost(1, 1); // somebody is late in saying so
    assert_eq!(session.due(), compute(0, [1; 4]));
    session.computed();
    session.pushed(1, 1, 0, node(1)); // on the connection before
    assert_eq!(session.owes(0, 0, node(1)), None);
    assert_eq!(session.owes(1, 0, node(1)), Some(2));
    session.pushed(1, 2, 0, node(2));
    assert_eq!(
        session.owes(1, 0, node(1)),
        Some(2),
        "half of it is lacking"
    );
    assert_eq!(session.owes(1, 0, node(2)), None);
    assert_eq!(session.due(), compute(0, [0, 0, 1, 1]));
    assert_eq!(push(&mut session, 0, 3), [1]);
    assert_eq!(session.due(), None);
}

#[test]
fn a_halt_is_answered_with_the_first_step_not_begun_and_obeyed() {
    let mut session = session(1, 9);
    receive_all(&mut session, 4);
    assert_eq!(session.due(), compute(4, [1; 4]));
    let answer = session.take(FromCoordinator::Halt { id: 3 });
    assert_eq!(answer, Some(ToCoordinator::Halted { id: 3, next: 5 }));
    session.computed();
    push(&mut session, 4, 1);
    receive_all(&mut session, 5);
    assert_eq!(session.due(), None);
    session.take(view(1, 6));
    assert_eq!(session.due(), compute(5, [1; 4]));
}

fn evaluate(id: u64, version: u64) -> FromCoordinator {
    let blocks = vec![Block(RowSet::Validation, id)];
    FromCoordinator::Evaluate(Evaluate {
        id,
        version,
        scores: false,
        blocks,
    })
}

fn evaluated(next: Option<Next>) -> Option<u64> {
    match next {
        Some(Next::Evaluate(Evaluate { id, .. })) => Some(id),
        _ => None,
    }
}

#[test]
fn evaluations_are_of_their_version_and_of_the_last_pass_and_come_before_steps() {
    let mut session = session(1, 9);
    session.take(evaluate(1, 0));
    session.take(evaluate(2, 1));
    assert_eq!(session.due(), compute(0, [1; 4]), "pass 1 is over");
    session.computed();
    push(&mut session, 0, 1);
    receive_all(&mut session, 1);
    assert_eq!(evaluated(session.due()), Some(2));
    assert_eq!(session.admit(3, 0), Admission::Wait, "it reads version 1");
    session.computed();
    assert_eq!(session.due(), compute(1, [1; 4]));
    session.computed();
    session.take(evaluate(2, 0));
    assert_eq!(session.due(), compute(1, [1; 4]), "version 0 is over");
}

#[test]
fn t22_a_coordinator_that_welcomes_a_session_again_hears_what_it_must_know() {
    let mut session = session(1, 9);
    session.take(evaluate(1, 0));
    session.orphaned();
    assert_eq!(session.due(), Some(ready(0)));
    assert_eq!(
        session.due(),
        None,
        "nothing is begun without a coordinator"
    );
    session.welcomed();
    session.take(view(1, 9));
    assert_eq!(session.due(), Some(ready(0)));
    assert_eq!(session.due(), compute(0, [1; 4]));
    session.computed();
    let failed = || ToCoordinator::Failed {
        message: "libtorch".into(),
    };
    session.failed(failed());
    session.failed(ToCoordinator::Drain); // the first stands
    assert_eq!(session.due(), Some(Next::Tell(failed())));
    assert_eq!(session.due(), None, "no more is computed");
    session.orphaned();
    assert_eq!(session.due(), Some(Next::Tell(failed())));
}

#[test]
fn a_session_ends_once() {
    let mut first = session(1, 9);
    first.take(FromCoordinator::Release(Release::Drained));
    first.end(Ending::Lost("a server is gone".into()));
    let released = Ending::Released(Release::Drained);
    assert_eq!(first.ended(), Some(&released));
    assert_eq!(first.due(), Some(Next::End(released)));
    assert_eq!(first.admit(1, 0), Admission::Over);
    let mut moved = session(1, 9);
    let FromCoordinator::View(mut view) = view(1, 9) else {
        panic!("a view")
    };
    view.servers = vec!["b".into()];
    moved.take(FromCoordinator::View(view));
    assert!(matches!(moved.due(), Some(Next::End(Ending::Lost(_)))));
}

#[test]
fn t04_old_and_repeated_chunks_are_discarded() {
    let mut session = session(1, 0);
    assert_eq!(receive(&mut session, 2, 0), Admission::Write(0));
    assert_eq!(receive(&mut session, 2, 0), Admission::Discard);
    assert_eq!(receive(&mut session, 0, 1), Admission::Discard);
    assert_eq!(receive(&mut session, 3, 1), Admission::Write(1));
    assert_eq!(session.admit(3, 7), Admission::Over, "no such chunk");
    assert_eq!(session.held(&[0, 1, 7]), Held::of([Some(2), Some(3), None]));
}

#[test]
fn t22_a_chunk_that_was_torn_is_received_again() {
    let mut session = session(1, 9);
    assert_eq!(session.due(), compute(0, [1; 4]));
    assert_eq!(session.admit(1, 0), Admission::Write(1));
    assert_eq!(
        session.held(&[0, 1]),
        Held::of([Some(0), Some(0)]),
        "it is not here yet"
    );
    assert_eq!(
        session.admit(1, 0),
        Admission::Write(1),
        "its connection broke"
    );
    assert!(!session.received(1, 0));
    assert_eq!(session.admit(1, 1), Admission::Write(1));
    assert!(session.received(1, 1), "now it is whole");
    assert_eq!(
        session.admit(2, 0),
        Admission::Wait,
        "version 0 is computed on"
    );
    session.computed();
    assert_eq!(session.admit(2, 0), Admission::Write(0));
    assert_eq!(
        session.admit(4, 1),
        Admission::Write(0),
        "faster than the other"
    );
    assert!(
        !session.received(2, 0),
        "nobody waits for version 2 any more"
    );
    assert_eq!(session.held(&[0]), Held::of([Some(1)]));
}

#[test]
fn lanes_cover_each_chunk_once_and_small_models_have_one_to_a_server() {
    let layout = |chunks: usize| {
        let param = Param {
            name: "w".into(),
            shape: vec![(chunks * CHUNK) as u64],
            init: Init::Constant(0.0),
        };
        Layout::new(vec![param]).unwrap()
    };
    let lane = |server, index, of, chunks: &[u32]| Lane {
        server,
        index,
        of,
        chunks: chunks.to_vec(),
    };
    let small = [lane(0, 0, 1, &[0, 1]), lane(1, 0, 1, &[2, 3])];
    assert_eq!(Lane::all(&layout(4), 2, 3), small);
    let large = [
        lane(0, 0, 2, &[0, 2]),
        lane(0, 1, 2, &[1]),
        lane(1, 0, 2, &[4]),
        lane(1, 1, 2, &[3]),
    ];
    assert_eq!(Lane::all(&layout(5), 2, 2), large);
    assert_eq!(Lane::all(&layout(1), 2, 0), [lane(0, 0, 1, &[0])]);
}

#[test]
fn t12_a_release_stands_over_a_loss() {
    let released = FromCoordinator::Release(Release::Done);
    let mut session = session(1, 9);
    session.end(Ending::Lost("no connection".into()));
    session.end(Ending::Lost("the session is over".into()));
    assert_eq!(session.ended(), Some(&Ending::Lost("no connection".into())));
    session.take(released);
    assert_eq!(session.ended(), Some(&Ending::Released(Release::Done)));
    session.end(Ending::Lost("the session is over".into()));
    assert_eq!(session.ended(), Some(&Ending::Released(Release::Done)));
}

#[test]
fn t34_a_worker_says_which_servers_it_waits_for() {
    let mut session = Session::new(Tree::new(4).unwrap(), 3);
    let servers = ["a", "b"].map(String::from).to_vec();
    session.take(FromCoordinator::View(View {
        epoch: 1,
        rank: None,
        members: 1,
        limit: 9,
        servers: servers.clone(),
    }));
    let ask = |session: &mut Session, version| match session
        .take(FromCoordinator::Stalled { id: 7, version })
    {
        Some(ToCoordinator::ServersAwaited { id: 7, servers }) => servers,
        answer => panic!("{answer:?}"),
    };
    assert_eq!(ask(&mut session, 0), [0; 0], "it does not know them yet");
    assert_eq!(session.due(), Some(Next::Connect(servers)));
    assert_eq!(ask(&mut session, 0), [0, 1]);
    // Server 0 has two chunks of three.
    receive(&mut session, 0, 2);
    assert_eq!(ask(&mut session, 0), [0]);
    receive(&mut session, 0, 0);
    receive(&mut session, 0, 1);
    assert_eq!(ask(&mut session, 0), [0; 0]);
    receive(&mut session, 1, 1);
    assert_eq!(ask(&mut session, 1), [0, 1]);
    receive(&mut session, 1, 2);
    assert_eq!(ask(&mut session, 1), [0], "a part of it is here");
}
