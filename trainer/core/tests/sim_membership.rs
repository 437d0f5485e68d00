//! Whole jobs under random faults: whatever joins, leaves, crashes, sleeps or is cut off, the job
//! ends, and with the bits of a plain loop.
//!
//! A failing run names its seed: `SIM_SEED=n` runs it alone, `SIM_SEEDS=n` runs the first `n`.

mod sim;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use sim::{LIES, Lie, Rng, Tally, Toy, World};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(seed: u64) -> Tally {
    match catch_unwind(AssertUnwindSafe(|| World::new(seed).run())) {
        Ok(tally) => tally,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            panic!("SIM_SEED={seed} fails: {}", text.unwrap_or_default());
        }
    }
}

#[test]
fn t22_any_membership_ends_with_the_bits_of_a_plain_loop() {
    if let Some(seed) = number("SIM_SEED") {
        println!("{:#?}", run(seed));
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(400);
    let next = AtomicU64::new(0);
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut tallies = Vec::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds {
                            return tallies;
                        }
                        tallies.push(run(seed));
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|p| std::panic::resume_unwind(p))
            })
            .collect::<Vec<_>>()
    });
    let sum = |of: fn(&Tally) -> u64| all.iter().map(of).sum::<u64>();
    println!(
        "{seeds} seeds: {} events, {} generations, {} stops ({} unsaved), {} drains, {} fenced, \
         {} missed snapshots, {} restores, {} stopped early, {} amended, {} late pushes, {} sessions lost, {} pushes refused that were no lies, \
         {} stuck processes replaced, {} ends for a falsehood",
        sum(|t| t.events),
        sum(|t| t.generations),
        sum(|t| t.stops),
        sum(|t| t.unsaved),
        sum(|t| t.drains),
        sum(|t| t.fenced),
        sum(|t| t.missed),
        sum(|t| t.restores),
        sum(|t| t.early),
        sum(|t| t.amended),
        sum(|t| t.late),
        sum(|t| t.lost),
        sum(|t| t.refused),
        sum(|t| t.stuck),
        sum(|t| t.misled),
    );
    let mut faults = BTreeMap::new();
    for (fault, (occurred, took_effect)) in all.iter().flat_map(|t| &t.faults) {
        let count: &mut (u64, u64) = faults.entry(fault).or_default();
        *count = (count.0 + occurred, count.1 + took_effect);
    }
    for (fault, (occurred, took_effect)) in &faults {
        println!("  {fault:?}: {occurred}, of which {took_effect} took effect");
        assert!(
            seeds < 100 || *took_effect > 0,
            "{fault:?} never took effect"
        );
    }
    let mut lies = BTreeMap::new();
    for (lie, (said, refused)) in all.iter().flat_map(|t| &t.lies) {
        let count: &mut (u64, u64) = lies.entry(lie).or_default();
        *count = (count.0 + said, count.1 + refused);
    }
    for (lie, (said, refused)) in &lies {
        // What comes late or twice is dropped, and what is on its way when its connection breaks is lost.
        println!("  {lie:?}: said {said} times, refused {refused} times");
        assert!(
            seeds < 100 || *said > 0 && (*refused > 0) != (**lie == Lie::Twice),
            "{lie:?} was never said, or never refused"
        );
    }
    assert!(seeds < 100 || lies.len() == LIES.len(), "{lies:?}");
}

#[test]
fn t05_every_row_is_in_one_leaf_of_one_step_of_an_epoch() {
    for seed in 0..100 {
        let toy = Toy::random(&mut Rng::new(seed));
        let steps = toy.plan.steps_per_epoch();
        for epoch in 0..toy.plan.epochs {
            let steps = epoch * steps..(epoch + 1) * steps;
            let leaves =
                steps.flat_map(|step| (0..toy.tree.leaves()).map(move |leaf| (step, leaf)));
            let mut rows: Vec<u32> = leaves
                .flat_map(|(step, leaf)| toy.rows(step, leaf).to_vec())
                .collect();
            rows.sort_unstable();
            assert!(
                rows.into_iter().eq(0..toy.plan.rows as u32),
                "seed {seed}, epoch {epoch}"
            );
        }
    }
}
