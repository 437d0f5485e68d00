//! The schema as a document, and encoding for prediction.

use std::io::Read;

use serde_json::{Value, json};
use trainyard_data::{
    ArrayInput, ColumnOptions, ColumnType, DataError, Encoded, InputKind, InputSchema, Limits,
    LoadOptions, MissingPolicy, Normalization, Rows, Task, encode_labels,
};

use crate::common::{
    assert_error, csv_options, edit, encode_all, encode_array, encode_csv, load_csv, load_npy, npy,
    npy_options, told_of_csv,
};

fn schema() -> InputSchema {
    let mut options = csv_options(Task::Binary);
    edit(&mut options, |csv| csv.categorical = vec!["c".into()]);
    load_csv("a,c,y\n1,u,B\n3,v,M\n", &options)
        .unwrap()
        .facts
        .schema
}

#[test]
fn the_schema_reads_as_documented() {
    let expected = json!({
        "task": "binaryClassification",
        "input": {"columns": {
            "delimiter": 44,
            "missing": "error",
            "naIsMissing": true,
            "columns": [
                {"name": "a", "type": "numeric", "mean": 2.0, "std": 1.0, "fill": 2.0},
                {"name": "c", "type": "categorical", "categories": ["u", "v"]},
            ],
        }},
        "label": {"name": "y", "classes": ["B", "M"], "numeric": false},
    });
    assert_eq!(serde_json::to_value(schema()).unwrap(), expected);
    let labels = npy("|u1", false, "(2,)", &[0, 1]);
    let features = npy("<i2", false, "(2, 1)", &[1, 0, 3, 0]);
    let array = load_npy(features, labels, &npy_options(Task::Regression))
        .unwrap()
        .facts
        .schema;
    let expected = json!({
        "task": "regression",
        "input": {"array": {"shape": [1], "dtype": "i2", "mean": [2.0], "std": [1.0]}},
        "label": {"name": "label", "classes": [], "numeric": true},
    });
    assert_eq!(serde_json::to_value(&array).unwrap(), expected);
    assert_eq!(
        serde_json::from_value::<InputSchema>(expected).unwrap(),
        array
    );
}

#[test]
fn a_damaged_schema_does_not_deserialize() {
    let refused = |path: &str, value: Value, fragment: &str| {
        let mut json = serde_json::to_value(schema()).unwrap();
        *json.pointer_mut(path).expect(path) = value;
        let error = serde_json::from_value::<InputSchema>(json)
            .unwrap_err()
            .to_string();
        assert!(error.contains(fragment), "{path}: {error}");
    };
    let columns = "/input/columns/columns";
    refused(
        &format!("{columns}/0/std"),
        json!(0.0),
        "no usable mean or deviation",
    );
    refused(&format!("{columns}/0/std"), json!(null), "");
    refused(&format!("{columns}/1/name"), json!("a"), "occurs twice");
    refused(
        &format!("{columns}/1/categories"),
        json!(["v", "u"]),
        "not sorted",
    );
    refused(
        &format!("{columns}/1/categories"),
        json!(["u", "u"]),
        "not sorted",
    );
    refused(columns, json!([]), "no inputs");
    refused("/label/classes", json!(["B"]), "1 classes");
    refused("/task", json!("regression"), "2 classes");
    let array =
        |shape: Value| json!({"array": {"shape": shape, "dtype": "u1", "mean": [0], "std": [1]}});
    refused("/input", array(json!([1, 2])), "1 or 3 dimensions");
    refused("/input", array(json!([2])), "2 means");
    refused("/input", array(json!([1, 0, 4])), "empty or too large");
    refused(
        "/input",
        array(json!([1, u64::MAX, 2])),
        "empty or too large",
    );
}

