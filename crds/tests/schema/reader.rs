//! The reader: places, defaults, changes from the command line, and bounds.

use proptest::prelude::*;
use trainyard_crds::manifest::{MAX_BYTES, Place, read, read_with};
use trainyard_crds::training_job::*;

use crate::common::BASE;

const MINIMAL: &str = "\
apiVersion: trainyard.dev/v1alpha1
kind: TrainingJob
metadata: {name: digits}
spec:
  task: {multiclassClassification: {}}
  model: {mlp: {}}
  data:
    train: {npy: {features: x.npy, labels: y.npy}}
  training:
    epochs: 3
    batchSize: 32
    optimizer: {sgd: {}}
";

/// All messages, a line each.
fn messages(text: &str, set: &[&str]) -> String {
    let set: Vec<String> = set.iter().map(|change| change.to_string()).collect();
    match read_with("job.yaml", text, &set) {
        Ok(_) => "accepted".into(),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn defaults_are_those_of_the_schema() {
    let job = read("job.yaml", MINIMAL).expect("the manifest is valid");
    assert_eq!(job.name(), "digits");
    let spec = job.spec;
    assert_eq!(
        spec.model,
        Model::Mlp(Mlp {
            hidden: vec![],
            activation: Activation::Relu,
            dropout: 0.0
        })
    );
    assert_eq!(spec.training.micro_batches, 4);
    assert_eq!(spec.training.seed, 0);
    assert_eq!(spec.training.optimizer, Optimizer::Sgd(Sgd::default()));
    assert_eq!(
        spec.training.schedule,
        Schedule::Constant(ConstantLr { warmup_steps: 0 })
    );
    assert_eq!(spec.training.consistency, Consistency::Sync {});
    assert_eq!(spec.data.normalization, Normalization::Standardize);
    assert_eq!((spec.servers.replicas, spec.workers.replicas), (1, 2));
    assert_eq!((spec.checkpoint.every_steps, spec.checkpoint.keep), (50, 3));
    assert_eq!(spec.backoff_limit, 6);
    assert_eq!(spec.clean_pod_policy, CleanPodPolicy::Running);
    assert!(!spec.suspend);
}

/// What the schema fills in is what the Rust types would, so a job read on a cluster equals the one read here.
#[test]
fn serialized_jobs_read_back_as_themselves() {
    for text in [MINIMAL, BASE] {
        let job = read("job.yaml", text).expect("the manifest is valid");
        let json = serde_json::to_string_pretty(&job).expect("a job is JSON");
        assert_eq!(read("job.json", &json).expect("JSON is YAML"), job);
    }
}

#[test]
fn errors_name_line_and_column() {
    let text = MINIMAL
        .replace("epochs: 3", "epochs: three")
        .replace("mlp: {}", "mlp: {hiden: [1]}");
    assert_eq!(
        messages(&text, &[]),
        "job.yaml:6:17: spec.model.mlp.hiden: unknown field; did you mean `hidden`?\n\
         job.yaml:10:13: spec.training.epochs: expected a whole number, found the string \"three\""
    );
    // Columns count characters, not bytes.
    let text = MINIMAL.replace(
        "{name: digits}",
        "{annotations: {å: é}, nme: digits, name: digits}",
    );
    assert_eq!(
        messages(&text, &[]),
        "job.yaml:3:33: metadata.nme: unknown field; did you mean `name`?"
    );
}

#[test]
fn unknown_fields_and_rules_are_told_together() {
    let text = MINIMAL.replace("batchSize: 32", "batchSize: 1\n    sed: 1");
    assert_eq!(
        messages(&text, &[]),
        "job.yaml:11:5: spec.training.batchSize: batchSize must be at least microBatches (4 unless set), so that each of the parts of a batch has a row\n\
         job.yaml:12:5: spec.training.sed: unknown field; did you mean `seed`?"
    );
    // A misspelt field or alternative is one mistake, not two.
    assert_eq!(
        messages(&MINIMAL.replace("{mlp: {}}", "{mpl: {}}"), &[]),
        "job.yaml:6:11: spec.model.mpl: unknown field; did you mean `mlp`?"
    );
    assert_eq!(
        messages(&MINIMAL.replace("epochs", "epoch"), &[]),
        "job.yaml:10:5: spec.training.epoch: unknown field; did you mean `epochs`?"
    );
}

#[test]
fn changes_are_applied_in_order() {
    let set = [
        "spec.training.epochs=5",
        "spec.training.epochs=7",
        "spec.training.optimizer={adam: {learningRate: 0.1}}",
        "spec.model.mlp.hidden=[8]",
        "spec.model.mlp.hidden.1=4",
        "spec.model.mlp.hidden[0]=9",
        "spec.workers.resources.limits.nvidia\\.com/gpu=1",
        "metadata.name=other",
    ]
    .map(String::from);
    let job = read_with("job.yaml", MINIMAL, &set).expect("the changes are valid");
    assert_eq!(job.name(), "other");
    assert_eq!(job.spec.training.epochs, 7);
    assert_eq!(job.spec.training.optimizer.learning_rate(), 0.1);
    let Model::Mlp(mlp) = &job.spec.model else {
        panic!("{:?}", job.spec.model)
    };
    assert_eq!(mlp.hidden, [9, 4]);
    let limits = job
        .spec
        .workers
        .pod
        .resources
        .and_then(|resources| resources.limits)
        .expect("limits are set");
    assert_eq!(limits["nvidia.com/gpu"].0, "1");
}

/// A shell takes off the quotes that would say so in a file.
#[test]
fn t25_a_change_of_a_text_field_is_text_whatever_it_looks_like() {
    for (value, expected) in [
        ("yes", "yes"),
        ("1", "1"),
        ("True", "True"),
        ("1.50", "1.50"),
        ("\"no\"", "no"),
    ] {
        let set = [
            "spec.data.train={csv: {uri: x.csv, label: a, exclude: [b], categorical: [c]}}"
                .to_owned(),
            format!("spec.data.train.csv.label={value}"),
            "spec.data.train.csv.exclude[0]=7".to_owned(),
            format!("spec.data.train.csv.categorical[0]={value}"),
        ];
        let job = read_with("job.yaml", MINIMAL, &set[..3]).expect("text");
        let Dataset::Csv(csv) = &job.spec.data.train else {
            panic!("{:?}", job.spec.data.train)
        };
        assert_eq!(
            (&*csv.label, &csv.exclude[..]),
            (expected, &["7".to_owned()][..])
        );
        let categorical = [&set[0], &set[3]].map(String::clone);
        let job = read_with("job.yaml", MINIMAL, &categorical).expect("text");
        let Dataset::Csv(csv) = &job.spec.data.train else {
            panic!("{:?}", job.spec.data.train)
        };
        assert_eq!(csv.categorical, [expected]);
    }
    let told = messages(MINIMAL, &["spec.training.epochs=yes"]);
    assert!(told.contains("expected a whole number"), "{told}");
}

#[test]
fn t25_a_map_without_blanks_after_its_colons_is_explained() {
    let told = messages(MINIMAL, &["spec.training.earlyStopping={metric:loss}"]);
    assert!(
        told.contains("metric:loss: unknown field; put a space after the colon"),
        "{told}"
    );
    assert!(
        told.contains("required field is missing; add it (validation metric that is watched)"),
        "{told}"
    );
}

#[test]
fn wrong_changes_name_the_change() {
    for (change, message) in [
        (
            "spec.training.epochs=x",
            "--set spec.training.epochs=x: spec.training.epochs: expected a whole number, found the string \"x\"",
        ),
        (
            "spec.training.epoch=1",
            "--set spec.training.epoch=1: spec.training.epoch: unknown field; did you mean `epochs`?",
        ),
        (
            "spec.training.epochs",
            "--set spec.training.epochs: expected path=value; as in spec.training.epochs=3",
        ),
        (
            "training.epochs=1",
            "--set training.epochs=1: training.epochs: a path begins with `spec.` or `metadata.`; did you mean `spec`?",
        ),
        (
            "spec..epochs=1",
            "--set spec..epochs=1: `spec..epochs` is not a path; as in spec.training.epochs",
        ),
        (
            "spec.training.epochs.a=1",
            "--set spec.training.epochs.a=1: spec.training.epochs.a: `a` is within the number 3, which has no fields",
        ),
        (
            "spec.training.microBatches=3",
            "--set spec.training.microBatches=3: spec.training.microBatches: microBatches must be a power of two: 1, 2, 4, 8, 16, 32, 64, 128, 256, 512 or 1024",
        ),
        (
            "spec.training.optimizer.adam={}",
            "--set spec.training.optimizer.adam={}: spec.training.optimizer: exactly one of sgd, adam, adamW, adagrad must be set; found sgd and adam; remove all but one",
        ),
        (
            "spec.training.epochs=",
            "--set spec.training.epochs=: spec.training.epochs: required field has no value; add it (passes over the training data)",
        ),
    ] {
        assert_eq!(messages(MINIMAL, &[change]), message);
    }
}

#[test]
fn hostile_files_are_refused_within_bounds() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..30 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        bomb += &format!("a{level}: &a{level} [{below}]\n");
    }
    let mut ladder = String::from("a0: &a0 []\n");
    for level in 1..5000 {
        ladder += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
    }
    let nested: String = (0..60).map(|level| format!("&a{level} [")).collect();
    let nested = format!("a: {nested}{}{}\n", "1, ".repeat(100_000), "]".repeat(60));
    let long = format!(
        "a: &a {}\nb: [{}]\n",
        "x".repeat(400_000),
        "*a, ".repeat(10_000)
    );
    for (text, fragment) in [
        (bomb.as_str(), "too many values"),
        (&ladder, "nested deeper than 64"),
        (&nested, "too many values"),
        (&long, "too many values"),
        (&"[".repeat(200_000), "recursion limit"),
        (&"{a: ".repeat(100_000), "recursion limit"),
        (&"- ".repeat(100_000), "nested deeper than 64"),
        (&"x".repeat(MAX_BYTES + 1), "which is the limit"),
        ("", "the file is empty"),
        ("# nothing\n", "the file is empty"),
        ("---\n...\n", "expected a TrainingJob, found nothing"),
        ("a: *nowhere\n", "not valid YAML"),
        ("a: &a [*a]\n", ""),
        ("\u{0}", ""),
        ("? [a]\n: b\n", "a key that is a list or a map"),
    ] {
        let message = messages(text, &[]);
        assert!(
            message != "accepted" && message.contains(fragment),
            "{message}"
        );
    }
}

