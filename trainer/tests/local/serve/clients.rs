//! Clients that others have written.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use super::{Server, columns, folder, predicted};
use crate::artifact::fixture::{Run, breast_cancer, diabetes, text};

/// The command that runs Python with the clients.
fn python() -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/python-packages.sh");
    let output = Command::new(script)
        .arg("serving-clients")
        .stderr(Stdio::inherit())
        .output()
        .expect("the script runs");
    assert!(output.status.success(), "the script failed, see above");
    text(&output.stdout)
        .split_whitespace()
        .map(Into::into)
        .collect()
}

#[test]
fn s04_tritonclient_speaks_with_the_server_in_every_form() {
    let place = folder();
    let examples = [(breast_cancer(), "diagnosis"), (diabetes(), "progression")];
    let runs = examples.map(|(example, label)| (Run::complete(&example), example, label));
    let mut sources = Vec::new();
    let mut cases = Vec::new();
    for (run, example, label) in &runs {
        let artifact = run.export();
        let file = example.file(&format!("{}.csv", example.name));
        let expected = predicted(&artifact, &file, 7);
        let columns = columns(&file, label, 7);
        sources.push(format!("{}={}", example.name, artifact.display()));
        let numbers: serde_json::Map<_, _> = columns
            .iter()
            .enumerate()
            .map(|(place, (name, values))| {
                // Some columns as texts: BYTES beside numbers.
                let numbers = values.iter().map(|v| v.parse::<f64>().expect("a number"));
                let values = match place % 4 {
                    3 => json!(values),
                    _ => json!(numbers.collect::<Vec<_>>()),
                };
                (name.clone(), values)
            })
            .collect();
        let classes = expected[0]["probabilities"]
            .as_object()
            .map(|classes| classes.len());
        let probabilities: Vec<Vec<_>> = expected
            .iter()
            .filter_map(|row| Some(row["probabilities"].as_object()?.values().collect()))
            .collect();
        let prediction: Vec<_> = expected.iter().map(|row| &row["prediction"]).collect();
        for dtype in ["f4", "f8"] {
            cases.push(json!({
                "model": example.name,
                "dtype": dtype,
                "columns": numbers,
                "names": columns.iter().map(|(name, _)| name).collect::<Vec<_>>(),
                "prediction": prediction,
                "probabilities": classes.map(|_| &probabilities),
            }));
        }
    }
    let file = place.path().join("cases.json");
    std::fs::write(&file, json!(cases).to_string()).expect("writable");
    let server = Server::start(&[&sources[0], &sources[1], &"--grpc", &"127.0.0.1:0"]);
    let python = python();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/local/serve/clients.py");
    let output = Command::new(&python[0])
        .args(&python[1..])
        .arg(script)
        .args([&server.address, &server.grpc])
        .arg(file)
        .output()
        .expect("Python runs");
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}{}", text(&output.stderr));
    assert_eq!(told.matches("http breast-cancer").count(), 2 * 5, "{told}");
    for form in ["http.aio", "grpc.aio", "grpc contents"] {
        assert_eq!(told.matches(form).count(), cases.len(), "{form}: {told}");
    }
}
