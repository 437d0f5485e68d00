//! What may change while a job exists. The rules are those that the API server evaluates on an update.

use kube_cel::Validator;
use serde_json::Value;
use trainyard_crds::manifest::{read, read_with};
use trainyard_crds::{TrainingJob, schema};

use crate::common::BASE;

/// Paths that the rules complain about when the base manifest is changed. Each complaint says what cannot be, and what to do.
fn complaints(set: &[&str]) -> Vec<String> {
    let old = read("job.yaml", BASE).expect("the base manifest is valid");
    let set: Vec<String> = set.iter().map(|change| change.to_string()).collect();
    let new = read_with("job.yaml", BASE, &set).expect("the change is valid by itself");
    rules(&new, &old)
}

fn rules(new: &TrainingJob, old: &TrainingJob) -> Vec<String> {
    let json = |job: &TrainingJob| -> Value { serde_json::to_value(job).expect("a job is JSON") };
    match Validator::new().validate(
        &schema::open_api::<TrainingJob>(),
        &json(new),
        Some(&json(old)),
    ) {
        Ok(()) => Vec::new(),
        Err(errors) => errors
            .into_vec()
            .into_iter()
            .map(|error| {
                let told = error
                    .message
                    .contains("cannot change while the job exists; create another job");
                assert!(told, "{}: {}", error.field_path, error.message);
                error.field_path
            })
            .collect(),
    }
}

#[test]
fn o27_running_jobs_can_be_scaled_suspended_and_limited() {
    for change in [
        "spec.workers.replicas=3",
        "spec.workers.minReplicas=2",
        "spec.workers.minReplicas=",
        "spec.workers.maxReplicas=3",
        "spec.suspend=true",
        "spec.backoffLimit=9",
        "spec.activeDeadlineSeconds=",
        "spec.ttlSecondsAfterFinished=60",
        "spec.cleanPodPolicy=All",
    ] {
        assert!(
            complaints(&[change]).is_empty(),
            "{change}: {:?}",
            complaints(&[change])
        );
    }
}

#[test]
fn o27_everything_else_is_immutable() {
    for (change, path) in [
        ("spec.image=other", "spec.image"),
        ("spec.image=", "spec.image"),
        ("spec.model.mlp.hidden={1: 2}", ""),
        ("spec.model.mlp.hidden.1=65", "spec.model"),
        ("spec.data.train.csv.missing=Mean", "spec.data"),
        ("spec.data.volume=", "spec.data"),
        ("spec.training.seed=8", "spec.training"),
        ("spec.training.optimizer={sgd: {}}", "spec.training"),
        ("spec.servers.replicas=2", "spec.servers"),
        ("spec.checkpoint.keep=4", "spec.checkpoint"),
        ("spec.checkpoint.storage=", "spec.checkpoint"),
        (
            "spec.workers.resources.limits.memory=3Gi",
            "spec.workers.resources",
        ),
        ("spec.workers.resources=", "spec.workers.resources"),
        (
            "spec.workers.nodeSelector={zone: a}",
            "spec.workers.nodeSelector",
        ),
        (
            "spec.workers.priorityClassName=high",
            "spec.workers.priorityClassName",
        ),
    ] {
        if path.is_empty() {
            assert!(
                read_with("job.yaml", BASE, &[change.to_owned()]).is_err(),
                "{change}"
            );
        } else {
            assert_eq!(complaints(&[change]), [path], "{change}");
        }
    }
}

/// Every field of the pod settings is either in the list of immutable ones or was forgotten there.
#[test]
fn o27_no_pod_setting_is_forgotten() {
    let schema = schema::open_api::<TrainingJob>();
    let workers = &schema["properties"]["spec"]["properties"]["workers"];
    let rules: Vec<&str> = workers["x-kubernetes-validations"]
        .as_array()
        .expect("workers have rules")
        .iter()
        .filter_map(|rule| rule["rule"].as_str())
        .collect();
    for name in workers["properties"]
        .as_object()
        .expect("workers have fields")
        .keys()
    {
        let mutable = ["replicas", "minReplicas", "maxReplicas"].contains(&name.as_str());
        let fixed = rules
            .iter()
            .any(|rule| rule.contains(&format!("self.{name} == oldSelf.{name}")));
        assert!(mutable != fixed, "{name}");
    }
}
