//! `trainyard serve`: the proof before the port, stock clients, and the end.

mod bad;
mod clients;
mod ending;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::artifact::fixture::{Run, breast_cancer, diabetes, digits, lines, text, trainyard};
use crate::common::{self, LIMIT, folder};

/// A server that runs.
struct Server {
    child: Child,
    address: String,
    /// The address of gRPC, if it is served.
    grpc: String,
    said: Arc<Mutex<String>>,
    reading: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server and waits until it listens.
    fn start(args: &[&dyn AsRef<std::ffi::OsStr>]) -> Self {
        let mut child = command(args);
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut told = String::new();
        let (address, grpc) = loop {
            let mut line = String::new();
            if stderr.read_line(&mut line).expect("UTF-8") == 0 {
                panic!("it has ended: {told}");
            }
            told += &line;
            if let Some(addresses) = line.trim().strip_prefix("serving on http://") {
                let (http, grpc) = addresses
                    .split_once(" and grpc://")
                    .unwrap_or((addresses, ""));
                break (http.to_owned(), grpc.to_owned());
            }
        };
        let said = Arc::new(Mutex::new(told));
        let reading = std::thread::spawn({
            let said = Arc::clone(&said);
            move || {
                for line in stderr.lines().map_while(Result::ok) {
                    let mut said = said.lock().expect("no panic");
                    *said += &(line + "\n");
                }
            }
        });
        Self {
            child,
            address,
            grpc,
            said,
            reading: Some(reading),
        }
    }

    fn signal(&self, signal: Signal) {
        common::send(self.child.id(), signal);
    }

    /// Waits for the end; returns what it has said.
    fn wait(&mut self) -> (ExitStatus, String) {
        let begin = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => break status,
                None if begin.elapsed() > LIMIT => panic!("it does not end"),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        if let Some(reading) = self.reading.take() {
            reading.join().expect("no panic");
        }
        (status, self.said.lock().expect("no panic").clone())
    }

    /// Sends a request on a connection of its own.
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let mut connection = Connection::open(&self.address);
        connection.send(method, path, "", body);
        connection.receive()
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, body.to_string().as_bytes())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a server on a free port.
fn command(args: &[&dyn AsRef<std::ffi::OsStr>]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainyard"));
    command.args(["serve", "--http", "127.0.0.1:0"]);
    for arg in args {
        command.arg(arg);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs")
}

/// A connection of HTTP/1.1 that stays open.
struct Connection(BufReader<TcpStream>);

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", text(&self.body)))
    }

    /// The answer to a good request.
    fn good(&self) -> Value {
        assert_eq!(self.status, 200, "{}", text(&self.body));
        self.json()
    }

    /// The message of a refusal.
    fn refused(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", text(&self.body));
        self.json()["error"].as_str().expect("an error").to_owned()
    }
}

impl Connection {
    fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        Self(BufReader::new(stream))
    }

    fn send(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        let stream = self.0.get_mut();
        stream.write_all(head.as_bytes()).expect("sent");
        stream.write_all(body).expect("sent");
    }

    /// The next line without its end; none if the connection was closed.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim_end().to_owned())
    }

    fn receive(&mut self) -> Answer {
        self.try_receive().expect("an answer")
    }

    fn try_receive(&mut self) -> Option<Answer> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut headers = Vec::new();
        while let Some(line) = self.line().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").expect("a header");
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut answer = Answer {
            status: status.expect("a status"),
            headers,
            body: Vec::new(),
        };
        let length = answer
            .header("content-length")
            .map_or(0, |length| length.parse().expect("a length"));
        answer.body.resize(length, 0);
        self.0.read_exact(&mut answer.body).ok()?;
        Some(answer)
    }
}

/// The rows of a CSV file by column, without the label.
fn columns(file: &Path, label: &str, rows: usize) -> Vec<(String, Vec<String>)> {
    let mut reader = csv::Reader::from_path(file).expect("a table");
    let names: Vec<String> = reader
        .headers()
        .expect("names")
        .iter()
        .map(Into::into)
        .collect();
    let records: Vec<csv::StringRecord> = reader
        .records()
        .take(rows)
        .map(|record| record.expect("a row"))
        .collect();
    let column = |(place, name): (usize, &String)| {
        let values = records.iter().map(|record| record[place].to_owned());
        (name.clone(), values.collect())
    };
    let all = names.iter().enumerate().map(column);
    all.filter(|(name, _)| name != label).collect()
}

