//! What servers and workers do: the shells of the trainer without sockets and threads.

use super::liars::FALSEHOOD;
use super::world::{ConnId, Kind, Pid, World};
use trainyard_core::control::{FromCoordinator, Join, Release, Role, ToCoordinator};
use trainyard_core::coordinator::Reports;

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
            facts: worker.then(|| self.toy.facts().into()),
            warnings: Vec::new(),
            address: Some(process.to_string()),
            ready: match &this.kind {
                Kind::Server { shard, .. } => shard.as_ref().map(|shard| shard.version()),
                _ => None,
            },
        };
        self.send_up(connection, ToCoordinator::Join(join));
    }

    /// An order from the coordinator.
    pub fn ordered(&mut self, process: Pid, connection: ConnId, message: FromCoordinator) {
        match message {
            FromCoordinator::Welcome { generation } => self.welcomed(process, generation),
            // It lies or does nothing: another process in its place is welcome.
            FromCoordinator::Refused { again: true, .. } => {
                if let Some(lie) = self.processes[process].lie {
                    self.tally.lies.entry(lie).or_default().1 += 1;
                }
                self.leave(process);
            }
            // It was replaced, and has noticed.
            FromCoordinator::Refused { reason, .. } => {
                let stale = self.running(self.processes[process].role) != Some(process);
                assert!(
                    stale,
                    "{:?} is refused: {reason}",
                    self.processes[process].role
                );
                self.end(process, false);
            }
            FromCoordinator::Stalled { id, .. }
                if matches!(self.processes[process].role, Role::Server(_)) =>
            {
                if let Kind::Server {
                    shard: Some(shard), ..
                } = &self.processes[process].kind
                {
                    let leaves = shard.missing();
                    self.send_up(
                        connection,
                        ToCoordinator::LeavesMissing {
                            id,
                            leaves,
                            saving: false,
                        },
                    );
                }
            }
            FromCoordinator::Release(release) => self.released(process, &release),
            FromCoordinator::Open { manifest, .. } => self.set_up(process, manifest.as_deref()),
            FromCoordinator::Passes(passes) => {
                if let Kind::Server {
                    shard: Some(shard), ..
                } = &mut self.processes[process].kind
                {
                    shard.gate.set(passes, shard.version());
                }
            }
            FromCoordinator::Snapshot { version } => self.snapshot(process, version),
            FromCoordinator::Restore { version, manifest } => {
                let Some(parts) = self.load(process, &manifest) else {
                    return;
                };
                let Kind::Server {
                    shard: Some(shard), ..
                } = &mut self.processes[process].kind
                else {
                    return;
                };
                let chunks = &shard.rules.chunks;
                let own = chunks.start as usize..chunks.end as usize;
                let notices = shard.restore(version, &parts[own]);
                self.notice(process, notices);
            }
            order => self.worker_ordered(process, connection, order),
        }
    }

    pub fn welcomed(&mut self, process: Pid, generation: u32) {
        let this = &mut self.processes[process];
        let rolled_back = generation != this.generation;
        let observer = this.role == Role::Observer;
        assert!(
            observer || generation >= this.generation,
            "a coordinator of the past"
        );
        this.welcomed = true;
        this.generation = generation;
        let (mut said, mut anew) = (Vec::new(), rolled_back);
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
            Kind::Worker(worker) if rolled_back || worker.session.ended().is_some() => {
                worker.begin_anew(&self.toy);
                anew = true;
            }
            Kind::Worker(worker) => worker.session.welcomed(),
            _ => {}
        }
        if this.draining {
            said.push(ToCoordinator::Drain);
        }
        if this.role == Role::Observer {
            said.push(ToCoordinator::Stop);
        }
        if anew {
            self.shut(process);
        }
        for report in said {
            self.report(process, report);
        }
        self.proceed(process);
    }

    pub fn released(&mut self, process: Pid, release: &Release) {
        let role = self.processes[process].role;
        match (release, role) {
            (Release::Failed { message }, _) => {
                assert!(message.contains(FALSEHOOD), "released as failed: {message}");
            }
            (Release::Drained, Role::Server(index)) if index > 0 => self.leave(process),
            (Release::Drained, Role::Worker(_)) => {
                self.end(process, false);
                self.replace(role);
            }
            // Server 0 ends with its coordinator.
            (_, Role::Server(0)) => {}
            // A coordinator that was replaced does not know it yet. To the supervisor the process just
            // ended before the job did.
            _ => self.leave(process),
        }
    }
}
