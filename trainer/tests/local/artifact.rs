//! Artifacts: exported, verified, run by plain PyTorch, and used for prediction.

pub mod fixture;
mod golden;
mod refusals;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fixture::{Example, Run, breast_cancer, diabetes, digits, lines, refused, text, trainyard};
use serde_json::Value;
use trainyard_runtime::artifact::{FILES, GOLDEN, Golden, MODEL, PROVENANCE, SCRIPT, tolerance};
use trainyard_torch::artifact::check_golden;

fn examples() -> [Example; 3] {
    [breast_cancer(), diabetes(), digits()]
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

fn files(artifact: &Path) -> Vec<(String, Vec<u8>)> {
    let names = FILES.iter().chain([&PROVENANCE]);
    names
        .map(|name| {
            (
                (*name).to_owned(),
                fs::read(artifact.join(name)).expect(name),
            )
        })
        .collect()
}

/// A Python that can import PyTorch.
fn python() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/pytorch.sh");
    let output = Command::new(script)
        .stderr(Stdio::inherit())
        .output()
        .expect("scripts/pytorch.sh runs");
    assert!(
        output.status.success(),
        "scripts/pytorch.sh failed, see above"
    );
    PathBuf::from(text(&output.stdout).trim())
}

/// Trains a shipped example in `out`; its artifact, and the line that the check prints of it.
fn trained(manifest: &str, out: &Path) -> (PathBuf, String) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(manifest);
    let epochs = "spec.training.epochs=3";
    let output = trainyard(&[&"run", &file, &"--out", &out, &"--set", &epochs, &"--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let result = lines(&output).pop().expect("a result");
    let words = ["artifact", "job", "modelSha256"].map(|name| result[name].as_str().expect(name));
    let [artifact, job, sha] = words;
    (artifact.into(), format!("{job} {sha}"))
}

#[test]
fn t18_plain_pytorch_reproduces_the_golden_outputs() {
    let python = python();
    let check = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/local/artifact/pytorch.py");
    // Every kind of layer and activation, untrained; and the shipped examples, trained.
    let runs = examples().each_ref().map(Run::complete);
    let made = runs.each_ref().map(|run| {
        let line = format!("{} {}", run.job.name, run.model_sha256);
        (run.export(), line)
    });
    let folder = tempfile::tempdir().expect("a folder");
    let shipped = [
        "breast-cancer/job.yaml",
        "diabetes/job.yaml",
        "digits/cnn.yaml",
    ];
    let trained = shipped.map(|file| trained(file, &folder.path().join(file)));
    let (artifacts, expected): (Vec<PathBuf>, Vec<String>) =
        made.into_iter().chain(trained).unzip();
    let output = Command::new(python).arg(&check).args(&artifacts).output();
    let output = output.expect("Python runs");
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    // One line an artifact, with the digest that Python has computed from the tensors.
    let lines: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
    assert_eq!(lines, expected);
}

#[test]
fn t18_another_process_loads_the_script_for_any_batch() {
    let run = Run::complete(&digits());
    let artifact = run.export();
    let golden = Golden::read(&artifact.join(GOLDEN)).expect("golden rows");
    assert_eq!(
        (golden.rtol, golden.atol),
        (1e-5, tolerance(&golden.outputs))
    );
    assert_eq!(
        (
            golden.input_shape.as_slice(),
            golden.output_shape.as_slice()
        ),
        (&[16, 1, 8, 8][..], &[16, 10][..])
    );
    check_golden(&golden, &artifact.join(SCRIPT)).expect("the golden outputs");
    let mut other = golden.clone();
    other.outputs[7] += 0.01;
    let error =
        check_golden(&other, &artifact.join(SCRIPT)).expect_err("an output out of tolerance");
    assert!(error.to_string().contains("output 7"), "{error}");
}

/// Training evaluates with libtorch, which adds in another order: the last digits of a loss differ, and nothing that is counted.
fn assert_same_metrics(found: &Value, expected: &Value) {
    let (found, expected) = (found.as_object(), expected.as_object());
    let (found, expected) = (found.expect("metrics"), expected.expect("metrics"));
    assert!(found.keys().eq(expected.keys()), "{found:?}, {expected:?}");
    for (name, expected) in expected {
        let (found, expected) = (found[name].as_f64(), expected.as_f64());
        let (found, expected) = (found.expect("a number"), expected.expect("a number"));
        let is_counted = ["accuracy", "precision", "recall", "f1", "auc"].contains(&name.as_str());
        let tolerance = if is_counted { 0.0 } else { 1e-6 };
        assert!(
            (found - expected).abs() <= tolerance * expected.abs(),
            "{name}: {found}, expected {expected}"
        );
    }
}

#[test]
fn t19_predict_on_the_training_file_gives_the_reported_metrics() {
    for example in examples() {
        let run = Run::complete(&example);
        let artifact = run.export();
        let csv = example.file(&format!("{}.csv", example.name));
        let (features, labels) = (
            example.file("digits-features.npy"),
            example.file("digits-labels.npy"),
        );
        let output = match example.name {
            "digits" => trainyard(&[
                &"predict",
                &artifact,
                &"--json",
                &"--npy",
                &features,
                &"--labels",
                &labels,
            ]),
            _ => trainyard(&[&"predict", &artifact, &"--json", &"--csv", &csv]),
        };
        assert!(output.status.success(), "{}", text(&output.stderr));
        let mut lines = lines(&output);
        let mut summary = lines.pop().expect("a summary");
        // The AUC of several classes, and the report, need scores that training does not ask for of its own rows.
        let report = summary["report"].take();
        let metrics = summary["metrics"].as_object_mut().expect("metrics");
        if example.name == "digits" {
            assert!(metrics.remove("auc").is_some_and(|auc| auc.is_f64()));
            let matrix = report["confusionMatrix"].as_array().expect("a matrix");
            assert_eq!(matrix.len(), 10);
        }
        assert_same_metrics(
            &summary["metrics"],
            &serde_json::to_value(&run.train).expect("JSON"),
        );
        assert_eq!(summary["rows"], run.data.facts.train_rows);
        assert_eq!(lines.len() as u64, run.data.facts.train_rows);
        assert_same_metrics(
            &json(&artifact.join("metrics.json"))["train"],
            &summary["metrics"],
        );
        if example.name != "diabetes" {
            let right = lines
                .iter()
                .filter(|line| line["prediction"] == line["label"])
                .count();
            let accuracy = run.train.accuracy.expect("accuracy");
            assert_eq!(
                right as f64 / lines.len() as f64,
                accuracy,
                "the rows printed are those measured"
            );
        }
    }
}

#[test]
fn t19_a_real_run_reports_what_predict_measures() {
    let folder = tempfile::tempdir().expect("a folder");
    let example = fs::read_to_string(breast_cancer().file("job.yaml")).expect("the example");
    // Validation rows that predict can be given: the same file.
    let manifest = example
        .replace("{fraction: 0.2}", "{csv: {uri: breast-cancer.csv}}")
        .replace("epochs: 20", "epochs: 2");
    assert_ne!(manifest, example);
    let (job, data, out) = (
        folder.path().join("job.yaml"),
        folder.path().join("breast-cancer.csv"),
        folder.path().join("run"),
    );
    fs::write(&job, manifest).expect("a manifest");
    fs::copy(breast_cancer().file("breast-cancer.csv"), &data).expect("the data");
    let output = trainyard(&[&"run", &job, &"--out", &out, &"--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let result = lines(&output).pop().expect("a result");
    let artifact = PathBuf::from(result["artifact"].as_str().expect("an artifact"));
    let output = trainyard(&[&"predict", &artifact, &"--csv", &data, &"--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let summary = lines(&output).pop().expect("a summary");
    assert_same_metrics(&summary["metrics"], &result["metrics"]["train"]);
    assert_same_metrics(&summary["metrics"], &result["metrics"]["validation"]);
    assert_eq!(
        json(&artifact.join(MODEL))["modelSha256"],
        result["modelSha256"]
    );
    // Exporting again from the run's folder makes the same artifact.
    let again = folder.path().join("again");
    let output = trainyard(&[&"export", &out, &"--out", &again]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(files(&artifact) == files(&again));
}

#[test]
fn t25_what_somebody_has_put_into_an_artifact_is_not_deleted() {
    let run = Run::complete(&diabetes());
    let artifact = run.export();
    let notes = artifact.join("notes.txt");
    fs::write(&notes, "mine").expect("writable");
    let output = trainyard(&[&"export", &run.path(), &"--out", &artifact]);
    assert_eq!(output.status.code(), Some(2));
    let told = text(&output.stderr);
    assert!(
        told.contains("holds notes.txt") && told.contains("move notes.txt away"),
        "{told}"
    );
    assert!(notes.exists());
    fs::remove_file(notes).expect("it is there");
    assert!(
        trainyard(&[&"export", &run.path(), &"--out", &artifact])
            .status
            .success()
    );
}

#[test]
fn predictions_are_well_formed_csv_without_a_terminal() {
    let run = Run::complete(&breast_cancer());
    let artifact = run.export();
    let file = breast_cancer().file("breast-cancer.csv");
    let output = trainyard(&[&"predict", &artifact, &"--csv", &file, &"--limit", &"3"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut reader = csv::Reader::from_reader(output.stdout.as_slice());
    assert_eq!(
        reader.headers().expect("a header"),
        vec!["line", "prediction", "probability", "label"]
    );
    let rows: Vec<csv::StringRecord> = reader
        .records()
        .map(|record| record.expect("a record"))
        .collect();
    assert_eq!(rows.len(), 3);
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(row[0], (index + 2).to_string());
        assert!(["benign", "malignant"].contains(&&row[1]), "{row:?}");
        assert!(
            (0.5..=1.0).contains(&row[2].parse::<f32>().expect("a number")),
            "{row:?}"
        );
    }
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("metrics on 569 rows: loss ") && stderr.contains("accuracy "),
        "{stderr}"
    );
    assert!(!stderr.contains('\x1b') && !text(&output.stdout).contains('\x1b'));
}

#[test]
fn rows_predict_the_same_alone_and_without_their_label() {
    let run = Run::complete(&diabetes());
    let artifact = run.export();
    let all = fs::read_to_string(diabetes().file("diabetes.csv")).expect("the data");
    let whole = trainyard(&[
        &"predict",
        &artifact,
        &"--json",
        &"--csv",
        &diabetes().file("diabetes.csv"),
    ]);
    // The label is the last column.
    let cut: Vec<&str> = all
        .lines()
        .take(4)
        .map(|line| line.rsplit_once(',').expect("columns").0)
        .collect();
    let few = run.path().join("few.csv");
    fs::write(&few, cut.join("\n")).expect("a file");
    let output = trainyard(&[&"predict", &artifact, &"--json", &"--csv", &few]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (whole, few) = (lines(&whole), lines(&output));
    assert_eq!(few.len(), 3, "no summary without labels");
    let piped = Command::new(env!("CARGO_BIN_EXE_trainyard"))
        .args(["predict", "--json", "--csv", "-"])
        .arg(&artifact)
        .stdin(fs::File::open(run.path().join("few.csv")).expect("a file"))
        .output();
    assert_eq!(lines(&piped.expect("the program starts")), few);
    for (one, other) in few.iter().zip(&whole) {
        let (one, other) = (
            one["prediction"].as_f64().expect("a value"),
            other["prediction"].as_f64().expect("a value"),
        );
        assert!(
            (one - other).abs() <= 1e-5 * other.abs() + 1e-6,
            "{one} and {other}"
        );
    }
}

#[test]
fn a_reader_that_stops_early_is_no_error() {
    let run = Run::complete(&digits());
    let artifact = run.export();
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainyard"));
    command
        .args(["predict", "--json", "--npy"])
        .arg(digits().file("digits-features.npy"))
        .arg(&artifact);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("an end");
    assert_eq!(
        (output.status.code(), text(&output.stderr).as_str()),
        (Some(0), "")
    );
}

#[test]
fn an_export_is_reproducible_and_replaces_only_artifacts() {
    let run = Run::complete(&breast_cancer());
    let artifact = run.export();
    let first = files(&artifact);
    fs::write(artifact.join(GOLDEN), "x").expect("a file");
    fs::write(artifact.join(".DS_Store"), "x").expect("a file");
    run.export();
    assert!(
        !artifact.join(".DS_Store").exists(),
        "the folder is replaced as a whole"
    );
    for ((name, one), (_, other)) in first.iter().zip(files(&artifact)) {
        assert!(*one == other, "{name} differs");
    }
    let foreign = run.path().join("foreign");
    fs::create_dir(&foreign).expect("a folder");
    trainyard(&[&"export", &run.path(), &"--out", &foreign]);
    assert!(foreign.join(MODEL).exists(), "an empty folder can be used");
    fs::remove_file(foreign.join(MODEL)).expect("removed");
    let output = trainyard(&[&"export", &run.path(), &"--out", &foreign]);
    refused(&output, &["is no artifact, so it is not replaced"]);
    let left: Vec<String> = fs::read_dir(run.path())
        .expect("the folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.starts_with('.') && name != ".tmp")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_files_say_where_the_model_comes_from() {
    let run = Run::complete(&diabetes());
    let artifact = run.export();
    let provenance = json(&artifact.join(PROVENANCE));
    assert_eq!(provenance["modelSha256"], run.model_sha256.as_str());
    assert_eq!(provenance["specDigest"], run.job.spec_digest.as_str());
    assert_eq!(provenance["data"]["digest"], run.data.facts.digest.as_str());
    assert_eq!(provenance["checkpoint"]["step"], 40);
    assert_eq!(provenance["versions"]["libtorch"], "2.13.0");
    assert_eq!(provenance["spec"], run.job.to_json().expect("JSON"));
    let schema = serde_json::to_value(&run.data.facts.schema).expect("JSON");
    assert_eq!(
        json(&artifact.join(MODEL))["inputSchema"],
        schema,
        "T17: the fitted normalization travels along"
    );
    let output = trainyard(&[&"inspect", &artifact, &"--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report = &lines(&output)[0];
    assert_eq!(
        report["parameterCount"],
        32 * 11 + 32 + 16 * 32 + 16 + 16 + 1
    );
    assert_eq!(report["provenance"], provenance);
    assert!(
        report["files"]
            .as_array()
            .expect("files")
            .iter()
            .all(|file| file["problem"].is_null())
    );
}

#[test]
fn export_chooses_the_result_else_the_newest_that_can_be_loaded() {
    let mut run = Run::empty(&diabetes());
    let out = run.path().join("artifact");
    refused(
        &trainyard(&[&"export", &run.path(), &"--out", &out]),
        &["has no checkpoint yet"],
    );
    run.commit(10, false);
    run.commit(20, false);
    let step = |args: &[&dyn AsRef<std::ffi::OsStr>]| {
        let output = trainyard(args);
        assert!(output.status.success(), "{}", text(&output.stderr));
        (
            json(&out.join(PROVENANCE))["checkpoint"]["step"].as_u64(),
            text(&output.stderr),
        )
    };
    let all: [&dyn AsRef<std::ffi::OsStr>; 4] = [&"export", &run.path(), &"--out", &out];
    assert_eq!(step(&all), (Some(20), String::new()));
    assert_eq!(
        step(&[&"export", &run.path(), &"--out", &out, &"--step", &"10"]).0,
        Some(10)
    );
    let missing = trainyard(&[&"export", &run.path(), &"--out", &out, &"--step", &"11"]);
    refused(&missing, &["no checkpoint of step 11; it has: 10, 20"]);

    let shard = run
        .path()
        .join("checkpoints/000000000020-g0001/shard-0002-of-0002.safetensors");
    let mut bytes = fs::read(&shard).expect("a shard");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&shard, bytes).expect("a shard");
    let (found, warning) = step(&all);
    assert_eq!(found, Some(10));
    assert!(
        warning.contains("passed over") && warning.contains("shard-0002-of-0002"),
        "{warning}"
    );

    // The size is right, so only reading it tells.
    let problems = |args: &[&dyn AsRef<std::ffi::OsStr>]| -> Vec<bool> {
        let report = lines(&trainyard(args)).remove(0);
        report["checkpoints"]
            .as_array()
            .expect("checkpoints")
            .iter()
            .map(|c| !c["problem"].is_null())
            .collect()
    };
    assert_eq!(
        problems(&[&"inspect", &run.path(), &"--json"]),
        [false, false]
    );
    assert_eq!(
        problems(&[&"inspect", &run.path(), &"--json", &"--verify"]),
        [false, true]
    );
    fs::remove_file(&shard).expect("removed");
    assert_eq!(
        problems(&[&"inspect", &run.path(), &"--json"]),
        [false, true]
    );
    let shown = trainyard(&[&"inspect", &run.path()]);
    assert!(
        text(&shown.stdout).contains("damaged: step 20: shard checkpoints/"),
        "{}",
        text(&shown.stdout)
    );
}
