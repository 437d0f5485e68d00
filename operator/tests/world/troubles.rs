//! What stands in the way: the API server, the cluster, other operators, clocks, strangers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use crate::cluster::Cluster;
use crate::faults::Chaos;
use crate::kubelet::text;
use crate::obstacles::{create_stranger, disguise};
use crate::store::{CLAIMS, CONFIG_MAPS, EVENTS, JOBS, Key, PODS};
use crate::world::{Outcome, World, ensure, job, play, simulate};

#[test]
fn o18_an_object_that_cannot_be_decoded_is_reported_and_stops_nobody() {
    play(async |world| {
        world.start_operator();
        let newer =
            json!({"metadata": {}, "spec": {"task": {"clairvoyance": {}}, "workers": "many"}});
        world.create(Key::new(&JOBS, "default", "newer"), newer);
        world.create_job(job("a", 1, 1));
        world.until_phase("a", "Succeeded", 100).await?;
        let told = world.with(|cluster| {
            let events = cluster.store.of_kind(&EVENTS);
            events
                .filter(|event| event["regarding"]["name"] == "newer")
                .map(|event| text(&event["note"]))
                .collect::<Vec<_>>()
        });
        ensure(
            told.len() == 1 && told[0].contains("cannot read the object"),
            &told,
        )?;
        world.stays_quiet().await
    });
}

/// The job says that somebody else's object is in the way, and which.
fn name_is_taken(world: &World, object: &str) -> Outcome {
    let degraded = world.condition("a", "Degraded");
    let named = |c: &(String, String, String)| c.1 == "NameTaken" && c.2.contains(object);
    ensure(degraded.as_ref().is_some_and(named), &degraded)
}

#[test]
fn o19_pods_of_others_are_left_alone() {
    play(async |world| {
        for name in ["stranger", "a-worker-7-0", "a-server-0-3"] {
            create_stranger(&world, name, disguise());
        }
        let strangers = world.pods();
        world.start_operator();
        let mut clean = job("a", 1, 2);
        clean["spec"]["cleanPodPolicy"] = "All".into();
        world.create_job(clean);
        world.until_phase("a", "Succeeded", 100).await?;
        world.pass(60).await?;
        ensure(world.pods() == strangers, world.pods())?;
        let touched = world.with(|cluster| {
            cluster
                .store
                .of_kind(&PODS)
                .any(|pod| !pod["metadata"]["deletionTimestamp"].is_null())
        });
        ensure(!touched, "no stranger is touched")
    });
}

#[test]
fn o19_a_pod_of_another_in_the_way_is_named_and_not_taken() {
    play(async |world| {
        create_stranger(&world, "a-worker-0-0", json!({}));
        world.start_operator();
        world.create_job(job("a", 1, 1));
        world.pass(30).await?;
        name_is_taken(&world, "a-worker-0-0")?;
        world.delete(&PODS, "a-worker-0-0", Some(0));
        world.until_phase("a", "Succeeded", 300).await
    });
}

#[test]
fn o19_an_object_of_another_in_the_way_is_named_and_not_taken() {
    play(async |world| {
        let stranger = || Key::new(&CONFIG_MAPS, "default", "a-job");
        world.create(stranger(), json!({"metadata": {}, "data": {"theirs": "1"}}));
        world.start_operator();
        world.create_job(job("a", 1, 1));
        world.pass(30).await?;
        name_is_taken(&world, "ConfigMap a-job")?;
        let untouched = world.with(|cluster| {
            let config = cluster.store.get(&stranger());
            config.is_some_and(|c| {
                c["data"] == json!({"theirs": "1"}) && c["metadata"]["ownerReferences"].is_null()
            })
        });
        ensure(untouched, "the stranger's ConfigMap is as it was")?;
        world.delete(&CONFIG_MAPS, "a-job", Some(0));
        world.until_phase("a", "Succeeded", 300).await?;
        ensure(
            world
                .condition("a", "Degraded")
                .is_some_and(|c| c.0 == "False"),
            world.status("a"),
        )
    });
}

#[test]
fn o19_a_pod_whose_owner_somebody_takes_away_is_a_strangers() {
    play(async |world| {
        world.with(|cluster| cluster.total_steps = 1000);
        world.start_operator();
        world.create_job(job("a", 1, 2));
        world.until_step("a", 50).await?;
        world.with(|cluster| {
            let at = cluster.elapsed();
            let key = Key::new(&PODS, "default", "a-worker-1-0");
            cluster.store.edit(&key, at, |pod| {
                pod["metadata"]["ownerReferences"] = json!(null);
            });
        });
        world.pass(10).await?;
        name_is_taken(&world, "a-worker-1-0")?;
        world.delete(&PODS, "a-worker-1-0", Some(0));
        world.until_phase("a", "Succeeded", 300).await
    });
}

