//! `/healthz`, `/readyz` and `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// What the endpoints show.
#[derive(Clone, Default)]
pub struct Shown {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Whether the API server was reached and the process leads or stands by. It says nothing about being alive:
    /// a process that lost the API server is not mended by starting it again.
    pub ready: Arc<AtomicBool>,
}

/// Serves until the process ends.
///
/// # Errors
/// If the listener breaks.
pub async fn serve(listener: TcpListener, shown: Shown) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(shown);
    axum::serve(listener, router).await
}

async fn ready(State(shown): State<Shown>) -> impl IntoResponse {
    match shown.ready.load(Ordering::Relaxed) {
        true => (StatusCode::OK, "ok\n"),
        false => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the API server has not been reached yet\n",
        ),
    }
}

async fn metrics(State(shown): State<Shown>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, content_type)], shown.metrics.render())
}
