//! Text files of data.

use std::io::{self, Read};

use trainyard_data::{
    ColumnOptions, ColumnType, DataError, Dataset, Files, HeldOut, InputSchema, Limits,
    LoadOptions, Missing, MissingPolicy, Normalization, Pattern, Rows, SourceSpec, TableOptions,
    Task, load,
};

use crate::again;

/// One file, under every name.
struct One<'a>(&'a [u8]);

impl Files for One<'_> {
    fn open(&self, _: &str) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.0.to_vec())))
    }

    fn list(&self, _: &Pattern) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// Reads the input as training data, with options by its first byte, and again for prediction.
pub fn run(input: &[u8]) -> bool {
    let Some((&how, text)) = input.split_first() else {
        return false;
    };
    let options = options(how, text);
    let Ok(data) = load(&One(text), &options) else {
        return false;
    };
    sound(&data);
    let limits = limits();
    let rows = Rows::csv(&data.facts.schema, "a.csv", text, &[], &limits);
    let encoded = rows.and_then(all);
    // Rows without a label are left out of the training, and not out of a prediction.
    let drops =
        |csv: &TableOptions| matches!(csv.missing, MissingPolicy::DropRow | MissingPolicy::Impute);
    let drops = matches!(&options.train, SourceSpec::Table(csv) if drops(csv));
    if !drops && options.validation == HeldOut::None {
        let encoded = encoded.expect("what can be trained on can be predicted");
        assert_eq!(bits(&encoded), bits(&data.train.features));
    }
    true
}

/// The inputs of all rows, read in small parts.
pub(crate) fn all(mut rows: Rows<'_>) -> Result<Vec<f32>, DataError> {
    let mut all = Vec::new();
    while let Some(part) = rows.next(7)? {
        all.extend(part.table.features);
    }
    Ok(all)
}

/// Values by their bits.
pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Bounds as of a small machine.
pub(crate) fn limits() -> Limits {
    Limits {
        file_bytes: 1 << 20,
        record_bytes: 1 << 16,
        columns: 2000,
        categories: 200,
        values: 1 << 20,
        memory: 64 << 20,
        threads: 1,
    }
}

/// The task of the lowest bits.
pub(crate) fn task(how: u8) -> Task {
    match how & 3 {
        0 => Task::Binary,
        1 => Task::Multiclass,
        _ => Task::Regression,
    }
}

/// What is said of the columns of a file, by the first letters of their names.
fn columns(text: &[u8]) -> Vec<ColumnOptions> {
    let header = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let names = String::from_utf8_lossy(header).into_owned();
    let column = |name: &str| {
        let said = ColumnOptions {
            name: name.trim().to_owned(),
            ..ColumnOptions::default()
        };
        Some(match name.trim().get(..2)? {
            "d_" => ColumnOptions {
                kind: Some(ColumnType::Date),
                missing: Some(Missing::Median),
                ..said
            },
            "b_" => ColumnOptions {
                kind: Some(ColumnType::Boolean),
                missing: Some(Missing::MostFrequent),
                missing_indicator: true,
                ..said
            },
            "o_" => ColumnOptions {
                kind: Some(ColumnType::Ordinal),
                missing: Some(Missing::Mean),
                categories: ["low", "mid", "3"].map(str::to_owned).into(),
                ..said
            },
            "k_" => ColumnOptions {
                kind: Some(ColumnType::Category),
                missing: Some(Missing::Constant),
                fill_value: Some("1".into()),
                ..said
            },
            "n_" => ColumnOptions {
                missing: Some(Missing::MostFrequent),
                missing_indicator: true,
                ..said
            },
            _ => return None,
        })
    };
    names.split(',').filter_map(column).collect()
}

fn options(how: u8, text: &[u8]) -> LoadOptions {
    let has = |bit: u8| how & (1 << bit) != 0;
    let table = TableOptions {
        categorical: match has(2) {
            true => vec!["c".into()],
            false => Vec::new(),
        },
        exclude: match has(3) {
            true => vec!["x".into()],
            false => Vec::new(),
        },
        columns: columns(text),
        missing: match (has(4), has(5)) {
            (false, false) => MissingPolicy::Error,
            (false, true) => MissingPolicy::Impute,
            (true, false) => MissingPolicy::Mean,
            (true, true) => MissingPolicy::DropRow,
        },
        missing_values: vec!["?".into()],
        na_is_missing: has(5),
        unnamed: has(6),
        ..TableOptions::csv("a.csv", "y")
    };
    LoadOptions {
        validation: match has(7) {
            true => HeldOut::Fraction(0.3),
            false => HeldOut::None,
        },
        normalization: match has(3) {
            true => Normalization::None,
            false => Normalization::Standardize,
        },
        seed: 7,
        limits: limits(),
        ..LoadOptions::new(task(how), SourceSpec::Table(table))
    }
}

/// What must hold of any data that were accepted.
pub(crate) fn sound(data: &Dataset) {
    data.facts.check().expect("the facts fit together");
    again::<InputSchema>(&data.facts.schema);
    let width: u64 = data.facts.input_shape.iter().product();
    let classes = data.facts.schema.label.classes.len();
    for table in std::iter::once(&data.train).chain(&data.validation) {
        assert!(table.rows > 0);
        assert_eq!(table.width as u64, width);
        assert_eq!(table.features.len(), table.rows * table.width);
        assert_eq!(table.labels.len(), table.rows);
        let values = table.features.iter().chain(&table.labels);
        assert!(values.copied().all(f32::is_finite));
        let is_class = |label: f32| (label as usize) < classes && label.fract() == 0.0;
        assert!(classes == 0 || table.labels.iter().all(|&label| is_class(label)));
    }
}
