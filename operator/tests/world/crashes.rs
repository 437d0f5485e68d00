//! The operator dies before and after each of its writes, in every scenario.

use crate::faults::When;
use crate::scenarios::{ALL, Scenario};
use crate::world::{End, Outcome, World, simulate};

/// Tells a scenario, with the operator killed at a write; returns the end and the number of writes.
fn run(scenario: &Scenario, crash: Option<(u64, When)>) -> Result<(End, u64), String> {
    simulate(1, async |world: World| {
        world.with(|cluster| cluster.gate.crash_at = crash);
        world.start_operator();
        (scenario.tell)(world.clone()).await?;
        world.pass(60).await?;
        nothing_left_over(&world)?;
        let writes = world.with(|cluster| cluster.gate.writes);
        Ok((world.end_of("a"), writes))
    })
    .map_err(|what| {
        format!(
            "{what}scenario {} with the operator killed at {crash:?}",
            scenario.name
        )
    })
}

/// Every member has at most one pod that works, and none when the job has ended.
pub fn nothing_left_over(world: &World) -> Outcome {
    let left = world.with(|cluster| {
        let mut left = Vec::new();
        for job in ["a", "b"] {
            let ended = cluster
                .job(job)
                .is_none_or(|job| !job["status"]["completionTime"].is_null());
            let mut seen = std::collections::BTreeSet::new();
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
            let (end, _) = run(scenario, Some((write, when)))?;
            if end != expected {
                // Once more, for the log.
                let log = simulate_for_log(scenario, (write, when));
                return Err(format!(
                    "{log}\nscenario {}, operator killed {when:?} write {write}: {end:?} instead of {expected:?}",
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
