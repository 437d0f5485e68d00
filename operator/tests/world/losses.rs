//! Servers and workers that are lost, and what is counted.

use crate::cluster::Cluster;
use crate::store::PODS;
use crate::world::{Outcome, World, ensure, job, play};

/// A long job of two servers and three workers in full swing.
async fn training(world: &World) -> Outcome {
    world.with(|cluster| cluster.total_steps = 3000);
    world.start_operator();
    world.create_job(job("a", 2, 3));
    world.until_step("a", 100).await
}

#[test]
fn o05_counts_survive_the_operator_and_the_pods() {
    play(async |world| {
        training(&world).await?;
        world.end_pod("a-worker-0-0", 137, "Error");
        world.until_runs("a-worker-0-1", 30).await?;
        for _ in 0..5 {
            world.kill_operator(0);
            world.pass(7).await?;
        }
        world.delete(&PODS, "a-worker-0-0", None);
        world.pass(20).await?;
        let end = world.end_of("a");
        ensure((end.failures, end.disruptions) == (1, 0), &end)?;
        world.until_phase("a", "Succeeded", 600).await?;
        ensure(world.end_of("a").failures == 1, world.end_of("a"))
    });
}

#[test]
fn o08_what_the_cluster_does_is_never_charged_to_the_backoff_limit() {
    play(async |world| {
        world.with(|cluster| cluster.total_steps = 3000);
        world.start_operator();
        let mut strict = job("a", 2, 3);
        strict["spec"]["backoffLimit"] = 0.into();
        world.create_job(strict);
        world.until_step("a", 100).await?;
        world.with(|cluster| cluster.evict_pod("a-worker-0-0"));
        world.until_runs("a-worker-0-1", 30).await?;
        world.with(|cluster| cluster.preempt_pod("a-worker-1-0"));
        world.until_runs("a-worker-1-1", 30).await?;
        world.delete(&PODS, "a-worker-2-0", None);
        world.until_runs("a-worker-2-1", 30).await?;
        world.with(|cluster| cluster.preempt_pod("a-server-1-0"));
        world.until_runs("a-server-1-1", 60).await?;
        world.until_phase("a", "Running", 60).await?;
        world.delete(&PODS, "a-server-0-0", Some(0));
        world.until_runs("a-server-0-1", 60).await?;
        let end = world.end_of("a");
        ensure((end.failures, end.disruptions) == (0, 5), &end)?;
        let lost = world.with(|cluster| {
            let node = cluster.node_of("a-server-1-1").unwrap_or(0);
            cluster.lose_node(node);
            cluster
                .pods
                .values()
                .filter(|pod| pod.node == node && pod.attempt == 1)
                .count() as u64
        });
        world.until_runs("a-server-1-2", 300).await?;
        world.until_phase("a", "Succeeded", 900).await?;
        let end = world.end_of("a");
        ensure(
            (end.failures, end.disruptions) == (0, 5 + lost),
            (lost, &end),
        )
    });
}

#[test]
fn o09_waits_double_in_the_status_and_begin_anew_after_a_healthy_period() {
    play(async |world| {
        world.with(|cluster| cluster.total_steps = 20_000);
        world.start_operator();
        let mut patient = job("a", 1, 2);
        patient["spec"]["backoffLimit"] = 100.into();
        world.create_job(patient);
        let mut waits = Vec::new();
        for attempt in 0..6 {
            let (pod, next) = (
                format!("a-worker-0-{attempt}"),
                format!("a-worker-0-{}", attempt + 1),
            );
            world.until_runs(&pod, 120).await?;
            world.end_pod(&pod, 137, "Error");
            let ended = world.with(|cluster| cluster.elapsed());
            // The wait is in the status: an operator that begins anew keeps to it.
            world.kill_operator(0);
            world
                .until(&next, 120, |cluster| cluster.pod(&next).is_some())
                .await?;
            waits.push((world.with(|cluster| cluster.elapsed()) - ended).as_secs_f64());
        }
        let expected = [0.0, 1.0, 2.0, 4.0, 8.0, 16.0];
        // The operator is away for a second.
        let close = waits
            .iter()
            .zip(expected)
            .all(|(wait, least)| (least..least + 2.0).contains(wait));
        ensure(close, &waits)?;
        let streak = world.status("a")["restarts"]["members"][0]["streak"].clone();
        ensure(streak == 6, &streak)?;
        world.until_runs("a-worker-0-6", 60).await?;
        world.pass(310).await?;
        world.end_pod("a-worker-0-6", 137, "Error");
        world.until_runs("a-worker-0-7", 10).await?;
        let streak = world.status("a")["restarts"]["members"][0]["streak"].clone();
        ensure(streak == 1, &streak)
    });
}

