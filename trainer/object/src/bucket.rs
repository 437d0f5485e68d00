//! A bucket, for plain threads.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::address::Address;
use crate::connection::{Connection, Patience, client};
use crate::error::{Error, Kind, is_conflict};
use crate::reader::Reader;

/// Bytes of an object from which on it is uploaded in parts of this size. S3 wants at least 5 MiB.
const PART: usize = 8 << 20;
/// The most parts that S3 allows.
const PARTS: usize = 10_000;
/// Parts under way at once; as many are copied.
const IN_FLIGHT: usize = 4;
/// How often a conditional write is tried that met another one on its way.
const CONFLICTS: u32 = 10;

/// A bucket of a store. Its operations wait; any number of threads may call them at once, none of
/// which may be a thread of an asynchronous runtime.
#[derive(Clone, Debug)]
pub struct Bucket {
    runtime: Arc<Runtime>,
    store: AmazonS3,
    name: String,
    endpoint: String,
}

impl Bucket {
    /// A client of the bucket; nothing is sent yet.
    ///
    /// # Errors
    /// If the settings contradict each other.
    pub fn new(name: &str, connection: &Connection, patience: Patience) -> Result<Self, Error> {
        let place = Address {
            bucket: name.to_owned(),
            key: String::new(),
        };
        let failed = |problem: String| {
            let remedy = "check the endpoint and the variables AWS_*";
            Error::new(Kind::Other, &place, problem, remedy)
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("object-store")
            .enable_all()
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let (store, endpoint) =
            client(name, connection, patience).map_err(|error| failed(error.to_string()))?;
        Ok(Bucket {
            runtime: Arc::new(runtime),
            store,
            name: name.to_owned(),
            endpoint,
        })
    }

    /// The URL of the store.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn place(&self, key: &str) -> Address {
        Address {
            bucket: self.name.clone(),
            key: key.to_owned(),
        }
    }

    fn path(&self, key: &str) -> Result<Path, Error> {
        Path::parse(key).map_err(|error| {
            let remedy = "use a key without empty parts, '.' and '..'";
            Error::new(Kind::Other, &self.place(key), error.to_string(), remedy)
        })
    }

    fn explain(&self, key: &str) -> impl Fn(object_store::Error) -> Error {
        move |error| Error::explain(&error, &self.place(key), &self.endpoint)
    }

    /// Stores the concatenation of `parts`, replacing what was there, whole or not at all.
    ///
    /// A large object is sent in parts of some MiB, and no more than a few of these are copied at once.
    ///
    /// # Errors
    /// If the store fails.
    pub fn put(&self, key: &str, parts: &[&[u8]]) -> Result<(), Error> {
        let path = self.path(key)?;
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let stored = self.runtime.block_on(async {
            if total <= PART {
                let payload = PutPayload::from(parts.concat());
                return self.store.put(&path, payload).await.map(drop);
            }
            let mut upload = self.store.put_multipart(&path).await?;
            let size = PART.max(total.div_ceil(PARTS));
            let sent = send(&mut upload, Pieces::new(parts, size)).await;
            if sent.is_err() {
                // Best effort: what is left of it costs space until the bucket's rules remove it.
                let _ = upload.abort().await;
            }
            sent
        });
        stored.map_err(self.explain(key))
    }

    /// Stores `bytes` unless the key exists.
    ///
    /// # Errors
    /// [`Kind::AlreadyExists`] if it does. After any other error the object may or may not be there.
    pub fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path(key)?;
        let payload = PutPayload::from(bytes.to_vec());
        let create = || PutOptions::from(PutMode::Create);
        let stored = self.runtime.block_on(async {
            let mut attempt = 0;
            loop {
                attempt += 1;
                let stored = self.store.put_opts(&path, payload.clone(), create()).await;
                // Two writes met, and neither is told to have won: AWS asks to try again.
                match stored {
                    Err(error) if attempt < CONFLICTS && is_conflict(&error) => {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    stored => return stored,
                }
            }
        });
        stored.map(drop).map_err(self.explain(key))
    }

    /// Opens an object for reading.
    ///
    /// # Errors
    /// If it is not there, or the store fails.
    pub fn read(&self, key: &str) -> Result<Reader, Error> {
        let path = self.path(key)?;
        let found = self.runtime.block_on(self.store.get(&path));
        Ok(Reader {
            runtime: Arc::clone(&self.runtime),
            stream: found.map_err(self.explain(key))?.into_stream(),
            place: self.place(key),
            endpoint: self.endpoint.clone(),
            piece: Bytes::new(),
        })
    }

    /// All objects below a folder, which is a prefix that ends before a slash, as keys and sizes.
    ///
    /// # Errors
    /// If the store fails.
    pub fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, Error> {
        let path = self.path(folder)?;
        let prefix = (!folder.is_empty()).then_some(&path);
        let listed = self.store.list(prefix).try_collect::<Vec<_>>();
        let listed = self.runtime.block_on(listed);
        let objects = listed.map_err(self.explain(folder))?.into_iter();
        Ok(objects
            .map(|object| (object.location.into(), object.size))
            .collect())
    }

    /// Deletes an object; deleting what is not there is no error.
    ///
    /// # Errors
    /// If the store fails.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        let path = self.path(key)?;
        match self.runtime.block_on(self.store.delete(&path)) {
            Ok(()) => Ok(()),
            Err(error) => match self.explain(key)(error) {
                error if error.kind == Kind::NotFound => Ok(()),
                error => Err(error),
            },
        }
    }
}

/// Sends the pieces of a large object, a few at a time.
async fn send(
    upload: &mut Box<dyn MultipartUpload>,
    pieces: Pieces<'_>,
) -> object_store::Result<()> {
    let mut under_way = JoinSet::new();
    for piece in pieces {
        if under_way.len() >= IN_FLIGHT
            && let Some(sent) = under_way.join_next().await
        {
            sent??;
        }
        under_way.spawn(upload.put_part(piece.into()));
    }
    while let Some(sent) = under_way.join_next().await {
        sent??;
    }
    upload.complete().await.map(drop)
}

/// Slices, one after the other, cut into copies of one size.
struct Pieces<'a> {
    parts: std::slice::Iter<'a, &'a [u8]>,
    rest: &'a [u8],
    size: usize,
}

impl<'a> Pieces<'a> {
    fn new(parts: &'a [&'a [u8]], size: usize) -> Self {
        Pieces {
            parts: parts.iter(),
            rest: &[],
            size,
        }
    }
}

impl Iterator for Pieces<'_> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut piece = Vec::new();
        while piece.len() < self.size {
            if self.rest.is_empty() {
                match self.parts.next() {
                    Some(part) => self.rest = part,
                    None => break,
                }
            }
            let (here, rest) = self
                .rest
                .split_at(self.rest.len().min(self.size - piece.len()));
            piece.reserve_exact(self.size - piece.len());
            piece.extend_from_slice(here);
            self.rest = rest;
        }
        (!piece.is_empty()).then(|| piece.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_one_size_but_for_the_last() {
        let parts: [&[u8]; 4] = [b"abc", b"", b"d", b"efghij"];
        let pieces: Vec<Bytes> = Pieces::new(&parts, 4).collect();
        assert_eq!(pieces, ["abcd", "efgh", "ij"]);
        assert_eq!(Pieces::new(&[], 4).count(), 0);
    }
}
