//! What a worker shows at `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use trainyard_runtime::http::{self, Metrics};

use super::link::Traffic;

/// Counted by the worker's threads, read by HTTP's.
#[derive(Debug, Default)]
pub struct Activity {
    /// Training and validation rows in memory; 0 while they are being loaded.
    pub rows: AtomicU64,
    /// Generation of the coordinator that this worker follows; 0 while there is none.
    pub generation: AtomicU64,
    /// Times that a coordinator welcomed this worker.
    pub sessions: AtomicU64,
    /// Steps that this worker computed leaves of.
    pub steps: AtomicU64,
    /// Leaves computed.
    pub leaves: AtomicU64,
    /// On the connections to the servers.
    pub traffic: Arc<Traffic>,
}

impl Activity {
    fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::default();
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed) as f64;
        metrics.gauge(
            "rows",
            "Rows in memory; 0 while they are loaded.",
            read(&self.rows),
        );
        metrics.gauge(
            "generation",
            "Generation in force; 0 while there is no coordinator.",
            read(&self.generation),
        );
        metrics.counter(
            "sessions_total",
            "Times that a coordinator welcomed this worker.",
            read(&self.sessions),
        );
        metrics.counter(
            "steps_computed_total",
            "Steps that this worker computed leaves of.",
            read(&self.steps),
        );
        metrics.counter(
            "leaves_computed_total",
            "Leaves computed.",
            read(&self.leaves),
        );
        metrics.counter(
            "bulk_connections_total",
            "Connections made for gradients and for parameters.",
            read(&self.traffic.connections),
        );
        metrics.counter(
            "parameter_bytes_received_total",
            "Bytes of parameters received.",
            read(&self.traffic.received),
        );
        metrics
    }

    /// The pages of a worker.
    pub fn pages(self: &Arc<Self>) -> Router {
        let this = Arc::clone(self);
        http::pages(|| true, move || this.metrics())
    }
}
