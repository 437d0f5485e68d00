//! Runs of the real program, watched from outside: its files, its HTTP, its output.
//!
//! Nothing here waits for luck: every wait is for a condition and has a limit.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod process;
pub mod reference;
pub mod relay;
pub mod wire;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use trainyard_contract::Key;

/// No wait is longer than this, however busy the machine.
pub const LIMIT: Duration = Duration::from_secs(180);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(10);

/// A job and how to run it.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The manifest.
    pub file: PathBuf,
    /// `--set`.
    pub sets: Vec<String>,
    /// Everything else.
    pub args: Vec<String>,
    /// Command that the program is wrapped in, such as `unshare -m`.
    pub wrapper: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
}

/// The key of the servers of every run here, so that tests can be members of it.
pub fn key() -> Key {
    Key::of_servers([7; Key::BYTES])
}

/// A file with that key.
pub fn key_file() -> &'static Path {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("local.key");
        std::fs::write(&file, key().to_text()).expect("cargo's folder for tests");
        file
    });
    &FILE
}

/// A manifest below `examples/`.
pub fn example(file: &str) -> Spec {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(file);
    let file = file.canonicalize().expect("the example is there");
    Spec {
        file,
        sets: Vec::new(),
        args: Vec::new(),
        wrapper: Vec::new(),
        env: Vec::new(),
    }
}

impl Spec {
    /// Changes a field below `spec.`.
    pub fn set(mut self, path: &str, value: impl std::fmt::Display) -> Self {
        self.sets.push(format!("spec.{path}={value}"));
        self
    }

    /// Trains for this many epochs.
    pub fn epochs(self, epochs: u64) -> Self {
        self.set("training.epochs", epochs)
    }

    /// Checkpoints at multiples of this step.
    pub fn every(self, steps: u64) -> Self {
        self.set("checkpoint.everySteps", steps)
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item: std::fmt::Display>>(mut self, args: I) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.to_string()));
        self
    }

    /// Runs on this many workers and servers.
    pub fn on(self, workers: u32, servers: u32) -> Self {
        let (workers, servers) = (workers.to_string(), servers.to_string());
        self.args(["--workers", &workers, "--servers", &servers])
    }

    /// Goes on from a checkpoint.
    pub fn resume(self) -> Self {
        self.args(["--resume"])
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The command line.
    pub fn command(&self, out: &Path) -> Command {
        let binary = env!("CARGO_BIN_EXE_trainyard").to_owned();
        let words: Vec<String> = self.wrapper.iter().cloned().chain([binary]).collect();
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .arg("run")
            .arg(&self.file)
            .arg("--json")
            .arg("--out")
            .arg(out)
            .arg("--key-file")
            .arg(key_file());
        for set in &self.sets {
            command.arg("--set").arg(set);
        }
        command.args(&self.args).envs(self.env.iter().cloned());
        command
    }

    /// Starts the run in `out`.
    pub fn start(&self, out: &Path) -> Run {
        // What an earlier run left there would be taken for ours.
        let _ = std::fs::remove_file(out.join("run.json"));
        let mut command = self.command(out);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().expect("the program starts");
        let output = Arc::new(Output::default());
        let stdout = child.stdout.take().expect("piped");
        let mut stderr = child.stderr.take().expect("piped");
        let lines = Arc::clone(&output);
        let readers = vec![
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    lines.lines.lock().expect("no reader panics").push(line);
                    lines.grown.notify_all();
                }
                String::new()
            }),
            std::thread::spawn(move || {
                let mut text = String::new();
                let _ = stderr.read_to_string(&mut text);
                text
            }),
        ];
        Run {
            child,
            out: out.to_owned(),
            output,
            readers,
        }
    }

    /// Runs in a folder of its own to a good end.
    pub fn finish(&self) -> Value {
        let folder = folder();
        self.start(folder.path()).finish()
    }

    /// `modelSha256` of a whole run.
    pub fn sha(&self) -> String {
        sha(&self.finish())
    }
}

