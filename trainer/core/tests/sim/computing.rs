//! What a worker does, and its bulk connections to the servers.

use trainyard_core::control::{Block, Evaluate, FromCoordinator, ToCoordinator};
use trainyard_core::session::{Ending, Lane, Next};
use trainyard_core::shard::{Push, Shared};
use trainyard_core::tree::Node;

use super::toy::{TIMEOUT, bits};
use super::worker::{Arrival, Receiving, Wire, Worker};
use super::world::{ConnId, Event, Kind, Link, Pid, Way, World};

impl World {
    pub fn stands(&self, link: Link) -> bool {
        self.links.contains_key(&link.number)
    }

    pub fn worker(&mut self, process: Pid) -> Option<&mut Worker> {
        match &mut self.processes[process].kind {
            Kind::Worker(worker) => Some(worker),
            _ => None,
        }
    }

    /// The bulk connections that stand, of those that are wanted.
    pub fn links_where(&self, wanted: impl Fn(&Link) -> bool) -> Vec<Link> {
        self.links.values().copied().filter(wanted).collect()
    }

    /// Breaks all bulk connections of a process.
    pub fn shut(&mut self, process: Pid) {
        let touches = |link: &Link| link.worker == process || link.server == process;
        for link in self.links_where(touches) {
            let delay = self.rng.within(100, 10_000);
            self.sever(link, delay);
        }
    }

    /// Breaks a bulk connection; the worker notices after `delay`. What is under way to the server may
    /// come to it before it notices.
    pub fn sever(&mut self, link: Link, delay: u64) {
        if self.links.remove(&link.number).is_some() {
            if self.rng.chance(50) {
                self.draining.insert(link.number);
            }
            self.after(delay, Event::Broken(link));
        }
    }

    /// A worker notices that a bulk connection is gone.
    pub fn broken(&mut self, link: Link) {
        let now = self.now;
        let Some(worker) = self.worker(link.worker) else {
            return;
        };
        let Some(wire) = worker.wires.get_mut(link.lane) else {
            return;
        };
        wire.without[link.way as usize] = now;
        match link.way {
            Way::Push => {
                let Some((_, life)) = wire.push.take_if(|(here, _)| *here == link) else {
                    return;
                };
                worker.session.push_lost(link.lane, life);
            }
            Way::Pull => {
                if wire.pull.take_if(|here| *here == link).is_none() {
                    return;
                }
                wire.arrivals.clear();
                wire.receiving = false;
            }
        }
        self.dial_later(link.worker, link.lane, link.way, 3_000);
    }

    fn dial_later(&mut self, worker: Pid, lane: usize, way: Way, patience: u64) {
        let generation = self.processes[worker].generation;
        let delay = self.rng.within(patience / 10, patience);
        self.after(
            delay,
            Event::Dial {
                worker,
                lane,
                way,
                generation,
            },
        );
    }

    pub fn dial(&mut self, process: Pid, lane: usize, way: Way, generation: u32) {
        if self.processes[process].generation != generation {
            return;
        }
        let Some(worker) = self.worker(process) else {
            return;
        };
        let Some(wire) = worker.wires.get(lane) else {
            return;
        };
        let there = match way {
            Way::Push => wire.push.is_some(),
            Way::Pull => wire.pull.is_some(),
        };
        let address = worker.servers.get(wire.lane.server as usize);
        let Some(Ok(server)) = address.map(|address| address.parse::<Pid>()) else {
            return;
        };
        let (index, of) = (wire.lane.index, wire.lane.of);
        let without = wire.without[way as usize];
        let held = worker.session.held(&wire.lane.chunks);
        if there {
            return;
        }
        if !self.reachable(process, server, generation) {
            if self.now - without >= TIMEOUT {
                return self.lost(process);
            }
            return self.dial_later(process, lane, way, 30_000);
        }
        self.last_number += 1;
        let link = Link {
            worker: process,
            server,
            lane,
            way,
            generation,
            number: self.last_number,
        };
        self.links.insert(link.number, link);
        match way {
            Way::Push => {
                let Some(worker) = self.worker(process) else {
                    return;
                };
                let life = worker.session.push_opened(lane);
                worker.wires[lane].push = Some((link, life));
            }
            Way::Pull => {
                if let Kind::Server {
                    shard: Some(shard), ..
                } = &mut self.processes[server].kind
                {
                    shard.subscribe(link.number, index, of, &held);
                }
                if let Some(worker) = self.worker(process) {
                    worker.wires[lane].pull = Some(link);
                }
                self.after(1_000, Event::Feed(link));
            }
        }
        self.proceed(process);
    }

