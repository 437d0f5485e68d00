//! Bodies of requests: read as far as they may be, and unpacked.

use std::io::Read;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use bytes::{Bytes, BytesMut};
use flate2::read::{GzDecoder, ZlibDecoder};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;

use super::App;
use crate::protocol::{ErrorKind, ProtocolError};

/// How long a client may take to send a part.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes from which work is done where no other request waits for it.
const LARGE: usize = 64 << 10;

/// A body, and its share of the memory for bodies.
pub(super) struct Held {
    pub(super) bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

/// Reads a body of at most the bytes that one may have, also once it is unpacked.
pub(super) async fn read(
    app: &App,
    headers: &HeaderMap,
    mut body: Body,
) -> Result<Held, ProtocolError> {
    let most = app.registry.limits.body_bytes;
    let declared = headers.get(CONTENT_LENGTH);
    let declared = declared.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > most as u64) {
        return Err(too_large(most));
    }
    let kibibytes = |bytes: usize| u32::try_from((bytes >> 10) + 1).unwrap_or(u32::MAX);
    // What is packed has the size of all that it may become.
    let packing = Packing::of(headers)?;
    let expected = match packing {
        Packing::None => declared.unwrap_or(0) as usize,
        Packing::Gzip | Packing::Deflate => most,
    };
    let mut share = acquire(app, kibibytes(expected))?;
    let mut held = kibibytes(expected);
    let mut bytes = BytesMut::new();
    loop {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await;
        let Ok(frame) = frame else {
            let message = "the body has not come; send the request in one go";
            return Err(ProtocolError::invalid(message));
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| ProtocolError::invalid("the body was cut off"))?;
        let Ok(part) = frame.into_data() else {
            continue;
        };
        if bytes.len() + part.len() > most {
            return Err(too_large(most));
        }
        bytes.extend_from_slice(&part);
        let needed = kibibytes(bytes.capacity());
        if needed > held {
            share.merge(acquire(app, needed - held)?);
            held = needed;
        }
    }
    let bytes = bytes.freeze();
    let bytes = match packing {
        Packing::None => bytes,
        Packing::Gzip => at_leisure(LARGE, || unpack(GzDecoder::new(&bytes[..]), most))?,
        Packing::Deflate => at_leisure(LARGE, || unpack(ZlibDecoder::new(&bytes[..]), most))?,
    };
    Ok(Held {
        bytes,
        _share: share,
    })
}

fn acquire(app: &App, kibibytes: u32) -> Result<OwnedSemaphorePermit, ProtocolError> {
    let bodies = std::sync::Arc::clone(&app.bodies);
    bodies.try_acquire_many_owned(kibibytes).map_err(|_| {
        ProtocolError::new(
            ErrorKind::Overloaded,
            "too many requests are being read; try again later",
        )
    })
}

/// Does what takes long where it keeps no other request of this thread waiting.
pub(super) fn at_leisure<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    match bytes >= LARGE {
        true => tokio::task::block_in_place(work),
        false => work(),
    }
}

/// How a body is packed.
#[derive(Clone, Copy)]
enum Packing {
    None,
    Gzip,
    /// What HTTP calls so: zlib's format.
    Deflate,
}

impl Packing {
    fn of(headers: &HeaderMap) -> Result<Self, ProtocolError> {
        let Some(name) = headers.get(CONTENT_ENCODING) else {
            return Ok(Self::None);
        };
        match name.as_bytes().to_ascii_lowercase().as_slice() {
            b"" | b"identity" => Ok(Self::None),
            b"gzip" | b"x-gzip" => Ok(Self::Gzip),
            b"deflate" => Ok(Self::Deflate),
            _ => Err(ProtocolError::invalid(
                "the Content-Encoding is not known; use gzip or deflate",
            )),
        }
    }
}

fn unpack(reader: impl Read, most: usize) -> Result<Bytes, ProtocolError> {
    let mut unpacked = Vec::new();
    let read = reader.take(most as u64 + 1).read_to_end(&mut unpacked);
    read.map_err(|error| {
        ProtocolError::invalid(format!("the body cannot be decompressed: {error}"))
    })?;
    match unpacked.len() > most {
        true => Err(too_large(most)),
        false => Ok(unpacked.into()),
    }
}

fn too_large(most: usize) -> ProtocolError {
    ProtocolError::new(
        ErrorKind::TooLarge,
        format!(
            "the body has more than the {most} bytes that one may have; send fewer rows in a request"
        ),
    )
}
