//! A job on real server and worker processes, watched from outside.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use trainyard_contract::pod::JOB_FILE;
use trainyard_contract::{MAX_THREADS, MemberArgs, ServerArgs, Supervision, WorkerArgs, env};
use trainyard_runtime::job::Job;

use crate::ratio::{Pace, ms};

/// How often a job is asked how far it is, at first.
const POLL: Duration = Duration::from_millis(2);

/// How long a job may take to begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// One server and one worker; killed when dropped.
pub struct Processes {
    children: Vec<Child>,
    http: SocketAddr,
    /// Pushes of a step.
    pushes: u64,
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An address that was free a moment ago.
fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Processes {
    /// Starts a job of `chunks` chunks in `folder` on the data in `data`.
    ///
    /// The worker, which owns all leaves, pushes one node a step, so pushes count the steps.
    pub fn start(job: &Job, chunks: u32, folder: &Path, data: &Path) -> Result<Self> {
        let (listen, http) = (free()?, free()?);
        let path = folder.join(JOB_FILE);
        std::fs::write(&path, serde_json::to_vec(&job.manifest)?)?;
        let member = MemberArgs {
            job: path.display().to_string(),
            coordinator: listen.to_string(),
            supervision: Supervision {
                supervised: Some(std::process::id()),
                ..Supervision::default()
            },
            ..MemberArgs::default()
        };
        let server = ServerArgs {
            member: MemberArgs {
                http: Some(http.to_string()),
                ..member.clone()
            },
            servers: 1,
            generation: 1,
            storage: folder.display().to_string(),
            listen: Some(listen.to_string()),
            ..ServerArgs::default()
        };
        let threads = trainyard_runtime::leaves_side_by_side(job, 1);
        let worker = WorkerArgs {
            member,
            data: data.display().to_string(),
            threads: Some(threads.min(MAX_THREADS.into()) as u16),
            ..WorkerArgs::default()
        };
        let program = |args: Vec<String>| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_trainyard"));
            command.args(args).env(env::LOG, "warn");
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command
        };
        let mut processes = Processes {
            children: Vec::new(),
            http,
            pushes: chunks.into(),
        };
        for args in [server.to_args(), worker.to_args()] {
            processes.children.push(
                program(args)
                    .spawn()
                    .context("a process cannot be started")?,
            );
        }
        Ok(processes)
    }

    /// Milliseconds a step over `window`, from the end of a push to the end of a push.
    pub fn pace(&mut self, window: Duration) -> Result<Pace> {
        let (mut begin, mut count) = self.edge(POLL)?; // data are loaded
        let warm = Instant::now();
        while warm.elapsed() < window / 4 {
            (begin, count) = self.edge(POLL)?;
        }
        let (first, base) = (begin, count);
        let mut best = f64::INFINITY;
        let mut pause = POLL;
        loop {
            let (end, now) = self.edge(pause)?;
            let step = (end - begin) / ((now - count) / self.pushes) as u32;
            best = best.min(ms(step));
            (begin, count) = (end, now);
            let left = window.saturating_sub(first.elapsed());
            if left.is_zero() {
                break;
            }
            if step < 20 * POLL {
                // Asking too often would take the time that is measured.
                std::thread::sleep(left);
            } else {
                pause = step / 50;
            }
        }
        let steps = (count - base) / self.pushes;
        Ok(Pace {
            mean: ms(begin - first) / steps as f64,
            best,
        })
    }

    /// Waits for the end of a push: when it was, and how many chunks had been pushed.
    fn edge(&mut self, pause: Duration) -> Result<(Instant, u64)> {
        let begin = Instant::now();
        let mut before = None;
        loop {
            let now = self.pushed();
            match (before, now) {
                (Some(before), Some(now)) if now > before && now % self.pushes == 0 => {
                    return Ok((Instant::now(), now));
                }
                (None, _) => before = now,
                _ => {}
            }
            if begin.elapsed() > PATIENCE {
                bail!("the job makes no steps");
            }
            for child in &mut self.children {
                if let Some(status) = child.try_wait()? {
                    bail!("a process of the job has ended: {status}");
                }
            }
            std::thread::sleep(pause);
        }
    }

    /// `trainyard_pushes_total` of `/metrics`.
    fn pushed(&self) -> Option<u64> {
        let mut stream = TcpStream::connect(self.http).ok()?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.lines()
            .find_map(|line| line.strip_prefix("trainyard_pushes_total "))?
            .parse()
            .ok()
    }
}
