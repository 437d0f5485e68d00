//! `POST /predict`: rows in the original columns, as JSON or CSV.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use trainyard_core::prediction::Prediction;

use super::{App, body, rows};
use crate::model::ServedModel;
use crate::protocol::ProtocolError;

pub(super) async fn predict(
    State(app): State<App>,
    Path(path): Path<HashMap<String, String>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ProtocolError> {
    let name = path.get("name").map(String::as_str);
    let name = name.or_else(|| app.registry.only_name()).ok_or_else(|| {
        ProtocolError::invalid("there are several models; name one in the path, as /predict/NAME")
    })?;
    let place = app.registry.find(name, None)?;
    let answer = answer(&app, place, &headers, body);
    app.registry.counted(place, answer).await
}

async fn answer(
    app: &App,
    place: usize,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ProtocolError> {
    let (registry, model) = (&app.registry, &app.registry.models[place]);
    let held = body::read(app, headers, body).await?;
    let begin = Instant::now();
    let is_csv = headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/csv"));
    let (encoded, is_one) = body::at_leisure(held.bytes.len(), || match is_csv {
        true => Ok((model.encode_csv(&held.bytes, registry.limits.rows)?, false)),
        false => rows::encode(model, &held.bytes, &registry.limits),
    })?;
    registry.stats[place].read(begin.elapsed());
    let outputs = registry.batcher.run(place, encoded, None).await?;
    let begin = Instant::now();
    let predictions = model.predictions(&outputs)?;
    let mut rows = predictions.iter().map(|row| Answer::of(model, row));
    let body = match is_one {
        true => serde_json::to_vec(&rows.next()),
        false => serde_json::to_vec(&rows.collect::<Vec<_>>()),
    };
    registry.stats[place].written(begin.elapsed());
    let json = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(([json], body.unwrap_or_default()).into_response())
}

/// A row of an answer, with the fields of `trainyard predict --json`.
#[derive(Serialize)]
struct Answer<'a> {
    prediction: Predicted<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probabilities: Option<BTreeMap<&'a str, f32>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Predicted<'a> {
    Class(&'a str),
    Value(f64),
}

impl<'a> Answer<'a> {
    fn of(model: &'a ServedModel, prediction: &Prediction) -> Self {
        let classes = model.classes();
        match prediction {
            Prediction::Value(value) => Self {
                prediction: Predicted::Value(*value),
                probability: None,
                probabilities: None,
            },
            Prediction::Class {
                class,
                probabilities,
            } => Self {
                prediction: Predicted::Class(classes.get(*class).map_or("", String::as_str)),
                probability: probabilities.get(*class).copied(),
                probabilities: Some(
                    classes
                        .iter()
                        .map(String::as_str)
                        .zip(probabilities.iter().copied())
                        .collect(),
                ),
            },
        }
    }
}
