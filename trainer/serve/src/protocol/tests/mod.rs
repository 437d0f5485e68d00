//! Tests of whole bodies.

mod binary;
mod client;
mod json;
mod properties;

use super::*;

fn decode(body: impl Into<Vec<u8>>, header: Option<&str>) -> Result<InferRequest, ProtocolError> {
    let header = header.map(str::as_bytes);
    decode_request(body.into().into(), header, None, &Limits::default())
}

/// A request of which each entry is an input, without its braces.
fn request(inputs: &[&str]) -> String {
    let inputs: Vec<String> = inputs.iter().map(|input| format!("{{{input}}}")).collect();
    format!(r#"{{"inputs": [{}]}}"#, inputs.join(", "))
}

/// The message with which a body is refused.
fn refusal(body: &str) -> String {
    let error = decode(body, None).expect_err(body);
    assert!(error.message.len() < 400, "{error}");
    error.message
}
