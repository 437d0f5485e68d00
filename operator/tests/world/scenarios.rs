//! Stories that a job may go through, each with a known end. They are told once as they are, and then with the operator killed
//! before and after each of its writes.

use std::pin::Pin;

use serde_json::json;

use crate::exports::{export_disturbed, export_fails, export_killed};
use crate::keys::keys_deleted;
use crate::obstacles::*;
use crate::store::{CLAIMS, CONFIG_MAPS, JOBS, Key, PODS};
use crate::world::{Outcome, World, ensure, job};

type Told = Pin<Box<dyn Future<Output = Outcome>>>;

/// A story about job `a`.
pub struct Scenario {
    pub name: &'static str,
    pub tell: fn(World) -> Told,
}

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        pub const ALL: &[Scenario] = &[$(Scenario { name: stringify!($name), tell: |world| Box::pin($name(world)) }),*];
    };
}

scenarios![
    success,
    export_killed,
    export_fails,
    export_disturbed,
    worker_killed,
    server_killed,
    server_panics,
    worker_fails_again_and_again,
    out_of_memory,
    bad_input,
    too_many_failures,
    worker_evicted,
    server_evicted,
    worker_preempted,
    server_preempted,
    worker_deleted,
    server_deleted,
    server_deleted_by_force,
    worker_deleted_by_force,
    worker_deleted_by_force_unseen,
    node_lost,
    scaled_up,
    scaled_down,
    scaled_while_restarting,
    suspended,
    suspended_while_scaling,
    resumed_beside_a_silent_node,
    past_its_deadline,
    deleted_after_its_time,
    all_pods_cleaned,
    no_pods_cleaned,
    failed_and_cleaned,
    failed_and_kept,
    deleted_while_starting,
    deleted_while_running,
    deleted_and_made_anew,
    quota_exceeded,
    data_missing,
    image_missing,
    label_removed,
    coordinator_silent,
    strangers_pods_in_the_way,
    strangers_config_in_the_way,
    parts_relabelled,
    undecodable_neighbour,
    requests_fail_and_caches_are_stale,
    two_operators_at_once,
    invalid_and_made_anew,
    clocks_jump,
    no_room_and_then_no_secret,
    keys_deleted,
];

async fn success(world: World) -> Outcome {
    world.create_job(job("a", 2, 2));
    world.until_phase("a", "Succeeded", 300).await
}

/// A job of two servers and two workers that has trained a hundred steps.
pub async fn training(world: &World) -> Outcome {
    world.create_job(job("a", 2, 2));
    world.until_step("a", 100).await
}

async fn after_exit(world: World, pod: &str, code: i32, reason: &'static str) -> Outcome {
    training(&world).await?;
    world.end_pod(pod, code, reason);
    world.until_phase("a", "Succeeded", 300).await
}

async fn worker_killed(world: World) -> Outcome {
    after_exit(world, "a-worker-1-0", 137, "Error").await
}

async fn server_killed(world: World) -> Outcome {
    after_exit(world, "a-server-1-0", 139, "Error").await
}

async fn server_panics(world: World) -> Outcome {
    after_exit(world, "a-server-0-0", 101, "Error").await
}

async fn out_of_memory(world: World) -> Outcome {
    after_exit(world, "a-worker-0-0", 137, "OOMKilled").await
}

async fn worker_fails_again_and_again(world: World) -> Outcome {
    training(&world).await?;
    world.with(|cluster| cluster.total_steps = 1500);
    for attempt in 0..4 {
        let pod = format!("a-worker-0-{attempt}");
        world.until_runs(&pod, 120).await?;
        world.end_pod(&pod, 137, "Error");
    }
    world.until_phase("a", "Succeeded", 600).await
}

async fn bad_input(world: World) -> Outcome {
    training(&world).await?;
    world.end_pod("a-worker-0-0", 2, "Error");
    world.until_phase("a", "Failed", 300).await
}

async fn too_many_failures(world: World) -> Outcome {
    let mut limited = job("a", 1, 1);
    limited["spec"]["backoffLimit"] = 1.into();
    world.create_job(limited);
    for attempt in 0..2 {
        let pod = format!("a-worker-0-{attempt}");
        world.until_runs(&pod, 120).await?;
        world.end_pod(&pod, 101, "Error");
    }
    world.until_phase("a", "Failed", 300).await
}

async fn evicted(world: World, pod: &str) -> Outcome {
    training(&world).await?;
    world.with(|cluster| cluster.evict_pod(pod));
    world.until_phase("a", "Succeeded", 300).await
}

async fn worker_evicted(world: World) -> Outcome {
    evicted(world, "a-worker-0-0").await
}

async fn server_evicted(world: World) -> Outcome {
    evicted(world, "a-server-0-0").await
}

