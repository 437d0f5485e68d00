//! `/healthz` and `/metrics` over HTTP, for servers and workers alike.

use std::collections::VecDeque;
use std::fmt::Write;
use std::net::TcpListener;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use trainyard_contract::pod;

/// The pages that every role has. For each reader, `is_well` is asked whether the process does what it is there for,
/// and `metrics` for what it counts.
pub fn pages(
    is_well: impl Fn() -> bool + Clone + Send + Sync + 'static,
    metrics: impl Fn() -> Metrics + Clone + Send + Sync + 'static,
) -> Router {
    let health = move || async move {
        match is_well() {
            true => (StatusCode::OK, "ok\n"),
            false => (StatusCode::SERVICE_UNAVAILABLE, "this process is stuck\n"),
        }
    };
    let metrics = move || async move {
        (
            [(CONTENT_TYPE, "text/plain; version=0.0.4")],
            metrics().text,
        )
    };
    Router::new()
        .route(pod::HEALTH_PAGE, get(health))
        .route(pod::METRICS_PAGE, get(metrics))
}

/// Connections that may be open. Of more, the oldest is closed: whoever asks for a page needs a moment, and
/// those who only hold a connection may not keep others out, nor use up this process's file descriptors.
const CONNECTIONS: usize = 64;

/// Longest life of a connection: one request, and its answer.
const LIFE: Duration = Duration::from_secs(10);

/// Bytes of a request that are kept.
const REQUEST_BYTES: usize = 16 << 10;

/// Wait after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(10);

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
            answer(listener, pages).await;
            std::io::Result::Ok(())
        });
        if let Err(error) = served {
            tracing::error!(%error, "HTTP has ended");
        }
    });
    Ok(())
}

/// Answers one request a connection, for ever.
async fn answer(listener: tokio::net::TcpListener, pages: Router) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, or a peer that left before it was accepted.
                tracing::warn!(%error, "an HTTP connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let connection = connection(stream, pages.clone());
        open.push_back(tokio::spawn(connection).abort_handle());
    }
}

/// Answers one request on a connection; after ten seconds it is over, whatever has come.
pub async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    pages: Router,
) {
    let answered = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(REQUEST_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(pages));
    // Whoever asks hears of what is wrong; nobody else wants to know.
    let _ = tokio::time::timeout(LIFE, answered).await;
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

#[cfg(test)]
mod tests;
