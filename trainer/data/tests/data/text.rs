//! Reading text fast and strictly: in blocks, by several threads.

use std::fmt::Write;

use proptest::prelude::*;
use trainyard_data::{Limits, LoadOptions, Task, load};

use crate::common::{Memory, assert_error, csv_options, load_csv, unscaled};

/// A table of many blocks, with quotes, line ends of every kind within and between records, blank lines and categories
/// that come late.
fn large() -> String {
    let mut text = String::from("n,\"a \"\"name\"\"\",c,y\r\n");
    for row in 0..90_000 {
        let category = match row % 7 {
            0 => "\"two\nlines, and a comma\"".to_owned(),
            1 => "\"a \"\"quote\"\"\"".to_owned(),
            2 => format!("late {}", row / 30_000),
            _ => ["red", "5\" wide", " blank "][row % 3].to_owned(),
        };
        let end = ["\n", "\r\n", "\r", "\n\n"][row % 4];
        write!(
            text,
            "{row}.{},{:e},{category},{}{end}",
            row % 10,
            f64::from(row as u32) / 7.0,
            row % 5
        )
        .unwrap();
    }
    text
}

/// One digest for any number of threads, and that of a small file's reader: the rows one by one.
#[test]
fn c34_any_number_of_threads_reads_the_same_table() {
    let text = large();
    assert!(text.len() > 3 << 20, "several blocks: {}", text.len());
    let read = |threads: usize| {
        let mut options = unscaled(|_| {});
        options.limits = Limits {
            threads,
            ..Limits::default()
        };
        load_csv(text.as_str(), &options).unwrap()
    };
    let one = read(1);
    assert_eq!((one.train.rows, one.train.width), (90_000, 10));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    for (row, record) in reader.records().enumerate() {
        let record = record.unwrap();
        assert_eq!(one.train.row(row)[0], record[0].parse::<f32>().unwrap());
        assert_eq!(
            one.train.row(row)[1],
            record[1].parse::<f64>().unwrap() as f32
        );
        assert_eq!(one.train.labels[row], record[3].parse::<f32>().unwrap());
    }
    for threads in [2, 3, 8] {
        let several = read(threads);
        assert_eq!(several.facts, one.facts, "{threads}");
        assert!(several.train == one.train && several.warnings == one.warnings);
    }
}

/// An error far down a file is told with its line, and the first of several.
#[test]
fn c34_the_first_error_is_told_with_its_line() {
    let mut options = unscaled(|_| {});
    options.limits = Limits {
        threads: 3,
        ..Limits::default()
    };
    let rows = |rows: usize| "1,2\n".repeat(rows);
    let read =
        |text: String, options: &LoadOptions| load(&Memory::default().with("a.csv", text), options);
    let text = format!("a,y\n{}1,2,3\n{}x,1\n", rows(700_000), rows(500_000));
    assert_error(
        "fields",
        read(text, &options),
        &["a.csv:700002: expected 2 fields", "found 3"],
    );
    let text = format!("a,y\n{}\"1,2\n{}", rows(700_000), rows(5));
    assert_error(
        "quote",
        read(text, &options),
        &["a.csv:700002: a quoted field is never closed"],
    );
    let text = format!("a,y\n{}\0,2\n{}", rows(700_000), rows(500_000));
    assert_error(
        "nul",
        read(text, &options),
        &["a.csv:700002: the file holds a NUL byte"],
    );
    let text = format!("a,y\n{}\"1\"2,2\n{}", rows(700_000), rows(5));
    assert_error(
        "quote",
        read(text, &options),
        &["a.csv:700002: text after the closing quote"],
    );
    options.limits.categories = 1000;
    let names: String = (0..1001).map(|n| format!("c{n},2\nc{n},3\n")).collect();
    let text = format!("a,y\n{}{names}", "c0,2\n".repeat(700_000));
    crate::common::edit(&mut options, |csv| csv.categorical = vec!["a".into()]);
    assert_error(
        "names",
        read(text, &options),
        &["a.csv:702002: column \"a\"", "more than 1000 distinct"],
    );
}

fn field() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9.-]{0,12}",
        "[a-z ,;\"\n\r']{0,6}".prop_map(|text| format!("\"{}\"", text.replace('"', "\"\""))),
        "[a-z]{1,3}\"[a-z\"]{0,3}",
        "[a-z0-9]{30,70}",
        "\u{e9}{0,9}",
    ]
}

proptest! {
    /// Fields are those of the csv crate, which is known to be right on what is not refused here.
    #[test]
    fn fields_are_those_of_the_csv_crate(
        records in prop::collection::vec(prop::collection::vec(field(), 3), 1..20),
        ends in prop::collection::vec(prop::sample::select(vec!["\n", "\r\n", "\r", "\n\n"]), 20),
        last: bool,
    ) {
        // A column without any value is refused.
        let mut text = String::from("a,b,c,y\nv,v,v,0\n");
        let rows = records.len();
        for (row, (fields, end)) in records.iter().zip(&ends).enumerate() {
            let end = if row + 1 == rows && !last { "" } else { end };
            write!(text, "{},{}{end}", fields.join(","), (row + 1) % 2).unwrap();
        }
        // As categories every field is told apart.
        let mut options = csv_options(Task::Multiclass);
        crate::common::edit(&mut options, |csv| {
            csv.categorical = ["a", "b", "c"].map(str::to_owned).into();
            csv.missing = trainyard_data::MissingPolicy::Mean;
            // Else `na` and `nan` would stand for no value.
            csv.na_is_missing = false;
        });
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let expected: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let data = load_csv(text.as_str(), &options).unwrap();
        let trainyard_data::InputKind::Columns(input) = &data.facts.schema.input else {
            panic!("columns");
        };
        prop_assert_eq!(data.train.rows, expected.len());
        for (row, record) in expected.iter().enumerate() {
            let mut at = 0;
            for (column, text) in input.columns.iter().zip(record) {
                let trainyard_data::ColumnKind::Categorical { categories, .. } = &column.kind else {
                    panic!("categories");
                };
                let inputs = &data.train.row(row)[at..at + categories.len()];
                let category = inputs.iter().position(|input| *input == 1.0);
                prop_assert_eq!(category.map_or("", |place| &categories[place]), text.trim());
                at += categories.len();
            }
        }
    }
}
