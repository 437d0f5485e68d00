//! What the operator remembers of a job between reconciles. All of it may be forgotten at any time: it spares work, and hides
//! from a reconcile that the caches are a moment behind; nothing depends on it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use trainyard_crds::TrainingJob;

use trainyard_contract::doubled;

use crate::observe::{ChildObject, Member, PodSeen, ProgressSeen, Refusal};
use crate::plan::Step;
use crate::trouble::Trouble;

/// How long a pod that was created may be missing from the cache.
const CACHE_DELAY: SignedDuration = SignedDuration::from_secs(10);
/// Versions of a job that are remembered as overtaken by our own writes.
const MAX_OVERTAKEN: usize = 16;
/// Errors in a row from which on the status says so.
const PERSISTENT_ERRORS: u32 = 3;
/// The wait after the first error; it doubles with each in a row.
const BACKOFF_BASE: Duration = Duration::from_secs(1);
/// The longest wait after an error.
const BACKOFF_CAP: Duration = Duration::from_secs(60);

/// Notes about all jobs, by uid.
#[derive(Default)]
pub struct Memory {
    notes: Mutex<HashMap<String, Notes>>,
}

/// Notes about a job.
#[derive(Default)]
pub struct Notes {
    own_write: Option<OwnWrite>,
    /// Pods that were created, and when, and that the cache does not have yet.
    uncached: Vec<(PodSeen, Timestamp)>,
    /// Pods that the watch has lost before they had ended.
    removed: Vec<PodSeen>,
    /// Objects that could not be created because there is one of that name, which the cache does not have.
    conflicts: Conflicts,
    refusal: Option<CountedRefusal>,
    /// The generation that this process raised.
    raised_generation: Option<u64>,
    /// The pods that were there when it did.
    present_at_raise: BTreeSet<String>,
    /// The pods that it has tried to create since.
    creation_attempts: BTreeSet<String>,
    /// Errors in a row.
    consecutive_errors: u32,
    /// The coordinator's answers.
    pub poll: Poll,
}

/// The job as our last write left it.
struct OwnWrite {
    object: Arc<TrainingJob>,
    /// Versions that it has overtaken.
    overtaken: Vec<String>,
}

/// Objects whose names were taken when they were to be created.
#[derive(Clone, Debug, Default)]
pub struct Conflicts {
    /// Pods, by member and attempt.
    pub pods: BTreeSet<(Member, u32)>,
    /// Child objects.
    pub children: BTreeSet<ChildObject>,
}

