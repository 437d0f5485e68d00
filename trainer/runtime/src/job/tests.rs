//! What a manifest says is what is trained with.

use serde_json::{Value, json};
use trainyard_contract::DEFAULTS;
use trainyard_core::optimizer::Optimizer;

use super::Job;

fn job(optimizer: &Value, schedule: &Value) -> Job {
    let manifest = json!({
        "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "mapped"},
        "spec": {
            "task": {"regression": {}}, "model": {"mlp": {"hidden": [4]}},
            "data": {"train": {"csv": {"uri": "x.csv", "label": "y"}}},
            "training": {
                "epochs": 5, "batchSize": 10, "microBatches": 2, "optimizer": optimizer, "schedule": schedule,
            },
        },
    });
    Job::from_json(&manifest.to_string()).expect("a job")
}

#[test]
fn t07_every_field_of_an_optimizer_reaches_it() {
    let optimizer = |value: Value| job(&value, &json!({"constant": {}})).optimizer;
    let sgd = json!({"learningRate": 0.1, "momentum": 0.8, "dampening": 0.0, "nesterov": true, "weightDecay": 0.01});
    assert_eq!(
        optimizer(json!({"sgd": sgd})),
        Optimizer::Sgd {
            momentum: 0.8,
            dampening: 0.0,
            nesterov: true,
            weight_decay: 0.01
        }
    );
    let dampened = json!({"learningRate": 0.1, "momentum": 0.7, "dampening": 0.2});
    assert_eq!(
        optimizer(json!({"sgd": dampened})),
        Optimizer::Sgd {
            momentum: 0.7,
            dampening: 0.2,
            nesterov: false,
            weight_decay: 0.0
        }
    );
    let adam = json!({"learningRate": 0.1, "beta1": 0.5, "beta2": 0.6, "epsilon": 0.125, "weightDecay": 0.25});
    assert_eq!(
        optimizer(json!({"adam": adam})),
        Optimizer::Adam {
            beta1: 0.5,
            beta2: 0.6,
            epsilon: 0.125,
            weight_decay: 0.25
        }
    );
    assert_eq!(
        optimizer(json!({"adamW": adam})),
        Optimizer::AdamW {
            beta1: 0.5,
            beta2: 0.6,
            epsilon: 0.125,
            weight_decay: 0.25
        }
    );
    let adagrad = json!({
        "learningRate": 0.1, "lrDecay": 0.5, "weightDecay": 0.25, "initialAccumulatorValue": 0.75, "epsilon": 0.125,
    });
    assert_eq!(
        optimizer(json!({"adagrad": adagrad})),
        Optimizer::Adagrad {
            lr_decay: 0.5,
            weight_decay: 0.25,
            initial_accumulator_value: 0.75,
            epsilon: 0.125
        }
    );
}

/// Learning rates of some steps, worked out by hand: 10 steps an epoch, 50 in all.
#[test]
fn t07_every_field_of_a_schedule_reaches_it() {
    let rates = |schedule: Value, steps: &[u64]| -> Vec<f64> {
        let job = job(&json!({"sgd": {"learningRate": 0.5}}), &schedule);
        let rate = job.learning_rate(job.plan(100).expect("a plan").total_steps());
        steps.iter().map(|step| rate.at(*step)).collect()
    };
    let close = |schedule: Value, expected: &[(u64, f64)]| {
        let steps: Vec<u64> = expected.iter().map(|(step, _)| *step).collect();
        for (rate, (step, wanted)) in rates(schedule.clone(), &steps).iter().zip(expected) {
            assert!(
                (rate - wanted).abs() < 1e-12,
                "{schedule}, step {step}: {rate}, not {wanted}"
            );
        }
    };
    close(
        json!({"constant": {"warmupSteps": 4}}),
        &[(0, 0.1), (3, 0.4), (4, 0.5), (49, 0.5)],
    );
    close(
        json!({"step": {"stepSize": 20, "gamma": 0.5, "warmupSteps": 4}}),
        &[(0, 0.1), (23, 0.5), (24, 0.25), (44, 0.125)],
    );
    close(
        json!({"exponential": {"gamma": 0.5, "warmupSteps": 4}}),
        &[(3, 0.4), (4, 0.5), (6, 0.125)],
    );
    close(
        json!({"cosine": {"minLearningRate": 0.1, "warmupSteps": 10}}),
        &[(10, 0.5), (30, 0.3), (50, 0.1)],
    );
    // The peak comes at the end of pctStart, the end after all steps.
    close(
        json!({"oneCycle": {"maxLearningRate": 2.0, "pctStart": 0.5, "divFactor": 4.0, "finalDivFactor": 10.0}}),
        &[(0, 0.5), (12, 1.25), (24, 2.0), (49, 0.05)],
    );
}

