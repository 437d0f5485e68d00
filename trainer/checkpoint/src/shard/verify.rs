//! Reading a shard with all its checks, in one pass and a bounded buffer.

use super::header::{self, About};
use super::write::parse_key;
use crate::digest::Sha256Hex;
use crate::error::Error;
use crate::storage::{Storage, StorageError};
use std::ops::ControlFlow;
use trainyard_core::manifest::ShardRecord;

/// Reads a shard whole and checks size, digest and metadata against its record.
///
/// # Errors
/// [`Error::MissingShard`], [`Error::Corrupt`], or what the storage reports.
pub fn verify_shard(storage: &dyn Storage, record: &ShardRecord) -> Result<(), Error> {
    read_verified(storage, record, &mut |_, _| {})
}

/// Verifies a shard and feeds `sink` with its tensors' bytes on the way: offset from the first
/// tensor's first byte, and bytes. What was fed is void if this fails.
pub(super) fn read_verified(
    storage: &dyn Storage,
    record: &ShardRecord,
    sink: &mut dyn FnMut(u64, &[u8]),
) -> Result<(), Error> {
    let mut reader = Reader {
        record,
        digest: Sha256Hex::new(),
        read: 0,
        header: Vec::new(),
        header_end: None,
        sink,
    };
    let mut refused = None;
    let result = storage.read(&record.key, &mut |piece| match reader.feed(piece) {
        Ok(()) => ControlFlow::Continue(()),
        Err(reason) => {
            refused = Some(reason);
            ControlFlow::Break(())
        }
    });
    match result {
        Err(StorageError::NotFound { .. }) => {
            let key = record.key.clone();
            return Err(Error::MissingShard { key });
        }
        result => result?,
    }
    let checked = refused.map_or_else(|| reader.finish(), Err);
    checked.map_err(|reason| Error::Corrupt {
        key: record.key.clone(),
        reason,
    })
}

struct Reader<'a> {
    record: &'a ShardRecord,
    digest: Sha256Hex,
    read: u64,
    /// Length and JSON, as far as they have come.
    header: Vec<u8>,
    /// Where the tensors begin, once it is known.
    header_end: Option<usize>,
    sink: &'a mut dyn FnMut(u64, &[u8]),
}

impl Reader<'_> {
    fn feed(&mut self, piece: &[u8]) -> Result<(), String> {
        let offset = self.read;
        self.read += piece.len() as u64;
        if self.read > self.record.bytes {
            let bytes = self.record.bytes;
            return Err(format!("it is longer than the {bytes} bytes written"));
        }
        self.digest.update(piece);
        let tensors = self.feed_header(piece)?;
        if tensors < piece.len() {
            let header_end = self.header.len() as u64;
            let begin = (offset + tensors as u64).saturating_sub(header_end);
            (self.sink)(begin, &piece[tensors..]);
        }
        Ok(())
    }

    /// Takes what belongs to the header from the front of `piece`, and says how much.
    fn feed_header(&mut self, piece: &[u8]) -> Result<usize, String> {
        let mut taken = 0;
        if self.header_end.is_none() {
            taken = piece.len().min(8 - self.header.len());
            self.header.extend_from_slice(&piece[..taken]);
            let Ok(length) = <[u8; 8]>::try_from(self.header.as_slice()) else {
                return Ok(taken);
            };
            let length = usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX);
            if length > header::LIMIT {
                return Err("its header is too large".to_owned());
            }
            self.header_end = Some(8 + length);
        }
        let missing = self.header_end.unwrap_or(0) - self.header.len();
        let more = missing.min(piece.len() - taken);
        self.header.extend_from_slice(&piece[taken..taken + more]);
        Ok(taken + more)
    }

    fn finish(self) -> Result<(), String> {
        let record = self.record;
        if self.read < record.bytes {
            let (read, bytes) = (self.read, record.bytes);
            return Err(format!("it has {read} of the {bytes} bytes written"));
        }
        let digest = self.digest.finish();
        if digest != record.sha256 {
            let written = &record.sha256;
            return Err(format!("its SHA-256 is {digest}, {written} was written"));
        }
        if self.header_end != Some(self.header.len()) {
            return Err("it ends within its header".to_owned());
        }
        let (about, tensors) = header::decode(&self.header[8..], &record.slots)?;
        let found = self.read - self.header.len() as u64;
        if found != tensors {
            return Err(format!(
                "it has {found} bytes of tensors, and its header gives them {tensors}"
            ));
        }
        check_about(&about, record)
    }
}

/// Catches a good file under a wrong name.
fn check_about(about: &About, record: &ShardRecord) -> Result<(), String> {
    if (about.start, about.end) != (record.start, record.end) {
        let About { start, end, .. } = about;
        return Err(format!("it holds floats {start}..{end}"));
    }
    if parse_key(&record.key) != Some((about.step, about.generation)) {
        let About {
            step, generation, ..
        } = about;
        return Err(format!(
            "it was written for step {step} of generation {generation}"
        ));
    }
    Ok(())
}