/// A folder for a run; gone when dropped.
pub fn folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("trainyard-")
        .tempdir()
        .expect("a temporary folder")
}

/// `modelSha256` of a summary.
pub fn sha(summary: &Value) -> String {
    summary["modelSha256"]
        .as_str()
        .unwrap_or_else(|| panic!("no modelSha256 in {summary}"))
        .to_owned()
}

/// The message of a failed run.
pub fn message(ended: &Ended) -> String {
    let errors = ended.named("error");
    let message = errors.last().and_then(|error| error["message"].as_str());
    message
        .unwrap_or_else(|| panic!("no error was told: {ended}"))
        .to_owned()
}

#[derive(Default)]
struct Output {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

/// A run that was started; killed when dropped.
pub struct Run {
    child: Child,
    out: PathBuf,
    output: Arc<Output>,
    readers: Vec<JoinHandle<String>>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit status.
    pub status: ExitStatus,
    /// Lines of standard output.
    pub lines: Vec<String>,
    /// Standard error.
    pub stderr: String,
    /// The logs of its processes.
    pub logs: String,
}

impl Ended {
    /// Exit code.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Standard output, line by line, as JSON.
    pub fn events(&self) -> Vec<Value> {
        let parse = |line: &String| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
        };
        self.lines.iter().map(parse).collect()
    }

    /// Events of a kind.
    pub fn named(&self, event: &str) -> Vec<Value> {
        self.events()
            .into_iter()
            .filter(|value| value["event"] == event)
            .collect()
    }

    /// Members that were restarted. Not those that were let go after the last epoch, because the job was done: their end may
    /// be seen before the job's is heard of.
    pub fn lost(&self) -> Vec<Value> {
        let mut events = self.events();
        let last = events.iter().rposition(|told| told["event"] == "epoch");
        let mut at = 0..;
        events.retain(|told| {
            let let_go = at.next() > last && told["how"] == "exit code 0";
            told["event"] == "restarting" && !let_go
        });
        events
    }

    /// The summary of a good end.
    pub fn summary(&self) -> Value {
        assert_eq!(self.code(), Some(0), "{self}");
        self.events()
            .pop()
            .unwrap_or_else(|| panic!("no output: {self}"))
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n--- stdout\n{}\n--- stderr\n{}\n--- logs\n{}",
            self.status,
            self.lines.join("\n"),
            self.stderr,
            self.logs
        )
    }
}

/// `run.json`: who is running.
#[derive(Clone, Debug)]
pub struct Roster(pub Value);

impl Roster {
    /// Processes of a role (`server`, `worker`) as (index, process id).
    pub fn of(&self, role: &str) -> Vec<(u64, u32)> {
        let processes = self.0["processes"].as_array().cloned().unwrap_or_default();
        let ours = processes.iter().filter(|process| process["role"] == role);
        ours.filter_map(|process| {
            Some((
                process["index"].as_u64()?,
                u32::try_from(process["pid"].as_u64()?).ok()?,
            ))
        })
        .collect()
    }

    /// The process id of a member that is running.
    pub fn pid(&self, role: &str, index: u64) -> Option<u32> {
        self.of(role)
            .into_iter()
            .find(|(other, _)| *other == index)
            .map(|(_, pid)| pid)
    }

