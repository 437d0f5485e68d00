//! The commit log, which is also the fence between coordinators.
//!
//! Entries are the objects `log/000000000007.json`, numbered in order (a compaction leaves gaps) and
//! each put only if its number is free:
//! - a *claim*: from here on only this coordinator commits;
//! - a *commit*: the manifest of a checkpoint, and which older ones are not cleaned;
//! - *cleaned*: what replaces a commit whose shards were deleted.
//!
//! A coordinator claims the log before anything else, reads what came before its claim, and goes
//! on with the next numbers. An entry counts only if none of a higher generation has a lower
//! number, and if its number was free for the first time when it was put. It holds its number, so that a
//! file under another's name is known; and one that is missing where none is freed is told as damage.
//!
//! Cleaned entries do not stay for ever: a *compaction* puts what they tell, the digests of states
//! that are gone, into one object, `log/history-000000000070.json`, and deletes them. The number in its
//! name is its *base*: that of the newest commit, by whose writer it is put, only if it is free. All
//! that a compaction deletes has a number below its base, and neither the base nor a later commit
//! says of it that it is not cleaned. So a reader, who starts at the end of the log and goes by what
//! the newest commit says, needs no history and never looks at a number that was freed.
//!
//! # Why a paused old coordinator cannot commit
//! Let `old` be stopped anywhere, and `new` claim the log meanwhile, as the supervisor has it do
//! with a higher generation.
//! 1. *The number of a claim is never freed.* A commit may be replaced by `cleaned`, and only then be
//!    deleted; nothing else ever is. So once a claim has taken a number, put-if-absent fails on
//!    it for ever, however late it is tried.
//! 2. *A writer knows all numbers below the one that it takes*: it has read or written them, or a
//!    later entry by one who had. So when `old` takes a number after the claim of `new`,
//!    it has read that claim, and stops; and the claim of `new` comes after everything that `old`
//!    ever committed: `new` knows it all.
//! 3. *The claim takes the very number that `old` would take next.* If `old` is first, the claim
//!    fails, `new` reads the commit and claims the number after it. If `new` is first, the commit
//!    of `old` fails, and `old` finds the claim there: [`Error::Fenced`].
//! 4. *Unless `old` has taken that number itself*, by a commit whose answer was lost. Then the claim
//!    of `new` is right behind it, and the commit may be cleaned and its number freed before `old`
//!    tries it again. So `old` looks at the number behind its commit before it reports it as made.
//!
//! # Why a paused claim is not lost
//! A coordinator that claims the log does not hold it yet. Others may have committed at the number
//! that it is about to take, and have freed it. So once its claim is put, it lists the log again. If
//! there is a history whose base was not yet taken when it listed the log first, a compaction may have
//! freed numbers that it has read or taken since. Then it reads the log anew from its end, and claims
//! again unless its claim is there.
//! - A history is durable before the first number below its base is deleted, and is deleted only
//!   after one with a higher base is durable. So while a number is free that was once taken, there
//!   is a history with a base above it.
//! - No listing misses it: objects of an object store are listed by rising name, and where a later name
//!   is read later, the higher base is seen. A folder's listing promises less: to show what
//!   is there from its beginning to its end. That is why the history before the newest one is kept.
//!   It takes two compactions, each of 64 checkpoints, within a single listing to miss both.
//!
//! Nothing else in this rests on clocks, leases, or how long anyone is stopped. Two coordinators
//! of one generation are told apart by `holder`, and the later claim wins.
//!
//! # Why it cannot delete what the new one needs
//! 1. `old` chooses what to keep from the log up to its own newest commit: the newest `keep`, the
//!    best, the complete. `new` read the same log, so what it resumes from is kept by both; all
//!    that it commits later is unknown to `old`, whose choice is made among older entries.
//! 2. Shards that no entry names are deleted only if their generation is older than that of `old`,
//!    or is its own and their step is before its newest commit. Those of `new` have a newer
//!    generation in their key.
//! 3. The entry is replaced first, the shards are deleted after it, so a crash between leaves
//!    shards without an entry and never an entry without its shards.
//! 4. Entries are deleted only after they were read as cleaned. If `new` has compacted already, `old`
//!    may put `cleaned` where nothing is any more. It lies below the newest commit, where nobody reads,
//!    until the next compaction. A history of `old` has a lower base than that of `new`, and the next
//!    compaction takes its points over.
//!
//! One case is left to `keep`: if every kept checkpoint was damaged from outside, `new` may fall
//! back to one that `old` is just about to delete. And were both to run on for a while,
//! they would compute the same bits from the same checkpoint: nothing else could be written.

