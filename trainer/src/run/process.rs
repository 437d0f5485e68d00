//! The processes of a local run: started, watched and, at the end, gone.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use trainyard_contract::{
    FinisherArgs, Key, Member, MemberArgs, Role, ServerArgs, Supervision, WorkerArgs,
};
use trainyard_runtime::exit::BadInput;

use super::pulse::Pulse;
use super::sockets::SocketFolder;
use crate::torch_program::TorchProgram;

/// Where members find their key: it is in no file, and in no list of processes.
const STANDARD_INPUT: &str = "-";

/// Bytes of the end of a member's log in which the reason of its end is looked for.
const TAIL: u64 = 16 * 1024;

/// What every process of a run is told.
#[derive(Debug)]
pub struct Common<'a> {
    /// The program of the workers.
    pub torch: &'a TorchProgram,
    /// The run's folder.
    pub folder: PathBuf,
    /// The job file.
    pub job: String,
    /// Folder of the initial model, if the job has one.
    pub initial_model: Option<String>,
    /// Place of the checkpoints.
    pub storage: String,
    /// Environment in which servers find it.
    pub storage_env: Vec<(&'static str, String)>,
    /// Folder of the data.
    pub data: String,
    /// Environment in which workers find data elsewhere.
    pub data_env: Vec<(&'static str, String)>,
    /// Address of server 0.
    pub coordinator: String,
    /// Where the other servers listen; on ports that the system picks, if there is no folder.
    pub sockets: Option<Arc<SocketFolder>>,
    /// The servers' key; each member is given that of its role.
    pub key: Key,
    /// Number of servers.
    pub servers: u32,
    /// Number of workers.
    pub workers: u32,
    /// Threads of a worker.
    pub threads: u16,
    /// Bulk connections of a worker to each server.
    pub connections: u32,
}

impl Common<'_> {
    /// Where a member writes what it has to say.
    pub fn log(&self, member: Member) -> PathBuf {
        self.folder.join("logs").join(format!("{member}.log"))
    }

    /// The program of a server or worker, which shows on `alive` that it is. Server 0 is given its listeners: the
    /// protocol's and HTTP's.
    fn command(
        &self,
        member: Member,
        generation: u32,
        inherited: Option<[RawFd; 2]>,
        alive: RawFd,
    ) -> Result<Command> {
        let common = MemberArgs {
            job: self.job.clone(),
            index: member.index,
            initial_model: self.initial_model.clone(),
            coordinator: self.coordinator.clone(),
            http: None,
            key_file: Some(STANDARD_INPUT.into()),
            termination_message: None,
            supervision: supervision(alive),
        };
        let (mut command, args, env) = match member.role {
            Role::Server => {
                let sockets = self.sockets.as_ref().filter(|_| inherited.is_none());
                let listen = sockets.map(|sockets| sockets.address(member.index));
                let args = ServerArgs {
                    member: common,
                    servers: self.servers,
                    generation,
                    storage: self.storage.clone(),
                    listen_fd: inherited.map(|[protocol, _]| protocol),
                    http_fd: inherited.map(|[_, http]| http),
                    listen: listen.transpose()?.map(|address| address.to_string()),
                    advertise: None,
                    grace: None,
                };
                (this_program(), args.to_args(), &self.storage_env)
            }
            Role::Worker => {
                let args = WorkerArgs {
                    member: common,
                    data: self.data.clone(),
                    threads: Some(self.threads),
                    connections: Some(self.connections),
                    local_servers: Some(self.servers),
                    local_workers: Some(self.workers),
                };
                (self.torch.command(), args.to_args(), &self.data_env)
            }
            Role::Finisher => {
                let args = finisher_args(common.job, self.storage.clone(), alive);
                (self.torch.command(), args.to_args(), &self.storage_env)
            }
        };
        command.args(args).envs(env.iter().cloned());
        Ok(command)
    }
}

/// What the finisher of a run is told, which shows on `alive` that it is.
pub fn finisher_args(job: String, storage: String, alive: RawFd) -> FinisherArgs {
    FinisherArgs {
        job,
        storage,
        termination_message: None,
        supervision: supervision(alive),
    }
}

fn supervision(alive: RawFd) -> Supervision {
    Supervision {
        supervised: Some(std::process::id()),
        alive_fd: Some(alive),
    }
}

