//! Troubles that last, and operators that see late: what is said, what is counted, and what is not done.

use std::time::Duration;

use crate::store::{PODS, Refusal};
use crate::world::{World, ensure, job, play};

fn degraded(world: &World, reason: &str) -> bool {
    let condition = world.condition("a", "Degraded");
    condition.is_some_and(|c| c.0 == "True" && c.1 == reason)
}

#[test]
fn o14_a_job_whose_time_was_prolonged_stays_although_the_watch_is_behind() {
    play(async |world| {
        let seat = world.start_operator();
        let mut short = job("a", 1, 1);
        short["spec"]["ttlSecondsAfterFinished"] = 60.into();
        world.create_job(short);
        world.until_phase("a", "Succeeded", 120).await?;
        let operator = world.operator(seat);
        world.with(|cluster| {
            let lags = &mut cluster.gate.lags;
            lags.insert((operator, "trainingjobs"), Duration::from_secs(3600));
        });
        world.edit_job("a", |job| {
            job["spec"]["ttlSecondsAfterFinished"] = 86_400.into();
        });
        world.pass(300).await?;
        ensure(world.status("a")["phase"] == "Succeeded", world.status("a"))
    });
}

#[test]
fn o08_pods_deleted_by_force_are_counted_and_replaced_after_growing_waits() {
    play(async |world| {
        world.with(|cluster| cluster.total_steps = 10_000);
        world.start_operator();
        world.create_job(job("a", 1, 2));
        for attempt in 0..5 {
            let pod = format!("a-worker-1-{attempt}");
            world.until_runs(&pod, 60).await?;
            world.delete(&PODS, &pod, Some(0));
        }
        world.until_runs("a-worker-1-5", 60).await?;
        let end = world.end_of("a");
        ensure((end.failures, end.disruptions) == (0, 5), &end)?;
        let status = world.status("a");
        ensure(status["generation"] == 1, &status)?;
        let member = &status["restarts"]["members"][0];
        ensure(
            member["name"] == "worker-1" && member["streak"] == 5,
            &status,
        )
    });
}

#[test]
fn o21_a_server_that_ends_again_and_again_is_reported_until_it_runs_steadily() {
    play(async |world| {
        world.with(|cluster| cluster.total_steps = 10_000);
        world.start_operator();
        world.create_job(job("a", 1, 1));
        for attempt in 0..3 {
            let pod = format!("a-server-0-{attempt}");
            world.until_runs(&pod, 60).await?;
            world.end_pod(&pod, 75, "Error");
        }
        world.until_runs("a-server-0-3", 60).await?;
        world.pass(10).await?;
        ensure(degraded(&world, "CrashLoopBackOff"), world.status("a"))?;
        let message = world.condition("a", "Degraded").map(|c| c.2);
        let says = |part: &str| message.as_ref().is_some_and(|text| text.contains(part));
        ensure(says("server-0") && says("exit code 75"), &message)?;
        world.pass(80).await?;
        let recovered = world
            .condition("a", "Degraded")
            .is_some_and(|c| c.0 == "False");
        ensure(recovered, world.status("a"))
    });
}

/// The kubelet tells of the container's end before the pod's phase does, and the pod is older than one that should have
/// started long ago.
#[test]
fn o21_a_pod_that_ends_is_not_taken_for_one_that_does_not_start() {
    play(async |world| {
        world.with(|cluster| cluster.total_steps = 3000);
        world.start_operator();
        world.create_job(job("a", 1, 2));
        world.until_phase("a", "Succeeded", 600).await?;
        world.pass(60).await?;
        let degraded = world.condition("a", "Degraded");
        ensure(degraded.is_none(), degraded)
    });
}

#[test]
fn o21_an_api_server_that_fails_for_long_is_reported_and_the_job_recovers() {
    play(async |world| {
        let fails = Refusal::new(500, "InternalError", "etcd is out of space");
        world.with(|cluster| cluster.refused.insert(&PODS, fails));
        world.start_operator();
        world.create_job(job("a", 2, 1));
        world.pass(30).await?;
        ensure(degraded(&world, "ApiServerError"), world.status("a"))?;
        ensure(
            world.status("a")["servers"]["replicas"] == 0,
            world.status("a"),
        )?;
        world.with(|cluster| cluster.refused.clear());
        world.until_phase("a", "Succeeded", 240).await?;
        ensure(!degraded(&world, "ApiServerError"), world.status("a"))
    });
}

#[test]
fn o21_a_webhook_that_is_away_is_reported_and_raises_no_generation() {
    play(async |world| {
        let message = "Internal error occurred: failed calling webhook \"policy.example\": connection refused";
        let fails = Refusal::new(500, "InternalError", message);
        world.with(|cluster| cluster.refused.insert(&PODS, fails));
        world.start_operator();
        world.create_job(job("a", 1, 1));
        world.pass(600).await?;
        ensure(degraded(&world, "WebhookFailed"), world.status("a"))?;
        ensure(world.status("a")["generation"] == 1, world.status("a"))?;
        world.with(|cluster| cluster.refused.clear());
        world.until_phase("a", "Succeeded", 240).await
    });
}
