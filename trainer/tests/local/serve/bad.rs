//! Artifacts that are damaged, mixed up or changed: none of them is ever served.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trainyard_runtime::artifact::{
    FILES, FileRecord, GOLDEN, METRICS, MODEL, PARAMETERS, PROVENANCE, ROWS, digest, identity, seal,
};

use super::folder;
use crate::artifact::fixture::{Run, breast_cancer, diabetes, text};

/// A server that has not ended by then serves.
const ENDS: Duration = Duration::from_secs(20);

/// Starts a server on an artifact and asserts that it ends with 2, without ever accepting a connection, and says `parts`.
fn refused(artifact: &Path, parts: &[&str]) {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address: SocketAddr = free.local_addr().expect("an address");
    drop(free);
    let over = AtomicBool::new(false);
    let (output, accepted) = std::thread::scope(|scope| {
        let knocking = scope.spawn(|| {
            let mut accepted = false;
            while !over.load(Ordering::Relaxed) {
                accepted |=
                    TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_ok();
            }
            accepted
        });
        let mut child = Command::new(env!("CARGO_BIN_EXE_trainyard"))
            .args(["serve", "--http", &address.to_string()])
            .arg(artifact)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let begin = Instant::now();
        while child.try_wait().expect("a child").is_none() && begin.elapsed() < ENDS {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = child.kill(); // it has ended, or it serves
        let output = child.wait_with_output().expect("a child");
        over.store(true, Ordering::Relaxed);
        (output, knocking.join().expect("no panic"))
    });
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{parts:?}: {told}");
    assert!(!accepted, "{parts:?}: a connection was accepted");
    for part in parts {
        assert!(told.contains(part), "expected {part:?}: {told}");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for name in FILES.iter().chain([&PROVENANCE]) {
        fs::copy(from.join(name), to.join(name)).expect(name);
    }
}

fn change_json(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(file).expect("a file")).expect("JSON");
    change(&mut value);
    fs::write(file, value.to_string()).expect("writable");
}

/// Makes the digests those of the files, as somebody does who changes an artifact on purpose.
fn forge(artifact: &Path) {
    let record = |name: &&str| {
        let (bytes, sha256) = digest(&artifact.join(name)).expect("a file");
        ((*name).to_owned(), FileRecord { bytes, sha256 })
    };
    let files = FILES.iter().map(record).collect();
    let file = artifact.join(PROVENANCE);
    change_json(&file, |provenance| {
        provenance["artifactSha256"] = json!(identity(&files));
        provenance["files"] = json!(files);
    });
    let text = fs::read(&file).expect("a file");
    let mut changed: Value = serde_json::from_slice(&text).expect("JSON");
    changed["provenanceSha256"] = json!(seal(&text));
    fs::write(&file, changed.to_string()).expect("writable");
}

#[test]
fn s02_a_damaged_artifact_is_never_served() {
    let place = folder();
    let runs = [breast_cancer(), diabetes()].map(|example| Run::complete(&example));
    let [one, other] = runs.each_ref().map(Run::export);
    let bad = place.path().join("bad");
    for name in FILES.iter().chain([&PROVENANCE]) {
        let file = bad.join(name);
        let good = fs::read(one.join(name)).expect("a file");
        let begin = || copy(&one, &bad);
        for at in [0, good.len() / 2, good.len() - 1] {
            begin();
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            fs::write(&file, bytes).expect("writable");
            refused(&bad, &["export the artifact again"]);
        }
        begin();
        fs::write(&file, &good[..good.len() - 1]).expect("writable");
        refused(&bad, &[name]);
        begin();
        fs::write(&file, b"").expect("writable");
        refused(&bad, &[name]);
        fs::remove_file(&file).expect("it is there");
        refused(&bad, &["bad"]);
        begin();
        fs::copy(other.join(name), &file).expect("a file");
        refused(&bad, &["export the artifact again"]);
    }
    refused(&place.path().join("none"), &["none"]);
}

#[test]
fn s02_an_artifact_that_was_changed_with_its_digests_is_never_served() {
    let place = folder();
    let runs = [breast_cancer(), diabetes()].map(|example| Run::complete(&example));
    let [one, other] = runs.each_ref().map(Run::export);
    let bad = place.path().join("bad");
    let column = |field: &str| format!("/inputSchema/input/columns/columns/2/{field}");
    let edits: [(&str, String, Value, &str); 12] = [
        (MODEL, column("mean"), json!(1.0), "golden row"),
        (MODEL, column("std"), json!(1.0), "golden row"),
        (MODEL, column("name"), json!("x"), "\"x\""),
        (MODEL, "/modelSha256".into(), json!("0"), "digest"),
        (MODEL, "/output/width".into(), json!(2), MODEL),
        (MODEL, "/inputShape".into(), json!([29]), MODEL),
        (MODEL, "/job".into(), json!("other"), "different models"),
        (MODEL, "/formatVersion".into(), json!(3), "it has format 3"),
        (
            PROVENANCE,
            "/formatVersion".into(),
            json!(3),
            "it has format 3",
        ),
        (
            PROVENANCE,
            "/modelSha256".into(),
            json!("0"),
            "different models",
        ),
        (ROWS, "/rows/0/outputs/0".into(), json!(0.5), "golden row 0"),
        (
            ROWS,
            "/rows/0/prediction".into(),
            json!("none"),
            "golden row 0",
        ),
    ];
    for (file, pointer, value, part) in edits {
        copy(&one, &bad);
        change_json(&bad.join(file), |json| {
            *json.pointer_mut(&pointer).expect(&pointer) = value;
        });
        forge(&bad);
        refused(&bad, &[part]);
    }
    for name in [PARAMETERS, ROWS, GOLDEN] {
        copy(&one, &bad);
        fs::copy(other.join(name), bad.join(name)).expect("a file");
        forge(&bad);
        refused(
            &bad,
            &["golden", "export the artifact again"][usize::from(name == PARAMETERS)..],
        );
    }
    copy(&one, &bad);
    change_json(&bad.join(MODEL), |model| {
        for classes in ["/output/classes", "/inputSchema/label/classes"] {
            let classes = model.pointer_mut(classes).and_then(Value::as_array_mut);
            classes.expect("classes").reverse();
        }
    });
    forge(&bad);
    refused(&bad, &["golden row", "its prediction is"]);
    // What says nothing of the answers may be changed by who can write digests.
    copy(&one, &bad);
    change_json(&bad.join(METRICS), |metrics| {
        metrics["note"] = json!("mine")
    });
    forge(&bad);
    let server = super::Server::start(&[&bad]);
    assert_eq!(server.ask("GET", "/v2", b"").status, 200);
}