    /// A server could not be reached for so long that the session is over: others compute its leaves.
    fn lost(&mut self, process: Pid) {
        let connection = self.processes[process].connection;
        if let Some(worker) = self.worker(process) {
            let why = "no connection to a server".to_owned();
            worker.session.end(Ending::Lost(why));
        }
        self.tally.lost += 1;
        if let Some(id) = connection {
            self.cut(id, false);
            self.down_closed(id);
        }
    }

    fn reachable(&self, worker: Pid, server: Pid, generation: u32) -> bool {
        let there = &self.processes[server];
        let set_up = matches!(there.kind, Kind::Server { shard: Some(_), .. });
        let open = there.alive && !there.paused && set_up && there.generation == generation;
        open && !self.is_blocked(worker, server)
    }

    pub fn worker_ordered(&mut self, process: Pid, connection: ConnId, order: FromCoordinator) {
        let Some(worker) = self.worker(process) else {
            return;
        };
        if let Some(answer) = worker.session.take(order) {
            self.send_up(connection, answer);
        }
        self.proceed(process);
    }

    /// Versions of a chunk arrive on a lane.
    pub fn params(&mut self, link: Link, chunk: u32, versions: Vec<(u64, Shared)>) {
        if !self.stands(link) {
            return;
        }
        let Some(worker) = self.worker(link.worker) else {
            return;
        };
        let arrival = |(version, values)| Arrival {
            chunk,
            version,
            values,
        };
        let wire = &mut worker.wires[link.lane];
        wire.arrivals.extend(versions.into_iter().map(arrival));
        if !wire.receiving {
            self.receive(link);
        }
    }

    /// Receives what comes next on a lane. When all is received the server sends what is next: a worker
    /// that reads nothing gets what there is when it reads again, and nothing of what was between.
    fn receive(&mut self, link: Link) {
        let Kind::Worker(worker) = &mut self.processes[link.worker].kind else {
            return;
        };
        match worker.begin(&self.toy, link.lane) {
            Receiving::Waits => {}
            Receiving::UnderWay => {
                let long = self.rng.chance(3);
                let delay = self.rng.within(10, if long { 100_000 } else { 1_000 });
                self.after(delay, Event::Received(link));
            }
            Receiving::Nothing => {
                let delay = self.rng.within(0, 500);
                self.after(delay, Event::Feed(link));
            }
        }
    }

    pub fn received(&mut self, link: Link) {
        if !self.stands(link) {
            return;
        }
        let Kind::Worker(worker) = &mut self.processes[link.worker].kind else {
            return;
        };
        worker.received(&self.toy, link.lane);
        self.receive(link);
        self.proceed(link.worker);
    }

    /// Does what a worker can do now.
    pub fn proceed(&mut self, process: Pid) {
        loop {
            let generation = self.processes[process].generation;
            let Some(worker) = self.worker(process).filter(|worker| !worker.busy) else {
                return;
            };
            match worker.session.due() {
                None => return,
                Some(Next::Tell(message)) => self.report(process, message),
                Some(Next::Connect(servers)) => self.connect_to(process, servers),
                Some(Next::Compute { step, leaves }) => {
                    worker.busy = true;
                    let count = leaves.iter().filter(|leaf| **leaf).count() as u64;
                    let long = self.rng.chance(2);
                    let delay = count * self.rng.within(200, if long { 200_000 } else { 3_000 });
                    self.after(
                        delay,
                        Event::Computed {
                            worker: process,
                            generation,
                            step,
                            leaves,
                        },
                    );
                }
                Some(Next::Evaluate(Evaluate {
                    id,
                    version,
                    blocks,
                    ..
                })) => {
                    worker.busy = true;
                    let delay = self.rng.within(500, 10_000);
                    self.after(
                        delay,
                        Event::Evaluated {
                            worker: process,
                            generation,
                            id,
                            version,
                            blocks,
                        },
                    );
                }
                Some(Next::End(_)) => return,
            }
        }
    }

    fn connect_to(&mut self, process: Pid, servers: Vec<String>) {
        let lanes = Lane::all(&self.toy.layout, self.toy.servers, self.toy.connections);
        let (count, now) = (lanes.len(), self.now);
        let Some(worker) = self.worker(process) else {
            return;
        };
        let wire = |lane| Wire {
            lane,
            push: None,
            pull: None,
            arrivals: Default::default(),
            receiving: false,
            without: [now; 2],
        };
        worker.session.connect(count);
        worker.wires = lanes.into_iter().map(wire).collect();
        worker.servers = servers;
        for lane in 0..count {
            self.dial_later(process, lane, Way::Push, 3_000);
            self.dial_later(process, lane, Way::Pull, 3_000);
        }
    }

