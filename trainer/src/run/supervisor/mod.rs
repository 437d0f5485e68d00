//! The supervisor of a run: which processes there are, and what follows when one ends.

mod begin;
mod ends;
mod shown;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use rustix::process::Signal;
use serde::Serialize;
use trainyard_contract::Member;
use trainyard_core::control::{Progress, Release};
use trainyard_runtime::job::Job;
use trainyard_runtime::net::Listener;

use super::folder::Folder;
use super::memory;
use super::observer::{Heard, Observer};
use super::places::Checkpoints;
use super::policy::Restarts;
use super::process::{self, Common, Exited, Process};
use super::pulse::Pulse;
use super::stuck::{LOOK, Silence};
use crate::ui::{Note, Ui};

/// How long processes may take to stop: they save what they can.
const FAREWELL: Duration = Duration::from_secs(25);
/// How long a process may take to leave where all is saved: ending it loses nothing.
const LEAVING: Duration = Duration::from_secs(5);

/// Where server 0 answers HTTP: a free port.
const HTTP: &str = "127.0.0.1:0";

/// How a run is over.
pub(super) enum Over {
    /// The job has ended.
    Done,
    /// It was stopped on request.
    Stopped,
}

#[derive(Debug)]
enum Input {
    Heard(Heard),
    Exited(Exited),
    Terminate,
}

/// A member's process, or when it is to be started.
enum Place {
    Running {
        process: Process,
        pulse: Pulse,
        since: Instant,
        /// When it was killed because it does nothing, and what it does not do.
        killed: Option<(Instant, String)>,
    },
    Waiting {
        until: Instant,
    },
}

/// `DIR/run.json`: who is running, for people and tools that look in from outside.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Roster {
    pid: u32,
    generation: u32,
    coordinator: String,
    http: String,
    processes: Vec<RosterEntry>,
}

#[derive(Serialize)]
struct RosterEntry {
    #[serde(flatten)]
    member: Member,
    pid: u32,
}

/// Starts, watches and replaces the processes of a run.
pub(super) struct Supervisor<'a> {
    common: Common<'a>,
    backoff_limit: u32,
    generation: u32,
    /// Of the protocol and of HTTP, which outlive server 0; none once everyone is to leave.
    listeners: Option<(Listener, TcpListener)>,
    http: SocketAddr,
    places: BTreeMap<Member, Place>,
    restarts: Restarts<Member>,
    watch: memory::Watch,
    inputs: Receiver<Input>,
    exits: Sender<Exited>,
    observer: Observer,
    folder: &'a Folder,
    job: &'a Job,
    checkpoints: &'a Checkpoints,
    ui: &'a mut Ui,
    begin: Instant,
    /// Where the job is, as far as it was heard, and when that was.
    pub progress: Progress,
    heard_at: Instant,
    /// The furthest step that was heard of; a generation that goes back does not take it back.
    furthest: u64,
    stopping: bool,
    /// The coordinator that runs now has said something.
    heard: bool,
    silence: Silence,
    /// Warnings that were shown.
    warned: BTreeSet<String>,
    /// The first epoch that was not shown yet.
    next_epoch: u64,
    /// Step of the checkpoint that the run goes on from.
    begun_from: Option<u64>,
}

