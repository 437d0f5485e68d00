//! Keeping the log short: what is left of cleaned checkpoints goes into one object.

use super::Log;
use super::entry::{self, Entry, Found, Record, fetch};
use super::history::{self, HistoryPoint, Points, Stored, thin};
use super::read::Listing;
use crate::error::Error;
use crate::storage::StorageError;

/// Cleaned entries that are worth a compaction.
pub(super) const FROM: usize = 64;
/// The most entries that one compaction reads. A log that grew before there were compactions becomes short
/// over several checkpoints, none of which waits long.
const BATCH: usize = 256;

impl Log {
    /// Sets how many cleaned entries [`clean`](Log::clean) leaves in the log before it puts
    /// them into the history. Jobs have 64; a test that wants to see it often sets fewer.
    pub fn compact_from(&mut self, entries: usize) {
        self.compact_from = entries;
    }

    /// Puts entries that were cleaned before our `newest` commit was made into the history and deletes
    /// them, if they are enough. Gives their number.
    ///
    /// The new history is durable before the first of them is deleted, and holds what it is made
    /// of, so this may be interrupted anywhere: what is left is taken in by the next one.
    pub(super) fn compact(&mut self, newest: u64) -> Result<usize, Error> {
        let listing = Listing::of(&*self.storage)?;
        if listing.bases.contains(&newest) {
            // An attempt that was interrupted, or all that there was then. What came since is for the next.
            return Ok(0);
        }
        let cleaned = self.cleaned_before(newest, &listing)?;
        if cleaned.len() < self.compact_from {
            return Ok(0);
        }
        let mut points = Points::default();
        // A damaged history is lost. The one before it is still there, and lacks one compaction.
        if !self.add_stored(&listing, &mut points, &mut Vec::new())? {
            // Only a newer coordinator deletes one, and may have kept it nowhere but in its own.
            return self.check_fence().map(|()| 0);
        }
        cleaned.iter().for_each(|(_, point)| points.add(*point));
        let mut points = points.into_vec();
        thin(&mut points);
        let stored = Stored {
            identity: self.identity.clone(),
            points,
        };
        self.check_fence()?;
        let put = self
            .storage
            .put_if_absent(&history::key(newest), &entry::seal(&stored)?);
        match put {
            Err(StorageError::AlreadyExists { .. }) => return Ok(0),
            result => result?,
        }
        self.check_fence()?;
        for (number, _) in &cleaned {
            self.storage.delete(&entry::key(*number))?;
        }
        // The newest of the older histories stays until there are two newer ones: whoever makes a
        // listing right now would otherwise have to see the one that has just been put.
        for &base in listing.bases.iter().rev().skip(1) {
            self.storage.delete(&history::key(base))?;
        }
        Ok(cleaned.len())
    }

    /// The oldest entries that were cleaned before our newest commit was made; none without reading
    /// if there cannot be enough. Those that it names as not cleaned are for the next one: nobody
    /// who goes by this commit may come to a number that was freed, and perhaps taken by a stray.
    fn cleaned_before(
        &mut self,
        newest: u64,
        listing: &Listing,
    ) -> Result<Vec<(u64, HistoryPoint)>, Error> {
        let open = |number: &u64| {
            let known = [&self.retained, &self.staying];
            *number < newest
                && !self.live.contains_key(number)
                && !known.iter().any(|set| set.contains(number))
        };
        let candidates: Vec<u64> = listing.numbers.iter().copied().filter(open).collect();
        let mut cleaned = Vec::new();
        if candidates.len() < self.compact_from {
            return Ok(cleaned);
        }
        let most = BATCH.max(self.compact_from);
        for number in candidates.into_iter().take(most) {
            match fetch(&*self.storage, &entry::key(number), Entry::decode)? {
                Found::Sound(Entry {
                    record: Record::Cleaned(point),
                    ..
                }) => cleaned.push((number, point)),
                Found::Nothing => {}
                // A claim, or what does not count: its number is never freed.
                Found::Sound(_) | Found::Damaged(_) => {
                    self.staying.insert(number);
                }
            }
        }
        Ok(cleaned)
    }
}
