//! The simulated world: processes, connections, a clock, and the events between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use trainyard_core::control::{Block, FromCoordinator, Role, ToCoordinator};
use trainyard_core::coordinator::{PeerId, Reports};
use trainyard_core::shard::{Push, Pusher, Shared, Snapshot};
use trainyard_core::tree::Node;

use super::faults::{Client, Fault, Hang};
use super::host::Host;
use super::liars::Lie;
use super::reference::Reference;
use super::rng::Rng;
use super::server::Pending;
use super::shard::Shard;
use super::storage::Storage;
use super::toy::{HEARTBEAT, TIMEOUT, Toy};
use super::worker::Worker;

pub type Pid = usize;
pub type ConnId = usize;

pub enum Kind {
    Server {
        shard: Option<Box<Shard>>,
        reports: Reports,
    },
    Worker(Box<Worker>),
    Observer,
}

pub struct Process {
    pub role: Role,
    pub incarnation: u64,
    pub generation: u32,
    pub born: u32,
    pub alive: bool,
    pub paused: bool,
    inbox: Vec<Event>,
    pub connection: Option<ConnId>,
    pub welcomed: bool,
    pub draining: bool,
    /// The supervisor has given it up.
    pub replaced: bool,
    /// Which of its threads do nothing any more, if any; its heartbeat goes on.
    pub hang: Option<Hang>,
    /// What it has told the coordinator that is not so.
    pub lie: Option<Lie>,
    pub started: u64,
    /// Heartbeats in a row without a coordinator.
    missed: u64,
    /// Servers: when the last shard will be written.
    pub written: u64,
    pub kind: Kind,
}

/// A control connection. Messages of each direction arrive in order.
pub struct Connection {
    pub process: Pid,
    pub host: Pid,
    pub life: u64,
    pub peer: PeerId,
    pub local: bool,
    /// Nothing that is sent from now on arrives.
    pub cut: bool,
    /// Not even what was under way when it was cut.
    pub torn_up: bool,
    pub torn_down: bool,
    pub last_up: u64,
    pub last_down: u64,
    /// When the process last heard the coordinator.
    pub heard: u64,
}

/// Which way data goes on a bulk connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Gradients, to the server.
    Push,
    /// Parameters, to the worker.
    Pull,
}

/// A bulk connection, told from its successors by a number.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub worker: Pid,
    pub server: Pid,
    /// Which of the worker's lanes.
    pub lane: usize,
    pub way: Way,
    pub generation: u32,
    pub number: u64,
}

pub enum Event {
    Up(ConnId, ToCoordinator),
    UpClosed(ConnId),
    Down(ConnId, FromCoordinator),
    DownClosed(ConnId),
    Tick {
        host: Pid,
        life: u64,
    },
    Work {
        host: Pid,
        life: u64,
    },
    Beat(Pid),
    Connect(Pid),
    Dial {
        worker: Pid,
        lane: usize,
        way: Way,
        generation: u32,
    },
    Broken(Link),
    Received(Link),
    Push(Link, Push, Vec<f32>),
    /// Of somebody who lies, or is about to.
    Frame(Link, Pusher, Vec<u8>, Option<Lie>),
    Lie,
    /// Pushes on this connection wait for the gate.
    Retry(Link),
    Feed(Link),
    Params(Link, u32, Vec<(u64, Shared)>),
    Computed {
        worker: Pid,
        generation: u32,
        step: u64,
        leaves: Vec<bool>,
    },
    Pushed {
        worker: Pid,
        generation: u32,
        step: u64,
        /// Lanes, their lives, and nodes.
        written: Vec<(usize, u64, Node)>,
    },
    Evaluated {
        worker: Pid,
        generation: u32,
        id: u64,
        version: u64,
        blocks: Vec<Block>,
    },
    Written {
        server: Pid,
        generation: u32,
        snapshot: Snapshot,
    },
    Resume(Pid),
    StartServer(u32),
    StartWorker(u32),
    StartAll,
    Fault(Fault),
    /// A process ends itself.
    Abort(Pid),
}

