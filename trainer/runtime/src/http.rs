//! `/healthz` and `/metrics` over HTTP, for servers and workers alike.

use std::fmt::Write;
use std::net::TcpListener;

use anyhow::Result;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use trainyard_contract::pod;

/// The pages that every role has. `metrics` is asked anew for each reader.
pub fn pages(metrics: impl Fn() -> Metrics + Clone + Send + Sync + 'static) -> Router {
    let metrics = move || async move {
        (
            [(CONTENT_TYPE, "text/plain; version=0.0.4")],
            metrics().text,
        )
    };
    Router::new()
        .route(pod::HEALTH_PAGE, get(|| async { "ok\n" }))
        .route(pod::METRICS_PAGE, get(metrics))
}

/// Serves on a thread of its own for the life of the process.
///
/// # Errors
/// If the listener cannot be used.
pub fn serve(listener: TcpListener, pages: Router) -> Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(listener, pages).await
        });
        if let Err(error) = served {
            tracing::error!(%error, "HTTP has ended");
        }
    });
    Ok(())
}

/// Metrics in the Prometheus text format, under names that begin with `trainyard_`.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    text: String,
}

impl Metrics {
    /// Adds a value that may rise and fall.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.put(name, "gauge", help, value);
    }

    /// Adds a value that only rises; its name ends with `_total`.
    pub fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.put(name, "counter", help, value);
    }

    fn put(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        // Writing to a String cannot fail.
        let _ = write!(
            self.text,
            "# HELP trainyard_{name} {help}\n# TYPE trainyard_{name} {kind}\ntrainyard_{name} {value}\n"
        );
    }
}

impl std::fmt::Display for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}
