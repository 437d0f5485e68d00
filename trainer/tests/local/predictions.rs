//! `trainyard predict`: what it reads, writes and refuses.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use crate::common::folder;
use crate::tables::{manifest, text_of, trainyard};

/// A file that is longer than what is held of it: its rows get what they get in a short file, and what is carried through, all
/// probabilities, compressed input and compressed output are as asked for.
#[test]
fn c30_predictions_of_a_long_file() {
    let place = folder();
    let row = |i: u32| {
        format!(
            "{},{},r{i},{}\n",
            i * 7 % 40,
            i * 11 % 17,
            ["no", "yes"][(i * 7 % 40 / 20) as usize]
        )
    };
    let text = |rows: u32| (0..rows).map(row).collect::<String>();
    let file = |name: &str, text: &[u8]| fs::write(place.path().join(name), text).unwrap();
    let table = |rows: u32| format!("a,b,name,paid\n{}", text(rows));
    file("short.csv", table(100).as_bytes());
    file("long.csv", table(70_000).as_bytes());
    let data = "{train: {csv: {uri: short.csv, label: paid, exclude: [name]}}}";
    file(
        "job.yaml",
        manifest("{binaryClassification: {}}", data).as_bytes(),
    );
    let run = |args: &[&str]| {
        let ended = trainyard(place.path(), args);
        assert!(
            ended.status.success(),
            "{args:?}: {}",
            text_of(&ended.stderr)
        );
        (text_of(&ended.stdout), text_of(&ended.stderr))
    };
    run(&["run", "job.yaml", "--out", "o"]);

    let (short, _) = run(&[
        "predict",
        "o",
        "--csv",
        "short.csv",
        "--id",
        "name",
        "--probabilities",
    ]);
    let (long, told) = run(&[
        "predict",
        "o",
        "--csv",
        "long.csv",
        "--id",
        "name",
        "--probabilities",
    ]);
    assert_eq!(
        long.lines().next(),
        Some("name,line,prediction,probability,probability_no,probability_yes,label")
    );
    assert_eq!(long.lines().count(), 70_001);
    // A row's bits depend on nothing but the row.
    let same = short.lines().zip(long.lines()).skip(1);
    assert!(same.clone().count() == 100 && same.clone().all(|(short, long)| short == long));
    assert!(told.contains("metrics on 70,000 rows"), "{told}");

    let compressed =
        zstd::encode_all(fs::File::open(place.path().join("long.csv")).unwrap(), 1).unwrap();
    file("long.csv.zst", &compressed);
    let asked = [
        "predict",
        "o",
        "--csv",
        "long.csv.zst",
        "--id",
        "name",
        "--probabilities",
        "--output",
    ];
    run(&[&asked[..], &["out.csv.gz"]].concat());
    run(&[&asked[..], &["out.csv.zst"]].concat());
    let unpack = || {
        let gz = fs::File::open(place.path().join("out.csv.gz")).unwrap();
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(gz)
            .read_to_string(&mut text)
            .unwrap();
        text
    };
    let unpacked = unpack();
    assert!(unpacked == long, "gzip");
    let zst = fs::File::open(place.path().join("out.csv.zst")).unwrap();
    assert!(zstd::decode_all(zst).unwrap() == long.as_bytes(), "zstd");

    // What is read is not written to; a link stands for its file, which keeps its mode.
    let onto = trainyard(
        place.path(),
        &["predict", "o", "--csv", "short.csv", "-o", "./short.csv"],
    );
    assert_eq!(onto.status.code(), Some(2));
    assert!(
        text_of(&onto.stderr).contains("it is read from"),
        "{}",
        text_of(&onto.stderr)
    );
    assert_eq!(
        fs::read_to_string(place.path().join("short.csv")).unwrap(),
        table(100)
    );
    file("real.csv", b"old");
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(place.path().join("real.csv"), mode.clone()).unwrap();
    std::os::unix::fs::symlink("real.csv", place.path().join("link.csv")).unwrap();
    run(&["predict", "o", "--csv", "short.csv", "-o", "link.csv"]);
    assert!(place.path().join("link.csv").is_symlink());
    assert!(
        fs::read_to_string(place.path().join("real.csv"))
            .unwrap()
            .starts_with("line,prediction")
    );
    let found = fs::metadata(place.path().join("real.csv"))
        .unwrap()
        .permissions();
    assert_eq!(found.mode() & 0o777, mode.mode() & 0o777);
    // A pipe is written to, and stays one.
    let pipe = place.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read_to_string(pipe).unwrap()
    });
    run(&["predict", "o", "--csv", "short.csv", "-o", "pipe"]);
    assert_eq!(
        reader.join().unwrap(),
        fs::read_to_string(place.path().join("real.csv")).unwrap()
    );
    assert!(!fs::metadata(&pipe).unwrap().is_file());

    // What fails leaves the file of before.
    file(
        "bad.csv",
        format!("{}oops,1,x,no\n", table(70_000)).as_bytes(),
    );
    let failed = trainyard(
        place.path(),
        &["predict", "o", "--csv", "bad.csv", "-o", "out.csv.gz"],
    );
    assert_eq!(failed.status.code(), Some(2));
    assert!(
        text_of(&failed.stderr).contains("bad.csv:70002: column \"a\""),
        "{}",
        text_of(&failed.stderr)
    );
    let left: Vec<_> = fs::read_dir(place.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().contains(".part")),
        "{left:?}"
    );
    assert!(unpack() == unpacked, "the file of before");
    let (json, _) = run(&[
        "predict",
        "o",
        "--csv",
        "short.csv",
        "--id",
        "name",
        "--json",
        "--limit",
        "1",
    ]);
    let first: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(first["ids"]["name"], "r0");
    assert!(first["probabilities"]["yes"].as_f64().is_some());
}

