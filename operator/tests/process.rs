//! The operator's process as it is, beside an API server that answers when the test wants it to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longest time that anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An API server that only tells its version: once it was asked, when it is allowed to.
struct ApiServer {
    address: SocketAddr,
    asked: Receiver<()>,
    allow: Sender<()>,
}

impl ApiServer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let ((tell, asked), (allow, allowed)) = (channel(), channel());
        thread::spawn(move || {
            let mut open = Vec::new(); // what else is asked gets no answer
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                if head(&mut stream).starts_with("GET /version ") {
                    let (Ok(()), Ok(())) = (tell.send(()), allowed.recv()) else {
                        return; // the test is over
                    };
                    let body = version().to_string();
                    let length = body.len();
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                    );
                    stream.write_all(answer.as_bytes()).expect("an answer");
                } else {
                    open.push(stream);
                }
            }
        });
        ApiServer {
            address,
            asked,
            allow,
        }
    }

    /// The configuration of a client of this server.
    fn kubeconfig(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "default"}}],
        })
    }
}

/// A request's first line and headers.
fn head(stream: &mut TcpStream) -> String {
    let mut head = String::new();
    let mut lines = BufReader::new(stream);
    while !head.ends_with("\r\n\r\n") {
        if lines.read_line(&mut head).expect("a request") == 0 {
            break;
        }
    }
    head
}

fn version() -> Value {
    json!({"major": "1", "minor": "34", "gitVersion": "v1.34.0", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z", "goVersion": "go1.26", "compiler": "gc", "platform": "linux/amd64"})
}

/// The operator; it ends with the test.
struct Operator {
    child: Child,
    /// Where it serves HTTP.
    address: SocketAddr,
}

impl Operator {
    fn start(kubeconfig: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_trainyard-operator"))
            .args(["--trainer-image=trainer:1", "--http=127.0.0.1:0"])
            .args(["--identity=test", "--lease-namespace=default"])
            .env_clear() // neither a proxy nor another cluster
            .env("KUBECONFIG", kubeconfig)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the operator starts");
        let log = BufReader::new(child.stderr.take().expect("a log"));
        let (tell, told) = channel();
        // To its end, so that the operator never waits for a reader.
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                eprintln!("{line}");
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                let address = line["fields"]["address"].as_str();
                if let Some(address) = address.and_then(|address| address.parse().ok()) {
                    let _ = tell.send(address);
                }
            }
        });
        let mut operator = Operator {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        operator.address = told
            .recv_timeout(PATIENCE)
            .expect("it says where it listens");
        operator
    }

    /// The code that it answers a GET with.
    fn get(&self, path: &str) -> u16 {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let request = format!("GET {path} HTTP/1.1\r\nhost: operator\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        code.unwrap_or_else(|| panic!("{path}: {answer:?}"))
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn o29_the_process_is_alive_at_once_and_ready_when_the_api_server_was_reached() {
    let api = ApiServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig = folder.path().join("config");
    std::fs::write(&kubeconfig, api.kubeconfig().to_string()).expect("a file");
    let operator = Operator::start(&kubeconfig);
    api.asked
        .recv_timeout(PATIENCE)
        .expect("it asks the API server");
    assert_eq!(
        (operator.get("/healthz"), operator.get("/readyz")),
        (200, 503)
    );
    api.allow.send(()).expect("the API server answers");
    let limit = Instant::now() + PATIENCE;
    while operator.get("/readyz") != 200 {
        assert!(Instant::now() < limit, "it does not become ready");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(operator.get("/healthz"), 200);
}
