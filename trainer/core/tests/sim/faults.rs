//! What goes wrong, and when.

use trainyard_core::control::{Role, ToCoordinator};

use super::toy::TIMEOUT;
use super::world::{Event, Kind, Link, Pid, World};

#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// kill -9 of any process.
    Crash,
    /// kill -9 of a worker.
    CrashWorker,
    /// A process stops running for a while, perhaps for longer than its heartbeat may be late.
    Pause,
    /// Some threads of a process do nothing any more, and its heartbeat goes on.
    Hang,
    /// A server is paused, taken for dead, replaced, and wakes up.
    Zombie,
    /// A control connection breaks, perhaps for a while in which the others stand.
    Disconnect,
    /// A bulk connection breaks, one of many, and sooner or later it is noticed.
    Break,
    /// Two processes cannot reach each other for a while.
    Partition,
    /// A worker is asked to terminate.
    DrainWorker,
    /// A server is asked to terminate.
    DrainServer,
    /// Everyone is asked to terminate.
    DrainAll,
    /// The user stops the job, and resumes it later.
    Stop,
    /// One more worker, or one less.
    Scale,
    /// Storage cannot be had for a while: by nobody, by one server, or by who commits.
    StorageAway,
}

/// The threads of a process that do nothing any more.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Hang {
    /// The one that hears the coordinator.
    Control,
    /// A worker's that computes.
    Computing,
    /// A server's that take gradients and send parameters.
    Data,
}

impl Hang {
    /// Whether this would have been done by one of them.
    pub fn concerns(self, event: &Event) -> bool {
        match event {
            Event::Down(..) | Event::DownClosed(_) | Event::Connect(_) => self == Hang::Control,
            Event::Computed { .. } | Event::Evaluated { .. } | Event::Pushed { .. } => {
                self == Hang::Computing
            }
            Event::Push(..) | Event::Frame(..) | Event::Retry(_) | Event::Feed(_) => {
                self == Hang::Data
            }
            _ => false,
        }
    }
}

/// Longest time until a process that hangs is replaced, where nobody knows how long a step takes: those that
/// wait for it may be replaced before it.
const NOTICED: u64 = 2_400 * TIMEOUT;

/// To whom storage is away.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Client {
    Server(u32),
    Committer,
}

const FAULTS: [Fault; 17] = [
    Fault::Crash,
    Fault::Crash,
    Fault::CrashWorker,
    Fault::CrashWorker,
    Fault::Pause,
    Fault::Pause,
    Fault::Hang,
    Fault::Zombie,
    Fault::Disconnect,
    Fault::Disconnect,
    Fault::Break,
    Fault::Partition,
    Fault::DrainWorker,
    Fault::DrainServer,
    Fault::Stop,
    Fault::Scale,
    Fault::StorageAway,
];

impl World {
    pub fn plan_faults(&mut self) {
        let busy = self.rng.chance(75);
        let window = *self
            .rng
            .pick(&[200_000, 1_000_000, 3_000_000])
            .unwrap_or(&0);
        self.faults_until = window;
        let planned = if busy {
            self.rng.within(1, 8)
        } else {
            self.rng.within(0, 1)
        };
        self.faults_left = if busy { self.rng.within(0, 6) } else { 0 };
        for _ in 0..planned {
            let fault = if busy { self.any_fault() } else { Fault::Stop };
            let time = self.rng.within(0, window);
            self.at(time, Event::Fault(fault));
        }
        if self.rng.chance(10) {
            let time = self.rng.within(0, window);
            self.at(time, Event::Fault(Fault::DrainAll));
        }
        // Bulk connections are many, and a break concerns few steps.
        let breaks = *self.rng.pick(&[0, 3, 30]).unwrap_or(&0);
        for _ in 0..breaks {
            let time = self.rng.within(0, window);
            self.at(time, Event::Fault(Fault::Break));
        }
    }

    fn any_fault(&mut self) -> Fault {
        *self.rng.pick(&FAULTS).unwrap_or(&Fault::Crash)
    }

