//! An operator that takes over the jobs of an older one, or of a newer one.

use serde_json::{Value, json};
use trainyard_contract::{KEYS_SINCE, VERSION};

use crate::keys::secrets;
use crate::store::{CONFIG_MAPS, EVENTS, JOBS, KINDS, Key, PODS};
use crate::world::{Outcome, World, ensure, job, play};

fn job_file() -> Key {
    Key::new(&CONFIG_MAPS, "default", "a-job")
}

/// The status of job `a` says that it was begun under another contract.
fn begun_under(world: &World, contract: Value) {
    world.with(|cluster| {
        let at = cluster.elapsed();
        let key = Key::new(&JOBS, "default", "a");
        let edit = |job: &mut Value| job["status"]["contract"] = contract;
        cluster.store.edit(&key, at, edit);
    });
}

/// The job file of job `a` as an older operator has left it: it says the same in other words.
fn make_older(world: &World) {
    world.with(|cluster| {
        cluster.exports.by_server = true;
        let at = cluster.elapsed();
        cluster.store.edit(&job_file(), at, |map| {
            map["data"]["job.json"] = "{\"kind\": \"TrainingJob\"}".into();
            map["immutable"] = Value::Null;
        });
    });
}

/// Creates job `a` as an operator has just begun it that knew this contract: what is made for it is what that one made.
fn create_begun_under(world: &World, contract: Value) {
    world.with(|cluster| {
        let (at, now) = (cluster.elapsed(), cluster.now());
        let key = Key::new(&JOBS, "default", "a");
        let created = cluster.store.create(key.clone(), job("a", 2, 2), at, now);
        created.expect("there is no job yet");
        let status = json!({"image": "trainer:1", "contract": contract});
        let edit = |job: &mut Value| job["status"] = status;
        cluster.store.edit(&key, at, edit);
    });
}

async fn upgraded(world: &World, contract: Value, meanwhile: impl FnOnce(&World)) -> Outcome {
    let seat = world.start_operator();
    create_begun_under(world, contract);
    world.until_step("a", 100).await?;
    world.remove_operator(seat);
    meanwhile(world);
    world.start_operator();
    Ok(())
}

#[test]
fn o38_a_job_goes_on_under_a_newer_operator_with_the_job_file_that_it_has() {
    play(async |world| {
        upgraded(&world, Value::Null, make_older).await?;
        world.pass(10).await?;
        world.end_pod("a-worker-0-0", 137, "Error");
        world.until_phase("a", "Succeeded", 200).await?;
        let map = world.with(|cluster| cluster.store.get(&job_file()).cloned());
        let text = map.map(|map| map["data"]["job.json"].clone());
        ensure(text == Some("{\"kind\": \"TrainingJob\"}".into()), &text)?;
        // Two servers, two workers, and the one that was lost.
        ensure(world.pods_created() == 5, world.pods())?;
        ensure(world.status("a")["contract"].is_null(), world.status("a"))?;
        ensure(world.status("a")["generation"] == 1, world.status("a"))
    });
}

/// What the operator of the contract's first version had made of this job by then: its status, its pods and all else.
const RUNNING: &str = include_str!("../fixtures/running-1.json");

fn replace_by_recording(world: &World) {
    let recorded: Vec<Value> = serde_json::from_str(RUNNING).expect("the recording is JSON");
    world.with(|cluster| {
        cluster.exports.by_server = true;
        for recorded in recorded {
            let (plural, object) = (&recorded["plural"], &recorded["object"]);
            let kind = KINDS.into_iter().find(|kind| kind.plural == plural);
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let key = Key::new(kind.expect("a kind"), "default", name);
            let there = cluster.store.get(&key).expect(name);
            assert_eq!(
                there["metadata"]["uid"], object["metadata"]["uid"],
                "{name}"
            );
            let at = cluster.elapsed();
            cluster
                .store
                .edit(&key, at, |there| *there = object.clone());
        }
    });
}

#[test]
fn o38_what_an_older_operator_has_made_is_taken_over_as_it_is() {
    play(async |world| {
        upgraded(&world, Value::Null, replace_by_recording).await?;
        let version = world.with(|cluster| cluster.store.version);
        world.until_phase("a", "Succeeded", 200).await?;
        let changed: Vec<String> = world.with(|cluster| {
            let log = cluster
                .store
                .log
                .iter()
                .filter(|change| change.version > version);
            let made =
                log.filter(|c| c.key.kind != &JOBS && c.key.kind != &PODS && c.key.kind != &EVENTS);
            made.map(|change| change.key.name.clone()).collect()
        });
        ensure(changed.is_empty(), changed)?;
        let end = world.end_of("a");
        ensure(end.failures + end.disruptions == 0, &end)?;
        ensure(world.pods_created() == 4, world.pods())?;
        let ready = world.condition("a", "ArtifactReady").unwrap_or_default();
        ensure(ready.0 == "True", ready)
    });
}

#[test]
fn o38_the_job_file_cannot_be_changed_and_is_made_again_if_it_is_deleted() {
    play(async |world| {
        world.start_operator();
        world.create_job(job("a", 1, 1));
        world.until_step("a", 50).await?;
        let file = || world.with(|cluster| cluster.store.get(&job_file()).cloned());
        let first = file().unwrap_or_default();
        ensure(first["immutable"] == true, &first)?;
        world.delete(&CONFIG_MAPS, "a-job", None);
        world.pass(10).await?;
        let second = file().unwrap_or_default();
        ensure(first["data"] == second["data"], (first, second))
    });
}

/// Pods with and without a key would not take each other in.
#[test]
fn o38_a_job_that_was_begun_without_keys_goes_on_without() {
    for contract in [Value::Null, json!(1), json!(KEYS_SINCE - 1)] {
        play(async |world: World| {
            upgraded(&world, contract.clone(), |_| {}).await?;
            world.end_pod("a-server-1-0", 139, "Error");
            world.end_pod("a-worker-0-0", 137, "Error");
            world.until_runs("a-worker-0-1", 60).await?;
            world.until_phase("a", "Succeeded", 300).await?;
            ensure(secrets(&world).is_empty(), secrets(&world))?;
            let contract = &contract;
            ensure(world.status("a")["contract"] == *contract, contract)
        });
    }
}

#[test]
fn o38_a_job_of_a_newer_operator_is_left_alone() {
    play(async |world| {
        let newer = |world: &World| {
            begun_under(world, json!(1000));
            // An end that may mean something to a newer operator.
            world.end_pod("a-worker-0-0", 76, "Error");
        };
        upgraded(&world, json!(VERSION), newer).await?;
        let before = world.status("a");
        world.pass(200).await?;
        ensure(world.status("a") == before, world.status("a"))?;
        ensure(world.pods_created() == 4, world.pods())?;
        let told = world.with(|cluster| {
            let mut events = cluster.store.of_kind(&EVENTS);
            events.any(|event| event["reason"] == "NewerContract")
        });
        ensure(told, "no event")
    });
}
