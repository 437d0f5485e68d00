//! The control stream over a blocking connection.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use trainyard_core::wire::{Body, ControlDecoder, Limits, encode_control};

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
    /// Of the connection, its end included, or [`io::ErrorKind::InvalidData`] for garbage.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        next(&mut self.decoder, &mut self.reader)
    }

    /// Waits for the next message, all of which must be there in time.
    ///
    /// # Errors
    /// As [`ControlReceiver::receive`].
    pub fn receive_until<T: DeserializeOwned>(&mut self, end: Instant) -> io::Result<T> {
        let message = next(&mut self.decoder, &mut Until::new(&mut self.reader, end))?;
        self.reader.set_timeout(Some(self.patience))?;
        Ok(message)
    }
}

fn next<T: DeserializeOwned>(
    decoder: &mut ControlDecoder,
    stream: &mut impl Read,
) -> io::Result<T> {
    let mut buffer = [0; 16 * 1024];
    loop {
        if let Some((_, message)) = decoder.pop().map_err(refused)? {
            return Ok(message);
        }
        match uninterrupted(|| stream.read(&mut buffer))? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => decoder.push(&buffer[..n]).map_err(refused)?,
        }
    }
}