#[test]
fn o32_a_lost_server_is_replaced_alone_in_a_new_generation() {
    play(async |world| {
        world.create_job(job("b", 1, 1));
        training(&world).await?;
        world.until_phase("b", "Running", 30).await?;
        let before = world.pods();
        world.end_pod("a-server-1-0", 139, "Error");
        world.until_runs("a-server-1-1", 30).await?;
        world
            .until("the group is formed again", 30, |c| {
                c.trainings
                    .values()
                    .any(|t| t.name == "a" && t.formations == 2)
            })
            .await?;
        let after = world.pods();
        ensure(
            before.iter().all(|pod| after.contains(pod)) && after.len() == before.len() + 1,
            &after,
        )?;
        let status = world.status("a");
        ensure(status["generation"] == 2, &status)?;
        let told = world.with(|cluster| cluster.pod("a-server-1-1").map(|pod| pod.generation));
        ensure(told == Some(2), told)?;
        ensure(
            world.status("b")["generation"] == 1 && world.end_of("b").disruptions == 0,
            world.status("b"),
        )?;
        world.until_phase("a", "Succeeded", 600).await
    });
}

#[test]
fn o32_a_server_lost_while_nobody_looked_is_replaced_in_a_new_generation() {
    play(async |world| {
        let seat = world.start_operator();
        world.create_job(job("a", 2, 1));
        world
            .until("the pods are created", 10, |cluster| {
                cluster.pods.len() == 3
            })
            .await?;
        world.remove_operator(seat);
        world.until_step("a", 100).await?;
        world.delete(&PODS, "a-server-1-0", Some(0));
        world.start_operator();
        // The invariants see to it that the new server is told a generation in which no other has held state.
        world.until_phase("a", "Succeeded", 300).await?;
        ensure(world.status("a")["generation"] == 2, world.status("a"))
    });
}

/// It was there when the generation was raised for another, and is gone before its end could be written down.
#[test]
fn o32_a_server_that_outlives_a_raise_and_is_gone_unjudged_is_replaced_in_a_new_generation() {
    play(async |world| {
        let seat = world.start_operator();
        world.create_job(job("a", 2, 1));
        world.with(|cluster| cluster.total_steps = 1000);
        world.until_step("a", 100).await?;
        world.delete(&PODS, "a-server-0-0", None);
        world.end_pod("a-server-1-0", 75, "Error");
        world.until_runs("a-server-1-1", 5).await?;
        let operator = world.operator(seat);
        world.with(|cluster| cluster.gate.freeze(operator, true));
        let goes = |c: &Cluster| c.uid_of("a-server-0-0").is_none();
        world.until("server 0 is gone", 40, goes).await?;
        // What the operator was about to write is refused.
        world.edit_job("a", |job| job["spec"]["backoffLimit"] = 7.into());
        world.with(|cluster| cluster.gate.freeze(operator, false));
        // The invariants see to it that the new server is told a generation in which no other has held state.
        world.until_phase("a", "Succeeded", 300).await?;
        ensure(world.status("a")["generation"] == 3, world.status("a"))
    });
}

#[test]
fn o33_a_lost_worker_is_replaced_alone_and_training_never_stops() {
    play(async |world| {
        training(&world).await?;
        let before = world.pods();
        let step = world.with(|cluster| cluster.trainings.values().map(|t| t.step).max());
        world.end_pod("a-worker-2-0", 137, "Error");
        world.until_runs("a-worker-2-1", 30).await?;
        world.pass(10).await?;
        let after = world.pods();
        ensure(
            before.iter().all(|pod| after.contains(pod)) && after.len() == before.len() + 1,
            &after,
        )?;
        let (now, formations) = world.with(|c| {
            (
                c.trainings.values().map(|t| t.step).max(),
                c.trainings.values().map(|t| t.formations).max(),
            )
        });
        ensure(
            now > step.map(|step| step + 90) && formations == Some(1),
            (step, now, formations),
        )?;
        ensure(world.status("a")["generation"] == 1, world.status("a"))
    });
}

/// A deletion by force is told as a deletion that is asked for and one that is done: who is busy meanwhile sees neither.
#[test]
fn o33_a_worker_deleted_by_force_while_the_operator_is_busy_is_counted() {
    play(async |world| {
        training(&world).await?;
        let operator = world.operator(0);
        world.with(|cluster| cluster.gate.freeze(operator, true));
        world.pass(15).await?; // it has progress to write, and waits
        world.delete(&PODS, "a-worker-2-0", Some(0));
        world.pass(2).await?;
        world.with(|cluster| cluster.gate.freeze(operator, false));
        world.until_runs("a-worker-2-1", 30).await?;
        let end = world.end_of("a");
        ensure((end.failures, end.disruptions) == (0, 1), end)
    });
}

/// What the operator remembers goes with it: the status alone can tell that the worker was there.
#[test]
fn o05_a_worker_deleted_by_force_while_the_operator_is_away_is_counted_once() {
    play(async |world| {
        world.with(|cluster| cluster.total_steps = 1500);
        let seat = world.start_operator();
        world.create_job(job("a", 2, 3));
        world.until_step("a", 100).await?;
        world.remove_operator(seat);
        world.delete(&PODS, "a-worker-2-0", Some(0));
        world.pass(5).await?;
        let seat = world.start_operator();
        world.until_runs("a-worker-2-1", 30).await?;
        let counted = |world: &World| {
            let end = world.end_of("a");
            ensure((end.failures, end.disruptions) == (0, 1), end)
        };
        counted(&world)?;
        // Once, whoever looks again.
        world.kill_operator(seat);
        world.pass(20).await?;
        counted(&world)?;
        ensure(world.pods_created() == 6, world.pods())?;
        world.until_phase("a", "Succeeded", 600).await?;
        counted(&world)
    });
}

