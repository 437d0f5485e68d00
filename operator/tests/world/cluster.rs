//! The cluster: objects, time, what is due when, and what follows from a change of an object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::time::Instant;
use trainyard_operator::context::Clock;

use crate::faults::Gate;
use crate::invariants::Watchdog;
use crate::kubelet::{PodSim, Task};
use crate::store::{Change, JOBS, Key, Kind, PODS, Refusal, Store};
use crate::trainer::{Exports, Training};

/// Time: tokio's, which stands still while anybody has something to do. The operator's clock may be off by some seconds.
pub struct SimClock {
    start: Instant,
    pub skew: AtomicI64,
}

impl SimClock {
    pub fn start() -> Self {
        SimClock {
            start: Instant::now(),
            skew: AtomicI64::new(0),
        }
    }

    pub fn elapsed(&self) -> Duration {
        Instant::now() - self.start
    }

    pub fn instant(&self, at: Duration) -> Instant {
        self.start + at
    }

    fn timestamp(&self) -> Timestamp {
        const YEAR_2026: i64 = 1_767_225_600;
        let start = Timestamp::from_second(YEAR_2026).unwrap_or_default();
        start + SignedDuration::try_from(self.elapsed()).unwrap_or_default()
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.timestamp() + SignedDuration::from_secs(self.skew.load(Ordering::Relaxed))
    }
}

/// All of the world but the operators.
pub struct Cluster {
    pub store: Store,
    pub clock: Arc<SimClock>,
    pub rng: Rng,
    pub gate: Gate,
    pub watchdog: Watchdog,
    pub pods: BTreeMap<String, PodSim>,
    pub trainings: BTreeMap<String, Training>,
    pub exports: Exports,
    /// Whether each node answers.
    pub nodes: Vec<bool>,
    /// Most pods that may exist.
    pub quota: Option<usize>,
    /// What creating an object of a kind is answered with, if it is refused.
    pub refused: BTreeMap<&'static Kind, Refusal>,
    /// Nothing can be scheduled.
    pub full: bool,
    /// Images cannot be pulled.
    pub registry_down: bool,
    /// A Secret that pods need is missing.
    pub secret_missing: bool,
    /// Steps that a job trains; the rate is ten a second.
    pub total_steps: u64,
    /// What the coordinators warn of.
    pub warnings: Vec<String>,
    /// Pods whose processes do nothing any more, by uid; not even when they are asked to end.
    pub hung: BTreeSet<String>,
    pub log: Vec<String>,
    pub violations: Vec<String>,
    agenda: BTreeMap<(Duration, u64), Task>,
    tasks: u64,
    reacted: usize,
}

impl Cluster {
    pub fn new(seed: u64) -> Self {
        Cluster {
            store: Store::default(),
            clock: Arc::new(SimClock::start()),
            rng: Rng::with_seed(seed),
            gate: Gate::default(),
            watchdog: Watchdog::default(),
            pods: BTreeMap::new(),
            trainings: BTreeMap::new(),
            exports: Exports::default(),
            nodes: vec![true; 3],
            quota: None,
            refused: BTreeMap::new(),
            full: false,
            registry_down: false,
            secret_missing: false,
            total_steps: 400,
            warnings: Vec::new(),
            hung: BTreeSet::new(),
            log: Vec::new(),
            violations: Vec::new(),
            agenda: BTreeMap::new(),
            tasks: 0,
            reacted: 0,
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    pub fn now(&self) -> Timestamp {
        self.clock.timestamp()
    }

    pub fn note(&mut self, line: String) {
        let at = self.elapsed().as_secs_f64();
        self.log.push(format!("{at:9.3} {line}"));
    }

    pub fn violation(&mut self, what: String) {
        self.note(format!("VIOLATION {what}"));
        self.violations.push(what);
    }

    /// Puts something on the agenda.
    pub fn after(&mut self, wait: Duration, task: Task) {
        self.tasks += 1;
        self.agenda
            .insert((self.elapsed() + wait, self.tasks), task);
    }

    /// A time between two, in milliseconds.
    pub fn between(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.rng.u64(least..=most))
    }

    /// Does what is due; tells when the next is.
    pub fn advance(&mut self) -> Option<Instant> {
        while let Some((due, task)) = self.agenda.pop_first() {
            if due.0 > self.elapsed() {
                self.agenda.insert(due, task);
                return Some(self.clock.instant(due.0));
            }
            self.perform_task(task);
            self.react();
        }
        None
    }

    /// Lets the invariants and the kubelets see what has changed.
    pub fn react(&mut self) {
        while let Some(change) = self.store.log.get(self.reacted).cloned() {
            self.reacted += 1;
            self.describe(&change);
            self.check(&change);
            if change.old.is_none() {
                self.look_for_orphan(change.object());
            }
            if change.key.kind == &PODS {
                self.pod_changed(&change);
            } else if change.key.kind == &JOBS && change.new.is_none() {
                let wait = self.between(100, 2000);
                self.after(wait, Task::CollectGarbage);
            }
        }
    }

    /// What is created for an owner that is gone already is collected as well.
    fn look_for_orphan(&mut self, object: &Value) {
        let owner = &object["metadata"]["ownerReferences"][0]["uid"];
        let exists = self
            .store
            .of_kind(&JOBS)
            .any(|job| job["metadata"]["uid"] == *owner);
        if !owner.is_null() && !exists {
            self.after(Duration::from_secs(1), Task::CollectGarbage);
        }
    }

    fn describe(&mut self, change: &Change) {
        let object = change.object();
        let verb = match (&change.old, &change.new) {
            (None, _) => "created",
            (_, None) => "removed",
            _ => "changed",
        };
        let detail = match change.key.kind {
            kind if kind == &JOBS => {
                let status = &object["status"];
                let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
                let said = conditions
                    .iter()
                    .map(|c| format!("{}={} {}", c["type"], c["status"], c["reason"]));
                format!(
                    "phase {} generation {}/{} restarts {} progress {} {:?}",
                    status["phase"],
                    status["generation"],
                    status["startedGeneration"],
                    status["restarts"],
                    status["progress"]["step"],
                    said.collect::<Vec<_>>()
                )
            }
            kind if kind == &PODS => format!(
                "{} {}",
                object["status"]["phase"], object["metadata"]["deletionTimestamp"]
            ),
            _ => String::new(),
        };
        self.note(format!(
            "{verb} {} {} {detail}",
            change.key.kind.plural, change.key.name
        ));
    }

    /// How much has been put on the agenda so far.
    pub fn planned(&self) -> u64 {
        self.tasks
    }

    pub fn job(&self, name: &str) -> Option<&Value> {
        self.store
            .get(&Key::new(&JOBS, "default", name))
            .map(|job| &**job)
    }
}
