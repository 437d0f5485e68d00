//! The supervisor of a run: which processes there are, and what follows when one ends.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use rustix::process::Signal;
use serde::Serialize;
use trainyard_checkpoint::{Check, Log};
use trainyard_contract::{Key, MAX_THREADS, Member, Role, Verdict, judge, pod};
use trainyard_core::control::{Progress, Release};
use trainyard_core::record::EpochRecord;
use trainyard_runtime::exit;
use trainyard_runtime::job::Job;
use trainyard_runtime::limits::Callers;
use trainyard_runtime::memory::Company;
use trainyard_runtime::net::{Listener, Timing};
use trainyard_runtime::role;
use trainyard_runtime::signals::Termination;

use super::earlier;
use super::end::{self, Ended};
use super::folder::{Folder, elsewhere};
use super::memory;
use super::observer::{Heard, Observer, relay};
use super::places::{self, Checkpoints};
use super::policy::{self, Reaction, Restarts};
use super::process::{self, Common, Exited, Process, as_argument, in_words};
use super::sockets::SocketFolder;
use super::stuck::{self, Silence};
use super::{Options, Transport, describe, folder_of};
use crate::torch_program::TorchProgram;
use crate::ui::{Epoch, Note, Started, Ui};

/// How long processes may take to leave once the job is over.
const FAREWELL: Duration = Duration::from_secs(25);

/// How often processes that do nothing are looked for at least.
const LOOK: Duration = Duration::from_millis(500);

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
    /// Where the job is, as far as it was heard.
    pub progress: Progress,
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

/// An address that nobody may take, or that has no port left: the system says "Address already in use" of both.
fn unbound(address: impl Display, error: &io::Error) -> anyhow::Error {
    anyhow!(
        "cannot listen on {address}: {error}; if every port is taken (ss -tan counts them), end what holds them or widen \
         net.ipv4.ip_local_port_range"
    )
}

