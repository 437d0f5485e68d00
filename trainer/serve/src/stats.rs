//! What a model has done, as counters that only rise.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// How often something was done, and how long it took in all.
#[derive(Debug, Default)]
pub struct Spent {
    count: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Spent {
    fn add(&self, took: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    fn reset(&self) {
        self.count.store(0, Ordering::Relaxed);
        self.nanoseconds.store(0, Ordering::Relaxed);
    }

    /// How often, and how many nanoseconds in all.
    pub fn get(&self) -> (u64, u64) {
        (
            self.count.load(Ordering::Relaxed),
            self.nanoseconds.load(Ordering::Relaxed),
        )
    }
}

/// The counters of a version of a model.
#[derive(Debug, Default)]
pub struct Stats {
    /// Requests that were answered, from their first byte to the answer.
    pub success: Spent,
    /// Requests that were not.
    pub fail: Spent,
    /// Waiting for an executor.
    pub queue: Spent,
    /// Reading requests.
    pub input: Spent,
    /// Computing batches.
    pub infer: Spent,
    /// Writing answers.
    pub output: Spent,
    rows: AtomicU64,
    /// When a request was answered last, in milliseconds since 1970; 0 if none was.
    last: AtomicU64,
    batches: Mutex<BTreeMap<usize, (u64, u64)>>,
}

impl Stats {
    /// Sets all to 0.
    pub fn reset(&self) {
        for spent in [
            &self.success,
            &self.fail,
            &self.queue,
            &self.input,
            &self.infer,
            &self.output,
        ] {
            spent.reset();
        }
        self.rows.store(0, Ordering::Relaxed);
        self.last.store(0, Ordering::Relaxed);
        self.batches.lock().clear();
    }

    /// A batch was computed.
    pub fn executed(&self, rows: usize, took: Duration) {
        self.infer.add(took);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        let mut batches = self.batches.lock();
        // Sizes in powers of two: clients decide how many there are.
        let (count, nanoseconds) = batches.entry(rows.next_power_of_two()).or_default();
        *count += 1;
        *nanoseconds += took.as_nanos() as u64;
    }

    /// A request has waited for an executor.
    pub fn waited(&self, took: Duration) {
        self.queue.add(took);
    }

    /// A request was read.
    pub fn read(&self, took: Duration) {
        self.input.add(took);
    }

    /// An answer was written.
    pub fn written(&self, took: Duration) {
        self.output.add(took);
    }

    /// A request was answered, or not.
    pub fn finished(&self, is_success: bool, took: Duration) {
        match is_success {
            true => self.success.add(took),
            false => self.fail.add(took),
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_millis() as u64);
        self.last.store(now, Ordering::Relaxed);
    }

    /// Rows that were computed.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// When a request was answered last, in milliseconds since 1970; 0 if none was.
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// Batches by the power of two that holds their rows: how many, and how many nanoseconds in all.
    pub fn batches(&self) -> BTreeMap<usize, (u64, u64)> {
        self.batches.lock().clone()
    }
}
