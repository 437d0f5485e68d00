//! `/status`, `/healthz` and `/metrics` over HTTP.

use std::fmt::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use trainyard_core::control::Progress;

use super::coordination::Board;
use super::hub::Hub;
use super::shard::Counters;

#[derive(Clone)]
struct Shown {
    board: Arc<Board>,
    hub: Arc<Hub>,
}

/// Serves on a thread of its own for the life of the process.
///
/// # Errors
/// If the listener cannot be used.
pub fn serve(listener: TcpListener, board: Arc<Board>, hub: Arc<Hub>) -> Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/status",
            get(|State(shown): State<Shown>| async move { Json(shown.board.read()) }),
        )
        .route("/metrics", get(metrics))
        .with_state(Shown { board, hub });
    std::thread::spawn(move || {
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(listener, router).await
        });
        if let Err(error) = served {
            tracing::error!(%error, "HTTP has ended");
        }
    });
    Ok(())
}

async fn metrics(State(shown): State<Shown>) -> impl IntoResponse {
    let shard = shown.hub.shard();
    let text = render(
        &shown.board.read(),
        shard.as_ref().map(|shard| &shard.counters),
    );
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

/// The Prometheus text format.
fn render(progress: &Progress, counters: Option<&Counters>) -> String {
    let mut text = String::new();
    let mut put = |name: &str, kind: &str, help: &str, value: f64| {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "# HELP trainyard_{name} {help}\n# TYPE trainyard_{name} {kind}\ntrainyard_{name} {value}\n"
        );
    };
    put("step", "gauge", "Steps applied.", progress.step as f64);
    put(
        "steps_planned",
        "gauge",
        "Steps of the whole job.",
        progress.total_steps as f64,
    );
    put(
        "epoch",
        "gauge",
        "Epoch in progress, from 0.",
        progress.epoch as f64,
    );
    put(
        "samples_total",
        "counter",
        "Training samples used.",
        progress.samples as f64,
    );
    put(
        "workers",
        "gauge",
        "Workers that share the leaves.",
        progress.workers.into(),
    );
    put(
        "servers_ready",
        "gauge",
        "Servers that are ready.",
        progress.servers.into(),
    );
    put(
        "generation",
        "gauge",
        "Generation in force.",
        progress.generation.into(),
    );
    if let Some(loss) = progress.loss {
        put(
            "loss",
            "gauge",
            "Mean training loss of the epoch so far.",
            loss,
        );
    }
    if let Some(step) = progress.checkpoint {
        put(
            "checkpoint_step",
            "gauge",
            "Step of the newest checkpoint.",
            step as f64,
        );
    }
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    if let Some(c) = counters {
        put("pushes_total", "counter", "Pushes taken.", read(&c.pushes));
        put(
            "pushes_late_total",
            "counter",
            "Pushes for a step that was over.",
            read(&c.late),
        );
        put(
            "pushes_duplicate_total",
            "counter",
            "Pushes of nodes already counted.",
            read(&c.duplicates),
        );
        put(
            "received_bytes_total",
            "counter",
            "Bytes received in pushes.",
            read(&c.received),
        );
        put(
            "sent_bytes_total",
            "counter",
            "Bytes sent as parameters.",
            read(&c.sent),
        );
        put(
            "peers_dropped_total",
            "counter",
            "Connections dropped for what they sent.",
            read(&c.dropped),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_help_type_and_value_and_leave_out_what_is_unknown() {
        let text = render(
            &Progress {
                step: 7,
                ..Progress::default()
            },
            Some(&Counters::default()),
        );
        assert!(
            text.contains("# TYPE trainyard_step gauge\ntrainyard_step 7\n"),
            "{text}"
        );
        assert!(!text.contains("trainyard_loss"), "{text}");
        assert!(text.contains("trainyard_pushes_late_total 0\n"), "{text}");
    }
}