/// It was to be created, and its name stands in the plan of an operator that is gone.
#[test]
fn o05_a_worker_that_never_was_is_not_counted() {
    play(async |world| {
        world.with(|cluster| {
            cluster.total_steps = 1500;
            cluster.quota = Some(3);
        });
        let seat = world.start_operator();
        world.create_job(job("a", 2, 3));
        world.until_step("a", 50).await?;
        world.remove_operator(seat);
        world.pass(5).await?;
        world.with(|cluster| cluster.quota = None);
        world.start_operator();
        for worker in ["a-worker-0-0", "a-worker-1-0", "a-worker-2-0"] {
            world.until_runs(worker, 120).await?;
        }
        world.until_phase("a", "Succeeded", 600).await?;
        let end = world.end_of("a");
        ensure((end.failures, end.disruptions) == (0, 0), end)?;
        ensure(world.pods_created() == 6, world.pods())
    });
}

/// A worker that was scaled away, or that a suspension has deleted, has not been lost.
#[test]
fn o12_a_worker_that_was_to_go_is_not_counted_when_it_is_wanted_again() {
    play(async |world| {
        world.with(|cluster| cluster.total_steps = 3000);
        world.start_operator();
        world.create_job(job("a", 1, 3));
        world.until_step("a", 50).await?;
        let scale = |workers: u32| {
            world.edit_job("a", |job| {
                job["spec"]["workers"]["replicas"] = workers.into()
            });
        };
        scale(1);
        let gone = |c: &Cluster| c.working_pods("a").len() == 2;
        world.until("two workers are gone", 60, gone).await?;
        world.pass(20).await?;
        world.kill_operator(0);
        scale(3);
        world.until_runs("a-worker-2-1", 30).await?;
        world.edit_job("a", |job| job["spec"]["suspend"] = true.into());
        world.until_phase("a", "Suspended", 60).await?;
        world
            .until("no pod is left", 120, |c| c.pods.is_empty())
            .await?;
        world.kill_operator(0);
        world.edit_job("a", |job| job["spec"]["suspend"] = false.into());
        world.until_phase("a", "Succeeded", 900).await?;
        let end = world.end_of("a");
        ensure((end.failures, end.disruptions) == (0, 0), end)
    });
}

#[test]
fn o37_a_silent_coordinator_is_reported_and_nobody_is_killed_for_it() {
    play(async |world| {
        training(&world).await?;
        let before = world.pods();
        crate::scenarios::silence(&world, true);
        world.pass(28).await?;
        ensure(
            world.condition("a", "Degraded").is_none(),
            world.status("a"),
        )?;
        world.pass(20).await?;
        let degraded = world.condition("a", "Degraded");
        ensure(
            degraded
                .as_ref()
                .is_some_and(|c| c.0 == "True" && c.1 == "CoordinatorUnreachable"),
            &degraded,
        )?;
        world.pass(600).await?;
        ensure(world.pods() == before, world.pods())?;
        crate::scenarios::silence(&world, false);
        world.pass(40).await?;
        ensure(
            world
                .condition("a", "Degraded")
                .is_some_and(|c| c.0 == "False"),
            world.status("a"),
        )?;
        let step = world.status("a")["progress"]["step"].as_u64();
        ensure(step > Some(200), step)?;
        world.until_phase("a", "Succeeded", 600).await
    });
}

#[test]
fn t34_a_member_that_does_nothing_is_named_and_its_pod_is_replaced() {
    play(async |world| {
        training(&world).await?;
        for (pod, next, generation) in [
            ("a-worker-1-0", "a-worker-1-1", 1),
            ("a-server-1-0", "a-server-1-1", 2),
        ] {
            let uid = world
                .with(|cluster| cluster.uid_of(pod))
                .unwrap_or_default();
            world.with(|cluster| cluster.hung.insert(uid.clone()));
            let degraded = |world: &World| {
                let status = world.status("a");
                let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
                conditions
                    .into_iter()
                    .find(|condition| condition["type"] == "Degraded")
                    .unwrap_or_default()
            };
            world.pass(8).await?;
            let told = degraded(&world);
            let member = &pod[2..10];
            ensure(
                told["status"] == "True"
                    && told["reason"] == "MemberStuck"
                    && told["message"]
                        == format!("{member} has been silent for 15 s; its pod is replaced"),
                &told,
            )?;
            world.until_runs(next, 60).await?;
            world.with(|cluster| cluster.hung.remove(&uid));
            world.pass(30).await?;
            let told = degraded(&world);
            ensure(told["status"] == "False", &told)?;
            // Its successor is none of those that are meant.
            let status = world.status("a");
            ensure(status["generation"] == generation, &status)?;
        }
        let end = world.end_of("a");
        ensure((end.failures, end.disruptions) == (0, 2), &end)
    });
}
