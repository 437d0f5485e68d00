//! Where a job's data come from: files of a folder, and objects of a store.

use std::io::{self, Read};
use std::path::PathBuf;

use trainyard_data::{DataError, ErrorKind, Files, Folder};
use trainyard_object::{Address, Bucket, Connection, Patience};

use crate::exit::{BadInput, TryAgain};

/// Paths in a folder, and `s3://` in a store.
#[derive(Clone, Debug)]
pub struct Sources {
    folder: Folder,
    connection: Connection,
}

impl Sources {
    /// Relative paths resolve in `folder`, buckets in the store of `connection`.
    pub fn new(folder: impl Into<PathBuf>, connection: Connection) -> Self {
        Sources {
            folder: Folder::new(folder),
            connection,
        }
    }
}

impl Files for Sources {
    fn open(&self, uri: &str) -> io::Result<Box<dyn Read + Send>> {
        if !Address::is_meant(uri) {
            return self.folder.open(uri);
        }
        let refused = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
        let address: Address = uri.parse().map_err(refused)?;
        let bucket = Bucket::new(&address.bucket, &self.connection, Patience::Short)?;
        Ok(Box::new(bucket.read(&address.key)?))
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
