//! Half a connection, up to a moment.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use super::connection::{ReadHalf, WriteHalf};

/// Reads or writes until a moment, however slowly the bytes trickle: a timeout of the connection alone
/// starts again with each of them. The half's own timeout is changed.
pub(super) struct Until<'a, H> {
    half: &'a mut H,
    end: Instant,
}

impl<'a, H> Until<'a, H> {
    pub fn new(half: &'a mut H, end: Instant) -> Self {
        Until { half, end }
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(left),
        }
    }
}

impl Read for Until<'_, ReadHalf> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.half.set_timeout(Some(self.left()?))?;
        self.half.read(buffer)
    }
}

impl Write for Until<'_, WriteHalf> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.half.set_timeout(Some(self.left()?))?;
        self.half.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
