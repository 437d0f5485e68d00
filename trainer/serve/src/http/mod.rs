//! Requests over HTTP.

mod body;
mod describe;
mod error;
mod infer;
mod predict;
mod rows;

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use axum::routing::{get, post};
use tokio::sync::Semaphore;

use crate::registry::Registry;

pub(crate) use describe::EXTENSIONS;
use error::error;

/// What handlers share.
#[derive(Clone)]
pub(crate) struct App {
    registry: Arc<Registry>,
    /// Kibibytes of bodies that may be read.
    bodies: Arc<Semaphore>,
}

/// The routes of a server.
pub fn router(registry: Arc<Registry>) -> Router {
    let bodies = Semaphore::new(registry.limits.bodies_bytes >> 10);
    let app = App {
        registry,
        bodies: Arc::new(bodies),
    };
    let model = |routes: Router<App>, prefix: &str| {
        routes
            .route(prefix, get(describe::model))
            .route(&format!("{prefix}/ready"), get(describe::model_ready))
            .route(&format!("{prefix}/config"), get(describe::config))
            .route(&format!("{prefix}/stats"), get(describe::stats))
            .route(&format!("{prefix}/infer"), post(infer::infer))
    };
    let routes = Router::new()
        .route("/v2", get(describe::server))
        .route("/v2/", get(describe::server))
        .route("/v2/health/live", get(describe::live))
        .route("/v2/health/ready", get(describe::ready))
        .route("/v2/models/stats", get(describe::all_stats))
        .route("/predict", post(predict::predict))
        .route("/predict/{name}", post(predict::predict))
        .route("/metrics", get(describe::metrics));
    let routes = model(routes, "/v2/models/{name}");
    let routes = model(routes, "/v2/models/{name}/versions/{version}");
    routes
        .method_not_allowed_fallback(wrong_method)
        .fallback(not_found)
        .with_state(app)
}

async fn not_found(uri: Uri) -> Response {
    let path: String = uri.path().chars().take(80).collect();
    error(
        StatusCode::NOT_FOUND,
        &format!("there is nothing at {path}"),
    )
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let path: String = uri.path().chars().take(80).collect();
    let message = format!("{path} is not for {method}");
    error(StatusCode::METHOD_NOT_ALLOWED, &message)
}
