//! Rows that are made from a schema.

use proptest::prelude::*;
use trainyard_data::{
    Cells, ColumnType, Dataset, DatePart, InputKind, Limits, Missing, MissingPolicy, Normalization,
    Outcome, Rows, Task, encode_each, golden_array, golden_cells,
};

use crate::common::{
    column, csv_options, edit, encode_all, encode_csv, load_csv, load_npy, npy, npy_options,
};

const TABLE: &str = "amount,zone,size,sold,seen,paid,left,y\n\
    1.5,a,S,03.02.2020,2020-02-03T10:00:00,yes,1,1\n\
    2.5,b,M,04.02.2021,2021-02-04T11:30:00,no,2,2\n\
    -7,c,L,05.11.2022,2022-11-05T23:59:59,yes,3,3\n\
    1e3,a,S,06.12.2023,2023-12-06T00:00:00,no,4,4\n";

/// A table with a column of each type, each with another policy for missing values.
fn every_type() -> Dataset {
    let mut options = csv_options(Task::Regression);
    options.normalization = Normalization::Standardize;
    edit(&mut options, |csv| {
        csv.columns = vec![
            column("amount", |c| {
                c.missing = Some(Missing::Median);
                c.missing_indicator = true;
            }),
            column("size", |c| {
                c.kind = Some(ColumnType::Ordinal);
                c.categories = ["S", "M", "L", "XL"].map(str::to_owned).to_vec();
            }),
            column("sold", |c| {
                c.kind = Some(ColumnType::Date);
                c.date_format = Some("%d.%m.%Y".into());
                c.date_parts = vec![DatePart::Elapsed, DatePart::Month];
            }),
            column("left", |c| c.missing = Some(Missing::DropRow)),
        ];
        csv.missing_values = vec!["?".into()];
    });
    load_csv(TABLE, &options).unwrap()
}

fn cells(data: &Dataset) -> Cells {
    match &data.facts.schema.input {
        InputKind::Columns(input) => golden_cells(input),
        InputKind::Array(_) => panic!("columns"),
    }
}

/// What becomes of each row, for each column whose text is `text`.
fn of_text<'a>(
    cells: &'a Cells,
    outcomes: &'a [Outcome],
    name: &str,
    text: &str,
) -> Vec<&'a Outcome> {
    let place = cells
        .columns
        .iter()
        .position(|column| column == name)
        .unwrap();
    let rows = cells.rows.iter().zip(outcomes);
    rows.filter(|(row, _)| row[place] == text)
        .map(|(_, outcome)| outcome)
        .collect()
}

#[test]
fn c38_golden_rows_have_every_category_and_what_is_missing_unknown_and_wrong_in_each_column() {
    let data = every_type();
    let cells = cells(&data);
    assert_eq!(cells, self::cells(&every_type()), "the same each time");
    assert!(cells.rows.len() <= 256);
    let outcomes = encode_each(&data.facts.schema, "g", &cells, &Limits::default()).unwrap();
    let is_inputs = |outcome: &&Outcome| matches!(outcome, Outcome::Inputs(_));
    for (name, texts) in [
        ("zone", &["a", "b", "c"][..]),
        ("size", &["S", "M", "L", "XL"]),
        ("paid", &["true", "false"]),
    ] {
        for text in texts {
            let found = of_text(&cells, &outcomes, name, text);
            assert!(found.iter().any(is_inputs), "{name} {text}");
        }
    }
    // Once with nothing and once with a mark.
    for missing in ["", "?"] {
        assert!(
            of_text(&cells, &outcomes, "amount", missing)
                .iter()
                .all(is_inputs)
        );
        assert_eq!(
            of_text(&cells, &outcomes, "left", missing),
            [&Outcome::LeftOut]
        );
        for name in ["size", "sold", "seen", "paid"] {
            match of_text(&cells, &outcomes, name, missing)[..] {
                [Outcome::Refused(error)] => {
                    assert_eq!(error.column.as_deref(), Some(name), "{error}")
                }
                ref other => panic!("{name}: {other:?}"),
            }
        }
    }
    assert!(
        of_text(&cells, &outcomes, "zone", "unseen")
            .iter()
            .all(is_inputs)
    );
    for name in ["amount", "size", "sold", "seen", "paid", "left"] {
        match of_text(&cells, &outcomes, name, "no such value")[..] {
            [Outcome::Refused(error)] => {
                assert_eq!(error.column.as_deref(), Some(name), "{error}");
                assert!(
                    error.to_string().starts_with("g: row 0 (from 0): column"),
                    "{error}"
                );
            }
            ref other => panic!("{name}: {other:?}"),
        }
    }
}

