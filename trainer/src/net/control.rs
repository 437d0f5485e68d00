//! The control stream over a blocking connection.

use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use trainyard_core::wire::{Body, ControlDecoder, Limits, encode_control};

use super::{Identity, refused};

/// Longest wait for a peer that does not read its control messages.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// The sending half; may be shared by threads.
#[derive(Debug)]
pub struct ControlSender {
    stream: Mutex<TcpStream>,
    identity: Identity,
}

impl ControlSender {
    /// Sends on `stream` as `identity`.
    ///
    /// # Errors
    /// Of the stream.
    pub fn new(stream: &TcpStream, identity: Identity) -> io::Result<Self> {
        let stream = stream.try_clone()?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(ControlSender {
            stream: Mutex::new(stream),
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
        let mut stream = self
            .stream
            .lock()
            .map_err(|_| refused("the sender panicked"))?;
        let result = io::Write::write_all(&mut *stream, &bytes);
        if result.is_err() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        result
    }

    /// Closes the connection after what was sent.
    pub fn close(&self) {
        if let Ok(stream) = self.stream.lock() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct ControlReceiver {
    stream: TcpStream,
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
            decoder: ControlDecoder::new(Limits::default()),
        })
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// Of the stream, its end included, or [`io::ErrorKind::InvalidData`] for garbage.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some((_, message)) = self.decoder.pop().map_err(refused)? {
                return Ok(message);
            }
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.decoder.push(&buffer[..n]).map_err(refused)?,
            }
        }
    }
}