    /// The computing thread is done. Whether with work of this generation, is told.
    fn done(&mut self, process: Pid, generation: u32) -> bool {
        let current = self.processes[process].generation == generation;
        let Some(worker) = self.worker(process) else {
            return false;
        };
        worker.busy = false;
        !std::mem::take(&mut worker.stale) && current
    }

    /// What waited for the arena may be received.
    fn free(&mut self, process: Pid) {
        let Some(worker) = self.worker(process) else {
            return;
        };
        worker.session.computed();
        let waits = |wire: &&Wire| !wire.receiving && !wire.arrivals.is_empty();
        let waiting = worker.wires.iter().filter(waits);
        let links: Vec<Link> = waiting.filter_map(|wire| wire.pull).collect();
        for link in links {
            self.receive(link);
        }
    }

    /// What is in the arena when a computation ends is what was there when it began.
    fn computed_on(&self, worker: &Worker, version: u64) -> Vec<f32> {
        let parameters = worker.parameters(version);
        let trained = version <= self.reference.steps();
        let expected = trained.then(|| &self.reference.parameters[version as usize]);
        let result = &self.reference.parameters[self.reference.result as usize];
        let ours = bits(parameters);
        let right = expected.is_some_and(|expected| ours == bits(expected)) || ours == bits(result);
        assert!(right, "an arena changed while it was computed on");
        parameters.to_vec()
    }

    /// Leaves are computed: push what they add up to where it is owed, even if it is late. A connection
    /// may break, and be there again, before all is written.
    pub fn computed(&mut self, process: Pid, generation: u32, step: u64, leaves: &[bool]) {
        let current = self.processes[process].generation == generation;
        let Kind::Worker(worker) = &self.processes[process].kind else {
            return;
        };
        if worker.stale || !current {
            return self.pushed(process, generation, step, &[]);
        }
        let parameters = self.computed_on(worker, step);
        let lanes = worker.wires.len();
        self.free(process);
        let mut written = Vec::new();
        for node in self.toy.tree.cover_set(leaves) {
            let (gradient, tally) = self.toy.node(&parameters, step, node);
            for lane in 0..lanes {
                let Some(worker) = self.worker(process) else {
                    return;
                };
                let Some(life) = worker.session.owes(lane, step, node) else {
                    continue;
                };
                written.push((lane, life, node));
                let wire = &worker.wires[lane];
                let (link, chunks) = (wire.push, wire.lane.chunks.clone());
                let Some((link, _)) = link.filter(|(_, here)| *here == life) else {
                    panic!("a push is owed on a connection that is not there");
                };
                for chunk in chunks {
                    let push = Push {
                        step,
                        node,
                        chunk,
                        tally,
                    };
                    let values = &gradient[self.toy.chunk_range(chunk)];
                    self.transmit(link, push, values);
                }
            }
        }
        let long = self.rng.chance(5);
        let delay = self.rng.within(10, if long { 50_000 } else { 1_000 });
        self.after(
            delay,
            Event::Pushed {
                worker: process,
                generation,
                step,
                written,
            },
        );
    }

    /// All is written; the computing thread looks for more to do.
    pub fn pushed(
        &mut self,
        process: Pid,
        generation: u32,
        step: u64,
        written: &[(usize, u64, Node)],
    ) {
        if self.done(process, generation)
            && let Some(worker) = self.worker(process)
        {
            for (lane, life, node) in written {
                worker.session.pushed(*lane, *life, step, *node);
            }
        }
        self.proceed(process);
    }

    /// A push goes on one of several connections, in order on each.
    pub fn transmit(&mut self, link: Link, push: Push, values: &[f32]) {
        if !self.stands(link) {
            return; // nobody has noticed yet
        }
        let long = self.rng.chance(3);
        let delay = self.rng.within(100, if long { 60_000 } else { 3_000 });
        let last = self.sent.entry(link.number).or_default();
        *last = (*last).max(self.now + delay);
        let time = *last;
        self.at(time, Event::Push(link, push, values.to_vec()));
    }

    pub fn evaluated(
        &mut self,
        process: Pid,
        generation: u32,
        id: u64,
        version: u64,
        blocks: &[Block],
    ) {
        if self.done(process, generation) {
            let Kind::Worker(worker) = &self.processes[process].kind else {
                return;
            };
            let parameters = self.computed_on(worker, version);
            self.free(process);
            let result = |block: &Block| (*block, self.toy.block(&parameters, *block));
            let results = blocks.iter().map(result).collect();
            self.report(process, ToCoordinator::Blocks { id, results });
        }
        self.proceed(process);
    }
}
