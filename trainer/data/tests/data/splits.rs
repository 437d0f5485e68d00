//! Rows that are set aside: for validation and for the test.

use trainyard_data::{
    HeldOut, LoadOptions, MissingPolicy, Normalization, SourceSpec, SplitRule, TableOptions, Task,
    load,
};

use crate::common::{Memory, assert_error, csv_options, edit, load_csv, unscaled};

#[test]
fn c18_a_split_keeps_classes_groups_or_the_order() {
    let rows: String = (0..40)
        .map(|i| {
            format!(
                "{i},p{},{:02}.06.2024,{}\n",
                i / 4,
                28 - i % 28,
                ["no", "no", "no", "yes"][i % 4]
            )
        })
        .collect();
    let text = format!("a,who,day,y\n{rows}");
    let split = |task: Task, rule: SplitRule| {
        let mut options = csv_options(task);
        options.normalization = Normalization::None;
        options.validation = HeldOut::Fraction(0.25);
        options.split = rule;
        load_csv(text.as_str(), &options).unwrap()
    };
    let stratified = split(Task::Binary, SplitRule::Stratified);
    let validation = stratified.validation.unwrap();
    assert_eq!(
        (validation.rows, validation.labels.iter().sum::<f32>()),
        (10, 2.0),
        "7.5 and 2.5 rows: the first class gets the odd one"
    );
    let groups = split(Task::Binary, SplitRule::Group("who".into()));
    let validation = groups.validation.unwrap();
    assert_eq!(validation.rows, 12, "3 of 10 groups of 4");
    let rows: Vec<u32> = (0..12)
        .map(|row| validation.row(row)[0] as u32 / 4)
        .collect();
    assert!(
        rows.chunks(4)
            .all(|rows| rows.iter().all(|group| *group == rows[0])),
        "{rows:?}"
    );
    assert_eq!(
        validation.width, 7,
        "a and the parts of day: the group is no input"
    );
    let order = split(Task::Binary, SplitRule::Order("day".into()));
    let validation = order.validation.unwrap();
    let rows: Vec<f32> = (0..validation.rows)
        .map(|row| validation.row(row)[0])
        .collect();
    let last = [0.0, 1.0, 2.0, 3.0, 4.0, 28.0, 29.0, 30.0, 31.0, 32.0];
    assert_eq!(rows, last, "the 28th to the 24th");
}

#[test]
fn c18_a_column_to_split_by_need_not_be_an_input() {
    let text = "a,t,y\n1,3,1\n2,1,2\n3,2,3\n4,9,4\n";
    let mut options = unscaled(|csv| csv.exclude = vec!["t".into()]);
    options.validation = HeldOut::Fraction(0.5);
    options.split = SplitRule::Order("t".into());
    let data = load_csv(text, &options).unwrap();
    assert_eq!(
        (data.train.features, data.train.labels),
        (vec![2.0, 3.0], vec![2.0, 3.0])
    );
    options.validation = HeldOut::Fraction(0.5);
    options.split = SplitRule::Order("z".into());
    assert_error(
        "no column",
        load_csv(text, &options),
        &["no column is named \"z\"", "`orderBy` names it"],
    );
    options.validation = HeldOut::Fraction(0.5);
    options.split = SplitRule::Group("t".into());
    assert_error(
        "no group",
        load_csv("a,t,y\n1,,1\n2,1,2\n", &options),
        &["a.csv:2: column \"t\"", "the value is missing"],
    );
}

/// A test file is encoded with the fit of the training rows, and a digest tells whether it is the same.
#[test]
fn c18_test_rows_are_encoded_like_training_rows() {
    let files = |test: &str| {
        let train = Memory::default().with("a.csv", "a,y\n1,0\n3,1\n1,0\n3,1\n");
        train.with("t.csv", test)
    };
    let mut options = csv_options(Task::Binary);
    let read = |options: &LoadOptions, test: &str| load(&files(test), options);
    let without = read(&options, "").unwrap();
    options.test = HeldOut::Source(SourceSpec::Table(TableOptions::csv("t.csv", "y")));
    let with = read(&options, "y,a\n1,5\n0,2\n").unwrap();
    let test = with.test.unwrap();
    assert_eq!(
        (test.features, test.labels),
        (vec![3.0, 0.0], vec![1.0, 0.0])
    );
    assert_eq!((with.train, with.facts.test_rows), (without.train, 2));
    assert_eq!((without.test, without.facts.test_rows), (None, 0));
    let other = read(&options, "y,a\n1,5\n0,3\n").unwrap();
    let digests = [
        &without.facts.digest,
        &with.facts.digest,
        &other.facts.digest,
    ];
    assert!(
        digests[0] != digests[1] && digests[1] != digests[2],
        "{digests:?}"
    );
    let one_class = read(&options, "y,a\n1,5\n").unwrap();
    let told = one_class.warnings.join("\n");
    assert!(
        told.contains("no test row has the class \"0\", of which the test metrics say nothing"),
        "{told}"
    );
    assert_error(
        "a class",
        read(&options, "y,a\n2,5\n"),
        &["t.csv:2: column \"y\"", "\"2\""],
    );
}

