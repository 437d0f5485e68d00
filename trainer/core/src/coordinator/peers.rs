//! Who is there: servers by index, workers, observers, and the views sent to workers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::PeerId;
use crate::control::{Join, Role, RowSet, View};
use crate::facts::DataFacts;
use crate::shard::{Passes, Pusher};

#[derive(Clone, Debug)]
struct Peer {
    role: Role,
    incarnation: u64,
    last_heard: Duration,
    /// When it joined; workers: when they got their share of the work.
    since: Duration,
    /// Workers: holds a whole version.
    ready: bool,
    /// Workers: asked to leave when this many steps were counted.
    draining: Option<u64>,
    /// Workers: says what another must confirm, and computes nothing until that is settled.
    aside: bool,
    view: Option<View>,
    /// Servers: the membership and the limit that they were last told to let through.
    passes: Option<(u64, u64)>,
    /// Observers: the first epoch that they have not been told of.
    next_epoch: u64,
}

impl Peer {
    /// Whether it is a worker that is not set aside.
    fn is_able(&self) -> bool {
        matches!(self.role, Role::Worker(_)) && !self.aside
    }

    /// Whether it is one that also means to stay.
    fn stays(&self) -> bool {
        self.is_able() && self.draining.is_none()
    }
}

#[derive(Clone, Debug, Default)]
struct Server {
    peer: Option<PeerId>,
    incarnation: Option<u64>,
    /// Generation its process was started with: tells a replacement from its predecessor.
    born: u32,
    address: String,
    opened: bool,
    /// Version held by all its chunks, and how many chunks it owns.
    ready: Option<(u64, u32)>,
}

/// Why a process may not join.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// One sentence.
    pub reason: String,
    /// Whether its supervisor can mend that by starting another in its place.
    pub again: bool,
}

/// Everybody with a control connection.
#[derive(Clone, Debug)]
pub struct Peers {
    timeout: Duration,
    servers: Vec<Server>,
    peers: BTreeMap<PeerId, Peer>,
    epoch: u64,
    members: Vec<PeerId>,
}

impl Peers {
    pub fn new(servers: u32, timeout: Duration) -> Self {
        let servers = (0..servers.max(1)).map(|_| Server::default()).collect();
        Peers {
            timeout,
            servers,
            peers: BTreeMap::new(),
            epoch: 0,
            members: Vec::new(),
        }
    }

    pub fn role(&self, peer: PeerId) -> Option<Role> {
        self.peers.get(&peer).map(|p| p.role)
    }