/// Texts give the bits that a CSV file with them gives.
#[test]
fn c38_cells_are_encoded_as_a_file_with_them() {
    let data = every_type();
    let schema = &data.facts.schema;
    let all = cells(&data);
    let limits = Limits::default();
    let outcomes = encode_each(schema, "g", &all, &limits).unwrap();
    let good: Vec<(Vec<String>, Vec<f32>)> = all
        .rows
        .iter()
        .zip(outcomes)
        .filter_map(|(row, outcome)| match outcome {
            Outcome::Inputs(inputs) => Some((row.clone(), inputs)),
            Outcome::Refused(_) | Outcome::LeftOut => None,
        })
        .collect();
    assert!(good.len() >= 10, "{}", good.len());
    let mut text = all.columns.join(",");
    for (row, _) in &good {
        text += &format!("\n{}", row.join(","));
    }
    let file = encode_csv(schema, "p.csv", text.as_bytes(), &limits).unwrap();
    let expected: Vec<f32> = good.iter().flat_map(|(_, inputs)| inputs.clone()).collect();
    assert_eq!(file.table.features, expected);
    let rows = good.iter().map(|(row, _)| row.clone()).collect();
    let cells = Cells {
        columns: all.columns,
        rows,
    };
    let together = encode_all(Rows::cells(schema, "g", &cells, &limits).unwrap())
        .unwrap()
        .0;
    assert_eq!(together.table.features, expected);
    let ragged = Cells {
        columns: vec!["amount".into(), "zone".into()],
        rows: vec![vec!["1".into()]],
    };
    let error = Rows::cells(schema, "g", &ragged, &limits)
        .map(|_| ())
        .unwrap_err();
    assert!(
        error.to_string().contains("expected 2 values, found 1"),
        "{error}"
    );
    let few = Cells {
        columns: vec!["amount".into()],
        rows: vec![vec!["1".into()]],
    };
    let error = encode_each(schema, "g", &few, &limits).unwrap_err();
    assert!(error.to_string().contains("zone"), "{error}");
}

#[test]
fn c38_golden_rows_are_written_as_the_files_of_the_model_are() {
    let mut options = csv_options(Task::Regression);
    options.normalization = Normalization::Standardize;
    edit(&mut options, |csv| {
        csv.delimiter = b';';
        csv.decimal = b',';
        csv.headerless = true;
        csv.label = "column 3".into();
        csv.missing = MissingPolicy::Impute;
    });
    let data = load_csv("1,5;a;1\n2,25;b;2\n-1,125;a;3\n", &options).unwrap();
    let cells = cells(&data);
    assert_eq!(cells.columns, ["column 1", "column 2"]);
    assert_eq!(cells.rows[0], ["0,875", "a"]);
    let outcomes = encode_each(&data.facts.schema, "g", &cells, &Limits::default()).unwrap();
    let refused = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Outcome::Refused(_)));
    assert_eq!(refused.count(), 1, "{outcomes:?}");
}

#[test]
fn c38_golden_rows_of_arrays_are_bytes_or_numbers_of_their_scale() {
    let labels = || npy("|u1", false, "(3,)", &[1, 2, 3]);
    let bytes = load_npy(
        npy(
            "|u1",
            false,
            "(3, 2, 2)",
            &[0, 50, 100, 150, 200, 250, 0, 1, 2, 3, 4, 5],
        ),
        labels(),
        &npy_options(Task::Multiclass),
    )
    .unwrap();
    let floats: Vec<u8> = [1e6f32, -3.0, 2e6, 4.0, 3e6, 5.0]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let floats = load_npy(
        npy("<f4", false, "(3, 2)", &floats),
        labels(),
        &npy_options(Task::Regression),
    )
    .unwrap();
    for (data, dtype, rows, size) in [(bytes, "u1", 32, 1), (floats, "f4", 32, 4)] {
        let InputKind::Array(input) = &data.facts.schema.input else {
            panic!("an array")
        };
        let raw = golden_array(input);
        assert_eq!((raw.dtype.as_str(), raw.shape[0]), (dtype, rows));
        assert_eq!(raw.bytes.len(), rows as usize * input.width() * size);
        let limits = Limits::default();
        let rows = Rows::raw_array(&data.facts.schema, "g", raw.clone(), &limits).unwrap();
        let encoded = encode_all(rows).unwrap().0;
        assert_eq!(encoded.table.rows, 32);
        assert!(encoded.table.features.iter().any(|value| value.abs() > 0.5));
        assert!(encoded.table.features.iter().all(|value| value.abs() < 4.0));
        for wrong in [vec![0; 3], Vec::new()] {
            let wrong = trainyard_data::RawArray {
                bytes: wrong,
                ..raw.clone()
            };
            let error = Rows::raw_array(&data.facts.schema, "g", wrong, &limits)
                .map(|_| ())
                .unwrap_err();
            assert!(error.to_string().contains("bytes of data"), "{error}");
        }
    }
}

proptest! {
    /// Whatever the categories and the numbers of a table are, each golden row has a result, and those of ordinary values are inputs.
    #[test]
    fn c38_golden_rows_fit_any_table(
        numbers in proptest::collection::vec(prop_oneof![-1e30..1e30f64, -1.0..1.0f64, Just(0.0)], 3..12),
        texts in proptest::collection::vec("[ -~é]{0,4}", 3..12),
        few in 1usize..4,
    ) {
        let mut csv = "a,b,c,y\n".to_owned();
        for (place, number) in numbers.iter().enumerate() {
            let text = &texts[place % texts.len()];
            csv += &format!("{number},\"{}\",k{},{place}\n", text.replace('"', "\"\""), place % few);
        }
        let mut options = csv_options(Task::Regression);
        options.normalization = Normalization::Standardize;
        edit(&mut options, |csv| {
            csv.categorical = vec!["b".into(), "c".into()];
            csv.missing = MissingPolicy::Mean;
        });
        let Ok(data) = load_csv(csv, &options) else { return Ok(()) };
        let cells = cells(&data);
        let outcomes = encode_each(&data.facts.schema, "g", &cells, &Limits::default()).unwrap();
        prop_assert_eq!(outcomes.len(), cells.rows.len());
        let refused = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Refused(_)));
        prop_assert_eq!(refused.count(), 1, "the number that is none: {:?}", outcomes);
    }
}
