//! The export of the artifact: repeated within bounds, and harmless to the job whatever becomes of it.

use crate::cluster::Cluster;
use crate::kubelet::text;
use crate::store::{CONFIG_MAPS, EVENTS, JOBS, PODS};
use crate::trainer::Export;
use crate::world::{Outcome, World, ensure, job, play};

const KILLED: Export = Export::Ends(137, "Error", "");
const NO_SPACE: Export = Export::Ends(1, "Error", "artifact: No space left on device");

/// Starts job `a`, whose first finishers go like this.
fn start(world: &World, first: &[Export]) {
    world.with(|cluster| cluster.exports.first.extend(first));
    world.create_job(job("a", 2, 2));
}

/// As above, with an operator, until the job has ended.
async fn exported(world: &World, first: &[Export]) -> Outcome {
    world.start_operator();
    start(world, first);
    world.until_phase("a", "Succeeded", 300).await
}

pub async fn export_killed(world: World) -> Outcome {
    start(&world, &[KILLED]);
    world.until_phase("a", "Succeeded", 300).await
}

pub async fn export_fails(world: World) -> Outcome {
    start(&world, &[NO_SPACE; 3]);
    world.until_phase("a", "Succeeded", 300).await
}

pub async fn export_disturbed(world: World) -> Outcome {
    start(&world, &[Export::Hangs, Export::Hangs]);
    world.until_runs("a-finisher-0-0", 300).await?;
    world.with(|cluster| cluster.evict_pod("a-finisher-0-0"));
    world.until_runs("a-finisher-0-1", 300).await?;
    world.delete(&PODS, "a-finisher-0-1", None);
    world.until_phase("a", "Succeeded", 300).await
}

fn finishers(world: &World) -> Vec<String> {
    world.with(|cluster| {
        let created = cluster.store.log.iter();
        let created = created.filter(|change| change.key.kind == &PODS && change.old.is_none());
        let names = created.map(|change| change.key.name.clone());
        names.filter(|name| name.contains("finisher")).collect()
    })
}

/// What a job says of its artifact: status, reason and message.
fn ready(world: &World) -> (String, String, String) {
    world.condition("a", "ArtifactReady").unwrap_or_default()
}

/// The number of failed exports, if no other failure is counted.
fn failures(world: &World) -> Option<u64> {
    let status = world.status("a");
    let exports = status["export"]["failures"].as_u64();
    exports.filter(|_| status["restarts"]["failures"] == 0)
}

#[test]
fn t28_an_artifact_is_exported_in_two_writes_and_by_one_pod() {
    play(async |world| {
        exported(&world, &[]).await?;
        world.stays_quiet().await?;
        ensure(finishers(&world) == ["a-finisher-0-0"], finishers(&world))?;
        let (status, reason, message) = ready(&world);
        ensure((&*status, &*reason) == ("True", "Exported"), &reason)?;
        ensure(message == "/storage/a/artifact", &message)?;
        let job = world.status("a");
        ensure(job["artifact"] == "/storage/a/artifact", &job)?;
        ensure(job["modelSha256"].is_string(), &job)?;
        let phases: Vec<String> = world.with(|cluster| {
            let written = cluster.store.log.iter().filter(|c| c.key.kind == &JOBS);
            written
                .map(|change| text(&change.object()["status"]["phase"]))
                .collect()
        });
        let exporting = phases.iter().filter(|phase| *phase == "Exporting").count();
        ensure(exporting == 1, phases)
    });
}

#[test]
fn t28_an_export_that_is_killed_is_repeated() {
    play(async |world| {
        exported(&world, &[KILLED, NO_SPACE]).await?;
        let expected = ["a-finisher-0-0", "a-finisher-0-1", "a-finisher-0-2"];
        ensure(finishers(&world) == expected, finishers(&world))?;
        ensure(ready(&world).0 == "True", ready(&world))?;
        ensure(failures(&world) == Some(2), world.status("a"))
    });
}

#[test]
fn t28_an_export_that_keeps_failing_is_given_up_and_the_job_succeeds() {
    play(async |world| {
        exported(&world, &[NO_SPACE; 5]).await?;
        world.stays_quiet().await?;
        ensure(finishers(&world).len() == 3, finishers(&world))?;
        let (status, reason, message) = ready(&world);
        ensure((&*status, &*reason) == ("False", "Error"), &reason)?;
        ensure(message.contains("No space left on device"), &message)?;
        ensure(message.contains("trainyard export"), &message)?;
        ensure(failures(&world) == Some(3), world.status("a"))?;
        let job = world.status("a");
        ensure(
            job["artifact"].is_null() && job["modelSha256"].is_string(),
            &job,
        )?;
        let told = world.condition("a", "Succeeded").unwrap_or_default();
        ensure(told.0 == "True" && told.2.contains("ArtifactReady"), &told)?;
        let warned = world.with(|cluster| {
            let mut events = cluster.store.of_kind(&EVENTS);
            events.any(|event| event["type"] == "Warning" && event["action"] == "Export")
        });
        ensure(warned, "no event")
    });
}

#[test]
fn t28_the_reason_of_a_failed_export_is_one_word_and_bad_input_is_not_repeated() {
    let bad = Export::Ends(2, "Error", "the secret key is wrong");
    let memory = Export::Ends(137, "OOMKilled", "");
    let silent = Export::Ends(0, "Completed", "");
    for (export, word, pods) in [
        (bad, "BadInput", 1),
        (memory, "OOMKilled", 3),
        (silent, "Error", 3),
    ] {
        play(async |world| {
            exported(&world, &[export; 3]).await?;
            let (status, reason, _) = ready(&world);
            ensure((&*status, &*reason) == ("False", word), &reason)?;
            ensure(finishers(&world).len() == pods, finishers(&world))
        });
    }
}

