//! What is remembered of checkpoints that are gone.

use super::Log;
use super::entry::{self, Entry, Found, LOG, Record, fetch};
use super::read::Listing;
use crate::error::{Error, Skipped};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trainyard_core::manifest::{JobIdentity, Manifest};
use trainyard_core::merkle::Digest;

/// The most points of a stored history.
pub(super) const POINTS: usize = 1024;

/// How often a history is read anew because a compaction went on meanwhile.
const READS: u32 = 100;

/// What the state after some step was. It does not depend on the number of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryPoint {
    /// Steps done.
    pub step: u64,
    /// Digest of the parameters: see [`trainyard_core::state`]. `None` if the checkpoint was written
    /// by a version that did not compute it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters_sha256: Option<Digest>,
    /// Digest of the optimizer's state. `None` if it is unknown, or the optimizer has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer_sha256: Option<Digest>,
}

impl HistoryPoint {
    /// That of a checkpoint.
    pub fn of(manifest: &Manifest) -> Self {
        let state = manifest.state_digests();
        HistoryPoint {
            step: manifest.step,
            parameters_sha256: state.map(|state| state.parameters_sha256),
            optimizer_sha256: state.and_then(|state| state.optimizer_sha256),
        }
    }
}

/// What a log knows of its checkpoints, those that are gone included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// By rising step, one a step. Of very many old ones some are left out.
    pub points: Vec<HistoryPoint>,
    /// What cannot be read of it.
    pub damaged: Vec<Skipped>,
}

/// A history as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stored {
    pub identity: JobIdentity,
    pub points: Vec<HistoryPoint>,
}

impl Stored {
    pub fn decode(key: &str, bytes: &[u8]) -> Result<Self, Error> {
        entry::unseal(key, bytes)
    }
}

/// Key of the history that rests on the commit of a number: numbers below it may have been freed.
pub(super) fn key(base: u64) -> String {
    format!("{LOG}history-{base:012}.json")
}

/// Number of the commit on which the history under a key rests.
pub(super) fn parse_key(key: &str) -> Option<u64> {
    let digits = key.strip_prefix(LOG)?.strip_prefix("history-")?;
    entry::parse_number(digits.strip_suffix(".json")?)
}

/// Points by step.
#[derive(Default)]
pub(super) struct Points(BTreeMap<u64, HistoryPoint>);

impl Points {
    /// Adds a point. Of two of one step, that with digests stays.
    pub fn add(&mut self, point: HistoryPoint) {
        let known = self.0.entry(point.step).or_insert(point);
        if known.parameters_sha256.is_none() {
            *known = point;
        }
    }

    pub fn into_vec(self) -> Vec<HistoryPoint> {
        self.0.into_values().collect()
    }
}

/// Leaves out every second point of the older half until [`POINTS`] are left at most. The first and
/// the last stay, and the newer ones are closer together.
pub(super) fn thin(points: &mut Vec<HistoryPoint>) {
    while points.len() > POINTS {
        let older = points.len() / 2;
        let mut index = 0;
        points.retain(|_| {
            let stays = index >= older || index % 2 == 0;
            index += 1;
            stays
        });
    }
}

impl Log {
    /// What is known of all checkpoints: those that can be loaded, and those that were cleaned.
    ///
    /// It reads the stored history and at most 1024 of the entries that are not in it yet.
    ///
    /// # Errors
    /// [`Error::UnsupportedFormat`] for what a newer version wrote, or what the storage reports.
    pub fn history(&self) -> Result<History, Error> {
        for _ in 1..READS {
            let (history, complete) = self.read_history()?;
            if complete {
                return Ok(history);
            }
        }
        Ok(self.read_history()?.0)
    }

    /// Reads it once; whether all that was listed was still there.
    fn read_history(&self) -> Result<(History, bool), Error> {
        let listing = Listing::of(&*self.storage)?;
        let mut complete = true;
        let mut points = Points::default();
        let mut damaged = Vec::new();
        complete &= self.add_stored(&listing, &mut points, &mut damaged)?;
        let others = listing.numbers.iter().rev();
        let others = others.filter(|number| !self.live.contains_key(number));
        for &number in others.take(POINTS) {
            match fetch(&*self.storage, &entry::key(number), Entry::decode)? {
                Found::Nothing => complete = false,
                Found::Damaged(skipped) => damaged.push(skipped),
                Found::Sound(entry) => {
                    if let Record::Cleaned(point) = entry.record {
                        points.add(point);
                    }
                }
            }
        }
        self.manifests()
            .for_each(|manifest| points.add(HistoryPoint::of(manifest)));
        // Those of the log are reported by it.
        damaged.retain(|skipped: &Skipped| !self.damaged.iter().any(|d| d.key == skipped.key));
        let points = points.into_vec();
        Ok((History { points, damaged }, complete))
    }

    /// Adds the points of all stored histories; `false` if one is not there any more.
    pub(super) fn add_stored(
        &self,
        listing: &Listing,
        points: &mut Points,
        damaged: &mut Vec<Skipped>,
    ) -> Result<bool, Error> {
        let mut complete = true;
        for &base in &listing.bases {
            match fetch(&*self.storage, &key(base), Stored::decode)? {
                Found::Nothing => complete = false,
                Found::Damaged(skipped) => damaged.push(skipped),
                Found::Sound(stored) => {
                    self.check_identity(&stored.identity)?;
                    stored
                        .points
                        .into_iter()
                        .for_each(|point| points.add(point));
                }
            }
        }
        Ok(complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(n: u64) -> Vec<HistoryPoint> {
        let point = |step| HistoryPoint {
            step,
            parameters_sha256: None,
            optimizer_sha256: None,
        };
        (0..n).map(point).collect()
    }

    #[test]
    fn a_history_is_thinned_where_it_is_oldest_and_keeps_its_ends() {
        let mut few = points(POINTS as u64);
        thin(&mut few);
        assert_eq!(few, points(POINTS as u64));
        for n in [1025, 1100, 5000, 100_001] {
            let mut many = points(n);
            thin(&mut many);
            assert!((POINTS / 2..=POINTS).contains(&many.len()));
            assert_eq!((many[0].step, many[many.len() - 1].step), (0, n - 1));
            let gaps: Vec<u64> = many.windows(2).map(|w| w[1].step - w[0].step).collect();
            // Halving leaves one gap that is one shorter where two densities meet.
            assert!(gaps.windows(2).all(|g| g[0] + 1 >= g[1]), "{gaps:?}");
        }
    }
}
