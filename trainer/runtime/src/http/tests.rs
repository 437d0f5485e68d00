//! Pages asked for over TCP, as everybody asks for them.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;

fn served() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    serve(listener, pages(|| true, Metrics::default)).expect("it serves");
    address
}

fn connect(address: std::net::SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    let limit = Some(Duration::from_secs(60));
    stream.set_read_timeout(limit).expect("a socket");
    stream
}

fn answer_of(mut stream: TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).expect("a connection");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

#[test]
fn t13_idle_connections_keep_nobody_out_and_are_closed() {
    let address = served();
    let idle: Vec<TcpStream> = (0..3 * CONNECTIONS)
        .map(|_| {
            let mut stream = connect(address);
            stream.write_all(b"GET /healthz HT").expect("a connection");
            stream
        })
        .collect();
    let answer = answer_of(connect(address), "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // All but the newest are closed, whether in order or because something of theirs was not read.
    for mut stream in idle.into_iter().take(2 * CONNECTIONS) {
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    }
}

#[test]
fn t13_a_request_that_is_too_long_is_refused() {
    let address = served();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(2 * REQUEST_BYTES));
    let mut stream = connect(address);
    let _ = stream.write_all(long.as_bytes()); // it may be closed before all is sent
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    assert!(!text.starts_with(b"HTTP/1.1 200"));
    let answer = answer_of(connect(address), "GET /metrics HTTP/1.0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
}
