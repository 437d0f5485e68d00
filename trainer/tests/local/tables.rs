//! Tables of every kind: from a file to a manifest and a model.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::Signal;
use serde_json::Value;
use trainyard_contract::Metric;

use crate::common::{Spec, example, folder, reference, sha};

/// Runs the program in a folder.
pub fn trainyard(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainyard"));
    command
        .current_dir(folder)
        .args(args)
        .output()
        .expect("the program runs")
}

/// What was printed.
pub fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A table with every type of column, gaps in each, and a column that is told from its values.
pub fn table() -> String {
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
    run.send("worker", 0, Signal::KILL);
    assert_eq!(sha(&run.finish()), expected.sha);
}

/// Prices of 300,000 give or take 80,000 are learned as well as numbers around 0 would be.
#[test]
fn c16_a_target_far_from_zero_is_learned() {
    let place = folder();
    let mut table = "size,age,price\n".to_owned();
    for i in 0..400u32 {
        let (size, age) = (f64::from(i * 37 % 101) / 10.0, f64::from(i * 53 % 89));
        writeln!(
            table,
            "{size},{age},{}",
            200_000.0 + 25_000.0 * size - 500.0 * age
        )
        .unwrap();
    }
    fs::write(place.path().join("houses.csv"), table).unwrap();
    let init = trainyard(place.path(), &["init", "houses.csv", "--label", "price"]);
    assert!(init.status.success(), "{}", text_of(&init.stderr));
    let run = [
        "run",
        "job.yaml",
        "--out",
        "o",
        "--set",
        "spec.training.epochs=40",
    ];
    let ended = trainyard(place.path(), &run);
    assert!(ended.status.success(), "{}", text_of(&ended.stderr));
    let metrics = fs::read_to_string(place.path().join("o/artifact/metrics.json")).unwrap();
    let metrics: Value = serde_json::from_str(&metrics).unwrap();
    let validation = &metrics["validation"];
    assert!(validation["r2"].as_f64() > Some(0.99), "{validation}");
    let rmse = validation["rmse"].as_f64().unwrap();
    assert!(
        (100.0..8_000.0).contains(&rmse),
        "in the units of the price: {validation}"
    );
    let predict = ["predict", "o", "--csv", "houses.csv", "--limit", "3"];
    let predicted = text_of(&trainyard(place.path(), &predict).stdout);
    let first: Vec<&str> = predicted.lines().nth(1).unwrap().split(',').collect();
    assert_eq!(
        first[2], "200000",
        "the label as the file has it: {predicted}"
    );
    let near = (first[1].parse::<f64>().unwrap() - 200_000.0).abs();
    assert!(near < 30_000.0, "{predicted}");
}

/// One digest over workers and servers for every loss, weight and threshold, and the one of a plain loop.
#[test]
fn t01_every_loss_and_weight() {
    let place = folder();
    let mut table = "a,b,w,price,count,kind,paid\n".to_owned();
    for i in 0..120u32 {
        let (a, b) = (f64::from(i * 7 % 40), f64::from(i * 11 % 17));
        let row = [
            a,
            b,
            f64::from(1 + i % 3) / 2.0,
            9_000.0 + 50.0 * a,
            f64::from(i * 5 % 9),
        ];
        let row = row.map(|value| value.to_string()).join(",");
        let (kind, paid) = (
            ["x", "y", "z"][i as usize * 5 % 7 % 3],
            ["no", "yes"][usize::from(i % 5 == 0)],
        );
        writeln!(table, "{row},{kind},{paid}").unwrap();
    }
    fs::write(place.path().join("table.csv"), table).unwrap();
    let tasks = [
        ("price", "{regression: {loss: {huber: {delta: 0.5}}}}"),
        ("price", "{regression: {loss: {meanAbsoluteError: {}}}}"),
        ("count", "{regression: {loss: {poisson: {}}}}"),
        (
            "paid",
            "{binaryClassification: {classWeights: {balanced: {}}, labelSmoothing: 0.1, threshold: 0.3}}",
        ),
        (
            "kind",
            "{multiclassClassification: {classWeights: {weights: {x: 2, z: 0.5}}, labelSmoothing: 0.05}}",
        ),
    ];
    for (label, task) in tasks {
        let csv = format!("{{uri: table.csv, label: {label}, weight: w}}");
        let file = place.path().join(format!("{label}.yaml"));
        let data = format!("{{train: {{csv: {csv}}}, validation: {{fraction: 0.2}}}}");
        fs::write(&file, manifest(task, &data)).unwrap();
        let spec = Spec {
            file,
            ..example("penguins/job.yaml")
        };
        let expected = reference::train(&spec);
        for (workers, servers) in [(1, 1), (3, 2)] {
            let sha = spec.clone().on(workers, servers).sha();
            assert_eq!(sha, expected.sha, "{task} on {workers} x {servers}");
        }
    }
}

