//! How a server ends.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Connection, Server, columns, inputs, text};
use crate::artifact::fixture::{Run, breast_cancer};
use crate::common::LIMIT;

#[test]
fn s08_sigterm_makes_it_unready_and_it_serves_on_until_nobody_asks() {
    let run = Run::complete(&breast_cancer());
    let artifact = run.export();
    let mut server = Server::start(&[&artifact, &"--drain-delay", &"2", &"--grace", &"20"]);
    let columns = columns(&breast_cancer().file("breast-cancer.csv"), "diagnosis", 1);
    let request = inputs(&columns, "FP32").to_string();
    let path = "/v2/models/breast-cancer/infer";
    let mut kept = Connection::open(&server.address);
    let ask = |connection: &mut Connection| {
        connection.send("POST", path, "", request.as_bytes());
        connection.receive()
    };
    assert_eq!(ask(&mut kept).status, 200);
    assert_eq!(server.ask("GET", "/v2/health/ready", b"").status, 200);
    let _idle = Connection::open(&server.address);
    let mut half = Connection::open(&server.address);
    std::io::Write::write_all(half.0.get_mut(), b"POST /predict HTTP/1.1\r\n").expect("sent");
    server.signal(Signal::TERM);
    let begin = Instant::now();
    while server.ask("GET", "/v2/health/ready", b"").status == 200 {
        assert!(begin.elapsed() < LIMIT, "it stays ready");
    }
    assert_eq!(server.ask("GET", "/v2/health/live", b"").status, 200);
    // A connection that is kept gets its answer, and is told to go elsewhere; new ones are served.
    let answer = ask(&mut kept);
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("close"))
    );
    assert!(kept.line().is_none(), "it is closed");
    let answer = ask(&mut Connection::open(&server.address));
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("close"))
    );
    let (status, said) = server.wait();
    assert!(status.success(), "{said}");
    assert!(
        begin.elapsed() >= Duration::from_secs(2),
        "it has served on"
    );
    assert!(
        begin.elapsed() < Duration::from_secs(15),
        "an idle connection does not keep it"
    );
    assert!(
        said.contains("serving on for 2 s, not ready") && said.ends_with("ended\n"),
        "{said}"
    );
}

#[test]
fn s08_an_interrupt_ends_it_at_once() {
    let run = Run::complete(&breast_cancer());
    let artifact = run.export();
    let mut server = Server::start(&[&artifact, &"--drain-delay", &"60", &"--grace", &"90"]);
    server.signal(Signal::INT);
    let begin = Instant::now();
    let (status, said) = server.wait();
    assert!(status.success(), "{said}");
    assert!(begin.elapsed() < Duration::from_secs(30));
}

#[test]
fn s08_a_connection_ends_after_so_many_requests_with_an_answer() {
    let run = Run::complete(&breast_cancer());
    let artifact = run.export();
    let server = Server::start(&[&artifact, &"--connection-requests", &"20"]);
    let mut connection = Connection::open(&server.address);
    let mut answered = 0;
    loop {
        connection.send("GET", "/v2", "", b"");
        let answer = connection.receive();
        assert_eq!(answer.status, 200, "{}", text(&answer.body));
        answered += 1;
        if answer.header("connection") == Some("close") {
            break;
        }
    }
    assert!((18..=22).contains(&answered), "{answered}");
    assert!(connection.line().is_none(), "it is closed");
}