mod clean;
mod compact;
mod entry;
mod history;
mod import;
mod loadable;
mod read;

pub use clean::Cleaned;
pub use history::{History, HistoryPoint};
pub use loadable::{Check, Loadable};

use crate::error::{Error, Skipped};
use crate::storage::{Storage, StorageError};
use entry::{Entry, Found, Record, fetch};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use trainyard_core::manifest::{JobIdentity, Manifest};

/// How often a claim or commit moves to the next number before it gives up.
const ATTEMPTS: u32 = 10_000;

/// Who may write: the newest claim that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Number of its entry.
    pub number: u64,
    /// Generation of the coordinator.
    pub generation: u64,
    /// The coordinator, among all of its generation.
    pub holder: String,
}

/// What we may do with the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// Nobody asked for more.
    Read,
    /// The newest claim is ours, as far as we know.
    Write,
    /// It was ours.
    Lost,
}

/// The log of one job, as last read, and the right to write it once it is claimed.
pub struct Log {
    storage: Arc<dyn Storage>,
    identity: JobIdentity,
    /// Commits that count and are not cleaned, by number.
    live: BTreeMap<u64, Manifest>,
    /// Entries that cannot be read.
    damaged: Vec<Skipped>,
    /// The newest claim, whose generation is the highest.
    claim: Option<Claim>,
    right: Right,
    /// The number after all that the last listing showed.
    listed: u64,
    /// The first number that was free when the log was last read.
    next: u64,
    /// Cleaned entries that are worth a compaction.
    compact_from: usize,
    /// What the newest commit says was not cleaned when it was made.
    retained: BTreeSet<u64>,
    /// Numbers before the newest commit that are known to be neither live nor cleaned.
    staying: BTreeSet<u64>,
}

impl Log {
    /// Reads the log of a job; an empty storage has an empty log.
    ///
    /// # Errors
    /// [`Error::OtherJob`] if the storage belongs to another job.
    pub fn open(storage: Arc<dyn Storage>, identity: JobIdentity) -> Result<Self, Error> {
        read::open(storage, Some(identity))
    }

    /// Reads the log of whatever job the storage holds, as `inspect` and `export` do.
    ///
    /// # Errors
    /// [`Error::NoLog`] if there is none.
    pub fn open_any(storage: Arc<dyn Storage>) -> Result<Self, Error> {
        read::open(storage, None)
    }

    /// The job.
    pub fn identity(&self) -> &JobIdentity {
        &self.identity
    }

    /// The storage that holds log and shards.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// The newest claim.
    pub fn current_claim(&self) -> Option<&Claim> {
        self.claim.as_ref()
    }

    /// All commits that count and are not cleaned, oldest first.
    pub fn manifests(&self) -> impl DoubleEndedIterator<Item = &Manifest> {
        self.live.values()
    }

    /// The newest commit.
    pub fn latest(&self) -> Option<&Manifest> {
        self.live.values().next_back()
    }

    /// The newest commit that finished the job.
    pub fn complete(&self) -> Option<&Manifest> {
        self.live.values().rev().find(|manifest| manifest.complete)
    }

    /// Entries that cannot be read.
    pub fn damaged(&self) -> &[Skipped] {
        &self.damaged
    }

