//! What is accepted, and what it becomes.

use trainyard_data::{
    Dataset, HeldOut, MissingPolicy, Normalization, SourceSpec, TableOptions, Task, load,
};

use crate::common::{
    Memory, assert_error, csv_options, edit, encode_csv, f32s, gzip, idx, load_csv, load_npy, npy,
    npy_options, npy_raw, options,
};

#[test]
fn t15_marks_line_ends_quotes_and_blanks_do_not_change_the_table() {
    let plain = "a,b,y\n1,2,u\n3,5,v\n-4,1e2,u\n";
    let options = csv_options(Task::Binary);
    let expected = load_csv(plain, &options).unwrap();
    assert_eq!(expected.train.labels, [0.0, 1.0, 0.0]);
    assert_eq!(expected.facts.schema.label.classes, ["u", "v"]);
    let variants: &[Vec<u8>] = &[
        [b"\xef\xbb\xbf", plain.as_bytes()].concat(),
        plain.replace('\n', "\r\n").into(),
        plain.replace('\n', "\r").into(),
        plain.trim_end().into(),
        plain.replace('\n', "\n\n\r\n").into(),
        plain.replace(',', " ,  ").into(),
        plain.replace("3,5,v", "\"3\",\"\n5\r\n\",\"v\"").into(),
        plain.replace("a,b,y", "\"a\",\"b\",\"y\"").into(),
        plain.replace("-4,1e2", "-4.0,+100").into(),
        gzip(plain.as_bytes()),
        [gzip(&plain.as_bytes()[..9]), gzip(&plain.as_bytes()[9..])].concat(),
    ];
    for variant in variants {
        let loaded = load_csv(variant.clone(), &options).unwrap();
        assert_eq!(loaded, expected, "{:?}", String::from_utf8_lossy(variant));
    }
    for delimiter in [b';', b'\t', b'|', b' '] {
        let mut options = options.clone();
        edit(&mut options, |csv| csv.delimiter = delimiter);
        let text = plain.replace(',', std::str::from_utf8(&[delimiter]).unwrap());
        assert_eq!(load_csv(text, &options).unwrap().train, expected.train);
    }
}

#[test]
fn names_and_categories_may_hold_anything_that_quotes_can_hold() {
    let text = "\"size, \"\"in\"\"\ncm\",c,y\n1,\"a,\"\"b\"\"\n\",0\n2,5\" disk,1\n";
    let mut options = csv_options(Task::Binary);
    edit(&mut options, |csv| csv.categorical = vec!["c".into()]);
    let data = load_csv(text, &options).unwrap();
    let schema = serde_json::to_value(&data.facts.schema).unwrap();
    let columns = &schema["input"]["columns"]["columns"];
    assert_eq!(columns[0]["name"], "size, \"in\"\ncm");
    assert_eq!(
        columns[1]["categories"],
        serde_json::json!(["5\" disk", "a,\"b\""])
    );
    assert_eq!(data.train.row(0), [-1.0, 0.0, 1.0]);
    assert_eq!(data.train.row(1), [1.0, 1.0, 0.0]);
}

#[test]
fn classes_are_sorted_by_value_if_numbers_and_by_bytes_otherwise() {
    let classes = |labels: &[&str]| {
        let rows: String = labels.iter().map(|label| format!("1,{label}\n")).collect();
        let data = load_csv(format!("a,y\n{rows}"), &csv_options(Task::Multiclass)).unwrap();
        assert_eq!(
            data.facts.outputs,
            data.facts.schema.label.classes.len() as u64
        );
        (data.facts.schema.label.classes, data.train.labels)
    };
    let (names, labels) = classes(&["10", "9", "-1.5", "9.0", "-0", "0"]);
    assert_eq!(names, ["-1.5", "0", "9", "10"]);
    assert_eq!(labels, [3.0, 2.0, 0.0, 2.0, 1.0, 1.0]);
    let (names, labels) = classes(&["b", "10", "9", "B"]);
    assert_eq!(names, ["10", "9", "B", "b"]);
    assert_eq!(labels, [3.0, 0.0, 1.0, 2.0]);
    // As f64 these two are one number; as classes they are two.
    let (names, _) = classes(&["9007199254740993", "9007199254740992"]);
    assert_eq!(names.len(), 2);
}

