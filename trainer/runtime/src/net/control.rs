//! The control stream over a blocking connection.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use trainyard_core::wire::{Body, ControlDecoder, Limits, WireError, encode_control};

use super::connection::{Closer, Connection, ReadHalf, WriteHalf};
use super::socket::uninterrupted;
use super::until::Until;
use super::{Identity, refused};

/// Longest wait for a peer that does not read a control message, or not all of it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

impl Connection {
    /// Makes it a control stream; a peer that says nothing for `patience` is given up.
    ///
    /// # Errors
    /// Of the connection.
    pub fn control(
        self,
        identity: Identity,
        patience: Duration,
    ) -> io::Result<(ControlSender, ControlReceiver)> {
        let sender = ControlSender::new(self.writer, self.closer, identity);
        Ok((sender, ControlReceiver::new(self.reader, patience)?))
    }
}

/// The sending half; may be shared by threads.
#[derive(Debug)]
pub struct ControlSender {
    /// Held while a message is written.
    writer: Mutex<WriteHalf>,
    closer: Closer,
    identity: Identity,
}

impl ControlSender {
    pub(super) fn new(writer: WriteHalf, closer: Closer, identity: Identity) -> Self {
        ControlSender {
            writer: Mutex::new(writer),
            closer,
            identity,
        }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// Of the connection, which then is closed: half a message may have left.
    pub fn send<T: Serialize>(&self, message: &T) -> io::Result<()> {
        let header = self.identity.header(Body::Control { len: 0 });
        let bytes = encode_control(header, message).map_err(refused)?;
        let mut writer = self.writer.lock();
        let end = Instant::now() + WRITE_TIMEOUT;
        let result = Until::new(&mut *writer, end).write_all(&bytes);
        if result.is_err() {
            self.abort();
        }
        result
    }

    /// Ends this direction after what was sent; the other side reads all of it first.
    ///
    /// # Errors
    /// Of the connection.
    pub fn finish(&self) -> io::Result<()> {
        let mut writer = self.writer.lock();
        writer.finish()
    }

    /// Closes the connection after what was sent.
    pub fn close(&self) {
        let _turn = self.writer.lock();
        self.abort();
    }

    /// Closes the connection at once: a thread that is sending fails.
    pub fn abort(&self) {
        self.closer.close();
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct ControlReceiver {
    reader: ReadHalf,
    patience: Duration,
    decoder: ControlDecoder,
}

impl ControlReceiver {
    pub(super) fn new(reader: ReadHalf, patience: Duration) -> io::Result<Self> {
        reader.set_timeout(Some(patience))?;
        Ok(ControlReceiver {
            reader,
            patience,
            decoder: ControlDecoder::new(Limits::default()),
        })
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// Of the connection, its end and damage included; [`io::ErrorKind::InvalidData`] for a message that says
    /// what this program does not know.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        Ok(next(&mut self.decoder, &mut self.reader)?.0)
    }

    /// The same, with the message's length in bytes, all of which must be there by `end`.
    ///
    /// # Errors
    /// As [`ControlReceiver::receive`].
    pub fn receive_sized<T: DeserializeOwned>(
        &mut self,
        end: Option<Instant>,
    ) -> io::Result<(T, u32)> {
        let Some(end) = end else {
            return next(&mut self.decoder, &mut self.reader);
        };
        let sized = next(&mut self.decoder, &mut Until::new(&mut self.reader, end))?;
        self.reader.set_timeout(Some(self.patience))?;
        Ok(sized)
    }
}

fn next<T: DeserializeOwned>(
    decoder: &mut ControlDecoder,
    stream: &mut impl Read,
) -> io::Result<(T, u32)> {
    let mut buffer = [0; 16 * 1024];
    loop {
        if let Some((header, message)) = decoder.pop().map_err(unusable)? {
            return Ok((message, header.body.payload_len()));
        }
        match uninterrupted(|| stream.read(&mut buffer))? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => decoder.push(&buffer[..n]).map_err(unusable)?,
        }
    }
}

/// A message that says what this program does not know comes from another version of it, which would say it
/// again. Anything else is damage, and gone with the connection.
fn unusable(error: WireError) -> io::Error {
    match error {
        WireError::Json { .. } => refused(error),
        _ => io::Error::new(io::ErrorKind::ConnectionAborted, error),
    }
}