/// A table gives the same model in Parquet and in CSV, by any number of workers and servers, and either is predicted with it.
#[test]
fn c35_a_table_in_parquet_gives_the_model_of_the_same_table_in_csv() {
    let place = folder();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/tests/fixtures");
    for name in ["polars.parquet", "snappy.parquet", "same.csv"] {
        fs::copy(fixtures.join(name), place.path().join(name)).unwrap();
    }
    let run = |args: &[&str]| {
        let ended = trainyard(place.path(), args);
        let told = text_of(&ended.stderr);
        assert!(ended.status.success(), "{args:?}: {told}");
        text_of(&ended.stdout)
    };
    let mut models = Vec::new();
    for (name, size) in [
        ("same.csv", [1, 1]),
        ("polars.parquet", [3, 2]),
        ("snappy.parquet", [1, 2]),
    ] {
        let (manifest, out) = (format!("{name}.yaml"), format!("{name}.out"));
        run(&["init", name, "--label", "y", "--output", &manifest]);
        let [workers, servers] = size.map(|count| count.to_string());
        run(&[
            "run",
            &manifest,
            "--out",
            &out,
            "--workers",
            &workers,
            "--servers",
            &servers,
            "--set",
            "spec.training.epochs=3",
        ]);
        let model = fs::read(place.path().join(&out).join("artifact/model.json")).unwrap();
        let model: Value = serde_json::from_slice(&model).unwrap();
        models.push(model["modelSha256"].clone());
    }
    assert!(
        models
            .iter()
            .all(|sha| sha.is_string() && *sha == models[0]),
        "{models:?}"
    );
    let column = |text: &str, place: usize| {
        let lines = text.lines().skip(1);
        let column: Vec<String> = lines
            .map(|line| line.split(',').nth(place).unwrap().to_owned())
            .collect();
        column
    };
    let from =
        |model: &str, how: &str, name: &str| run(&["predict", model, how, name, "--id", "day"]);
    let text = from("same.csv.out", "--csv", "same.csv");
    for model in ["same.csv.out", "polars.parquet.out"] {
        let predicted = from(model, "--parquet", "polars.parquet");
        assert!(predicted.starts_with("day,row,prediction,"), "{predicted}");
        for place in [0, 2, 3, 4] {
            assert_eq!(column(&predicted, place), column(&text, place));
        }
    }
    let refused = trainyard(
        place.path(),
        &["predict", "same.csv.out", "--csv", "polars.parquet"],
    );
    let told = text_of(&refused.stderr);
    assert!(
        refused.status.code() == Some(2) && told.contains("give it with --parquet"),
        "{told}"
    );
}

/// The manifest with other data and another task.
pub fn manifest(task: &str, data: &str) -> String {
    let head = MANIFEST.split("  data:\n").next().unwrap();
    let tail = MANIFEST.split("  training:\n").nth(1).unwrap();
    let head = head.replace("{regression: {}}", task);
    format!("{head}  data: {data}\n  training:\n{tail}")
}

