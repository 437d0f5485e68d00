//! Files in memory, and writers of the array formats.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use trainyard_data::{
    ColumnKind, ColumnOptions, DataError, Dataset, Encoded, Files, InputKind, InputSchema, Limits,
    LoadOptions, Normalization, Opened, Pattern, Rows, SourceSpec, TableOptions, TableReport, Task,
    inspect_table, load,
};

/// Files by name.
#[derive(Default)]
pub struct Memory(HashMap<String, Vec<u8>>);

impl Memory {
    pub fn with(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.insert(name.to_owned(), bytes.into());
        self
    }
}

impl Files for Memory {
    fn open(&self, uri: &str) -> io::Result<Box<dyn Read + Send>> {
        match self.0.get(uri) {
            Some(bytes) => Ok(Box::new(io::Cursor::new(bytes.clone()))),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "not here")),
        }
    }

    fn list(&self, pattern: &Pattern) -> io::Result<Vec<String>> {
        let mut uris: Vec<String> = self.0.keys().cloned().collect();
        uris.retain(|uri| pattern.matches(uri));
        uris.sort_unstable();
        Ok(uris)
    }
}

/// Options for a source, with small limits.
pub fn options(task: Task, train: SourceSpec) -> LoadOptions {
    LoadOptions {
        target: Normalization::None,
        seed: 7,
        limits: Limits {
            file_bytes: 64 << 20,
            record_bytes: 1 << 20,
            columns: 2000,
            categories: 100,
            values: 1 << 22,
            memory: 1 << 30,
            threads: 2,
        },
        ..LoadOptions::new(task, train)
    }
}

/// Options for `a.csv` with the label `y`.
pub fn csv_options(task: Task) -> LoadOptions {
    options(task, SourceSpec::Table(TableOptions::csv("a.csv", "y")))
}

/// Changes the CSV options of the training source.
pub fn edit(options: &mut LoadOptions, change: impl FnOnce(&mut TableOptions)) {
    match &mut options.train {
        SourceSpec::Table(csv) => change(csv),
        _ => panic!("not a CSV source"),
    }
}

/// Loads one CSV text.
pub fn load_csv(text: impl Into<Vec<u8>>, options: &LoadOptions) -> Result<Dataset, DataError> {
    load(&Memory::default().with("a.csv", text), options)
}

/// Loads a pair of arrays.
pub fn load_npy(
    features: Vec<u8>,
    labels: Vec<u8>,
    options: &LoadOptions,
) -> Result<Dataset, DataError> {
    load(
        &Memory::default().with("x", features).with("y", labels),
        options,
    )
}

/// Options for the arrays `x` and `y`.
pub fn npy_options(task: Task) -> LoadOptions {
    options(
        task,
        SourceSpec::Npy {
            features: "x".into(),
            labels: "y".into(),
        },
    )
}

/// An NPY file.
pub fn npy(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    npy_raw(
        &format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n"),
        data,
    )
}

/// An NPY file with any header.
pub fn npy_raw(header: &str, data: &[u8]) -> Vec<u8> {
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(data);
    out
}

/// An IDX file.
pub fn idx(kind: u8, shape: &[u32], data: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, kind, shape.len() as u8];
    out.extend(shape.iter().flat_map(|d| d.to_be_bytes()));
    out.extend(data);
    out
}

/// A file that is a thousand times as long unpacked as it is packed: `head`, and `what` `times` times.
pub fn bomb(head: &[u8], what: &[u8], times: usize) -> Vec<u8> {
    let bytes = [head, &what.repeat(times)].concat();
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(&bytes).unwrap();
    let packed = out.finish().unwrap();
    assert!(bytes.len() / packed.len() >= 1000, "{}", packed.len());
    packed
}

/// Little-endian f32.
pub fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Asserts that an error's text holds every fragment.
pub fn assert_error<T: std::fmt::Debug>(
    case: &str,
    result: Result<T, DataError>,
    fragments: &[&str],
) {
    let error = match result {
        Ok(value) => panic!("{case}: accepted as {value:?}"),
        Err(error) => error.to_string(),
    };
    for fragment in fragments {
        assert!(
            error.contains(fragment),
            "{case}: {fragment:?} is not in: {error}"
        );
    }
    assert!(
        error.len() < 1000,
        "{case}: a message of {} bytes: {error}",
        error.len()
    );
}

/// Compressed as gzip does.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// All rows of a CSV file as for a prediction.
pub fn encode_csv(
    schema: &InputSchema,
    name: &str,
    text: &[u8],
    limits: &Limits,
) -> Result<Encoded, DataError> {
    encode_all(Rows::csv(schema, name, text, &[], limits)?).map(|(encoded, _)| encoded)
}

/// What is told of the rows of a CSV file for a prediction.
pub fn told_of_csv(schema: &InputSchema, text: &[u8]) -> Vec<String> {
    let limits = Limits::default();
    let rows = Rows::csv(schema, "p.csv", text, &[], &limits).unwrap();
    encode_all(rows).unwrap().1
}

/// All rows of an array as for a prediction.
pub fn encode_array(
    schema: &InputSchema,
    name: &str,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Encoded, DataError> {
    encode_all(Rows::array(schema, name, bytes, limits)?).map(|(encoded, _)| encoded)
}

/// All rows that are left, and what is told of them.
pub fn encode_all(mut rows: Rows<'_>) -> Result<(Encoded, Vec<String>), DataError> {
    let all = rows.next(usize::MAX)?.expect("rows");
    assert_eq!(rows.next(usize::MAX)?, None, "nothing comes after the last");
    Ok((all, rows.warnings()))
}

/// Options for a regression on `a.csv`, without scaling.
pub fn unscaled(change: impl FnOnce(&mut TableOptions)) -> LoadOptions {
    let mut options = csv_options(Task::Regression);
    options.normalization = Normalization::None;
    edit(&mut options, change);
    options
}

/// What is said of a column.
pub fn column(name: &str, change: impl FnOnce(&mut ColumnOptions)) -> ColumnOptions {
    let mut column = ColumnOptions {
        name: name.into(),
        ..ColumnOptions::default()
    };
    change(&mut column);
    column
}

/// The types of the columns.
pub fn kinds(data: &Dataset) -> Vec<ColumnKind> {
    match &data.facts.schema.input {
        InputKind::Columns(input) => input
            .columns
            .iter()
            .map(|column| column.kind.clone())
            .collect(),
        InputKind::Array(_) => panic!("columns"),
    }
}

/// What was trained on is predicted with the same bits.
pub fn assert_predicts_the_same(text: &str, data: &Dataset) {
    let encoded = encode_csv(
        &data.facts.schema,
        "a.csv",
        text.as_bytes(),
        &Limits::default(),
    )
    .unwrap();
    let bits =
        |values: &[f32]| -> Vec<u32> { values.iter().map(|value| value.to_bits()).collect() };
    assert_eq!(bits(&encoded.table.features), bits(&data.train.features));
    let json = serde_json::to_string(&data.facts.schema).unwrap();
    let again: trainyard_data::InputSchema = serde_json::from_str(&json).unwrap();
    assert_eq!(again, data.facts.schema);
}

/// What a text holds.
pub fn inspect_csv(
    text: &[u8],
    missing_values: &[String],
    limits: &Limits,
) -> Result<TableReport, DataError> {
    let text = Opened::Stream(Box::new(io::Cursor::new(text.to_vec())));
    inspect_table("a.csv", text, missing_values, limits)
}
