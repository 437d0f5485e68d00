//! Tables in Parquet: the same model as from the same table in CSV.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use trainyard_data::{
    ColumnReport, ColumnType, Dataset, Folder, HeldOut, Limits, LoadOptions, Missing,
    MissingPolicy, Opened, Rows, SourceSpec, SplitRule, TableFormat, TableOptions, TableReport,
    Task, inspect_table, load,
};

use crate::common::{Memory, assert_error, column, encode_csv, options};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn table(format: TableFormat, name: &str, change: impl FnOnce(&mut TableOptions)) -> LoadOptions {
    let mut table = match format {
        TableFormat::Csv => TableOptions::csv(name, "y"),
        TableFormat::Parquet => TableOptions::parquet(name, "y"),
    };
    change(&mut table);
    options(Task::Binary, SourceSpec::Table(table))
}

fn read(options: &LoadOptions) -> Dataset {
    load(&Folder::new(fixture("")), options).unwrap_or_else(|error| panic!("{error}"))
}

/// Values of the columns `a`, `c` and `y`.
type Row = (Option<f64>, Option<&'static str>, i64);

/// A file; each inner list is a row group.
fn write(groups: &[&[Row]]) -> Vec<u8> {
    let schema = "message t { optional double a; optional binary c (UTF8); required int64 y; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    for rows in groups {
        let mut group = writer.next_row_group().unwrap();
        fn put<T: DataType>(
            group: &mut parquet::file::writer::SerializedRowGroupWriter<'_, Vec<u8>>,
            values: &[Option<T::T>],
            optional: bool,
        ) {
            let there: Vec<T::T> = values.iter().flatten().cloned().collect();
            let levels: Vec<i16> = values
                .iter()
                .map(|value| i16::from(value.is_some()))
                .collect();
            let mut column = group.next_column().unwrap().unwrap();
            column
                .typed::<T>()
                .write_batch(&there, optional.then_some(&levels[..]), None)
                .unwrap();
            column.close().unwrap();
        }
        let a: Vec<Option<f64>> = rows.iter().map(|row| row.0).collect();
        let c: Vec<Option<ByteArray>> = rows.iter().map(|row| row.1.map(ByteArray::from)).collect();
        let y: Vec<Option<i64>> = rows.iter().map(|row| Some(row.2)).collect();
        put::<DoubleType>(&mut group, &a, true);
        put::<ByteArrayType>(&mut group, &c, true);
        put::<Int64Type>(&mut group, &y, false);
        group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

/// All types of columns, written by two programs with four codecs, in rows that no row group holds alone.
#[test]
fn c35_a_table_gives_the_same_inputs_in_parquet_and_in_csv() {
    for policy in [MissingPolicy::Impute, MissingPolicy::DropRow] {
        let how = |table: &mut TableOptions| {
            table.missing = policy;
            // Whole numbers as categories, and dates with some parts.
            table.columns = vec![
                column("int8", |column| column.kind = Some(ColumnType::Category)),
                column("flag", |column| {
                    column.missing = Some(Missing::MostFrequent)
                }),
                column("kind", |column| column.missing_indicator = true),
            ];
        };
        let split = |options: LoadOptions| LoadOptions {
            validation: HeldOut::Fraction(0.2),
            split: SplitRule::Stratified,
            ..options
        };
        let expected = read(&split(table(TableFormat::Csv, "same.csv", how)));
        for name in ["snappy", "gzip", "zstd", "lz4", "polars"] {
            for threads in [1, 3] {
                let mut options =
                    split(table(TableFormat::Parquet, &format!("{name}.parquet"), how));
                options.limits.threads = threads;
                let found = read(&options);
                assert_eq!(found.facts.schema, expected.facts.schema, "{name}");
                assert!(found.train == expected.train, "{name}: {policy:?}");
                assert_eq!(found.facts.digest, expected.facts.digest, "{name}");
            }
        }
    }
}

/// What is predicted from Parquet is what is predicted from CSV, part by part, whatever the model was trained on.
#[test]
fn c35_rows_of_parquet_are_predicted_as_those_of_csv() {
    let how = |table: &mut TableOptions| table.missing = MissingPolicy::Impute;
    let schema = read(&table(TableFormat::Parquet, "polars.parquet", how))
        .facts
        .schema;
    let limits = Limits::default();
    let text = fs::read(fixture("same.csv")).unwrap();
    let expected = encode_csv(&schema, "same.csv", &text, &limits).unwrap();
    let opened = |name: &str| Opened::File(fs::File::open(fixture(name)).unwrap());
    let bytes = |name: &str| Opened::Stream(Box::new(fs::File::open(fixture(name)).unwrap()));
    for file in [
        opened("polars.parquet"),
        bytes("snappy.parquet"),
        opened("gzip.parquet"),
    ] {
        let ids = ["kind".to_owned(), "day".to_owned()];
        let mut rows = Rows::parquet(&schema, "p", file, &ids, &limits).unwrap();
        assert!(!rows.have_lines());
        let (mut features, mut labels, mut places, mut kinds) = (vec![], vec![], vec![], vec![]);
        while let Some(part) = rows.next(7).unwrap() {
            kinds.extend((0..part.table.rows).map(|row| part.ids_of(row, 2).to_vec()));
            features.extend(part.table.features);
            labels.extend(part.table.labels);
            places.extend(part.lines);
        }
        assert!(features == expected.table.features && labels == expected.table.labels);
        assert_eq!(places, (0..60).collect::<Vec<u64>>());
        assert_eq!(kinds[3], ["red", "2024-01-04"]);
    }
    // A decimal comma is a matter of texts.
    let comma = "a;y\n1,5;0\n2,5;1\n";
    let mut german = table(TableFormat::Csv, "g.csv", |table| {
        (table.decimal, table.delimiter) = (b',', b';');
    });
    german.normalization = trainyard_data::Normalization::None;
    let schema = load(&Memory::default().with("g.csv", comma), &german)
        .unwrap()
        .facts
        .schema;
    let file = write(&[&[(Some(1.5), None, 0)]]);
    let file = Opened::Stream(Box::new(std::io::Cursor::new(file)));
    let mut rows = Rows::parquet(&schema, "p", file, &[], &limits).unwrap();
    assert_eq!(rows.next(9).unwrap().unwrap().table.features, [1.5]);
}

#[test]
fn c35_several_parquet_files_are_one_table() {
    let one: &[_] = &[(Some(1.0), Some("x"), 0), (None, Some("yes"), 1)];
    let two: &[_] = &[
        (Some(3.0), Some("x"), 1),
        (Some(4.0), None, 0),
        (Some(5.0), Some("x"), 1),
    ];
    let files = Memory::default()
        .with("all", write(&[one, two]))
        .with("p/1", write(&[one]))
        .with("p/2", write(&[two]));
    let read = |uri: &str| {
        let options = table(TableFormat::Parquet, uri, |table| {
            table.missing = MissingPolicy::DropRow
        });
        load(&files, &options).unwrap()
    };
    let (all, parts) = (read("all"), read("p/*"));
    assert!(all.train == parts.train && all.facts == parts.facts);
    assert_eq!(all.train.rows, 3);
    let told = [all.warnings.join("\n"), parts.warnings.join("\n")];
    assert!(told[0].contains("2 rows have a missing value and are left out, of 5 rows; the first is on row 1 (from 0)"), "{told:?}");
    assert!(
        told[1].contains("the first is on row 1 (from 0) of p/1"),
        "{told:?}"
    );
}

#[test]
fn t15_what_is_wrong_in_a_parquet_file_is_told_with_its_row() {
    let good: &[_] = &[
        (Some(1.0), Some("x"), 0),
        (Some(2.0), Some("y"), 1),
        (Some(2.5), Some("x"), 1),
        (Some(2.5), Some("y"), 1),
    ];
    let read = |bytes: Vec<u8>, change: &dyn Fn(&mut TableOptions)| {
        let options = table(TableFormat::Parquet, "t", change);
        load(&Memory::default().with("t", bytes), &options)
    };
    let none = |_: &mut TableOptions| {};
    read(write(&[good]), &none).unwrap();
    let gap: &[_] = &[(Some(1.0), Some("x"), 0), (Some(2.0), None, 1)];
    let cases: [(&str, Vec<u8>, &[&str]); 6] = [
        (
            "a gap",
            write(&[good, gap]),
            &[
                "t: row 5 (from 0): column \"c\": the value is missing",
                "Impute",
            ],
        ),
        (
            "infinite",
            write(&[good, &[(Some(1e39), Some("x"), 1)]]),
            &["t: row 4 (from 0): column \"a\"", "32-bit float"],
        ),
        (
            "texts and numbers",
            write(&[&[(Some(1.0), Some("1"), 0), (Some(1.0), Some("x"), 1)]]),
            &["t: row 1 (from 0): column \"c\"", "found \"x\""],
        ),
        ("no rows", write(&[]), &["t: the file has no rows"]),
        (
            "no Parquet",
            b"a,y\n1,0\n".to_vec(),
            &["t: the file is no Parquet, or damaged"],
        ),
        (
            "cut",
            write(&[good])[..100].to_vec(),
            &["t: the file is no Parquet, or damaged"],
        ),
    ];
    for (case, bytes, fragments) in cases {
        assert_error(case, read(bytes, &none), fragments);
    }
    let weight = |table: &mut TableOptions| table.weight = Some("a".into());
    let heavy = write(&[good, &[(Some(-1.0), Some("x"), 1)]]);
    assert_error(
        "weight",
        read(heavy, &weight),
        &["t: row 4 (from 0): column \"a\"", "from 0 to 1000000", "-1"],
    );
    let other = |table: &mut TableOptions| table.label = "z".into();
    assert_error(
        "label",
        read(write(&[good]), &other),
        &["t: no column is named \"z\"", "\"a\", \"c\", \"y\""],
    );
    // Also in rows that are read with the columns of others.
    let validated = LoadOptions {
        validation: HeldOut::Source(SourceSpec::Table(TableOptions::parquet("v", "y"))),
        ..table(TableFormat::Parquet, "t", |_| {})
    };
    let held_out = write(&[&[(None, Some("x"), 0)]]);
    let files = Memory::default()
        .with("t", write(&[good]))
        .with("v", held_out);
    assert_error(
        "validation",
        load(&files, &validated),
        &["v: row 0 (from 0): column \"a\": the value is missing"],
    );
    let csv = table(TableFormat::Csv, "t", |_| {});
    let files = Memory::default().with("t", write(&[good]));
    assert_error(
        "as CSV",
        load(&files, &csv),
        &["t: the file is a Parquet file", "`parquet`"],
    );
    let nested = |exclude: &[&str]| {
        let options = table(TableFormat::Parquet, "nested.parquet", |table| {
            table.exclude = exclude.iter().map(|name| (*name).to_owned()).collect();
        });
        load(&Folder::new(fixture("")), &options)
    };
    assert_error(
        "lists",
        nested(&[]),
        &["column \"tags", "holds lists", "exclude"],
    );
    let within = nested(&["tags.list.element"]).unwrap();
    assert_eq!(within.train.width, 2, "place.x and place.y");
}

/// Bytes that were changed or cut are refused, or read as what they are: nothing panics, hangs or takes more than it may.
#[test]
fn t15_damaged_parquet_files_never_panic() {
    let whole = fs::read(fixture("polars.parquet")).unwrap();
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..=random(3) {
            let place = random(bytes.len());
            bytes[place] ^= 1 << random(8);
        }
        if random(4) == 0 {
            bytes.truncate(random(whole.len()));
        }
        let mut options = table(TableFormat::Parquet, "t", |table| {
            table.missing = MissingPolicy::Impute
        });
        options.limits.memory = 64 << 20;
        let _ = load(&Memory::default().with("t", bytes), &options);
    }
}

#[test]
fn c09_a_report_of_a_parquet_file_tells_what_one_of_csv_tells() {
    let limits = Limits::default();
    let report = |name: &str| {
        let file = fs::File::open(fixture(name)).unwrap();
        inspect_table(name, Opened::File(file), &[], &limits).unwrap()
    };
    let (csv, parquet) = (report("same.csv"), report("polars.parquet"));
    assert_eq!((csv.format, csv.delimiter), (TableFormat::Csv, Some(',')));
    assert_eq!(
        (parquet.format, parquet.delimiter),
        (TableFormat::Parquet, None)
    );
    assert_eq!(parquet.rows, 60);
    // Only the texts of numbers differ: 1.0 is 1.
    let without_texts = |report: TableReport| {
        let columns = report.columns.into_iter();
        let columns = columns.map(|column| ColumnReport {
            top: Vec::new(),
            ..column
        });
        columns.collect::<Vec<ColumnReport>>()
    };
    assert_eq!(without_texts(csv), without_texts(parquet));
}
