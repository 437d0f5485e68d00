//! Jobs that are refused, by the name of the field, and those at the limits that are not.

use std::sync::Arc;
use std::time::Duration;

use trainyard_crds::training_job::Phase;
use trainyard_operator::job::Job;
use trainyard_operator::observe::Member;
use trainyard_operator::plan::Step;
use trainyard_operator::{plan, resources};

use crate::{at, full_with, read, valid};

/// What is wrong with a job, in lines.
fn problems(yaml: &str) -> String {
    let problems = Job::new(Arc::new(read(yaml))).expect_err("the fixture is invalid");
    problems
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect()
}

/// Longer names are refused by the schema with the limit: `name-too-long` in the corpus of the API's tests.
#[test]
fn o16_the_longest_name_that_the_schema_admits_leaves_room_for_pods_and_services() {
    let longest = "n".repeat(trainyard_crds::MAX_NAME);
    let named = |name: &str| full_with("name: full", &format!("name: {name}"));
    let job = valid(&named(&longest));
    let most_workers = 1024;
    let pod = resources::pod_name(&job.name, Member::worker(most_workers - 1), 1_000_000);
    assert_eq!(pod.len(), 60);
    let service = resources::coordinator(&job, 0).metadata.name;
    assert!(service.is_some_and(|name| name.len() <= 63));
    assert_eq!(resources::keys_name(&job).len(), 54);
}

#[test]
fn o25_an_invalid_job_fails_once_and_says_why() {
    let wrong = full_with(
        "{volume: {persistentVolumeClaim: {claimName: runs}}}",
        "{volume: {emptyDir: {}}}",
    );
    let mut wrong = read(&wrong);
    let problems = Job::new(Arc::new(wrong.clone())).expect_err("invalid");
    let first = plan::invalid(&problems, &wrong, &[], at(0));
    assert_eq!(first.status.phase, Some(Phase::Failed));
    let invalid = first
        .status
        .conditions
        .iter()
        .find(|c| c.type_ == "Invalid")
        .expect("Invalid");
    assert!(
        invalid
            .message
            .contains("spec.checkpoint.storage.volume.emptyDir"),
        "{}",
        invalid.message
    );
    wrong.status = Some(first.status.clone());
    wrong.spec.ttl_seconds_after_finished = Some(100);
    let second = plan::invalid(&problems, &wrong, &[], at(60));
    assert_eq!(second.status, first.status);
    assert_eq!(second.steps, []);
    assert_eq!(second.requeue_after, Some(Duration::from_secs(40)));
    let third = plan::invalid(&problems, &wrong, &[], at(100));
    assert_eq!(third.steps, [Step::DeleteJob]);
}

#[test]
fn o25_what_only_a_local_run_can_do_is_refused_by_name() {
    for (field, value) in [
        ("initialModel", "{uri: base}"),
        ("resumeFrom", "{uri: base}"),
    ] {
        let told = problems(&full_with(
            "spec:\n",
            &format!("spec:\n  {field}: {value}\n"),
        ));
        assert!(
            told.contains(&format!("spec.{field}: only trainyard run")),
            "{told}"
        );
    }
}

#[test]
fn o39_reserved_names_are_refused_with_their_field() {
    let cases = [
        (
            "name: OMP_NUM_THREADS",
            "name: TRAINYARD_POD_IP",
            "spec.workers.env: TRAINYARD_POD_IP",
        ),
        (
            "{name: scratch, emptyDir",
            "{name: data, emptyDir",
            "spec.workers.volumes: the name data",
        ),
        (
            "mountPath: /scratch",
            "mountPath: /data/more",
            "spec.workers.volumeMounts: /data/more",
        ),
        (
            "mountPath: /scratch",
            "mountPath: /tmp/",
            "spec.workers.volumeMounts: /tmp/",
        ),
        (
            "{team: vision}",
            "{trainyard.dev/job: other}",
            "spec.workers.labels: trainyard.dev/job",
        ),
        (
            "{team: vision}",
            "{app.kubernetes.io/name: other}",
            "spec.workers.labels: app.kubernetes.io/name",
        ),
    ];
    for (from, to, expected) in cases {
        let changed = full_with(from, to);
        let problems = problems(&changed);
        assert!(problems.contains(expected), "{problems} has {expected}");
    }
}

/// A job that runs must not become invalid because a newer operator needs names for itself.
#[test]
fn o38_names_that_came_with_keys_are_reserved_only_in_jobs_with_keys() {
    let cases = [
        (
            "name: scratch, emptyDir",
            "name: trainyard-key, emptyDir",
            "spec.workers.volumes: the name trainyard-key",
        ),
        (
            "mountPath: /scratch",
            "mountPath: /etc/trainyard-key/",
            "spec.workers.volumeMounts: /etc/trainyard-key/",
        ),
    ];
    for (from, to, expected) in cases {
        let changed = full_with(from, to);
        let told = problems(&changed);
        assert!(told.contains(expected), "{told} has {expected}");
        let told = problems(&format!(
            "{changed}\nstatus: {{image: 'trainer:1', contract: 3}}\n"
        ));
        assert!(told.contains(expected), "{told} has {expected}");
        for contract in ["", ", contract: 2"] {
            let status = format!("status: {{image: 'trainer:1'{contract}}}");
            assert!(!valid(&format!("{changed}\n{status}\n")).has_keys);
        }
    }
}
