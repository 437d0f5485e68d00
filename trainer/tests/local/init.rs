//! First manifests: what `trainyard init` writes trains and predicts as it is.

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use crate::common::{example, folder};
use crate::tables::{text_of, trainyard};

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
    assert!(ended.status.success(), "{}", text_of(&ended.stderr));
    assert_eq!(
        fs::read_to_string(place.path().join("job.yaml")).unwrap(),
        shipped
    );
    let again = trainyard(place.path(), &init);
    assert_eq!(again.status.code(), Some(2));
    assert!(
        text_of(&again.stderr).contains("--overwrite"),
        "{}",
        text_of(&again.stderr)
    );

    let run = ["run", "job.yaml", "--set", "spec.training.epochs=30"];
    let ended = trainyard(place.path(), &run);
    assert!(ended.status.success(), "{}", text_of(&ended.stderr));
    let predict = ["predict", "runs/penguins", "--csv", "penguins.csv"];
    let predicted = trainyard(place.path(), &predict);
    let told = text_of(&predicted.stderr);
    assert!(
        told.contains("19 missing values") && told.contains("accuracy 0.9"),
        "{told}"
    );
    assert_eq!(
        text_of(&predicted.stdout).lines().count(),
        345,
        "every row, though some have gaps"
    );
}

/// Diamonds: numbers, and texts in quotes. The price follows from some of them.
fn diamonds() -> String {
    let mut out = "\"carat\",\"cut\",\"color\",\"depth\",\"price\",\"x\"\n".to_owned();
    for i in 0..400u32 {
        let carat = f64::from(20 + i * 37 % 181) / 100.0;
        let (cut, color) = (
            ["Ideal", "Premium", "Good", "Very Good"][i as usize % 4],
            ["E", "G", "J"][i as usize % 3],
        );
        let price =
            300.0 + 4000.0 * carat * carat - f64::from(i % 3) * 200.0 + f64::from(i * 7 % 50);
        let depth = f64::from(580 + i % 50) / 10.0;
        writeln!(
            out,
            "{carat},\"{cut}\",\"{color}\",{depth},{price},{:.2}",
            carat.cbrt() * 6.4
        )
        .unwrap();
    }
    out
}

/// Passengers: numbers of rows, names and tickets that are all different, ages and ports that are missing, and cabins that mostly are.
fn passengers() -> String {
    let mut out =
        "PassengerId,Survived,Pclass,Name,Sex,Age,Ticket,Fare,Cabin,Embarked\n".to_owned();
    for i in 0..300u32 {
        let (class, is_woman) = (1 + i * 7 % 3, i * 11 % 5 < 2);
        let survived = u32::from(is_woman != (i % 9 == 0) && (class < 3 || i % 2 == 0));
        let age = if i % 5 == 0 {
            String::new()
        } else {
            (1 + i * 13 % 70).to_string()
        };
        let cabin = if i % 6 == 0 {
            format!("C{i}")
        } else {
            String::new()
        };
        let port = if i == 61 {
            ""
        } else {
            ["S", "C", "Q"][i as usize % 3]
        };
        let (title, sex) = if is_woman {
            ("Mrs.", "female")
        } else {
            ("Mr.", "male")
        };
        let fare = f64::from(4 - class) * 20.0 + f64::from(i % 10) / 4.0;
        writeln!(out, "{},{survived},{class},\"Number {i}, {title} Any\",{sex},{age},A/5 {i},{fare},{cabin},{port}", i + 1).unwrap();
    }
    out
}

/// Numbers with a comma between thousands, in quotes, as English spreadsheets write them.
fn towns() -> String {
    let mut out = "town,people,cars\n".to_owned();
    for i in 0..300u32 {
        let people = 1000 + i * 7919 % 90_000;
        writeln!(
            out,
            "{},\"{},{:03}\",{}",
            ["A", "B"][i as usize % 2],
            people / 1000,
            people % 1000,
            people / 2 + i % 7
        )
        .unwrap();
    }
    out
}

/// Sales as a spreadsheet writes them in Germany, in Windows-1252.
fn sales() -> Vec<u8> {
    let mut out = "Datum;Ort;Menge;Umsatz\n".to_owned();
    for i in 0..300u32 {
        let (amount, place) = (1 + i * 29 % 60, ["München", "Köln", "Ulm"][i as usize % 3]);
        let cents = amount * 12_575 + 20_000 * (i % 3);
        let whole = cents / 100;
        let whole = match whole {
            1000.. => format!("{}.{:03}", whole / 1000, whole % 1000),
            _ => whole.to_string(),
        };
        writeln!(
            out,
            "{:02}.{:02}.2024;{place};{amount},5;{whole},{:02}",
            1 + i % 28,
            1 + i % 12,
            cents % 100
        )
        .unwrap();
    }
    out.chars()
        .map(|letter| u8::try_from(u32::from(letter)).expect("Latin-1"))
        .collect()
}

/// Name, bytes, label, metric and the least that it must be, and what the manifest must have.
type Table = (
    &'static str,
    Vec<u8>,
    &'static str,
    &'static str,
    f64,
    &'static [&'static str],
);

/// `init`, `run` and `predict`, and no manifest is edited.
#[test]
fn c10_tables_as_people_have_them_are_learned_without_editing() {
    let place = folder();
    let tables: [Table; 4] = [
        (
            "towns.csv",
            towns().into(),
            "cars",
            "r2",
            0.95,
            &["thousands: \",\""],
        ),
        ("diamonds.csv", diamonds().into(), "price", "r2", 0.95, &[]),
        (
            "titanic.csv",
            passengers().into(),
            "Survived",
            "accuracy",
            0.8,
            &["- PassengerId", "- Name", "- Ticket", "missing: Impute"],
        ),
        (
            "umsatz.csv",
            sales(),
            "Umsatz",
            "r2",
            0.95,
            &[
                "delimiter: \";\"",
                "decimal: \",\"",
                "thousands: \".\"",
                "encoding: Windows1252",
            ],
        ),
    ];
    for (name, table, label, metric, least, fields) in tables {
        fs::write(place.path().join(name), table).unwrap();
        let run = |args: &[&str]| {
            let ended = trainyard(place.path(), args);
            let told = text_of(&ended.stderr);
            assert!(ended.status.success(), "{args:?}: {told}");
            (text_of(&ended.stdout), told)
        };
        let (manifest, out) = (format!("{name}.yaml"), format!("{name}.out"));
        run(&["init", name, "--label", label, "--output", &manifest]);
        let text = fs::read_to_string(place.path().join(&manifest)).unwrap();
        assert!(fields.iter().all(|field| text.contains(field)), "{text}");
        run(&["run", &manifest, "--out", &out]);
        let metrics = fs::read(place.path().join(&out).join("artifact/metrics.json")).unwrap();
        let metrics: Value = serde_json::from_slice(&metrics).unwrap();
        let found = metrics["validation"][metric].as_f64();
        assert!(found >= Some(least), "{name}: {metrics}");
        let (predicted, told) = run(&["predict", &out, "--csv", name]);
        let rows = if name == "diamonds.csv" { 400 } else { 300 };
        assert_eq!(predicted.lines().count(), rows + 1);
        assert!(told.contains(&format!("metrics on {rows} rows")), "{told}");
    }
}
