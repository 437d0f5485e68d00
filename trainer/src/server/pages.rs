//! A server's pages: progress at `/status`, and what it counts at `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::routing::get;
use axum::{Json, Router};
use trainyard_contract::pod;
use trainyard_core::control::Progress;
use trainyard_runtime::http::{self, Metrics};

use super::coordination::Board;
use super::hub::Hub;
use super::shard::Counters;

/// The pages of a server.
pub fn pages(board: Arc<Board>, hub: Arc<Hub>) -> Router {
    let shown = Arc::clone(&board);
    let metrics = move || {
        let shard = hub.shard();
        render(&board.read(), shard.as_ref().map(|shard| &shard.counters))
    };
    let lively = Arc::clone(&shown);
    http::pages(move || lively.is_lively(), metrics).route(
        pod::STATUS_PAGE,
        get(move || async move { Json(shown.read()) }),
    )
}

fn render(progress: &Progress, counters: Option<&Counters>) -> Metrics {
    let mut metrics = Metrics::default();
    let gauges = [
        ("step", "Steps applied.", progress.step as f64),
        (
            "steps_planned",
            "Steps of the whole job.",
            progress.total_steps as f64,
        ),
        ("epoch", "Epoch in progress, from 0.", progress.epoch as f64),
        (
            "workers",
            "Workers that share the leaves.",
            progress.workers.into(),
        ),
        (
            "servers_ready",
            "Servers that are ready.",
            progress.servers.into(),
        ),
        (
            "generation",
            "Generation in force.",
            progress.generation.into(),
        ),
    ];
    for (name, help, value) in gauges {
        metrics.gauge(name, help, value);
    }
    metrics.counter(
        "samples_total",
        "Training samples used.",
        progress.samples as f64,
    );
    if let Some(loss) = progress.loss {
        metrics.gauge("loss", "Mean training loss of the epoch so far.", loss);
    }
    if let Some(step) = progress.checkpoint {
        metrics.gauge(
            "checkpoint_step",
            "Step of the newest checkpoint.",
            step as f64,
        );
    }
    for (name, help, counter) in counters.map(named).into_iter().flatten() {
        metrics.counter(name, help, counter.load(Ordering::Relaxed) as f64);
    }
    metrics
}

fn named(counters: &Counters) -> [(&'static str, &'static str, &AtomicU64); 6] {
    [
        ("pushes_total", "Pushes taken.", &counters.pushes),
        (
            "pushes_late_total",
            "Pushes for a step that was over.",
            &counters.late,
        ),
        (
            "pushes_duplicate_total",
            "Pushes of nodes already counted.",
            &counters.duplicates,
        ),
        (
            "received_bytes_total",
            "Bytes received in pushes.",
            &counters.received,
        ),
        (
            "sent_bytes_total",
            "Bytes sent as parameters.",
            &counters.sent,
        ),
        (
            "peers_dropped_total",
            "Connections dropped for what they sent.",
            &counters.dropped,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_help_type_and_value_and_leave_out_what_is_unknown() {
        let progress = Progress {
            step: 7,
            ..Progress::default()
        };
        let text = render(&progress, Some(&Counters::default())).to_string();
        assert!(
            text.contains("# TYPE trainyard_step gauge\ntrainyard_step 7\n"),
            "{text}"
        );
        assert!(!text.contains("trainyard_loss"), "{text}");
        assert!(text.contains("trainyard_pushes_late_total 0\n"), "{text}");
    }
}
