//! A job's life: begin, deadline, end, and what remains.

use serde_json::Value;

use crate::kubelet::text;
use crate::scenarios::no_trace_of_a;
use crate::store::{EVENTS, JOBS, PODS};
use crate::world::{World, ensure, job, play};

#[test]
fn o01_services_come_before_pods_and_a_second_pass_changes_nothing() {
    play(async |world| {
        let seat = world.start_operator();
        world.create_job(job("a", 2, 3));
        world.until_step("a", 50).await?;
        let order: Vec<(String, String)> = world.with(|cluster| {
            let created = cluster
                .store
                .log
                .iter()
                .filter(|change| change.old.is_none());
            created
                .map(|change| (change.key.kind.plural.to_owned(), change.key.name.clone()))
                .collect()
        });
        let service = order
            .iter()
            .position(|(kind, name)| kind == "services" && name == "a");
        let first_pod = order.iter().position(|(kind, _)| kind == "pods");
        ensure(service.is_some() && service < first_pod, &order)?;
        let names: Vec<String> = world.pods().into_iter().map(|(name, _)| name).collect();
        let expected = [
            "a-server-0-0",
            "a-server-1-0",
            "a-worker-0-0",
            "a-worker-1-0",
            "a-worker-2-0",
        ];
        ensure(names == expected, &names)?;
        // An operator that begins anew finds everything as it should be.
        let before = world.with(|cluster| {
            (
                cluster.gate.durable_writes,
                cluster.trainings.values().map(|t| t.step).sum::<u64>(),
            )
        });
        world.kill_operator(seat);
        world.pass(8).await?;
        let changed = world.with(|cluster| {
            let log = cluster
                .store
                .log
                .iter()
                .filter(|change| change.key.kind != &JOBS && change.key.kind != &EVENTS);
            log.filter(|change| change.at.as_secs() + 8 > cluster.elapsed().as_secs())
                .count()
        });
        ensure(changed == 0, (changed, before))
    });
}

#[test]
fn o02_a_job_succeeds_and_then_nothing_is_written() {
    play(async |world| {
        world.start_operator();
        world.create_job(job("a", 2, 2));
        world.until_phase("a", "Running", 60).await?;
        world.until_phase("a", "Succeeded", 120).await?;
        world.stays_quiet().await
    });
}

/// The statuses of job `a`, in the order in which they were written.
fn statuses(world: &World) -> Vec<Value> {
    world.with(|cluster| {
        let log = cluster.store.log.iter();
        let written = log.filter(|change| change.key.kind == &JOBS && change.key.name == "a");
        written
            .map(|change| change.object()["status"].clone())
            .collect()
    })
}

/// It goes with the numbers of those that are ready.
#[test]
fn o31_no_write_is_made_only_to_say_whose_pods_have_started() {
    play(async |world| {
        world.start_operator();
        world.create_job(job("a", 2, 3));
        world.until_step("a", 100).await?;
        world.end_pod("a-worker-0-0", 137, "Error");
        world.until_runs("a-worker-0-1", 30).await?;
        world.until_phase("a", "Succeeded", 120).await?;
        let statuses = statuses(&world);
        let started = |status: &Value| {
            let of = |role: &str| status[role]["startedIndexes"].clone();
            (of("servers"), of("workers"))
        };
        let without = |status: &Value| {
            let mut status = status.clone();
            for role in ["servers", "workers"] {
                if let Some(role) = status[role].as_object_mut() {
                    role.remove("startedIndexes");
                }
            }
            status
        };
        let told = |status: &Value| started(status) == ("0-1".into(), "0-2".into());
        ensure(statuses.iter().any(told), &statuses)?;
        for pair in statuses.windows(2) {
            let changes = started(&pair[0]) != started(&pair[1]);
            ensure(!changes || without(&pair[0]) != without(&pair[1]), pair)?;
        }
        Ok(())
    });
}

#[test]
fn o02_nothing_is_written_while_nothing_can_happen() {
    play(async |world| {
        world.with(|cluster| cluster.full = true);
        world.start_operator();
        world.create_job(job("a", 2, 2));
        world.stays_quiet().await
    });
}

#[test]
fn o03_a_deadline_fires_without_an_event_and_never_after_the_end() {
    play(async |world| {
        world.with(|cluster| cluster.full = true);
        world.start_operator();
        let mut limited = job("a", 1, 1);
        limited["spec"]["activeDeadlineSeconds"] = 500.into();
        world.create_job(limited);
        world.pass(495).await?;
        ensure(world.status("a")["phase"] == "Pending", world.status("a"))?;
        world.until_phase("a", "Failed", 10).await?;
        ensure(
            world
                .condition("a", "Failed")
                .is_some_and(|c| c.1 == "DeadlineExceeded"),
            world.status("a"),
        )?;
        world.with(|cluster| cluster.full = false);
        let mut limited = job("b", 1, 1);
        limited["spec"]["activeDeadlineSeconds"] = 120.into();
        world.create_job(limited);
        world.until_phase("b", "Succeeded", 100).await?;
        world.stays_quiet().await?;
        ensure(world.status("b")["phase"] == "Succeeded", world.status("b"))
    });
}

