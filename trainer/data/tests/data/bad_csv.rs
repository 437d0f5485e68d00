//! T15 for text: each bad file is refused with its place and a remedy.

use std::io::{self, Read};

use trainyard_data::{
    Files, HeldOut, Limits, MissingPolicy, Pattern, SourceSpec, TableOptions, Task, load,
};

use crate::common::{Memory, assert_error, bomb, csv_options, edit, gzip, load_csv, npy, options};

/// Name, file, fragments of the message; loaded as binary with the label `y`.
const BINARY: &[(&str, &[u8], &[&str])] = &[
    (
        "empty",
        b"",
        &["a.csv:", "the file is empty", "name the columns"],
    ),
    (
        "only blank lines",
        b"\n\r\n\n",
        &["a.csv:", "the file is empty"],
    ),
    ("only a mark", b"\xef\xbb\xbf", &["the file is empty"]),
    ("header only", b"a,y\n", &["a.csv:", "a header but no rows"]),
    (
        "short row",
        b"a,b,y\n1,2,0\n3,1\n",
        &["a.csv:3:", "expected 3 fields", "found 2"],
    ),
    (
        "long row",
        b"a,y\n1,0\n2,1\n3,0,9\n",
        &["a.csv:4:", "expected 2 fields", "found 3"],
    ),
    (
        "ragged after blank lines and CRLF",
        b"a,y\r\n\r\n1,0\r\n\r\n2\r\n",
        &["a.csv:5:", "found 1"],
    ),
    (
        "ragged after quoted newlines",
        b"a,\"y\"\n\"1\",\"0\"\n\"\n2\n\",1\n3\n",
        &["a.csv:6:", "found 1"],
    ),
    (
        "old Mac line ends",
        b"a,y\r1,0\rx,1\r",
        &["a.csv:3:", "column \"a\"", "found \"x\""],
    ),
    ("blank fields", b"a,y\n   \n", &["a.csv:2:", "found 1"]),
    (
        "text in a numeric column",
        b"a,y\n1,0\nred,1\n",
        &[
            "a.csv:3:",
            "column \"a\"",
            "expected a number, found \"red\"",
            "categorical",
            "exclude",
        ],
    ),
    (
        "decimal comma",
        b"a;y\n\"1,5\";0\n",
        &["no column is named \"y\"", "delimiter"],
    ),
    (
        "hexadecimal",
        b"a,y\n0x10,0\n",
        &["a.csv:2:", "expected a number, found \"0x10\""],
    ),
    (
        "missing",
        b"a,b,y\n1,2,0\n1,,1\n",
        &["a.csv:3:", "column \"b\"", "missing", "DropRow"],
    ),
    (
        "NaN",
        b"a,y\n1,0\nNaN,1\n",
        &["a.csv:3:", "column \"a\"", "missing", "Mean"],
    ),
    (
        "infinity",
        b"a,y\n1,0\n-inf,1\n",
        &["a.csv:3:", "column \"a\"", "finite", "\"-inf\""],
    ),
    (
        "overflow",
        b"a,y\n1,0\n1e999,1\n",
        &["a.csv:3:", "finite", "\"1e999\""],
    ),
    (
        "beyond f32",
        b"a,y\n1,0\n1e39,1\n",
        &["a.csv:3:", "32-bit float", "\"1e39\""],
    ),
    (
        "missing label",
        b"a,y\n1,0\n2,\n",
        &["a.csv:3:", "column \"y\"", "label is missing"],
    ),
    (
        "NaN label",
        b"a,y\n1,0\n2,nan\n",
        &["a.csv:3:", "column \"y\"", "label is missing"],
    ),
    (
        "no label column",
        b"a,b\n1,0\n",
        &["a.csv:1:", "no column is named \"y\"", "\"a\", \"b\""],
    ),
    (
        "no header",
        b"1,0\n2,1\n",
        &["no column is named \"y\"", "\"1\", \"0\""],
    ),
    (
        "twice the name",
        b"a,y,a\n1,0,2\n",
        &["a.csv:1:", "two columns are named \"a\"", "rename"],
    ),
    (
        "no name",
        b",y,\n0,1,0\n",
        &["a.csv:1:", "no column is left to learn from"],
    ),
    (
        "an array",
        b"\x93NUMPY\x01\x00",
        &["a.csv:1:", "the file is an NPY array", "npy"],
    ),
    (
        "a workbook",
        b"PK\x03\x04\x14\x00",
        &[
            "a.csv: ",
            "a ZIP archive or a spreadsheet's workbook",
            "save the sheet as CSV",
        ],
    ),
    (
        "only the label",
        b"y\n0\n1\n",
        &["no column is left", "delimiter"],
    ),
    (
        "one class",
        b"a,y\n1,B\n2,B\n",
        &["column \"y\"", "two classes", "found only \"B\""],
    ),
    (
        "three classes",
        b"a,y\n1,B\n2,M\n3,m\n",
        &[
            "column \"y\"",
            "expected two classes, found 3",
            "\"B\", \"M\", \"m\"",
            "multiclass",
        ],
    ),
    (
        "unclosed quote",
        b"a,y\n1,0\n\"2,1\n3,0\n",
        &["a.csv:3:", "never closed"],
    ),
    (
        "unclosed quote in the label",
        b"a,y\n1,0\n2,\"1\n3,0\n",
        &["a.csv:3:", "never closed"],
    ),
    (
        "text after a quote",
        b"a,y\n1,0\n\"2\"x,1\n",
        &["a.csv:3:", "after the closing quote"],
    ),
    (
        "not UTF-8",
        b"a,y\n1,0\n\xff1,1\n",
        &["a.csv:3:", "column \"a\"", "UTF-8"],
    ),
    (
        "label not UTF-8",
        b"a,y\n1,0\n1,\xe9\n",
        &["a.csv:3:", "column \"y\"", "UTF-8"],
    ),
    (
        "header not UTF-8",
        b"a,\xe9\n1,0\n",
        &["a.csv:1:", "column 2", "UTF-8"],
    ),
    (
        "UTF-16",
        b"\xff\xfea\0,\0y\0\n\0",
        &["a.csv:1:", "UTF-16", "UTF-8"],
    ),
    ("NUL", b"a,y\n1,0\n1\x00,1\n", &["a.csv:3:", "NUL"]),
    ("binary", b"\x89PNG\r\n\x1a\n\0\0", &["a.csv:"]),
    (
        "cut gzip",
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03KL",
        &["a.csv:", "cannot read"],
    ),
];

