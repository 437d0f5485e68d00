//! The bytes of a file, here and there.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use crate::error::DataError;
use crate::files::{Opened, cannot};
use crate::options::Limits;

/// A file of this machine, or one that was fetched. Several threads may read it: none moves a position that they share.
#[derive(Clone)]
pub(super) enum Chunks {
    File(Arc<File>, u64),
    Memory(Bytes),
}

impl Chunks {
    /// # Errors
    /// If the file is longer than the limit, or what must be fetched is larger than the memory.
    pub(super) fn new(opened: Opened, limits: &Limits) -> std::result::Result<Self, DataError> {
        let chunks = match opened {
            Opened::File(file) => {
                let length = file.metadata().map_err(|e| cannot("read", &e))?.len();
                Self::File(Arc::new(file), length)
            }
            Opened::Stream(stream) => {
                let most = limits.file_bytes.min(limits.memory);
                let mut bytes = Vec::new();
                let read = stream.take(most.saturating_add(1)).read_to_end(&mut bytes);
                read.map_err(|e| cannot("read", &e))?;
                limits.check_memory(bytes.len() as u64)?;
                Self::Memory(bytes.into())
            }
        };
        if chunks.len() > limits.file_bytes {
            let problem = "the file is longer than the limit";
            return Err(DataError::limit(problem, "split it"));
        }
        Ok(chunks)
    }

    /// Bytes that are held.
    pub(super) fn held(&self) -> u64 {
        match self {
            Self::File(..) => 0,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        match self {
            Self::File(_, length) => *length,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }
}

impl ChunkReader for Chunks {
    type T = From;

    fn get_read(&self, start: u64) -> Result<From> {
        Ok(From {
            chunks: self.clone(),
            at: start,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let end = start.checked_add(length as u64);
        if end.is_none_or(|end| end > self.len()) {
            let why = format!("{length} bytes from {start} on are beyond its end");
            return Err(ParquetError::EOF(why));
        }
        match self {
            Self::Memory(bytes) => Ok(bytes.slice(start as usize..start as usize + length)),
            Self::File(file, _) => {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, start)?;
                Ok(bytes.into())
            }
        }
    }
}

/// Reads on from a place.
pub(super) struct From {
    chunks: Chunks,
    at: u64,
}

impl Read for From {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let got = match &self.chunks {
            Chunks::File(file, _) => file.read_at(out, self.at)?,
            Chunks::Memory(bytes) => {
                let start = usize::try_from(self.at).unwrap_or(usize::MAX);
                bytes.get(start..).unwrap_or_default().read(out)?
            }
        };
        self.at += got as u64;
        Ok(got)
    }
}
