//! Pods and services, as a job describes them.

use std::sync::Arc;

use serde_json::{Value, json};
use trainyard_crds::TrainingJobStatus;
use trainyard_operator::job::Job;
use trainyard_operator::observe::{ChildObject, Member, Observed};
use trainyard_operator::plan::Step;
use trainyard_operator::resources;

use crate::{FULL, all_current, full_with, pass, pod, valid};

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
    let yaml = full_with("microBatches: 4", "microBatches: 4\n    threadsPerLeaf: 2");
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
