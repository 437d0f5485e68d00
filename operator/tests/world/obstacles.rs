//! Stories about what stands in the way of job `a`: strangers, objects that nobody can read, an API server that fails, another
//! operator, clocks, a job that cannot be run.

use std::sync::atomic::Ordering;

use serde_json::json;

use crate::faults::Chaos;
use crate::scenarios::training;
use crate::store::{CONFIG_MAPS, JOBS, KINDS, Key, PODS, SECRETS};
use crate::world::{Outcome, World, ensure, job};

/// The job trains as long as the story needs it: which pods there are to the end of it is not left to the clock.
pub fn trains_until_told(world: &World) {
    world.with(|cluster| cluster.total_steps = 1_000_000);
}

/// It has trained enough, and no less than what its status may say already.
pub async fn succeeds(world: &World) -> Outcome {
    world.with(|cluster| {
        let peaks = cluster.trainings.values().map(|training| training.peak);
        cluster.total_steps = peaks.max().unwrap_or(0).max(100);
    });
    world.until_phase("a", "Succeeded", 600).await
}

/// Labels by which a pod looks like a worker of job `a`.
pub fn disguise() -> serde_json::Value {
    json!({"app.kubernetes.io/managed-by": "trainyard", "app.kubernetes.io/name": "trainyard", "trainyard.dev/job": "a",
        "trainyard.dev/role": "worker", "trainyard.dev/index": "0", "trainyard.dev/attempt": "0"})
}

/// A pod that is nobody's, with these labels.
pub fn create_stranger(world: &World, name: &str, labels: serde_json::Value) {
    let pod = json!({"metadata": {"labels": labels}, "spec": {"containers": []}});
    world.create(Key::new(&PODS, "default", name), pod);
}

pub async fn strangers_pods_in_the_way(world: World) -> Outcome {
    let strangers = ["a-server-0-3", "a-worker-0-0", "a-worker-7-0", "stranger"];
    for name in strangers {
        create_stranger(&world, name, disguise());
    }
    let mut clean = job("a", 1, 2);
    clean["spec"]["cleanPodPolicy"] = "All".into();
    trains_until_told(&world);
    world.create_job(clean);
    world.pass(30).await?;
    ensure(
        reason_of_degradation(&world) == "NameTaken",
        world.status("a"),
    )?;
    world.delete(&PODS, "a-worker-0-0", Some(0));
    world.until_runs("a-worker-0-0", 120).await?;
    succeeds(&world).await?;
    world.pass(30).await?;
    let left: Vec<String> = world.pods().into_iter().map(|(name, _)| name).collect();
    ensure(left == ["a-server-0-3", "a-worker-7-0", "stranger"], left)
}

pub async fn strangers_config_in_the_way(world: World) -> Outcome {
    let key = || Key::new(&CONFIG_MAPS, "default", "a-job");
    world.create(key(), json!({"metadata": {}, "data": {"theirs": "1"}}));
    let before = world.with(|cluster| cluster.store.get(&key()).cloned());
    world.create_job(job("a", 1, 2));
    world.pass(30).await?;
    ensure(
        reason_of_degradation(&world) == "NameTaken",
        world.status("a"),
    )?;
    let after = world.with(|cluster| cluster.store.get(&key()).cloned());
    ensure(before == after, after)?;
    world.delete(&CONFIG_MAPS, "a-job", None);
    world.until_phase("a", "Succeeded", 300).await
}

fn reason_of_degradation(world: &World) -> String {
    let degraded = world.condition("a", "Degraded");
    degraded.map(|(_, reason, _)| reason).unwrap_or_default()
}

/// Somebody takes the label from the Services, the ConfigMap and the NetworkPolicy by which the watches find them. Nobody watches
/// the Secret.
pub async fn parts_relabelled(world: World) -> Outcome {
    const LABEL: &str = "app.kubernetes.io/managed-by";
    training(&world).await?;
    let parts = world.with(|cluster| {
        let at = cluster.elapsed();
        let owned = cluster.store.objects.iter().filter(|(key, object)| {
            key.kind != &PODS
                && key.kind != &SECRETS
                && !object["metadata"]["ownerReferences"].is_null()
        });
        let keys: Vec<Key> = owned.map(|(key, _)| key.clone()).collect();
        for key in &keys {
            cluster.store.edit(key, at, |object| {
                object["metadata"]["labels"][LABEL] = "somebody".into();
            });
        }
        keys
    });
    ensure(parts.len() == 4, &parts)?;
    world
        .until("the labels are put back", 60, |cluster| {
            parts.iter().all(|key| {
                let object = cluster.store.get(key);
                object.is_some_and(|object| object["metadata"]["labels"][LABEL] == "trainyard")
            })
        })
        .await?;
    world.until_phase("a", "Succeeded", 300).await
}

