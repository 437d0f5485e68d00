//! What is refused: damage, contradiction, and what is not there.

use std::fs;

use serde_json::Value;
use trainyard_runtime::artifact::{GOLDEN, MODEL, PARAMETERS, SCRIPT};

use super::fixture::{Run, breast_cancer, diabetes, digits, refused, text, trainyard};
use super::json;

#[test]
fn t15_a_bad_file_is_refused_with_its_place() {
    let run = Run::complete(&breast_cancer());
    let artifact = run.export();
    let good = fs::read_to_string(breast_cancer().file("breast-cancer.csv")).expect("the data");
    let bad = run.path().join("bad.csv");
    let predict = || trainyard(&[&"predict", &artifact, &"--csv", &bad]);
    let mut rows: Vec<String> = good.lines().take(5).map(str::to_owned).collect();
    let second = rows[2].clone();
    rows[2] = format!("oops{}", &second[second.find(',').expect("columns")..]);
    fs::write(&bad, rows.join("\n")).expect("a file");
    refused(&predict(), &["bad.csv:3: column", "oops"]);
    rows[2] = format!("{second},1");
    fs::write(&bad, rows.join("\n")).expect("a file");
    refused(&predict(), &["bad.csv:3:"]);
    fs::write(&bad, "a,b\n1,2\n").expect("a file");
    refused(&predict(), &["bad.csv:"]);
    fs::write(&bad, "").expect("a file");
    refused(&predict(), &["bad.csv"]);
    fs::remove_file(&bad).expect("removed");
    refused(&predict(), &["bad.csv", "no such file"]);
    refused(
        &trainyard(&[&"predict", &artifact, &"--csv", &run.path()]),
        &["is a folder"],
    );
    refused(
        &trainyard(&[
            &"predict",
            &artifact,
            &"--npy",
            &digits().file("digits-features.npy"),
        ]),
        &["give a CSV file"],
    );
    refused(
        &trainyard(&[&"predict", &run.path().join("none"), &"--csv", &bad]),
        &["there is no folder"],
    );
    assert_eq!(
        trainyard(&[&"predict", &artifact]).status.code(),
        Some(2),
        "a file must be named"
    );
}

/// Whoever passes on a run's folder must not choose what is read beside it.
#[test]
fn t15_an_artifact_that_is_a_link_in_its_runs_folder_is_not_followed() {
    let run = Run::complete(&breast_cancer());
    let inside = run.export();
    let artifact = run.path().join("elsewhere");
    fs::rename(&inside, &artifact).expect("moved");
    std::os::unix::fs::symlink(&artifact, &inside).expect("a link");
    let data = breast_cancer().file("breast-cancer.csv");
    let by_link = trainyard(&[&"predict", &run.path(), &"--csv", &data]);
    refused(&by_link, &["symbolic link", "give the folder"]);
    // A folder that is named itself may be one.
    let named = trainyard(&[&"predict", &inside, &"--csv", &data]);
    assert_eq!(named.status.code(), Some(0), "{}", text(&named.stderr));
}

#[test]
fn a_damaged_artifact_is_refused_and_its_file_named() {
    let run = Run::complete(&diabetes());
    let artifact = run.export();
    let file = diabetes().file("diabetes.csv");
    assert_eq!(trainyard(&[&"inspect", &artifact]).status.code(), Some(0));
    for name in [MODEL, PARAMETERS, SCRIPT, GOLDEN] {
        let path = artifact.join(name);
        let good = fs::read(&path).expect(name);
        let mut flipped = good.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x10;
        let half = good[..good.len() / 2].to_vec();
        let all = [flipped, half, Vec::new()];
        // Only digests are looked at where nothing is decoded.
        let count = if [MODEL, PARAMETERS].contains(&name) {
            3
        } else {
            1
        };
        for bad in all.into_iter().take(count) {
            fs::write(&path, bad).expect(name);
            let output = trainyard(&[&"inspect", &artifact]);
            assert_eq!(
                output.status.code(),
                Some(2),
                "{name}: {}",
                text(&output.stderr)
            );
            let said = text(&output.stdout) + &text(&output.stderr);
            assert!(said.contains(name), "{said}");
            if name == PARAMETERS {
                refused(
                    &trainyard(&[&"predict", &artifact, &"--csv", &file]),
                    &[name, "export the artifact again"],
                );
            }
        }
        fs::remove_file(&path).expect(name);
        if [MODEL, PARAMETERS].contains(&name) {
            refused(
                &trainyard(&[&"predict", &artifact, &"--csv", &file]),
                &[name],
            );
        }
        assert_eq!(trainyard(&[&"inspect", &artifact]).status.code(), Some(2));
        fs::write(&path, good).expect(name);
    }
    assert_eq!(trainyard(&[&"inspect", &artifact]).status.code(), Some(0));
}

#[test]
fn a_model_file_that_contradicts_itself_is_refused() {
    let run = Run::complete(&digits());
    let artifact = run.export();
    let path = artifact.join(MODEL);
    let good = json(&path);
    let features = digits().file("digits-features.npy");
    let cases: [(&str, Value, &str); 9] = [
        ("/formatVersion", 3.into(), "has format 3"),
        ("/formatVersion", 0.into(), "has format 0"),
        ("/task", "regression".into(), "task differs"),
        ("/inputShape/1", 9.into(), "input shape differs"),
        ("/output/width", 3.into(), "output differs"),
        (
            "/architecture/cnn/blocks/0/pool",
            0.into(),
            "out of the bounds",
        ),
        (
            "/architecture/cnn/hidden/0",
            31.into(),
            "not those of its architecture",
        ),
        (
            "/parameters/0/name",
            "x".into(),
            "not those of its architecture",
        ),
        ("/modelSha256", "00".into(), "has the digest"),
    ];
    for (pointer, value, reason) in cases {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect(pointer) = value;
        fs::write(&path, bad.to_string()).expect("a file");
        let output = trainyard(&[&"predict", &artifact, &"--npy", &features]);
        let reason = if pointer == "/modelSha256" {
            "have the digest"
        } else {
            reason
        };
        refused(&output, &[reason, "model"]);
    }
}

#[test]
fn a_damaged_result_is_not_replaced_by_an_older_model() {
    let mut run = Run::empty(&diabetes());
    run.commit(10, false);
    run.commit(20, true);
    let shard = run
        .path()
        .join("checkpoints/000000000020-g0001/shard-0001-of-0002.safetensors");
    fs::remove_file(shard).expect("removed");
    let out = run.path().join("artifact");
    let output = trainyard(&[&"export", &run.path(), &"--out", &out]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("shard-0001-of-0002"),
        "{}",
        text(&output.stderr)
    );
    assert!(!out.exists());
}

#[test]
fn paths_that_hold_nothing_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (none, out) = (folder.path().join("none"), folder.path().join("out"));
    refused(
        &trainyard(&[&"export", &none, &"--out", &out]),
        &["there is no folder", "runs/NAME"],
    );
    refused(
        &trainyard(&[&"export", &folder.path(), &"--out", &out]),
        &["holds no checkpoints"],
    );
    refused(&trainyard(&[&"inspect", &none]), &["there is nothing at"]);
    refused(
        &trainyard(&[&"inspect", &folder.path()]),
        &["holds no checkpoints"],
    );
    assert!(!none.exists() && !out.exists(), "nothing is created");
}
