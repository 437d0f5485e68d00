//! What servers and workers do: the shells of the trainer without sockets and threads.

use std::rc::Rc;

use trainyard_core::control::{Block, FromCoordinator, Join, Release, Role, ToCoordinator};
use trainyard_core::coordinator::Reports;

use super::shard::{Notice, Push, Shard, Snapshot, Values};
use super::toy::bits;
use super::world::{ConnId, Event, Kind, Link, Pid, World};

impl World {
    pub fn join(&mut self, process: Pid) {
        let this = &self.processes[process];
        let Some(connection) = this.connection else {
            return;
        };
        let worker = matches!(this.kind, Kind::Worker(_));
        let join = Join {
            role: this.role,
            incarnation: this.incarnation,
            generation: this.generation,
            born: this.born,
            spec_digest: "spec".into(),
            capability: worker.then(|| "cpu".into()),
            facts: worker.then(|| self.toy.facts()),
            address: Some(process.to_string()),
            ready: match &this.kind {
                Kind::Server { shard, .. } => shard.as_ref().map(Shard::version),
                _ => None,
            },
        };
        self.send_up(connection, ToCoordinator::Join(join));
    }

    /// An order from the coordinator.
    pub fn ordered(&mut self, process: Pid, connection: ConnId, message: FromCoordinator) {
        match message {
            FromCoordinator::Welcome { generation } => self.welcomed(process, generation),
            // It was replaced, and has noticed.
            FromCoordinator::Refused { reason } => {
                let stale = self.running(self.processes[process].role) != Some(process);
                assert!(
                    stale,
                    "{:?} is refused: {reason}",
                    self.processes[process].role
                );
                self.end(process, false);
            }
            FromCoordinator::Release(release) => self.released(process, &release),
            FromCoordinator::Open { manifest, .. } => self.set_up(process, manifest.as_ref()),
            FromCoordinator::Snapshot { version } => self.snapshot(process, version),
            FromCoordinator::Restore { version, manifest } => {
                let Some(parts) = self.storage.load(&manifest) else {
                    return self.cannot_load(process);
                };
                let Kind::Server {
                    shard: Some(shard), ..
                } = &mut self.processes[process].kind
                else {
                    return;
                };
                let parts = shard
                    .range
                    .clone()
                    .map(|chunk| parts[chunk as usize].0.clone())
                    .collect();
                let notices = shard.restore(version, parts);
                self.notice(process, notices);
            }
            order => self.worker_ordered(process, connection, order),
        }
    }

    fn welcomed(&mut self, process: Pid, generation: u32) {
        let this = &mut self.processes[process];
        let rolled_back = generation != this.generation;
        let observer = this.role == Role::Observer;
        assert!(
            observer || generation >= this.generation,
            "a coordinator of the past"
        );
        this.welcomed = true;
        this.generation = generation;
        let mut said = Vec::new();
        match &mut this.kind {
            Kind::Server { shard, reports } if rolled_back => {
                (*shard, *reports) = (None, Reports::new(&self.toy.plan));
            }
            Kind::Server { shard, reports } => {
                said.extend(shard.as_ref().map(|s| ToCoordinator::Applied {
                    version: s.version(),
                }));
                said.extend(reports.repeat());
            }
            Kind::Worker(worker) if rolled_back => worker.roll_back(),
            _ => {}
        }
        if this.draining {
            said.push(ToCoordinator::Drain);
        }
        if this.role == Role::Observer {
            said.push(ToCoordinator::Stop);
        }
        if rolled_back {
            self.shut(process);
        }
        for report in said {
            self.report(process, report);
        }
        self.proceed(process);
    }

    fn released(&mut self, process: Pid, release: &Release) {
        let role = self.processes[process].role;
        match (release, role) {
            (Release::Failed { message }, _) => panic!("released as failed: {message}"),
            (Release::Drained, Role::Server(index)) if index > 0 => self.leave(process),
            (Release::Drained, Role::Worker(_)) => {
                self.end(process, false);
                self.replace(role);
            }
            // Server 0 ends with its coordinator.
            (_, Role::Server(0)) => {}
            _ => self.end(process, false),
        }
    }

    // ---- servers ----------------------------------------------------------------------------

    fn set_up(&mut self, process: Pid, manifest: Option<&serde_json::Value>) {
        let Role::Server(index) = self.processes[process].role else {
            panic!("only servers are opened");
        };
        let range = self.toy.shard(index);
        let (version, parts) = match manifest {
            Some(manifest) => {
                let Some(parts) = self.storage.load(manifest) else {
                    return self.cannot_load(process);
                };
                let own = range
                    .clone()
                    .map(|chunk| parts[chunk as usize].clone())
                    .collect();
                (manifest["step"].as_u64().unwrap(), own)
            }
            None => {
                let part = |chunk| {
                    let (parameters, state) = self.reference.chunk(&self.toy, chunk, 0);
                    (Rc::new(parameters.to_vec()), Rc::new(state))
                };
                (0, range.clone().map(part).collect())
            }
        };
        self.shut(process);
        let chunks = range.len() as u32;
        let opened = Shard::new(&self.toy, range, version, parts);
        if let Kind::Server { shard, reports } = &mut self.processes[process].kind {
            (*shard, *reports) = (Some(opened), Reports::new(&self.toy.plan));
        }
        self.report(process, ToCoordinator::Ready { version, chunks });
    }

    /// Fails the job, unless this is an order of the past to a process that is replaced.
    fn cannot_load(&mut self, process: Pid) {
        let message = "the checkpoint is gone".into();
        self.report(process, ToCoordinator::Failed { message });
    }

