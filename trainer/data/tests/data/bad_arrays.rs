//! T15 for arrays, and for folders.

use trainyard_data::{Files, Folder, HeldOut, SourceSpec, Task, load};

use crate::common::{
    Memory, assert_error, f32s, idx, load_npy, npy, npy_options, npy_raw, options,
};

fn refused_features(case: &str, features: Vec<u8>, fragments: &[&str]) {
    let labels = npy("|u1", false, "(2,)", &[0, 1]);
    assert_error(
        case,
        load_npy(features, labels, &npy_options(Task::Binary)),
        fragments,
    );
}

#[test]
fn t15_an_array_that_does_not_fit_the_memory_at_hand_is_refused_by_its_header() {
    let within = |fortran, memory| {
        let mut options = npy_options(Task::Regression);
        options.limits.memory = memory;
        let features = npy(
            "<f8",
            fortran,
            "(2, 300)",
            &1.5_f64.to_le_bytes().repeat(600),
        );
        load_npy(features, npy("|u1", false, "(2,)", &[0, 1]), &options)
    };
    // 4800 bytes as they are, and 2400 encoded, or as many again to reorder them. Beside them
    // the labels, 16 bytes.
    for (fortran, needed) in [(false, 7216), (true, 9600)] {
        within(fortran, needed).expect("they fit");
        assert_error(
            "one less",
            within(fortran, needed - 1),
            &[":", "of memory are at hand"],
        );
    }
}

/// Of two files, the second is held beside the first; and the rows to validate on beside those to train on.
#[test]
fn t15_what_is_held_already_is_not_at_hand() {
    let mut options = npy_options(Task::Regression);
    let files = || {
        let column = npy("<f8", false, "(100,)", &0_f64.to_le_bytes().repeat(100));
        let rows = npy("<f8", false, "(100, 1)", &0_f64.to_le_bytes().repeat(100));
        let files = Memory::default()
            .with("x", rows.clone())
            .with("y", column.clone());
        files.with("vx", rows).with("vy", column)
    };
    // As read and encoded, 1200 bytes each.
    options.limits.memory = 2400;
    load(&files(), &options).expect("both fit");
    options.limits.memory = 2399;
    assert_error(
        "labels",
        load(&files(), &options),
        &["y:", "of memory are at hand"],
    );
    let (features, labels) = ("vx".to_owned(), "vy".to_owned());
    options.validation = HeldOut::Source(SourceSpec::Npy { features, labels });
    // Those to train on have become 800 bytes.
    options.limits.memory = 3200;
    load(&files(), &options).expect("all fit");
    options.limits.memory = 3199;
    assert_error(
        "validation",
        load(&files(), &options),
        &["vy:", "of memory are at hand"],
    );
}

#[test]
fn t15_bad_npy_files_are_refused() {
    let good = npy("<f4", false, "(2, 1)", &f32s(&[1.0, 2.0]));
    let refused = refused_features;
    refused("empty", vec![], &["x:", "ends within its header"]);
    refused(
        "text",
        b"a,b\n1,2\n".to_vec(),
        &["x:", "expected an NPY file"],
    );
    refused(
        "idx",
        idx(8, &[2, 1], &[1, 2]),
        &["x:", "expected an NPY file"],
    );
    refused("cut magic", good[..5].to_vec(), &["ends within its header"]);
    refused(
        "cut header",
        good[..40].to_vec(),
        &["ends within its header"],
    );
    refused(
        "cut data",
        good[..good.len() - 1].to_vec(),
        &["announces 8 bytes", "found 7", "cut short"],
    );
    refused(
        "two arrays",
        [good.clone(), good.clone()].concat(),
        &["announces 8 bytes", "found more"],
    );
    let mut version = good.clone();
    version[6] = 9;
    refused("version", version, &["version 9.0"]);
    let huge = npy("<f8", false, "(4000000000, 4000000000)", &[0; 64]);
    refused("huge", huge, &["4000000000", "limit"]);
    let overflow = npy("<f8", false, "(18446744073709551615, 2)", &[0; 64]);
    refused("overflow", overflow, &["limit"]);
    refused(
        "large lie",
        npy("<f8", false, "(2000000, 2)", &[0; 64]),
        &["announces 32000000", "found 64"],
    );
    let wide = npy("<f8", false, "(99999999999999999999, 2)", &[]);
    refused(
        "length beyond u64",
        wide,
        &["NPY header", "expected a length"],
    );
    refused(
        "negative",
        npy("<f8", false, "(-1, 2)", &[]),
        &["expected a length"],
    );
    refused(
        "no rows",
        npy("<f4", false, "(0, 4)", &[]),
        &["holds no rows"],
    );
    refused(
        "no columns",
        npy("<f4", false, "(4, 0)", &[]),
        &["holds no rows"],
    );
    refused(
        "scalar",
        npy("<f4", false, "()", &[0; 4]),
        &["holds no rows"],
    );
    refused(
        "one axis",
        npy("<f4", false, "(2,)", &[0; 8]),
        &["x:", "2 to 4 axes", "reshape"],
    );
    refused(
        "five axes",
        npy("|u1", false, "(1, 1, 1, 1, 1)", &[0]),
        &["at most 4 axes", "5"],
    );
    refused(
        "half floats",
        npy("<f2", false, "(2, 1)", &[0; 4]),
        &["\"<f2\"", "astype"],
    );
    refused(
        "strings",
        npy("<U3", false, "(2, 1)", &[0; 24]),
        &["\"<U3\"", "not supported"],
    );
    refused(
        "objects",
        npy("|O", false, "(2, 1)", &[0; 24]),
        &["\"|O\"", "not supported"],
    );
    refused(
        "no byte order",
        npy("|f4", false, "(2, 1)", &[0; 8]),
        &["byte order"],
    );
    let structured = "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }";
    refused(
        "structured",
        npy_raw(structured, &[0; 8]),
        &["structured array"],
    );
    refused(
        "brackets",
        npy_raw(&"(".repeat(9000), &[]),
        &["NPY header", "expected {"],
    );
    refused(
        "nested",
        npy_raw(&format!("{{'shape': {}", "(".repeat(9000)), &[]),
        &["a length"],
    );
    refused("open string", npy_raw("{'descr", &[]), &["not closed"]);
    refused(
        "unknown key",
        npy_raw("{'a': 1}", &[]),
        &["unknown or repeated key \"a\""],
    );
    refused("no keys", npy_raw("{}", &[]), &["no descr"]);
    let more = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 1)} x";
    refused(
        "text after",
        npy_raw(more, &[1, 2]),
        &["text after the dict"],
    );
    let mut long = b"\x93NUMPY\x02\x00".to_vec();
    long.extend(u32::MAX.to_le_bytes());
    refused("long header", long, &["claims 4294967295 bytes"]);
    let infinite = npy(
        "<f4",
        false,
        "(2, 2)",
        &f32s(&[1.0, 2.0, 3.0, f32::INFINITY]),
    );
    refused(
        "infinite",
        infinite,
        &["x:", "finite", "row 1", "element 1"],
    );
    let nan = npy("<f4", false, "(2, 1)", &f32s(&[f32::NAN, 2.0]));
    refused("NaN", nan, &["finite", "NaN at row 0"]);
    let big = npy(
        "<f8",
        false,
        "(2, 1)",
        &[1f64.to_le_bytes(), 1e300f64.to_le_bytes()].concat(),
    );
    refused("beyond f32", big, &["32-bit float", "row 1"]);
    let three = npy("<f4", false, "(3, 1)", &[0; 12]);
    refused(
        "rows differ",
        three,
        &["y:", "expected 3 labels", "of x", "found 2"],
    );
}

