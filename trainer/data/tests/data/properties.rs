//! T15 by properties: whatever the bytes are, the answer is a table or an error.

use proptest::prelude::*;
use trainyard_data::{
    Dataset, HeldOut, InputSchema, MissingPolicy, SourceSpec, TableOptions, Task, load,
};

use crate::common::{
    Memory, csv_options, edit, idx, load_csv, load_npy, npy, npy_options, options,
};

/// What must hold of any dataset that was accepted.
fn sound(data: &Dataset) {
    let width: u64 = data.facts.input_shape.iter().product();
    for table in std::iter::once(&data.train).chain(&data.validation) {
        assert!(table.rows > 0);
        assert_eq!(table.width as u64, width);
        assert_eq!(table.features.len(), table.rows * table.width);
        assert_eq!(table.labels.len(), table.rows);
        assert!(
            table
                .features
                .iter()
                .chain(&table.labels)
                .all(|v| v.is_finite())
        );
        let classes = data.facts.schema.label.classes.len();
        assert!(classes == 0 || table.labels.iter().all(|&v| (v as usize) < classes));
    }
    let json = serde_json::to_string(&data.facts.schema).unwrap();
    assert_eq!(
        serde_json::from_str::<InputSchema>(&json).unwrap(),
        data.facts.schema
    );
}

/// Replaces, inserts, removes or repeats some bytes.
fn mutate(mut bytes: Vec<u8>, changes: &[(usize, u8, u8)]) -> Vec<u8> {
    for &(at, kind, byte) in changes {
        let at = at % (bytes.len() + 1);
        match kind % 5 {
            0 if at < bytes.len() => bytes[at] = byte,
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.insert(at, byte),
            3 => bytes.truncate(at),
            _ => bytes.extend_from_within(at..),
        }
        bytes.truncate(1 << 16);
    }
    bytes
}

fn changes() -> impl Strategy<Value = Vec<(usize, u8, u8)>> {
    let byte = prop_oneof![
        any::<u8>(),
        prop::sample::select(b",\"\n\r\0;.-e0 9\xff(){}':[]".to_vec()),
    ];
    prop::collection::vec((any::<usize>(), any::<u8>(), byte), 0..8)
}

fn tasks() -> impl Strategy<Value = Task> {
    prop::sample::select(vec![Task::Binary, Task::Multiclass, Task::Regression])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn t15_mutated_text_is_a_table_or_an_error(
        changes in changes(),
        task in tasks(),
        missing in prop::sample::select(vec![MissingPolicy::Error, MissingPolicy::Mean, MissingPolicy::DropRow]),
        fraction in prop::option::of(0.01..0.99f64),
    ) {
        let text = b"a,c,y\r\n1,u,0\n\"2.5\",\"v\n\",1\n-3e2,u,1\n,w,0\n7,u,0\n8,,1\n".to_vec();
        let mut options = csv_options(task);
        edit(&mut options, |csv| {
            csv.missing = missing;
            csv.categorical = vec!["c".into()];
        });
        options.validation = fraction.map_or(HeldOut::None, HeldOut::Fraction);
        if let Ok(data) = load_csv(mutate(text, &changes), &options) {
            sound(&data);
        }
    }

    #[test]
    fn t15_random_bytes_are_a_table_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        task in tasks(),
        prefix in prop::sample::select(vec![&b""[..], b"a,y\n", b"\x93NUMPY\x01\x00", b"\0\0\x08\x02", b"\x1f\x8b\x08\0"]),
    ) {
        let bytes = [prefix, &bytes].concat();
        let labels = npy("|u1", false, "(2,)", &[0, 1]);
        let idx_labels = idx(8, &[2], &[0, 1]);
        let source = SourceSpec::Idx { images: "x".into(), labels: "y".into() };
        let files = Memory::default().with("x", bytes.clone()).with("y", idx_labels);
        let results = [
            load_csv(bytes.clone(), &csv_options(task)),
            load_npy(bytes, labels, &npy_options(task)),
            load(&files, &options(task, source)),
        ];
        results.iter().flatten().for_each(sound);
    }

    #[test]
    fn t15_mutated_arrays_are_a_table_or_an_error(
        features in changes(),
        labels in changes(),
        fortran in any::<bool>(),
        task in tasks(),
    ) {
        let x = npy("<f4", fortran, "(4, 1, 2, 3)", &[0x3f; 96]);
        let y = npy("<i8", false, "(4,)", &[0i64, 1, 0, 1].map(i64::to_le_bytes).concat());
        let results = [
            load_npy(mutate(x, &features), mutate(y, &labels), &npy_options(task)),
            load(
                &Memory::default()
                    .with("x", mutate(idx(8, &[4, 2, 3], &[5; 24]), &features))
                    .with("y", mutate(idx(8, &[4], &[1, 0, 1, 0]), &labels)),
                &options(task, SourceSpec::Idx { images: "x".into(), labels: "y".into() }),
            ),
        ];
        results.iter().flatten().for_each(sound);
    }

    #[test]
    fn what_a_writer_quotes_comes_back(
        cells in prop::collection::vec("[ -~\r\n\u{e9}]{0,12}", 2..20),
    ) {
        // Categories written by the csv crate's own writer are read as they were, blanks trimmed.
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(["c", "y"]).unwrap();
        for (i, cell) in cells.iter().enumerate() {
            writer.write_record([cell.as_str(), &i.to_string()]).unwrap();
        }
        let mut options = csv_options(Task::Regression);
        edit(&mut options, |csv: &mut TableOptions| {
            csv.categorical = vec!["c".into()];
            csv.missing = MissingPolicy::Mean;
        });
        let is_missing = |cell: &str| ["", "na", "nan"].contains(&&*cell.to_lowercase());
        let mut expected: Vec<&str> = cells.iter().map(|c| c.trim()).filter(|c| !is_missing(c)).collect();
        expected.sort_unstable();
        expected.dedup();
        let loaded = load_csv(writer.into_inner().unwrap(), &options);
        if expected.is_empty() {
            prop_assert!(loaded.is_err());
        } else {
            let data = loaded.unwrap();
            let json = serde_json::to_value(&data.facts.schema).unwrap();
            prop_assert_eq!(&json["input"]["columns"]["columns"][0]["categories"], &serde_json::json!(expected));
            for (i, cell) in cells.iter().enumerate() {
                let hot = expected.binary_search(&cell.trim()).ok();
                let expected: Vec<f32> = (0..expected.len()).map(|k| if Some(k) == hot { 1.0 } else { 0.0 }).collect();
                prop_assert_eq!(data.train.row(i), expected.as_slice());
            }
        }
    }
}
