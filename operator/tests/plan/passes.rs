//! What a pass plans, from a job, its status and what is there.

use std::time::Duration;

use trainyard_crds::TrainingJobStatus;
use trainyard_crds::training_job::Phase;
use trainyard_operator::observe::{ChildObject, Member, Observed, PodSeen, PodStage};
use trainyard_operator::plan::{Plan, Step};

use crate::{FULL, all_current, at, created, end, pass, seen, valid};

#[test]
fn o01_objects_come_before_pods_and_a_second_pass_over_them_plans_nothing() {
    let job = valid(FULL);
    let first = pass(&job, &TrainingJobStatus::default(), &Observed::default(), 0);
    let mut applied: Vec<Step> = ChildObject::ALL.map(Step::Create).into();
    applied.push(Step::CreateKeys);
    assert_eq!(first.steps[..applied.len()], applied);
    let members: Vec<Member> = first.steps[applied.len()..]
        .iter()
        .map(|step| match step {
            Step::CreatePod {
                member,
                attempt: 0,
                generation: 1,
            } => *member,
            other => panic!("{other:?}"),
        })
        .collect();
    let servers = (0..2).map(Member::server);
    assert_eq!(
        members,
        servers
            .chain((0..3).map(Member::worker))
            .collect::<Vec<_>>()
    );

    let observed = Observed {
        pods: first
            .steps
            .iter()
            .filter_map(|step| created(&job, step))
            .collect(),
        children: all_current(),
        ..Observed::default()
    };
    let second = pass(&job, &first.status, &observed, 5);
    assert_eq!(second.steps, []);
    assert_eq!(second.status, first.status);
    assert_eq!(second.requeue_after, None);
}

#[test]
fn o01_a_server_that_may_have_been_there_is_created_in_a_new_generation() {
    let job = valid(FULL);
    let first = pass(&job, &TrainingJobStatus::default(), &Observed::default(), 0);
    let unseen = Observed {
        absent: [(Member::server(1), 0)].into(),
        ..Observed::default()
    };
    let second = pass(&job, &first.status, &unseen, 5);
    assert_eq!(second.status.generation, 2);
    assert!(
        second
            .steps
            .iter()
            .all(|step| !matches!(step, Step::CreatePod { generation: 1, .. }))
    );
    assert_eq!(second.status.restarts, first.status.restarts);
}

#[test]
fn o25_conditions_follow_the_conventions() {
    let job = valid(FULL);
    let first = pass(&job, &TrainingJobStatus::default(), &Observed::default(), 0);
    assert_eq!(first.status.observed_generation, Some(3));
    let suspended = FULL
        .replace("  servers:\n", "  suspend: true\n  servers:\n")
        .replace("generation: 3", "generation: 4");
    let second = pass(&valid(&suspended), &first.status, &Observed::default(), 10);
    assert_eq!(second.status.phase, Some(Phase::Suspended));
    assert_eq!(second.status.observed_generation, Some(4));
    let condition = |plan: &Plan, type_: &str| {
        plan.status
            .conditions
            .iter()
            .find(|c| c.type_ == type_)
            .cloned()
    };
    let (before, after) = (condition(&first, "Running"), condition(&second, "Running"));
    let (before, after) = (before.expect("Running"), after.expect("Running"));
    assert_eq!(
        (before.status.as_str(), after.status.as_str()),
        ("False", "False")
    );
    assert_eq!(before.last_transition_time, after.last_transition_time);
    assert_ne!(before.reason, after.reason);
    assert_eq!(after.observed_generation, Some(4));
    assert_eq!(
        condition(&second, "Suspended").map(|c| c.last_transition_time.0),
        Some(at(10))
    );
    for condition in &second.status.conditions {
        assert!(
            !condition.reason.is_empty() && condition.reason.chars().all(char::is_alphanumeric)
        );
        assert!(["True", "False"].contains(&condition.status.as_str()));
    }
}

#[test]
fn o21_a_pod_that_does_not_start_is_named_after_two_minutes() {
    let job = valid(FULL);
    let first = pass(&job, &TrainingJobStatus::default(), &Observed::default(), 0);
    let pods = first.steps.iter().filter_map(|step| created(&job, step));
    let observed = Observed {
        pods: pods
            .map(|pod| PodSeen {
                created: Some(at(0)),
                ..pod
            })
            .collect(),
        children: all_current(),
        ..Observed::default()
    };
    let early = pass(&job, &first.status, &observed, 20);
    assert_eq!(early.status, first.status);
    assert_eq!(early.requeue_after, Some(Duration::from_secs(100)));
    let late = pass(&job, &first.status, &observed, 120);
    let degraded = late
        .status
        .conditions
        .iter()
        .find(|c| c.type_ == "Degraded");
    let degraded = degraded.expect("a condition");
    assert_eq!(
        (degraded.status.as_str(), degraded.reason.as_str()),
        ("True", "NotStarted")
    );
    assert!(degraded.message.contains("full-server-0-0"), "{degraded:?}");
}

/// What has ended has logs; what never began has none, and would still take its place.
#[test]
fn o14_each_policy_deletes_what_it_names_and_what_never_began() {
    let ended = end(0, "Completed");
    for (policy, expected) in [
        ("All", vec![0, 1, 2, 3]),
        ("Running", vec![0, 1]),
        ("None", vec![0]),
    ] {
        let job = valid(&FULL.replacen("spec:", &format!("spec:\n  cleanPodPolicy: {policy}"), 1));
        let pod = |index| PodSeen {
            stage: match index {
                0 => PodStage::Pending { trouble: None },
                1 => PodStage::Running {
                    since: None,
                    ready: true,
                },
                2 => PodStage::Exited { sidecar: false },
                _ => PodStage::Ended(ended.clone()),
            },
            ..seen(&job, Member::worker(index), 0)
        };
        let observed = Observed {
            pods: (0..4).map(pod).collect(),
            ..Observed::default()
        };
        let status = TrainingJobStatus {
            phase: Some(Phase::Succeeded),
            ..TrainingJobStatus::default()
        };
        let deleted = pass(&job, &status, &observed, 10).steps;
        let wanted = expected.into_iter().map(pod).map(|pod| Step::DeletePod {
            name: pod.name,
            uid: pod.uid,
            version: (policy == "None").then_some(pod.version),
        });
        assert_eq!(deleted, wanted.collect::<Vec<_>>(), "{policy}");
    }
}

/// Between the end of its container and that of its pod it has started, and a group may have formed with it.
#[test]
fn o32_a_server_that_has_ended_is_not_one_that_waits_to_start() {
    let job = valid(FULL);
    let status = TrainingJobStatus {
        generation: 1,
        ..TrainingJobStatus::default()
    };
    // Server 0 is missing, and may have been there.
    let generation = |stage: PodStage| {
        let server = PodSeen {
            stage,
            ..seen(&job, Member::server(1), 0)
        };
        let observed = Observed {
            pods: vec![server],
            absent: [(Member::server(0), 0)].into(),
            ..Observed::default()
        };
        pass(&job, &status, &observed, 5).status.generation
    };
    assert_eq!(generation(PodStage::Exited { sidecar: false }), 2);
    assert_eq!(generation(PodStage::Pending { trouble: None }), 1);
}
