//! Jobs from YAML through validation, plan and objects: all that needs neither a clock nor a cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use trainyard_crds::training_job::{ExportStatus, MemberRestarts, Phase};
use trainyard_crds::{TrainingJob, TrainingJobStatus};
use trainyard_operator::job::Job;
use trainyard_operator::observe::{Child, ChildObject, End, Member, Observed, PodSeen, PodStage};
use trainyard_operator::plan::{self, JobState, Plan, Settings, Step};
use trainyard_operator::resources;

const FULL: &str = include_str!("fixtures/full.yaml");

fn read(yaml: &str) -> TrainingJob {
    serde_saphyr::from_str(yaml).expect("the fixture is a TrainingJob")
}

fn valid(yaml: &str) -> Job {
    Job::new(Arc::new(read(yaml))).expect("the fixture is valid")
}

/// What is wrong with a job, in lines.
fn problems(yaml: &str) -> String {
    let problems = Job::new(Arc::new(read(yaml))).expect_err("the fixture is invalid");
    problems
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect()
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
fn o01_hostnames_are_stable_and_pods_carry_the_attempt() {
    let job = valid(FULL);
    let second = resources::pod(&job, "trainer:1", Member::server(1), 4, 9);
    let second = serde_json::to_value(second).expect("a pod is JSON");
    assert_eq!(second["metadata"]["name"], "full-server-1-4");
    assert_eq!(second["spec"]["hostname"], "full-server-1");
    assert_eq!(second["spec"]["subdomain"], "full");
    let args = second["spec"]["containers"][0]["args"].to_string();
    for arg in [
        "--generation=9",
        "--index=1",
        "--servers=2",
        "--storage=/storage/full-0a1b2c3d",
    ] {
        assert!(args.contains(arg), "{arg} in {args}");
    }
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

/// Longer names are refused by the schema with the limit: `name-too-long` in the corpus of the API's tests.
#[test]
fn o16_the_longest_name_that_the_schema_admits_leaves_room_for_pods_and_services() {
    let longest = "n".repeat(trainyard_crds::MAX_NAME);
    let named = |name: &str| FULL.replace("name: full", &format!("name: {name}"));
    let job = valid(&named(&longest));
    let most_workers = 1024;
    let pod = resources::pod_name(&job.name, Member::worker(most_workers - 1), 1_000_000);
    assert_eq!(pod.len(), 60);
    let service = resources::coordinator(&job, 0).metadata.name;
    assert!(service.is_some_and(|name| name.len() <= 63));
    assert_eq!(resources::keys_name(&job).len(), 54);
}

#[test]
fn o24_pods_pass_the_restricted_standard_and_hold_no_token() {
    let job = valid(FULL);
    for member in [Member::server(0), Member::worker(2)] {
        let spec = &pod(&job, member)["spec"];
        assert_eq!(spec["automountServiceAccountToken"], false);
        assert_eq!(spec["enableServiceLinks"], false);
        let of_pod = &spec["securityContext"];
        assert_eq!(of_pod["runAsNonRoot"], true);
        assert_eq!(of_pod["runAsUser"], 65532);
        assert_eq!(of_pod["seccompProfile"], json!({"type": "RuntimeDefault"}));
        let of_container = &spec["containers"][0]["securityContext"];
        assert_eq!(of_container["allowPrivilegeEscalation"], false);
        assert_eq!(of_container["readOnlyRootFilesystem"], true);
        assert_eq!(of_container["capabilities"], json!({"drop": ["ALL"]}));
        assert!(of_container["privileged"].is_null());
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(spec[field].is_null(), "{field}");
        }
        let volumes = spec["volumes"].as_array().expect("volumes");
        let restricted = ["configMap", "emptyDir", "persistentVolumeClaim", "secret"];
        assert!(
            volumes
                .iter()
                .all(|volume| restricted.iter().any(|kind| !volume[kind].is_null())),
            "{volumes:?}"
        );
        assert!(volumes.iter().all(|volume| volume["projected"].is_null()));
    }
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
fn o25_an_invalid_job_fails_once_and_says_why() {
    let wrong = FULL.replace(
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
        let told = problems(&FULL.replace("spec:\n", &format!("spec:\n  {field}: {value}\n")));
        assert!(
            told.contains(&format!("spec.{field}: only trainyard run")),
            "{told}"
        );
    }
}

#[test]
fn o39_what_the_user_sets_survives() {
    let job = valid(FULL);
    let worker = pod(&job, Member::worker(0));
    let container = &worker["spec"]["containers"][0];
    let contains =
        |list: &Value, wanted: &Value| list.as_array().is_some_and(|list| list.contains(wanted));
    assert!(contains(
        &container["env"],
        &json!({"name": "OMP_NUM_THREADS", "value": "4"})
    ));
    let token =
        json!({"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}});
    assert!(contains(&container["env"], &token), "{}", container["env"]);
    assert!(contains(
        &container["volumeMounts"],
        &json!({"name": "scratch", "mountPath": "/scratch"})
    ));
    assert!(contains(
        &worker["spec"]["volumes"],
        &json!({"name": "scratch", "emptyDir": {}})
    ));
    assert_eq!(worker["metadata"]["labels"]["team"], "vision");
    assert_eq!(worker["metadata"]["labels"]["trainyard.dev/job"], "full");
    let server = pod(&job, Member::server(0));
    let env = &server["spec"]["containers"][0]["env"];
    assert!(contains(
        env,
        &json!({"name": "RUST_LOG", "value": "debug"})
    ));
    assert!(!env.to_string().contains("OMP_NUM_THREADS"));
}

#[test]
fn t30_workers_are_given_the_threads_of_a_leaf_and_nobody_else() {
    let yaml = FULL.replace("microBatches: 4", "microBatches: 4\n    threadsPerLeaf: 2");
    let yaml = yaml.replace("OMP_NUM_THREADS", "OTHER");
    let job = valid(&yaml);
    let env = |member| pod(&job, member)["spec"]["containers"][0]["env"].to_string();
    let worker = env(Member::worker(0));
    for (name, value) in [
        ("OMP_NUM_THREADS", "2"),
        ("MKL_NUM_THREADS", "2"),
        ("OMP_DYNAMIC", "FALSE"),
        ("MKL_DYNAMIC", "FALSE"),
    ] {
        let set = json!({"name": name, "value": value}).to_string();
        assert!(worker.contains(&set), "{set} in {worker}");
    }
    let finisher = env(Member::FINISHER);
    let one = json!({"name": "OMP_NUM_THREADS", "value": "1"}).to_string();
    assert!(finisher.contains(&one), "{finisher}");
    assert!(!finisher.contains("DYNAMIC"), "{finisher}");
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
        let changed = FULL.replace(from, to);
        assert_ne!(changed, FULL, "{from}");
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
        let changed = FULL.replace(from, to);
        assert_ne!(changed, FULL, "{from}");
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
    let ended = End {
        code: Some(137),
        reason: "Error".into(),
        message: String::new(),
        disrupted: false,
        lived_seconds: 1,
        finished: Some(at(1)),
    };
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

#[test]
fn o32_the_service_of_server_0_leads_to_its_current_pod_alone() {
    let job = valid(FULL);
    let mut status = pass(&job, &TrainingJobStatus::default(), &Observed::default(), 0).status;
    status.started_generation = status.generation;
    let observed = Observed {
        children: all_current(),
        ..Observed::default()
    };
    let plan = pass(&job, &status, &observed, 60);
    let place = |step: &dyn Fn(&Step) -> bool| plan.steps.iter().position(step);
    let service = place(&|step| {
        matches!(
            step,
            Step::Update {
                child: ChildObject::Coordinator,
                ..
            }
        )
    });
    let successor = place(&|step| {
        matches!(
            step,
            Step::CreatePod {
                member: Member::COORDINATOR,
                attempt: 1,
                ..
            }
        )
    });
    assert!(service.is_some() && service < successor, "{:?}", plan.steps);
    let selector = resources::coordinator(&job, 1)
        .spec
        .and_then(|spec| spec.selector);
    assert_eq!(selector.expect("a selector")["trainyard.dev/attempt"], "1");
}

#[test]
fn t12_servers_are_told_how_much_of_the_grace_a_checkpoint_may_take() {
    let job = valid(FULL);
    let grace = |seconds: Option<u32>| {
        let mut object = (*job.object).clone();
        object.spec.servers.pod.termination_grace_period_seconds = seconds;
        let job = Job::new(Arc::new(object)).expect("valid");
        let pod = pod(&job, Member::server(0));
        let env = pod["spec"]["containers"][0]["env"].as_array().cloned();
        let told = env
            .into_iter()
            .flatten()
            .find(|env| env["name"] == "TRAINYARD_GRACE_SECONDS");
        let told = told.map(|env| env["value"].clone()).unwrap_or_default();
        (pod["spec"]["terminationGracePeriodSeconds"].as_i64(), told)
    };
    assert_eq!(grace(None), (Some(60), json!("55")));
    assert_eq!(grace(Some(600)), (Some(600), json!("595")));
    assert_eq!(grace(Some(8)), (Some(8), json!("6")));
}

/// What has ended has logs; what never began has none, and would still take its place.
#[test]
fn o14_each_policy_deletes_what_it_names_and_what_never_began() {
    let ended = End {
        code: Some(0),
        reason: "Completed".into(),
        message: String::new(),
        disrupted: false,
        lived_seconds: 1,
        finished: Some(at(1)),
    };
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