#[test]
fn t15_bad_text_is_refused_with_its_place() {
    for (case, text, fragments) in BINARY {
        assert_error(case, load_csv(*text, &csv_options(Task::Binary)), fragments);
    }
}

#[test]
fn t15_bad_regression_labels_are_refused() {
    let options = csv_options(Task::Regression);
    let refused = |case, text: &str, fragments: &[&str]| {
        assert_error(case, load_csv(text, &options), fragments);
    };
    refused(
        "word",
        "a,y\n1,2.5\n2,high\n",
        &["a.csv:3:", "column \"y\"", "found \"high\"", "regression"],
    );
    refused("infinite", "a,y\n1,inf\n", &["a.csv:2:", "finite"]);
    refused("missing", "a,y\n1,\n", &["a.csv:2:", "label is missing"]);
}

#[test]
fn t15_contradictory_options_are_refused() {
    type Change = fn(&mut TableOptions);
    let cases: &[(&str, Change, &[&str])] = &[
        (
            "exclude",
            |o| o.exclude = vec!["z".into()],
            &["\"z\"", "`exclude`"],
        ),
        (
            "categorical",
            |o| o.categorical = vec!["z".into()],
            &["\"z\"", "`categorical`"],
        ),
        (
            "label excluded",
            |o| o.exclude = vec!["y".into()],
            &["\"y\"", "both `label`"],
        ),
        (
            "label categorical",
            |o| o.categorical = vec!["y".into()],
            &["\"y\"", "both `label`"],
        ),
        (
            "both",
            |o| {
                o.exclude = vec!["a".into()];
                o.categorical = vec!["a".into()];
            },
            &["\"a\"", "both `exclude`"],
        ),
        (
            "all excluded",
            |o| o.exclude = vec!["a".into()],
            &["no column is left"],
        ),
        (
            "delimiter is a quote",
            |o| o.delimiter = b'"',
            &["0x22", "delimiter"],
        ),
        (
            "delimiter is not ASCII",
            |o| o.delimiter = 0xe9,
            &["0xe9", "delimiter"],
        ),
        (
            "no file",
            |o| o.uris = vec!["b.csv".into()],
            &["b.csv:", "cannot open"],
        ),
    ];
    for (case, change, fragments) in cases {
        let mut options = csv_options(Task::Binary);
        edit(&mut options, change);
        assert_error(case, load_csv("a,y\n1,0\n2,1\n", &options), fragments);
    }
}

