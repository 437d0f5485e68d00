//! The control stream: frames whose payload is JSON.

use super::error::Allowed;
use super::{Body, HEADER_LEN, Header, Kind, Limits, MAX_CONTROL_BYTES, WireError};
use serde::{Serialize, de::DeserializeOwned};

/// A whole frame with `message` as JSON behind `header`.
///
/// `header.body` is of a kind whose payload is JSON; its length is filled in. JSON has no
/// NaN and no infinities: such a float is written as `null`, so make it an `Option` or a string.
///
/// # Errors
/// [`WireError::NotControl`] for another kind, [`WireError::Json`] if `message` has no JSON form,
/// [`WireError::Length`] if that is longer than [`MAX_CONTROL_BYTES`].
pub fn encode_control<T: Serialize + ?Sized>(
    mut header: Header,
    message: &T,
) -> Result<Vec<u8>, WireError> {
    let kind = header.body.kind();
    let mut frame = vec![0; HEADER_LEN];
    serde_json::to_writer(&mut frame, message).map_err(|error| WireError::Json { kind, error })?;
    let payload = (frame.len() - HEADER_LEN) as u64;
    let len = Allowed::of(kind, &Limits::default()).check(kind, payload);
    header.body = match kind {
        Kind::Hello => Body::Hello { len: len? },
        Kind::Control => Body::Control { len: len? },
        Kind::Challenge => Body::Challenge { len: len? },
        Kind::Proof => Body::Proof { len: len? },
        Kind::Push | Kind::Param | Kind::Bye => return Err(WireError::NotControl(kind)),
    };
    let header = header.before(&frame[HEADER_LEN..]);
    frame[..HEADER_LEN].copy_from_slice(&header.encode());
    Ok(frame)
}

/// Buffer capacity that an idle decoder may keep.
const KEPT_BYTES: usize = 16 << 10;

/// Cuts the bytes of a control stream into messages.
///
/// Use: [`push`](Self::push) what was read, [`pop`](Self::pop) until `None`, read on. Memory is
/// bounded by one largest frame and one push, and grows with the bytes received, not with the
/// length that a header claims.
#[derive(Debug)]
pub struct ControlDecoder {
    limits: Limits,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were popped already.
    taken: usize,
}

impl ControlDecoder {
    /// A decoder at the start of a stream.
    pub fn new(limits: Limits) -> Self {
        ControlDecoder {
            limits,
            buffer: Vec::new(),
            taken: 0,
        }
    }

    /// Takes what was read from the stream.
    ///
    /// # Errors
    /// [`WireError::Backlog`] if a largest frame's worth of bytes is already waiting: messages
    /// must be popped between pushes.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let waiting = self.buffer.len() - self.taken;
        let largest = HEADER_LEN + self.limits.control.min(MAX_CONTROL_BYTES) as usize;
        if waiting >= largest {
            return Err(WireError::Backlog(waiting));
        }
        self.buffer.drain(..self.taken);
        self.taken = 0;
        if self.buffer.is_empty() {
            // One large message, such as a join, must not hold its memory for the connection's life.
            self.buffer.shrink_to(KEPT_BYTES);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next message, `None` until it is there in full.
    ///
    /// # Errors
    /// The [`WireError`] that says what is wrong with the stream. It stays wrong: the same error
    /// comes again, and the connection should be closed.
    pub fn pop<T: DeserializeOwned>(&mut self) -> Result<Option<(Header, T)>, WireError> {
        let waiting = &self.buffer[self.taken..];
        let Some((head, rest)) = waiting.split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let header = Header::decode(head, &self.limits)?;
        let kind = header.body.kind();
        if !matches!(kind, Kind::Hello | Kind::Control) {
            return Err(WireError::NotControl(kind));
        }
        let len = header.body.payload_len() as usize;
        let Some(payload) = rest.get(..len) else {
            return Ok(None);
        };
        header.check(payload)?;
        let message =
            serde_json::from_slice(payload).map_err(|error| WireError::Json { kind, error })?;
        self.taken += HEADER_LEN + len;
        Ok(Some((header, message)))
    }

    /// Bytes received and not yet popped.
    pub fn waiting(&self) -> usize {
        self.buffer.len() - self.taken
    }
}