#[test]
fn missing_values_follow_the_policy() {
    let text = "a,c,y\n1,u,0\nNA,v,1\n5,,1\n3,u,\n";
    let policy = |missing| {
        let mut options = csv_options(Task::Binary);
        options.normalization = Normalization::None;
        edit(&mut options, |csv| {
            csv.categorical = vec!["c".into()];
            csv.missing = missing;
        });
        options
    };
    let dropped = load_csv(format!("{text}4,w,1\n"), &policy(MissingPolicy::DropRow)).unwrap();
    assert_eq!(dropped.train.features, [1.0, 1.0, 0.0, 4.0, 0.0, 1.0]);
    assert_eq!(dropped.train.labels, [0.0, 1.0]);
    let text = text.replace("3,u,\n", "3,u,0\n");
    let filled = load_csv(text, &policy(MissingPolicy::Mean)).unwrap();
    let expected = [1.0, 1.0, 0.0, 3.0, 0.0, 1.0, 5.0, 0.0, 0.0, 3.0, 1.0, 0.0];
    assert_eq!(filled.train.features, expected);
}

#[test]
fn a_dropped_row_adds_no_class_and_no_category() {
    let mut options = csv_options(Task::Multiclass);
    edit(&mut options, |csv| {
        csv.categorical = vec!["c".into()];
        csv.missing = MissingPolicy::DropRow;
    });
    let data = load_csv("a,c,y\n1,u,0\n,ghost,9\n2,v,1\n", &options).unwrap();
    assert_eq!(data.facts.schema.label.classes, ["0", "1"]);
    assert_eq!(data.train.width, 3);
}

#[test]
fn t25_na_in_a_categorical_column_is_a_missing_value_as_in_one_of_numbers() {
    let options = |missing: MissingPolicy, na_is_missing: bool| {
        let mut options = csv_options(Task::Multiclass);
        edit(&mut options, |csv| {
            csv.categorical = vec!["c".into()];
            csv.missing = missing;
            csv.na_is_missing = na_is_missing;
        });
        options
    };
    let categories = |data: &Dataset| {
        let schema = serde_json::to_value(&data.facts.schema).unwrap();
        schema["input"]["columns"]["columns"][1]["categories"].clone()
    };
    for missing in ["NA", "NaN", "nan"] {
        let text = format!("a,c,y\n1,u,0\n2,{missing},1\n3,v,1\n");
        let error = load_csv(&*text, &options(MissingPolicy::Error, true)).unwrap_err();
        let told = error.to_string();
        assert!(
            told.contains("the value is missing") && told.contains('c'),
            "{told}"
        );
        let dropped = load_csv(&*text, &options(MissingPolicy::DropRow, true)).unwrap();
        assert_eq!(dropped.train.rows, 2);
        assert_eq!(categories(&dropped), serde_json::json!(["u", "v"]));
        let filled = load_csv(&*text, &options(MissingPolicy::Mean, true)).unwrap();
        assert_eq!(filled.train.features[4..6], [0.0, 0.0], "no category");
        // A job that was begun when it was a category keeps it.
        let kept = load_csv(&*text, &options(MissingPolicy::DropRow, false)).unwrap();
        assert_eq!(kept.train.rows, 3);
        assert_eq!(categories(&kept), serde_json::json!([missing, "u", "v"]));
    }
    // Where there is none, the digest of the data is what it was.
    let digest = |na_is_missing: bool| {
        let options = options(MissingPolicy::Error, na_is_missing);
        let data = load_csv("a,c,y\n1,u,0\n2,v,1\n", &options).unwrap();
        data.facts.digest
    };
    assert_eq!(digest(true), digest(false));
    // Rows to predict are read as those of the training.
    for (na_is_missing, rows) in [(true, 1), (false, 2)] {
        let options = options(MissingPolicy::DropRow, na_is_missing);
        let data = load_csv("a,c,y\n1,u,0\n2,v,1\n", &options).unwrap();
        let text = "a,c\n1,NA\n2,u\n".as_bytes();
        let encoded = encode_csv(&data.facts.schema, "p.csv", text, &options.limits).unwrap();
        assert_eq!(encoded.table.rows, rows);
    }
}

