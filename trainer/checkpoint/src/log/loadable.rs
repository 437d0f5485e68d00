//! Finding a checkpoint that can be loaded.

use super::{Log, entry, fenced};
use crate::error::{Error, Skipped};
use crate::shard::{StoredSizes, verify_shard};
use trainyard_core::manifest::Manifest;

/// How closely [`Log::newest_loadable`] looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Every shard is there and has the right size: one listing.
    Sizes,
    /// Every shard's bytes have the right digest: everything is read.
    Digests,
}

/// The checkpoint to resume from.
#[derive(Debug)]
pub struct Loadable<'a> {
    /// The checkpoint.
    pub manifest: &'a Manifest,
    /// Newer ones that were passed over, newest first: worth a warning.
    pub skipped: Vec<Skipped>,
}

impl Log {
    /// The newest commit whose shards are all there; `None` if nothing was ever committed.
    ///
    /// # Errors
    /// [`Error::NothingLoadable`] with all reasons if there are commits and none will do;
    /// [`Error::Fenced`] if that is so because a newer coordinator has taken over.
    pub fn newest_loadable(&self, check: Check) -> Result<Option<Loadable<'_>>, Error> {
        // Unreadable entries are newer than any commit that could be read in their place, or were
        // named by it; either way the user should know.
        let mut skipped = self.damaged.clone();
        for (&number, manifest) in self.live.iter().rev() {
            match self.fault(manifest, check)? {
                None => return Ok(Some(Loadable { manifest, skipped })),
                Some(reason) => skipped.push(Skipped {
                    key: entry::key(number),
                    step: Some(manifest.step),
                    reason,
                }),
            }
        }
        if skipped.is_empty() {
            return Ok(None);
        }
        // A newer coordinator may have cleaned what we knew.
        self.refuse_if_fenced()?;
        Err(Error::NothingLoadable { skipped })
    }

    /// The job's result, or the [newest loadable](Log::newest_loadable) checkpoint of a job that is not
    /// complete. A damaged result is for who loads it to find: an older checkpoint is another model.
    ///
    /// # Errors
    /// As [`Log::newest_loadable`].
    pub fn result_or_newest(&self, check: Check) -> Result<Option<Loadable<'_>>, Error> {
        match self.complete() {
            Some(manifest) => Ok(Some(Loadable {
                manifest,
                skipped: Vec::new(),
            })),
            None => self.newest_loadable(check),
        }
    }

    fn refuse_if_fenced(&self) -> Result<(), Error> {
        let Ok(ours) = self.held_claim() else {
            return Ok(());
        };
        match self.entry_at(self.next)? {
            Some(entry) if entry.generation >= ours.generation => {
                Err(fenced(&entry.claim(self.next)))
            }
            _ => Ok(()),
        }
    }

    /// What keeps a checkpoint from being loaded, if anything.
    fn fault(&self, manifest: &Manifest, check: Check) -> Result<Option<String>, Error> {
        let mut sizes = StoredSizes::new(&*self.storage);
        for shard in &manifest.shards {
            let key = &shard.key;
            let (step, bytes) = (manifest.step, shard.bytes);
            let fault = match sizes.of(key)? {
                None => Some(format!("shard {key} of step {step} is missing")),
                Some(found) if found != bytes => Some(format!(
                    "shard {key} of step {step} has {found} of {bytes} bytes"
                )),
                Some(_) if check == Check::Digests => {
                    match verify_shard(&*self.storage, shard) {
                        Ok(()) => None,
                        // A storage that fails now says nothing of the checkpoint.
                        Err(Error::Storage(error)) => return Err(error.into()),
                        Err(error) => Some(error.to_string()),
                    }
                }
                Some(_) => None,
            };
            if fault.is_some() {
                return Ok(fault);
            }
        }
        Ok(None)
    }
}
