//! Bodies of requests over gRPC: all that are read at once share a bound in bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::util::MapRequestLayer;

use crate::protocol::{ErrorKind, ProtocolError};

/// A body that takes a share of the bound for what has come, and gives it back when it was read.
struct Metered {
    inner: Body,
    bodies: Arc<Semaphore>,
    share: Option<OwnedSemaphorePermit>,
    /// Bytes that have come.
    bytes: usize,
}

/// Has the bodies of requests share a number of kibibytes.
pub(super) fn layer(
    bodies: Arc<Semaphore>,
) -> MapRequestLayer<impl Fn(Request) -> Request + Clone> {
    MapRequestLayer::new(move |request: Request| {
        let bodies = Arc::clone(&bodies);
        request.map(|inner| {
            Body::new(Metered {
                inner,
                bodies,
                share: None,
                bytes: 0,
            })
        })
    })
}

impl Metered {
    fn take(&mut self, bytes: usize) -> Result<(), tonic::Status> {
        let kibibytes = |bytes: usize| bytes.div_ceil(1 << 10);
        let more = kibibytes(self.bytes + bytes) - kibibytes(self.bytes);
        self.bytes += bytes;
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let taken = Arc::clone(&self.bodies).try_acquire_many_owned(more);
        let taken = taken.map_err(|_| {
            ProtocolError::new(
                ErrorKind::Overloaded,
                "too many requests are being read; try again later",
            )
        })?;
        match &mut self.share {
            Some(share) => share.merge(taken),
            None => self.share = Some(taken),
        }
        Ok(())
    }
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let bytes = data.len();
            if let Err(status) = self.take(bytes) {
                return Poll::Ready(Some(Err(axum::Error::new(status))));
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
