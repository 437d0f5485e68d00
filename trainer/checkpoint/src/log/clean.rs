//! Deleting what nobody needs any more.

use super::entry::{self, Record};
use super::history::HistoryPoint;
use super::{Claim, Log};
use crate::error::Error;
use crate::shard::{CHECKPOINTS, parse_key};
use std::collections::BTreeSet;
use trainyard_core::manifest::Manifest;

/// What a cleaning deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Steps of the checkpoints that are gone, oldest first.
    pub steps: Vec<u64>,
    /// Number of shards deleted, those of checkpoints never committed included.
    pub shards: usize,
    /// Number of entries that went from the log into its history.
    pub compacted: usize,
}

impl Log {
    /// Deletes all checkpoints but the newest `keep` (at least one), the best, and complete ones,
    /// and shards that were never committed. When 64 entries of such checkpoints have come together
    /// in the log, they are compacted: their steps and digests go into the
    /// [history](Log::history), and they are deleted too.
    ///
    /// It does nothing before this claim's first commit. It may be interrupted anywhere and
    /// repeated: a checkpoint leaves the log before its first shard is deleted.
    ///
    /// # Errors
    /// [`Error::Fenced`] if a newer coordinator has claimed the log, or what the storage reports.
    pub fn clean(&mut self, keep: usize) -> Result<Cleaned, Error> {
        let claim = self.held_claim()?.clone();
        self.check_fence()?;
        let mut cleaned = Cleaned::default();
        let Some((&newest, _)) = self
            .live
            .iter()
            .next_back()
            .filter(|(n, _)| **n > claim.number)
        else {
            return Ok(cleaned);
        };
        let kept = self.kept(keep);
        let victims: Vec<u64> = self
            .live
            .keys()
            .copied()
            .filter(|n| !kept.contains(n))
            .collect();
        for number in victims {
            self.check_fence()?;
            let Some(manifest) = self.live.get(&number) else {
                continue;
            };
            let point = HistoryPoint::of(manifest);
            let entry = self.entry(claim.generation, &claim.holder, Record::Cleaned(point));
            self.storage
                .put(&entry::key(number), &[&entry.encode(number)?])?;
            self.live.remove(&number);
            cleaned.steps.push(point.step);
        }
        self.check_fence()?;
        cleaned.shards = self.delete_unreferenced(&claim, newest)?;
        cleaned.compacted = self.compact(newest)?;
        Ok(cleaned)
    }

    /// Numbers of the commits to keep.
    fn kept(&self, keep: usize) -> BTreeSet<u64> {
        let newest = self.live.keys().rev().take(keep.max(1)).copied();
        let best = self.live.iter().rev().find(|(_, manifest)| manifest.best);
        let complete = self.live.iter().filter(|(_, manifest)| manifest.complete);
        newest
            .chain(best.into_iter().chain(complete).map(|(&number, _)| number))
            .collect()
    }

    /// Deletes shards that no live commit names and that none will: those of older generations,
    /// and ours before our newest commit's step.
    fn delete_unreferenced(&self, claim: &Claim, newest: u64) -> Result<usize, Error> {
        let shards = |manifest: &Manifest| -> Vec<String> {
            manifest
                .shards
                .iter()
                .map(|shard| shard.key.clone())
                .collect()
        };
        let referenced: BTreeSet<String> = self.live.values().flat_map(shards).collect();
        let newest_step = self.live.get(&newest).map_or(0, |manifest| manifest.step);
        let mut deleted = 0;
        for object in self.storage.list(CHECKPOINTS)? {
            let Some((step, generation)) = parse_key(&object.key) else {
                continue;
            };
            let past = generation < claim.generation
                || (generation == claim.generation && step < newest_step);
            if past && !referenced.contains(&object.key) {
                self.storage.delete(&object.key)?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    /// Refuses if a newer coordinator has taken the number that we would use next.
    ///
    /// This spares needless work; safety does not rest on it.
    ///
    /// # Errors
    /// [`Error::Fenced`] if so, or what the storage reports.
    pub fn check_fence(&mut self) -> Result<(), Error> {
        let mut seen = None;
        while seen != Some(self.next) {
            seen = Some(self.next);
            self.pass_next()?;
        }
        Ok(())
    }
}
