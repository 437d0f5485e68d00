//! The Open Inference Protocol, version 2, without sockets: bytes to requests, answers to bytes.
//!
//! Over HTTP a request is JSON, which tensors in binary may follow (Triton's extension `binary_tensor_data`). Over gRPC it is a
//! message of protobuf; its tensors are read by the same functions.

mod data;
mod describe;
mod error;
mod json;
mod request;
mod response;

pub use data::{ByteStrings, Data, Datatype};
pub use describe::{ModelDescription, ServerDescription, TensorDescription};
pub use error::{Kind, ProtocolError};
pub(crate) use json::Collected;
pub use request::{InferRequest, RequestedOutput, Tensor, decode};
pub use response::{Encoded, InferResponse, OutputTensor, classify, encode, wants_binary};