/// As the operator writes it: names in order, defaults filled in, nothing of the pods.
const JOB_FILE: &str = include_str!("../../../../operator/tests/fixtures/full.job.json");

#[test]
fn the_operators_job_file_is_read() {
    let job = Job::from_json(JOB_FILE).expect("a job");
    let metadata = &job.manifest.metadata;
    assert_eq!(job.name, "full");
    assert_eq!(metadata.namespace.as_deref(), Some("team"));
    assert!(metadata.uid.is_some());
    assert_eq!(job.manifest.spec.servers.replicas, 2);
    assert_eq!(job.manifest.spec.training.batch_size, 32);
}

#[test]
fn a_job_file_of_another_kind_is_refused_by_name() {
    for (known, other) in [("v1alpha1", "v9"), ("\"TrainingJob\"", "\"Model\"")] {
        let text = JOB_FILE.replacen(known, other, 1);
        let error = Job::from_json(&text).expect_err("another kind");
        let told = format!("{error:#}");
        assert!(told.contains(other.trim_matches('"')), "{told}");
        assert!(
            told.contains("TrainingJob of trainyard.dev/v1alpha1"),
            "{told}"
        );
    }
}

#[test]
fn t15_settings_without_effect_are_told() {
    let sgd = json!({"sgd": {"learningRate": 0.1}});
    type Change<'a> = &'a dyn Fn(&mut Job);
    let told = |schedule: Value, change: Change<'_>, rows: u64, worker: u32| {
        let mut job = job(&sgd, &schedule);
        change(&mut job);
        job.warnings(rows, worker).expect("a plan")
    };
    let constant = || json!({"constant": {}});
    let keep = |_: &mut Job| {};
    assert_eq!(told(constant(), &keep, 100, 1), [""; 0]);
    let early = |job: &mut Job| {
        let early = json!({"metric": "loss", "patience": 5});
        job.manifest.spec.training.early_stopping = serde_json::from_value(early).ok();
    };
    let long = |job: &mut Job| job.manifest.spec.training.epochs = 600;
    let only = |warnings: Vec<String>, expected: &str| {
        let [warning] = &warnings[..] else {
            panic!("{expected}: {warnings:?}")
        };
        assert!(warning.contains(expected), "{warning}");
    };
    only(
        told(constant(), &keep, 100, 2),
        "at most 2 workers compute at a time",
    );
    only(
        told(constant(), &keep, 9, 0),
        "there are 9 training rows: each step takes all",
    );
    only(
        told(constant(), &early, 100, 0),
        "patience is 5, and there are 5 epochs",
    );
    only(told(constant(), &long, 100, 0), "the last 512 epochs");
    let schedules = [
        (
            json!({"constant": {"warmupSteps": 50}}),
            "warms up for 50 steps, and the job has 50",
        ),
        (json!({"cosine": {"warmupSteps": 60}}), "never reached"),
        (
            json!({"step": {"stepSize": 40, "warmupSteps": 10}}),
            "the learning rate never changes",
        ),
        (
            json!({"exponential": {"gamma": 1e-9}}),
            "lowers the learning rate to 0",
        ),
        (
            json!({"cosine": {"minLearningRate": 0.5}}),
            "above the learning rate 0.1, which rises",
        ),
        (
            json!({"oneCycle": {"maxLearningRate": 1.0}}),
            "learningRate 0.1 is not used",
        ),
    ];
    for (schedule, expected) in schedules {
        only(told(schedule, &keep, 100, 0), expected);
    }
    let fits = json!({"step": {"stepSize": 39, "warmupSteps": 10}});
    assert_eq!(told(fits, &keep, 100, 0), [""; 0]);
}

