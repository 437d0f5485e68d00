//! Entries of the log, and their text.

use super::Claim;
use super::history::HistoryPoint;
use crate::digest::sha256_hex;
use crate::error::{Error, Skipped};
use crate::storage::{Storage, StorageError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use trainyard_core::manifest::{JobIdentity, Manifest};

/// Folder of the log.
pub(super) const LOG: &str = "log/";
/// The format written, and the newest that is read. It counts all that an older version cannot decode:
/// also a new kind of column in the data schema, or a shard that is encrypted.
const FORMAT: u64 = 1;
/// Largest entry read, in bytes. A manifest has tens of kilobytes.
pub(super) const LIMIT: u64 = 64 << 20;

/// One entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    /// Its number, which is that of its key: a file that was put under another name is no entry. Those
    /// that older versions wrote do not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    pub identity: JobIdentity,
    /// Generation of the writer.
    pub generation: u64,
    /// The writer, among all of its generation.
    pub holder: String,
    pub record: Record,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Record {
    /// From here on only this writer commits.
    Claim,
    Commit {
        /// Number of the writer's claim, which a reader of the newest commit need not look for.
        claim: u64,
        /// Numbers of the commits before this one that were not cleaned when it was written.
        retained: Vec<u64>,
        manifest: Box<Manifest>,
    },
    /// What remains of a commit whose shards were deleted. A compaction may free its number.
    Cleaned(HistoryPoint),
}

/// What is stored. The digest is over the very text of `entry`.
#[derive(Serialize)]
struct Envelope<'a> {
    format: u64,
    sha256: &'a str,
    entry: &'a RawValue,
}

#[derive(Deserialize)]
struct Format {
    format: u64,
}

#[derive(Deserialize)]
struct Sealed<'a> {
    sha256: String,
    #[serde(borrow)]
    entry: &'a RawValue,
}

/// Key of the entry of a number.
pub(super) fn key(number: u64) -> String {
    format!("{LOG}{number:012}.json")
}

/// The last number that an entry or a history can have: more digits would not be sorted.
pub(super) const LAST: u64 = 999_999_999_999;

/// The last generation that an entry is believed to have. Those of processes have 32 bits, and a job that
/// lost a server every second would need sixty years for these.
const GENERATIONS: u64 = 1 << 31;

/// Number of the entry under a key.
pub(super) fn parse_key(key: &str) -> Option<u64> {
    let digits = key.strip_prefix(LOG)?.strip_suffix(".json")?;
    parse_number(digits)
}

/// A number as keys have it.
pub(super) fn parse_number(digits: &str) -> Option<u64> {
    let number = digits.parse().ok()?;
    (number <= LAST && digits == format!("{number:012}")).then_some(number)
}

impl Entry {
    /// The claim that the entry makes or rests on, given its own number.
    pub fn claim(&self, number: u64) -> Claim {
        let number = match self.record {
            Record::Commit { claim, .. } => claim,
            Record::Claim | Record::Cleaned(_) => number,
        };
        Claim {
            number,
            generation: self.generation,
            holder: self.holder.clone(),
        }
    }

    /// The text of the entry with this number.
    pub fn encode(&self, number: u64) -> Result<Vec<u8>, Error> {
        seal(&Entry {
            number: Some(number),
            ..self.clone()
        })
    }

    pub fn decode(key: &str, bytes: &[u8]) -> Result<Self, Error> {
        let entry: Self = unseal(key, bytes)?;
        match entry.problem(key) {
            None => Ok(entry),
            Some(reason) => Err(Error::Corrupt {
                key: key.to_owned(),
                reason,
            }),
        }
    }

    /// Why nobody can have put this under this key.
    fn problem(&self, key: &str) -> Option<String> {
        let number = parse_key(key)?;
        if self.number.is_some_and(|own| own != number) {
            let own = self.number.unwrap_or_default();
            return Some(format!("it is entry {own}, under another name"));
        }
        if self.generation > GENERATIONS {
            let generation = self.generation;
            return Some(format!("no job comes to generation {generation}"));
        }
        match &self.record {
            Record::Claim | Record::Cleaned(_) => None,
            Record::Commit { claim, .. } if *claim >= number => {
                Some(format!("it rests on claim {claim}, which comes after it"))
            }
            Record::Commit { manifest, .. } => manifest.check().err().map(|e| e.to_string()),
        }
    }
}

/// The text of an object of the log, with its format and digest.
pub(super) fn seal<T: Serialize>(entry: &T) -> Result<Vec<u8>, Error> {
    let invalid = |e: serde_json::Error| Error::Invalid {
        reason: e.to_string(),
    };
    let entry = serde_json::value::to_raw_value(entry).map_err(invalid)?;
    let sha256 = sha256_hex(entry.get().as_bytes());
    let envelope = Envelope {
        format: FORMAT,
        sha256: &sha256,
        entry: &entry,
    };
    let bytes = serde_json::to_vec(&envelope).map_err(invalid)?;
    if bytes.len() as u64 > LIMIT {
        let reason = format!(
            "its manifest has {} bytes, {LIMIT} are allowed",
            bytes.len()
        );
        return Err(Error::Invalid { reason });
    }
    Ok(bytes)
}

/// What [`seal`] was given, if nothing has changed since.
pub(super) fn unseal<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, Error> {
    let corrupt = |reason: String| Error::Corrupt {
        key: key.to_owned(),
        reason,
    };
    let json = |e: serde_json::Error| corrupt(e.to_string());
    let Format { format } = serde_json::from_slice(bytes).map_err(json)?;
    if format > FORMAT {
        return Err(Error::UnsupportedFormat {
            key: key.to_owned(),
            format,
            supported: FORMAT,
        });
    }
    if format == 0 {
        return Err(corrupt("there is no format 0".to_owned()));
    }
    let sealed: Sealed<'_> = serde_json::from_slice(bytes).map_err(json)?;
    if sha256_hex(sealed.entry.get().as_bytes()) != sealed.sha256 {
        return Err(corrupt("its digest does not match its text".to_owned()));
    }
    serde_json::from_str(sealed.entry.get()).map_err(json)
}

/// What is under a key of the log.
pub(super) enum Found<T> {
    Nothing,
    Damaged(Skipped),
    Sound(T),
}

/// Reads an object of the log.
///
/// # Errors
/// What the storage reports, and [`Error::UnsupportedFormat`]: what a newer version wrote may say
/// anything, so nothing may be decided without it.
pub(super) fn fetch<T>(
    storage: &dyn Storage,
    key: &str,
    decode: impl FnOnce(&str, &[u8]) -> Result<T, Error>,
) -> Result<Found<T>, Error> {
    let decoded = match storage.get(key, LIMIT) {
        Err(StorageError::NotFound { .. }) => return Ok(Found::Nothing),
        Err(error @ StorageError::TooLarge { .. }) => Err(error.into()),
        result => decode(key, &result?),
    };
    match decoded {
        Ok(sound) => Ok(Found::Sound(sound)),
        Err(error @ Error::UnsupportedFormat { .. }) => Err(error),
        Err(error) => Ok(Found::Damaged(Skipped {
            key: key.to_owned(),
            step: None,
            reason: error.to_string(),
        })),
    }
}