    /// Phases last shorter than the time between faults: some faults aim at their beginnings.
    pub fn entered(&mut self, phase: &str) {
        if self.last_phase == phase {
            return;
        }
        self.last_phase = phase.to_owned();
        if self.faults_left > 0 && self.now < self.faults_until && self.rng.chance(25) {
            self.faults_left -= 1;
            let fault = self.any_fault();
            let delay = self.rng.within(0, 5_000);
            self.after(delay, Event::Fault(fault));
        }
    }

    fn alive(&self, wanted: impl Fn(Role) -> bool) -> Vec<Pid> {
        let found = self
            .processes
            .iter()
            .enumerate()
            .filter(|(_, p)| p.alive && wanted(p.role));
        found.map(|(process, _)| process).collect()
    }

    pub fn inflict(&mut self, fault: Fault) {
        self.trace(|| format!("fault {fault:?}"));
        // A job that is stopped while bulk connections break is saved all the same.
        if !matches!(fault, Fault::Stop | Fault::Break) {
            self.disturbed = self.disturbed.max(self.now);
        }
        let took_effect = self.carry_out_fault(fault);
        let count = self.tally.faults.entry(fault).or_default();
        count.0 += 1;
        count.1 += u64::from(took_effect);
    }

    /// Returns whether it took effect.
    fn carry_out_fault(&mut self, fault: Fault) -> bool {
        let servers = self.alive(|role| matches!(role, Role::Server(_)));
        let workers = self.alive(|role| matches!(role, Role::Worker(_)));
        let both = [servers.clone(), workers.clone()].concat();
        let any = self.rng.pick(&both).copied();
        let server = self.rng.pick(&servers).copied();
        let worker = self.rng.pick(&workers).copied();
        match (fault, any, server, worker) {
            (Fault::Crash, Some(process), ..) | (Fault::CrashWorker, _, _, Some(process)) => {
                self.crash(process);
                true
            }
            (Fault::Pause, Some(process), ..) => {
                let time = *self.rng.pick(&[30_000, 300_000, 900_000]).unwrap_or(&0);
                self.pause(process, time)
            }
            (Fault::Hang, Some(process), ..) => {
                let hangs = match self.processes[process].role {
                    Role::Server(_) => [Hang::Control, Hang::Data],
                    _ => [Hang::Control, Hang::Computing],
                };
                let hang = self.rng.pick(&hangs).copied();
                // Who has never joined may as well be loading.
                let this = &mut self.processes[process];
                let new = this.hang.is_none() && this.welcomed && this.connection.is_some();
                if new {
                    this.hang = hang;
                    self.disturbed = self.disturbed.max(self.now + NOTICED);
                }
                new
            }
            (Fault::Zombie, _, Some(process), _) => self.replace_while_paused(process),
            (Fault::Disconnect, Some(process), ..) => {
                let time = *self.rng.pick(&[0, 50_000, 600_000]).unwrap_or(&0);
                let until = self.now + time;
                self.astray.insert(process, until);
                self.disturbed = self.disturbed.max(until);
                self.disconnect(process)
            }
            (Fault::Partition, Some(process), Some(server), _) => {
                self.partition(process, server);
                process != server
            }
            (Fault::DrainWorker, _, _, Some(process))
            | (Fault::DrainServer, _, Some(process), _) => self.drain(process),
            (Fault::DrainAll, ..) => {
                let mut any = false;
                for process in both {
                    any |= self.drain(process);
                }
                any
            }
            (Fault::Stop, ..) => {
                let first = self.stopping.is_none();
                self.stopping.get_or_insert(self.now);
                let observer = self.spawn(Role::Observer, Kind::Observer);
                self.after(0, Event::Connect(observer));
                first
            }
            (Fault::Break, ..) => {
                let links = self.links_where(|_| true);
                let link = self.rng.pick(&links).copied();
                let delay = *self.rng.pick(&[1_000, 20_000, 400_000]).unwrap_or(&0);
                if let Some(link) = link {
                    self.sever(link, delay);
                }
                link.is_some()
            }
            (Fault::Scale, ..) => {
                self.scale();
                true
            }
            (Fault::StorageAway, ..) => {
                let time = *self.rng.pick(&[1_000, 100_000, 1_000_000]).unwrap_or(&0);
                let index = self.rng.within(0, u64::from(self.toy.servers) - 1) as u32;
                let one = [None, Some(Client::Committer), Some(Client::Server(index))];
                let client = self.rng.pick(&one).copied().flatten();
                let until = self.now + time;
                self.disturbed = self.disturbed.max(until);
                self.away.push((client, until));
                false // until somebody asks for it
            }
            _ => false,
        }
    }

