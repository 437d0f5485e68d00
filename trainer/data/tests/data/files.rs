//! A table of several files.

use std::fs;

use trainyard_data::{
    Dataset, Files, Folder, HeldOut, LoadOptions, Pattern, SourceSpec, SplitRule, TableOptions,
    Task, expand, load,
};

use crate::common::{Memory, assert_error, csv_options, edit, unscaled};

/// Two parts of a table, the second with its columns in another order, and one that is something else.
fn parts() -> Memory {
    Memory::default()
        .with("p/1.csv", "a,c,y\n1,red,1\n2,blue,2\n")
        .with("p/2.csv", "y,c,a\n3,red,3\n4,green,4\n")
        .with("p/2.txt", "x\n")
        .with(
            "whole.csv",
            "a,c,y\n1,red,1\n2,blue,2\n3,red,3\n4,green,4\n",
        )
}

fn options(uris: &[&str]) -> LoadOptions {
    let uris: Vec<String> = uris.iter().map(|uri| (*uri).to_owned()).collect();
    unscaled(|csv| csv.uris = uris)
}

fn bits(data: &Dataset) -> (&[f32], &[f32], &str) {
    (&data.train.features, &data.train.labels, &data.facts.digest)
}

#[test]
fn c33_parts_of_a_table_are_the_table() {
    let whole = load(&parts(), &options(&["whole.csv"])).unwrap();
    for uris in [&["p/1.csv", "p/2.csv"][..], &["p/*.csv"], &["**/?.csv"]] {
        let read = load(&parts(), &options(uris)).unwrap();
        assert_eq!(bits(&read), bits(&whole), "{uris:?}");
        let told = read.warnings.join("\n");
        assert!(
            told.contains("read by the values they hold: column \"c\" as categories"),
            "{told}"
        );
    }
    // The order is that of the names in the manifest.
    let other = load(&parts(), &options(&["p/2.csv", "p/1.csv"])).unwrap();
    assert_eq!(other.train.labels, [3.0, 4.0, 1.0, 2.0]);
}

#[test]
fn c33_validation_and_test_may_be_several_files() {
    let further = |uri: &str| HeldOut::Source(SourceSpec::Table(TableOptions::csv(uri, "y")));
    let options = LoadOptions {
        validation: further("p/*.csv"),
        test: further("p/2.csv"),
        ..options(&["whole.csv"])
    };
    let data = load(&parts(), &options).unwrap();
    assert_eq!(data.validation.unwrap(), data.train);
    assert_eq!(data.test.unwrap().labels, [3.0, 4.0]);
}

#[test]
fn c33_an_error_names_the_file_of_several() {
    let files = |second: &str| {
        Memory::default()
            .with("1.csv", "a,c,y\n1,red,1\n2,red,2\n")
            .with("2.csv", second)
    };
    let mut options = options(&["1.csv", "2.csv"]);
    let cases: [(&str, &[&str]); 6] = [
        (
            "a,y\n1,2\n",
            &["2.csv:1: no column is named \"c\" (the first file has it)"],
        ),
        (
            "a,c,y\n1,red,1\n\nx,red,2\n",
            &["2.csv:4: column \"a\"", "found \"x\""],
        ),
        ("a,c,y\n1,red\n", &["2.csv:2: expected 3 fields", "found 2"]),
        (
            "a,c,y\n1,red,high\n",
            &["2.csv:2: column \"y\"", "\"high\""],
        ),
        (
            "a,c,y\n1,,3\n",
            &["2.csv:2: column \"c\"", "the value is missing"],
        ),
        ("", &["2.csv: the file is empty"]),
    ];
    for (second, fragments) in cases {
        assert_error(second, load(&files(second), &options), fragments);
    }
    let second = "a,c,y\n1,yes,1\n?,3,2\n";
    let fragments = [
        "2 columns cannot be read",
        "\"a\" on line 3 of 2.csv",
        "\"c\" on line 2 of 1.csv",
    ];
    assert_error("two columns", load(&files(second), &options), &fragments);
    // Only a loss of counts, or what is known after reading, goes by rows.
    let second = "a,c,y\n1,red,-5\n";
    let mut counts = options.clone();
    counts.link = Some(trainyard_data::Link::Log);
    assert_error(
        "a target",
        load(&files(second), &counts),
        &["2.csv:2: column \"y\"", "found -5"],
    );
    edit(&mut options, |csv| {
        csv.missing = trainyard_data::MissingPolicy::DropRow
    });
    let data = load(&files("b,a,c,y\n0,1,,3\n0,5,red,4\n"), &options).unwrap();
    assert_eq!(data.train.labels, [1.0, 2.0, 4.0]);
    let told = data.warnings.join("\n");
    for fragment in [
        "1 row has a missing value and is left out, of 4 rows; the first is on line 2 of 2.csv",
        "2.csv: the first file has no column \"b\": not used",
    ] {
        assert!(told.contains(fragment), "{told}");
    }
}

#[test]
fn c33_a_file_counts_once_and_a_pattern_names_some() {
    let read = |uris: &[&str]| load(&parts(), &options(uris));
    assert_error(
        "none",
        read(&["q/*.csv"]),
        &["q/*.csv: no file matches it", "check the path"],
    );
    assert_error(
        "twice",
        read(&["p/1.csv", "p/*.csv"]),
        &["p/1.csv: the file is named twice"],
    );
    assert_error(
        "stars",
        read(&["p**/x.csv"]),
        &["p**/x.csv: not a pattern", "`**`"],
    );
    assert_error("nothing", read(&[]), &["no file is named"]);
}

