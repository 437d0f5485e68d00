//! Ways to write a text: numbers, letters, headers.

use trainyard_data::{ColumnKind, ColumnType, Dataset, Encoding, InputKind, Limits, Task};

use crate::common::{assert_error, edit, encode_csv, inspect_csv, load_csv, unscaled};

/// Numbers as they are written in much of Europe, in inputs, targets and weights; kept for predictions.
#[test]
fn c32_a_decimal_comma_and_separated_thousands_are_read() {
    let text = "a;w;y\n1.234,5;1;0,25\n-2,5;0,5;1.000\n\"3\";2;,5\n";
    let mut options = unscaled(|csv| {
        csv.delimiter = b';';
        csv.decimal = b',';
        csv.thousands = Some(b'.');
        csv.weight = Some("w".into());
    });
    let data = load_csv(text, &options).unwrap();
    assert_eq!(data.train.features, [1234.5, -2.5, 3.0]);
    assert_eq!(data.train.labels, [0.25, 1000.0, 0.5]);
    assert_eq!(data.train.weights, [1.0, 0.5, 2.0]);
    let encoded = encode_csv(&data.facts.schema, "p.csv", b"a\n7,5\n", &Limits::default()).unwrap();
    assert_eq!(encoded.table.features, [7.5]);
    assert_error(
        "a point in its wrong place",
        load_csv("a;w;y\n1.5;1;0\n", &options),
        &[
            "a.csv:2: column \"a\"",
            "expected a number such as \"1.234,5\", found \"1.5\"",
        ],
    );
    edit(&mut options, |csv| csv.thousands = None);
    assert_error(
        "1.234",
        load_csv("a;w;y\n1.234;1;0\n", &options),
        &["such as \"1234,5\", found \"1.234\""],
    );
}

#[test]
fn c32_text_of_one_byte_a_character_is_read() {
    let text = b"gr\xf6\xdfe,y\n\x80uro,1\n\xe9t\xe9,2\n";
    let read = |encoding: Encoding| {
        let options = unscaled(|csv| {
            csv.encoding = encoding;
            csv.categorical = vec!["größe".into()];
        });
        load_csv(&text[..], &options)
    };
    let categories = |data: &Dataset| match &data.facts.schema.input {
        InputKind::Columns(input) => match &input.columns[0].kind {
            ColumnKind::Categorical { categories, .. } => categories.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(
        categories(&read(Encoding::Windows1252).unwrap()),
        ["été", "€uro"]
    );
    assert_eq!(
        categories(&read(Encoding::Latin1).unwrap()),
        ["\u{80}uro", "été"]
    );
    assert_error(
        "UTF-8",
        read(Encoding::Utf8),
        &["a.csv:1:", "not UTF-8", "set `encoding`"],
    );
    // Longer than what is converted at a time, so that a character lies across its end.
    let long = [&b"c,y\n"[..], &b"\x80\x80\x80,1\n".repeat(20_000)].concat();
    let options = unscaled(|csv| {
        csv.encoding = Encoding::Windows1252;
        csv.categorical = vec!["c".into()];
    });
    let data = load_csv(long, &options).unwrap();
    assert_eq!(
        (categories(&data), data.train.rows),
        (vec!["€€€".into()], 20_000)
    );
}

#[test]
fn c32_a_file_without_a_header_names_its_columns_by_position() {
    let read = |text: &str| {
        let mut options = unscaled(|csv| {
            csv.headerless = true;
            csv.label = "column 3".into();
            csv.categorical = vec!["column 2".into()];
        });
        options.task = Task::Binary;
        load_csv(text, &options)
    };
    let data = read("1,u,no\n2,v,yes\n3,u,yes\n").unwrap();
    assert_eq!(
        data.train.features,
        [1.0, 1.0, 0.0, 2.0, 0.0, 1.0, 3.0, 1.0, 0.0]
    );
    assert_eq!(data.train.labels, [0.0, 1.0, 1.0]);
    // Without the label, which is last here.
    let encoded = encode_csv(&data.facts.schema, "p.csv", b"5,v\n", &Limits::default()).unwrap();
    assert_eq!(
        (encoded.table.features, encoded.lines),
        (vec![5.0, 0.0, 1.0], vec![1])
    );
    assert_error(
        "few",
        read("1,u,no\n2,v\n"),
        &[
            "a.csv:2:",
            "expected 3 fields as in the first line, found 2",
        ],
    );
    assert_error(
        "value",
        read("1,u,no\nx,v,yes\n"),
        &["a.csv:2: column \"column 1\"", "\"x\""],
    );
    assert_error("empty", read("\n"), &["a.csv", "the file is empty"]);
    assert_error(
        "none",
        read("1,2\n3,4\n"),
        &["a.csv", "\"column 3\"", "`label` names it"],
    );
}

/// How a text is written is told from it, where more columns are numbers so.
#[test]
fn c10_the_notation_of_numbers_is_told() {
    let told = |text: &[u8]| {
        let report = inspect_csv(text, &[], &Limits::default()).unwrap();
        let numbers = report.columns.iter();
        let numbers = numbers
            .filter(|column| column.kind == Some(ColumnType::Number))
            .count();
        (
            report.delimiter.unwrap(),
            report.decimal,
            report.thousands,
            report.encoding,
            numbers,
        )
    };
    let utf8 = Encoding::Utf8;
    let cases: [(&[u8], _); 9] = [
        (b"a,b\n1.5,2\n2,3\n", (',', None, None, utf8, 2)),
        (b"a;b\n1,5;2\n2;3\n", (';', Some(','), None, utf8, 2)),
        (b"a;b\n1.5;2\n2;3\n", (';', None, None, utf8, 2)),
        (
            b"a;b\n1.234,5;2\n2;3\n",
            (';', Some(','), Some('.'), utf8, 2),
        ),
        (
            "a;b\n1\u{202f}234,5;2\n2;3\n".as_bytes(),
            (';', Some(','), Some(' '), utf8, 2),
        ),
        (b"a,b\n\"1,234\",2\n2,3\n", (',', None, Some(','), utf8, 2)),
        // One column is as good as the other: the usual notation.
        (b"a;b\n1,5;2.5\n2;3\n", (';', None, None, utf8, 1)),
        (
            b"a;b\nM\xfcnchen;2,5\nUlm;3\n",
            (';', Some(','), None, Encoding::Windows1252, 1),
        ),
        (b"a;b\nx;y\nx;z\n", (';', None, None, utf8, 0)),
    ];
    for (text, expected) in cases {
        assert_eq!(told(text), expected, "{}", String::from_utf8_lossy(text));
    }
    // Only whole lines are looked at, and a letter that the first bytes cut is no other encoding.
    let long = format!("a;b\n{}", "1,5;é\n".repeat(20_000));
    assert_eq!(told(long.as_bytes()), (';', Some(','), None, utf8, 1));
}