/// What is too long is told once, and its elements are not compared with each other: a file of the size that is
/// allowed is judged in a moment.
#[test]
fn a_list_that_is_too_long_is_refused_as_a_whole() {
    let excluding = |names: &[String]| {
        let csv = format!(
            "{{csv: {{uri: x.csv, label: target, exclude: [{}]}}}}",
            names.join(",")
        );
        MINIMAL.replace("{npy: {features: x.npy, labels: y.npy}}", &csv)
    };
    let distinct: Vec<String> = (0..120_000).map(|i| format!("c{i}")).collect();
    let alike = vec!["c".to_owned(); 2000];
    for (names, count) in [(distinct, 120_000), (alike, 2000)] {
        assert_eq!(
            messages(&excluding(&names), &[]),
            format!(
                "job.yaml:8:46: spec.data.train.csv.exclude: must have at most 1024 elements, has {count}"
            )
        );
    }
    let twice = excluding(&["a", "b", "a"].map(String::from));
    assert_eq!(
        messages(&twice, &[]),
        "job.yaml:8:60: spec.data.train.csv.exclude[2]: this element is there twice; remove one of them"
    );
}

#[test]
fn of_very_many_unknown_fields_those_that_are_shown_are_looked_at() {
    let fields: String = (0..6000)
        .map(|i| format!("  {}{i}: 1\n", "epoch".repeat(30)))
        .collect();
    let message = messages(&(MINIMAL.to_owned() + &fields), &[]);
    assert!(message.ends_with("\nand 5950 more"), "{message:.200}");
}

