//! Reading a log from its end.

use super::entry::{self, Entry, Record};
use super::{Log, Right};
use crate::error::{Error, Skipped};
use crate::storage::{Storage, StorageError};
use std::collections::BTreeMap;
use std::sync::Arc;
use trainyard_core::manifest::JobIdentity;

/// Reads as little as possible: the entries from the last back to the newest commit, and the
/// older commits that it says are not cleaned.
pub(super) fn open(storage: Arc<dyn Storage>, identity: Option<JobIdentity>) -> Result<Log, Error> {
    let mut numbers: Vec<u64> = storage
        .list(entry::LOG)?
        .iter()
        .filter_map(|object| entry::parse_key(&object.key))
        .collect();
    numbers.sort_unstable();
    let mut reader = Reader {
        storage: &*storage,
        entries: BTreeMap::new(),
        damaged: Vec::new(),
    };
    for &number in numbers.iter().rev() {
        if let Some(retained) = reader.read(number)? {
            for number in retained {
                reader.read(number)?;
            }
            break;
        }
    }
    let Reader {
        entries, damaged, ..
    } = reader;
    let newest = entries
        .values()
        .next_back()
        .map(|entry| entry.identity.clone());
    let identity = match (identity, newest) {
        (Some(wanted), _) => wanted,
        (None, Some(found)) => found,
        (None, None) => return Err(damaged_or_none(&damaged)),
    };
    let next = numbers.last().map_or(0, |last| last + 1);
    let mut log = Log {
        storage,
        identity,
        live: BTreeMap::new(),
        damaged,
        claim: None,
        right: Right::Read,
        next,
    };
    for (number, entry) in entries {
        check_identity(&log, &entry)?;
        log.apply(number, entry);
    }
    Ok(log)
}

fn damaged_or_none(damaged: &[Skipped]) -> Error {
    match damaged.first() {
        Some(skipped) => Error::Corrupt {
            key: skipped.key.clone(),
            reason: skipped.reason.clone(),
        },
        None => Error::NoLog,
    }
}

/// Takes the text of an entry into a log; damage is noted, not refused.
pub(super) fn take(log: &mut Log, number: u64, key: &str, bytes: &[u8]) -> Result<(), Error> {
    if let Some(entry) = decode(key, bytes, &mut log.damaged)? {
        check_identity(log, &entry)?;
        log.apply(number, entry);
    }
    Ok(())
}

fn check_identity(log: &Log, entry: &Entry) -> Result<(), Error> {
    let differences = entry.identity.differences(&log.identity);
    match differences.is_empty() {
        true => Ok(()),
        false => Err(Error::OtherJob { differences }),
    }
}

fn decode(key: &str, bytes: &[u8], damaged: &mut Vec<Skipped>) -> Result<Option<Entry>, Error> {
    match Entry::decode(key, bytes) {
        Ok(entry) => Ok(Some(entry)),
        // A newer version's entry may say anything, so nothing may be decided without it.
        Err(error @ Error::UnsupportedFormat { .. }) => Err(error),
        Err(error) => {
            damaged.push(Skipped {
                key: key.to_owned(),
                step: None,
                reason: error.to_string(),
            });
            Ok(None)
        }
    }
}

struct Reader<'a> {
    storage: &'a dyn Storage,
    entries: BTreeMap<u64, Entry>,
    damaged: Vec<Skipped>,
}

impl Reader<'_> {
    /// Reads one entry; for a commit, the older ones that it names.
    fn read(&mut self, number: u64) -> Result<Option<Vec<u64>>, Error> {
        let key = entry::key(number);
        let bytes = match self.storage.get(&key, entry::LIMIT) {
            // Only by hand: the log never frees a number.
            Err(StorageError::NotFound { .. }) => return Ok(None),
            Err(error @ StorageError::TooLarge { .. }) => {
                let reason = error.to_string();
                self.damaged.push(Skipped {
                    key,
                    step: None,
                    reason,
                });
                return Ok(None);
            }
            result => result?,
        };
        let Some(entry) = decode(&key, &bytes, &mut self.damaged)? else {
            return Ok(None);
        };
        let retained = match &entry.record {
            Record::Commit { retained, .. } => Some(retained.clone()),
            _ => None,
        };
        self.entries.insert(number, entry);
        Ok(retained)
    }
}
