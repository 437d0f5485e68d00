//! The control stream over a blocking connection.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use trainyard_core::wire::{Body, ControlDecoder, Limits, encode_control};

use super::{Identity, Until, refused, uninterrupted};

/// Longest wait for a peer that does not read a control message, or not all of it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// The sending half; may be shared by threads.
#[derive(Debug)]
pub struct ControlSender {
    stream: TcpStream,
    /// Held while a message is written.
    turn: Mutex<()>,
    identity: Identity,
}

impl ControlSender {
    /// Sends on `stream` as `identity`.
    ///
    /// # Errors
    /// Of the stream.
    pub fn new(stream: &TcpStream, identity: Identity) -> io::Result<Self> {
        Ok(ControlSender {
            stream: stream.try_clone()?,
            turn: Mutex::default(),
            identity,
        })
    }

    /// Sends one message.
    ///
    /// # Errors
    /// Of the stream, which then is closed: half a message may have left.
    pub fn send<T: Serialize>(&self, message: &T) -> io::Result<()> {
        let header = self.identity.header(Body::Control { len: 0 });
        let bytes = encode_control(header, message).map_err(refused)?;
        let _turn = self
            .turn
            .lock()
            .map_err(|_| refused("the sender panicked"))?;
        let mut until = Until::new(&self.stream, Instant::now() + WRITE_TIMEOUT);
        let result = until.write_all(&bytes);
        if result.is_err() {
            self.abort();
        }
        result
    }

    /// Closes the connection after what was sent.
    pub fn close(&self) {
        let _turn = self.turn.lock();
        self.abort();
    }

    /// Closes the connection at once: whoever is sending fails.
    pub fn abort(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct ControlReceiver {
    stream: TcpStream,
    patience: Duration,
    decoder: ControlDecoder,
}

impl ControlReceiver {
    /// Receives from `stream`; a peer that says nothing for `patience` is given up.
    ///
    /// # Errors
    /// Of the stream.
    pub fn new(stream: TcpStream, patience: Duration) -> io::Result<Self> {
        stream.set_read_timeout(Some(patience))?;
        Ok(ControlReceiver {
            stream,
            patience,
            decoder: ControlDecoder::new(Limits::default()),
        })
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// Of the stream, its end included, or [`io::ErrorKind::InvalidData`] for garbage.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        next(&mut self.decoder, &mut &self.stream)
    }

    /// Waits for the next message, all of which must be there in time.
    ///
    /// # Errors
    /// As [`ControlReceiver::receive`].
    pub fn receive_until<T: DeserializeOwned>(&mut self, end: Instant) -> io::Result<T> {
        let message = next(&mut self.decoder, &mut Until::new(&self.stream, end))?;
        self.stream.set_read_timeout(Some(self.patience))?;
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
