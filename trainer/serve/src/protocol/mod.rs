//! The Open Inference Protocol, version 2, without sockets: bytes to requests, answers to bytes.
//!
//! Over HTTP a request is JSON, which tensors in binary may follow (Triton's extension `binary_tensor_data`).
//! [`decode_request`] reads both, [`encode_response`] writes both. Tensors that come another way, as in gRPC's
//! `raw_input_contents`, are read by [`Tensor::from_binary`].
//!
//! Whatever a client sends ends as a request or as a [`ProtocolError`] that names the place. Memory grows with the bytes that
//! have come, never with a number that they contain.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod binary;
mod classify;
mod data;
mod datatype;
mod decode;
mod error;
mod header;
mod json;
mod limits;
mod metadata;
mod request;
mod response;
mod strings;

#[cfg(test)]
mod tests;

pub use classify::classify;
pub use data::Data;
pub use datatype::Datatype;
pub use decode::{RawInput, decode_numbers, decode_request};
pub(crate) use error::quoted;
pub use error::{ErrorKind, ProtocolError};
pub use limits::Limits;
pub use metadata::{ErrorBody, ModelMetadata, ServerMetadata, TensorMetadata};
pub use request::{InferRequest, RequestedOutput, Tensor};
pub use response::{Encoded, InferResponse, OutputTensor, encode_response};
pub use strings::ByteStrings;
