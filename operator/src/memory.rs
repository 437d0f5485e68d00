//! What the operator remembers of a job between passes. All of it may be forgotten at any time: it spares work, and hides
//! from a pass that the caches are a moment behind; nothing depends on it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use trainyard_crds::TrainingJob;

use crate::observed::{PodSeen, ProgressSeen, Trouble};

/// How long a pod that was created may be missing from the cache.
const UNSEEN: SignedDuration = SignedDuration::from_secs(10);
/// Versions of a job that are remembered as overtaken by our own writes.
const OVERTAKEN: usize = 16;
/// Errors in a row from which on the status says so.
const LASTING: u32 = 3;
/// Waits after refusals and errors.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Notes about all jobs, by uid.
#[derive(Default)]
pub struct Memory {
    notes: Mutex<HashMap<String, Notes>>,
}

/// Notes about a job.
#[derive(Default)]
pub struct Notes {
    written: Option<Written>,
    created: Vec<(PodSeen, Timestamp)>,
    vanished: Vec<PodSeen>,
    refusal: Option<Refusal>,
    /// The generation that this process raised, the pods that were there then, and those that it has tried to create since.
    raised: Option<u64>,
    present: BTreeSet<String>,
    tried: BTreeSet<String>,
    /// Errors in a row.
    errors: u32,
    /// The coordinator's answers.
    pub poll: Poll,
}

/// The job as our last write left it.
struct Written {
    object: Arc<TrainingJob>,
    overtaken: Vec<String>,
}

struct Refusal {
    trouble: Trouble,
    until: Timestamp,
    times: u32,
}

/// What came of asking a coordinator.
#[derive(Clone, Debug, Default)]
pub struct Poll {
    /// When it was last asked.
    pub asked: Option<Timestamp>,
    /// Its last answer, and the samples that it counted.
    pub answer: Option<(ProgressSeen, u64)>,
    /// Since when it has not answered.
    pub silent_since: Option<Timestamp>,
}

impl Memory {
    /// Reads or changes the notes about a job.
    pub fn with<T>(&self, uid: &str, f: impl FnOnce(&mut Notes) -> T) -> T {
        let mut notes = self.lock();
        match notes.get_mut(uid) {
            Some(notes) => f(notes),
            None => f(notes.entry(uid.to_owned()).or_default()),
        }
    }

    /// Changes the notes about a job if there are any: what comes after a job's end must not begin new ones.
    pub fn update(&self, uid: &str, f: impl FnOnce(&mut Notes)) {
        if let Some(notes) = self.lock().get_mut(uid) {
            f(notes);
        }
    }