#[test]
fn o04_success_is_found_although_the_pods_ended_while_nobody_looked() {
    play(async |world| {
        let seat = world.start_operator();
        world.create_job(job("a", 2, 2));
        world.until_step("a", 100).await?;
        world.remove_operator(seat);
        world
            .until("all pods have ended", 120, |cluster| {
                cluster.working_pods("a").is_empty()
            })
            .await?;
        world.start_operator();
        world.until_phase("a", "Succeeded", 10).await?;
        let end = world.end_of("a");
        ensure(end.failures + end.disruptions == 0, &end)?;
        // Terminal is terminal, whatever becomes of the pods.
        for (pod, _) in world.pods() {
            world.delete(&PODS, &pod, None);
        }
        world.pass(60).await?;
        ensure(
            world.pods().is_empty() && world.pods_created() == 5,
            world.pods(),
        )?;
        ensure(world.end_of("a") == end, world.end_of("a"))
    });
}

#[test]
fn o04_a_worker_that_leaves_well_does_not_finish_the_job() {
    play(async |world| {
        world.start_operator();
        world.create_job(job("a", 1, 2));
        world.until_step("a", 50).await?;
        world.with(|cluster| cluster.total_steps = 1000);
        world.end_pod("a-worker-0-0", 0, "Completed");
        world.until_runs("a-worker-0-1", 60).await?;
        ensure(world.status("a")["phase"] == "Running", world.status("a"))?;
        world.until_phase("a", "Succeeded", 200).await
    });
}

#[test]
fn o13_suspension_keeps_the_progress_and_resumes_in_a_new_generation() {
    play(async |world| {
        world.start_operator();
        world.create_job(job("a", 2, 2));
        world.until_step("a", 150).await?;
        world.edit_job("a", |job| job["spec"]["suspend"] = true.into());
        world
            .until("no pod is left", 100, |cluster| cluster.pods.is_empty())
            .await?;
        world.until_phase("a", "Suspended", 10).await?;
        let step = world.with(|cluster| {
            cluster
                .trainings
                .values()
                .map(|t| t.checkpoint)
                .sum::<u64>()
        });
        ensure(step >= 150, step)?;
        world.stays_quiet().await?;
        world.edit_job("a", |job| job["spec"]["suspend"] = false.into());
        world
            .until("training goes on", 60, |cluster| {
                cluster.trainings.values().any(|t| t.formations == 2)
            })
            .await?;
        world.until_phase("a", "Succeeded", 100).await?;
        let (status, end) = (world.status("a"), world.end_of("a"));
        ensure(status["generation"] == 2, &status)?;
        ensure(end.failures + end.disruptions == 0, &end)?;
        ensure(
            world
                .condition("a", "Suspended")
                .is_some_and(|c| c.0 == "False"),
            &status,
        )
    });
}

#[test]
fn o13_a_job_resumes_although_the_node_of_its_old_pods_is_silent() {
    play(async |world| {
        world.start_operator();
        world.create_job(job("a", 2, 2));
        world.until_step("a", 150).await?;
        world.with(|cluster| {
            let node = cluster.node_of("a-server-1-0").unwrap_or_default();
            cluster.lose_node(node);
        });
        world.edit_job("a", |job| job["spec"]["suspend"] = true.into());
        world.until_phase("a", "Suspended", 10).await?;
        world.edit_job("a", |job| job["spec"]["suspend"] = false.into());
        // Long before anybody declares the node dead and its pods gone.
        world
            .until("training goes on", 150, |cluster| {
                cluster.trainings.values().any(|t| t.formations == 2)
            })
            .await?;
        world.until_phase("a", "Succeeded", 300).await?;
        ensure(world.status("a")["generation"] == 2, world.status("a"))
    });
}

/// Starts the operator, and a job with a `cleanPodPolicy`.
fn start_with_policy(world: &World, policy: &str) {
    world.start_operator();
    let mut clean = job("a", 1, 2);
    clean["spec"]["cleanPodPolicy"] = policy.into();
    world.create_job(clean);
}

#[test]
fn o14_pods_are_cleaned_as_the_policy_says() {
    // Workers that still run when server 0 ends are deleted, unless the policy is None.
    for (policy, least) in [("All", 0), ("Running", 2), ("None", 4)] {
        play(async |world: World| {
            start_with_policy(&world, policy);
            world.until_phase("a", "Succeeded", 100).await?;
            world.pass(60).await?;
            ensure(
                world.with(|cluster| cluster.working_pods("a").is_empty()),
                world.pods(),
            )?;
            let left = world.pods().len();
            ensure(
                if least == 0 { left == 0 } else { left >= least },
                (policy, world.pods()),
            )
        });
    }
}

