//! Artifacts that nobody has exported like this.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use trainyard_core::layout::Layout;
use trainyard_core::metrics::Task;
use trainyard_core::schema::{ArrayInput, InputKind, InputSchema, Label};
use trainyard_crds::training_job::Model;
use trainyard_data::RawArray;

use super::tensors::{self, Named, Reader};
use super::*;
use crate::arch::Architecture;
use crate::exit::BadInput;

/// A whole artifact of a small model, but for the module of libtorch, which may be any bytes.
fn artifact() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    files().write(folder.path()).expect("writable");
    let golden = Golden {
        input_shape: vec![2, 3],
        inputs: vec![0.5; 6],
        output_shape: vec![2, 1],
        outputs: vec![0.25; 2],
        rtol: RTOL,
        atol: tolerance(&[0.25; 2]),
    };
    golden.write(&folder.path().join(GOLDEN)).expect("writable");
    fs::write(folder.path().join(SCRIPT), "module").expect("writable");
    golden_rows()
        .write(&folder.path().join(ROWS))
        .expect("writable");
    let metrics = MetricsFile::default();
    write_json(&folder.path().join(METRICS), &metrics).expect("writable");
    record(folder.path());
    folder
}

fn golden_rows() -> GoldenRows {
    let raw = RawArray {
        dtype: "f4".into(),
        shape: vec![1, 3],
        bytes: vec![0; 12],
    };
    GoldenRows {
        kernel_version: Some(1),
        rtol: RTOL,
        atol: 1e-6,
        columns: Vec::new(),
        array: Some(GoldenArray::of(&raw)),
        rows: vec![GoldenRow {
            cells: Vec::new(),
            expected: Expected::Predicted {
                outputs: vec![0.1],
                prediction: Answer::Value(0.1),
            },
        }],
    }
}

fn files() -> ModelFiles {
    let schema = InputSchema {
        task: Task::Regression,
        input: InputKind::Array(ArrayInput {
            shape: vec![3],
            dtype: "f4".into(),
            mean: vec![0.0; 3],
            std: vec![1.0; 3],
            resize: false,
        }),
        label: Label {
            name: "label".into(),
            classes: Vec::new(),
            numeric: true,
            scale: None,
            link: None,
            threshold: None,
        },
    };
    let model: Model = serde_json::from_value(json!({"mlp": {"hidden": [5]}})).expect("a model");
    let architecture = Architecture::new(&model, &[3], 1).expect("it fits");
    let layout = Layout::new(architecture.params.clone()).expect("it is small");
    let mut parameters = vec![0.0; layout.len()];
    layout
        .initialize(7, 0..layout.len(), &mut parameters)
        .expect("all of it");
    ModelFiles {
        model: ModelFile {
            format_version: FORMAT,
            job: "job".into(),
            task: schema.task,
            architecture: model,
            input_shape: schema.input_shape(),
            output: Output::of(&schema),
            loss: None,
            input_schema: schema,
            parameters: ParameterShape::all(&layout),
            model_sha256: layout.model_sha256(&parameters).expect("all of it"),
        },
        architecture,
        layout,
        parameters,
    }
}

/// Writes `provenance.json` for the files that are there.
fn record(folder: &Path) {
    let record = |name: &str| {
        let (bytes, sha256) = digest(&folder.join(name)).expect(name);
        (name.to_owned(), FileRecord { bytes, sha256 })
    };
    let recorded: BTreeMap<String, FileRecord> = FILES.into_iter().map(record).collect();
    let provenance = Provenance {
        provenance_sha256: None,
        format_version: FORMAT,
        job: "job".into(),
        model_sha256: files().model.model_sha256,
        spec_digest: String::new(),
        data: DataProvenance {
            digest: String::new(),
            train_rows: 1,
            validation_rows: 0,
            test_rows: 0,
        },
        checkpoint: Checkpoint {
            step: 1,
            epoch: 0,
            generation: 1,
            complete: true,
        },
        capability: String::new(),
        versions: Versions {
            trainyard: String::new(),
            libtorch: String::new(),
        },
        artifact_sha256: Some(identity(&recorded)),
        files: recorded,
        spec: Value::Null,
    };
    write_json(&folder.join(PROVENANCE), &provenance).expect("writable");
}

/// What is wrong with each file, by name.
fn problems(folder: &Path, change: impl FnOnce(&mut Provenance)) -> BTreeMap<String, String> {
    let mut provenance = provenance(folder).expect("it can be read");
    change(&mut provenance);
    let verified = verify_files(folder, &provenance).into_iter();
    verified
        .filter_map(|file| Some((file.name, file.problem?)))
        .collect()
}

