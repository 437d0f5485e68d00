//! The operator's own metrics. No label names an object: there may be any number of them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kube::runtime::reflector::{ObjectRef, Store};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use trainyard_crds::training_job::Phase;

use crate::job::Guarded;

/// Upper bounds of the buckets for waits and reconciles, in seconds.
const BUCKETS: [f64; 9] = [0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: PhaseName,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum PhaseName {
    Known(Phase),
    None,
    Undecodable,
}

impl EncodeLabelValue for PhaseName {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder,
    ) -> Result<(), std::fmt::Error> {
        match self {
            PhaseName::Known(phase) => format!("{phase:?}").encode(encoder),
            PhaseName::None => "None".encode(encoder),
            PhaseName::Undecodable => "Undecodable".encode(encoder),
        }
    }
}

/// All metrics.
pub struct Metrics {
    registry: Registry,
    reconciles: Counter,
    errors: Counter,
    duration: Histogram,
    active: Gauge,
    waiting: Gauge,
    wait: Histogram,
    queue: Mutex<HashMap<ObjectRef<Guarded>, Instant>>,
    leading: Gauge,
    jobs: Family<PhaseLabel, Gauge>,
    store: Mutex<Option<Store<Guarded>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("trainyard_operator");
        let reconciles = Counter::default();
        let errors = Counter::default();
        let duration = Histogram::new(BUCKETS);
        let active = Gauge::default();
        let waiting = Gauge::default();
        let wait = Histogram::new(BUCKETS);
        let leading = Gauge::default();
        let jobs = Family::<PhaseLabel, Gauge>::default();
        registry.register("reconciles", "Reconciles of jobs", reconciles.clone());
        registry.register(
            "reconcile_errors",
            "Reconciles that were broken off",
            errors.clone(),
        );
        registry.register(
            "reconcile_duration_seconds",
            "Duration of reconciles",
            duration.clone(),
        );
        registry.register(
            "reconciles_active",
            "Reconciles in progress",
            active.clone(),
        );
        registry.register(
            "queue_length",
            "Jobs that something has happened to and that wait for a reconcile",
            waiting.clone(),
        );
        registry.register("queue_wait_seconds", "How long they waited", wait.clone());
        registry.register("leader", "1 if this process leads", leading.clone());
        registry.register("jobs", "Jobs by phase", jobs.clone());
        Metrics {
            registry,
            reconciles,
            errors,
            duration,
            active,
            waiting,
            wait,
            queue: Mutex::default(),
            leading,
            jobs,
            store: Mutex::default(),
        }
    }
}

/// A reconcile that is being measured.
pub struct ReconcileTimer<'a> {
    metrics: &'a Metrics,
    begin: Instant,
}

impl Drop for ReconcileTimer<'_> {
    fn drop(&mut self) {
        self.metrics.active.dec();
    }
}

impl ReconcileTimer<'_> {
    /// The reconcile is over.
    pub fn end(self, well: bool) {
        self.metrics
            .duration
            .observe(self.begin.elapsed().as_secs_f64());
        if !well {
            self.metrics.errors.inc();
        }
    }
}

impl Metrics {
    /// Something has happened to a job, which waits for a reconcile from now on.
    pub fn queued(&self, job: &ObjectRef<Guarded>) {
        if self.store().is_some_and(|store| store.get(job).is_some()) {
            let mut queue = self.queue();
            queue.entry(job.clone()).or_insert_with(Instant::now);
        }
    }

    /// A job is no more.
    pub fn gone(&self, job: &ObjectRef<Guarded>) {
        self.queue().remove(job);
    }

    /// Only these jobs are there.
    pub fn retain(&self, mut is_there: impl FnMut(&ObjectRef<Guarded>) -> bool) {
        self.queue().retain(|job, _| is_there(job));
    }

    /// A reconcile begins.
    pub fn start_reconcile(&self, job: &ObjectRef<Guarded>) -> ReconcileTimer<'_> {
        if let Some(since) = self.queue().remove(job) {
            self.wait.observe(since.elapsed().as_secs_f64());
        }
        self.reconciles.inc();
        self.active.inc();
        ReconcileTimer {
            metrics: self,
            begin: Instant::now(),
        }
    }

    /// Counts the jobs in this store from now on.
    pub fn watch(&self, store: Store<Guarded>) {
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) = Some(store);
    }

    /// Whether this process leads.
    pub fn set_leading(&self, leading: bool) {
        self.leading.set(leading.into());
        if !leading {
            // What this process saw of the jobs is old from now on.
            *self.store.lock().unwrap_or_else(PoisonError::into_inner) = None;
            self.queue().clear();
        }
    }

    /// The text format of Prometheus.
    pub fn render(&self) -> String {
        self.count_jobs();
        let waiting = self.queue().len();
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    fn store(&self) -> Option<Store<Guarded>> {
        let store = self.store.lock();
        store.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn queue(&self) -> MutexGuard<'_, HashMap<ObjectRef<Guarded>, Instant>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_jobs(&self) {
        self.jobs.clear();
        for job in self.store().iter().flat_map(Store::state) {
            let phase = match &job.0 {
                Ok(job) => job
                    .status
                    .as_ref()
                    .and_then(|s| s.phase)
                    .map_or(PhaseName::None, PhaseName::Known),
                Err(_) => PhaseName::Undecodable,
            };
            self.jobs.get_or_create(&PhaseLabel { phase }).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::error_boundary::InvalidObject;
    use kube::core::{DeserializeGuard, ObjectMeta};
    use kube::runtime::{reflector, watcher};

    use super::*;

    #[test]
    fn o29_a_job_waits_in_the_queue_from_what_happened_to_it_until_its_pass() {
        let (store, mut writer) = reflector::store();
        let metadata = ObjectMeta {
            name: Some("a".into()),
            namespace: Some("default".into()),
            ..ObjectMeta::default()
        };
        let error = "anything".into();
        let job: Guarded = DeserializeGuard(Err(InvalidObject { metadata, error }));
        let reference = ObjectRef::from_obj(&job);
        let metrics = Metrics::default();
        metrics.watch(store);
        let says = |line: &str| metrics.render().lines().any(|said| said == line);
        metrics.queued(&reference);
        assert!(
            says("trainyard_operator_queue_length 0"),
            "a job that is not there is never reconciled"
        );
        writer.apply_watcher_event(&watcher::Event::Apply(job));
        metrics.queued(&reference);
        metrics.queued(&reference);
        assert!(says("trainyard_operator_queue_length 1"));
        metrics.start_reconcile(&reference).end(true);
        assert!(says("trainyard_operator_queue_length 0"));
        assert!(says("trainyard_operator_queue_wait_seconds_count 1"));
        metrics.queued(&reference);
        metrics.gone(&reference);
        assert!(says("trainyard_operator_queue_length 0"));
    }
}
