//! Jobs from YAML through validation, plan and objects: all that needs neither a clock nor a cluster.

mod emitted;
mod keys;
mod losses;
mod passes;
mod pods;
mod refusals;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use trainyard_crds::{TrainingJob, TrainingJobStatus};
use trainyard_operator::job::Job;
use trainyard_operator::observe::{Child, ChildObject, End, Member, Observed, PodSeen, PodStage};
use trainyard_operator::plan::{JobState, Plan, Settings, Step};
use trainyard_operator::{plan, resources};

const FULL: &str = include_str!("../fixtures/full.yaml");

fn read(yaml: &str) -> TrainingJob {
    serde_saphyr::from_str(yaml).expect("the fixture is a TrainingJob")
}

fn valid(yaml: &str) -> Job {
    Job::new(Arc::new(read(yaml))).expect("the fixture is valid")
}

/// The full manifest with `to` in place of each `from`, of which there must be at least one.
fn full_with(from: &str, to: &str) -> String {
    let changed = FULL.replace(from, to);
    assert_ne!(changed, FULL, "{from}");
    changed
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).expect("a time of this century")
}

fn pass(job: &Job, status: &TrainingJobStatus, observed: &Observed, second: i64) -> Plan {
    let settings = Settings {
        image: "trainer:1".into(),
    };
    let known = JobState::of(status.clone());
    plan::plan(job, &known, observed, &settings, at(second))
}

/// Every child object, as it should be.
fn all_current() -> BTreeMap<ChildObject, Child> {
    let current = |child: ChildObject| {
        let uid = format!("uid-of-{child:?}");
        (child, Child::Ours { uid, current: true })
    };
    ChildObject::ALL.map(current).into()
}

/// A member's pod that nothing has happened to yet.
fn seen(job: &Job, member: Member, attempt: u32) -> PodSeen {
    PodSeen {
        name: resources::pod_name(&job.name, member, attempt),
        uid: format!("uid-of-{member}"),
        version: "7".into(),
        member,
        attempt,
        labelled: true,
        created: None,
        stage: PodStage::Pending { trouble: None },
        ip: None,
        deletion: None,
    }
}

/// The end of a container that lived for a second.
fn end(code: i32, reason: &str) -> End {
    End {
        code: Some(code),
        reason: reason.into(),
        message: String::new(),
        disrupted: false,
        lived_seconds: 1,
        finished: Some(at(1)),
    }
}

/// The pod that a step creates, a moment later.
fn created(job: &Job, step: &Step) -> Option<PodSeen> {
    let Step::CreatePod {
        member, attempt, ..
    } = step
    else {
        return None;
    };
    Some(seen(job, *member, *attempt))
}

fn pod(job: &Job, member: Member) -> Value {
    serde_json::to_value(resources::pod(job, "trainer:1", member, 0, 1)).expect("a pod is JSON")
}