#[test]
fn t25_columns_without_a_name_are_used_if_asked_for() {
    let options = |change: fn(&mut TableOptions)| {
        let mut options = csv_options(Task::Regression);
        edit(&mut options, |csv| {
            csv.unnamed = true;
            change(csv);
        });
        options
    };
    let text = ",a,,y\n1,u,3,5\n2,v,4,6\n";
    let all = options(|csv| csv.categorical = vec!["a".into()]);
    let data = load_csv(text, &all).unwrap();
    let names = |data: &Dataset| {
        let schema = serde_json::to_value(&data.facts.schema).unwrap();
        let columns = schema["input"]["columns"]["columns"]
            .as_array()
            .unwrap()
            .clone();
        let names = columns
            .into_iter()
            .map(|column| column["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<String>>()
    };
    assert_eq!(names(&data), ["column 1", "a", "column 3"]);
    assert!(data.warnings.is_empty(), "{:?}", data.warnings);
    let encoded = encode_csv(&data.facts.schema, "p.csv", text.as_bytes(), &all.limits).unwrap();
    assert_eq!(encoded.table.features, data.train.features);
    // A file to predict may name them.
    let renamed = "column 3,column 1,a\n3,1,u\n4,2,v\n".as_bytes();
    let encoded = encode_csv(&data.facts.schema, "p.csv", renamed, &all.limits).unwrap();
    assert_eq!(encoded.table.features, data.train.features);

    let some = options(|csv| {
        csv.exclude = vec!["column 1".into(), "a".into()];
        csv.label = "column 3".into();
    });
    assert_eq!(names(&load_csv(text, &some).unwrap()), ["y"]);
    let unasked = options(|csv| {
        csv.unnamed = false;
        csv.label = "column 3".into();
    });
    let hint =
        "column 3 has no name in the header: it is left out, unless `unnamedColumns` is Include";
    assert_error(
        "not asked for",
        load_csv(text, &unasked),
        &["no column is named \"column 3\"", hint],
    );
    let taken = load_csv(",column 1,y\n1,2,3\n", &options(|_| ()));
    assert_error(
        "taken",
        taken,
        &[
            "a.csv:1:",
            "column 1 has no name, and another is called that",
        ],
    );
}

#[test]
fn excluded_columns_may_hold_anything() {
    let mut options = csv_options(Task::Regression);
    edit(&mut options, |csv| csv.exclude = vec!["note".into()]);
    let data = load_csv("a,note,y\n1,x,2.5\n2,,-7\n", &options).unwrap();
    assert_eq!(data.train.labels, [2.5, -7.0]);
    assert_eq!(data.facts.outputs, 1);
}

#[test]
fn every_element_type_and_order_gives_the_same_table() {
    let values = [[1i8, 2, 3], [40, 50, 61]];
    let labels = npy("|b1", false, "(2,)", &[0, 1]);
    let options = npy_options(Task::Binary);
    let flat: Vec<i8> = values.concat();
    fn bytes<const N: usize>(values: &[i8], to: impl Fn(i8) -> [u8; N]) -> Vec<u8> {
        values.iter().flat_map(|&v| to(v)).collect()
    }
    let expected = load_npy(
        npy("|i1", false, "(2, 3)", &bytes(&flat, i8::to_le_bytes)),
        labels.clone(),
        &options,
    )
    .unwrap();
    assert_eq!(expected.train.width, 3);
    let by_column: Vec<i8> = (0..3).flat_map(|c| values.map(|row| row[c])).collect();
    let cases = [
        npy("|u1", false, "(2, 3)", &bytes(&flat, i8::to_le_bytes)),
        npy(
            "<i2",
            false,
            "(2, 3)",
            &bytes(&flat, |v| i16::from(v).to_le_bytes()),
        ),
        npy(
            ">i2",
            false,
            "(2, 3)",
            &bytes(&flat, |v| i16::from(v).to_be_bytes()),
        ),
        npy(
            "<u4",
            false,
            "(2, 3)",
            &bytes(&flat, |v| (v as u32).to_le_bytes()),
        ),
        npy(
            "<i8",
            false,
            "(2, 3)",
            &bytes(&flat, |v| i64::from(v).to_le_bytes()),
        ),
        npy(
            "<f4",
            false,
            "(2, 3)",
            &bytes(&flat, |v| f32::from(v).to_le_bytes()),
        ),
        npy(
            ">f8",
            false,
            "(2, 3)",
            &bytes(&flat, |v| f64::from(v).to_be_bytes()),
        ),
        npy(
            "<f8",
            true,
            "(2, 3)",
            &bytes(&by_column, |v| f64::from(v).to_le_bytes()),
        ),
        npy_raw(
            "{\"shape\": (2L, 3L,), \"fortran_order\":False,'descr':'|u1'}",
            &bytes(&flat, i8::to_le_bytes),
        ),
        gzip(&npy("|u1", false, "(2, 3)", &bytes(&flat, i8::to_le_bytes))),
    ];
    for (case, file) in cases.into_iter().enumerate() {
        let data = load_npy(file, labels.clone(), &options).unwrap();
        assert_eq!(data.train, expected.train, "case {case}");
    }
}

#[test]
fn fortran_images_are_reordered() {
    let shape = [2usize, 3, 2, 4];
    let value = |n: usize, c: usize, h: usize, w: usize| (n * 100 + c * 30 + h * 10 + w) as u8;
    let mut by_row = Vec::new();
    let mut by_column = Vec::new();
    for i in 0..shape.iter().product() {
        let [n, c, h, w] = [i / 24, i / 8 % 3, i / 4 % 2, i % 4];
        by_row.push(value(n, c, h, w));
        let [n, c, h, w] = [i % 2, i / 2 % 3, i / 6 % 2, i / 12];
        by_column.push(value(n, c, h, w));
    }
    let labels = npy("|u1", false, "(2, 1)", &[4, 2]);
    let options = npy_options(Task::Binary);
    let plain = npy("|u1", false, "(2, 3, 2, 4)", &by_row);
    let expected = load_npy(plain, labels.clone(), &options).unwrap();
    let turned = npy("|u1", true, "(2, 3, 2, 4)", &by_column);
    assert_eq!(load_npy(turned, labels, &options).unwrap(), expected);
    assert_eq!(expected.facts.input_shape, [3, 2, 4]);
    assert_eq!(expected.train.labels, [1.0, 0.0]);
}

#[test]
fn idx_and_npy_agree() {
    let pixels: Vec<u8> = (0..24).collect();
    let source = SourceSpec::Idx {
        images: "x".into(),
        labels: "y".into(),
    };
    let files = Memory::default()
        .with("x", gzip(&idx(8, &[4, 2, 3], &pixels)))
        .with("y", idx(8, &[4], &[7, 1, 7, 3]));
    let from_idx = load(&files, &options(Task::Multiclass, source)).unwrap();
    let features = npy("|u1", false, "(4, 1, 2, 3)", &pixels);
    let labels = npy(
        "<i8",
        false,
        "(4,)",
        &[7i64, 1, 7, 3].map(i64::to_le_bytes).concat(),
    );
    let from_npy = load_npy(features, labels, &npy_options(Task::Multiclass)).unwrap();
    assert_eq!(from_idx, from_npy);
    assert_eq!(from_idx.facts.input_shape, [1, 2, 3]);
    assert_eq!(from_idx.facts.schema.label.classes, ["1", "3", "7"]);
    assert_eq!(from_idx.train.labels, [2.0, 0.0, 2.0, 1.0]);
}

#[test]
fn an_unknown_category_is_all_zeros_and_told() {
    let mut options = csv_options(Task::Binary);
    edit(&mut options, |csv| csv.categorical = vec!["c".into()]);
    options.validation = HeldOut::Source(SourceSpec::Table(TableOptions::csv("v.csv", "y")));
    let files = Memory::default()
        .with("a.csv", "c,y\nu,0\nv,1\n")
        .with("v.csv", "y,extra,c\n1,?,v\n0,?,w\n0,?,w\n");
    let data = load(&files, &options).unwrap();
    let validation = data.validation.unwrap();
    assert_eq!(validation.features, [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(validation.labels, [1.0, 0.0, 0.0]);
    let told = data.warnings.last().expect("warnings");
    for fragment in [
        "v.csv: ",
        "2 values of column \"c\"",
        "\"w\" in column \"c\" on line 3",
        "zeros",
    ] {
        assert!(told.contains(fragment), "{told}");
    }
}

#[test]
fn t15_the_positive_class_can_be_named() {
    let fitted = |text: &str, positive: Option<&str>| {
        let mut options = csv_options(Task::Binary);
        options.positive = positive.map(str::to_owned);
        let data = load_csv(text, &options)?;
        Ok((
            data.facts.schema.positive().map(str::to_owned),
            data.train.labels,
        ))
    };
    let words = "a,y\n1,churned\n2,stayed\n3,churned\n";
    let numbers = "a,y\n1,0\n2,1.0\n3,0.0\n";
    for (text, positive, class, labels) in [
        (words, None, "stayed", [0.0, 1.0, 0.0]),
        (words, Some("stayed"), "stayed", [0.0, 1.0, 0.0]),
        (words, Some("churned"), "churned", [1.0, 0.0, 1.0]),
        (numbers, None, "1", [0.0, 1.0, 0.0]),
        (numbers, Some("0"), "0", [1.0, 0.0, 1.0]),
        (numbers, Some("0.0"), "0", [1.0, 0.0, 1.0]),
    ] {
        let found = fitted(text, positive).expect("a dataset");
        assert_eq!(
            found,
            (Some(class.to_owned()), labels.to_vec()),
            "{positive:?}"
        );
    }
    assert_error(
        "no class",
        fitted(words, Some("Churned")),
        &[
            "`positive` is \"Churned\"",
            "\"churned\", \"stayed\"",
            "name one of them",
        ],
    );
}

#[test]
fn gather_copies_the_rows_named() {
    let features = npy(
        "<f4",
        false,
        "(3, 2)",
        &f32s(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    );
    let labels = npy("<f4", false, "(3,)", &f32s(&[0.5, 1.5, 2.5]));
    let mut options = npy_options(Task::Regression);
    options.normalization = Normalization::None;
    let table = load_npy(features, labels, &options).unwrap().train;
    let (mut features, mut labels) = (vec![9.0; 99], vec![9.0; 99]);
    table.gather(&[2, 0, 2], &mut features);
    table.gather_labels(&[2, 0, 2], &mut labels);
    assert_eq!(features, [5.0, 6.0, 1.0, 2.0, 5.0, 6.0]);
    assert_eq!(labels, [2.5, 0.5, 2.5]);
}

#[test]
fn columns_without_a_name_are_left_out_and_told() {
    let options = csv_options(Task::Binary);
    let plain = load_csv("a,b,y\n1,2,u\n3,5,v\n", &options).unwrap();
    assert_eq!(plain.warnings, [""; 0]);
    // As R and pandas write an index, and as spreadsheets save empty columns.
    let index = load_csv(",a,b,y\n0,1,2,u\n1,3,5,v\n", &options).unwrap();
    let empty = load_csv("a,b,y,, ,\n1,2,u,,,\n3,5,v,,x,\n", &options).unwrap();
    for (data, columns) in [(index, "column 1 has "), (empty, "columns 4, 5, 6 have ")] {
        assert_eq!((&data.train, &data.facts), (&plain.train, &plain.facts));
        let [warning] = &data.warnings[..] else {
            panic!("{:?}", data.warnings)
        };
        assert!(
            warning.starts_with(&format!("a.csv: {columns}no name")),
            "{warning}"
        );
    }
}

#[test]
fn rows_for_prediction_may_lack_their_label() {
    for (task, labels) in [
        (Task::Binary, ["u", "v"]),
        (Task::Regression, ["1.5", "2.5"]),
    ] {
        for missing in [
            MissingPolicy::Error,
            MissingPolicy::Mean,
            MissingPolicy::DropRow,
        ] {
            let mut options = csv_options(task);
            edit(&mut options, |csv| csv.missing = missing);
            let [first, second] = labels;
            let text = format!("a,y\n1,{first}\n2,{second}\n");
            let schema = load_csv(text, &options).unwrap().facts.schema;
            let rows = format!("a,y\n1,\n2,{second}\n3,NA\n");
            let encoded = encode_csv(&schema, "rows", rows.as_bytes(), &options.limits).unwrap();
            assert_eq!(encoded.table.rows, 3, "{missing:?}");
            let known: Vec<bool> = encoded
                .table
                .labels
                .iter()
                .map(|label| !label.is_nan())
                .collect();
            assert_eq!(known, [false, true, false]);
        }
    }
    // Where the model learns or is judged, a label is needed.
    assert_error(
        "blank",
        load_csv("a,y\n1,\n", &csv_options(Task::Binary)),
        &["the label is missing"],
    );
}
