//! The operator dies before and after each of its writes, in every scenario.

use std::collections::{BTreeMap, BTreeSet};

use crate::faults::When;
use crate::kubelet::PodState;
use crate::scenarios::{ALL, Scenario};
use crate::store::{PODS, SECRETS};
use crate::world::{End, Outcome, World, simulate};

/// Scenarios in which the pods depend on the moment, and why. There, no member may get more of them than without a crash, and
/// no failure may be missing.
const VARYING: &[(&str, &str)] = &[
    (
        "suspended_while_scaling",
        "seconds lie between the wishes, and a dead operator misses some: workers wanted so briefly may never be made, and a \
         member whose pod has not ended when the job is resumed gets its next attempt, one whose pod has gone the same again",
    ),
    (
        "export_disturbed",
        "that a finisher has started is written down nowhere, which saves a write: one that is deleted while the operator is dead \
         is made again under its name, and not counted",
    ),
];

/// Scenarios in which pods take names again: those of a job that was suspended, or of another job of that name.
const NAMED_AGAIN: &[&str] = &[
    "suspended",
    "suspended_while_scaling",
    "resumed_beside_a_silent_node",
    "deleted_and_made_anew",
    "keys_deleted",
];

/// What has come of a scenario: the same, whatever happens to the operator.
#[derive(Debug, PartialEq)]
struct Came {
    end: End,
    /// How many pods of each name were created, and how often keys of a job. A pod's name is a member's attempt: one too many is
    /// a pod made twice, and another name an attempt that nothing called for.
    created: BTreeMap<String, usize>,
}

/// Tells a scenario, with the operator killed at a write; returns what came of it and the number of writes.
fn run(scenario: &Scenario, crash: Option<(u64, When)>) -> Result<(Came, u64), String> {
    simulate(1, async |world: World| {
        world.with(|cluster| cluster.gate.crash_at = crash);
        world.start_operator();
        (scenario.tell)(world.clone()).await?;
        world.pass(60).await?;
        nothing_left_over(&world)?;
        let came = Came {
            end: world.end_of("a"),
            created: created(&world),
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

/// How often a pod of each name was created for a job, and the Secret of each job, whose name ends with the job's uid.
fn created(world: &World) -> BTreeMap<String, usize> {
    let mut created: BTreeMap<String, usize> = BTreeMap::new();
    world.with(|cluster| {
        for change in &cluster.store.log {
            let owners = &change.object()["metadata"]["ownerReferences"];
            if change.old.is_some() || owners.is_null() {
                continue;
            }
            let name = change.key.name.as_str();
            let name = match change.key.kind {
                kind if kind == &PODS => name,
                kind if kind == &SECRETS => name.rsplit_once('-').map_or(name, |(job, _)| job),
                _ => continue,
            };
            *created.entry(name.to_owned()).or_default() += 1;
        }
    });
    created
}

impl Came {
    /// Whether the same came of a scenario that the operator died in.
    fn is_kept_by(&self, other: &Came, scenario: &Scenario) -> bool {
        if !VARYING.iter().any(|(name, _)| *name == scenario.name) {
            return self == other;
        }
        let (most, members) = (self.members(), other.members());
        let is_known = |(member, pods): (&&str, &usize)| most.get(member) >= Some(pods);
        let disruptions = self.end.disruptions.min(other.end.disruptions);
        let end = End {
            disruptions,
            ..self.end.clone()
        };
        other.end == end && members.iter().all(is_known)
    }

    /// How many pods each member had, in all of its attempts.
    fn members(&self) -> BTreeMap<&str, usize> {
        let mut members = BTreeMap::new();
        for (name, pods) in &self.created {
            let member = name
                .rsplit_once('-')
                .map_or(name.as_str(), |(member, _)| member);
            *members.entry(member).or_default() += pods;
        }
        members
    }
}

/// Every member has at most one pod that works, and none when the job has ended; one that failed may be to keep those that
/// run.
pub fn nothing_left_over(world: &World) -> Outcome {
    let left = world.with(|cluster| {
        let mut left = Vec::new();
        for job in ["a", "b"] {
            let object = cluster.job(job);
            let keeps = object.is_some_and(|job| {
                job["status"]["phase"] == "Failed" && job["spec"]["cleanPodPolicy"] == "None"
            });
            let ended = object.is_none_or(|job| !job["status"]["completionTime"].is_null());
            let mut seen = BTreeSet::new();
            for pod in cluster.working_pods(job) {
                if keeps && pod.state == PodState::Running {
                    continue;
                }
                if ended || !seen.insert((pod.role, pod.index)) {
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
    let again = expected.created.values().any(|pods| *pods > 1);
    if again != NAMED_AGAIN.contains(&scenario.name) {
        return Err(format!(
            "scenario {}: a pod is created twice, or no more: {:?}",
            scenario.name, expected.created
        ));
    }
    for write in 0..writes {
        for when in [When::Before, When::After] {
            let (came, _) = run(scenario, Some((write, when)))?;
            if !expected.is_kept_by(&came, scenario) {
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
