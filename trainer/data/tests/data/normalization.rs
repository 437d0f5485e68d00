//! T17: what is fitted is fitted on training rows, and travels.

use trainyard_core::facts::DataFacts;
use trainyard_core::sampling::{self, Shares, SplitBy};
use trainyard_data::{
    ColumnKind, HeldOut, InputKind, InputSchema, Limits, Normalization, SourceSpec, Task,
    encode_labels, load,
};

use crate::common::{
    Memory, csv_options, edit, encode_array, encode_csv, load_csv, load_npy, npy, npy_options,
};

/// Mean and population standard deviation by the textbook.
fn reference(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (
        mean,
        (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt(),
    )
}

fn value(row: usize) -> f64 {
    ((row * 37 + 11) % 101) as f64 / 7.0 - 3.0
}

fn text(rows: usize, row_value: impl Fn(usize) -> f64) -> String {
    let rows = (0..rows).map(|r| format!("{},{},{}\n", row_value(r), r % 3, r % 2));
    std::iter::once("a,c,y\n".to_owned()).chain(rows).collect()
}

fn numeric(schema: &InputSchema) -> (f64, f64) {
    match &schema.input {
        InputKind::Columns(columns) => match columns.columns[0].kind {
            ColumnKind::Numeric { mean, std, .. } => (mean, std),
            _ => panic!("not numeric"),
        },
        _ => panic!("not columns"),
    }
}

/// Training and validation rows.
fn set_aside(seed: u64, validation: f64, by: SplitBy<'_>) -> (Vec<u32>, Vec<u32>) {
    let shares = Shares {
        validation: Some(validation),
        test: None,
    };
    let parts = sampling::split(seed, shares, by).unwrap();
    (parts.train, parts.validation)
}

#[test]
fn t17_columns_are_fitted_on_training_rows_alone() {
    let mut options = csv_options(Task::Binary);
    options.validation = HeldOut::Fraction(0.25);
    let rows = 200;
    let data = load_csv(text(rows, value), &options).unwrap();
    let (train, validation) = set_aside(7, 0.25, SplitBy::Random(rows as u64));
    assert_eq!(data.facts.train_rows, train.len() as u64);
    assert_eq!(data.facts.validation_rows, validation.len() as u64);

    let values: Vec<f64> = train.iter().map(|&r| value(r as usize)).collect();
    let (mean, std) = numeric(&data.facts.schema);
    assert_eq!((mean, std), reference(&values));
    for (table, rows) in [
        (&data.train, &train),
        (data.validation.as_ref().unwrap(), &validation),
    ] {
        for (i, &row) in rows.iter().enumerate() {
            let expected = ((value(row as usize) - mean) / std) as f32;
            assert_eq!(table.row(i)[0].to_bits(), expected.to_bits(), "row {row}");
            assert_eq!(table.labels[i], (row % 2) as f32);
        }
    }

    // Whatever stands in the validation rows, the fit and the training tensors stay as they are.
    let other = |r: usize| {
        if validation.contains(&(r as u32)) {
            1e6
        } else {
            value(r)
        }
    };
    let changed = load_csv(text(rows, other), &options).unwrap();
    assert_eq!(changed.facts.schema, data.facts.schema);
    assert_eq!(changed.train, data.train);
    assert_ne!(changed.facts.digest, data.facts.digest);
}

#[test]
fn t17_categories_and_fill_values_come_from_training_rows_alone() {
    let rows = 40;
    let (_, validation) = set_aside(7, 0.25, SplitBy::Random(rows));
    let hidden = validation[0] as u64;
    let lines: String = (0..rows)
        .map(|r| match r == hidden {
            true => "1000,ghost,1\n".to_owned(),
            false => format!(
                "{},k{},{}\n",
                if r == 3 { String::new() } else { "2".into() },
                r % 3,
                r % 2
            ),
        })
        .collect();
    let mut options = csv_options(Task::Binary);
    options.validation = HeldOut::Fraction(0.25);
    edit(&mut options, |csv| {
        csv.categorical = vec!["c".into()];
        csv.missing = trainyard_data::MissingPolicy::Mean;
    });
    let data = load_csv(format!("a,c,y\n{lines}"), &options).unwrap();
    let json = serde_json::to_value(&data.facts.schema).unwrap();
    let columns = &json["input"]["columns"]["columns"];
    assert_eq!(columns[0]["fill"], 2.0);
    assert_eq!(
        columns[1]["categories"],
        serde_json::json!(["k0", "k1", "k2"])
    );
    let told = data.warnings.last().expect("warnings");
    assert!(told.contains("\"ghost\""), "{told}");
}

#[test]
fn t17_images_are_fitted_by_channel_and_tables_by_column() {
    let pixels: Vec<u8> = (0..48u32).map(|i| (i * i % 251) as u8).collect();
    let labels = npy("|u1", false, "(4,)", &[0, 1, 0, 1]);
    let options = npy_options(Task::Binary);
    let images = npy("|u1", false, "(4, 3, 2, 2)", &pixels);
    let data = load_npy(images, labels.clone(), &options).unwrap();
    let InputKind::Array(array) = &data.facts.schema.input else {
        panic!("not an array")
    };
    assert_eq!(
        (array.shape.as_slice(), array.mean.len()),
        (&[3u64, 2, 2][..], 3)
    );
    for channel in 0..3 {
        let values: Vec<f64> = (0..48)
            .filter(|i| i / 4 % 3 == channel)
            .map(|i| f64::from(pixels[i]))
            .collect();
        assert_eq!(
            (array.mean[channel], array.std[channel]),
            reference(&values)
        );
    }
    let (mean, std) = (array.mean[1], array.std[1]);
    assert_eq!(
        data.train.row(2)[5],
        ((f64::from(pixels[29]) - mean) / std) as f32
    );

    let table = npy("|u1", false, "(4, 12)", &pixels);
    let data = load_npy(table, labels, &options).unwrap();
    let InputKind::Array(array) = &data.facts.schema.input else {
        panic!("not an array")
    };
    for column in 0..12 {
        let values: Vec<f64> = (0..4)
            .map(|row| f64::from(pixels[row * 12 + column]))
            .collect();
        assert_eq!((array.mean[column], array.std[column]), reference(&values));
    }
}

#[test]
fn t17_a_constant_column_becomes_zeros() {
    // The mean of ten times 0.1, summed and divided, is not 0.1.
    let rows = "0.1,0\n0.1,1\n".repeat(5);
    let data = load_csv(format!("a,y\n{rows}"), &csv_options(Task::Binary)).unwrap();
    assert_eq!(numeric(&data.facts.schema), (0.1, 1.0));
    assert!(data.train.features.iter().all(|&v| v == 0.0));
    let tiny = load_csv("a,y\n0,0\n1e-320,1\n", &csv_options(Task::Binary)).unwrap();
    assert_eq!(numeric(&tiny.facts.schema).1, 1.0);
}

#[test]
fn t17_without_normalization_values_stay() {
    let mut options = csv_options(Task::Binary);
    options.normalization = Normalization::None;
    let data = load_csv("a,y\n0.1,0\n-3e38,1\n", &options).unwrap();
    assert_eq!(data.train.features, [0.1, -3e38]);
}

#[test]
fn t17_the_fit_travels_as_json_to_the_same_bits() {
    let mut options = csv_options(Task::Binary);
    options.validation = HeldOut::Fraction(0.3);
    edit(&mut options, |csv| csv.categorical = vec!["c".into()]);
    let text = text(90, |r| value(r) / 3.0 + 1e-3);
    let data = load_csv(text.clone(), &options).unwrap();
    let json = serde_json::to_string(&data.facts).unwrap();
    let facts: DataFacts = serde_json::from_str(&json).unwrap();
    assert_eq!(facts, data.facts);

    let encoded = encode_csv(&facts.schema, "a.csv", text.as_bytes(), &Limits::default()).unwrap();
    let (train, validation) = set_aside(7, 0.3, SplitBy::Random(90));
    for (table, rows) in [
        (&data.train, train),
        (data.validation.as_ref().unwrap(), validation),
    ] {
        for (i, row) in rows.into_iter().enumerate() {
            let bits = |row: &[f32]| row.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(table.row(i)), bits(encoded.table.row(row as usize)));
            assert_eq!(table.labels[i], encoded.table.labels[row as usize]);
        }
    }
}