    fn snapshot(&mut self, process: Pid, version: u64) {
        let Kind::Server {
            shard: Some(shard), ..
        } = &self.processes[process].kind
        else {
            return;
        };
        if shard.range.is_empty() {
            return;
        }
        match shard.snapshot(version) {
            Some(snapshot) => self.write(process, snapshot),
            None => {
                self.tally.missed += 1;
                self.report(process, ToCoordinator::SnapshotMissed { version });
            }
        }
    }

    fn write(&mut self, server: Pid, snapshot: Snapshot) {
        let generation = self.processes[server].generation;
        // One thread writes, in order. Real servers wait while two are not yet written.
        let behind = self.processes[server].written > self.now + 2 * self.storage_delay;
        let delay = if behind {
            0
        } else {
            self.rng.within(500, self.storage_delay)
        };
        let time = self.processes[server].written.max(self.now) + delay;
        self.processes[server].written = time;
        self.at(
            time,
            Event::Written {
                server,
                generation,
                snapshot,
            },
        );
    }

    pub fn written(&mut self, server: Pid, generation: u32, snapshot: Snapshot) {
        let Role::Server(index) = self.processes[server].role else {
            return;
        };
        if self.processes[server].generation != generation {
            return;
        }
        let version = snapshot.version;
        let record = self.storage.write(generation, index, snapshot);
        let message = ToCoordinator::ShardWritten { version, record };
        if let Kind::Server { reports, .. } = &mut self.processes[server].kind {
            reports.keep(version, message.clone());
        }
        self.report(server, message);
    }

    pub fn push(&mut self, link: Link, push: Push) {
        if !self.stands(link) {
            return;
        }
        let Kind::Server {
            shard: Some(shard), ..
        } = &mut self.processes[link.server].kind
        else {
            return;
        };
        self.tally.late += u64::from(push.step < shard.version());
        let notices = shard.push(&self.toy, &self.reference, push);
        self.notice(link.server, notices);
    }

    fn notice(&mut self, server: Pid, notices: Vec<Notice>) {
        for notice in notices {
            match notice {
                Notice::Reduced { step, tally } => self.reduced(server, step, tally),
                Notice::Applied(version) => self.report(server, ToCoordinator::Applied { version }),
                Notice::Snapshot(snapshot) => self.write(server, snapshot),
                Notice::Published(chunk) => {
                    let links = self.links.iter().filter(|((_, s), _)| *s == server);
                    let links: Vec<_> = links
                        .map(|((w, s), n)| Link {
                            worker: *w,
                            server: *s,
                            number: *n,
                        })
                        .collect();
                    for link in links {
                        let delay = self.rng.within(0, 3_000);
                        self.after(delay, Event::Feed(link, chunk));
                    }
                }
            }
        }
    }

    /// Sends what a chunk has now; what it had between is never sent.
    pub fn feed(&mut self, link: Link, chunk: u32) {
        if !self.stands(link) {
            return;
        }
        let Kind::Server {
            shard: Some(shard), ..
        } = &self.processes[link.server].kind
        else {
            return;
        };
        let restored = shard.restored;
        for (version, values) in shard.versions(chunk) {
            if restored == Some(version) {
                let range = self.toy.chunk_range(chunk);
                let result = &self.reference.parameters[self.reference.result as usize][range];
                assert_eq!(bits(&values), bits(result), "the restored best");
            }
            let delay = self.rng.within(100, 3_000);
            self.after(
                delay,
                Event::Param {
                    link,
                    chunk,
                    version,
                    values,
                },
            );
        }
    }

    // ---- bulk connections -------------------------------------------------------------------

    pub fn stands(&self, link: Link) -> bool {
        self.links.get(&(link.worker, link.server)) == Some(&link.number)
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

    fn dial_all(&mut self, worker: Pid) {
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
        for chunk in self.toy.shard(index) {
            let delay = self.rng.within(0, 3_000);
            self.after(delay, Event::Feed(link, chunk));
        }
        self.proceed(worker);
    }

    // ---- workers ----------------------------------------------------------------------------

    fn worker_ordered(&mut self, process: Pid, connection: ConnId, order: FromCoordinator) {
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

    pub fn param(&mut self, link: Link, chunk: u32, version: u64, values: Values) {
        if !self.stands(link) {
            return;
        }
        if let Kind::Worker(worker) = &mut self.processes[link.worker].kind {
            worker.receive(&self.toy, chunk, version, values);
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
            && let Some(parameters) = worker.parameters(step).map(Rc::new)
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
        parameters: &Values,
        leaves: &[bool],
    ) {
        let current = self.processes[process].generation == generation;
        let Kind::Worker(worker) = &mut self.processes[process].kind else {
            return;
        };
        worker.computing = false;
        let links = self.links.range((process, 0)..(process + 1, 0));
        let links: Vec<_> = links
            .map(|((w, s), n)| Link {
                worker: *w,
                server: *s,
                number: *n,
            })
            .collect();
        for link in links.into_iter().filter(|_| current) {
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
                    self.transmit(
                        link,
                        Push {
                            step,
                            node,
                            chunk,
                            tally,
                            values,
                        },
                    );
                }
            }
        }
        self.proceed(process);
    }

    /// A push goes on one of several connections, so in any order; it may be repeated.
    fn transmit(&mut self, link: Link, push: Push) {
        let copies = if self.rng.chance(5) { 2 } else { 1 };
        for _ in 0..copies {
            let long = self.rng.chance(3);
            let delay = self.rng.within(100, if long { 60_000 } else { 3_000 });
            self.after(delay, Event::Push(link, push.clone()));
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
