//! What a worker does, and its bulk connections to the servers.

use super::world::{ConnId, Event, Kind, Link, Pid, World};
use std::sync::Arc;
use trainyard_core::control::{Block, FromCoordinator, Role, ToCoordinator};
use trainyard_core::shard::{Push, Shared};

impl World {
    pub fn stands(&self, link: Link) -> bool {
        self.links.get(&(link.worker, link.server)) == Some(&link.number)
    }

    /// The bulk connections that stand, of those that are wanted.
    pub fn links_where(&self, wanted: impl Fn(&Link) -> bool) -> Vec<Link> {
        let link = |(&(worker, server), &number)| Link {
            worker,
            server,
            number,
        };
        self.links.iter().map(link).filter(wanted).collect()
    }

    /// Shuts all bulk connections of a process.
    pub fn shut(&mut self, process: Pid) {
        self.links
            .retain(|(worker, server), _| *worker != process && *server != process);
        match self.processes[process].role {
            Role::Server(index) => self.redial(index),
            Role::Worker(_) => self.dial_all(process),
            Role::Observer => {}
        }
    }

    /// All workers look for a server again.
    pub fn redial(&mut self, index: u32) {
        for worker in 0..self.processes.len() {
            let this = &self.processes[worker];
            if this.alive && matches!(this.kind, Kind::Worker(_)) {
                let generation = this.generation;
                let delay = self.rng.within(500, 10_000);
                self.after(
                    delay,
                    Event::Dial {
                        worker,
                        index,
                        generation,
                    },
                );
            }
        }
    }

    pub fn dial_all(&mut self, worker: Pid) {
        let generation = self.processes[worker].generation;
        for index in 0..self.toy.servers {
            let delay = self.rng.within(100, 3_000);
            self.after(
                delay,
                Event::Dial {
                    worker,
                    index,
                    generation,
                },
            );
        }
    }

    pub fn dial(&mut self, worker: Pid, index: u32, generation: u32) {
        let this = &self.processes[worker];
        let Kind::Worker(state) = &this.kind else {
            return;
        };
        if this.generation != generation {
            return;
        }
        let address = state
            .view
            .as_ref()
            .map(|view| view.servers[index as usize].parse::<Pid>());
        let Some(Ok(server)) = address else {
            return; // it dials once it has a view
        };
        if self.links.contains_key(&(worker, server)) {
            return;
        }
        let there = &self.processes[server];
        let set_up = matches!(there.kind, Kind::Server { shard: Some(_), .. });
        let open = there.alive && !there.paused && set_up && there.generation == generation;
        if !open || self.is_blocked(worker, server) {
            let delay = self.rng.within(5_000, 30_000);
            return self.after(
                delay,
                Event::Dial {
                    worker,
                    index,
                    generation,
                },
            );
        }
        if let Kind::Worker(state) = &mut self.processes[worker].kind {
            state.forget(index);
        }
        self.last_number += 1;
        let link = Link {
            worker,
            server,
            number: self.last_number,
        };
        self.links.insert((worker, server), link.number);
        if let Kind::Server {
            shard: Some(shard), ..
        } = &mut self.processes[server].kind
        {
            shard.subscribe(link.number);
            self.after(1_000, Event::Feed(link));
        }
        self.proceed(worker);
    }

    pub fn worker_ordered(&mut self, process: Pid, connection: ConnId, order: FromCoordinator) {
        let Kind::Worker(worker) = &mut self.processes[process].kind else {
            return;
        };
        match order {
            FromCoordinator::View(view) => {
                worker.limit = view.limit;
                let moved = worker
                    .view
                    .as_ref()
                    .is_none_or(|old| old.servers != view.servers);
                worker.view = Some(view);
                if moved {
                    self.dial_all(process);
                }
            }
            FromCoordinator::Halt { id } => {
                worker.limit = 0;
                let next = worker.next;
                self.send_up(connection, ToCoordinator::Halted { id, next });
            }
            FromCoordinator::Evaluate {
                id,
                version,
                blocks,
            } => {
                worker.evaluations.push((id, version, blocks));
            }
            _ => {}
        }
        self.proceed(process);
    }