    /// Makes this the only log that can commit and clean.
    ///
    /// `holder` tells this coordinator from all others of its generation, and must be new for
    /// each process. What the log holds when this returns is final: nobody else can add to it.
    ///
    /// # Errors
    /// [`Error::Fenced`] if a higher generation has claimed the log. After an error of the
    /// storage the claim may or may not be made; it may be tried again.
    pub fn claim(&mut self, generation: u64, holder: &str) -> Result<(), Error> {
        self.right = Right::Read;
        for _ in 0..ATTEMPTS {
            // Everything up to the free number must be known before it is taken.
            while self.read_next()? {}
            let fence = self.claim.clone().filter(|c| c.generation > generation);
            // Ours, from an attempt whose answer was lost.
            let ours = |c: &Claim| c.generation == generation && c.holder == holder;
            if fence.is_none() && !self.claim.as_ref().is_some_and(ours) {
                let entry = self.entry(generation, holder, Record::Claim);
                if !self.put_next(&entry.encode(self.next)?)? {
                    continue;
                }
                self.apply(self.next, entry);
                self.next += 1;
            }
            if self.is_outdated()? {
                self.reread()?;
                continue;
            }
            return match fence {
                Some(claim) => Err(fenced(&claim)),
                None => self.take_over(),
            };
        }
        Err(contended())
    }

    /// Whether a compaction may have freed numbers since the log was listed, so that what was read or
    /// taken since then is not its end.
    fn is_outdated(&self) -> Result<bool, Error> {
        let listing = read::Listing::of(&*self.storage)?;
        Ok(listing
            .bases
            .last()
            .is_some_and(|base| *base >= self.listed))
    }

    /// Reads the log anew from its end.
    fn reread(&mut self) -> Result<(), Error> {
        let fresh = read::open(self.storage.clone(), Some(self.identity.clone()))?;
        let compact_from = self.compact_from;
        *self = Self {
            compact_from,
            ..fresh
        };
        Ok(())
    }

    /// Forgets what the last coordinator cleaned since the log was opened; then the log is ours.
    fn take_over(&mut self) -> Result<(), Error> {
        let numbers: Vec<u64> = self.live.keys().copied().collect();
        for number in numbers {
            let entry = self.entry_at(number)?;
            if !entry.is_some_and(|entry| matches!(entry.record, Record::Commit { .. })) {
                self.live.remove(&number);
            }
        }
        self.right = Right::Write;
        Ok(())
    }

    /// Commits a checkpoint whose shards are durable. It counts once this returns `Ok`.
    ///
    /// # Errors
    /// [`Error::Fenced`] if a newer coordinator has claimed the log, [`Error::Invalid`] for a
    /// manifest of another job or generation or with a gap. After `Fenced` or an error
    /// of the storage the commit may or may not be made; after the latter it may be tried again.
    pub fn commit(&mut self, manifest: Manifest) -> Result<(), Error> {
        let claim = self.held_claim()?.clone();
        self.check(&manifest, &claim)?;
        let record = Record::Commit {
            claim: claim.number,
            retained: self.live.keys().copied().collect(),
            manifest: Box::new(manifest),
        };
        let entry = self.entry(claim.generation, &claim.holder, record);
        for _ in 0..ATTEMPTS {
            let bytes = entry.encode(self.next)?;
            if self.put_next(&bytes)? || self.next_is(&bytes)? {
                // Was the number ours before, and a claim was put behind it, and it was freed?
                self.refuse_at(self.next + 1)?;
                self.apply(self.next, entry);
                self.next += 1;
                return Ok(());
            }
            self.pass_next()?;
        }
        Err(contended())
    }

    fn check(&self, manifest: &Manifest, claim: &Claim) -> Result<(), Error> {
        let differences = self.identity.differences(&manifest.identity);
        if !differences.is_empty() {
            return Err(Error::OtherJob { differences });
        }
        if manifest.generation != claim.generation {
            let (theirs, ours) = (manifest.generation, claim.generation);
            let reason = format!("it has generation {theirs}, the log is claimed for {ours}");
            return Err(Error::Invalid { reason });
        }
        Ok(manifest.check()?)
    }