/// What `trainyard predict` says of the first rows.
fn predicted(artifact: &Path, file: &Path, rows: usize) -> Vec<Value> {
    let limit = rows.to_string();
    let output = trainyard(&[
        &"predict", &artifact, &"--csv", &file, &"--json", &"--limit", &limit,
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    lines(&output).into_iter().take(rows).collect()
}

/// Columns as inputs of a request: as texts, or as numbers where all of them are.
fn inputs(columns: &[(String, Vec<String>)], datatype: &str) -> Value {
    let input = |(name, values): &(String, Vec<String>)| {
        let data = match datatype {
            "BYTES" => json!(values),
            _ => json!(
                values
                    .iter()
                    .map(|v| v.parse::<f64>().expect("a number"))
                    .collect::<Vec<_>>()
            ),
        };
        json!({"name": name, "datatype": datatype, "shape": [values.len()], "data": data})
    };
    json!({"inputs": columns.iter().map(input).collect::<Vec<_>>()})
}

#[test]
fn s10_predict_and_serve_give_the_same_bits() {
    let runs = [breast_cancer(), diabetes()].map(|example| (Run::complete(&example), example));
    let artifacts: Vec<(String, PathBuf)> = runs
        .iter()
        .map(|(run, example)| (example.name.to_owned(), run.export()))
        .collect();
    let named: Vec<String> = artifacts
        .iter()
        .map(|(name, path)| format!("{name}={}", path.display()))
        .collect();
    let server = Server::start(&[&named[0], &named[1]]);
    for ((name, artifact), (_, example)) in artifacts.iter().zip(&runs) {
        let file = example.file(&format!("{name}.csv"));
        let label = ["diagnosis", "progression"][usize::from(name == "diabetes")];
        let expected = predicted(artifact, &file, 40);
        let columns = columns(&file, label, 40);
        let path = format!("/v2/models/{name}/infer");
        // Texts, single and double precision; in any order.
        for datatype in ["BYTES", "FP32", "FP64"] {
            let mut request = inputs(&columns, datatype);
            request["inputs"].as_array_mut().expect("inputs").reverse();
            let answer = server.post(&path, &request).good();
            let output = |place: usize| answer["outputs"][place]["data"].as_array().expect("data");
            for (row, expected) in expected.iter().enumerate() {
                assert_eq!(
                    output(0)[row],
                    expected["prediction"],
                    "{name}, {datatype}, row {row}"
                );
                if name != "diabetes" {
                    let probabilities = expected["probabilities"].as_object().expect("classes");
                    let expected: Vec<&Value> = probabilities.values().collect();
                    let width = expected.len();
                    let found: Vec<&Value> = output(1)[row * width..][..width].iter().collect();
                    assert_eq!(found, expected, "{name}, {datatype}, row {row}");
                }
            }
        }
        // In the original columns, as CSV and as JSON, together and alone.
        let path = format!("/predict/{name}");
        let csv = fs::read_to_string(&file).expect("a table");
        let csv: Vec<&str> = csv.lines().take(41).collect();
        let mut connection = Connection::open(&server.address);
        connection.send(
            "POST",
            &path,
            "Content-Type: text/csv\r\n",
            csv.join("\n").as_bytes(),
        );
        let answers = connection.receive().good();
        for (row, expected) in expected.iter().enumerate() {
            let mut expected = expected.clone();
            for field in ["line", "label"] {
                expected.as_object_mut().expect("a row").remove(field);
            }
            assert_eq!(answers[row], expected, "{name}, row {row} of CSV");
            let one: serde_json::Map<String, Value> = columns
                .iter()
                .map(|(name, values)| {
                    (
                        name.clone(),
                        json!(values[row].parse::<f64>().expect("a number")),
                    )
                })
                .collect();
            let found = server.post(&path, &Value::Object(one)).good();
            assert_eq!(found, expected, "{name}, row {row} of JSON");
        }
    }
    let metrics = text(&server.ask("GET", "/metrics", b"").body);
    let line = "trainyard_inference_rows_total{model=\"diabetes\",version=\"1\"} 200";
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn s10_what_is_wrong_with_a_row_is_told_with_its_column() {
    let run = Run::complete(&breast_cancer());
    let artifact = run.export();
    let server = Server::start(&[&artifact]);
    let columns = columns(&breast_cancer().file("breast-cancer.csv"), "diagnosis", 2);
    let good = inputs(&columns, "BYTES");
    let path = "/v2/models/breast-cancer/infer";
    assert_eq!(server.post(path, &good).status, 200);
    let changes: [(&str, Value, &str); 9] = [
        (
            "/inputs/3/data",
            json!(["1", "x"]),
            "input \"mean area\": row 1 (from 0): expected a number, found \"x\"",
        ),
        (
            "/inputs/3/data",
            json!(["", "1"]),
            "input \"mean area\": row 0 (from 0)",
        ),
        (
            "/inputs/3/data",
            json!(["1"]),
            "input \"mean area\": data has 1 elements, shape [2] has 2",
        ),
        (
            "/inputs/3/shape",
            json!([1]),
            "input \"mean area\": data has 2 elements, shape [1] has 1",
        ),
        (
            "/inputs/3/shape",
            json!([-2]),
            "input \"mean area\": shape has the dimension -2",
        ),
        (
            "/inputs/3/name",
            json!("area"),
            "input \"mean area\" is missing",
        ),
        (
            "/inputs/3/name",
            json!("mean radius"),
            "input \"mean radius\" is given twice",
        ),
        (
            "/inputs/3/datatype",
            json!("INT64"),
            "input \"mean area\": data has strings, INT64 takes whole numbers",
        ),
        (
            "/inputs/3/datatype",
            json!("text"),
            "input \"mean area\": datatype \"text\" is unknown",
        ),
    ];
    for (pointer, value, problem) in changes {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect(pointer) = value;
        let message = server.post(path, &bad).refused(400);
        assert!(
            message.starts_with(problem),
            "{message}, expected {problem}"
        );
    }
    let mut more = good.clone();
    let input = json!({"name": "mood", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]});
    more["inputs"].as_array_mut().expect("inputs").push(input);
    let message = server.post(path, &more).refused(400);
    assert!(
        message.starts_with("input \"mood\" is none of the model's"),
        "{message}"
    );
    for (body, problem) in [
        (
            json!({"mean radius": 1}),
            "row 0 (from 0): column \"mean texture\" is missing",
        ),
        (json!([]), "there is no row"),
        (json!("text"), "the rows cannot be read"),
    ] {
        let message = server.post("/predict", &body).refused(400);
        assert!(
            message.starts_with(problem),
            "{message}, expected {problem}"
        );
    }
    assert_eq!(server.ask("GET", "/none", b"").status, 404);
    assert_eq!(server.ask("DELETE", path, b"").status, 405);
    let message = server.ask("POST", path, b"{").refused(400);
    assert!(message.contains("EOF"), "{message}");
}

#[test]
fn s04_an_array_is_one_tensor_in_any_form() {
    let run = Run::complete(&digits());
    let artifact = run.export();
    let server = Server::start(&[&artifact]);
    let features = digits().file("digits-features.npy");
    let output = trainyard(&[
        &"predict", &artifact, &"--npy", &features, &"--json", &"--limit", &"3",
    ]);
    let expected = lines(&output);
    let bytes = fs::read(&features).expect("an array");
    // The header of NPY ends with a line.
    let begin = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .expect("a header")
        + 1;
    let rows = &bytes[begin..begin + 3 * 64];
    let path = "/v2/models/digits/infer";
    let nested: Vec<Vec<Vec<&[u8]>>> = rows
        .chunks(64)
        .map(|row| vec![row.chunks(8).collect()])
        .collect();
    let input = |data: Value| json!({"name": "input", "datatype": "UINT8", "shape": [3, 1, 8, 8], "data": data});
    for data in [json!(rows), json!(nested)] {
        let answer = server.post(path, &json!({"inputs": [input(data)]})).good();
        let found = answer["outputs"][0]["data"].as_array().expect("classes");
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, &expected["prediction"]);
        }
    }
    // A body that is nothing but the tensor.
    let mut connection = Connection::open(&server.address);
    connection.send("POST", path, "Inference-Header-Content-Length: 0\r\n", rows);
    let answer = connection.receive();
    assert_eq!(answer.status, 200, "{}", text(&answer.body));
    let length = answer
        .header("inference-header-content-length")
        .expect("in binary");
    let json: Value =
        serde_json::from_slice(&answer.body[..length.parse().expect("a length")]).expect("JSON");
    assert_eq!(json["outputs"][0]["shape"], json!([3]));
    let answer = server.post("/predict", &json!(nested)).good();
    assert_eq!(answer[2]["probabilities"], expected[2]["probabilities"]);
    let answer = server.post("/predict", &json!(nested[1])).good();
    assert_eq!(answer["prediction"], expected[1]["prediction"]);
    for (shape, problem) in [
        (json!([3, 64]), "shape"),
        (json!([2, 1, 8, 8]), "data has 192 elements"),
    ] {
        let mut bad = input(json!(rows));
        bad["shape"] = shape;
        let message = server.post(path, &json!({"inputs": [bad]})).refused(400);
        assert!(message.contains(problem), "{message}");
    }
}