#[test]
fn o19_labels_that_somebody_edits_are_put_back_and_nothing_is_restarted() {
    play(async |world| {
        world.with(|cluster| cluster.total_steps = 1000);
        world.start_operator();
        world.create_job(job("a", 1, 2));
        world.until_step("a", 50).await?;
        let before = world.pods();
        for (pod, label) in [
            ("a-server-0-0", "app.kubernetes.io/managed-by"),
            ("a-worker-0-0", "app.kubernetes.io/managed-by"),
            ("a-server-0-0", "trainyard.dev/role"),
            ("a-worker-1-0", "trainyard.dev/attempt"),
            ("a-worker-1-0", "trainyard.dev/index"),
            ("a-worker-0-0", "trainyard.dev/job"),
        ] {
            world.with(|cluster| edit_label(cluster, pod, label, "7"));
            world.pass(10).await?;
            let now = world.with(|cluster| {
                let pod = cluster.store.get(&Key::new(&PODS, "default", pod)).cloned();
                pod.map(|pod| text(&pod["metadata"]["labels"][label]))
            });
            ensure(
                now.as_deref().is_some_and(|value| value != "7"),
                (pod, label, now),
            )?;
        }
        ensure(world.pods() == before, world.pods())?;
        let end = world.end_of("a");
        ensure((end.failures, end.disruptions) == (0, 0), &end)?;
        world.until_phase("a", "Succeeded", 300).await
    });
}

pub fn edit_label(cluster: &mut Cluster, pod: &str, label: &str, value: &str) {
    let at = cluster.elapsed();
    cluster
        .store
        .edit(&Key::new(&PODS, "default", pod), at, |pod| {
            pod["metadata"]["labels"][label] = value.into();
        });
}

#[test]
fn o20_nothing_is_made_twice_although_requests_fail_and_caches_are_stale() {
    for seed in 0..30 {
        let result = simulate(seed, async |world: World| {
            world.with(|cluster| {
                cluster.gate.chaos = Chaos {
                    errors: 200,
                    losses: 150,
                    crashes: 0,
                    watch_seconds: 20,
                };
                for operator in 1..50 {
                    for kind in crate::store::KINDS {
                        let lag = cluster.between(0, 4000);
                        cluster.gate.lags.insert((operator, kind.plural), lag);
                    }
                }
            });
            world.start_operator();
            world.create_job(job("a", 2, 3));
            for _ in 0..10 {
                world.pass(6).await?;
                world.with(|cluster| cluster.store.compacted = cluster.store.version);
            }
            // A third of all requests fail, and the waits between two tries grow to a minute.
            world.until_phase("a", "Succeeded", 1800).await?;
            world.with(|cluster| cluster.gate.chaos = Chaos::default());
            let end = world.end_of("a");
            ensure((end.failures, end.disruptions) == (0, 0), &end)?;
            // The job may be done before the last workers could be created.
            ensure(
                (4..=6).contains(&world.pods_created()),
                world.pods_created(),
            )?;
            world.stays_quiet().await
        });
        if let Err(what) = result {
            panic!("{what}");
        }
    }
}

/// Something is in the way, the job says so, and goes on when it is mended.
fn reported(reason: &str, said: &str, hinder: impl Fn(&World), mend: impl Fn(&World)) {
    play(async |world: World| {
        hinder(&world);
        world.start_operator();
        world.create_job(job("a", 1, 2));
        world.pass(60).await?;
        let degraded = world.condition("a", "Degraded");
        ensure(
            degraded
                .as_ref()
                .is_some_and(|c| c.0 == "True" && c.1 == reason && c.2.contains(said)),
            &degraded,
        )?;
        ensure(world.status("a")["phase"] == "Pending", world.status("a"))?;
        // It is said once, and not again and again.
        let versions = world.with(|cluster| cluster.store.version);
        world.pass(1000).await?;
        let more = world.with(|cluster| cluster.store.version) - versions;
        ensure(more < 8, ("changes", more))?;
        mend(&world);
        world.until_phase("a", "Succeeded", 300).await?;
        ensure(
            world
                .condition("a", "Degraded")
                .is_some_and(|c| c.0 == "False"),
            world.status("a"),
        )?;
        let end = world.end_of("a");
        ensure((end.failures, end.disruptions) == (0, 0), &end)
    });
}