/// Starts a process that inherits these descriptors and those that are set up in the command.
///
/// # Errors
/// Of the system.
pub fn spawn(command: &mut Command, inherited: &[BorrowedFd<'_>]) -> io::Result<Child> {
    let mark = |flags| inherited.iter().try_for_each(|fd| fcntl_setfd(fd, flags));
    mark(FdFlags::empty())?;
    let child = command.spawn();
    mark(FdFlags::CLOEXEC)?;
    child
}

fn this_program() -> Command {
    let mut command = Command::new(trainyard_runtime::THIS_PROGRAM);
    command.arg0("trainyard");
    command
}

/// A path as it can stand in an argument.
///
/// # Errors
/// [`BadInput`] if it is not UTF-8.
pub fn as_argument(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        let message = format!(
            "the path {} is not UTF-8: rename the folder",
            path.display()
        );
        BadInput(message).into()
    })
}

/// A process that was started here.
#[derive(Debug)]
pub struct Process {
    /// Its process id; once it has been waited for, perhaps another's.
    pub pid: u32,
    /// The process itself. None before Linux 5.3, or where a sandbox or the number of open files forbids it.
    handle: Option<OwnedFd>,
    /// Where in its member's log it begins.
    pub log_from: u64,
}

impl Process {
    /// The process of a child that nobody has waited for yet.
    pub fn of(child: &Child) -> Self {
        let pid = child.id();
        let handle = number(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Process {
            pid,
            handle,
            log_from: 0,
        }
    }

    /// Sends it a signal; that it has ended is no matter, and no other process is ever hit. Without a
    /// handle the number has to do: then call this only while it has not been heard to have ended.
    pub fn signal(&self, signal: Signal) {
        let _ = match (&self.handle, number(self.pid)) {
            (Some(handle), _) => pidfd_send_signal(handle, signal),
            (None, Some(pid)) => kill_process(pid, signal),
            (None, None) => Ok(()),
        };
    }
}

fn number(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
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

/// Starts a server or worker; `exited` hears of its end. Server 0 inherits `listeners`: the protocol's and
/// HTTP's, so that its addresses outlive it.
///
/// # Errors
/// If the process cannot be started.
pub fn start(
    common: &Common<'_>,
    member: Member,
    generation: u32,
    listeners: [BorrowedFd<'_>; 2],
    exited: Sender<Exited>,
) -> Result<(Process, Pulse)> {
    let (pulse, alive) = Pulse::new(Instant::now())?;
    let mut inherited = vec![alive.as_fd()];
    let shared = (member == Member::COORDINATOR).then_some(listeners);
    inherited.extend(shared.into_iter().flatten());
    let shared = shared.map(|listeners| listeners.map(|listener| listener.as_raw_fd()));
    let mut command = common.command(member, generation, shared, alive.as_raw_fd())?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(common.log(member))?;
    let log_from = log.metadata()?.len();
    command
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log);
    // The terminal's Ctrl-C is for us; we tell the others.
    command.process_group(0);
    let mut child = spawn(&mut command, &inherited)
        .with_context(|| format!("{} cannot be started", member.in_words()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // It fits a pipe. A process that has ended already is heard of below.
        let _ = stdin.write_all(common.key.of_role(member.role).to_text().as_bytes());
    }
    let process = Process {
        log_from,
        ..Process::of(&child)
    };
    std::thread::spawn(move || watch(member, child, &exited));
    Ok((process, pulse))
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

/// The end of what was written to a log from this byte on, 16 KiB at most.
pub fn said_since(log: &Path, from: u64) -> String {
    let mut text = Vec::new();
    let mut read = || -> std::io::Result<usize> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL).max(from)))?;
        file.take(TAIL).read_to_end(&mut text)
    };
    // What cannot be read is as good as nothing said.
    let _ = read();
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_process_has_said_is_not_taken_for_the_last_ones() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("worker-0.log");
        std::fs::write(&log, "error: of the first\n").expect("writable");
        let from = 20;
        assert_eq!(said_since(&log, 0), "error: of the first\n");
        assert_eq!(said_since(&log, from), "");
        let long = "x".repeat(2 * TAIL as usize);
        std::fs::write(&log, format!("error: of the first\n{long}end")).expect("writable");
        let said = said_since(&log, from);
        assert!(said.len() as u64 == TAIL && said.ends_with("xend"));
        assert_eq!(said_since(&folder.path().join("none"), 0), "");
    }
}