    /// Versions of a chunk arrive; the server sends what is next. So a worker that reads nothing gets
    /// what there is when it reads again, and nothing of what was between.
    pub fn params(&mut self, link: Link, chunk: u32, versions: Vec<(u64, Shared)>) {
        if !self.stands(link) {
            return;
        }
        let delay = self.rng.within(0, 500);
        self.after(delay, Event::Feed(link));
        if let Kind::Worker(worker) = &mut self.processes[link.worker].kind {
            for (version, values) in versions {
                worker.receive(&self.toy, chunk, version, values);
            }
        }
        self.proceed(link.worker);
    }

    /// Does what a worker can do now.
    pub fn proceed(&mut self, process: Pid) {
        let this = &mut self.processes[process];
        let generation = this.generation;
        let Kind::Worker(worker) = &mut this.kind else {
            return;
        };
        let Some(version) = worker.version() else {
            return;
        };
        if this.welcomed && !std::mem::replace(&mut worker.ready_sent, true) {
            self.report(process, ToCoordinator::Ready { version, chunks: 0 });
        }
        let Kind::Worker(worker) = &mut self.processes[process].kind else {
            return;
        };
        let ready = worker
            .evaluations
            .iter()
            .position(|(_, wanted, _)| *wanted == version);
        if let (Some(at), Some(connection)) = (ready, self.processes[process].connection) {
            let Kind::Worker(worker) = &mut self.processes[process].kind else {
                return;
            };
            let (id, version, blocks) = worker.evaluations.remove(at);
            let delay = self.rng.within(500, 10_000);
            self.after(
                delay,
                Event::Evaluated {
                    worker: process,
                    connection,
                    id,
                    version,
                    blocks,
                },
            );
        }
        let Kind::Worker(worker) = &mut self.processes[process].kind else {
            return;
        };
        if worker.computing {
            return;
        }
        if let Some((step, leaves)) = worker.work(&self.toy)
            && let Some(parameters) = worker.parameters(step).map(Arc::new)
        {
            worker.computing = true;
            let count = leaves.iter().filter(|leaf| **leaf).count() as u64;
            let delay = count * self.rng.within(200, 3_000);
            self.after(
                delay,
                Event::Computed {
                    worker: process,
                    generation,
                    step,
                    parameters,
                    leaves,
                },
            );
        }
    }

    /// Leaves are computed: push what they add up to, even if it is late.
    pub fn computed(
        &mut self,
        process: Pid,
        generation: u32,
        step: u64,
        parameters: &Shared,
        leaves: &[bool],
    ) {
        let current = self.processes[process].generation == generation;
        let Kind::Worker(worker) = &mut self.processes[process].kind else {
            return;
        };
        worker.computing = false;
        let links = self.links_where(|link| current && link.worker == process);
        for link in links {
            let Role::Server(index) = self.processes[link.server].role else {
                continue;
            };
            let Kind::Worker(worker) = &mut self.processes[process].kind else {
                return;
            };
            let leaves = if worker.next == step + 1 {
                worker.push(&self.toy, index, leaves)
            } else {
                leaves.to_vec()
            };
            for node in self.toy.tree.cover_set(&leaves) {
                let (gradient, tally) = self.toy.node(parameters, step, node);
                for chunk in self.toy.shard(index) {
                    let values = gradient[self.toy.chunk_range(chunk)].to_vec();
                    let push = Push {
                        step,
                        node,
                        chunk,
                        tally,
                    };
                    self.transmit(link, push, &values);
                }
            }
        }
        self.proceed(process);
    }

    /// A push goes on one of several connections, so in any order; it may be repeated.
    pub fn transmit(&mut self, link: Link, push: Push, values: &[f32]) {
        let copies = if self.rng.chance(5) { 2 } else { 1 };
        for _ in 0..copies {
            let long = self.rng.chance(3);
            let delay = self.rng.within(100, if long { 60_000 } else { 3_000 });
            self.after(delay, Event::Push(link, push, values.to_vec()));
        }
    }

    pub fn evaluated(
        &mut self,
        process: Pid,
        connection: ConnId,
        id: u64,
        version: u64,
        blocks: &[Block],
    ) {
        let Kind::Worker(worker) = &self.processes[process].kind else {
            return;
        };
        if self.processes[process].connection != Some(connection) {
            return;
        }
        let Some(parameters) = worker.parameters(version) else {
            return;
        };
        let result = |block: &Block| (*block, self.toy.block(&parameters, *block));
        let results = blocks.iter().map(result).collect();
        self.report(process, ToCoordinator::Blocks { id, results });
        self.proceed(process);
    }
}