#[test]
fn t15_bad_splits_are_refused() {
    for (fraction, told) in [
        (0.0, "the validation fraction is 0"),
        (1.0, "the validation fraction is 1"),
        (-0.5, "the validation fraction is -0.5"),
        (f64::NAN, "the validation fraction is NaN"),
        (1e-9, "of 3 rows none are left for validation"),
        (0.9, "of 3 rows none are left for training"),
    ] {
        let mut options = csv_options(Task::Binary);
        options.validation = HeldOut::Fraction(fraction);
        let case = format!("fraction {fraction}");
        let result = load_csv("a,y\n1,0\n2,1\n3,0\n", &options);
        assert_error(&case, result, &["a.csv:", told]);
    }
}

#[test]
fn t15_bad_validation_files_are_refused() {
    let train = "a,c,y\n1,u,0\n2,v,1\n";
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "unknown label",
            "a,c,y\n1,u,0\n5,u,2\n",
            &["v.csv:3:", "column \"y\"", "\"2\"", "\"0\", \"1\""],
        ),
        (
            "missing column",
            "a,y\n1,0\n",
            &["v.csv:1:", "\"c\"", "the model needs it"],
        ),
        ("no label", "a,c\n1,u\n", &["v.csv:1:", "\"y\""]),
        (
            "bad number",
            "a,c,y\nq,u,0\n",
            &["v.csv:2:", "column \"a\"", "\"q\""],
        ),
        ("no rows", "a,c,y\n", &["v.csv:", "no rows"]),
    ];
    for (case, text, fragments) in cases {
        let mut options = csv_options(Task::Binary);
        edit(&mut options, |csv| csv.categorical = vec!["c".into()]);
        options.validation = HeldOut::Source(SourceSpec::Table(TableOptions::csv("v.csv", "y")));
        let files = Memory::default().with("a.csv", train).with("v.csv", *text);
        assert_error(case, load(&files, &options), fragments);
    }
}

#[test]
fn t15_rows_without_a_single_whole_one_are_refused() {
    let mut options = csv_options(Task::Binary);
    edit(&mut options, |csv| csv.missing = MissingPolicy::DropRow);
    assert_error(
        "drop all",
        load_csv("a,y\n,0\n1,\n", &options),
        &["each of the 2 rows"],
    );
    edit(&mut options, |csv| csv.missing = MissingPolicy::Mean);
    let text = "a,b,y\n1,,0\n2,NA,1\n";
    assert_error(
        "no mean",
        load_csv(text, &options),
        &["column \"b\"", "no training row has a value"],
    );
}

#[test]
fn t15_too_many_categories_or_values_are_refused() {
    let rows = |n: usize| {
        (0..n)
            .map(|i| format!("k{i},{}\n", i % 2))
            .collect::<String>()
    };
    let mut options = csv_options(Task::Binary);
    edit(&mut options, |csv| csv.categorical = vec!["a".into()]);
    let text = format!("a,y\n{}", rows(101));
    assert_error(
        "categories",
        load_csv(text, &options),
        &["a.csv:102:", "column \"a\"", "100 distinct"],
    );
    options.limits.values = 50 * 50 - 1;
    let text = format!("a,y\n{}", rows(50));
    assert_error(
        "values",
        load_csv(text, &options),
        &["50 rows of 50 inputs", "memory"],
    );
}

/// A reader that goes on for ever and counts what it gave.
struct Endless(&'static [u8], std::sync::Arc<std::sync::atomic::AtomicU64>);

impl Read for Endless {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        for (to, from) in out.iter_mut().zip(self.0.iter().cycle()) {
            *to = *from;
        }
        let given = self
            .1
            .fetch_add(out.len() as u64, std::sync::atomic::Ordering::Relaxed);
        assert!(given < 80 << 20, "read on without bound");
        Ok(out.len())
    }
}

impl Files for Endless {
    fn open(&self, _: &str) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Endless(self.0, self.1.clone())))
    }

    fn list(&self, _: &Pattern) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
}

