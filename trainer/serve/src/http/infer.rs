//! `POST /v2/models/NAME/infer`.

use std::collections::HashMap;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};

use super::{App, body};
use crate::protocol::{Encoded, ProtocolError, RawInput, decode_request, encode_response};

/// Bytes of JSON before tensors in binary.
const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// The model that a path names.
pub(super) fn named(app: &App, path: &HashMap<String, String>) -> Result<usize, ProtocolError> {
    let name = path.get("name").map_or("", String::as_str);
    app.registry
        .find(name, path.get("version").map(String::as_str))
}

pub(super) async fn infer(
    State(app): State<App>,
    Path(path): Path<HashMap<String, String>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ProtocolError> {
    let place = named(&app, &path)?;
    let answer = answer(&app, place, &headers, body);
    app.registry.counted(place, answer).await.map(respond)
}

async fn answer(
    app: &App,
    place: usize,
    headers: &HeaderMap,
    body: Body,
) -> Result<Encoded, ProtocolError> {
    let (registry, model) = (&app.registry, &app.registry.models[place]);
    let held = body::read(app, headers, body).await?;
    let begin = Instant::now();
    let read = body::at_leisure(held.bytes.len(), || {
        let length = headers.get(HEADER_LENGTH).map(HeaderValue::as_bytes);
        let only = model.only_input();
        let raw = only.as_ref().map(|(name, datatype, row_shape)| RawInput {
            name,
            datatype: *datatype,
            row_shape,
        });
        let limits = registry.limits.protocol();
        let request = decode_request(held.bytes.clone(), length, raw, &limits)?;
        registry.read(place, request)
    })?;
    registry.stats[place].read(begin.elapsed());
    let response = registry.infer(place, read).await?;
    Ok(encode_response(&response))
}

fn respond(encoded: Encoded) -> Response {
    let json = match encoded.header_length {
        None => "application/json",
        Some(_) => "application/octet-stream",
    };
    let mut response = encoded.body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(json));
    if let Some(length) = encoded.header_length {
        headers.insert(HEADER_LENGTH, HeaderValue::from(length));
    }
    response
}
