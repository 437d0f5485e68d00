//! The datasets that the repository ships.

use trainyard_data::{Folder, HeldOut, LoadOptions, SourceSpec, TableOptions, Task, load};

use crate::common::options;

fn folder(name: &str) -> Folder {
    Folder::new(format!(
        "{}/../../examples/{name}",
        env!("CARGO_MANIFEST_DIR")
    ))
}

fn split(mut options: LoadOptions) -> LoadOptions {
    options.validation = HeldOut::Fraction(0.2);
    options
}

#[test]
fn breast_cancer_loads() {
    let source = SourceSpec::Table(TableOptions::csv("breast-cancer.csv", "diagnosis"));
    let data = load(
        &folder("breast-cancer"),
        &split(options(Task::Binary, source)),
    )
    .unwrap();
    assert_eq!(
        (data.facts.train_rows, data.facts.validation_rows),
        (455, 114)
    );
    assert_eq!(data.facts.input_shape, [30]);
    assert_eq!(data.facts.schema.label.classes, ["benign", "malignant"]);
    let validation = data.validation.as_ref().unwrap();
    let malignant = data
        .train
        .labels
        .iter()
        .chain(&validation.labels)
        .sum::<f32>();
    assert_eq!(malignant, 212.0);
    for column in 0..30 {
        let sum: f64 = (0..455)
            .map(|row| f64::from(data.train.row(row)[column]))
            .sum();
        let squares: f64 = (0..455)
            .map(|row| f64::from(data.train.row(row)[column]).powi(2))
            .sum();
        assert!(
            sum.abs() / 455.0 < 1e-6 && (squares / 455.0 - 1.0).abs() < 1e-6,
            "{column}"
        );
    }
    assert!(data.warnings.is_empty());
}

#[test]
fn digits_load() {
    let source = SourceSpec::Npy {
        features: "digits-features.npy".into(),
        labels: "digits-labels.npy".into(),
    };
    let data = load(&folder("digits"), &split(options(Task::Multiclass, source))).unwrap();
    assert_eq!(
        (data.facts.train_rows, data.facts.validation_rows),
        (1438, 359)
    );
    assert_eq!(data.facts.input_shape, [1, 8, 8]);
    assert_eq!(data.facts.outputs, 10);
    assert_eq!(
        data.facts.schema.label.classes,
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
    );
}

#[test]
fn diabetes_loads() {
    let mut csv = TableOptions::csv("diabetes.csv", "progression");
    csv.categorical = vec!["sex".into()];
    let options = split(options(Task::Regression, SourceSpec::Table(csv)));
    let data = load(&folder("diabetes"), &options).unwrap();
    assert_eq!(
        (data.facts.train_rows, data.facts.validation_rows),
        (354, 88)
    );
    assert_eq!(data.facts.input_shape, [11]);
    assert!(
        data.train
            .labels
            .iter()
            .all(|&y| (25.0..=346.0).contains(&y))
    );
}