#[test]
fn t15_endless_lines_are_bounded() {
    let cases: &[(&str, &'static [u8], &[&str])] = &[
        (
            "columns",
            b"ab,",
            &["a.csv:1:", "more than 1048576 fields", "NPY"],
        ),
        (
            "bytes",
            b"abcdefghi",
            &["a.csv:1:", "longer than 16777216 bytes"],
        ),
        ("quoted bytes", b"\"abc\n\"\"d\"", &["a.csv:"]),
        (
            "blank lines",
            b"\n",
            &["a.csv:16777218:", "more than 16777216 blank lines"],
        ),
    ];
    for (case, pattern, fragments) in cases {
        let mut options = csv_options(Task::Binary);
        options.limits = Limits {
            file_bytes: 64 << 20,
            ..Limits::default()
        };
        assert_error(
            case,
            load(&Endless(pattern, Default::default()), &options),
            fragments,
        );
    }
}

/// A file that is small where it lies, and whose rows do not fit the machine.
#[test]
fn t15_rows_that_do_not_fit_the_memory_at_hand_are_refused_before_they_are_held() {
    const MEMORY: u64 = 8 << 20;
    let within = |text: &str, memory| {
        let mut options = csv_options(Task::Binary);
        edit(&mut options, |csv| csv.categorical = vec!["c".to_owned()]);
        options.limits = Limits {
            memory,
            ..Limits::default()
        };
        load_csv(gzip(text.as_bytes()), &options)
    };
    let rows = "a,c,y\n".to_owned() + &"1,x,0\n2,x,1\n".repeat(150_000);
    within(&rows, u64::MAX).expect("with memory enough");
    let fragments = ["more than 8 MiB", "8 MiB of memory are at hand", "a.csv:"];
    assert_error("rows", within(&rows, MEMORY), &fragments);
    let name = |i: u32| format!("1,{}{i},0\n", "x".repeat(1 << 20));
    let names: String = "a,c,y\n".to_owned() + &(0..8).map(name).collect::<String>();
    assert_error("names", within(&names, MEMORY), &fragments);
}

/// The bound is the memory, wherever in a job the file stands, and not a size that is the same everywhere.
#[test]
fn t15_a_file_that_unpacks_to_a_thousand_times_its_size_is_refused_by_the_memory_at_hand() {
    const MEMORY: u64 = 8 << 20;
    const ROWS: usize = 16 << 20;
    let csv = bomb(b"a,y\n", b"1,1\n", ROWS);
    let array = |shape: &str| bomb(&npy("|u1", false, shape, &[]), &[0], ROWS);
    let files = Memory::default()
        .with("a.csv", csv)
        .with("small.csv", "a,y\n1,0\n2,1\n")
        .with("rows", array(&format!("({ROWS}, 1)")))
        .with("column", array(&format!("({ROWS},)")))
        .with("x", npy("|u1", false, "(2, 1)", &[1, 2]))
        .with("y", npy("|u1", false, "(2,)", &[0, 1]));
    let csv = |uri: &str| SourceSpec::Table(TableOptions::csv(uri, "y"));
    let npy = |features: &str, labels: &str| SourceSpec::Npy {
        features: features.into(),
        labels: labels.into(),
    };
    for (place, train, validation) in [
        ("a.csv:", csv("a.csv"), None),
        ("a.csv:", csv("small.csv"), Some(csv("a.csv"))),
        ("rows:", npy("rows", "column"), None),
        ("column:", npy("x", "column"), None),
        ("rows:", npy("x", "y"), Some(npy("rows", "column"))),
    ] {
        let mut options = options(Task::Regression, train);
        options.validation = validation.map_or(HeldOut::None, HeldOut::Source);
        options.limits = Limits {
            memory: MEMORY,
            ..Limits::default()
        };
        let fragments = [
            place,
            "8 MiB of memory are at hand",
            "a machine with more memory",
        ];
        assert_error(place, load(&files, &options), &fragments);
    }
}

#[test]
fn t15_ten_million_columns_are_refused_on_their_line() {
    let mut text = b"a,y\n1,0\n".to_vec();
    text.extend(b"1,".repeat(10_000_000));
    let mut options = csv_options(Task::Binary);
    options.limits = Limits::default();
    assert_error(
        "row",
        load_csv(text, &options),
        &["a.csv:3:", "more than 1048576 fields"],
    );
}

#[test]
fn t15_messages_quote_values_shortly_and_without_control_characters() {
    let value = format!("\u{1b}[31m{}", "x".repeat(5000));
    let error = load_csv(format!("a,y\n{value},0\n"), &csv_options(Task::Binary)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.len() < 300 && !text.contains('\u{1b}') && text.contains("..."),
        "{text}"
    );
}
