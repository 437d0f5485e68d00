//! A storage that runs something else before a chosen operation, as a paused process sees it.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use trainyard_checkpoint::{Object, Storage, StorageError};

type Hook = Box<dyn FnOnce() + Send>;

pub struct PausedStorage {
    inner: Arc<dyn Storage>,
    /// Operations done, and before which one the hook runs.
    plan: Mutex<(u64, u64, Option<Hook>)>,
}

impl PausedStorage {
    pub fn new(
        inner: Arc<dyn Storage>,
        before: u64,
        hook: impl FnOnce() + Send + 'static,
    ) -> Arc<Self> {
        let plan = Mutex::new((0, before, Some(Box::new(hook) as Hook)));
        Arc::new(Self { inner, plan })
    }

    /// Whether there were fewer operations than planned for.
    pub fn never_paused(&self) -> bool {
        self.plan.lock().unwrap().2.is_some()
    }

    /// From now on nothing pauses.
    pub fn disarm(&self) {
        self.plan.lock().unwrap().2 = None;
    }

    fn operation(&self) -> &dyn Storage {
        let hook = {
            let mut plan = self.plan.lock().unwrap();
            plan.0 += 1;
            if plan.0 > plan.1 { plan.2.take() } else { None }
        };
        if let Some(hook) = hook {
            hook();
        }
        &*self.inner
    }
}

impl Storage for PausedStorage {
    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.operation().put(key, parts)
    }

    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError> {
        self.operation().put_if_absent(key, bytes)
    }

    fn read(
        &self,
        key: &str,
        sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        self.operation().read(key, sink)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Object>, StorageError> {
        self.operation().list(prefix)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.operation().delete(key)
    }
}