/// One digest over workers and servers for every rule of a split, and the one of a plain loop; the metrics of the test rows
/// are those of the plain loop, and stand in the artifact with a report.
#[test]
fn t01_every_split() {
    let place = folder();
    let mut table = "a,b,who,day,kind\n".to_owned();
    for i in 0..240u32 {
        let kind = ["x", "y", "x", "z", "x", "y"][(i * 7 % 40 / 7) as usize];
        let day = format!("2024-{:02}-{:02}", 1 + i % 12, 1 + i * 5 % 28);
        writeln!(
            table,
            "{},{},p{},{day},{kind}",
            i * 7 % 40,
            i * 11 % 17,
            i / 6
        )
        .unwrap();
    }
    fs::write(place.path().join("table.csv"), table).unwrap();
    let task = "{multiclassClassification: {}}";
    for (rule, test) in [
        ("stratify: true", "fraction: 0.15"),
        ("stratify: false", "fraction: 0.15"),
        ("groupBy: who", "split: {fraction: 0.15, orderBy: day}"),
        ("orderBy: day", "fraction: 0.15"),
    ] {
        let data = format!(
            "{{train: {{csv: {{uri: table.csv, label: kind, categorical: [who]}}}}, \
             validation: {{split: {{fraction: 0.2, {rule}}}}}, test: {{{test}}}}}"
        );
        let file = place.path().join("split.yaml");
        fs::write(&file, manifest(task, &data)).unwrap();
        let spec = Spec {
            file,
            ..example("penguins/job.yaml")
        };
        let expected = reference::train(&spec);
        let test = expected.test.as_ref().expect("test rows");
        for (workers, servers) in [(1, 1), (3, 2)] {
            let out = folder();
            let run = spec.clone().on(workers, servers).start(out.path()).finish();
            assert_eq!(sha(&run), expected.sha, "{rule} on {workers} x {servers}");
            let metrics = fs::read(out.path().join("artifact/metrics.json")).unwrap();
            let metrics: Value = serde_json::from_slice(&metrics).unwrap();
            for name in ["loss", "accuracy", "f1"] {
                let value = test.get(named(name)).unwrap();
                assert_eq!(
                    metrics["test"][name].as_f64(),
                    Some(value),
                    "{rule}: {name} of the test rows"
                );
            }
            let last = metrics["training"]["epochs"]
                .as_array()
                .unwrap()
                .last()
                .unwrap();
            assert_eq!(
                metrics["validation"]["loss"], last["validation"]["loss"],
                "{rule}"
            );
            for set in ["test", "validation"] {
                let report = &metrics["reports"][set];
                let matrix: Vec<Vec<u64>> =
                    serde_json::from_value(report["confusionMatrix"].clone()).unwrap();
                let rows: u64 = matrix.iter().flatten().sum();
                let right: u64 = (0..3).map(|class| matrix[class][class]).sum();
                let accuracy = metrics[set]["accuracy"].as_f64().unwrap();
                assert!(
                    (right as f64 / rows as f64 - accuracy).abs() < 1e-12,
                    "{rule}: {report}"
                );
                assert_eq!(report["classes"][2]["class"], "z");
                assert!(metrics[set]["auc"].as_f64().is_some(), "{rule}: {metrics}");
            }
        }
    }
}

fn named(name: &str) -> Metric {
    Metric::ALL
        .into_iter()
        .find(|metric| metric.name() == name)
        .expect("a metric")
}

/// Whatever stands in a test file, the model is the same; the file is read with the columns of the training table.
#[test]
fn c18_a_test_file_does_not_change_the_model() {
    let place = folder();
    let rows = |shift: u32| -> String {
        (0..90u32)
            .map(|i| {
                format!(
                    "{},{},{}\n",
                    i * 7 % 40,
                    i * 11 % 17,
                    ["no", "yes"][((i + shift) * 7 % 40 / 20) as usize]
                )
            })
            .collect()
    };
    for (name, shift) in [("train", 0), ("good", 0), ("bad", 3)] {
        fs::write(
            place.path().join(format!("{name}.csv")),
            format!("a,b,good\n{}", rows(shift)),
        )
        .unwrap();
    }
    let task = "{binaryClassification: {}}";
    let train = "train: {csv: {uri: train.csv, label: good}}, validation: {fraction: 0.2}";
    let run = |test: &str| {
        let file = place.path().join("job.yaml");
        fs::write(&file, manifest(task, &format!("{{{train}{test}}}"))).unwrap();
        let spec = Spec {
            file,
            ..example("penguins/job.yaml")
        };
        let out = folder();
        let ended = spec.epochs(20).on(2, 1).start(out.path()).finish();
        let metrics = fs::read(out.path().join("artifact/metrics.json")).unwrap();
        let metrics: Value = serde_json::from_slice(&metrics).unwrap();
        (sha(&ended), metrics["test"]["accuracy"].as_f64())
    };
    let without = run("");
    let good = run(", test: {csv: {uri: good.csv}}");
    let bad = run(", test: {csv: {uri: bad.csv}}");
    assert_eq!((&good.0, &bad.0), (&without.0, &without.0));
    assert_eq!(without.1, None);
    assert!(good.1 > bad.1 && bad.1.is_some(), "{good:?} {bad:?}");
}
