//! The processes of a local run: started, watched and, at the end, gone.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use anyhow::{Context, Result};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use super::sockets::SocketFolder;
use crate::storage::Location;

/// Server or worker, by index.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase", tag = "role", content = "index")]
pub enum Member {
    /// A server.
    Server(u32),
    /// A worker.
    Worker(u32),
}

impl std::fmt::Display for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Member::Server(index) => write!(f, "server {index}"),
            Member::Worker(index) => write!(f, "worker {index}"),
        }
    }
}

/// What every process of a run is told.
#[derive(Clone, Debug)]
pub struct Common {
    /// The run's folder.
    pub folder: PathBuf,
    /// Place of the checkpoints.
    pub storage: Location,
    /// Environment in which servers find it.
    pub storage_env: Vec<(&'static str, String)>,
    /// Folder of the data.
    pub data: PathBuf,
    /// Environment in which workers find data elsewhere.
    pub data_env: Vec<(&'static str, String)>,
    /// Address of server 0.
    pub coordinator: String,
    /// Where the other servers listen; on ports that the system picks, if there is no folder.
    pub sockets: Option<Arc<SocketFolder>>,
    /// Number of servers.
    pub servers: u32,
    /// Threads of a worker.
    pub threads: usize,
    /// Bulk connections of a worker to each server.
    pub connections: u32,
}

impl Common {
    /// Where a member writes what it has to say.
    pub fn log(&self, member: Member) -> PathBuf {
        let name = match member {
            Member::Server(index) => format!("server-{index}.log"),
            Member::Worker(index) => format!("worker-{index}.log"),
        };
        self.folder.join("logs").join(name)
    }

    fn command(&self, member: Member, generation: u32) -> Result<Command> {
        let mut command = Command::new(crate::THIS_PROGRAM);
        command.arg0("trainyard");
        let (role, index) = match member {
            Member::Server(index) => ("server", index),
            Member::Worker(index) => ("worker", index),
        };
        command
            .arg(role)
            .arg(format!("--supervised={}", std::process::id()))
            .arg("--index")
            .arg(index.to_string());
        command.arg("--job").arg(self.folder.join("job.json"));
        command.arg("--coordinator").arg(&self.coordinator);
        match member {
            Member::Server(index) => {
                if let Some(sockets) = self.sockets.as_ref().filter(|_| index > 0) {
                    command.args(["--listen", &sockets.address(index)?.to_string()]);
                }
                command.args(["--servers", &self.servers.to_string()]);
                command.args(["--generation", &generation.to_string()]);
                command.arg("--storage").arg(self.storage.to_string());
                command.envs(self.storage_env.iter().cloned());
            }
            Member::Worker(_) => {
                command.arg("--data").arg(&self.data);
                command.envs(self.data_env.iter().cloned());
                command.args(["--threads", &self.threads.to_string()]);
                command.args(["--connections", &self.connections.to_string()]);
            }
        }
        Ok(command)
    }
}

/// A process has ended.
#[derive(Debug)]
pub struct Exited {
    /// Which.
    pub member: Member,
    /// Its process id, which tells it from its successor.
    pub pid: u32,
    /// How.
    pub status: ExitStatus,
}

/// Starts a member; `exited` hears of its end. Server 0 inherits `listeners`: the protocol's and
/// HTTP's, so that its addresses outlive it.
///
/// # Errors
/// If the process cannot be started.
pub fn start(
    common: &Common,
    member: Member,
    generation: u32,
    listeners: [BorrowedFd<'_>; 2],
    exited: Sender<Exited>,
) -> Result<u32> {
    let mut command = common.command(member, generation)?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(common.log(member))?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    // The terminal's Ctrl-C is for us; we tell the others.
    command.process_group(0);
    let shared = matches!(member, Member::Server(0));
    if shared {
        let [protocol, http] = listeners.map(|listener| listener.as_raw_fd().to_string());
        command.args(["--listen-fd", &protocol, "--http-fd", &http]);
    }
    let inherit = |flags| {
        listeners
            .iter()
            .try_for_each(|listener| fcntl_setfd(listener, flags))
    };
    if shared {
        inherit(FdFlags::empty())?;
    }
    let child = command
        .spawn()
        .with_context(|| format!("{member} cannot be started"));
    if shared {
        inherit(FdFlags::CLOEXEC)?;
    }
    let child = child?;
    let pid = child.id();
    std::thread::spawn(move || watch(member, child, &exited));
    Ok(pid)
}

fn watch(member: Member, mut child: Child, exited: &Sender<Exited>) {
    let pid = child.id();
    if let Ok(status) = child.wait() {
        let _ = exited.send(Exited {
            member,
            pid,
            status,
        });
    }
}

/// Sends a signal to a process that we started and that has not been waited for.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// How a process ended, in words.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".into(),
    }
}

/// The last error that a member wrote to its log.
pub fn last_error(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(16 * 1024)))
        .ok()?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let (_, message) = text
        .rsplit_once("\nerror: ")
        .or_else(|| text.split_once("error: "))?;
    Some(message.trim_end().to_owned())
}
