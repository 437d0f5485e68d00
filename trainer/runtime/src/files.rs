//! Where a job's data come from: files of a folder, and objects of a store.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::PathBuf;

use parking_lot::Mutex;
use trainyard_data::{DataError, ErrorKind, Files, Folder, Opened, Pattern, too_many};
use trainyard_object::{Address, Bucket, Connection, Patience};

use crate::exit::{BadInput, TryAgain};

/// Paths in a folder, and `s3://` in a store.
#[derive(Debug)]
pub struct Sources {
    folder: Folder,
    connection: Connection,
    /// Clients of the buckets so far: many files may lie in one.
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl Sources {
    /// Relative paths resolve in `folder`, buckets in the store of `connection`.
    pub fn new(folder: impl Into<PathBuf>, connection: Connection) -> Self {
        Sources {
            folder: Folder::new(folder),
            connection,
            buckets: Mutex::default(),
        }
    }

    fn bucket(&self, name: &str) -> io::Result<Bucket> {
        let mut buckets = self.buckets.lock();
        if let Some(bucket) = buckets.get(name) {
            return Ok(bucket.clone());
        }
        let bucket = Bucket::new(name, &self.connection, Patience::Short)?;
        buckets.insert(name.to_owned(), bucket.clone());
        Ok(bucket)
    }
}

impl Files for Sources {
    fn open(&self, uri: &str) -> io::Result<Box<dyn Read + Send>> {
        if !Address::is_meant(uri) {
            return self.folder.open(uri);
        }
        let refused = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
        let address: Address = uri.parse().map_err(refused)?;
        let bucket = self.bucket(&address.bucket)?;
        Ok(Box::new(bucket.read(&address.key)?))
    }

    fn open_anywhere(&self, uri: &str) -> io::Result<Opened> {
        match Address::is_meant(uri) {
            true => self.open(uri).map(Opened::Stream),
            false => self.folder.open_anywhere(uri),
        }
    }

    fn list(&self, pattern: &Pattern) -> io::Result<Vec<String>> {
        if !Address::is_meant(pattern.uri()) {
            return self.folder.list(pattern);
        }
        let refused = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
        let folder: Address = pattern.folder().parse().map_err(refused)?;
        let bucket = self.bucket(&folder.bucket)?;
        let uri = |key: String| format!("s3://{}/{key}", folder.bucket);
        let objects = bucket.list(&folder.key)?.into_iter();
        let uris = objects.map(|(key, _)| uri(key));
        let mut uris: Vec<String> = uris.filter(|uri| pattern.matches(uri)).collect();
        if uris.len() > Pattern::MOST {
            return Err(too_many());
        }
        uris.sort_unstable();
        Ok(uris)
    }
}

/// A file or an object that cannot be opened, marked by who can mend it: a store may be back in a while.
pub fn unopened(uri: &str, error: io::Error) -> anyhow::Error {
    let message = format!("{uri}: cannot open it: {error}");
    let passing = error.kind() != io::ErrorKind::InvalidInput && Address::is_meant(uri);
    match passing {
        true => TryAgain(message).into(),
        false => BadInput(message).into(),
    }
}

/// An error of the data, marked by who can mend it: a store may be back in a while.
pub fn failed(error: DataError) -> anyhow::Error {
    let passing = error.kind == ErrorKind::Io && Address::is_meant(&error.file);
    match passing {
        true => TryAgain(error.to_string()).into(),
        false => BadInput(error.to_string()).into(),
    }
}