/// What decides between two classes can be moved; what can be neither written nor decided is refused.
#[test]
fn c30_a_threshold_can_be_given_and_what_is_not_clear_is_refused() {
    let place = folder();
    let row = |i: u32| {
        let (a, b) = (i * 7 % 40, i * 11 % 17);
        format!("{a},{b},{},{}\n", a / 20, ["no", "yes"][(a / 20) as usize])
    };
    let rows: String = (0..100).map(row).collect();
    fs::write(place.path().join("t.csv"), format!("a,b,line,paid\n{rows}")).unwrap();
    let far = "a,b,line,paid\n3e38,-3e38,0,no\n";
    fs::write(place.path().join("far.csv"), far).unwrap();
    for (name, task, csv) in [
        (
            "two",
            "{binaryClassification: {}}",
            "{uri: t.csv, label: paid, exclude: [line]}",
        ),
        (
            "one",
            "{regression: {}}",
            "{uri: t.csv, label: line, exclude: [paid]}",
        ),
    ] {
        let job = manifest(
            task,
            &format!("{{train: {{csv: {csv}}}, normalization: None}}"),
        );
        fs::write(place.path().join("job.yaml"), job).unwrap();
        let ended = trainyard(
            place.path(),
            &["run", "job.yaml", "--out", name, "--overwrite"],
        );
        let told = text_of(&ended.stderr);
        assert!(ended.status.success(), "{told}");
        assert!(!told.contains("overwritten"), "nothing was there: {told}");
    }
    let predict = |args: &str| {
        let args: Vec<&str> = std::iter::once("predict").chain(args.split(' ')).collect();
        let ended = trainyard(place.path(), &args);
        (
            ended.status.code(),
            text_of(&ended.stdout),
            text_of(&ended.stderr),
        )
    };
    let positive = |args: &str| {
        let (_, predicted, _) = predict(args);
        let column = |line: &str| line.split(',').nth(1) == Some("yes");
        predicted.lines().filter(|line| column(line)).count()
    };
    let usual = positive("two --csv t.csv");
    assert!((1..100).contains(&usual), "{usual}");
    assert_eq!(positive("two --csv t.csv --threshold 0.000001"), 100);
    assert_eq!(positive("two --csv t.csv --threshold 0.999999"), 0);
    for (args, problem) in [
        (
            "two --csv t.csv --threshold 1",
            "--threshold is 1: give a probability between 0 and 1",
        ),
        (
            "one --csv t.csv --threshold 0.5",
            "--threshold is for models with two classes",
        ),
        (
            "two --csv t.csv --id line",
            "--id line: the predictions have a column of that name too",
        ),
        ("two --csv t.csv --id a --id a", "`--id` names \"a\" twice"),
        (
            "one --csv far.csv",
            "far.csv: what the model predicts for line 2 is no finite number",
        ),
    ] {
        let (code, out, told) = predict(args);
        assert_eq!(code, Some(2), "{args}: {out}");
        assert!(told.contains(problem), "{args}: {told}");
    }
    assert_eq!(predict("two --csv t.csv --id line --json").0, Some(0));
}