impl<'a> Supervisor<'a> {
    pub fn new(
        options: &Options,
        job: &'a Job,
        (folder, checkpoints, torch): (&'a Folder, &'a Checkpoints, &'a TorchProgram),
        initial_model: Option<PathBuf>,
        log: &Log,
        (termination, ui): (&Termination, &'a mut Ui),
    ) -> Result<Self> {
        let spec = &job.manifest.spec;
        let out = options.out.as_deref().unwrap_or(&folder.path);
        let servers = options.servers.unwrap_or(spec.servers.replicas).max(1);
        let workers = options.workers.unwrap_or(spec.workers.replicas).max(1);
        let callers = Callers {
            workers,
            servers,
            connections: options.connections,
        };
        callers.check()?;
        let threads = options
            .threads
            .unwrap_or_else(|| trainyard_runtime::leaves_side_by_side(job, workers));
        memory::check(
            job,
            Company {
                servers: servers.into(),
                workers: workers.into(),
                threads: threads as u64,
                data: 0,
            },
        )?;
        let sockets = match options.transport {
            Transport::Unix => Some(Arc::new(SocketFolder::create(servers)?)),
            Transport::Tcp => None,
        };
        let address = match &sockets {
            Some(folder) => folder.address(0)?,
            None => HTTP.parse()?,
        };
        let protocol = Listener::bind(&address).map_err(|error| unbound(&address, &error))?;
        let http = TcpListener::bind(HTTP).map_err(|error| unbound(HTTP, &error))?;
        let listeners = (protocol, http);
        let coordinator = listeners.0.address().clone();
        let http = listeners.1.local_addr()?;
        let data = std::fs::canonicalize(folder_of(&options.file))?;
        let initial_model = initial_model.as_deref().map(as_argument).transpose()?;
        let key = match &options.key_file {
            Some(file) => role::key(Some(file), Role::Server)?,
            None => random_key()?,
        };
        let common = Common {
            torch,
            folder: folder.path.clone(),
            job: as_argument(&folder.path.join(pod::JOB_FILE))?,
            initial_model,
            storage: checkpoints.location.to_string(),
            storage_env: checkpoints.env(),
            data_env: places::data(job, &data)?.env(),
            data: as_argument(&data)?,
            coordinator: coordinator.to_string(),
            sockets: sockets.clone(),
            key: key.clone(),
            servers,
            workers,
            threads: threads.clamp(1, MAX_THREADS.into()) as u16,
            connections: options.connections,
        };
        let (sender, inputs) = channel();
        let observer = Observer::default();
        observer.start(
            coordinator,
            key,
            job.id,
            Timing::default(),
            relay(sender.clone(), Input::Heard),
        );
        if let Some(folder) = sockets.as_ref().map(Arc::downgrade) {
            let remove = move || folder.upgrade().iter().for_each(|folder| folder.remove());
            termination.before_exit(remove);
        }
        // By sizes alone: server 0 compares digests, and may have to take an older one.
        let from = log.newest_loadable(Check::Sizes).ok().flatten();
        let from = from.map(|loadable| loadable.manifest);
        // Storage was read for the last time; from here on there is somebody to stop in order.
        termination.forward(sender.clone(), || Input::Terminate);
        ui.started(&Started {
            job: job.name.clone(),
            model: describe(job),
            servers,
            workers,
            leaves: job.tree.leaves(),
            out: out.display().to_string(),
            status_url: format!("http://{http}/status"),
            resumed_from: from.map(|manifest| manifest.step),
            initial_model: spec
                .initial_model
                .as_ref()
                .map(|initial| initial.uri.clone()),
        });
        let members = (0..servers)
            .map(Member::server)
            .chain((0..workers).map(Member::worker));
        let now = Instant::now();
        let (exits, exited) = channel();
        std::thread::spawn(move || {
            while let Ok(exit) = exited.recv() {
                if sender.send(Input::Exited(exit)).is_err() {
                    return;
                }
            }
        });
        Ok(Supervisor {
            common,
            backoff_limit: spec.backoff_limit,
            generation: log
                .current_claim()
                .map_or(0, |claim| claim.generation as u32)
                + 1,
            listeners: Some(listeners),
            http,
            places: members
                .map(|member| (member, Place::Waiting { until: now }))
                .collect(),
            restarts: Restarts::default(),
            watch: memory::Watch::new(),
            inputs,
            exits,
            observer,
            folder,
            job,
            checkpoints,
            ui,
            begin: now,
            progress: Progress::default(),
            furthest: 0,
            stopping: false,
            heard: false,
            silence: Silence::default(),
            warned: BTreeSet::new(),
            begun_from: from.map(|manifest| manifest.step),
            next_epoch: from.map_or(0, |manifest| {
                let record = &manifest.coordinator.record;
                let validated = manifest.facts.validation_rows > 0;
                let finished = record.finished(0, validated).last();
                finished.map_or(0, |last| last.epoch + 1)
            }),
        })
    }

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
                Ok(Input::Heard(Heard::Silent)) => self.silence.heard(Instant::now()),
                Ok(Input::Heard(Heard::Alive)) => self.silence.broken(),
                Ok(Input::Heard(Heard::Progress(progress))) => self.progressed(*progress),
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

    /// Ends processes that do nothing, and does without those that do not even end.
    fn replace_stuck(&mut self) -> Result<Option<Over>> {
        let now = Instant::now();
        if self.silence.is_too_long(now) && self.heard {
            self.kill_stuck(Member::COORDINATOR, "has not answered for 15 s".into());
        }
        let running_for = |member: Member| match self.places.get(&member) {
            Some(Place::Running { since, .. }) => Some(since.elapsed()),
            _ => None,
        };
        for (member, why) in stuck::meant(&self.progress.stuck, running_for) {
            self.kill_stuck(member, why);
        }
        let gone = |(member, place): (&Member, &Place)| match place {
            Place::Running {
                process,
                killed: Some((killed, _)),
                ..
            } if now.duration_since(*killed) >= stuck::GONE => Some(Exited {
                member: *member,
                pid: process.pid,
                status: ExitStatus::from_raw(Signal::KILL.as_raw()),
            }),
            _ => None,
        };
        match self.places.iter().find_map(gone) {
            Some(exited) => self.exited(&exited),
            None => Ok(None),
        }
    }

    fn kill_stuck(&mut self, member: Member, why: String) {
        if let Some(Place::Running {
            process, killed, ..
        }) = self.places.get_mut(&member)
            && killed.is_none()
        {
            process.signal(Signal::KILL);
            *killed = Some((Instant::now(), why));
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
            let process = process::start(
                &self.common,
                member,
                self.generation,
                [protocol.as_fd(), http.as_fd()],
                self.exits.clone(),
            )?;
            self.heard &= member != Member::COORDINATOR;
            if member == Member::COORDINATOR {
                self.silence.broken();
            }
            self.places.insert(
                member,
                Place::Running {
                    process,
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

    /// Decides what follows the end of a process.
    fn exited(&mut self, exited: &Exited) -> Result<Option<Over>> {
        let Exited {
            member,
            pid,
            status,
        } = *exited;
        let (lived, log_from, stuck) = match self.places.get_mut(&member) {
            Some(Place::Running {
                process,
                since,
                killed,
            }) if process.pid == pid => {
                let stuck = killed.take().map(|(_, why)| why);
                (since.elapsed(), process.log_from, stuck)
            }
            _ => return Ok(None),
        };
        // First: whatever follows, nobody waits for it or signals it any more.
        self.places.remove(&member);
        let said = process::said_since(&self.common.log(member), log_from);
        let lacked = self.watch.lacked(status, &said);
        let verdict = judge(end::judged(status, lacked), self.stopping);
        if verdict == Verdict::Left && member == Member::COORDINATOR {
            // The release that explains it may still be on its way to us.
            return self.explained();
        }
        if self.stopping {
            return Ok(None);
        }
        if verdict == Verdict::Disrupted && member == Member::COORDINATOR {
            self.not_taken_over()?;
        }
        let ended = Ended {
            member,
            status,
            lacked,
            stuck,
            said: exit::last_error(&said),
            log: self.common.log(member),
        };
        if lacked && self.restarts.is_hopeless(member, self.furthest) {
            return Err(ended.failed(", as before, and a restart would not help"));
        }
        let expected = policy::heard_the_end(member, verdict, &self.progress.phase);
        let limit = self.backoff_limit;
        match self.restarts.react(member, verdict, lived, limit) {
            Reaction::Restart(wait) => {
                match member.role {
                    // Durable before its effect: the claim in the log is made by server 0 itself.
                    Role::Server => self.generation += 1,
                    Role::Worker | Role::Finisher => {}
                }
                let wait = if expected { policy::WORD } else { wait };
                if !expected {
                    self.ui.note(&Note::Restarting {
                        member: in_words(member),
                        how: ended.how(),
                        wait,
                    });
                }
                self.places.insert(
                    member,
                    Place::Waiting {
                        until: Instant::now() + wait,
                    },
                );
                // Nobody shall take its number for a process of ours.
                self.write_roster()?;
                Ok(None)
            }
            Reaction::Fail => Err(ended.refused()),
            Reaction::Exhausted => Err(ended.failed(&policy::used_up(limit))),
        }
    }

    /// After server 0 has asked to be tried again: nobody else may have claimed the checkpoints.
    /// Were it started again under a higher generation all the same, two runs would fence each other
    /// for ever.
    fn not_taken_over(&self) -> Result<()> {
        // A storage that cannot be read now may be what server 0 is waiting for.
        let Ok(log) = self.checkpoints.log(self.job) else {
            return Ok(());
        };
        if log.complete().is_some() {
            return Ok(()); // its successor will find the result
        }
        let claim = log.current_claim();
        let claimed = claim.map(|claim| claim.generation);
        let Some(claim) = claim.filter(|_| policy::taken_over(claimed, self.generation)) else {
            return Ok(());
        };
        Err(anyhow!(
            "another run has taken over {}: its coordinator {} claimed generation {}, this run's last is {}; \
             let one of the two go on and end the other, or {}",
            self.checkpoints.location,
            claim.holder,
            claim.generation,
            self.generation,
            elsewhere(&self.checkpoints.location)
        ))
    }

    fn progressed(&mut self, mut progress: Progress) {
        self.heard = true;
        self.silence.broken();
        self.furthest = self.furthest.max(progress.step);
        for message in std::mem::take(&mut progress.warnings) {
            if self.warned.insert(message.clone()) {
                self.ui.note(&Note::Warning { message });
            }
        }
        if progress.checkpoint > self.begun_from && self.progress.checkpoint <= self.begun_from {
            // The new run has trained. Were this to fail, the end of the run tries again.
            let _ = earlier::delete(&self.folder.path);
        }
        self.progress = progress;
        self.ui.progress(self.begin.elapsed(), &self.progress);
    }

    /// Shows epochs that were not shown before: those of a generation that went back to a checkpoint
    /// come again.
    fn finished_epochs(&mut self, finished: &[EpochRecord]) {
        let epochs = self.job.manifest.spec.training.epochs.into();
        for record in finished
            .iter()
            .filter(|record| record.epoch >= self.next_epoch)
        {
            let steps = record.step / (record.epoch + 1);
            let rate = self.job.learning_rate(steps * epochs);
            self.ui.epoch(&Epoch {
                epoch: record.epoch,
                epochs,
                step: record.step,
                train_loss: record.train_loss,
                learning_rate: rate.at(record.step.saturating_sub(1)),
                validation: record.validation.clone(),
            });
        }
        let last = finished.last().map_or(0, |last| last.epoch + 1);
        self.next_epoch = self.next_epoch.max(last);
    }

    /// After server 0 has left in order: hears how the job ended, or leaves it to the log.
    fn explained(&mut self) -> Result<Option<Over>> {
        let deadline = Instant::now() + policy::WORD;
        while let Ok(input) = self
            .inputs
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            match input {
                Input::Heard(Heard::Released(Release::Done)) => return Ok(Some(Over::Done)),
                Input::Heard(Heard::Released(Release::Failed { message })) => {
                    return Err(anyhow!(message));
                }
                Input::Heard(Heard::Released(_)) => return Ok(Some(Over::Stopped)),
                Input::Exited(exited) => drop(self.places.remove(&exited.member)),
                // What it saved last is told to the user.
                Input::Heard(Heard::Progress(progress)) => self.progressed(*progress),
                Input::Heard(Heard::Epochs(epochs)) => self.finished_epochs(&epochs),
                Input::Heard(Heard::Alive | Heard::Silent) => {}
                Input::Terminate => self.stopping = true,
            }
        }
        let stopping = self.stopping;
        Ok(Some(if stopping { Over::Stopped } else { Over::Done }))
    }

    /// Sees every process off: it is told to leave, and killed if it takes too long. Whoever was released
    /// leaves already, and does nothing else when it is told again.
    pub fn dismiss(&mut self) {
        self.observer.close();
        // Whoever still wants to connect finds nobody, instead of waiting for an answer.
        self.listeners = None;
        self.places
            .retain(|_, place| matches!(place, Place::Running { .. }));
        self.signal_all(Signal::TERM);
        let deadline = Instant::now() + FAREWELL;
        while !self.places.is_empty() {
            match self
                .inputs
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(Input::Exited(exited)) => drop(self.places.remove(&exited.member)),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        self.signal_all(Signal::KILL);
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

/// A key that nobody else has.
fn random_key() -> Result<Key> {
    let mut random = [0; Key::BYTES];
    getrandom::fill(&mut random)?;
    Ok(Key::of_servers(random))
}