struct CountedRefusal {
    refusal: Refusal,
    /// Refusals in a row.
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
        match &self.own_write {
            Some(written) if written.overtaken.iter().any(|old| old == version) => {
                Arc::clone(&written.object)
            }
            _ => {
                self.own_write = None;
                Arc::clone(cached)
            }
        }
    }

    /// Remembers a write: `old` is the version it replaced.
    pub fn record_write(&mut self, old: Option<String>, object: Arc<TrainingJob>) {
        let mut overtaken = self
            .own_write
            .take()
            .map(|w| w.overtaken)
            .unwrap_or_default();
        overtaken.extend(old);
        let excess = overtaken.len().saturating_sub(MAX_OVERTAKEN);
        overtaken.drain(..excess);
        self.own_write = Some(OwnWrite { object, overtaken });
    }

    /// Remembers that our own write raised the generation: of the servers that take part in it, only those `present` existed
    /// then.
    pub fn record_generation(
        &mut self,
        generation: u64,
        present: impl IntoIterator<Item = String>,
    ) {
        self.raised_generation = Some(generation);
        self.present_at_raise = present.into_iter().collect();
        self.creation_attempts.clear();
    }

    /// Remembers that pods are about to be created: from now on they may exist, whatever the answer.
    /// Returns those that were not tried before.
    pub fn record_creation_attempts(&mut self, names: Vec<String>) -> Vec<String> {
        let known = &mut self.creation_attempts;
        names
            .into_iter()
            .filter(|name| known.insert(name.clone()))
            .collect()
    }

    /// Remembers that a pod was not created after all.
    pub fn withdraw_creation_attempt(&mut self, name: &str) {
        self.creation_attempts.remove(name);
    }

    /// Whether a pod that is missing has certainly not been there in a generation.
    pub fn cannot_have_existed(&self, generation: u64, name: &str) -> bool {
        self.raised_generation == Some(generation)
            && !self.present_at_raise.contains(name)
            && !self.creation_attempts.contains(name)
    }

    /// Remembers a pod that was created just now.
    pub fn record_created(&mut self, pod: PodSeen, now: Timestamp) {
        self.refusal = None;
        self.uncached.push((pod, now));
    }

    /// The watch has brought this pod, or its end: the cache knows better from now on.
    pub fn record_watched(&mut self, name: &str) {
        self.uncached.retain(|(pod, _)| pod.name != name);
    }

    /// A pod was removed that had not ended: by force, or before it had a node. Whoever asked it to go may have done so in the
    /// same moment, too short for a reconcile to see it.
    pub fn record_removed(&mut self, pod: PodSeen) {
        self.removed.push(pod);
    }

    /// The pods that were removed; forgets those that do not matter any more.
    pub fn removed_pods(&mut self, matters: impl FnMut(&PodSeen) -> bool) -> Vec<PodSeen> {
        self.removed.retain(matters);
        self.removed.clone()
    }

    /// Remembers that a step found the name taken of what it was to create.
    pub fn record_conflict(&mut self, step: &Step) {
        match step {
            Step::CreatePod {
                member, attempt, ..
            } => drop(self.conflicts.pods.insert((*member, *attempt))),
            Step::Create(child) => drop(self.conflicts.children.insert(*child)),
            _ => {}
        }
    }

    /// Objects whose names were taken.
    pub fn conflicts(&mut self) -> &mut Conflicts {
        &mut self.conflicts
    }

    /// Pods that the cache does not have yet.
    pub fn uncached_pods(&mut self, now: Timestamp) -> impl Iterator<Item = &PodSeen> {
        self.uncached
            .retain(|(_, since)| now.duration_since(*since).abs() < CACHE_DELAY);
        self.uncached.iter().map(|(pod, _)| pod)
    }

    /// How long to wait at most for the watch to bring the pods that were created: then they count as gone.
    pub fn cache_timeout(&self) -> Option<Duration> {
        (!self.uncached.is_empty()).then_some(CACHE_DELAY.unsigned_abs())
    }

    /// Nothing was refused any more; says whether something had been.
    pub fn clear_refusal(&mut self) -> bool {
        self.refusal.take().is_some()
    }

    /// Remembers that something could not be created; returns how long to wait before trying again.
    pub fn record_refusal(&mut self, trouble: Trouble, now: Timestamp) -> Duration {
        let times = self.refusal.as_ref().map_or(0, |known| known.times) + 1;
        let wait = backoff(times + 1);
        let until = now + SignedDuration::try_from(wait).unwrap_or(SignedDuration::ZERO);
        let refusal = Refusal { trouble, until };
        self.refusal = Some(CountedRefusal { refusal, times });
        wait
    }

    /// What was refused, and until when nothing is to be tried.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref().map(|known| &known.refusal)
    }

    /// Counts an error; returns how long to wait. One that lasts is said in the status, and tried again all the same.
    pub fn record_error(&mut self, error: &kube::Error, now: Timestamp) -> Duration {
        self.consecutive_errors = self.consecutive_errors.saturating_add(1);
        if self.consecutive_errors >= PERSISTENT_ERRORS && self.refusal.is_none() {
            let trouble = Trouble::new("ApiServerError", error.to_string());
            let refusal = Refusal {
                trouble,
                until: now,
            };
            self.refusal = Some(CountedRefusal { refusal, times: 0 });
        }
        backoff(self.consecutive_errors)
    }

    /// A reconcile went through.
    pub fn reset_errors(&mut self) {
        self.consecutive_errors = 0;
    }
}

/// The wait before a try, after so many that failed.
fn backoff(failed: u32) -> Duration {
    doubled(BACKOFF_BASE, failed.saturating_sub(1), BACKOFF_CAP)
}
