//! Control connections: in order in each direction, late, and breakable.

use super::world::{ConnId, Connection, Event, Kind, Pid, World};
use trainyard_core::control::{FromCoordinator, Role, ToCoordinator};

impl World {
    pub fn connect(&mut self, process: Pid) {
        if self.processes[process].connection.is_some() {
            return;
        }
        let reachable = self
            .leader
            .filter(|leader| !self.is_blocked(process, *leader))
            .filter(|_| {
                self.astray
                    .get(&process)
                    .is_none_or(|until| *until <= self.now)
            });
        let Some(host) = reachable.filter(|leader| self.hosts.contains_key(leader)) else {
            let delay = self.rng.within(5_000, 30_000);
            return self.after(delay, Event::Connect(process));
        };
        self.open(process, host, false);
        self.join(process);
    }

    pub fn open(&mut self, process: Pid, host: Pid, local: bool) {
        let Some(life) = self.hosts.get_mut(&host) else {
            return;
        };
        let connection = Connection {
            process,
            host,
            life: life.life,
            peer: life.accept(self.connections.len(), local),
            local,
            cut: false,
            torn_up: false,
            torn_down: false,
            last_up: self.now,
            last_down: self.now,
            heard: self.now,
        };
        self.processes[process].connection = Some(self.connections.len());
        self.processes[process].welcomed = false;
        self.connections.push(connection);
    }

    pub fn delay(&mut self) -> u64 {
        let long = self.rng.chance(3);
        self.rng.within(50, if long { 40_000 } else { 2_000 })
    }

    pub fn send_up(&mut self, id: ConnId, message: ToCoordinator) {
        let delay = if self.connections[id].local {
            0
        } else {
            self.delay()
        };
        let connection = &mut self.connections[id];
        if !connection.cut {
            connection.last_up = connection.last_up.max(self.now + delay);
            let time = connection.last_up;
            self.at(time, Event::Up(id, message));
        }
    }

    pub fn send_down(&mut self, id: ConnId, message: FromCoordinator) {
        let delay = if self.connections[id].local {
            0
        } else {
            self.delay()
        };
        let connection = &mut self.connections[id];
        if !connection.cut {
            connection.last_down = connection.last_down.max(self.now + delay);
            let time = connection.last_down;
            self.at(time, Event::Down(id, message));
        }
    }

    /// Breaks a connection. Each side hears of it in its own time, the coordinator perhaps only by
    /// the silence.
    pub fn cut(&mut self, id: ConnId, torn: bool) {
        if self.connections[id].cut {
            return;
        }
        self.connections[id].cut = true;
        let torn_up = torn && self.rng.chance(50);
        let torn_down = torn && self.rng.chance(50);
        let (slow, silent) = (self.rng.chance(20), torn && self.rng.chance(20));
        let up = self.delay();
        let down = if slow {
            self.rng.within(1_000, 1_000_000)
        } else {
            self.delay()
        };
        let connection = &mut self.connections[id];
        (connection.torn_up, connection.torn_down) = (torn_up, torn_down);
        let (up, down) = (
            connection.last_up.max(self.now) + up,
            connection.last_down.max(self.now) + down,
        );
        if !silent {
            self.at(up, Event::UpClosed(id));
        }
        self.at(down, Event::DownClosed(id));
    }

    pub fn down(&mut self, id: ConnId, message: FromCoordinator) {
        if message != FromCoordinator::Heartbeat {
            self.trace(|| format!("{} <- {message:?}", self.name(id)));
        }
        self.connections[id].heard = self.now;
        let Connection {
            process, torn_down, ..
        } = self.connections[id];
        if self.processes[process].connection == Some(id) && !torn_down {
            self.ordered(process, id, message);
        }
    }

    pub fn down_closed(&mut self, id: ConnId) {
        let process = self.connections[id].process;
        let this = &mut self.processes[process];
        if this.connection != Some(id) {
            return;
        }
        this.connection = None;
        this.welcomed = false;
        if let Kind::Worker(worker) = &mut this.kind {
            worker.session.orphaned();
        }
        if this.role == Role::Observer {
            return self.end(process, false);
        }
        self.after(1_000, Event::Connect(process));
    }

    /// Tells the coordinator, if it is there.
    pub fn report(&mut self, process: Pid, message: ToCoordinator) {
        let this = &self.processes[process];
        if let (Some(connection), true) = (this.connection, this.welcomed) {
            self.send_up(connection, message);
        }
    }
}