    /// Whether storage cannot be had by somebody who asks for it now.
    pub fn storage_is_away(&mut self, client: Client) -> bool {
        let now = self.now;
        self.away.retain(|(_, until)| *until > now);
        let concerns = |(who, _): &(Option<Client>, u64)| who.is_none_or(|who| who == client);
        let away = self.away.iter().any(concerns);
        if away {
            self.trace(|| format!("no storage for {client:?}"));
            self.refused = true;
            let count = self.tally.faults.entry(Fault::StorageAway).or_default();
            count.1 = count.0.min(count.1 + 1);
        }
        away
    }

    /// Pauses a server for so long that the supervisor replaces it before it wakes up.
    fn replace_while_paused(&mut self, process: Pid) -> bool {
        let role = self.processes[process].role;
        let Role::Server(index) = role else {
            return false;
        };
        if self.running(role) != Some(process) || self.processes[process].paused {
            return false;
        }
        let time = self.rng.within(800_000, 2_000_000);
        self.pause(process, time);
        self.generation += 1;
        self.processes[process].replaced = true;
        if self.leader == Some(process) {
            self.leader = None;
        }
        self.supersede(index);
        true
    }

    fn partition(&mut self, process: Pid, server: Pid) {
        let time = self.now + self.rng.within(1_000, 1_200_000);
        self.partitions.push((process, server, time));
        self.disturbed = self.disturbed.max(time);
        let between = |link: &Link| link.worker == process && link.server == server;
        for link in self.links_where(between) {
            let delay = self.rng.within(1_000, 600_000);
            self.sever(link, delay);
        }
        let through = self.processes[process]
            .connection
            .filter(|id| self.connections[*id].host == server);
        if through.is_some() {
            self.disconnect(process);
        }
    }

    pub fn crash(&mut self, process: Pid) {
        if !self.processes[process].alive {
            return;
        }
        let role = self.processes[process].role;
        let current = self.running(role) == Some(process);
        self.end(process, true);
        if current {
            self.replace(role);
        }
    }

    fn pause(&mut self, process: Pid, time: u64) -> bool {
        let new = !std::mem::replace(&mut self.processes[process].paused, true);
        if new {
            self.disturbed = self.disturbed.max(self.now + time);
            self.after(time, Event::Resume(process));
        }
        new
    }

    fn disconnect(&mut self, process: Pid) -> bool {
        let connection = self.processes[process].connection;
        let breakable = connection.filter(|id| {
            let connection = &self.connections[*id];
            !connection.local && !connection.cut
        });
        if let Some(id) = breakable {
            self.cut(id, true);
        }
        breakable.is_some()
    }

    fn drain(&mut self, process: Pid) -> bool {
        self.tally.drains += 1;
        let new = !std::mem::replace(&mut self.processes[process].draining, true);
        self.report(process, ToCoordinator::Drain);
        new
    }

    fn scale(&mut self) {
        let last = self.workers.last().copied().unwrap_or(0);
        if self.workers.len() > 1 && self.rng.chance(50) {
            self.workers.remove(&last);
            if let Some(process) = self.running(Role::Worker(last)) {
                self.drain(process);
            }
        } else {
            self.workers.insert(last + 1);
            self.after(0, Event::StartWorker(last + 1));
        }
    }
}
