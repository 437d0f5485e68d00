//! Nothing is left out, filled in, rounded or merged without a word.

use trainyard_core::metrics::Task;
use trainyard_data::{
    Dataset, HeldOut, LoadOptions, MissingPolicy, Normalization, SourceSpec, TableOptions, load,
};

use crate::common::*;

/// The only warning there is.
fn told(data: Dataset) -> String {
    let [warning] = &data.warnings[..] else {
        panic!("{:?}", data.warnings)
    };
    warning.clone()
}

fn csv(task: Task, text: &str, change: impl FnOnce(&mut TableOptions)) -> Dataset {
    let mut options = csv_options(task);
    edit(&mut options, change);
    load_csv(text, &options).expect("a dataset")
}

/// Trains on `text`, validates on another file.
fn validated(text: &str, other: &str, change: impl FnOnce(&mut LoadOptions)) -> Dataset {
    let mut options = csv_options(Task::Binary);
    options.validation = HeldOut::Source(SourceSpec::Table(TableOptions::csv("v.csv", "y")));
    change(&mut options);
    let files = Memory::default().with("a.csv", text).with("v.csv", other);
    load(&files, &options).expect("a dataset")
}

#[test]
fn t15_rows_that_are_left_out_are_told() {
    let drop = |csv: &mut TableOptions| csv.missing = MissingPolicy::DropRow;
    assert_eq!(
        told(csv(Task::Binary, "a,y\n1,u\n,v\n2,v\n3,\n", drop)),
        "a.csv: 2 rows have a missing value and are left out, of 4 rows; the first is on line 3"
    );
    assert_eq!(
        told(csv(Task::Binary, "a,y\n1,u\n,v\n2,v\n", drop)),
        "a.csv: 1 row has a missing value and is left out, of 3 rows; the first is on line 3"
    );
}

#[test]
fn t15_values_that_are_filled_in_are_told() {
    let data = csv(Task::Binary, "a,b,c,y\n1,1,k,u\n,2,,v\n3,NA,l,v\n", |csv| {
        csv.missing = MissingPolicy::Mean;
        csv.categorical = vec!["c".into()];
    });
    assert_eq!(
        told(data),
        "a.csv: 3 missing values in columns \"a\", \"b\", \"c\" are filled in: a number with the mean of the \
         training rows; a category counts as none of the known ones"
    );
}

#[test]
fn t15_columns_that_teach_nothing_are_told() {
    let data = csv(Task::Binary, "a,b,c,y\n1,7,k,u\n2,7,k,v\n", |csv| {
        csv.categorical = vec!["c".into()];
    });
    assert_eq!(
        told(data),
        "a.csv: every training row has the same value in columns \"b\", \"c\": nothing can be learned from it"
    );
}

#[test]
fn t15_names_that_are_nearly_the_same_are_told() {
    let data = csv(
        Task::Multiclass,
        "a,y\n1,yes\n2,Yes\n3,no\n4,1\n5,1.0\n6,a  b\n7,a b\n",
        |_| {},
    );
    assert_eq!(
        told(data),
        "a.csv: labels that differ only in letter case, blanks or the form of a number are not the same, such as \
         \"yes\" and \"Yes\", \"1\" and \"1.0\", \"a  b\" and \"a b\""
    );
    let data = csv(Task::Binary, "a,c,y\n1,NY,u\n2,ny,v\n3,LA,u\n", |csv| {
        csv.categorical = vec!["c".into()];
    });
    assert_eq!(
        told(data),
        "a.csv: categories of column \"c\" that differ only in letter case, blanks or the form of a number are not \
         the same, such as \"NY\" and \"ny\""
    );
}

#[test]
fn t15_an_index_that_pandas_wrote_is_told() {
    let data = csv(Task::Binary, "Unnamed: 0,a,y\n0,1,u\n1,2,v\n", |_| {});
    assert_eq!(
        told(data),
        "a.csv: column \"Unnamed: 0\" may be an index that pandas wrote: to leave it out, list it under `exclude`"
    );
}

#[test]
fn t15_labels_that_are_merged_are_told() {
    let data = csv(Task::Binary, "a,y\n1,1\n2,1.0\n3,0\n", |_| {});
    assert_eq!(
        told(data),
        "a.csv: labels that are the same number are one class, such as \"1\" and \"1.0\""
    );
    // Other spellings without a double are only spellings.
    assert_eq!(
        csv(Task::Binary, "a,y\n1,1.0\n3,0.0\n", |_| {}).warnings,
        [""; 0]
    );
}