    /// Forgets a job.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// Forgets all other jobs.
    pub fn retain(&self, mut is_there: impl FnMut(&str) -> bool) {
        self.lock().retain(|uid, _| is_there(uid));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Notes>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    /// The newest version known: the cache's, unless it is one that our own writes have overtaken.
    pub fn newest(&mut self, cached: &Arc<TrainingJob>) -> Arc<TrainingJob> {
        let version = cached
            .metadata
            .resource_version
            .as_deref()
            .unwrap_or_default();
        match &self.written {
            Some(written) if written.overtaken.iter().any(|old| old == version) => {
                Arc::clone(&written.object)
            }
            _ => {
                self.written = None;
                Arc::clone(cached)
            }
        }
    }

    /// Remembers a write: `old` is the version it replaced.
    pub fn wrote(&mut self, old: Option<String>, object: Arc<TrainingJob>) {
        let mut overtaken = self.written.take().map(|w| w.overtaken).unwrap_or_default();
        overtaken.extend(old);
        let excess = overtaken.len().saturating_sub(OVERTAKEN);
        overtaken.drain(..excess);
        self.written = Some(Written { object, overtaken });
    }

    /// Remembers that our own write raised the generation: of the servers that take part in it, only those `present` existed
    /// then.
    pub fn raised(&mut self, generation: u64, present: impl IntoIterator<Item = String>) {
        self.raised = Some(generation);
        self.present = present.into_iter().collect();
        self.tried.clear();
    }

    /// Remembers that pods are about to be created: from now on they may exist, whatever the answer.
    pub fn tries(&mut self, names: Vec<String>) {
        self.tried.extend(names);
    }

    /// Remembers that pods were not tried after all.
    pub fn spared(&mut self, names: Vec<String>) {
        for name in names {
            self.tried.remove(&name);
        }
    }

    /// Whether a pod that is missing has certainly not been there in a generation.
    pub fn is_new(&self, generation: u64, name: &str) -> bool {
        self.raised == Some(generation)
            && !self.present.contains(name)
            && !self.tried.contains(name)
    }

    /// Remembers a pod that was created just now.
    pub fn created(&mut self, pod: PodSeen, now: Timestamp) {
        self.refusal = None;
        self.created.push((pod, now));
    }

    /// The watch has brought this pod, or its end: the cache knows better from now on.
    pub fn seen(&mut self, name: &str) {
        self.created.retain(|(pod, _)| pod.name != name);
    }

    /// A pod was removed that had not ended: by force, or before it had a node. Whoever asked it to go may have done so in the
    /// same moment, too short for a pass to see it.
    pub fn vanishes(&mut self, pod: PodSeen) {
        self.vanished.push(pod);
    }

    /// Forgets vanished pods that say nothing any more.
    pub fn keep_vanished(&mut self, says_something: impl FnMut(&PodSeen) -> bool) {
        self.vanished.retain(says_something);
    }

    /// Pods that have vanished.
    pub fn vanished(&self) -> impl Iterator<Item = &PodSeen> {
        self.vanished.iter()
    }

    /// Pods that the cache does not have yet.
    pub fn unseen(&mut self, now: Timestamp) -> impl Iterator<Item = &PodSeen> {
        self.created
            .retain(|(_, since)| now.duration_since(*since).abs() < UNSEEN);
        self.created.iter().map(|(pod, _)| pod)
    }

    /// How long to wait at most for the watch to bring the pods that were created: then they count as gone.
    pub fn patience(&self) -> Option<Duration> {
        (!self.created.is_empty()).then_some(UNSEEN.unsigned_abs())
    }

    /// Nothing was refused any more; says whether something had been.
    pub fn allowed(&mut self) -> bool {
        self.refusal.take().is_some()
    }

    /// Remembers that something could not be created; returns how long to wait before trying again.
    pub fn refused(&mut self, trouble: Trouble, now: Timestamp) -> Duration {
        // The answers have come: what was not created does not exist.
        let created = &self.created;
        self.tried
            .retain(|name| created.iter().any(|(pod, _)| pod.name == *name));
        let times = self.refusal.as_ref().map_or(0, |refusal| refusal.times) + 1;
        let wait = backoff(times + 1);
        let until = now + SignedDuration::try_from(wait).unwrap_or(SignedDuration::ZERO);
        self.refusal = Some(Refusal {
            trouble,
            until,
            times,
        });
        wait
    }

    /// What was refused, and until when nothing is to be tried.
    pub fn refusal(&self) -> Option<(&Trouble, Timestamp)> {
        self.refusal
            .as_ref()
            .map(|refusal| (&refusal.trouble, refusal.until))
    }

    /// Counts an error; returns how long to wait. One that lasts is said in the status, and tried again all the same.
    pub fn erred(&mut self, error: &kube::Error, now: Timestamp) -> Duration {
        self.errors = self.errors.saturating_add(1);
        if self.errors >= LASTING && self.refusal.is_none() {
            self.refusal = Some(Refusal {
                trouble: Trouble::new("ApiServerError", error.to_string()),
                until: now,
                times: 0,
            });
        }
        backoff(self.errors)
    }

    /// A pass went through.
    pub fn went_well(&mut self) {
        self.errors = 0;
    }
}

fn backoff(times: u32) -> Duration {
    let doubled = 2u32.saturating_pow(times.saturating_sub(1).min(16));
    BACKOFF.0.saturating_mul(doubled).min(BACKOFF.1)
}