#[test]
fn many_errors_are_cut_short() {
    let unknown: String = (0..80).map(|i| format!("  unknown{i}: 1\n")).collect();
    let errors =
        read("job.yaml", &(MINIMAL.to_owned() + &unknown)).expect_err("the fields are unknown");
    assert_eq!(errors.errors().len(), 50);
    assert!(errors.to_string().ends_with("\nand 30 more"));
    let sorted = errors
        .errors()
        .windows(2)
        .all(|pair| pair[0].place <= pair[1].place);
    assert!(
        sorted
            && matches!(
                errors.errors()[0].place,
                Place::Text {
                    line: 13,
                    column: 3
                }
            )
    );
}

#[test]
fn status_and_bom_and_crlf_are_taken() {
    let text = format!("\u{feff}{MINIMAL}status: {{phase: 7}}\n").replace('\n', "\r\n");
    assert!(
        read("job.yaml", &text)
            .expect("the manifest is valid")
            .status
            .is_none()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is cut out, put in or repeated, the reader answers.
    #[test]
    fn mutated_manifests_never_panic(
        edits in prop::collection::vec((0usize..2000, 0usize..60, "[-a-z0-9:{}\\[\\],&*!|>%@`\"'#?~. \n\t\u{e9}]{0,12}"), 1..6),
        change in "[-a-z0-9:{}\\[\\].=\\\\ ]{0,30}",
    ) {
        let mut text: Vec<char> = BASE.chars().collect();
        for (at, length, insert) in edits {
            let start = at.min(text.len());
            let end = (start + length).min(text.len());
            text.splice(start..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(errors) = read("job.yaml", &text) {
            prop_assert!(!errors.errors().is_empty());
        }
        let _ = read_with("job.yaml", BASE, &[change]);
    }

    /// A prefix of a manifest is judged too.
    #[test]
    fn truncated_manifests_never_panic(length in 0usize..2000) {
        let text: String = BASE.chars().take(length).collect();
        if let Err(errors) = read("job.yaml", &text) {
            prop_assert!(!errors.errors().is_empty());
        }
    }
}