pub struct World {
    pub toy: Toy,
    pub reference: Reference,
    pub rng: Rng,
    pub now: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Event>,
    pub processes: Vec<Process>,
    pub connections: Vec<Connection>,
    /// Bulk connections that stand, by number.
    pub links: BTreeMap<u64, Link>,
    /// Those that are broken, on which what was under way still arrives.
    pub draining: BTreeSet<u64>,
    /// When the last push on each arrives.
    pub sent: BTreeMap<u64, u64>,
    pub last_number: u64,
    /// Pushes that have come in and wait for the gate, by the number of their connection.
    pub waiting: BTreeMap<u64, VecDeque<Pending>>,
    /// Processes that do not find a coordinator, until when.
    pub astray: BTreeMap<Pid, u64>,
    /// Who does not have storage, until when.
    pub away: Vec<(Option<Client>, u64)>,
    /// Somebody did not have it since the job was last started.
    pub refused: bool,
    /// Pairs of processes that cannot reach each other, until when.
    pub partitions: Vec<(Pid, Pid, u64)>,
    pub hosts: BTreeMap<Pid, Host>,
    pub leader: Option<Pid>,
    pub lives: u64,
    pub generation: u32,
    pub storage: Storage,
    pub workers: BTreeSet<u32>,
    /// When the last fault ended.
    pub disturbed: u64,
    /// When a stop was asked for.
    pub stopping: Option<u64>,
    /// What else may go wrong.
    pub faults_left: u64,
    pub faults_until: u64,
    pub last_phase: String,
    pub tally: Tally,
    pub done: bool,
    /// Longest time to write or commit.
    pub storage_delay: u64,
    traced: bool,
}

/// What happened in a run, to see that the simulation simulates something.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub events: u64,
    pub generations: u64,
    pub stops: u64,
    pub unsaved: u64,
    pub drains: u64,
    pub fenced: u64,
    pub missed: u64,
    pub restores: u64,
    pub early: u64,
    pub amended: u64,
    pub late: u64,
    /// Sessions that ended for want of a connection.
    pub lost: u64,
    /// Processes that were replaced because they did nothing.
    pub stuck: u64,
    /// Jobs that ended for a falsehood.
    pub misled: u64,
    /// Connections that a server has ended although nobody lied on them.
    pub refused: u64,
    /// Of each lie, how often it was said and how often it was refused.
    pub lies: BTreeMap<Lie, (u64, u64)>,
    /// Of each fault, how often it occurred and how often it took effect.
    pub faults: BTreeMap<Fault, (u64, u64)>,
    pub time: u64,
}

/// How long a process looks for a coordinator.
const ORPHANED: u64 = 4_000_000;

/// How long a process may take to react to the end of its connection.
const NOBODY_REACTS: u64 = 6 * TIMEOUT;

/// Virtual time in which a job must end once nothing disturbs it.
const PATIENCE: u64 = 60_000_000;