#[test]
fn o21_an_exceeded_quota_is_reported() {
    let set = |quota| move |world: &World| world.with(|cluster| cluster.quota = quota);
    reported(
        "QuotaExceeded",
        "exceeded quota: pods",
        set(Some(1)),
        set(None),
    );
}

#[test]
fn o21_a_pod_that_finds_no_node_is_reported() {
    let set = |full| move |world: &World| world.with(|cluster| cluster.full = full);
    reported("Unschedulable", "Insufficient cpu", set(true), set(false));
}

#[test]
fn o21_an_image_that_cannot_be_pulled_is_reported() {
    let set = |down| move |world: &World| world.with(|cluster| cluster.registry_down = down);
    reported(
        "ImagePullFailed",
        "registry.example is not reachable",
        set(true),
        set(false),
    );
}

#[test]
fn o21_a_missing_secret_is_reported() {
    let set = |missing| move |world: &World| world.with(|cluster| cluster.secret_missing = missing);
    reported(
        "ContainerConfigError",
        "secret \"credentials\" not found",
        set(true),
        set(false),
    );
}

#[test]
fn o21_a_missing_volume_is_reported() {
    let provide = |world: &World| world.with(Cluster::provide_volumes);
    reported(
        "VolumeNotFound",
        "no ConfigMap \"data\"",
        |world| world.delete(&CONFIG_MAPS, "data", None),
        provide,
    );
    reported(
        "VolumeNotFound",
        "no PersistentVolumeClaim \"runs\"",
        |world| world.delete(&CLAIMS, "runs", None),
        provide,
    );
}

#[test]
fn o22_two_operators_that_act_at_once_do_no_harm() {
    for seed in 0..20 {
        let result = simulate(seed, async |world: World| {
            world.with(|cluster| {
                cluster.watchdog.rivals = true;
                cluster.total_steps = 1500;
            });
            let first = world.start_operator();
            world.create_job(job("a", 2, 2));
            world.until_step("a", 50).await?;
            let second = world.start_operator();
            world.pass(3).await?;
            for (frozen, pod, code) in [
                (first, "a-worker-0-0", 137),
                (second, "a-server-1-0", 139),
                (first, "a-server-0-0", 75),
            ] {
                let operator = world.operator(frozen);
                world.with(|cluster| cluster.gate.freeze(operator, true));
                world.pass(seed % 4).await?;
                world.end_pod(pod, code, "Error");
                world.pass(12).await?;
                world.with(|cluster| cluster.gate.freeze(operator, false));
                world.pass(12).await?;
            }
            world.until_phase("a", "Succeeded", 600).await?;
            let end = world.end_of("a");
            ensure((end.failures, end.disruptions) == (2, 1), &end)?;
            ensure(world.pods_created() == 8, world.pods_created())?;
            world.stays_quiet().await?;
            crate::crashes::nothing_left_over(&world)
        });
        if let Err(what) = result {
            panic!("{what}");
        }
    }
}

#[test]
fn o35_a_deadline_misfires_by_no_more_than_the_clock_jumps() {
    for jump in [-300_i64, 300] {
        play(async |world: World| {
            world.with(|cluster| {
                cluster.full = true;
                cluster.watchdog.skew = jump.abs();
            });
            world.start_operator();
            let mut limited = job("a", 1, 1);
            limited["spec"]["activeDeadlineSeconds"] = 1000.into();
            world.create_job(limited);
            world.pass(100).await?;
            world.with(|cluster| cluster.clock.skew.store(jump, Ordering::Relaxed));
            world.pass(590).await?;
            ensure(world.status("a")["phase"] == "Pending", world.status("a"))?;
            world.until_phase("a", "Failed", 1320 - 690).await
        });
    }
}

#[test]
fn o35_a_wait_misfires_by_no_more_than_the_clock_jumps() {
    play(async |world| -> Outcome {
        world.with(|cluster| cluster.total_steps = 5000);
        world.start_operator();
        world.create_job(job("a", 1, 2));
        for (attempt, jump) in [(0, 0_i64), (1, -60), (2, 200), (3, -100)] {
            let pod = format!("a-worker-0-{attempt}");
            world.until_runs(&pod, 400).await?;
            world.end_pod(&pod, 137, "Error");
            world.pass(1).await?;
            world.with(|cluster| cluster.clock.skew.store(jump, Ordering::Relaxed));
        }
        world.until_runs("a-worker-0-4", 300 + 8 + 10).await?;
        world.until_phase("a", "Succeeded", 900).await?;
        let end = world.end_of("a");
        ensure((end.failures, end.disruptions) == (4, 0), &end)?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(())
    });
}