async fn preempted(world: World, pod: &str) -> Outcome {
    training(&world).await?;
    world.with(|cluster| cluster.preempt_pod(pod));
    world.until_phase("a", "Succeeded", 300).await
}

async fn worker_preempted(world: World) -> Outcome {
    preempted(world, "a-worker-1-0").await
}

async fn server_preempted(world: World) -> Outcome {
    preempted(world, "a-server-1-0").await
}

async fn deleted(world: World, pod: &str, grace: Option<i64>) -> Outcome {
    training(&world).await?;
    world.delete(&PODS, pod, grace);
    world.until_phase("a", "Succeeded", 300).await
}

async fn worker_deleted(world: World) -> Outcome {
    deleted(world, "a-worker-1-0", None).await
}

async fn server_deleted(world: World) -> Outcome {
    deleted(world, "a-server-1-0", None).await
}

async fn server_deleted_by_force(world: World) -> Outcome {
    deleted(world, "a-server-0-0", Some(0)).await
}

async fn worker_deleted_by_force(world: World) -> Outcome {
    deleted(world, "a-worker-1-0", Some(0)).await
}

async fn worker_deleted_by_force_unseen(world: World) -> Outcome {
    training(&world).await?;
    world.kill_operator(0);
    deleted(world, "a-worker-1-0", Some(0)).await
}

async fn node_lost(world: World) -> Outcome {
    training(&world).await?;
    world.with(|cluster| {
        let node = cluster.node_of("a-server-0-0").unwrap_or(0);
        cluster.lose_node(node);
    });
    world.until_phase("a", "Succeeded", 900).await
}

fn scale(world: &World, workers: u32) {
    world.edit_job("a", |job| {
        job["spec"]["workers"]["replicas"] = workers.into()
    });
}

async fn scaled_up(world: World) -> Outcome {
    training(&world).await?;
    scale(&world, 4);
    world.until_runs("a-worker-3-0", 60).await?;
    world.until_phase("a", "Succeeded", 300).await
}

async fn scaled_down(world: World) -> Outcome {
    training(&world).await?;
    scale(&world, 1);
    world
        .until("worker 1 is gone", 60, |cluster| {
            cluster.pod("a-worker-1-0").is_none()
        })
        .await?;
    world.until_phase("a", "Succeeded", 300).await
}

async fn scaled_while_restarting(world: World) -> Outcome {
    training(&world).await?;
    world.end_pod("a-server-0-0", 137, "Error");
    scale(&world, 3);
    world.until_runs("a-worker-2-0", 60).await?;
    scale(&world, 1);
    world.until_phase("a", "Succeeded", 300).await
}

pub fn suspend(world: &World, suspend: bool) {
    world.edit_job("a", |job| job["spec"]["suspend"] = suspend.into());
}

async fn suspended(world: World) -> Outcome {
    training(&world).await?;
    suspend(&world, true);
    world
        .until("no pod is left", 120, |cluster| cluster.pods.is_empty())
        .await?;
    world.until_phase("a", "Suspended", 60).await?;
    world.pass(30).await?;
    suspend(&world, false);
    world.until_phase("a", "Succeeded", 300).await
}

async fn suspended_while_scaling(world: World) -> Outcome {
    training(&world).await?;
    scale(&world, 4);
    world.pass(1).await?;
    suspend(&world, true);
    world.pass(3).await?;
    suspend(&world, false);
    scale(&world, 3);
    world.until_phase("a", "Succeeded", 300).await
}

/// The node never says that the pods of the suspended job have ended.
async fn resumed_beside_a_silent_node(world: World) -> Outcome {
    training(&world).await?;
    world.with(|cluster| {
        let node = cluster.node_of("a-server-1-0").unwrap_or(0);
        cluster.lose_node(node);
    });
    suspend(&world, true);
    world.until_phase("a", "Suspended", 60).await?;
    suspend(&world, false);
    world.until_phase("a", "Succeeded", 600).await
}

async fn past_its_deadline(world: World) -> Outcome {
    let mut limited = job("a", 1, 1);
    limited["spec"]["activeDeadlineSeconds"] = 20.into();
    world.create_job(limited);
    world.until_phase("a", "Failed", 60).await
}

async fn deleted_after_its_time(world: World) -> Outcome {
    let mut short = job("a", 1, 2);
    short["spec"]["ttlSecondsAfterFinished"] = 30.into();
    world.create_job(short);
    world.until_phase("a", "Succeeded", 300).await?;
    world
        .until("the job is gone", 60, |cluster| cluster.job("a").is_none())
        .await?;
    no_trace_of_a(&world).await
}