#[test]
fn t15_bad_label_arrays_are_refused() {
    let refused = |case, labels, fragments: &[&str]| {
        let features = npy("<f4", false, "(2, 1)", &f32s(&[1.0, 2.0]));
        assert_error(
            case,
            load_npy(features, labels, &npy_options(Task::Binary)),
            fragments,
        );
    };
    refused(
        "one-hot",
        npy("|u1", false, "(2, 2)", &[0, 1, 1, 0]),
        &["y:", "[rows]", "[2, 2]", "index"],
    );
    let halves = npy("<f4", false, "(2,)", &f32s(&[0.0, 0.5]));
    refused(
        "halves",
        halves,
        &["y:", "class number", "0.5 at row 1", "regression"],
    );
    let nan = npy("<f4", false, "(2,)", &f32s(&[0.0, f32::NAN]));
    refused("NaN", nan, &["y:", "finite", "row 1"]);
    refused(
        "one class",
        npy("|u1", false, "(2,)", &[3, 3]),
        &["y:", "found only \"3\""],
    );
    let wide = [0i64.to_le_bytes(), i64::MAX.to_le_bytes()].concat();
    refused(
        "beyond 2^53",
        npy("<i8", false, "(2,)", &wide),
        &["class number"],
    );
}

#[test]
fn t15_bad_idx_files_are_refused() {
    let source = SourceSpec::Idx {
        images: "x".into(),
        labels: "y".into(),
    };
    let options = options(Task::Binary, source);
    let refused = |case, images: Vec<u8>, fragments: &[&str]| {
        let files = Memory::default()
            .with("x", images)
            .with("y", idx(8, &[2], &[0, 1]));
        assert_error(case, load(&files, &options), fragments);
    };
    refused("empty", vec![], &["x:", "ends within its header"]);
    refused(
        "npy",
        npy("|u1", false, "(2, 1)", &[1, 2]),
        &["expected an IDX file"],
    );
    refused("type", idx(7, &[2, 1], &[1, 2]), &["0x07", "element type"]);
    refused("no axes", idx(8, &[], &[]), &["1 to 4 axes, found 0"]);
    refused(
        "many axes",
        idx(8, &[1; 200], &[1]),
        &["1 to 4 axes, found 200"],
    );
    refused(
        "cut header",
        idx(8, &[2, 1], &[])[..9].to_vec(),
        &["ends within its header"],
    );
    refused(
        "cut data",
        idx(8, &[2, 2], &[1, 2, 3]),
        &["announces 4 bytes", "found 3"],
    );
    refused("more data", idx(8, &[2, 1], &[1, 2, 3]), &["found more"]);
    refused("huge", idx(8, &[u32::MAX; 4], &[1]), &["limit"]);
}

#[test]
fn t15_paths_that_are_not_files_are_refused() {
    let folder = Folder::new(env!("CARGO_MANIFEST_DIR"));
    let refused = |uri: &str, fragment: &str| {
        let error = folder.open(uri).err().expect("refused").to_string();
        assert!(error.contains(fragment), "{uri}: {error}");
    };
    refused("", "name a file");
    refused("s3://bucket/key", "only paths");
    refused("../data/Cargo.toml", "..");
    refused("src", "no regular file");
    refused("no-such.csv", "there is no file");
    refused("/dev/zero", "no regular file");
    assert!(folder.open("Cargo.toml").is_ok());
    assert!(
        folder
            .open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .is_ok()
    );
}