impl World {
    pub fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let toy = Toy::random(&mut rng);
        let reference = Reference::run(&toy);
        let count = rng.within(
            1,
            if rng.clone().chance(20) {
                2 * u64::from(toy.tree.leaves())
            } else {
                4
            },
        );
        let storage_delay = *rng.pick(&[1_000, 30_000, 30_000, 400_000]).unwrap_or(&0);
        let mut world = World {
            toy,
            reference,
            rng,
            now: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            processes: Vec::new(),
            connections: Vec::new(),
            links: BTreeMap::new(),
            draining: BTreeSet::new(),
            sent: BTreeMap::new(),
            last_number: 0,
            waiting: BTreeMap::new(),
            astray: BTreeMap::new(),
            away: Vec::new(),
            refused: false,
            partitions: Vec::new(),
            hosts: BTreeMap::new(),
            leader: None,
            lives: 0,
            generation: 0,
            storage: Storage::default(),
            workers: (0..count.min(9) as u32).collect(),
            disturbed: 0,
            stopping: None,
            faults_left: 0,
            faults_until: 0,
            last_phase: String::new(),
            tally: Tally::default(),
            done: false,
            storage_delay,
            traced: std::env::var_os("SIM_TRACE").is_some(),
        };
        world.plan_faults();
        world.plan_lies();
        world.after(0, Event::StartAll);
        world
    }

    /// Runs to the end of the job.
    pub fn run(mut self) -> Tally {
        while !self.done {
            let Some(((time, _), event)) = self.queue.pop_first() else {
                panic!("nothing will ever happen again: {}", self.describe());
            };
            self.now = time;
            self.tally.events += 1;
            let limit = self.disturbed.max(self.faults_until) + PATIENCE;
            assert!(time < limit, "the job does not end: {}", self.describe());
            self.dispatch(event);
        }
        self.tally.time = self.now;
        self.tally.generations = self.generation.into();
        self.tally
    }

    fn describe(&self) -> String {
        let progress: Vec<_> = self
            .hosts
            .values()
            .map(|host| host.coordinator.progress())
            .collect();
        let processes = self.processes.iter().filter(|p| p.alive).map(|p| {
            let held = match &p.kind {
                Kind::Worker(w) => format!("busy {} {:?}", w.busy, w.session),
                Kind::Server { shard, .. } => {
                    format!("{:?}", shard.as_ref().map(|shard| shard.version()))
                }
                Kind::Observer => String::new(),
            };
            format!(
                "\n{:?} gen {} welcomed {} {held}",
                p.role, p.generation, p.welcomed
            )
        });
        format!(
            "at {} us, {progress:?}{}",
            self.now,
            processes.collect::<String>()
        )
    }

    /// Tells what happens, if `SIM_TRACE` is set.
    pub fn trace(&self, what: impl FnOnce() -> String) {
        if self.traced {
            eprintln!("{:>9} {}", self.now, what());
        }
    }

    pub fn name(&self, id: ConnId) -> String {
        let connection = &self.connections[id];
        let process = &self.processes[connection.process];
        format!(
            "{:?} pid {} connection {id} host {}",
            process.role, connection.process, connection.host
        )
    }

    pub fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    pub fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((time, self.sequence), event);
    }

    /// The process that an event happens to.
    fn target(&self, event: &Event) -> Option<Pid> {
        Some(match event {
            Event::Up(connection, _) | Event::UpClosed(connection) => {
                self.connections[*connection].host
            }
            Event::Down(connection, _) | Event::DownClosed(connection) => {
                self.connections[*connection].process
            }
            Event::Tick { host, .. } | Event::Work { host, .. } => *host,
            Event::Beat(process) | Event::Connect(process) => *process,
            Event::Dial { worker, .. }
            | Event::Computed { worker, .. }
            | Event::Pushed { worker, .. }
            | Event::Evaluated { worker, .. } => *worker,
            Event::Push(link, ..)
            | Event::Frame(link, ..)
            | Event::Retry(link)
            | Event::Feed(link) => link.server,
            Event::Params(link, ..) | Event::Broken(link) | Event::Received(link) => link.worker,
            Event::Written { server, .. } => *server,
            _ => return None,
        })
    }

    fn dispatch(&mut self, event: Event) {
        if let Some(target) = self.target(&event) {
            let process = &mut self.processes[target];
            if !process.alive {
                return;
            }
            if process.paused {
                return process.inbox.push(event);
            }
            if process.hang.is_some_and(|hang| hang.concerns(&event)) {
                if matches!(event, Event::DownClosed(id) if process.connection == Some(id)) {
                    // The thread that beats sees that the connection has ended, and that nobody reacts.
                    self.after(NOBODY_REACTS, Event::Abort(target));
                }
                return;
            }
        }
        match event {
            Event::Up(connection, message) => self.up(connection, message),
            Event::UpClosed(connection) => self.up_closed(connection),
            Event::Down(connection, message) => self.down(connection, message),
            Event::DownClosed(connection) => self.down_closed(connection),
            Event::Tick { host, life } => self.tick(host, life),
            Event::Work { host, life } => self.work(host, life),
            Event::Beat(process) => self.beat(process),
            Event::Connect(process) => self.connect(process),
            Event::Dial {
                worker,
                lane,
                way,
                generation,
            } => self.dial(worker, lane, way, generation),
            Event::Broken(link) => self.broken(link),
            Event::Received(link) => self.received(link),
            Event::Push(link, push, values) => self.push(link, &push, values),
            Event::Frame(link, pusher, bytes, lie) => self.framed(link, pusher, &bytes, lie),
            Event::Lie => drop(self.lie()),
            Event::Retry(link) => self.take_waiting(link),
            Event::Feed(link) => self.feed(link),
            Event::Params(link, chunk, versions) => self.params(link, chunk, versions),
            Event::Computed {
                worker,
                generation,
                step,
                leaves,
            } => {
                self.computed(worker, generation, step, &leaves);
            }
            Event::Pushed {
                worker,
                generation,
                step,
                written,
            } => self.pushed(worker, generation, step, &written),
            Event::Evaluated {
                worker,
                generation,
                id,
                version,
                blocks,
            } => {
                self.evaluated(worker, generation, id, version, &blocks);
            }
            Event::Written {
                server,
                generation,
                snapshot,
            } => self.written(server, generation, snapshot),
            Event::Resume(process) => self.resume(process),
            Event::StartServer(index) => self.start_server(index),
            Event::StartWorker(index) => self.start_worker(index),
            Event::StartAll => self.start_all(),
            Event::Fault(fault) => self.inflict(fault),
            Event::Abort(process) => self.crash(process),
        }
    }

    fn resume(&mut self, process: Pid) {
        self.processes[process].paused = false;
        self.disturbed = self.disturbed.max(self.now);
        if let Some(id) = self.processes[process].connection {
            self.connections[id].heard = self.now;
        }
        for event in std::mem::take(&mut self.processes[process].inbox) {
            // What it was computing stood still too.
            if matches!(event, Event::Computed { .. } | Event::Evaluated { .. }) {
                let delay = self.rng.within(100, 50_000);
                self.after(delay, event);
            } else {
                self.dispatch(event);
            }
        }
    }

    // ---- processes --------------------------------------------------------------------------

    pub fn spawn(&mut self, role: Role, kind: Kind) -> Pid {
        let process = self.processes.len();
        self.processes.push(Process {
            role,
            incarnation: self.rng.next(),
            generation: self.generation,
            born: self.generation,
            alive: true,
            paused: false,
            inbox: Vec::new(),
            connection: None,
            welcomed: false,
            draining: false,
            replaced: false,
            hang: None,
            lie: None,
            started: self.now,
            missed: 0,
            written: 0,
            kind,
        });
        self.after(HEARTBEAT, Event::Beat(process));
        process
    }

    pub fn start_server(&mut self, index: u32) {
        if self.running(Role::Server(index)).is_some() {
            return;
        }
        self.supersede(index);
    }

    /// Starts a server whether or not its predecessor is gone.
    pub fn supersede(&mut self, index: u32) {
        let process = self.spawn(
            Role::Server(index),
            Kind::Server {
                shard: None,
                reports: Reports::new(&self.toy.plan),
            },
        );
        if index == 0 {
            self.leader = Some(process);
            self.coordinate(process);
        } else {
            self.after(0, Event::Connect(process));
        }
    }

    pub fn start_worker(&mut self, index: u32) {
        if self.workers.contains(&index) && self.running(Role::Worker(index)).is_none() {
            let process = self.spawn(
                Role::Worker(index),
                Kind::Worker(Box::new(Worker::new(&self.toy))),
            );
            self.after(0, Event::Connect(process));
        }
    }

    /// A fresh start of everything, as after a stop.
    fn start_all(&mut self) {
        for process in 0..self.processes.len() {
            self.end(process, true);
        }
        self.stopping = None;
        self.generation += 1;
        for index in 0..self.toy.servers {
            let delay = self.rng.within(0, 20_000);
            self.after(delay, Event::StartServer(index));
        }
        for index in self.workers.clone() {
            let delay = self.rng.within(0, 50_000);
            self.after(delay, Event::StartWorker(index));
        }
    }

    /// The process that the supervisor counts as this role.
    pub fn running(&self, role: Role) -> Option<Pid> {
        self.processes
            .iter()
            .position(|p| p.role == role && p.alive && !p.replaced)
    }

    /// Ends a process; with a crash its connections are torn.
    pub fn end(&mut self, process: Pid, crash: bool) {
        if !self.processes[process].alive {
            return;
        }
        if let Some(connection) = self.processes[process].connection.take() {
            self.cut(connection, crash);
        }
        self.end_life(process);
        self.processes[process].alive = false;
        self.processes[process].inbox.clear();
        self.shut(process);
        if self.leader == Some(process) {
            self.leader = None;
        }
    }

    pub fn beat(&mut self, process: Pid) {
        self.report(process, ToCoordinator::Heartbeat);
        let silent = |id: &ConnId| {
            !self.connections[*id].local && self.connections[*id].heard + TIMEOUT < self.now
        };
        let silent =
            |id: &ConnId| silent(id) && self.processes[process].hang != Some(Hang::Control);
        if let Some(id) = self.processes[process].connection.filter(silent) {
            self.cut(id, true);
            self.down_closed(id);
        }
        self.after(HEARTBEAT, Event::Beat(process));
        let this = &mut self.processes[process];
        if this.welcomed {
            this.missed = 0;
        } else {
            this.missed += 1;
        }
        // It gives up: exit code 75.
        if this.missed * HEARTBEAT > ORPHANED {
            let (role, replaced) = (this.role, this.replaced);
            self.end(process, true);
            if !replaced {
                self.replace(role);
            }
        }
    }

    pub fn is_blocked(&self, a: Pid, b: Pid) -> bool {
        let hit =
            |p: &(Pid, Pid, u64)| p.2 > self.now && ((p.0, p.1) == (a, b) || (p.0, p.1) == (b, a));
        self.partitions.iter().any(hit)
    }
}
