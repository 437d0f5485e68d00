//! What a server says again after its control stream broke.

use std::collections::BTreeMap;

use crate::control::ToCoordinator;
use crate::sampling::Plan;

/// Epoch ends, and other versions, whose reports are kept.
///
/// Older ones are not missed. A checkpoint that is not an epoch's end is as good as the next one. An
/// epoch's end may be the best, but the epoch after the next cannot begin before the coordinator has
/// heard this server, and a server has few checkpoints in writing.
const KEPT: usize = 8;

/// The latest reports on this server's parts of checkpoints: `ShardWritten` and `ShardFailed`.
///
/// Reports that were under way when the stream broke are lost. So a server keeps each of a
/// generation here, and sends [`Reports::repeat`] once it is welcomed under the same generation.
/// The coordinator ignores what it knows.
#[derive(Clone, Debug)]
pub struct Reports {
    epoch_steps: u64,
    ends: BTreeMap<u64, ToCoordinator>,
    others: BTreeMap<u64, ToCoordinator>,
}

impl Reports {
    /// No reports yet.
    pub fn new(plan: &Plan) -> Self {
        Reports {
            epoch_steps: plan.steps_per_epoch(),
            ends: BTreeMap::new(),
            others: BTreeMap::new(),
        }
    }

    /// Keeps a report on `version`.
    pub fn keep(&mut self, version: u64, report: ToCoordinator) {
        let end = version.is_multiple_of(self.epoch_steps.max(1));
        let kept = if end {
            &mut self.ends
        } else {
            &mut self.others
        };
        kept.insert(version, report);
        if kept.len() > KEPT {
            kept.pop_first();
        }
    }

    /// The reports, oldest version first.
    pub fn repeat(&self) -> Vec<ToCoordinator> {
        let mut all: Vec<_> = self.ends.iter().chain(&self.others).collect();
        all.sort_by_key(|(version, _)| **version);
        all.into_iter().map(|(_, report)| report.clone()).collect()
    }
}
