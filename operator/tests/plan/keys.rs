//! When the keys of a job are made.

use trainyard_crds::TrainingJobStatus;
use trainyard_crds::training_job::ExportStatus;
use trainyard_operator::job::Job;
use trainyard_operator::observe::{Member, Observed, PodSeen, PodStage};
use trainyard_operator::plan::Step;

use crate::{FULL, all_current, at, end, pass, seen, valid};

/// Whether a pass over these pods makes keys before it creates pods.
fn makes_keys(job: &Job, status: &TrainingJobStatus, pods: Vec<PodSeen>, second: i64) -> bool {
    let observed = Observed {
        pods,
        children: all_current(),
        ..Observed::default()
    };
    let steps = pass(job, status, &observed, second).steps;
    let first_pod = steps.iter().position(Step::creates_pod);
    let keys = steps.iter().position(|step| *step == Step::CreateKeys);
    assert!(first_pod.is_some(), "{steps:?}");
    assert!(keys.is_none() || keys < first_pod, "{steps:?}");
    keys.is_some()
}

#[test]
fn o41_keys_are_made_before_pods_as_long_as_no_pod_has_them() {
    let job = valid(FULL);
    let first = pass(&job, &TrainingJobStatus::default(), &Observed::default(), 0);
    let status = first.status;
    assert_eq!(status.contract, Some(3));
    let worker = |stage| PodSeen {
        stage,
        ..seen(&job, Member::worker(0), 0)
    };
    let (since, ready) = (Some(at(0)), true);
    let ended = end(137, "Error");
    for (stage, expected) in [
        (PodStage::Pending { trouble: None }, false),
        (PodStage::Running { since, ready }, false),
        (PodStage::Exited { sidecar: true }, true),
        (PodStage::Ended(ended), true),
    ] {
        let told = format!("{stage:?}");
        let pods = vec![worker(stage)];
        assert_eq!(makes_keys(&job, &status, pods, 60), expected, "{told}");
    }
    assert!(makes_keys(&job, &status, Vec::new(), 60));
    // One that hangs on a lost node is shut out anyway.
    let hangs = PodSeen {
        deletion: Some(at(100)),
        ..worker(PodStage::Running { since, ready })
    };
    assert!(!makes_keys(&job, &status, vec![hangs.clone()], 104));
    assert!(makes_keys(&job, &status, vec![hangs], 105));
}

#[test]
fn o41_neither_a_job_that_was_begun_without_keys_nor_an_export_makes_any() {
    let begun = |contract: &str| {
        let status = format!("status: {{image: 'trainer:1'{contract}}}");
        valid(&format!("{FULL}\n{status}\n"))
    };
    for (contract, expected) in [
        ("", false),
        (", contract: 2", false),
        (", contract: 3", true),
    ] {
        let job = begun(contract);
        let status = job.object.status.clone().expect("a status");
        assert_eq!(
            makes_keys(&job, &status, Vec::new(), 0),
            expected,
            "{contract}"
        );
    }
    let job = valid(FULL);
    let mut status = pass(&job, &TrainingJobStatus::default(), &Observed::default(), 0).status;
    status.export = Some(ExportStatus::default());
    assert!(!makes_keys(&job, &status, Vec::new(), 60));
}