impl<'a> Supervisor<'a> {
    pub fn supervise(&mut self) -> Result<Over> {
        let mut stop_deadline = None;
        loop {
            self.start_due()?;
            if self.stopping && !self.places.contains_key(&Member::COORDINATOR) {
                return Ok(Over::Stopped); // nobody is left to save more than was saved
            }
            if let Some(over) = self.replace_stuck()? {
                return Ok(over);
            }
            let wait = self.next_start().unwrap_or(LOOK).min(LOOK);
            match self.inputs.recv_timeout(wait) {
                Ok(Input::Heard(Heard::Silent)) => self.silence.begins(Instant::now()),
                Ok(Input::Heard(Heard::Alive)) => self.silence.ends(),
                Ok(Input::Heard(Heard::Progress(at, progress))) => self.progressed(at, *progress),
                Ok(Input::Heard(Heard::Epochs(epochs))) => self.finished_epochs(&epochs),
                Ok(Input::Heard(Heard::Released(release))) => match release {
                    Release::Done => return Ok(Over::Done),
                    Release::Stopped => return Ok(Over::Stopped),
                    Release::Failed { message } => return Err(anyhow!(message)),
                    Release::Drained => {}
                },
                Ok(Input::Exited(exited)) => {
                    if let Some(over) = self.exited(&exited)? {
                        return Ok(over);
                    }
                }
                Ok(Input::Terminate) => {
                    self.ui.note(&Note::Stopping);
                    self.stopping = true;
                    self.observer.stop();
                    if !self.heard {
                        // It is starting, or waits for storage, and may not hear the observer for long.
                        self.signal(Member::COORDINATOR, Signal::TERM);
                    }
                    stop_deadline = Some(Instant::now() + FAREWELL);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(anyhow!("the run's own threads have ended"));
                }
            }
            if stop_deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return Ok(Over::Stopped); // the previous checkpoint stands
            }
        }
    }

    fn next_start(&self) -> Option<Duration> {
        let due = |place: &Place| match place {
            Place::Waiting { until } => Some(until.saturating_duration_since(Instant::now())),
            Place::Running { .. } => None,
        };
        self.places.values().filter_map(due).min()
    }

    fn start_due(&mut self) -> Result<()> {
        if self.stopping {
            // Nobody new is needed; a lost server cannot be saved from here.
            self.places
                .retain(|_, place| matches!(place, Place::Running { .. }));
            return Ok(());
        }
        let now = Instant::now();
        let due = |(member, place): (&Member, &Place)| match place {
            Place::Waiting { until } if *until <= now => Some(*member),
            _ => None,
        };
        let members: Vec<Member> = self.places.iter().filter_map(due).collect();
        if members.is_empty() {
            return Ok(());
        }
        let Some((protocol, http)) = &self.listeners else {
            return Ok(()); // everyone is to leave
        };
        for member in members {
            let (process, pulse) = process::start(
                &self.common,
                member,
                self.generation,
                [protocol.as_fd(), http.as_fd()],
                self.exits.clone(),
            )?;
            self.heard &= member != Member::COORDINATOR;
            if member == Member::COORDINATOR {
                self.silence.ends();
            }
            self.places.insert(
                member,
                Place::Running {
                    process,
                    pulse,
                    since: now,
                    killed: None,
                },
            );
        }
        self.write_roster()
    }

    fn write_roster(&self) -> Result<()> {
        let entry = |(member, place): (&Member, &Place)| match place {
            Place::Running { process, .. } => Some(RosterEntry {
                member: *member,
                pid: process.pid,
            }),
            Place::Waiting { .. } => None,
        };
        self.folder.write(
            "run.json",
            &Roster {
                pid: std::process::id(),
                generation: self.generation,
                coordinator: self.common.coordinator.clone(),
                http: self.http.to_string(),
                processes: self.places.iter().filter_map(entry).collect(),
            },
        )
    }

    /// Sees every process off: it is told to leave, and killed if it takes too long, which is sooner if the job is `over`.
    /// Whoever was released leaves already, and does nothing else when it is told again.
    pub fn dismiss(&mut self, over: bool) {
        self.observer.close();
        // Whoever still wants to connect finds nobody, instead of waiting for an answer.
        self.listeners = None;
        self.places
            .retain(|_, place| matches!(place, Place::Running { .. }));
        self.signal_all(Signal::TERM);
        let deadline = Instant::now() + if over { LEAVING } else { FAREWELL };
        while !self.places.is_empty() && Instant::now() < deadline {
            match self.inputs.recv_timeout(LOOK) {
                Ok(Input::Exited(exited)) => drop(self.places.remove(&exited.member)),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            for (member, _) in self.frozen(true) {
                self.signal(member, Signal::KILL);
            }
        }
        self.signal_all(Signal::KILL);
    }

    /// Members whose processes have given no sign for too long that they run, and for how long.
    fn frozen(&mut self, ending: bool) -> Vec<(Member, Duration)> {
        let now = Instant::now();
        let frozen = |(member, place): (&Member, &mut Place)| match place {
            Place::Running { pulse, .. } => Some((*member, pulse.missing(now, ending)?)),
            Place::Waiting { .. } => None,
        };
        self.places.iter_mut().filter_map(frozen).collect()
    }

    fn signal(&self, member: Member, signal: Signal) {
        if let Some(Place::Running { process, .. }) = self.places.get(&member) {
            process.signal(signal);
        }
    }

    fn signal_all(&self, signal: Signal) {
        self.places
            .keys()
            .for_each(|member| self.signal(*member, signal));
    }
}