/// It would take a place, perhaps on a new node, for a job that is over.
#[test]
fn o14_a_pod_that_never_started_does_not_outlive_its_job() {
    for policy in ["All", "Running", "None"] {
        play(async |world: World| {
            start_with_policy(&world, policy);
            world.until_step("a", 50).await?;
            world.with(|cluster| cluster.registry_down = true);
            world.end_pod("a-worker-1-0", 137, "Error");
            world.until_phase("a", "Exporting", 100).await?;
            world.with(|cluster| cluster.registry_down = false);
            world.until_phase("a", "Succeeded", 100).await?;
            world.pass(60).await?;
            ensure(world.uid("a-worker-1-1").is_none(), world.pods())?;
            let left = world.pods().len();
            ensure(policy != "None" || left == 4, (policy, world.pods()))
        });
    }
}

#[test]
fn o14_failure_leaves_running_pods_only_if_the_policy_says_so() {
    for (policy, left) in [("All", 0), ("Running", 1), ("None", 3)] {
        play(async |world: World| {
            start_with_policy(&world, policy);
            world.until_step("a", 50).await?;
            world.with(|cluster| cluster.total_steps = 100_000);
            world.end_pod("a-worker-0-0", 1, "Error");
            world.until_phase("a", "Failed", 10).await?;
            world.pass(60).await?;
            ensure(world.pods().len() == left, (policy, world.pods()))
        });
    }
}

#[test]
fn o14_the_job_is_deleted_after_its_time() {
    play(async |world| {
        world.start_operator();
        let mut short = job("a", 1, 1);
        short["spec"]["ttlSecondsAfterFinished"] = 1000.into();
        world.create_job(short);
        world.until_phase("a", "Succeeded", 100).await?;
        world.pass(990).await?;
        ensure(
            world.with(|cluster| cluster.job("a").is_some()),
            "the job is still there",
        )?;
        world
            .until("the job is gone", 20, |cluster| cluster.job("a").is_none())
            .await?;
        no_trace_of_a(&world).await?;
        world.stays_quiet().await
    });
}

#[test]
fn o15_deletion_leaves_nothing_and_nothing_can_hold_it_up() {
    play(async |world| {
        let seat = world.start_operator();
        world.create_job(job("a", 2, 2));
        world.until_step("a", 50).await?;
        let held = world.with(|cluster| {
            let mut objects = cluster.store.objects.values();
            objects.any(|object| !object["metadata"]["finalizers"].is_null())
        });
        ensure(!held, "no finalizer")?;
        // Not even the operator is needed.
        world.remove_operator(seat);
        world.delete(&JOBS, "a", None);
        no_trace_of_a(&world).await?;
        world.start_operator();
        world.stays_quiet().await?;
        ensure(world.pods().is_empty(), world.pods())
    });
}

#[test]
fn o26_events_follow_what_the_status_says_and_are_told_once() {
    play(async |world| {
        world.with(|cluster| cluster.warnings = vec!["a.csv: 2 rows are left out".into()]);
        world.start_operator();
        world.create_job(job("a", 1, 2));
        world.until_step("a", 50).await?;
        world.end_pod("a-worker-0-0", 137, "Error");
        world.until_phase("a", "Succeeded", 100).await?;
        world.pass(30).await?;
        let (events, log) = world.with(|cluster| {
            let events: Vec<Value> = cluster
                .store
                .of_kind(&EVENTS)
                .map(|event| (**event).clone())
                .collect();
            (events, cluster.store.log.clone())
        });
        let reasons: Vec<String> = events.iter().map(|event| text(&event["reason"])).collect();
        let warned = events
            .iter()
            .find(|event| event["reason"] == "TrainingWarning");
        let warned = warned.map(|event| (event["type"].clone(), event["note"].clone()));
        let expected = ("Warning".into(), "a.csv: 2 rows are left out".into());
        ensure(warned.as_ref() == Some(&expected), &warned)?;
        for reason in [
            "Started",
            "Training",
            "TrainingWarning",
            "Replaced",
            "Complete",
        ] {
            ensure(
                reasons.iter().filter(|r| *r == reason).count() == 1,
                (reason, &reasons),
            )?;
        }
        ensure(
            events.iter().all(|event| event["series"].is_null()),
            &events,
        )?;
        ensure(
            events.iter().all(|event| event["regarding"]["name"] == "a"),
            &events,
        )?;
        let finished = log
            .iter()
            .find(|change| change.object()["status"]["phase"] == "Succeeded")
            .map(|c| c.version);
        let told = log
            .iter()
            .find(|change| change.object()["reason"] == "Complete")
            .map(|c| c.version);
        ensure(finished.is_some() && finished < told, (finished, told))
    });
}

#[test]
fn o28_progress_is_written_at_a_bounded_rate() {
    play(async |world| {
        world.with(|cluster| cluster.total_steps = 3000);
        world.start_operator();
        world.create_job(job("a", 1, 1));
        world.until_phase("a", "Running", 60).await?;
        world.pass(5).await?;
        let since = world.with(|cluster| cluster.gate.durable_writes);
        world.pass(200).await?;
        let writes = world.with(|cluster| cluster.gate.durable_writes) - since;
        ensure((15..=20).contains(&writes), writes)?;
        let step = world.status("a")["progress"]["step"].as_u64();
        ensure(step.is_some_and(|step| step > 1800), step)?;
        ensure(
            world.status("a")["progress"]["loss"].is_null(),
            "a loss that is not finite is left out",
        )
    });
}
