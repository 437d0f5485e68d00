//! The number of workers changes while the job runs.

use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use trainyard_crds::TrainingJob;

use crate::http::client;
use crate::scenarios::no_trace_of_a;
use crate::store::JOBS;
use crate::world::{Outcome, World, ensure, job, play};

async fn training(world: &World, workers: u32) -> Outcome {
    world.with(|cluster| cluster.total_steps = 1000);
    world.start_operator();
    world.create_job(job("a", 1, workers));
    world.until_step("a", 100).await
}

fn scale(world: &World, workers: u32) {
    world.edit_job("a", |job| {
        job["spec"]["workers"]["replicas"] = workers.into()
    });
}

fn suspend(world: &World, suspend: bool) {
    world.edit_job("a", |job| job["spec"]["suspend"] = suspend.into());
}

#[test]
fn o10_up_adds_new_indices_and_down_takes_the_highest() {
    play(async |world| {
        training(&world, 2).await?;
        world.end_pod("a-worker-0-0", 137, "Error");
        world.until_runs("a-worker-0-1", 30).await?;
        let before = world.pods();
        scale(&world, 4);
        world.until_runs("a-worker-3-0", 30).await?;
        let after = world.pods();
        let new: Vec<&String> = after
            .iter()
            .filter(|pod| !before.contains(pod))
            .map(|(name, _)| name)
            .collect();
        ensure(
            new == ["a-worker-2-0", "a-worker-3-0"] && before.iter().all(|pod| after.contains(pod)),
            &after,
        )?;
        let survivor = world.uid("a-worker-0-1");
        scale(&world, 1);
        world
            .until("the others are gone", 60, |c| {
                c.working_pods("a").len() == 2
            })
            .await?;
        world.pass(20).await?;
        ensure(world.uid("a-worker-0-1") == survivor, world.pods())?;
        let gone = ["a-worker-1-0", "a-worker-2-0", "a-worker-3-0"];
        ensure(
            gone.iter().all(|pod| world.uid(pod).is_none()),
            world.pods(),
        )?;
        let end = world.end_of("a");
        ensure((end.failures, end.disruptions) == (1, 0), &end)?;
        // Up again: the names of before are not taken twice.
        scale(&world, 2);
        world.until_runs("a-worker-1-1", 30).await?;
        world.until_phase("a", "Succeeded", 300).await
    });
}

#[test]
fn o11_the_scale_subresource_works() {
    play(async |world| {
        training(&world, 1).await?;
        let jobs: Api<TrainingJob> = Api::namespaced(client(&world.shared, 0), "default");
        let patch = Patch::Merge(json!({"spec": {"replicas": 3}}));
        let scale = jobs
            .patch_scale("a", &PatchParams::default(), &patch)
            .await
            .map_err(|error| error.to_string())?;
        ensure(
            scale.spec.and_then(|spec| spec.replicas) == Some(3),
            "the scale is 3",
        )?;
        world.until_runs("a-worker-2-0", 30).await?;
        let status = world.status("a");
        ensure(status["workers"]["replicas"] == 3, &status)?;
        let selector = status["workers"]["selector"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let selected = world.with(|cluster| {
            let pods = cluster.store.of_kind(&crate::store::PODS);
            pods.filter(|pod| crate::store::selected(pod, Some(&selector)))
                .count()
        });
        ensure(selected == 3, (selector, selected))
    });
}

#[test]
fn o12_scaling_while_a_server_restarts_converges() {
    play(async |world| {
        training(&world, 2).await?;
        world.end_pod("a-server-0-0", 137, "Error");
        scale(&world, 4);
        world.until_runs("a-worker-3-0", 30).await?;
        scale(&world, 2);
        world.until_phase("a", "Succeeded", 300).await?;
        world.pass(30).await?;
        crate::crashes::nothing_left_over(&world)
    });
}

#[test]
fn o12_suspending_and_resuming_at_once_converges() {
    for pause in [0, 1, 2, 5, 7, 9, 20] {
        play(async |world: World| {
            training(&world, 3).await?;
            scale(&world, 4);
            suspend(&world, true);
            world.pass(pause).await?;
            scale(&world, 2);
            suspend(&world, false);
            world.until_phase("a", "Succeeded", 300).await?;
            world.pass(30).await?;
            let end = world.end_of("a");
            ensure((end.failures, end.disruptions) == (0, 0), (pause, &end))?;
            crate::crashes::nothing_left_over(&world)
        });
    }
}

#[test]
fn o12_deletion_at_any_time_leaves_no_orphan() {
    for (wait, then) in [
        (0, "scale"),
        (1, "scale"),
        (0, "suspend"),
        (3, "suspend"),
        (0, "fail"),
        (1, "fail"),
    ] {
        play(async |world: World| {
            training(&world, 2).await?;
            match then {
                "scale" => scale(&world, 5),
                "suspend" => suspend(&world, true),
                _ => world.end_pod("a-server-0-0", 137, "Error"),
            }
            world.pass(wait).await?;
            world.delete(&JOBS, "a", None);
            no_trace_of_a(&world).await?;
            world.stays_quiet().await?;
            no_trace_of_a(&world).await
        });
    }
}