    pub fn heard(&mut self, peer: PeerId, now: Duration) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.last_heard = now;
        }
    }

    /// Counts everybody as heard.
    pub fn forgive(&mut self, now: Duration) {
        self.peers
            .values_mut()
            .for_each(|peer| peer.last_heard = now);
    }

    /// Peers silent for too long, and since when. An observer may be silent, and server 0 is this very process.
    pub fn silent(&self, now: Duration) -> Vec<(PeerId, Duration)> {
        let exempt = |p: &Peer| matches!(p.role, Role::Observer | Role::Server(0));
        let late = |p: &Peer| !exempt(p) && now.saturating_sub(p.last_heard) > self.timeout;
        self.peers
            .iter()
            .filter(|(_, p)| late(p))
            .map(|(id, p)| (*id, p.last_heard))
            .collect()
    }

    /// Whether a server's slot is free for this process.
    pub fn admissible(&self, join: &Join) -> Result<(), Refusal> {
        let Role::Server(index) = join.role else {
            return Ok(());
        };
        let count = self.servers.len();
        let Some(slot) = self.servers.get(index as usize) else {
            let reason =
                format!("server index {index} is out of range: this job has {count} servers");
            return Err(Refusal {
                reason,
                again: false,
            });
        };
        match slot.incarnation {
            None => Ok(()),
            Some(known)
                if known == join.incarnation && (slot.ready.is_none() || join.ready.is_some()) =>
            {
                Ok(())
            }
            Some(_) => Err(Refusal {
                reason: format!(
                    "server {index} of this generation has lost its state; a replacement must come with a higher \
                     generation"
                ),
                again: true,
            }),
        }
    }

    /// The connection that this process had before, if it is still counted.
    pub fn twin(&self, join: &Join) -> Option<PeerId> {
        let same = |p: &Peer| p.role == join.role && p.incarnation == join.incarnation;
        let twin = self
            .peers
            .iter()
            .find(|(_, p)| p.role != Role::Observer && same(p));
        twin.map(|(id, _)| *id)
    }

    /// Whether this is the replacement of a server that is still here: one that was given up woke up
    /// and was faster.
    pub fn is_successor(&self, join: &Join) -> bool {
        let Role::Server(index) = join.role else {
            return false;
        };
        let slot = self.servers.get(index as usize);
        slot.is_some_and(|s| {
            s.incarnation.is_some_and(|known| known != join.incarnation) && s.born < join.born
        })
    }

    /// Gives up a server and what it holds; returns its connection.
    pub fn evict(&mut self, role: Role) -> Option<PeerId> {
        let Role::Server(index) = role else {
            return None;
        };
        std::mem::take(self.servers.get_mut(index as usize)?).peer
    }

    /// Takes a peer in.
    pub fn admit(&mut self, peer: PeerId, join: &Join, now: Duration) {
        let entry = Peer {
            role: join.role,
            incarnation: join.incarnation,
            last_heard: now,
            since: now,
            ready: false,
            draining: None,
            aside: false,
            view: None,
            passes: None,
            next_epoch: 0,
        };
        self.peers.insert(peer, entry);
        if let Role::Server(index) = join.role
            && let Some(slot) = self.servers.get_mut(index as usize)
        {
            slot.peer = Some(peer);
            slot.incarnation = Some(join.incarnation);
            slot.born = join.born;
            slot.address = join.address.clone().unwrap_or_default();
            slot.opened = join.ready.is_some() && slot.ready.is_some();
            if let (Some(version), Some(ready)) = (join.ready, &mut slot.ready) {
                ready.0 = ready.0.max(version);
            }
        }
    }

    pub fn remove(&mut self, peer: PeerId) {
        if let Some(Peer {
            role: Role::Server(index),
            ..
        }) = self.peers.remove(&peer)
            && let Some(slot) = self.servers.get_mut(index as usize)
            && slot.peer == Some(peer)
        {
            slot.peer = None;
        }
        self.update_members();
    }

    /// Servers that have joined and were not told what to set up; they count as told from now on.
    pub fn unopened_servers(&mut self) -> Vec<PeerId> {
        let open = |slot: &mut Server| {
            let peer = slot.peer.filter(|_| !slot.opened)?;
            slot.opened = true;
            Some(peer)
        };
        self.servers.iter_mut().filter_map(open).collect()
    }

    fn slot(&mut self, peer: PeerId) -> Option<&mut Server> {
        self.servers.iter_mut().find(|slot| slot.peer == Some(peer))
    }

    /// A server has set itself up. Later it can only move on by [`Peers::applied`].
    pub fn server_ready(&mut self, peer: PeerId, version: u64, chunks: u32) {
        if let Some(slot) = self.slot(peer) {
            slot.ready.get_or_insert((version, chunks));
        }
    }

    pub fn applied(&mut self, peer: PeerId, version: u64) {
        if let Some(Server {
            ready: Some((held, _)),
            ..
        }) = self.slot(peer)
        {
            *held = (*held).max(version);
        }
    }

    pub fn worker_ready(&mut self, peer: PeerId, now: Duration) {
        if let Some(worker) = self.peers.get_mut(&peer)
            && !std::mem::replace(&mut worker.ready, true)
        {
            worker.since = now;
        }
        self.update_members();
    }

    pub fn drain(&mut self, peer: PeerId, step: u64) {
        if let Some(worker) = self.peers.get_mut(&peer) {
            worker.draining.get_or_insert(step);
        }
        self.update_members();
    }

    /// A worker computes nothing until what it says is settled.
    pub fn set_aside(&mut self, peer: PeerId) {
        if let Some(worker) = self.peers.get_mut(&peer) {
            worker.aside = true;
        }
        self.update_members();
    }

    /// Whether there is a worker that is not set aside and means to stay, perhaps one that is still loading.
    pub fn others_can_compute(&self) -> bool {
        !self.able_workers().is_empty()
    }

    /// Workers that are not set aside and mean to stay, also those that are still loading.
    pub fn able_workers(&self) -> Vec<PeerId> {
        let able = self.peers.iter().filter(|(_, p)| p.stays());
        able.map(|(id, _)| *id).collect()
    }

    /// Whether this is one of the [`Peers::able_workers`].
    pub fn is_able_worker(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(Peer::stays)
    }

    /// Since when a peer has been there, or has had its share of the work.
    pub fn since(&self, peer: PeerId) -> Option<Duration> {
        self.peers.get(&peer).map(|p| p.since)
    }

    /// A member as users are told of it.
    pub fn name(&self, peer: PeerId) -> Option<String> {
        self.role(peer)?.name()
    }

    /// Counts the changes of the membership.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Draining workers that may go: a step has ended since they asked, or none is under way.
    pub fn drained(&self, step: u64, training: bool) -> Vec<PeerId> {
        let gone = |p: &Peer| {
            p.draining
                .is_some_and(|asked| !training || !p.ready || step > asked)
        };
        self.peers
            .iter()
            .filter(|(_, p)| gone(p))
            .map(|(id, _)| *id)
            .collect()
    }

    pub fn server_peers(&self) -> Vec<PeerId> {
        self.servers.iter().filter_map(|slot| slot.peer).collect()
    }

    pub fn server_peer(&self, index: u32) -> Option<PeerId> {
        self.servers.get(index as usize)?.peer
    }

    pub fn servers_ready(&self) -> u32 {
        self.servers
            .iter()
            .filter(|s| s.peer.is_some() && s.ready.is_some())
            .count() as u32
    }

    pub fn all_servers_ready(&self) -> bool {
        self.servers_ready() as usize == self.servers.len()
    }

    /// Indices of servers that own chunks; empty until all are ready.
    pub fn owners(&self) -> Vec<u32> {
        if self.servers.iter().any(|slot| slot.ready.is_none()) {
            return Vec::new();
        }
        let owns = |(index, slot): (usize, &Server)| {
            slot.ready
                .is_some_and(|(_, chunks)| chunks > 0)
                .then_some(index as u32)
        };
        self.servers.iter().enumerate().filter_map(owns).collect()
    }

    /// The version that a server holds whole, once it is set up.
    pub fn version_of(&self, index: u32) -> Option<u64> {
        self.servers
            .get(index as usize)?
            .ready
            .map(|(version, _)| version)
    }

    /// Servers with chunks that have not gone past `version`.
    pub fn behind(&self, version: u64) -> Vec<PeerId> {
        let behind = |slot: &&Server| {
            slot.ready
                .is_some_and(|(held, chunks)| chunks > 0 && held <= version)
        };
        let behind = self.servers.iter().filter(behind);
        behind.filter_map(|slot| slot.peer).collect()
    }

    /// Servers that are not set up, or not at `version`.
    pub fn loading(&self, version: u64) -> Vec<PeerId> {
        let loading = |slot: &&Server| match slot.ready {
            None => slot.opened,
            Some((held, chunks)) => chunks > 0 && held < version,
        };
        let loading = self.servers.iter().filter(loading);
        loading.filter_map(|slot| slot.peer).collect()
    }

    /// All versions of servers together: more whenever any has moved on.
    pub fn applied_in_sum(&self) -> u64 {
        let versions = self.servers.iter().filter_map(|slot| slot.ready);
        versions.fold(0, |sum, (version, _)| sum.saturating_add(version))
    }

    /// The highest version among servers that own chunks.
    pub fn furthest(&self) -> u64 {
        let owned = self
            .servers
            .iter()
            .filter_map(|slot| slot.ready.filter(|(_, chunks)| *chunks > 0));
        owned.map(|(version, _)| version).max().unwrap_or(0)
    }

    /// The lowest version among servers that own chunks.
    pub fn version(&self) -> u64 {
        let versions = self.servers.iter().map(|slot| match slot.ready {
            Some((_, 0)) => u64::MAX,
            Some((version, _)) => version,
            None => 0,
        });
        versions.min().unwrap_or(0)
    }

    /// Workers that share the leaves, in (index, incarnation) order.
    pub fn members(&self) -> Vec<PeerId> {
        self.members.clone()
    }

    /// Members that have leaves of a step, in the order of their ranks.
    pub fn sharing(&self, leaves: u32) -> &[PeerId] {
        &self.members[..self.members.len().min(leaves as usize)]
    }

    /// Every worker with a connection.
    pub fn joined_workers(&self) -> Vec<PeerId> {
        let worker = |p: &Peer| matches!(p.role, Role::Worker(_));
        self.peers
            .iter()
            .filter(|(_, p)| worker(p))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Observers, with the first epoch that each has not been told of.
    pub fn observers(&mut self) -> impl Iterator<Item = (PeerId, &mut u64)> {
        let observers = self
            .peers
            .iter_mut()
            .filter(|(_, p)| p.role == Role::Observer);
        observers.map(|(id, p)| (*id, &mut p.next_epoch))
    }

    /// Everybody.
    pub fn all(&self) -> Vec<PeerId> {
        self.peers.keys().copied().collect()
    }

    /// Everybody, none of whom stays.
    pub fn take_all(&mut self) -> Vec<PeerId> {
        self.members.clear();
        self.servers.iter_mut().for_each(|slot| slot.peer = None);
        std::mem::take(&mut self.peers).into_keys().collect()
    }

    /// Members are the workers that hold a version and mean to stay. If all mean to leave, they
    /// finish together what they have begun.
    fn update_members(&mut self) {
        let staying = self.peers.values().any(|p| p.ready && p.stays());
        let member = |p: &Peer| p.ready && p.is_able() && (p.draining.is_none() || !staying);
        let mut members: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, p)| member(p))
            .map(|(id, p)| ((p.role, p.incarnation), *id))
            .collect();
        members.sort();
        let members: Vec<PeerId> = members.into_iter().map(|(_, id)| id).collect();
        if members != self.members {
            self.members = members;
            self.epoch += 1;
        }
    }

    /// What servers are to let through, for each that was not told so.
    pub fn changed_passes(&mut self, leaves: u32, limit: u64) -> Vec<(PeerId, Passes)> {
        let told = Some((self.epoch, limit));
        let lacks = |p: &Peer| matches!(p.role, Role::Server(_)) && p.passes != told;
        let untold = self.peers.iter_mut().filter(|(_, p)| lacks(p));
        let untold: Vec<PeerId> = untold
            .map(|(id, peer)| {
                peer.passes = told;
                *id
            })
            .collect();
        if untold.is_empty() {
            return Vec::new();
        }
        let sharing = self.sharing(leaves).iter();
        let pusher = |id: &PeerId| match self.peers.get(id)? {
            Peer {
                role: Role::Worker(index),
                incarnation,
                ..
            } => Some(Pusher {
                index: *index,
                incarnation: *incarnation,
            }),
            _ => None,
        };
        let passes = Passes {
            limit,
            members: sharing.filter_map(pusher).collect(),
        };
        let each = untold.into_iter().map(|id| (id, passes.clone()));
        each.collect()
    }

    /// Views that differ from what each worker was last sent. A draining worker whose leaves others
    /// have taken over keeps the one it has until it is released, and so goes on computing.
    pub fn changed_views(&mut self, leaves: u32, limit: u64) -> Vec<(PeerId, View)> {
        let sharing = self.sharing(leaves).to_vec();
        let addresses: Vec<String> = self
            .servers
            .iter()
            .map(|slot| slot.address.clone())
            .collect();
        let mut changed = Vec::new();
        for (id, peer) in &mut self.peers {
            let leaving = peer.draining.is_some() && !self.members.contains(id);
            if !matches!(peer.role, Role::Worker(_)) || leaving {
                continue;
            }
            let view = View {
                epoch: self.epoch,
                rank: sharing
                    .iter()
                    .position(|member| member == id)
                    .map(|rank| rank as u32),
                members: sharing.len() as u32,
                limit,
                servers: addresses.clone(),
            };
            if peer.view.as_ref() != Some(&view) {
                peer.view = Some(view.clone());
                changed.push((*id, view));
            }
        }
        changed
    }
}

fn schema_text(facts: &DataFacts) -> String {
    serde_json::to_string(&facts.schema).unwrap_or_default()
}

/// Names what differs between two sets of facts.
pub fn difference(ours: &DataFacts, theirs: &DataFacts) -> (&'static str, String, String) {
    let pairs = [
        (
            "input shape",
            format!("{:?}", ours.input_shape),
            format!("{:?}", theirs.input_shape),
        ),
        (
            "outputs",
            ours.outputs.to_string(),
            theirs.outputs.to_string(),
        ),
        ("data digest", ours.digest.clone(), theirs.digest.clone()),
        ("schema", schema_text(ours), schema_text(theirs)),
    ];
    let sets = [
        (RowSet::Train, "training rows"),
        (RowSet::Validation, "validation rows"),
        (RowSet::Test, "test rows"),
    ];
    let rows = sets.map(|(set, name)| {
        (
            name,
            ours.rows(set).to_string(),
            theirs.rows(set).to_string(),
        )
    });
    let mut pairs = rows.into_iter().chain(pairs);
    let different = pairs.find(|(_, ours, theirs)| ours != theirs);
    different.unwrap_or_default()
}