    fn entry(&self, generation: u64, holder: &str, record: Record) -> Entry {
        Entry {
            number: None,
            identity: self.identity.clone(),
            generation,
            holder: holder.to_owned(),
            record,
        }
    }

    /// Our claim, or why there is none.
    fn held_claim(&self) -> Result<&Claim, Error> {
        match (&self.claim, self.right) {
            (Some(claim), Right::Write) => Ok(claim),
            (Some(claim), Right::Lost) => Err(fenced(claim)),
            _ => Err(Error::NotClaimed),
        }
    }

    /// Takes the next number; `false` if it is taken.
    fn put_next(&self, bytes: &[u8]) -> Result<bool, Error> {
        if self.next > entry::LAST {
            let reason = format!(
                "the log holds {}, after which there are no numbers: remove that file, which no job has put there",
                entry::key(entry::LAST)
            );
            return Err(Error::Invalid { reason });
        }
        match self.storage.put_if_absent(&entry::key(self.next), bytes) {
            Ok(()) => Ok(true),
            Err(StorageError::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the next number holds these very bytes: the answer to an earlier put was lost.
    fn next_is(&self, bytes: &[u8]) -> Result<bool, Error> {
        Ok(self.storage.get(&entry::key(self.next), entry::LIMIT)? == bytes)
    }

    /// Moves past the next number if what it holds does not count; if it does, we are fenced.
    fn pass_next(&mut self) -> Result<(), Error> {
        if self.refuse_at(self.next)? {
            self.next += 1;
        }
        Ok(())
    }

    /// Whether a number is taken; [`Error::Fenced`] if it is by one who shuts us out.
    fn refuse_at(&mut self, number: u64) -> Result<bool, Error> {
        let ours = self.held_claim()?.generation;
        let Some(found) = self.entry_at(number)? else {
            return Ok(false);
        };
        if found.generation >= ours {
            let claim = found.claim(number);
            let error = fenced(&claim);
            self.claim = Some(claim);
            self.right = Right::Lost;
            return Err(error);
        }
        Ok(true)
    }

    /// The entry of a number, if it is taken.
    fn entry_at(&self, number: u64) -> Result<Option<Entry>, Error> {
        let key = entry::key(number);
        match self.storage.get(&key, entry::LIMIT) {
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
            Ok(bytes) => Entry::decode(&key, &bytes).map(Some),
        }
    }

    /// Takes in the entry of the next number, if it is taken; damage is noted, not refused.
    fn read_next(&mut self) -> Result<bool, Error> {
        match fetch(&*self.storage, &entry::key(self.next), Entry::decode)? {
            Found::Nothing => return Ok(false),
            Found::Damaged(skipped) => self.damaged.push(skipped),
            Found::Sound(entry) => {
                self.check_identity(&entry.identity)?;
                self.apply(self.next, entry);
            }
        }
        self.next += 1;
        Ok(true)
    }

    fn check_identity(&self, found: &JobIdentity) -> Result<(), Error> {
        let differences = found.differences(&self.identity);
        match differences.is_empty() {
            true => Ok(()),
            false => Err(Error::OtherJob { differences }),
        }
    }

    /// Takes in an entry if it counts: none of a higher generation comes before it.
    fn apply(&mut self, number: u64, entry: Entry) {
        let highest = self.claim.as_ref().map_or(0, |claim| claim.generation);
        if entry.generation < highest {
            return;
        }
        if !matches!(entry.record, Record::Cleaned(_)) {
            self.claim = Some(entry.claim(number));
        }
        if let Record::Commit {
            retained, manifest, ..
        } = entry.record
        {
            self.retained = retained.into_iter().collect();
            self.live.insert(number, *manifest);
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("identity", &self.identity)
            .field("commits", &self.live.keys())
            .field("claim", &self.claim)
            .field("right", &self.right)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

fn contended() -> Error {
    let reason = "other coordinators keep writing the log; run only one".to_owned();
    Error::Invalid { reason }
}

fn fenced(claim: &Claim) -> Error {
    Error::Fenced {
        by: claim.generation,
        holder: claim.holder.clone(),
    }
}
