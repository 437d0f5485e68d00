//! Frames over a byte stream.

use std::io::{self, IoSlice, Read, Write};

use trainyard_core::wire::{HEADER_LEN, Header, Limits};

use super::refused;
use super::socket::uninterrupted;

/// Reads and checks a header.
///
/// # Errors
/// Of the stream; [`io::ErrorKind::InvalidData`] for bytes that are no header.
pub fn read_header(stream: &mut impl Read, limits: &Limits) -> io::Result<Header> {
    let mut bytes = [0; HEADER_LEN];
    stream.read_exact(&mut bytes)?;
    Header::decode(&bytes, limits).map_err(refused)
}

/// Reads the payload behind a header into `target`, which has its length.
///
/// # Errors
/// Of the stream; [`io::ErrorKind::InvalidData`] for a payload that was damaged on its way.
pub fn read_payload(stream: &mut impl Read, header: &Header, target: &mut [u8]) -> io::Result<()> {
    stream.read_exact(target)?;
    header.check(target).map_err(refused)
}

/// Writes a header, which has the payload's checksum ([`Header::before`]), and its payload with as few system
/// calls as the stream allows.
///
/// # Errors
/// Of the stream.
pub fn write_frame(stream: &mut impl Write, header: &Header, payload: &[u8]) -> io::Result<()> {
    let head = header.encode();
    let total = head.len() + payload.len();
    let mut sent = 0;
    while sent < total {
        let written = uninterrupted(|| match sent < head.len() {
            true => stream.write_vectored(&[IoSlice::new(&head[sent..]), IoSlice::new(payload)]),
            false => stream.write(&payload[sent - head.len()..]),
        });
        match written? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => sent += n,
        }
    }
    Ok(())
}
