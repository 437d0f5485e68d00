//! Which losses are counted, and how long the next attempt waits.

use trainyard_crds::TrainingJobStatus;
use trainyard_crds::training_job::MemberRestarts;
use trainyard_operator::job::Job;
use trainyard_operator::observe::{Member, Observed, PodSeen, PodStage};
use trainyard_operator::plan::Step;

use crate::{FULL, all_current, at, pass, seen, valid};

/// A status with all servers running, and a worker that ended nine times in a row.
fn troubled(job: &Job) -> TrainingJobStatus {
    let first = pass(job, &TrainingJobStatus::default(), &Observed::default(), 0);
    let mut status = first.status;
    status.restarts.members = vec![MemberRestarts {
        name: "worker-1".into(),
        attempt: 9,
        streak: 9,
        ..MemberRestarts::default()
    }];
    status
}

#[test]
fn o09_a_disruption_after_a_healthy_period_begins_the_waits_anew() {
    let job = valid(FULL);
    let status = troubled(&job);
    let after = |lived: i64| {
        let member = Member::worker(1);
        let pod = PodSeen {
            created: Some(at(0)),
            stage: PodStage::Running {
                since: Some(at(0)),
                ready: true,
            },
            deletion: Some(at(lived + 60)),
            ..seen(&job, member, 9)
        };
        let observed = Observed {
            pods: vec![pod],
            children: all_current(),
            ..Observed::default()
        };
        let plan = pass(&job, &status, &observed, lived);
        let worker = plan.status.restarts.members.into_iter();
        worker.map(|m| (m.attempt, m.streak)).next()
    };
    assert_eq!(after(299), Some((10, 10)));
    assert_eq!(after(300), Some((10, 1)));
}

/// A job whose two servers run and whose worker 1 is missing, and what of its workers the status says.
fn worker_1_is_missing(job: &Job, started: Option<&str>) -> (TrainingJobStatus, Observed) {
    let first = pass(job, &TrainingJobStatus::default(), &Observed::default(), 0);
    let mut status = first.status;
    status.workers.started_indexes = started.map(str::to_owned);
    let running = |member| PodSeen {
        stage: PodStage::Running {
            since: Some(at(1)),
            ready: true,
        },
        ..seen(job, member, 0)
    };
    let members = (0..2).map(Member::server).chain([0, 2].map(Member::worker));
    let observed = Observed {
        pods: members.map(running).collect(),
        children: all_current(),
        absent: [(Member::worker(1), 0)].into(),
        ..Observed::default()
    };
    (status, observed)
}

/// Nothing is remembered here: what was seen is a pod that the status knows and the API server does not.
#[test]
fn o05_a_worker_that_has_started_and_is_gone_is_counted_once() {
    let job = valid(FULL);
    let (status, observed) = worker_1_is_missing(&job, Some("0-2"));
    let first = pass(&job, &status, &observed, 60);
    assert_eq!(first.status.restarts.disruptions, 1);
    assert_eq!(first.status.workers.started_indexes.as_deref(), Some("0,2"));
    let successor = Step::CreatePod {
        member: Member::worker(1),
        attempt: 1,
        generation: 1,
    };
    assert_eq!(first.steps, [successor]);
    let second = pass(&job, &first.status, &observed, 61);
    assert_eq!(second.status.restarts, first.status.restarts);
}

#[test]
fn o05_a_worker_that_has_not_started_or_whose_name_another_has_is_not_counted() {
    let job = valid(FULL);
    let (status, observed) = worker_1_is_missing(&job, Some("0,2"));
    let first = pass(&job, &status, &observed, 60);
    assert_eq!(first.status.restarts, status.restarts);
    assert_eq!(first.steps.len(), 1);

    let (status, mut observed) = worker_1_is_missing(&job, Some("0-2"));
    observed.foreign = std::mem::take(&mut observed.absent);
    let second = pass(&job, &status, &observed, 60);
    assert_eq!(second.status.restarts, status.restarts);
    assert_eq!(second.steps, []);
    assert_eq!(
        second.refused.map(|trouble| trouble.reason),
        Some("NameTaken")
    );
}

#[test]
fn o05_whose_pods_have_started_is_written_with_the_number_of_those_that_are_ready() {
    let job = valid(FULL);
    let (status, observed) = worker_1_is_missing(&job, None);
    let plan = pass(&job, &status, &observed, 60);
    assert_eq!(
        (plan.status.servers.ready, plan.status.workers.ready),
        (2, 2)
    );
    assert_eq!(plan.status.servers.started_indexes.as_deref(), Some("0-1"));
    assert_eq!(plan.status.workers.started_indexes.as_deref(), Some("0,2"));
}
