//! Reading a log from its end.

use super::entry::{self, Entry, Found, Record, fetch};
use super::history;
use super::{ATTEMPTS, Log, Right, contended};
use crate::error::{Error, Skipped};
use crate::storage::Storage;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use trainyard_core::manifest::JobIdentity;

/// What a listing of the log shows, in rising order.
pub(super) struct Listing {
    /// Numbers of entries.
    pub numbers: Vec<u64>,
    /// Numbers of the commits on which histories rest.
    pub bases: Vec<u64>,
}

impl Listing {
    pub fn of(storage: &dyn Storage) -> Result<Self, Error> {
        let objects = storage.list(entry::LOG)?;
        let all = |parse: fn(&str) -> Option<u64>| -> Vec<u64> {
            let mut all: Vec<u64> = objects.iter().filter_map(|o| parse(&o.key)).collect();
            all.sort_unstable();
            all
        };
        Ok(Listing {
            numbers: all(entry::parse_key),
            bases: all(history::parse_key),
        })
    }

    /// The number after all that were ever taken.
    fn next(&self) -> u64 {
        let last = self.numbers.last().max(self.bases.last());
        last.map_or(0, |last| last + 1)
    }
}

/// Reads as little as possible: the entries from the last back to the newest commit, and the
/// older commits that it says are not cleaned.
pub(super) fn open(storage: Arc<dyn Storage>, identity: Option<JobIdentity>) -> Result<Log, Error> {
    let mut before = None;
    for _ in 0..ATTEMPTS {
        let listing = Listing::of(&*storage)?;
        // What was gone without a newer commit in sight has no newer one: it is damaged, or deleted.
        let settled = before.as_ref() == Some(&listing.numbers);
        let mut tail = Tail {
            storage: &*storage,
            entries: BTreeMap::new(),
            damaged: Vec::new(),
        };
        if tail.read(&listing.numbers, settled)? {
            let Tail {
                entries, damaged, ..
            } = tail;
            return assemble(storage, identity, listing.next(), entries, damaged);
        }
        before = Some(listing.numbers);
    }
    Err(contended())
}

fn assemble(
    storage: Arc<dyn Storage>,
    identity: Option<JobIdentity>,
    next: u64,
    entries: BTreeMap<u64, Entry>,
    damaged: Vec<Skipped>,
) -> Result<Log, Error> {
    let newest = entries
        .values()
        .next_back()
        .map(|entry| entry.identity.clone());
    let identity = match (identity, newest) {
        (Some(wanted), _) => wanted,
        (None, Some(found)) => found,
        (None, None) => return Err(damaged_or_none(&damaged)),
    };
    let mut log = Log {
        storage,
        identity,
        live: BTreeMap::new(),
        damaged,
        claim: None,
        right: Right::Read,
        listed: next,
        next,
        compact_from: super::compact::FROM,
        retained: BTreeSet::new(),
        staying: BTreeSet::new(),
    };
    for (number, entry) in entries {
        log.check_identity(&entry.identity)?;
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

struct Tail<'a> {
    storage: &'a dyn Storage,
    entries: BTreeMap<u64, Entry>,
    damaged: Vec<Skipped>,
}

impl Tail<'_> {
    /// Reads back to the newest commit, and what it retains. `false` if an entry on the way is cleaned
    /// or gone: there is a newer commit then, put after the listing. That is no reason if all is
    /// `settled`; what is gone was removed then, by somebody else.
    fn read(&mut self, numbers: &[u64], settled: bool) -> Result<bool, Error> {
        let mut after = None;
        for &number in numbers.iter().rev() {
            if let Some(missing) = after.and_then(|after| gap(number, after)) {
                if !settled {
                    return Ok(false);
                }
                self.damaged.push(missing);
            }
            after = Some(number);
            let entry = self.fetch(number)?;
            let record = match &entry {
                Found::Sound(entry) => Some(&entry.record),
                Found::Damaged(_) | Found::Nothing => None,
            };
            let is_gone =
                matches!(entry, Found::Nothing) || matches!(record, Some(Record::Cleaned(_)));
            if is_gone && !settled {
                return Ok(false);
            }
            let retained = match record {
                // As they are listed, so that no number is read twice, or has no file.
                Some(Record::Commit { retained, .. }) => Some(retained.iter().copied().collect()),
                _ => None,
            };
            self.take(number, entry);
            if let Some(retained) = retained {
                return self.read_retained(&retained, number, numbers, settled);
            }
        }
        Ok(true)
    }

    /// Reads the commits among those that the commit `newest` has `retained`. One that is cleaned needs
    /// no reading. `false` if one is gone, as for [`Tail::read`].
    fn read_retained(
        &mut self,
        retained: &BTreeSet<u64>,
        newest: u64,
        numbers: &[u64],
        settled: bool,
    ) -> Result<bool, Error> {
        let older = &numbers[..numbers.partition_point(|number| *number < newest)];
        let gone = retained
            .iter()
            .find(|number| older.binary_search(number).is_err());
        if let Some(&gone) = gone {
            if !settled {
                return Ok(false);
            }
            self.damaged.push(missing(gone, gone));
        }
        for &number in older.iter().filter(|number| retained.contains(number)) {
            let entry = self.fetch(number)?;
            let other = |entry: &Entry| !matches!(entry.record, Record::Commit { .. });
            if !matches!(&entry, Found::Sound(entry) if other(entry)) {
                self.take(number, entry);
            }
        }
        Ok(true)
    }

    fn fetch(&self, number: u64) -> Result<Found<Entry>, Error> {
        fetch(self.storage, &entry::key(number), Entry::decode)
    }

    fn take(&mut self, number: u64, entry: Found<Entry>) {
        match entry {
            Found::Nothing => {}
            Found::Damaged(skipped) => self.damaged.push(skipped),
            Found::Sound(entry) => {
                self.entries.insert(number, entry);
            }
        }
    }
}

/// What is missing between two neighbours of a listing, above the newest commit. No number is freed there.
fn gap(number: u64, after: u64) -> Option<Skipped> {
    (number + 1 < after).then(|| missing(number + 1, after - 1))
}

/// That entries are missing which nobody who keeps to the rules has removed.
fn missing(first: u64, last: u64) -> Skipped {
    let key = entry::key(first);
    let reason = match first == last {
        true => format!("{key} is missing: it was removed from outside; restore it from a backup"),
        false => format!(
            "{key} to {} are missing: they were removed from outside; restore them from a backup",
            entry::key(last)
        ),
    };
    Skipped {
        key,
        step: None,
        reason,
    }
}