fn pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.expect("mkfifo is there").success());
}

#[test]
fn an_artifact_is_read_as_it_was_written() {
    let folder = artifact();
    let read = ModelFiles::read(folder.path()).expect("it is whole");
    let written = files();
    assert_eq!(read.model, written.model);
    assert_eq!(read.parameters, written.parameters);
    assert_eq!(problems(folder.path(), |_| {}), BTreeMap::new());
    let golden = Golden::read(&folder.path().join(GOLDEN)).expect("it is whole");
    assert_eq!(golden.inputs, vec![0.5; 6]);
    assert_eq!((golden.outputs, golden.rtol), (vec![0.25; 2], RTOL));
    let rows = GoldenRows::read(&folder.path().join(ROWS)).expect("it is whole");
    assert_eq!(rows, golden_rows());
    match rows.inputs().expect("an array") {
        GoldenInputs::Array(raw) => {
            assert_eq!((raw.dtype.as_str(), raw.bytes), ("f4", vec![0; 12]))
        }
        GoldenInputs::Cells(cells) => panic!("{cells:?}"),
    }
}

/// The digest of an artifact is what `sha256sum` makes of the lines that it prints for the files.
#[test]
fn the_identity_of_an_artifact_is_that_of_its_files() {
    let folder = artifact();
    let mut provenance = provenance(folder.path()).expect("it can be read");
    let command = "LC_ALL=C; sha256sum $(ls | grep -v provenance.json) | sha256sum";
    let mut shell = Command::new("sh");
    let printed = shell
        .args(["-c", command])
        .current_dir(folder.path())
        .output();
    let printed = String::from_utf8(printed.expect("a shell").stdout).expect("text");
    let digest = provenance.artifact_sha256.clone().expect("a digest");
    assert_eq!(printed.split_whitespace().next(), Some(digest.as_str()));
    // Who made it plays no part.
    provenance.checkpoint.generation += 1;
    assert_eq!(identity(&provenance.files), digest);
    let found = problems(folder.path(), |provenance| {
        provenance.artifact_sha256 = Some("0".repeat(64));
    });
    assert_eq!(found.keys().collect::<Vec<_>>(), [PROVENANCE]);
    assert!(found[PROVENANCE].contains(&digest), "{found:?}");
}

/// Format 1 had neither golden rows in the original columns nor a digest of the whole.
#[test]
fn an_artifact_of_format_1_is_whole_without_golden_rows() {
    let folder = artifact();
    fs::remove_file(folder.path().join(ROWS)).expect("it is there");
    let older = |provenance: &mut Provenance| {
        provenance.format_version = 1;
        provenance.artifact_sha256 = None;
        provenance.files.remove(ROWS);
    };
    assert_eq!(problems(folder.path(), older), BTreeMap::new());
    let found = problems(folder.path(), |_| {});
    assert!(found[ROWS].contains("cannot be read"), "{found:?}");
}

#[test]
fn golden_rows_whose_parts_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(ROWS);
    let of_columns = GoldenRows {
        columns: vec!["a".into()],
        array: None,
        rows: vec![
            GoldenRow {
                cells: vec!["1".into()],
                expected: Expected::Refused {
                    refused: "a".into(),
                },
            },
            GoldenRow {
                cells: vec!["2".into()],
                expected: Expected::LeftOut { left_out: true },
            },
            GoldenRow {
                cells: vec![String::new()],
                expected: Expected::Predicted {
                    outputs: vec![1e-45, f32::MAX, 0.1],
                    prediction: Answer::Class("b".into()),
                },
            },
        ],
        ..golden_rows()
    };
    of_columns.write(&path).expect("writable");
    assert_eq!(GoldenRows::read(&path).expect("it is whole"), of_columns);
    type Change<'a> = &'a dyn Fn(&mut GoldenRows);
    let change = |change: Change<'_>, rows: &GoldenRows| {
        let mut rows = rows.clone();
        change(&mut rows);
        rows.write(&path).expect("writable");
        let read = GoldenRows::read(&path).and_then(|rows| rows.inputs());
        format!("{:#}", read.expect_err("it does not fit"))
    };
    let cases: [(Change<'_>, &GoldenRows, &str); 6] = [
        (&|rows| rows.rows.clear(), &of_columns, "no rows"),
        (&|rows| rows.columns.clear(), &of_columns, "no columns"),
        (
            &|rows| rows.columns.push("b".into()),
            &of_columns,
            "a cell for each column",
        ),
        (
            &|rows| rows.columns.push("b".into()),
            &golden_rows(),
            "as many rows",
        ),
        (
            &|rows| rows.rows.extend(golden_rows().rows),
            &golden_rows(),
            "as many rows",
        ),
        (
            &|rows| {
                if let Some(array) = &mut rows.array {
                    array.data.insert(0, '!');
                }
            },
            &golden_rows(),
            "no Base64",
        ),
    ];
    for (make, rows, problem) in cases {
        let found = change(make, rows);
        assert!(found.contains(problem), "{problem}: {found}");
    }
    let mut infinite = golden_rows();
    infinite.rows[0].expected = Expected::Predicted {
        outputs: vec![f32::NAN],
        prediction: Answer::Value(0.0),
    };
    assert!(infinite.write(&path).is_err());
}

