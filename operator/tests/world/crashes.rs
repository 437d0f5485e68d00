//! The operator dies before and after each of its writes, in every scenario.

use std::collections::{BTreeMap, BTreeSet};

use crate::faults::When;
use crate::scenarios::{ALL, Scenario};
use crate::store::PODS;
use crate::world::{End, Outcome, World, simulate};

/// Scenarios in which names depend on the moment, and why; there, members are compared instead of their attempts.
const NAMES_VARY: &[(&str, &str)] = &[(
    "suspended_while_scaling",
    "a member whose pod still ends when the job is resumed gets its next attempt, one whose pod has gone the same name again",
)];

/// What has come of a scenario: the same, whatever happens to the operator.
#[derive(Debug, PartialEq)]
struct Came {
    end: End,
    /// How many pods of each name were created. A name is a member's attempt: one too many is a pod made twice, and another
    /// name an attempt that nothing called for. Only a job that is resumed or made anew takes names again.
    created: BTreeMap<String, usize>,
}

/// Tells a scenario, with the operator killed at a write; returns what came of it and the number of writes.
fn run(scenario: &Scenario, crash: Option<(u64, When)>) -> Result<(Came, u64), String> {
    let vary = NAMES_VARY.iter().any(|(name, _)| *name == scenario.name);
    simulate(1, async |world: World| {
        world.with(|cluster| cluster.gate.crash_at = crash);
        world.start_operator();
        (scenario.tell)(world.clone()).await?;
        world.pass(60).await?;
        nothing_left_over(&world)?;
        let came = Came {
            end: world.end_of("a"),
            created: created(&world, vary),
        };
        Ok((came, world.with(|cluster| cluster.gate.writes)))
    })
    .map_err(|what| {
        format!(
            "{what}scenario {} with the operator killed at {crash:?}",
            scenario.name
        )
    })
}

/// How often a pod of each name was created for a job, or of each member.
fn created(world: &World, members: bool) -> BTreeMap<String, usize> {
    let mut created: BTreeMap<String, usize> = BTreeMap::new();
    world.with(|cluster| {
        for change in &cluster.store.log {
            let owners = &change.object()["metadata"]["ownerReferences"];
            if change.key.kind == &PODS && change.old.is_none() && !owners.is_null() {
                let name = change.key.name.as_str();
                let member = name.rsplit_once('-').map_or(name, |(member, _)| member);
                let name = if members { member } else { name };
                *created.entry(name.into()).or_default() += 1;
            }
        }
    });
    created
}

/// Every member has at most one pod that works, and none when the job has ended, unless a job that failed is to keep them.
pub fn nothing_left_over(world: &World) -> Outcome {
    let left = world.with(|cluster| {
        let mut left = Vec::new();
        for job in ["a", "b"] {
            let object = cluster.job(job);
            if object.is_some_and(|job| {
                job["status"]["phase"] == "Failed" && job["spec"]["cleanPodPolicy"] == "None"
            }) {
                continue;
            }
            let ended = object.is_none_or(|job| !job["status"]["completionTime"].is_null());
            let mut seen = BTreeSet::new();
            for pod in cluster.working_pods(job) {
                if ended || !seen.insert((pod.is_server, pod.index)) {
                    left.push(pod.key.name.clone());
                }
            }
        }
        left
    });
    match left.is_empty() {
        true => Ok(()),
        false => Err(format!("pods are left over: {left:?}")),
    }
}

#[test]
fn o06_the_operator_dies_at_any_write_and_the_end_is_the_same() {
    let failed = std::sync::Mutex::new(Vec::new());
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        while let Some(scenario) = ALL.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
        {
            if let Err(what) = at_every_write(scenario) {
                failed.lock().unwrap().push(what);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

fn at_every_write(scenario: &Scenario) -> Result<(), String> {
    let (expected, writes) = run(scenario, None)?;
    if writes < 5 {
        return Err(format!(
            "scenario {} makes {writes} writes: too few to be true",
            scenario.name
        ));
    }
    for write in 0..writes {
        for when in [When::Before, When::After] {
            let (came, _) = run(scenario, Some((write, when)))?;
            if came != expected {
                // Once more, for the log.
                let log = simulate_for_log(scenario, (write, when));
                return Err(format!(
                    "{log}\nscenario {}, operator killed {when:?} write {write}: {came:?} instead of {expected:?}",
                    scenario.name
                ));
            }
        }
    }
    Ok(())
}

fn simulate_for_log(scenario: &Scenario, crash: (u64, When)) -> String {
    simulate(1, async |world: World| {
        world.with(|cluster| cluster.gate.crash_at = Some(crash));
        world.start_operator();
        (scenario.tell)(world.clone()).await?;
        Ok(world.with(|cluster| cluster.log.join("\n")))
    })
    .unwrap_or_else(|what| what)
}