#[test]
fn t17_arrays_encode_for_prediction_to_the_same_bits() {
    let pixels: Vec<u8> = (0..60u32).map(|i| (i * 73 % 256) as u8).collect();
    let features = npy("|u1", false, "(5, 3, 4)", &pixels);
    let labels = npy("|u1", false, "(5,)", &[2, 0, 2, 1, 0]);
    let data = load_npy(
        features.clone(),
        labels.clone(),
        &npy_options(Task::Multiclass),
    )
    .unwrap();
    let limits = Limits::default();
    let encoded = encode_array(&data.facts.schema, "x", features.as_slice(), &limits).unwrap();
    assert_eq!(encoded.table.features, data.train.features);
    assert_eq!((encoded.table.rows, encoded.table.width), (5, 12));
    let encoded = encode_labels(&data.facts.schema, "y", labels.as_slice(), &limits).unwrap();
    assert_eq!(encoded.encoded, data.train.labels);
}

#[test]
fn the_digest_covers_data_options_and_nothing_else() {
    let spec = csv_options(Task::Binary).train;
    let digest = |text: &str, change: &dyn Fn(&mut trainyard_data::LoadOptions)| {
        let mut options = csv_options(Task::Binary);
        change(&mut options);
        load(&Memory::default().with("a.csv", text), &options)
            .unwrap()
            .facts
            .digest
    };
    let text = "a,b,y\n1,2,0\n2,1,1\n4,5,0\n7,1,1\n";
    let base = digest(text, &|_| {});
    assert_eq!(base.len(), 64);
    assert_eq!(base, digest(&text.replace('\n', "\r\n"), &|_| {}));
    assert_eq!(base, digest(text, &|o| o.seed = 99), "the seed only splits");
    let different = [
        digest(&text.replace("7,1,1", "7,1,0"), &|_| {}),
        digest(&text.replace("7,1,1", "8,1,1"), &|_| {}),
        digest(&text.replace("a,b,y", "a,z,y"), &|_| {}),
        digest(text, &|o| o.normalization = Normalization::None),
        digest(text, &|o| o.validation = HeldOut::Fraction(0.25)),
        digest(text, &|o| {
            o.validation = HeldOut::Source(SourceSpec::clone(&spec))
        }),
        digest(text, &|o| edit(o, |csv| csv.exclude = vec!["b".into()])),
    ];
    for (i, other) in different.iter().enumerate() {
        assert_ne!(&base, other, "case {i}");
    }
}
