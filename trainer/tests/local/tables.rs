//! Tables of every kind: from a file to a manifest, a model and predictions.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::common::{Spec, example, folder, reference, send, sha};

/// Runs the program in a folder.
fn trainyard(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainyard"));
    command
        .current_dir(folder)
        .args(args)
        .output()
        .expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `trainyard init` on the shipped data writes the shipped manifest, and it trains and predicts.
#[test]
fn c10_init_writes_a_manifest_that_runs() {
    let spec = example("penguins/job.yaml");
    let shipped = fs::read_to_string(&spec.file).unwrap();
    let data = spec.file.with_file_name("penguins.csv");
    let place = folder();
    fs::copy(&data, place.path().join("penguins.csv")).unwrap();
    let init = ["init", "penguins.csv", "--label", "species"];
    let ended = trainyard(place.path(), &init);
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    assert_eq!(
        fs::read_to_string(place.path().join("job.yaml")).unwrap(),
        shipped
    );
    let again = trainyard(place.path(), &init);
    assert_eq!(again.status.code(), Some(2));
    assert!(
        text(&again.stderr).contains("--overwrite"),
        "{}",
        text(&again.stderr)
    );

    let run = ["run", "job.yaml", "--set", "spec.training.epochs=30"];
    let ended = trainyard(place.path(), &run);
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    let predict = ["predict", "runs/penguins", "--csv", "penguins.csv"];
    let predicted = trainyard(place.path(), &predict);
    let told = text(&predicted.stderr);
    assert!(
        told.contains("19 missing values") && told.contains("accuracy 0.9"),
        "{told}"
    );
    assert_eq!(
        text(&predicted.stdout).lines().count(),
        345,
        "every row, though some have gaps"
    );
}

/// A table with every type of column, gaps in each, and a column that is told from its values.
fn table() -> String {
    let mut out = "amount,zone,size,sold,seen,paid,target\n".to_owned();
    for i in 0..160u32 {
        let gap = |every: u32, value: String| {
            if i % every == every - 1 {
                String::new()
            } else {
                value
            }
        };
        let (sold, seen) = (1 + i % 28, 1 + i % 12);
        let row = [
            gap(9, format!("{}.5", i * 7 % 40)),
            gap(11, ["1", "2.0", "2", "10"][i as usize % 4].into()),
            gap(13, ["S", "M", "L"][i as usize % 3].into()),
            gap(17, format!("{sold:02}.{seen:02}.20{:02}", 10 + i % 10)),
            gap(19, format!("2020-{seen:02}-{sold:02}T{:02}:30:00", i % 24)),
            gap(7, ["yes", "no"][i as usize % 2].into()),
        ];
        writeln!(out, "{},{}", row.join(","), f64::from(i % 23) / 4.0).unwrap();
    }
    out
}

const MANIFEST: &str = r#"
apiVersion: trainyard.dev/v1alpha1
kind: TrainingJob
metadata: {name: table}
spec:
  task: {regression: {}}
  model: {mlp: {hidden: [16]}}
  data:
    train:
      csv:
        uri: table.csv
        label: target
        columns:
          - {name: amount, missing: Median, missingIndicator: true}
          - {name: zone, type: Category, missing: Constant, fillValue: "0"}
          - {name: size, type: Ordinal, categories: [S, M, L]}
          - {name: sold, type: Date, dateFormat: "%d.%m.%Y", dateParts: [Elapsed, Month], missing: Mean}
        missing: Impute
    validation: {fraction: 0.2}
  training:
    epochs: 3
    batchSize: 32
    optimizer: {adam: {learningRate: 0.01}}
    seed: 3
  servers: {replicas: 1}
  workers: {replicas: 2}
  checkpoint: {everySteps: 4, keep: 3}
"#;

/// One digest over workers, servers and a kill, and the one of a plain loop.
#[test]
fn t01_every_type_of_column() {
    let place = folder();
    let file = place.path().join("job.yaml");
    fs::write(place.path().join("table.csv"), table()).unwrap();
    fs::write(&file, MANIFEST).unwrap();
    let spec = Spec {
        file,
        ..example("penguins/job.yaml")
    };
    let expected = reference::train(&spec);
    for (workers, servers) in [(1, 1), (3, 2)] {
        assert_eq!(
            spec.clone().on(workers, servers).sha(),
            expected.sha,
            "{workers} x {servers}"
        );
    }
    let spec = spec.epochs(60);
    let expected = reference::train(&spec);
    let out = folder();
    let mut run = spec.on(2, 2).start(out.path());
    run.reach(20);
    let victim = run
        .roster()
        .and_then(|roster| roster.pid("worker", 0))
        .expect("worker 0 runs");
    send(victim, Signal::KILL);
    assert_eq!(sha(&run.finish()), expected.sha);
}