    /// The address of the coordinator.
    pub fn coordinator(&self) -> String {
        self.0["coordinator"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The address of HTTP.
    pub fn http(&self) -> String {
        self.0["http"].as_str().unwrap_or_default().to_owned()
    }
}

impl Run {
    /// Process id of `trainyard run`.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is over.
    pub fn over(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child can be waited for")
            .is_some()
    }

    /// Who is running, if the run has told yet.
    pub fn roster(&self) -> Option<Roster> {
        let text = std::fs::read(self.out.join("run.json")).ok()?;
        serde_json::from_slice(&text).ok().map(Roster)
    }

    /// Sends a signal to a member that runs.
    pub fn send(&self, role: &str, index: u64, signal: Signal) {
        let roster = self.roster().expect("it has told who runs");
        send(roster.pid(role, index).expect(role), signal);
    }

    /// Progress over HTTP; none while nobody answers.
    pub fn status(&self) -> Option<Value> {
        serde_json::from_str(&get(&self.roster()?.http(), "/status")?).ok()
    }

    /// A value of `/metrics`.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = get(&self.roster()?.http(), "/metrics")?;
        let prefix = format!("trainyard_{name} ");
        text.lines()
            .find_map(|line| line.strip_prefix(&prefix)?.parse().ok())
    }

    /// Waits until `look` finds something.
    pub fn until<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(!self.over(), "the run ended before {what}: {}", self.take());
            if begin.elapsed() > LIMIT {
                let status = self.status();
                self.kill();
                panic!(
                    "waited in vain for {what}; status {status:?}: {}",
                    self.take()
                );
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until `step` steps are applied; returns the status.
    pub fn reach(&mut self, step: u64) -> Value {
        let at = |run: &Run| {
            run.status()
                .filter(|status| status["step"].as_u64() >= Some(step))
        };
        self.until(&format!("step {step}"), at)
    }

    /// Waits for a line of standard output with this event.
    pub fn event(&mut self, name: &str) -> Value {
        self.until(&format!("the event {name}"), |run| {
            run.events(name).into_iter().next()
        })
    }

    /// Lines of standard output so far with this event.
    pub fn events(&self, name: &str) -> Vec<Value> {
        let lines = self.output.lines.lock().expect("no reader panics");
        let values = lines
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        values.filter(|value| value["event"] == name).collect()
    }

    /// Sends a signal to the run itself.
    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Kills the run itself; its processes follow it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Ended {
        let begin = Instant::now();
        while !self.over() {
            if begin.elapsed() > LIMIT {
                let status = self.status();
                self.kill();
                panic!("the run does not end; status {status:?}: {}", self.take());
            }
            std::thread::sleep(LOOK);
        }
        self.take()
    }

    /// Waits for a good end.
    pub fn finish(self) -> Value {
        self.wait().summary()
    }

    fn take(&mut self) -> Ended {
        let status = self.child.wait().expect("a child can be waited for");
        let mut stderr = String::new();
        for reader in self.readers.drain(..) {
            stderr += &reader.join().unwrap_or_default();
        }
        let lines = std::mem::take(&mut *self.output.lines.lock().expect("no reader panics"));
        Ended {
            status,
            lines,
            stderr,
            logs: logs(&self.out),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}

fn logs(out: &Path) -> String {
    let mut text = String::new();
    let mut files: Vec<PathBuf> = std::fs::read_dir(out.join("logs"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    for file in files {
        let log = std::fs::read_to_string(&file).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(12)..].join("\n");
        text += &format!("{}:\n{tail}\n", file.display());
    }
    text
}

/// Sends a signal to a process; that it is gone already is no matter.
pub fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id");
    let _ = kill_process(pid, signal);
}

/// The body of an HTTP answer, if it is a good one.
pub fn get(address: &str, path: &str) -> Option<String> {
    let mut stream =
        TcpStream::connect_timeout(&address.parse().ok()?, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

/// Kibibytes of resident memory.
pub fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Random numbers from a seed that is printed, and that `TRAINYARD_TEST_SEED` can bring back
/// (SplitMix64: Steele, Lea, Flood, *Fast splittable pseudorandom number generators*, 2014).
pub struct Random(u64);

impl Random {
    /// A generator for a test; its seed is shown where the test fails.
    pub fn new(test: &str) -> Self {
        let chosen = std::env::var("TRAINYARD_TEST_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let clock = || {
            std::time::UNIX_EPOCH
                .elapsed()
                .map_or(1, |elapsed| elapsed.as_nanos() as u64)
        };
        let seed = chosen.unwrap_or_else(clock);
        println!("{test}: TRAINYARD_TEST_SEED={seed}");
        Random(seed)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// One of several.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }
}
