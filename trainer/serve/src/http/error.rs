//! Errors as answers.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::protocol::{ErrorBody, ErrorKind, ProtocolError};

/// An answer with the body that the protocol has for errors.
pub(super) fn error(status: StatusCode, message: &str) -> Response {
    let body = serde_json::to_vec(&ErrorBody { error: message }).unwrap_or_default();
    let json = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (status, [json], body).into_response()
}

impl IntoResponse for ProtocolError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.kind.http_status());
        let status = status.unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = error(status, &self.message);
        if matches!(self.kind, ErrorKind::Overloaded | ErrorKind::Unavailable) {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
