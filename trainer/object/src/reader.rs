//! An object as a stream of bytes.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::runtime::Runtime;

use crate::address::Address;
use crate::error::Error;

/// Reads an object from its beginning. What breaks on the way is fetched again from there.
pub struct Reader {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) stream: BoxStream<'static, object_store::Result<Bytes>>,
    pub(crate) place: Address,
    pub(crate) endpoint: String,
    pub(crate) piece: Bytes,
}

impl Reader {
    /// The next piece, of any size; none at the end.
    ///
    /// # Errors
    /// If the store fails.
    pub fn next_piece(&mut self) -> Result<Option<Bytes>, Error> {
        let piece = self.runtime.block_on(self.stream.next());
        piece
            .transpose()
            .map_err(|error| Error::explain(&error, &self.place, &self.endpoint))
    }
}

impl io::Read for Reader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.next_piece()? {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let taken = self.piece.split_to(out.len().min(self.piece.len()));
        out[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