pub async fn undecodable_neighbour(world: World) -> Outcome {
    let key = || Key::new(&JOBS, "default", "newer");
    let newer = json!({"metadata": {}, "spec": {"task": {"clairvoyance": {}}, "workers": "many"}});
    world.create(key(), newer);
    let before = world.with(|cluster| cluster.store.get(&key()).cloned());
    training(&world).await?;
    world.end_pod("a-worker-0-0", 137, "Error");
    world.until_phase("a", "Succeeded", 300).await?;
    let after = world.with(|cluster| cluster.store.get(&key()).cloned());
    ensure(before == after, after)
}

/// A job is begun and loses a server while requests fail, answers are lost, and caches are seconds behind.
pub async fn requests_fail_and_caches_are_stale(world: World) -> Outcome {
    trains_until_told(&world);
    world.with(|cluster| {
        cluster.gate.chaos = Chaos {
            errors: 100,
            losses: 80,
            crashes: 0,
            watch_seconds: 20,
        };
        for operator in 1..50 {
            for kind in KINDS {
                let lag = cluster.between(0, 4000);
                cluster.gate.lags.insert((operator, kind.plural), lag);
            }
        }
    });
    world.create_job(job("a", 2, 2));
    // A pass that is broken off is tried again after up to a minute.
    for pod in [
        "a-server-0-0",
        "a-server-1-0",
        "a-worker-0-0",
        "a-worker-1-0",
    ] {
        world.until_runs(pod, 3600).await?;
    }
    world.with(|cluster| cluster.store.compacted = cluster.store.version);
    world.end_pod("a-server-1-0", 139, "Error");
    world.until_runs("a-server-1-1", 3600).await?;
    world.with(|cluster| {
        cluster.gate.chaos = Chaos::default();
        cluster.gate.lags.clear();
    });
    succeeds(&world).await
}

/// Each of two operators believes that it leads; now and then one of them is paused, and goes on with what it knew.
pub async fn two_operators_at_once(world: World) -> Outcome {
    world.with(|cluster| {
        cluster.watchdog.rivals = true;
        cluster.total_steps = 1000;
    });
    world.start_operator();
    training(&world).await?;
    for (paused, pod, code) in [
        (0, "a-worker-0-0", 137),
        (1, "a-server-1-0", 139),
        (0, "a-server-0-0", 75),
    ] {
        let operator = world.operator(paused);
        world.with(|cluster| cluster.gate.freeze(operator, true));
        world.pass(1).await?;
        world.end_pod(pod, code, "Error");
        world.pass(12).await?;
        world.with(|cluster| cluster.gate.freeze(operator, false));
        world.pass(12).await?;
    }
    world.until_phase("a", "Succeeded", 600).await
}

/// A job that only a cluster refuses fails at once; its user makes it anew.
pub async fn invalid_and_made_anew(world: World) -> Outcome {
    let mut wrong = job("a", 1, 2);
    wrong["spec"]["checkpoint"] = json!({"everySteps": 50});
    world.create_job(wrong);
    world.until_phase("a", "Failed", 60).await?;
    let invalid = world.condition("a", "Invalid");
    let said = invalid
        .as_ref()
        .is_some_and(|c| c.0 == "True" && c.2.contains("spec.checkpoint.storage"));
    ensure(said, &invalid)?;
    world.pass(10).await?;
    ensure(world.pods().is_empty(), world.pods())?;
    world.delete(&JOBS, "a", None);
    world.create_job(job("a", 1, 2));
    world.until_phase("a", "Succeeded", 300).await
}

pub async fn clocks_jump(world: World) -> Outcome {
    trains_until_told(&world);
    training(&world).await?;
    for (attempt, jump) in [(0, -60), (1, 200), (2, -100)] {
        let pod = format!("a-worker-0-{attempt}");
        world.until_runs(&pod, 400).await?;
        world.end_pod(&pod, 137, "Error");
        world.pass(1).await?;
        world.with(|cluster| cluster.clock.skew.store(jump, Ordering::Relaxed));
    }
    world.until_runs("a-worker-0-3", 400).await?;
    succeeds(&world).await
}

pub async fn no_room_and_then_no_secret(world: World) -> Outcome {
    world.with(|cluster| cluster.full = true);
    world.create_job(job("a", 1, 1));
    world.pass(20).await?;
    world.with(|cluster| {
        cluster.full = false;
        cluster.secret_missing = true;
    });
    world.pass(20).await?;
    world.with(|cluster| cluster.secret_missing = false);
    world.until_phase("a", "Succeeded", 300).await
}
