//! The models that are served, by name and version.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::batch::{Batcher, Bounds};
use crate::model::ServedModel;
use crate::options::Limits;
use crate::protocol::ProtocolError;
use crate::stats::Stats;

/// All that requests need.
pub struct Registry {
    /// The models, all versions of a name side by side, the oldest first.
    pub models: Vec<Arc<ServedModel>>,
    /// Their counters.
    pub stats: Vec<Arc<Stats>>,
    /// Versions by name: places in `models`, the oldest first.
    names: BTreeMap<String, Vec<usize>>,
    /// Computes rows.
    pub batcher: Batcher,
    /// What a request may have.
    pub limits: Limits,
    is_ready: AtomicBool,
}

impl Registry {
    /// Serves models; nothing is ready yet.
    ///
    /// # Errors
    /// If threads cannot be started.
    pub fn new(
        models: Vec<Arc<ServedModel>>,
        limits: Limits,
        executors: usize,
    ) -> std::io::Result<Self> {
        let mut names: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, model) in models.iter().enumerate() {
            names.entry(model.name.clone()).or_default().push(place);
        }
        let stats: Vec<Arc<Stats>> = models.iter().map(|_| Arc::default()).collect();
        let bounds = Bounds {
            batch_rows: limits.batch_rows,
            batch_delay: limits.batch_delay,
            rows: limits.queue_rows,
            bytes: limits.queue_bytes,
            wait: limits.queue_wait,
        };
        let batcher = Batcher::start(models.clone(), stats.clone(), bounds, executors)?;
        Ok(Self {
            models,
            stats,
            names,
            batcher,
            limits,
            is_ready: AtomicBool::new(false),
        })
    }

    /// Sets all counters to 0: requests of a proof are none of a client.
    pub fn forget(&self) {
        self.stats.iter().for_each(|stats| stats.reset());
    }

    /// Whether new requests are wanted.
    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    /// Says whether new requests are wanted.
    pub fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Ordering::Release);
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// The place of a model: of its newest version, if no version is named.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(&self, name: &str, version: Option<&str>) -> Result<usize, ProtocolError> {
        let places = self.names.get(name);
        let places = places.ok_or_else(|| ProtocolError::unknown_model(name, None))?;
        let version = version.filter(|version| !version.is_empty());
        let found = match version {
            None => places.last(),
            Some(version) => places
                .iter()
                .find(|place| self.models[**place].version == version),
        };
        found
            .copied()
            .ok_or_else(|| ProtocolError::unknown_model(name, version))
    }

    /// The versions of a model, the oldest first.
    pub fn versions(&self, name: &str) -> Vec<String> {
        let places = self.names.get(name).into_iter().flatten();
        places
            .map(|place| self.models[*place].version.clone())
            .collect()
    }

    /// The places of a version, of all versions of a name, or of all models: as a request for statistics names them.
    ///
    /// # Errors
    /// If there is none.
    pub fn select(
        &self,
        name: &str,
        version: &str,
    ) -> Result<std::vec::IntoIter<usize>, ProtocolError> {
        let places = match (name, version) {
            ("", _) => (0..self.models.len()).collect(),
            (name, "") => {
                self.find(name, None)?;
                self.names.get(name).cloned().unwrap_or_default()
            }
            (name, version) => vec![self.find(name, Some(version))?],
        };
        Ok(places.into_iter())
    }

    /// The only name, if there is only one.
    pub fn only_name(&self) -> Option<&str> {
        let mut names = self.names();
        names.next().filter(|_| names.next().is_none())
    }
}