/// What they name lies wherever whoever wrote them wanted.
#[test]
fn names_that_provenance_should_not_have_are_told_and_not_opened() {
    let folder = artifact();
    let secret = folder.path().join("../trainyard-secret");
    let names = ["/dev/zero", "../trainyard-secret", "thesis.txt", ""];
    pipe(&folder.path().join("pipe"));
    let found = problems(folder.path(), |provenance| {
        for name in names.into_iter().chain(["pipe"]) {
            let (bytes, sha256) = (1, "0".repeat(64));
            provenance
                .files
                .insert(name.into(), FileRecord { bytes, sha256 });
        }
        provenance.files.remove(GOLDEN);
    });
    // Beside the pipe and the file that is not named, the digest of the whole is another.
    assert_eq!(found.len(), names.len() + 3, "{found:?}");
    assert!(found["/dev/zero"].contains("no file of an artifact"));
    assert!(found[GOLDEN].contains("does not name it"), "{found:?}");
    assert!(!secret.exists());
}

#[test]
fn what_is_no_regular_file_is_neither_followed_nor_waited_for() {
    let outside = tempfile::NamedTempFile::new().expect("a file");
    for name in FILES {
        let folder = artifact();
        let path = folder.path().join(name);
        let make: [&dyn Fn(); 3] = [
            &|| pipe(&path),
            &|| symlink("/dev/zero", &path).expect("writable"),
            &|| symlink(outside.path(), &path).expect("writable"),
        ];
        for make in make {
            fs::remove_file(&path).expect("it is there");
            make();
            let found = problems(folder.path(), |_| {});
            assert!(found[name].contains("regular file"), "{found:?}");
            if [MODEL, PARAMETERS].contains(&name) {
                let error = ModelFiles::read(folder.path()).expect_err("it is no file");
                assert!(error.is::<BadInput>(), "{error}");
                let error = error.to_string();
                assert!(
                    error.contains(name) && error.contains("regular file"),
                    "{error}"
                );
            }
        }
    }
    let folder = artifact();
    for name in [PROVENANCE, METRICS] {
        fs::remove_file(folder.path().join(name)).expect("it is there");
        pipe(&folder.path().join(name));
    }
    provenance(folder.path()).expect_err("it is no file");
    metrics(folder.path()).expect_err("it is no file");
    Golden::read(&folder.path().join(PROVENANCE)).expect_err("it is no file");
}

/// A file without content takes no space, however long it is, and would be read for hours.
#[test]
fn of_a_file_with_another_size_nothing_is_read() {
    let folder = artifact();
    for name in FILES.into_iter().chain([PROVENANCE]) {
        let file = fs::File::options()
            .write(true)
            .open(folder.path().join(name));
        let file = file.expect("it is there");
        let length = file.metadata().expect("a file").len();
        if name == PROVENANCE {
            file.set_len(PROVENANCE_LIMIT + 1)
                .expect("no space is taken");
            let error = provenance(folder.path()).expect_err("it is too long");
            assert!(
                error.to_string().contains("larger than the 16777216"),
                "{error}"
            );
            continue;
        }
        file.set_len(1 << 43).expect("no space is taken");
        let found = problems(folder.path(), |_| {});
        let said = format!("it has {} of {length} bytes", 1_u64 << 43);
        assert_eq!(found, BTreeMap::from([(name.to_owned(), said)]));
        file.set_len(length).expect("as it was");
    }
}

/// The header of a safetensors file, and what follows it.
fn safetensors(header: &str, claimed: Option<u64>, tensors: &[u8]) -> Vec<u8> {
    let length = claimed.unwrap_or(header.len() as u64);
    [&length.to_le_bytes(), header.as_bytes(), tensors].concat()
}

