//! Golden rows in the original columns: what they prove of a model.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use trainyard_infer::golden::{self, Verdict};
use trainyard_infer::{KERNEL_VERSION, Model};
use trainyard_runtime::artifact::{Expected, GoldenRows, MODEL, ROWS};

use super::fixture::{Run, breast_cancer, diabetes, digits, lines, trainyard};
use super::json as read_json;
use crate::common::folder;
use crate::tables::{manifest, table};

/// Compares the golden rows of an artifact, as whoever uses it would.
fn check(artifact: &Path) -> Result<Verdict, String> {
    let rows = GoldenRows::read(&artifact.join(ROWS)).expect("golden rows");
    let model = Model::open(artifact).expect("an artifact");
    golden::check(&model, &rows).map_err(|error| format!("{error:#}"))
}

/// Trains a table with a column of every type.
fn every_type(place: &Path, task: &str, label: &str) -> std::path::PathBuf {
    fs::write(place.join("table.csv"), table()).expect("writable");
    let size = match label {
        "size" => "",
        _ => ", {name: size, type: Ordinal, categories: [S, M, L]}",
    };
    let columns = format!("[{{name: zone, type: Category}}{size}]");
    let csv = format!("{{uri: table.csv, label: {label}, missing: Impute, columns: {columns}}}");
    let data = format!("{{train: {{csv: {csv}}}}}");
    let file = place.join("job.yaml");
    fs::write(&file, manifest(task, &data)).expect("writable");
    let out = place.join(label);
    let output = trainyard(&[&"run", &file, &"--out", &out, &"--json"]);
    let result = lines(&output).pop().expect("a result");
    assert!(output.status.success(), "{result}");
    out.join("artifact")
}

#[test]
fn t18_golden_rows_in_the_original_columns_are_reproduced() {
    let place = folder();
    let runs = [breast_cancer(), diabetes(), digits()].map(|example| Run::complete(&example));
    let mut artifacts: Vec<_> = runs.iter().map(Run::export).collect();
    artifacts.push(every_type(place.path(), "{regression: {}}", "target"));
    artifacts.push(every_type(
        place.path(),
        "{multiclassClassification: {}}",
        "size",
    ));
    for artifact in &artifacts {
        let verdict = check(artifact).expect("what the exporter computed");
        assert_eq!(verdict, Verdict::Exact);
        let golden = GoldenRows::read(&artifact.join(ROWS)).expect("golden rows");
        let predicted = golden
            .rows
            .iter()
            .filter(|row| matches!(row.expected, Expected::Predicted { .. }));
        assert!(predicted.count() >= 7 && golden.rows.len() <= 256);
        assert_eq!(
            read_json(&artifact.join(ROWS))["kernelVersion"],
            KERNEL_VERSION
        );
    }
}

/// What a change of `model.json` makes of the golden rows. Neither the parameters nor their digest tell of it.
fn changed(artifact: &Path, change: impl FnOnce(&mut Value)) -> Result<Verdict, String> {
    let file = artifact.join(MODEL);
    let good = fs::read(&file).expect("a file");
    let mut model: Value = serde_json::from_slice(&good).expect("JSON");
    change(&mut model);
    assert_ne!(
        model,
        serde_json::from_slice::<Value>(&good).expect("JSON"),
        "nothing was changed"
    );
    fs::write(&file, model.to_string()).expect("writable");
    let found = check(artifact);
    fs::write(&file, good).expect("writable");
    found
}

#[test]
fn t18_golden_rows_tell_of_another_schema() {
    let place = folder();
    let of_target = every_type(place.path(), "{regression: {}}", "target");
    let of_paid = every_type(place.path(), "{binaryClassification: {}}", "paid");
    let edit = |name: &str, field: &str, value: Value| {
        let (name, field) = (name.to_owned(), field.to_owned());
        move |model: &mut Value| {
            let columns = model["inputSchema"]["input"]["columns"]["columns"]
                .as_array_mut()
                .expect("columns");
            let found = columns.iter_mut().find(|column| column["name"] == name);
            found.expect("the column")[field] = value;
        }
    };
    let of_columns: [(&str, &str, Value); 9] = [
        ("amount", "mean", json!(3.0)),
        ("amount", "std", json!(5.0)),
        ("amount", "fill", json!(-1e3)),
        ("amount", "missing", json!("dropRow")),
        ("amount", "missing", json!("error")),
        ("zone", "categories", json!(["1", "2", "3"])),
        ("size", "categories", json!(["L", "M", "S"])),
        ("seen", "format", json!("%Y/%m/%d %H:%M:%S")),
        ("paid", "fill", json!(0.25)),
    ];
    for (name, field, value) in of_columns {
        let error = changed(&of_target, edit(name, field, value.clone()));
        let error = error.expect_err(&format!("{name}.{field} = {value}"));
        assert!(error.starts_with("golden row "), "{name}.{field}: {error}");
    }
    let of_labels: [(&Path, &str, Value); 3] = [
        (&of_target, "/inputSchema/label/scale/mean", json!(2.0)),
        (&of_target, "/inputSchema/label/scale/std", json!(9.0)),
        (&of_paid, "/inputSchema/label/threshold", json!(0.999_999)),
    ];
    for (artifact, pointer, value) in of_labels {
        let error = changed(artifact, |model| {
            let (parent, field) = pointer.rsplit_once('/').expect("a path");
            model.pointer_mut(parent).expect("there")[field] = value;
        });
        assert!(
            error.expect_err(pointer).contains("its prediction is"),
            "{pointer}"
        );
    }
    let swapped = changed(&of_paid, |model| {
        for classes in ["/inputSchema/label/classes", "/output/classes"] {
            model
                .pointer_mut(classes)
                .and_then(Value::as_array_mut)
                .expect("classes")
                .reverse();
        }
    });
    assert!(
        swapped
            .expect_err("other classes")
            .contains("its prediction is")
    );
}