#[test]
fn c33_a_folder_lists_files_as_a_shell_does() {
    let folder =
        std::env::temp_dir().join(format!("trainyard-data [files] {}", std::process::id()));
    let names = [
        "b/2.csv",
        "b/10.csv",
        "b/.2.csv",
        "b/2.csv.gz",
        "b/x[1].csv",
        "c/d/2.csv",
        "1.csv",
    ];
    for name in names {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    fs::create_dir_all(folder.join("b/folder.csv")).unwrap();
    let list = |uri: &str| {
        let files = Folder::new(&folder);
        let pattern = Pattern::of(uri).expect("a pattern").unwrap();
        files.list(&pattern).map_err(|error| error.to_string())
    };
    assert_eq!(
        list("b/*.csv").unwrap(),
        ["b/10.csv", "b/2.csv", "b/x[1].csv"]
    );
    assert_eq!(list("b/?.csv").unwrap(), ["b/2.csv"]);
    assert_eq!(list("*/x[1].c*").unwrap(), ["b/x[1].csv"]);
    assert_eq!(
        list("**/*.csv").unwrap(),
        ["1.csv", "b/10.csv", "b/2.csv", "b/x[1].csv", "c/d/2.csv"]
    );
    assert_eq!(list("none/*").unwrap(), [""; 0]);
    let absolute = format!("{}/b/2*.csv", folder.display());
    assert_eq!(
        list(&absolute).unwrap(),
        [format!("{}/b/2.csv", folder.display())]
    );
    assert!(list("../*.csv").unwrap_err().contains("\"..\""));
    assert!(Pattern::of("data[1].csv").is_none());
    let all = expand(
        &Folder::new(&folder),
        &["1.csv".to_owned(), "c/*/*".to_owned()],
    );
    assert_eq!(all.unwrap(), ["1.csv", "c/d/2.csv"]);
    fs::remove_dir_all(folder).unwrap();
}

/// What a split goes by counts over all files.
#[test]
fn c33_groups_are_those_of_all_files() {
    let text = |from: usize| {
        let rows: String = (from..from + 20)
            .map(|i| format!("{i},g{},{}\n", i % 8, i % 2))
            .collect();
        format!("a,g,y\n{rows}")
    };
    let files = Memory::default()
        .with("1.csv", text(0))
        .with("2.csv", text(20));
    let mut options = csv_options(Task::Binary);
    edit(&mut options, |csv| {
        csv.uris = vec!["1.csv".into(), "2.csv".into()]
    });
    options.normalization = trainyard_data::Normalization::None;
    options.validation = HeldOut::Fraction(0.25);
    options.split = SplitRule::Group("g".into());
    let data = load(&files, &options).unwrap();
    let groups = |rows: &[f32]| -> std::collections::BTreeSet<u32> {
        rows.iter().map(|a| *a as u32 % 8).collect()
    };
    let validation = data.validation.unwrap();
    assert_eq!(validation.rows, 10);
    assert!(groups(&validation.features).is_disjoint(&groups(&data.train.features)));
}

/// Folders as they are found: links that lead round and round, names that are no text, links to nowhere.
#[test]
fn c33_odd_folders_are_listed_or_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    let root = tempfile::tempdir().unwrap();
    let make = |path: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "a,y\n1,2\n").unwrap();
    };
    for path in [
        "d/1.csv",
        "d/e/2.csv",
        "d/e/f/3.csv",
        "d/.hidden/4.csv",
        "d/[x]/5.csv",
        "other/6.csv",
    ] {
        make(path);
    }
    symlink("..", root.path().join("d/e/up")).unwrap();
    symlink(".", root.path().join("d/self")).unwrap();
    symlink("nowhere", root.path().join("d/7.csv.lost")).unwrap();
    symlink("../other", root.path().join("d/o")).unwrap();
    let list = |uri: &str| Folder::new(root.path()).list(&Pattern::of(uri).unwrap().unwrap());
    for (uri, expected) in [
        ("d/*.csv", &["d/1.csv"][..]),
        ("d/?/*.csv", &["d/e/2.csv", "d/o/6.csv"]),
        (
            "d/**/*.csv",
            &[
                "d/1.csv",
                "d/[x]/5.csv",
                "d/e/2.csv",
                "d/e/f/3.csv",
                "d/o/6.csv",
            ],
        ),
        ("d/[x]/*.csv", &["d/[x]/5.csv"]),
        ("*/1.csv", &["d/1.csv"]),
        ("d/.hidden/*.csv", &["d/.hidden/4.csv"]),
        ("d/*/.hidden/*", &[]),
        ("none/*.csv", &[]),
        ("d/1.csv/*", &[]),
    ] {
        assert_eq!(list(uri).unwrap(), expected, "{uri}");
    }
    let absolute = format!("{}/d/*.csv", root.path().display());
    assert_eq!(list(&absolute).unwrap().len(), 1);
    fs::write(
        root.path().join("d").join(OsStr::from_bytes(b"\xff.png")),
        "",
    )
    .unwrap();
    assert_eq!(list("d/*.csv").unwrap(), ["d/1.csv"], "it cannot be meant");
    let error = list("d/*").unwrap_err().to_string();
    assert!(
        error.contains("is not UTF-8: rename it") && error.contains("d/"),
        "{error}"
    );
    fs::create_dir(root.path().join("d/e").join(OsStr::from_bytes(b"\xfe"))).unwrap();
    assert!(
        list("d/**/2.csv")
            .unwrap_err()
            .to_string()
            .contains("is not UTF-8")
    );
}
