//! Targets, and what rows and classes count.

use trainyard_data::{ClassWeights, Limits, Normalization, Task};

use crate::common::{
    assert_error, assert_predicts_the_same, csv_options, edit, encode_csv, load_csv, unscaled,
};

#[test]
fn c11_a_target_is_scaled_by_its_training_rows_and_comes_back() {
    let mut options = csv_options(Task::Regression);
    options.target = Normalization::Standardize;
    let text = "a,y\n1,100000\n2,300000\n3,500000\n4,300000.1\n";
    let data = load_csv(text, &options).unwrap();
    let label = &data.facts.schema.label;
    let scale = label.scale.unwrap();
    assert_eq!(scale.mean, 300_000.025);
    assert!((scale.std - 141_421.356).abs() < 0.01, "{}", scale.std);
    let sum: f32 = data.train.labels.iter().sum();
    assert!(sum.abs() < 1e-6, "{:?}", data.train.labels);
    assert_eq!(label.unscaled(data.train.labels[2]), 500_000.0);
    assert_predicts_the_same(text, &data);
    let limits = Limits::default();
    let encoded = encode_csv(
        &data.facts.schema,
        "p.csv",
        "a,y\n1,100000\n2,\n".as_bytes(),
        &limits,
    );
    let encoded = encoded.unwrap();
    assert_eq!(encoded.label(0), Some(100_000.0), "as the file has it");
    assert_eq!(encoded.table.labels[0], data.train.labels[0]);
    assert!(encoded.label(1).unwrap().is_nan() && encoded.table.labels[1].is_nan());
    // Equal targets are left where they are.
    let data = load_csv("a,y\n1,5\n2,5\n", &options).unwrap();
    assert_eq!(data.train.labels, [0.0, 0.0]);
    // What a model begins with keeps its scale.
    let mut given = options.clone();
    given.schema = Some(load_csv(text, &options).unwrap().facts.schema);
    let other = load_csv("a,y\n1,300000.025\n2,7\n", &given).unwrap();
    assert_eq!(other.train.labels[0], 0.0);
    given.target = Normalization::None;
    let fragments = ["`targetNormalization` is None"];
    assert_error("contradiction", load_csv(text, &given), &fragments);
}

#[test]
fn c17_rows_and_classes_have_weights_in_training() {
    let text = "a,w,y\n1,2,no\n2,0.5,no\n3,1,no\n4,4,yes\n";
    let mut options = csv_options(Task::Binary);
    edit(&mut options, |csv| csv.weight = Some("w".into()));
    let data = load_csv(text, &options).unwrap();
    assert_eq!(data.facts.input_shape, [1], "a weight is no input");
    assert_eq!(data.train.weights, [2.0, 0.5, 1.0, 4.0]);
    assert_predicts_the_same(text, &data);
    let (mut some, mut gathered) = (options.clone(), Vec::new());
    data.train.gather_weights(&[3, 0], &mut gathered);
    assert_eq!(gathered, [4.0, 2.0]);
    // As scikit-learn: n / (classes * n of the class), here 4 / (2 * 3) and 4 / (2 * 1).
    some.class_weights = ClassWeights::Balanced;
    edit(&mut some, |csv| {
        csv.weight = None;
        csv.exclude = vec!["w".into()];
    });
    let balanced = load_csv(text, &some).unwrap();
    assert_eq!(
        balanced.train.weights,
        [2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0, 2.0]
    );
    assert_ne!(
        balanced.facts.digest,
        load_csv(text, &options).unwrap().facts.digest
    );
    some.class_weights = ClassWeights::None;
    let plain = load_csv(text, &some).unwrap();
    assert_eq!(plain.train.weights, [] as [f32; 0]);
    assert_ne!(balanced.facts.digest, plain.facts.digest);
    options.class_weights = ClassWeights::Given([("yes".to_owned(), 3.0)].into());
    let both = load_csv(text, &options).unwrap();
    assert_eq!(both.train.weights, [2.0, 0.5, 1.0, 12.0]);
}

#[test]
fn c17_weights_that_cannot_be_are_refused() {
    let mut options = csv_options(Task::Binary);
    edit(&mut options, |csv| csv.weight = Some("w".into()));
    let cases: [(&str, &[&str]); 5] = [
        (
            "a,w,y\n1,-1,0\n2,1,1\n",
            &["a.csv:2: column \"w\"", "from 0 to 1000000", "\"-1\""],
        ),
        (
            "a,w,y\n1,heavy,0\n2,1,1\n",
            &["a.csv:2: column \"w\"", "expected a number"],
        ),
        (
            "a,w,y\n1,,0\n2,1,1\n",
            &["a.csv:2: column \"w\"", "the weight is missing"],
        ),
        (
            "a,w,y\n1,0,0\n2,0,1\n",
            &["every training row has the weight 0"],
        ),
        (
            "a,y\n1,0\n2,1\n",
            &["no column is named \"w\"", "`weight` names it"],
        ),
    ];
    for (text, fragments) in cases {
        assert_error(text, load_csv(text, &options), fragments);
    }
    edit(&mut options, |csv| csv.weight = Some("y".into()));
    let text = "a,w,y\n1,1,0\n2,1,1\n";
    assert_error(
        "label",
        load_csv(text, &options),
        &["both `label` and `weight`"],
    );
    edit(&mut options, |csv| csv.weight = None);
    options.class_weights = ClassWeights::Given([("2".to_owned(), 3.0)].into());
    assert_error(
        "class",
        load_csv(text, &options),
        &["`classWeights` names \"2\"", "\"0\", \"1\""],
    );
}

#[test]
fn c17_a_class_is_named_once() {
    let mut options = csv_options(Task::Binary);
    let given = [("0".to_owned(), 5.0), ("0.0".to_owned(), 3.0)];
    options.class_weights = ClassWeights::Given(given.into());
    assert_error(
        "twice",
        load_csv("a,y\n1,0\n2,1\n", &options),
        &["names one class twice: \"0\" and \"0.0\""],
    );
}

/// The 32 bits that a model learns hold few digits; of a target that is scaled they are those that matter.
#[test]
fn c11_a_far_target_is_no_reason_to_warn_if_it_is_scaled() {
    let text = "a,y\n1,1000000001\n2,1000000002\n3,1000000004\n";
    let mut options = unscaled(|_| {});
    let told = load_csv(text, &options).unwrap().warnings.join("\n");
    assert!(
        told.contains("more digits than a 32-bit float holds"),
        "{told}"
    );
    options.target = Normalization::Standardize;
    let data = load_csv(text, &options).unwrap();
    assert_eq!(data.warnings, Vec::<String>::new());
    assert!(data.train.labels.iter().all(|label| label.abs() < 2.0));
    let near = "a,y\n1,1000000001\n2,1000000001\n";
    let told = load_csv(near, &options).unwrap().warnings.join("\n");
    assert!(
        told.contains("every training row has the label 1000000001"),
        "{told}"
    );
    // A model that learned its target as it is goes on so, whatever the default is by now.
    options.target = Normalization::None;
    options.schema = Some(load_csv("a,y\n1,1\n2,2\n", &options).unwrap().facts.schema);
    options.target = Normalization::Standardize;
    let told = load_csv("a,y\n1,1\n2,2\n", &options)
        .unwrap()
        .warnings
        .join("\n");
    assert!(
        told.contains("`targetNormalization` has no effect"),
        "{told}"
    );
}
