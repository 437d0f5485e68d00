//! What the processes of a run hold, second by second.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::common::{Roster, resident};

/// Before this nobody is compared: caches, pools and buffers fill.
const WARM: Duration = Duration::from_secs(15);

/// What a process holds.
#[derive(Copy, Clone, Debug)]
struct Held {
    at: Duration,
    descriptors: u64,
    threads: u64,
    /// Resident, in KiB.
    memory: u64,
}

/// How much more the later half of the samples may show at most than the earlier one: what comes and goes with a round's
/// strangers and with checkpoints. Of all that is left behind by each killed worker or each stranger, half a minute shows more.
const DESCRIPTORS: u64 = 12;
const THREADS: u64 = 12;
/// In KiB.
const MEMORY: u64 = 6 << 10;

/// The largest of some samples.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Most {
    descriptors: u64,
    threads: u64,
    memory: u64,
}

impl Most {
    fn of<'a>(held: impl IntoIterator<Item = &'a Held>) -> Most {
        held.into_iter().fold(Most::default(), |most, held| Most {
            descriptors: most.descriptors.max(held.descriptors),
            threads: most.threads.max(held.threads),
            memory: most.memory.max(held.memory),
        })
    }

    /// Whether it is as much as `earlier`, or nearly.
    fn is_flat_after(self, earlier: Most) -> bool {
        self.descriptors <= earlier.descriptors + DESCRIPTORS
            && self.threads <= earlier.threads + THREADS
            && self.memory <= earlier.memory + MEMORY
    }
}

/// All samples of a run.
pub struct Samples {
    supervisor: u32,
    /// Of processes that are to live for as long as the run: by name.
    lasting: BTreeMap<String, Vec<Held>>,
    /// Of workers: by process id.
    workers: BTreeMap<u32, Vec<Held>>,
    steps: Vec<(Duration, u64)>,
}

impl Samples {
    /// None yet, of the run with this process id.
    pub fn new(supervisor: u32) -> Self {
        Samples {
            supervisor,
            lasting: BTreeMap::new(),
            workers: BTreeMap::new(),
            steps: Vec::new(),
        }
    }

    /// Looks at all processes.
    pub fn take(&mut self, at: Duration, roster: &Roster, step: u64) {
        self.steps.push((at, step));
        let servers = roster.of("server").into_iter();
        let servers = servers.map(|(index, pid)| (format!("server {index}"), pid));
        for (name, pid) in servers.chain([("supervisor".to_owned(), self.supervisor)]) {
            if let Some(held) = held(at, pid) {
                self.lasting.entry(name).or_default().push(held);
            }
        }
        for (_, pid) in roster.of("worker") {
            if let Some(held) = held(at, pid) {
                self.workers.entry(pid).or_default().push(held);
            }
        }
    }

    /// When a process was first seen.
    pub fn first_seen(&self, pid: u32) -> Option<Duration> {
        self.workers.get(&pid).map(|held| held[0].at)
    }

    /// The middle of the time after the warm-up.
    fn middle(&self) -> Duration {
        let last = self.steps.last().map_or(Duration::ZERO, |(at, _)| *at);
        WARM + last.saturating_sub(WARM) / 2
    }

    /// The most that a process, or those in its place, has held in the two halves.
    fn halves<'a>(&self, held: impl IntoIterator<Item = &'a Held> + Clone) -> [Most; 2] {
        let middle = self.middle();
        let earlier = held
            .clone()
            .into_iter()
            .filter(|held| (WARM..middle).contains(&held.at));
        let later = held.into_iter().filter(|held| held.at >= middle);
        [Most::of(earlier), Most::of(later)]
    }

    /// Each kind of process with the most that it has held.
    fn rows(&self) -> Vec<(String, [Most; 2])> {
        let lasting = self.lasting.iter();
        let mut rows: Vec<_> = lasting
            .map(|(name, held)| (name.clone(), self.halves(held)))
            .collect();
        let workers: Vec<&Held> = self.workers.values().flatten().collect();
        rows.push(("workers".into(), self.halves(workers)));
        rows
    }

    /// Prints a table.
    pub fn print(&self) {
        println!("second, step | descriptors, threads, MiB of");
        let names: Vec<&str> = self.lasting.keys().map(String::as_str).collect();
        println!("             | {}", names.join(" | "));
        for (at, step) in self.steps.iter().step_by(5) {
            let cell = |held: &Vec<Held>| {
                let held = held.iter().find(|held| held.at == *at);
                held.map_or("-".into(), |held| {
                    format!(
                        "{:4} {:4} {:4}",
                        held.descriptors,
                        held.threads,
                        held.memory >> 10
                    )
                })
            };
            let cells: Vec<String> = self.lasting.values().map(cell).collect();
            println!("{:4} {step:7} | {}", at.as_secs(), cells.join(" | "));
        }
        println!(
            "the most that was held in the earlier and the later half, from second {}:",
            WARM.as_secs()
        );
        for (name, [earlier, later]) in self.rows() {
            println!(
                "{name:10} descriptors {} -> {}, threads {} -> {}, KiB {} -> {}",
                earlier.descriptors,
                later.descriptors,
                earlier.threads,
                later.threads,
                earlier.memory,
                later.memory
            );
        }
    }

    /// Holds that nothing grows.
    pub fn check(&self) {
        assert_eq!(
            self.lasting.len(),
            3,
            "the supervisor and two servers live on"
        );
        for (name, [earlier, later]) in self.rows() {
            assert_ne!(earlier, Most::default(), "{name} was not seen");
            assert!(
                later.is_flat_after(earlier),
                "{name} grows: {earlier:?}, then {later:?}"
            );
        }
    }
}

/// What a process holds; none if it has ended.
fn held(at: Duration, pid: u32) -> Option<Held> {
    let count = |what| Some(fs::read_dir(format!("/proc/{pid}/{what}")).ok()?.count() as u64);
    Some(Held {
        at,
        descriptors: count("fd")?,
        threads: count("task")?,
        memory: resident(pid)?,
    })
}

#[test]
fn what_grows_is_not_flat() {
    let most = Most {
        descriptors: 100,
        threads: 50,
        memory: 80 << 10,
    };
    assert!(most.is_flat_after(most));
    for grown in [
        Most {
            descriptors: 113,
            ..most
        },
        Most {
            threads: 63,
            ..most
        },
        Most {
            memory: 87 << 10,
            ..most
        },
    ] {
        assert!(!grown.is_flat_after(most), "{grown:?}");
        assert!(most.is_flat_after(grown));
    }
}
