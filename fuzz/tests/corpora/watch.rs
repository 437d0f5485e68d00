//! Ends the tests when an input takes too long: a thread that hangs cannot be ended by itself.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// Longest time for an input; it takes some milliseconds on a machine that is busy.
const LONGEST: Duration = Duration::from_secs(60);

/// How often it is looked whether an input takes too long.
const EVERY: Duration = Duration::from_millis(500);

struct Running {
    thread: ThreadId,
    since: Instant,
    target: &'static str,
    origin: String,
    input: Vec<u8>,
}

static RUNNING: Mutex<Vec<Running>> = Mutex::new(Vec::new());

fn running() -> std::sync::MutexGuard<'static, Vec<Running>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches what this thread does with an input, until what is returned is dropped.
pub fn begin(target: &'static str, origin: &str, input: &[u8]) -> Watched {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| drop(std::thread::spawn(watch)));
    running().push(Running {
        thread: std::thread::current().id(),
        since: Instant::now(),
        target,
        origin: origin.to_owned(),
        input: input.to_vec(),
    });
    Watched
}

/// Something that is watched.
pub struct Watched;

impl Drop for Watched {
    fn drop(&mut self) {
        let thread = std::thread::current().id();
        running().retain(|running| running.thread != thread);
    }
}

fn watch() {
    loop {
        std::thread::sleep(EVERY);
        let running = running();
        if let Some(late) = running.iter().find(|late| late.since.elapsed() > LONGEST) {
            let kept = keep(late.target, &late.input);
            eprintln!(
                "{}: {}: it takes more than {LONGEST:?}; the input is in {}",
                late.target,
                late.origin,
                kept.display()
            );
            std::process::abort();
        }
    }
}

/// Keeps an input in the folder of what was built, for who mends what is wrong with it.
pub fn keep(target: &str, input: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{target}"));
    // Without it there is still the name of its origin.
    let _ = std::fs::write(&path, input);
    path
}