#[test]
fn prediction_finds_columns_by_name_and_labels_if_there() {
    let schema = schema();
    let limits = Limits::default();
    let encoded = encode_csv(&schema, "p.csv", &b"c,id,a\nv,7,5\n\nw,8,2\n"[..], &limits).unwrap();
    assert_eq!(encoded.table.features, [3.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
    assert_eq!((encoded.table.rows, encoded.table.width), (2, 3));
    assert!(encoded.table.labels.is_empty());
    assert_eq!(encoded.lines, [2, 4]);
    let told = told_of_csv(&schema, b"c,id,a\nv,7,5\n\nw,8,2\n");
    assert_eq!(told.len(), 1);
    let encoded = encode_csv(&schema, "p.csv", &b"c,y,a\nv,M,5\nu,B,0\n"[..], &limits).unwrap();
    assert_eq!(encoded.table.labels, [1.0, 0.0]);
}

#[test]
fn t15_bad_prediction_inputs_are_refused() {
    let schema = schema();
    let limits = Limits::default();
    let cases: &[(&str, &[u8], &[&str])] = &[
        (
            "no column",
            b"a\n1\n",
            &["p.csv:1:", "\"c\"", "the model needs it"],
        ),
        (
            "missing",
            b"a,c\n,u\n",
            &["p.csv:2:", "column \"a\"", "missing"],
        ),
        (
            "label",
            b"a,c,y\n1,u,Q\n",
            &["p.csv:2:", "column \"y\"", "\"Q\"", "\"B\", \"M\""],
        ),
        ("empty", b"", &["p.csv:", "empty"]),
    ];
    for (case, text, fragments) in cases {
        assert_error(case, encode_csv(&schema, "p.csv", text, &limits), fragments);
    }
    let array = encode_array(&schema, "x.npy", &b""[..], &limits);
    assert_error("array", array, &["x.npy:", "named columns", "CSV"]);

    // Far outside of what was seen, a scaled value can pass what an f32 holds.
    let narrow = load_csv("a,y\n1,0\n1.0000000001,1\n", &csv_options(Task::Binary))
        .unwrap()
        .facts
        .schema;
    let far = encode_csv(&narrow, "p.csv", &b"a\n1\n3e38\n"[..], &limits);
    assert_error("far", far, &["p.csv:3:", "column \"a\"", "infinite"]);

    let labels = npy("|u1", false, "(2,)", &[0, 1]);
    let features = npy("|u1", false, "(2, 3)", &[1, 2, 3, 4, 5, 6]);
    let array = load_npy(features, labels, &npy_options(Task::Binary))
        .unwrap()
        .facts
        .schema;
    let other = npy("|u1", false, "(2, 4)", &[0; 8]);
    let result = encode_array(&array, "x.npy", other.as_slice(), &limits);
    assert_error("shape", result, &["x.npy:", "[3]", "[4]"]);
    assert_error(
        "csv",
        encode_csv(&array, "p", &b""[..], &limits),
        &["p:", "arrays or images, not CSV"],
    );
    let unknown = npy("|u1", false, "(2,)", &[0, 9]);
    let result = encode_labels(&array, "y.npy", unknown.as_slice(), &limits);
    assert_error("label", result, &["y.npy:", "row 1", "\"9\""]);
}

/// Whoever predicts has no manifest to change.
#[test]
fn t25_advice_about_rows_to_predict_can_be_followed() {
    for (text, told) in [
        (
            "a,c\n,u\n",
            "the value is missing; fill it in; the model was trained with `missing: Error`",
        ),
        (
            "a,c\nx,u\n",
            "found \"x\"; mend the value; the column had numbers in training",
        ),
    ] {
        let encoded = encode_csv(&schema(), "p.csv", text.as_bytes(), &Limits::default());
        assert_error(text, encoded, &["p.csv:2:", told]);
    }
}

/// The rows of a job that begins with a model become what they would become for a prediction with it.
#[test]
fn t25_a_given_schema_is_not_fitted_again() {
    let base = schema();
    let mut options = csv_options(Task::Binary);
    edit(&mut options, |csv| {
        csv.categorical = vec!["c".into()];
        csv.delimiter = b';';
        csv.label = "diagnosis".into();
        csv.missing = MissingPolicy::Mean;
    });
    options.schema = Some(base.clone());
    let text = "extra;diagnosis;c;a\n0;B;v;5\n0;M;ghost;\n0;B;u;-1\n";
    let data = load_csv(text, &options).unwrap();
    let fitted = serde_json::to_value(&base).unwrap()["input"]["columns"]["columns"].clone();
    let found = serde_json::to_value(&data.facts.schema).unwrap();
    assert_eq!(found["input"]["columns"]["columns"], fitted);
    assert_eq!(found["label"]["name"], "diagnosis");
    assert_eq!(data.train.labels, [0.0, 1.0, 0.0]);
    // Mean 2, deviation 1; the missing value is the fitted mean, the unknown category is none.
    let expected = [3.0, 0.0, 1.0, 0.0, 0.0, 0.0, -3.0, 1.0, 0.0];
    assert_eq!(data.train.features, expected);
    let told = data.warnings.join("\n");
    assert!(told.contains("extra") && told.contains("ghost"), "{told}");

    // A model that has `NA` as a category is given it.
    let mut with_na = options.clone();
    let text_na = "a,c,y\n1,NA,B\n3,v,M\n";
    let mut old = csv_options(Task::Binary);
    edit(&mut old, |csv| {
        csv.categorical = vec!["c".into()];
        csv.na_is_missing = false;
    });
    with_na.schema = Some(load_csv(text_na, &old).unwrap().facts.schema);
    let data = load_csv("diagnosis;c;a\nB;NA;1\nM;v;2\n", &with_na).unwrap();
    assert_eq!(data.train.features[1..3], [1.0, 0.0]);

    let refused = |change: &dyn Fn(&mut LoadOptions), text: &str, parts: &[&str]| {
        let mut options = options.clone();
        change(&mut options);
        assert_error("a given schema", load_csv(text, &options), parts);
    };
    let keep = |_: &mut LoadOptions| {};
    refused(&keep, "diagnosis;c;a\nX;u;1\n", &["a.csv:2:", "\"X\""]);
    refused(&keep, "diagnosis;c\nB;u\n", &["no column is named \"a\""]);
    let numbers = |options: &mut LoadOptions| {
        edit(options, |csv| {
            csv.categorical.clear();
            csv.columns = vec![ColumnOptions {
                name: "c".into(),
                kind: Some(ColumnType::Number),
                ..ColumnOptions::default()
            }];
        });
    };
    refused(
        &numbers,
        text,
        &[
            "column \"c\" has categories in the initial model",
            "`columns`",
        ],
    );
    let mut undeclared = options.clone();
    edit(&mut undeclared, |csv| csv.categorical.clear());
    assert_eq!(
        load_csv(text, &undeclared).unwrap(),
        load_csv(text, &options).unwrap()
    );
    let both = |options: &mut LoadOptions| edit(options, |csv| csv.categorical.push("a".into()));
    refused(
        &both,
        text,
        &["column \"a\" has numbers in the initial model"],
    );
    let without = |options: &mut LoadOptions| edit(options, |csv| csv.exclude.push("a".into()));
    refused(&without, text, &["the initial model reads column \"a\""]);
    let label = |options: &mut LoadOptions| edit(options, |csv| csv.label = "a".into());
    refused(
        &label,
        text,
        &["reads column \"a\"", "name another column as the `label`"],
    );
    let typo = |options: &mut LoadOptions| edit(options, |csv| csv.exclude = vec!["zzz".into()]);
    refused(&typo, text, &["no column is named \"zzz\""]);
    let plain = |options: &mut LoadOptions| options.normalization = Normalization::None;
    refused(
        &plain,
        text,
        &["`normalization` is None, and the initial model scales its inputs"],
    );
    let positive = |options: &mut LoadOptions| options.positive = Some("B".into());
    refused(
        &positive,
        text,
        &["the positive class is \"B\"", "set `positive` to \"M\""],
    );
    let arrays = |options: &mut LoadOptions| options.train = npy_options(Task::Binary).train;
    refused(&arrays, text, &["the initial model reads named columns"]);
}

/// Part by part the rows are those of the whole file, and so is what is told of them.
#[test]
fn c30_a_file_is_encoded_part_by_part() {
    let schema = schema();
    let limits = Limits::default();
    let text: String = (0..25)
        .map(|i| {
            format!(
                "{},x{i},{i},{}\n",
                ["v", "u", "other"][i % 3],
                ["M", "B", ""][i % 3]
            )
        })
        .collect();
    let text = format!("c,id,a,y\n{text}");
    let ids = ["id".to_owned(), "a".to_owned()];
    let rows = || Rows::csv(&schema, "p.csv", text.as_bytes(), &ids, &limits).unwrap();
    let (whole, told) = encode_all(rows()).unwrap();
    assert_eq!(whole.ids_of(7, 2), ["x7", "7"]);
    assert!(
        told[0].contains("8 values") && told[0].contains("on line 4"),
        "{told:?}"
    );
    for most in [1, 7, 25] {
        let mut rows = rows();
        let mut parts = Encoded::default();
        while let Some(part) = rows.next(most).unwrap() {
            assert!(part.table.rows <= most);
            parts.table.rows += part.table.rows;
            parts.table.width = part.table.width;
            parts.table.features.extend(part.table.features);
            parts.ids.extend(part.ids);
            parts.lines.extend(part.lines);
            // Compared by their bits: a row without a label has NaN.
            parts
                .table
                .labels
                .extend(part.table.labels.iter().map(|label| label.to_bits() as f32));
        }
        let mut expected = whole.clone();
        expected.table.labels = whole
            .table
            .labels
            .iter()
            .map(|label| label.to_bits() as f32)
            .collect();
        assert_eq!((parts, rows.warnings()), (expected, told.clone()), "{most}");
    }
    let unknown = Rows::csv(
        &schema,
        "p.csv",
        text.as_bytes(),
        &["nobody".to_owned()],
        &limits,
    );
    assert_error(
        "id",
        unknown.map(|_| ()),
        &["p.csv:1:", "\"nobody\"", "`--id` names it"],
    );
}

/// An array too, in either order; errors name the row of the file.
#[test]
fn c30_an_array_is_encoded_part_by_part() {
    let schema = InputSchema {
        input: InputKind::Array(ArrayInput {
            shape: vec![2],
            dtype: "f4".into(),
            mean: vec![0.0; 2],
            std: vec![1.0; 2],
            resize: false,
        }),
        ..schema()
    };
    let limits = Limits::default();
    let npy = |fortran: bool, rows: usize, values: &[f32]| {
        let order = if fortran { "True" } else { "False" };
        let head = format!("{{'descr': '<f4', 'fortran_order': {order}, 'shape': ({rows}, 2), }}");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((head.len() as u16).to_le_bytes());
        bytes.extend(head.bytes());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        bytes
    };
    let values: Vec<f32> = (0..10u8).map(f32::from).collect();
    let parts = |bytes: &[u8], most: usize| -> Result<Vec<Vec<f32>>, DataError> {
        let mut rows = Rows::array(&schema, "x.npy", bytes, &limits)?;
        let mut parts = Vec::new();
        while let Some(part) = rows.next(most)? {
            parts.push(part.table.features);
        }
        Ok(parts)
    };
    assert_eq!(
        parts(&npy(false, 5, &values), 2).unwrap(),
        [
            vec![0.0, 1.0, 2.0, 3.0],
            vec![4.0, 5.0, 6.0, 7.0],
            vec![8.0, 9.0]
        ]
    );
    assert_eq!(
        parts(&npy(true, 5, &values), 3).unwrap(),
        [vec![0.0, 5.0, 1.0, 6.0, 2.0, 7.0], vec![3.0, 8.0, 4.0, 9.0]]
    );
    let mut bad = values.clone();
    bad[7] = f32::NAN;
    assert_error(
        "NaN",
        parts(&npy(false, 5, &bad), 2),
        &["x.npy:", "at row 3 (from 0), element 1"],
    );
    assert_error(
        "NaN",
        parts(&npy(true, 5, &bad), 2),
        &["x.npy:", "at row 2 (from 0), element 1"],
    );
    for most in [1, 2, 100] {
        assert_error(
            "cut",
            parts(&npy(false, 5, &values[..9]), most),
            &["announces 40 bytes of data, found 36"],
        );
        assert_error(
            "long",
            parts(&npy(false, 4, &values), most),
            &["announces 32 bytes of data, found more"],
        );
    }
    assert_error("none", parts(&npy(false, 0, &[]), 2), &["holds no rows"]);
}

/// A file may be compressed with gzip or zstd; its first bytes tell.
#[test]
fn c31_compressed_files_are_read() {
    let text = b"a,y\n1,0\n3,1\n";
    let plain = load_csv(&text[..], &csv_options(Task::Binary)).unwrap();
    let zstd = zstd::encode_all(&text[..], 3).unwrap();
    assert_eq!(
        load_csv(zstd.clone(), &csv_options(Task::Binary)).unwrap(),
        plain
    );
    // Frames one after the other are one file, as `zstd` and `cat` make them.
    let two = [
        zstd::encode_all(&text[..6], 1).unwrap(),
        zstd::encode_all(&text[6..], 1).unwrap(),
    ]
    .concat();
    assert_eq!(load_csv(two, &csv_options(Task::Binary)).unwrap(), plain);
    let cut = load_csv(zstd[..zstd.len() - 3].to_vec(), &csv_options(Task::Binary));
    assert_error("cut", cut, &["a.csv"]);
    let bomb = zstd::encode_all(std::io::repeat(b'1').take(100 << 20), 3).unwrap();
    assert_error(
        "bomb",
        load_csv(bomb, &csv_options(Task::Binary)),
        &["a.csv"],
    );
}