#[test]
fn t28_a_disturbed_export_costs_nothing() {
    play(async |world| {
        world.start_operator();
        export_disturbed(world.clone()).await?;
        ensure(ready(&world).0 == "True", ready(&world))?;
        ensure(failures(&world) == Some(0), world.status("a"))?;
        ensure(world.end_of("a").disruptions == 2, world.end_of("a"))
    });
}

#[test]
fn t28_a_deadline_ends_an_export_and_fails_no_job() {
    play(async |world| {
        world.start_operator();
        world.with(|cluster| cluster.exports.first.push_back(Export::Hangs));
        let mut limited = job("a", 1, 1);
        limited["spec"]["activeDeadlineSeconds"] = 300.into();
        world.create_job(limited);
        world.until_phase("a", "Exporting", 200).await?;
        world.until_phase("a", "Succeeded", 300).await?;
        let (status, reason, _) = ready(&world);
        ensure(
            (&*status, &*reason) == ("False", "DeadlineExceeded"),
            &reason,
        )?;
        world.pass(120).await?;
        let left = world.with(|cluster| cluster.working_pods("a"));
        ensure(left.is_empty(), left)
    });
}

#[test]
fn t28_an_export_that_hangs_has_failed_after_an_hour() {
    play(async |world| {
        world.start_operator();
        start(&world, &[Export::Hangs; 3]);
        world.until_phase("a", "Exporting", 300).await?;
        world.until_phase("a", "Succeeded", 4 * 3600).await?;
        let (status, reason, message) = ready(&world);
        ensure(
            (&*status, &*reason) == ("False", "DeadlineExceeded"),
            &reason,
        )?;
        ensure(message.contains("activeDeadlineSeconds"), &message)?;
        ensure(failures(&world) == Some(3), world.status("a"))
    });
}

/// What is done is done, whatever the deadline says, and the wish to suspend.
#[test]
fn t28_an_export_that_has_ended_counts_although_nobody_looked() {
    for suspended in [true, false] {
        play(async |world| {
            let seat = world.start_operator();
            let mut limited = job("a", 1, 1);
            limited["spec"]["activeDeadlineSeconds"] = 300.into();
            world.create_job(limited);
            world.until_runs("a-finisher-0-0", 200).await?;
            world.remove_operator(seat);
            world.pass(400).await?;
            world.edit_job("a", |job| job["spec"]["suspend"] = suspended.into());
            world.start_operator();
            world.until_phase("a", "Succeeded", 10).await?;
            ensure(ready(&world).0 == "True", ready(&world))
        });
    }
}

#[test]
fn t28_a_suspended_export_goes_on_and_trains_nothing_again() {
    play(async |world| {
        world.start_operator();
        start(&world, &[Export::Hangs]);
        world.until_runs("a-finisher-0-0", 300).await?;
        world.edit_job("a", |job| job["spec"]["suspend"] = true.into());
        let gone = |cluster: &Cluster| cluster.working_pods("a").is_empty();
        world.until("no pod works", 100, gone).await?;
        world.until_phase("a", "Suspended", 10).await?;
        world.stays_quiet().await?;
        ensure(ready(&world).1 == "Suspended", ready(&world))?;
        let before = world.pods_created();
        world.edit_job("a", |job| job["spec"]["suspend"] = false.into());
        world.until_phase("a", "Succeeded", 100).await?;
        ensure(world.pods_created() == before + 1, world.pods())?;
        ensure(ready(&world).0 == "True", ready(&world))?;
        ensure(failures(&world) == Some(0), world.status("a"))
    });
}

#[test]
fn t28_an_older_image_has_exported_already() {
    play(async |world| {
        world.with(|cluster| cluster.exports.by_server = true);
        exported(&world, &[]).await?;
        ensure(finishers(&world).is_empty(), finishers(&world))?;
        ensure(ready(&world).0 == "True", ready(&world))?;
        let artifact = &world.status("a")["artifact"];
        ensure(artifact == "/storage/a/artifact", artifact)
    });
}

#[test]
fn t28_an_export_needs_no_data_and_waits_for_nobody_for_long() {
    play(async |world| {
        world.start_operator();
        let mut kept = job("a", 1, 2);
        kept["spec"]["cleanPodPolicy"] = "None".into();
        world.create_job(kept);
        world.until_step("a", 200).await?;
        world.delete(&CONFIG_MAPS, "data", None);
        // A worker that never ends.
        world.with(|cluster| {
            let node = cluster.node_of("a-worker-0-0").unwrap_or_default();
            cluster.nodes[node] = false;
        });
        world.until_phase("a", "Exporting", 100).await?;
        world.until_phase("a", "Succeeded", 40).await?;
        ensure(ready(&world).0 == "True", ready(&world))
    });
}

/// A finisher that was removed by force while nobody looked.
#[test]
fn t28_a_finisher_that_is_gone_is_replaced() {
    play(async |world| {
        let seat = world.start_operator();
        start(&world, &[Export::Hangs]);
        world.until_runs("a-finisher-0-0", 300).await?;
        world.remove_operator(seat);
        world.delete(&PODS, "a-finisher-0-0", Some(0));
        world.start_operator();
        world.until_phase("a", "Succeeded", 100).await?;
        ensure(finishers(&world).len() == 2, finishers(&world))?;
        ensure(ready(&world).0 == "True", ready(&world))
    });
}