#[test]
fn t25_a_job_keeps_the_defaults_that_it_was_begun_with_and_its_digests() {
    let text = |defaults: Option<u32>, categorical: &[&str]| {
        let mut file: Value = serde_json::from_str(JOB_FILE).expect("JSON");
        file["spec"]["data"]["train"]["csv"]["categorical"] = json!(categorical);
        if let Some(defaults) = defaults {
            file["defaults"] = json!(defaults);
        }
        file.to_string()
    };
    let job = |text: &str| Job::from_json(text).expect("a job");
    let reads_na = |job: &Job| match job.load_options().expect("options").train {
        trainyard_data::SourceSpec::Table(csv) => csv.na_is_missing,
        other => panic!("{other:?}"),
    };
    let old = job(&text(None, &["a"]));
    let new = job(&text(Some(2), &["a"]));
    assert_eq!((old.defaults, reads_na(&old)), (1, false));
    assert_eq!((new.defaults, reads_na(&new)), (2, true));
    assert_eq!(old.identity(), new.identity());
    assert_eq!(new.to_json().expect("JSON")["defaults"], 2);
    assert_eq!(old.to_json().expect("JSON").get("defaults"), None);
    let again = Job::from_value(new.to_json().expect("JSON")).expect("a job");
    assert_eq!(again.defaults, 2);

    // What programs of before do not know is refused by them.
    let mut file: Value = serde_json::from_str(&text(Some(2), &[])).expect("JSON");
    file["spec"]["data"]["train"]["csv"]["unnamedColumns"] = json!("Include");
    assert_eq!(job(&file.to_string()).defaults, 2);
    for (field, value) in [
        ("columns", json!([{"name": "b", "type": "Date"}])),
        ("missing", json!("Impute")),
        ("missingValues", json!(["?"])),
    ] {
        let mut file: Value = serde_json::from_str(&text(Some(3), &[])).expect("JSON");
        file["spec"]["data"]["train"]["csv"][field] = value;
        assert_eq!(job(&file.to_string()).defaults, 3, "{field}");
    }
    assert_eq!(
        job(&text(Some(3), &["a"])).defaults,
        2,
        "as before there were more"
    );
    // What does not depend on it stays as it was, also in what is written.
    assert_eq!(job(&text(Some(2), &[])).defaults, 1);
    let stops = |metric: &str, defaults: u32| {
        let mut file: Value = serde_json::from_str(JOB_FILE).expect("JSON");
        file["spec"]["training"]["earlyStopping"] = json!({"metric": metric, "patience": 1});
        file["defaults"] = json!(defaults);
        let job = job(&file.to_string());
        let early = job.early_stopping().expect("early stopping");
        (job.defaults, early.counts_undefined)
    };
    assert_eq!(stops("auc", 1), (1, true));
    assert_eq!(stops("auc", 2), (2, false));
    assert_eq!(stops("loss", 2), (1, true));
    assert_eq!(stops("precision", 4).0, 4);
    for (place, value) in [
        ("/data/train/csv/weight", json!("w")),
        ("/data/train/csv/decimal", json!(",")),
        ("/data/train/csv/header", json!(false)),
        ("/data/validation", json!({"fraction": 0.2})),
        (
            "/data/validation",
            json!({"split": {"fraction": 0.2, "groupBy": "b"}}),
        ),
        ("/data/test", json!({"fraction": 0.2})),
        (
            "/data/test",
            json!({"split": {"fraction": 0.2, "orderBy": "b"}}),
        ),
        ("/task/binaryClassification/threshold", json!(0.3)),
        ("/task", json!({"regression": {}})),
    ] {
        let mut file: Value = serde_json::from_str(&text(Some(4), &[])).expect("JSON");
        let (parent, field) = place.rsplit_once('/').expect("a place");
        let parent = file["spec"].pointer_mut(parent).expect("a parent");
        parent[field] = value;
        assert_eq!(job(&file.to_string()).defaults, 4, "{place}");
    }
    let newer = DEFAULTS + 1;
    let unknown = Job::from_json(&text(Some(newer), &["a"])).expect_err("of a newer version");
    let named = format!("defaults {newer}");
    assert!(format!("{unknown:#}").contains(&named), "{unknown:#}");
}

#[test]
fn t25_a_job_is_another_if_it_begins_with_another_model() {
    let digest = |field: &str, value: Value| {
        let mut file: Value = serde_json::from_str(JOB_FILE).expect("JSON");
        file["spec"][field] = value;
        Job::from_json(&file.to_string())
            .expect("a job")
            .spec_digest
    };
    let begun = |uri: &str, model: char| {
        let sha256 = model.to_string().repeat(64);
        digest("initialModel", json!({"uri": uri, "modelSha256": sha256}))
    };
    let anew = Job::from_json(JOB_FILE).expect("a job").spec_digest;
    assert_ne!(begun("x", 'a'), anew);
    assert_ne!(begun("x", 'a'), begun("x", 'b'));
    assert_eq!(begun("x", 'a'), begun("y", 'a'), "wherever it lies");
    assert_eq!(digest("resumeFrom", json!({"uri": "x"})), anew);
}