/// What a job leaves when it is deleted: nothing but events.
pub async fn no_trace_of_a(world: &World) -> Outcome {
    world
        .until("all that belonged to the job is gone", 300, |cluster| {
            let mut objects = cluster.store.objects.iter();
            !objects.any(|(_, object)| {
                object["metadata"]["labels"]["trainyard.dev/job"] == "a"
                    && !object["metadata"]["ownerReferences"].is_null()
            })
        })
        .await
}

/// Job `a`, of one server and two workers, with a policy about what becomes of its pods.
fn with_policy(policy: &str) -> serde_json::Value {
    let mut job = job("a", 1, 2);
    job["spec"]["cleanPodPolicy"] = policy.into();
    job
}

async fn no_pod_is_left(world: &World) -> Outcome {
    world
        .until("no pod is left", 60, |cluster| cluster.pods.is_empty())
        .await
}

async fn all_pods_are_left(world: &World, pods: usize) -> Outcome {
    world.pass(30).await?;
    ensure(world.pods().len() == pods, world.pods())
}

async fn all_pods_cleaned(world: World) -> Outcome {
    world.create_job(with_policy("All"));
    world.until_phase("a", "Succeeded", 300).await?;
    no_pod_is_left(&world).await
}

async fn no_pods_cleaned(world: World) -> Outcome {
    world.create_job(with_policy("None"));
    world.until_phase("a", "Succeeded", 300).await?;
    all_pods_are_left(&world, 4).await // the finisher's too
}

async fn failed(world: &World, policy: &str) -> Outcome {
    world.create_job(with_policy(policy));
    world.until_step("a", 100).await?;
    world.end_pod("a-worker-0-0", 1, "Error");
    world.until_phase("a", "Failed", 60).await
}

async fn failed_and_cleaned(world: World) -> Outcome {
    failed(&world, "All").await?;
    no_pod_is_left(&world).await
}

async fn failed_and_kept(world: World) -> Outcome {
    failed(&world, "None").await?;
    all_pods_are_left(&world, 3).await
}

async fn deleted_while_starting(world: World) -> Outcome {
    world.create_job(job("a", 2, 2));
    world
        .until("its pods are there", 60, |cluster| cluster.pods.len() == 4)
        .await?;
    world.delete(&JOBS, "a", None);
    no_trace_of_a(&world).await
}

async fn deleted_while_running(world: World) -> Outcome {
    training(&world).await?;
    world.delete(&JOBS, "a", None);
    no_trace_of_a(&world).await
}

/// The new job has the names that the old one's objects still hold.
async fn deleted_and_made_anew(world: World) -> Outcome {
    training(&world).await?;
    world.delete(&JOBS, "a", None);
    world.create_job(job("a", 2, 2));
    world.until_phase("a", "Succeeded", 300).await
}

async fn quota_exceeded(world: World) -> Outcome {
    trains_until_told(&world);
    world.with(|cluster| cluster.quota = Some(2));
    world.create_job(job("a", 1, 3));
    world.pass(40).await?;
    world.with(|cluster| cluster.quota = None);
    world
        .until("all its pods are there", 120, |cluster| {
            cluster.pods.len() == 4
        })
        .await?;
    succeeds(&world).await
}

async fn data_missing(world: World) -> Outcome {
    world.delete(&CONFIG_MAPS, "data", None);
    world.delete(&CLAIMS, "runs", None);
    world.create_job(job("a", 1, 1));
    world.pass(20).await?;
    world.with(crate::cluster::Cluster::provide_volumes);
    world.until_phase("a", "Succeeded", 300).await
}

async fn image_missing(world: World) -> Outcome {
    world.with(|cluster| cluster.registry_down = true);
    world.create_job(job("a", 1, 1));
    world.pass(20).await?;
    world.with(|cluster| cluster.registry_down = false);
    world.until_phase("a", "Succeeded", 300).await
}

async fn label_removed(world: World) -> Outcome {
    training(&world).await?;
    for pod in ["a-server-0-0", "a-worker-1-0"] {
        world.with(|cluster| {
            let at = cluster.elapsed();
            cluster
                .store
                .edit(&Key::new(&PODS, "default", pod), at, |pod| {
                    pod["metadata"]["labels"]["app.kubernetes.io/managed-by"] = json!("somebody");
                });
        });
    }
    world.until_phase("a", "Succeeded", 300).await
}

async fn coordinator_silent(world: World) -> Outcome {
    training(&world).await?;
    silence(&world, true);
    world.pass(60).await?;
    silence(&world, false);
    world.until_phase("a", "Succeeded", 300).await
}

pub fn silence(world: &World, silent: bool) {
    world.with(|cluster| {
        cluster
            .trainings
            .values_mut()
            .for_each(|training| training.silent = silent)
    });
}
