//! What a server says of itself and its models.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::App;
use super::infer::named;
use crate::protocol::{Datatype, ModelMetadata, ProtocolError, ServerMetadata, TensorMetadata};
use crate::stats::Spent;

/// The extensions of the protocol that are served.
pub(crate) const EXTENSIONS: [&str; 4] = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "statistics",
];

pub(super) async fn server() -> Json<ServerMetadata<'static>> {
    Json(ServerMetadata {
        name: "trainyard",
        version: env!("CARGO_PKG_VERSION"),
        extensions: &EXTENSIONS,
    })
}

pub(super) async fn live() -> Json<Value> {
    Json(json!({"live": true}))
}

pub(super) async fn ready(State(app): State<App>) -> Response {
    let is_ready = app.registry.is_ready();
    let status = match is_ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(json!({"ready": is_ready}))).into_response()
}

pub(super) async fn model(
    State(app): State<App>,
    Path(path): Path<HashMap<String, String>>,
) -> Result<Json<ModelMetadata>, ProtocolError> {
    let model = &app.registry.models[named(&app, &path)?];
    let versions = match path.get("version") {
        Some(version) => vec![version.clone()],
        None => app.registry.versions(&model.name),
    };
    Ok(Json(model.describe(versions)))
}

pub(super) async fn model_ready(
    State(app): State<App>,
    Path(path): Path<HashMap<String, String>>,
) -> Result<Response, ProtocolError> {
    let model = &app.registry.models[named(&app, &path)?];
    let is_ready = app.registry.is_ready();
    let status = match is_ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = json!({"name": model.name, "ready": is_ready});
    Ok((status, Json(body)).into_response())
}

/// As Triton describes a model in its extension `model_configuration`: what clients of it read.
pub(super) async fn config(
    State(app): State<App>,
    Path(path): Path<HashMap<String, String>>,
) -> Result<Json<Value>, ProtocolError> {
    let registry = &app.registry;
    let model = &registry.models[named(&app, &path)?];
    let description = model.describe(Vec::new());
    let tensor = |tensor: &TensorMetadata| {
        let datatype = match tensor.datatype {
            Datatype::Bytes => "STRING",
            other => other.name(),
        };
        json!({
            "name": tensor.name,
            "data_type": format!("TYPE_{datatype}"),
            // The first dimension is that of the batch.
            "dims": match &tensor.shape[1..] { [] => &[1], row => row },
        })
    };
    Ok(Json(json!({
        "name": model.name,
        "platform": description.platform,
        "backend": description.platform,
        "max_batch_size": registry.limits.rows,
        "input": description.inputs.iter().map(tensor).collect::<Vec<_>>(),
        "output": description.outputs.iter().map(tensor).collect::<Vec<_>>(),
        "dynamic_batching": {
            "preferred_batch_size": [registry.limits.batch_rows],
            "max_queue_delay_microseconds": registry.limits.batch_delay.as_micros() as u64,
        },
    })))
}

pub(super) async fn stats(
    State(app): State<App>,
    Path(path): Path<HashMap<String, String>>,
) -> Result<Json<Value>, ProtocolError> {
    let part = |name: &str| path.get(name).map_or("", String::as_str);
    let places = app.registry.select(part("name"), part("version"))?;
    Ok(Json(
        json!({"model_stats": places.map(|place| statistics(&app, place)).collect::<Vec<_>>()}),
    ))
}

pub(super) async fn all_stats(State(app): State<App>) -> Json<Value> {
    let places = 0..app.registry.models.len();
    Json(json!({"model_stats": places.map(|place| statistics(&app, place)).collect::<Vec<_>>()}))
}

/// As Triton's extension `statistics` has them.
fn statistics(app: &App, place: usize) -> Value {
    let (model, stats) = (&app.registry.models[place], &app.registry.stats[place]);
    let spent = |spent: &Spent| {
        let (count, ns) = spent.get();
        json!({"count": count, "ns": ns})
    };
    let batches = stats.batches();
    let executions: u64 = batches.values().map(|(count, _)| count).sum();
    let batches: Vec<Value> = batches
        .iter()
        .map(|(size, (count, ns))| {
            let nothing = json!({"count": 0, "ns": 0});
            json!({
                "batch_size": size,
                "compute_input": nothing,
                "compute_infer": {"count": count, "ns": ns},
                "compute_output": nothing,
            })
        })
        .collect();
    json!({
        "name": model.name,
        "version": model.version,
        "last_inference": stats.last(),
        "inference_count": stats.rows(),
        "execution_count": executions,
        "inference_stats": {
            "success": spent(&stats.success),
            "fail": spent(&stats.fail),
            "queue": spent(&stats.queue),
            "compute_input": spent(&stats.input),
            "compute_infer": spent(&stats.infer),
            "compute_output": spent(&stats.output),
            "cache_hit": {"count": 0, "ns": 0},
            "cache_miss": {"count": 0, "ns": 0},
        },
        "batch_stats": batches,
    })
}

/// Counters in the text format of Prometheus.
pub(super) async fn metrics(State(app): State<App>) -> Response {
    let registry = &app.registry;
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: Vec<(String, f64)>| {
        text += &format!("# HELP trainyard_{name} {help}\n# TYPE trainyard_{name} {kind}\n");
        for (labels, value) in samples {
            text += &format!("trainyard_{name}{{{labels}}} {value}\n");
        }
    };
    let each = |value: &dyn Fn(&crate::stats::Stats) -> Vec<(&'static str, f64)>| {
        let models = registry.models.iter().zip(&registry.stats);
        let samples = models.flat_map(|(model, stats)| {
            let own = format!(
                "model={},version={}",
                quoted(&model.name),
                quoted(&model.version)
            );
            value(stats)
                .into_iter()
                .map(move |(labels, value)| (format!("{own}{labels}"), value))
        });
        samples.collect::<Vec<_>>()
    };
    let count = |spent: &Spent| spent.get().0 as f64;
    let seconds = |spent: &Spent| spent.get().1 as f64 / 1e9;
    family(
        "inference_requests_total",
        "counter",
        "Requests, by how they ended.",
        each(&|stats| {
            vec![
                (",result=\"success\"", count(&stats.success)),
                (",result=\"fail\"", count(&stats.fail)),
            ]
        }),
    );
    family(
        "inference_rows_total",
        "counter",
        "Rows that were computed.",
        each(&|stats| vec![("", stats.rows() as f64)]),
    );
    family(
        "inference_batches_total",
        "counter",
        "Batches that were computed.",
        each(&|stats| vec![("", count(&stats.infer))]),
    );
    family(
        "inference_seconds_total",
        "counter",
        "Seconds that requests took in all, by what they were spent on.",
        each(&|stats| {
            vec![
                (",phase=\"queue\"", seconds(&stats.queue)),
                (",phase=\"input\"", seconds(&stats.input)),
                (",phase=\"infer\"", seconds(&stats.infer)),
                (",phase=\"output\"", seconds(&stats.output)),
                (",phase=\"request\"", seconds(&stats.success)),
            ]
        }),
    );
    family(
        "inference_queue_rows",
        "gauge",
        "Rows that wait.",
        vec![(String::new(), registry.batcher.waiting() as f64)],
    );
    let ready = f64::from(u8::from(registry.is_ready()));
    family(
        "ready",
        "gauge",
        "Whether requests are wanted.",
        vec![(String::new(), ready)],
    );
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// A label of a metric.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('\n', "\\n"))
}