#[test]
fn a_safetensors_header_is_believed_only_as_far_as_the_file_goes() {
    let tensor = |shape: &str, offsets: &str| {
        format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let sound = tensor("[1]", "[0,4]");
    let max = u64::MAX;
    let cases = [
        ("no header", Vec::new()),
        ("cut length", vec![1, 0, 0]),
        ("a length of all", safetensors(&sound, Some(max), &[0; 4])),
        (
            "a length past the end",
            safetensors(&sound, Some(1 << 19), &[0; 4]),
        ),
        (
            "a longer header than any",
            safetensors(&" ".repeat(2 << 20), None, &[]),
        ),
        ("no JSON", safetensors("{", None, &[0; 4])),
        ("too few bytes", safetensors(&sound, None, &[0; 3])),
        ("too many bytes", safetensors(&sound, None, &[0; 5])),
        (
            "a tensor behind the end",
            safetensors(&tensor("[1]", "[4,8]"), None, &[0; 4]),
        ),
        (
            "a huge tensor",
            safetensors(
                &tensor("[1099511627776]", "[0,4398046511104]"),
                None,
                &[0; 4],
            ),
        ),
        (
            "an overflowing shape",
            safetensors(&tensor("[4294967296,4294967296]", "[0,0]"), None, &[]),
        ),
        (
            "overflowing offsets",
            safetensors(
                &tensor("[1]", &format!("[{},{max}]", max - 3)),
                None,
                &[0; 4],
            ),
        ),
        (
            "a shape of other bytes",
            safetensors(&tensor("[2]", "[0,4]"), None, &[0; 4]),
        ),
        (
            "integers",
            safetensors(&sound.replace("F32", "I32"), None, &[0; 4]),
        ),
        ("deep JSON", safetensors(&"[".repeat(1 << 19), None, &[])),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x");
    for (what, bytes) in cases {
        fs::write(&path, bytes).expect("writable");
        assert!(Reader::open(&path).is_err(), "{what}");
    }
    fs::write(&path, safetensors(&sound, None, &1.5_f32.to_le_bytes())).expect("writable");
    let mut file = Reader::open(&path).expect("it is sound");
    let mut value = [0.0];
    assert!(file.read_next(&mut [0.0; 2]).is_err(), "another length");
    file.read_next(&mut value).expect("it is there");
    assert_eq!(value, [1.5]);
    assert!(file.read_next(&mut value).is_err(), "there is one only");
}

#[test]
fn parameters_of_another_model_are_refused_by_their_names() {
    let folder = artifact();
    let files = files();
    let path = folder.path().join(PARAMETERS);
    let write = |change: &dyn Fn(&mut Vec<Named<'_>>)| {
        let placed = files.layout.params();
        let mut named: Vec<Named<'_>> = placed
            .map(|placed| Named {
                name: &placed.param.name,
                shape: &placed.param.shape,
                values: &files.parameters[placed.range()],
            })
            .collect();
        change(&mut named);
        tensors::write(&path, &[], &named).expect("writable");
        ModelFiles::read(folder.path()).map(|read| read.parameters)
    };
    let refused = |change: &dyn Fn(&mut Vec<Named<'_>>), said: &str| {
        let error = write(change).expect_err(said).to_string();
        assert!(error.contains(said), "{error}");
    };
    // The order within the file means nothing.
    let reversed = write(&|named| named.reverse()).expect("all are there");
    assert_eq!(reversed, files.parameters);
    refused(
        &|named| named.truncate(named.len() - 1),
        "parameter layers.1.weight is missing",
    );
    refused(
        &|named| named[0].shape = &[5, 1],
        "has shape [5, 1], expected [5]",
    );
    let other = Named {
        name: "other",
        shape: &[1],
        values: &[1.0],
    };
    refused(
        &|named| {
            named.push(Named {
                name: other.name,
                shape: other.shape,
                values: other.values,
            });
        },
        "parameter other is not in model.json",
    );
    refused(&|named| named[0].values = &[9.0; 5], "have the digest");
}

#[test]
fn golden_rows_of_no_rows_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(GOLDEN);
    let tensor = |name: &str, shape: &str| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}"#)
    };
    // Nothing of very many: the product is 0, and that without the rows is beyond 64 bits.
    let (inputs, outputs) = (
        tensor("inputs", "[0,4294967296]"),
        tensor("outputs", "[0,1]"),
    );
    let header = format!(r#"{{"__metadata__":{{"rtol":"1","atol":"1"}},{inputs},{outputs}}}"#);
    fs::write(&path, safetensors(&header, None, &[])).expect("writable");
    let error = Golden::read(&path).expect_err("no rows");
    assert!(format!("{error:#}").contains("has no rows"), "{error:#}");
}
