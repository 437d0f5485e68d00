//! Errors as answers.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::protocol::{Kind, ProtocolError};

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
}

/// An answer with the body that the protocol has for errors.
pub(super) fn error(status: StatusCode, message: &str) -> Response {
    let body = serde_json::to_vec(&Body { error: message }).unwrap_or_default();
    let json = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (status, [json], body).into_response()
}

impl Kind {
    fn status(self) -> StatusCode {
        match self {
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for ProtocolError {
    fn into_response(self) -> Response {
        let mut response = error(self.kind.status(), &self.message);
        if matches!(self.kind, Kind::Overloaded | Kind::Unavailable) {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