#[test]
fn c18_a_split_says_what_it_cannot_go_by() {
    let text = "a,t,y\n1,3,1\n2,,2\n3,2,3\n4,9,4\n";
    let mut options = unscaled(|_| ());
    options.validation = HeldOut::Fraction(0.3);
    options.split = SplitRule::Group("y".into());
    assert_error(
        "label",
        load_csv(text, &options),
        &["`groupBy` names \"y\", which is the label"],
    );
    options.split = SplitRule::Order("t".into());
    let missing = load_csv(text, &options);
    assert_error(
        "missing",
        missing,
        &["a.csv:3: column \"t\"", "the value is missing"],
    );
    edit(&mut options, |csv| csv.missing = MissingPolicy::DropRow);
    let data = load_csv(text, &options).unwrap();
    assert_eq!(
        data.validation.unwrap().labels,
        [4.0],
        "the row without it is left out"
    );
    options.split = SplitRule::Group("a".into());
    let one = load_csv("a,t,y\n1,3,1\n1,2,2\n", &options);
    assert_error(
        "one group",
        one,
        &["of 1 groups none are left for training"],
    );
}

/// The test has a rule of its own, such as the last weeks, and rows of a group that it divides are not in both parts.
#[test]
fn c18_the_test_may_have_a_rule_of_its_own() {
    let rows: String = (0..40)
        .map(|i| format!("{i},{},{}\n", i % 4, (i * 7) % 40))
        .collect();
    let text = format!("a,g,t\n{rows}");
    let mut options = unscaled(|csv| csv.label = "t".into());
    options.validation = HeldOut::Fraction(0.25);
    options.test = HeldOut::Fraction(0.1);
    options.split = SplitRule::Group("g".into());
    options.test_split = Some(SplitRule::Order("a".into()));
    let data = load_csv(text.as_str(), &options).unwrap();
    let (validation, test) = (data.validation.unwrap(), data.test.unwrap());
    assert_eq!(test.features, [36.0, 37.0, 38.0, 39.0]);
    let group = validation.features[0] as u32 % 4;
    assert!(
        validation
            .features
            .iter()
            .all(|a| *a as u32 % 4 == group && *a < 36.0)
    );
    assert_eq!([data.train.rows, validation.rows, test.rows], [27, 9, 4]);
    assert!(data.train.features.iter().all(|a| *a as u32 % 4 != group));
}

/// A job that begins with a model is split by a column that the model does not read, or by one that it does.
#[test]
fn c18_a_job_that_begins_with_a_model_is_split_by_columns_too() {
    let rows: String = (0..40)
        .map(|i| format!("{i},g{},{}\n", i % 4, i % 3))
        .collect();
    let text = format!("a,g,y\n{rows}");
    let mut options = unscaled(|csv| csv.exclude = vec!["g".into()]);
    options.schema = Some(load_csv(text.as_str(), &options).unwrap().facts.schema);
    edit(&mut options, |csv| csv.exclude = Vec::new());
    options.validation = HeldOut::Fraction(0.25);
    options.split = SplitRule::Group("g".into());
    let data = load_csv(text.as_str(), &options).unwrap();
    assert_eq!(data.warnings, Vec::<String>::new());
    let validation = data.validation.unwrap();
    assert_eq!((validation.rows, validation.width), (10, 1));
    let group = validation.features[0] as u32 % 4;
    assert!(validation.features.iter().all(|a| *a as u32 % 4 == group));
    options.split = SplitRule::Order("a".into());
    let validation = load_csv(text.as_str(), &options)
        .unwrap()
        .validation
        .unwrap();
    assert!(validation.features.iter().all(|a| *a >= 30.0));
}