#[test]
fn t15_numbers_that_are_rounded_are_told() {
    let data = csv(
        Task::Regression,
        "a,y\n1,16777217\n2,16777218\n3,0.1\n",
        |_| {},
    );
    assert_eq!(
        told(data),
        "a.csv: labels: 1 number has more digits than a 32-bit float holds and is rounded, such as 16777217 to \
         16777216"
    );
    let ids = "a,y\n100000001,1\n100000002,2\n3,3\n";
    assert_eq!(
        csv(Task::Regression, ids, |_| {}).warnings,
        [""; 0],
        "scaled first"
    );
    let mut options = csv_options(Task::Regression);
    options.normalization = Normalization::None;
    let data = load_csv(ids, &options).expect("a dataset");
    assert!(told(data).starts_with("a.csv: column \"a\": 2 numbers have more digits"));

    let features = npy(
        "<i8",
        false,
        "(2, 1)",
        &[16_777_217_i64, 4].map(i64::to_le_bytes).concat(),
    );
    let labels = npy("<f4", false, "(2,)", &f32s(&[0.5, 1.5]));
    let mut options = npy_options(Task::Regression);
    let scaled = load_npy(features.clone(), labels.clone(), &options).expect("a dataset");
    assert_eq!(scaled.warnings, [""; 0]);
    options.normalization = Normalization::None;
    let data = load_npy(features, labels, &options).expect("a dataset");
    assert!(told(data).contains("the array: 1 number has more digits"));
}

#[test]
fn t15_classes_without_rows_are_told() {
    let data = validated("a,y\n1,u\n2,v\n", "a,y\n1,u\n", |_| {});
    assert_eq!(
        told(data),
        "no validation row has the class \"v\", of which the validation metrics say nothing"
    );
    // One of each in ten, and half of the rows are left to learn from.
    let rows: String = (0..10).map(|row| format!("{row},c{row}\n")).collect();
    let mut options = csv_options(Task::Multiclass);
    options.validation = HeldOut::Fraction(0.5);
    let data = load_csv(format!("a,y\n{rows}"), &options).expect("a dataset");
    let [learn, judge] = &data.warnings[..] else {
        panic!("{:?}", data.warnings)
    };
    assert!(
        learn.starts_with("no training row has the classes \"c"),
        "{learn}"
    );
    assert!(
        learn.contains("which the model cannot learn; another seed"),
        "{learn}"
    );
    assert!(
        judge.starts_with("no validation row has the classes \"c"),
        "{judge}"
    );
}

#[test]
fn t15_a_warning_names_few_of_many_columns() {
    let names: Vec<String> = (0..9).map(|column| format!("c{column}")).collect();
    let row = |value: &str| [value; 9].join(",");
    let text = format!("{},y\n{},u\n{},v\n", names.join(","), row("1"), row("1"));
    let told = told(csv(Task::Binary, &text.replace(",y\n1", ",y\n2"), |_| {}));
    assert!(
        told.contains("in columns \"c1\", \"c2\", \"c3\", \"c4\", \"c5\" and 3 more"),
        "{told}"
    );
}

#[test]
fn t15_columns_of_the_validation_file_that_are_ignored_are_told() {
    let data = validated(
        "a,y\n1,u\n2,v\n",
        "id,a,b,y,\n1,2,3,u,\n4,5,6,v,\n",
        |options| {
            edit(options, |csv| csv.exclude = Vec::new());
        },
    );
    assert_eq!(
        told(data),
        "v.csv: the model has no columns \"id\", \"b\": not used"
    );
}

#[test]
fn t15_channels_that_seem_to_come_last_are_told() {
    let image = |shape: &str, values: usize| {
        let pixels: Vec<u8> = (0..2 * values).map(|i| i as u8).collect();
        let labels = npy("|u1", false, "(2,)", &[0, 1]);
        load_npy(
            npy("|u1", false, shape, &pixels),
            labels,
            &npy_options(Task::Binary),
        )
        .expect("a dataset")
    };
    let text = told(image("(2, 8, 6, 3)", 144));
    assert!(
        text.contains("read as 8 channels of 6 x 3 pixels"),
        "{text}"
    );
    assert!(text.ends_with("channels come first"), "{text}");
    assert_eq!(image("(2, 3, 8, 6)", 144).warnings, [""; 0]);
}

#[test]
fn t15_a_target_that_never_changes_is_told() {
    let data = csv(Task::Regression, "a,y\n1,5\n2,5.0\n", |_| {});
    assert_eq!(
        told(data),
        "a.csv: every training row has the label 5: there is nothing to learn, and r2 is undefined"
    );
}
