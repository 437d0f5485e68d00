//! What a server is and does in one generation.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};

use anyhow::{Context, Result, anyhow, ensure};
use parking_lot::{Mutex, MutexGuard};
use trainyard_checkpoint::{Manifest, load_range};
use trainyard_core::control::{FromCoordinator, Join, Release, Role, ToCoordinator};
use trainyard_core::coordinator::{Event, Reports};
use trainyard_core::facts::DataFacts;
use trainyard_core::layout::Layout;
use trainyard_core::shard::Rules;
use trainyard_runtime::artifact::ModelFiles;
use trainyard_runtime::memory;
use trainyard_runtime::net::Identity;

use super::coordination::Input;
use super::saver::{self, Snapshots};
use super::shard::{Notice, Notify, Shard};
use super::uplink::{Target, Uplink};
use super::{Options, Server};

/// One generation of a server: its shard, and its voice. It outlives a broken control stream; under
/// the next generation there is another.
///
/// The threads of a generation may be anywhere when it ends: in the middle of a push, or in storage
/// that has stalled. They are not waited for, but what they say then is heard by nobody, because they
/// say it to the uplink of their own generation.
pub struct Tenure {
    /// Who this server is under this generation.
    pub identity: Identity,
    server: Arc<Server>,
    uplink: Arc<Uplink>,
    held: Mutex<Held>,
    /// Server 0: where reduced steps are counted.
    inputs: Option<Sender<Input>>,
}

#[derive(Default)]
struct Held {
    over: bool,
    holding: Option<Holding>,
}

/// What a server holds for its coordinator.
#[derive(Clone)]
struct Holding {
    shard: Arc<Shard>,
    snapshots: Arc<Snapshots>,
}

impl Tenure {
    /// Begins a generation: nothing is held yet. Server 0 gives the `inputs` of its coordinator.
    pub fn new(server: Arc<Server>, generation: u32, inputs: Option<Sender<Input>>) -> Arc<Self> {
        let identity = server.identity(generation);
        server.hub.route_bulk(identity, None);
        Arc::new(Tenure {
            identity,
            server,
            uplink: Arc::default(),
            held: Mutex::default(),
            inputs,
        })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock()
    }

    fn holding(&self) -> Option<Holding> {
        self.held().holding.clone()
    }

    /// Takes a shard into use, unless the generation ended while it was loaded.
    fn hold(&self, holding: Holding) -> bool {
        let mut held = self.held();
        let shard = Arc::clone(&holding.shard);
        let unused = match held.over {
            true => Some(holding),
            false => held.holding.replace(holding),
        };
        if let Some(unused) = unused {
            unused.snapshots.close();
        }
        if !held.over {
            // Under the lock: a generation that ends meanwhile takes the route away after this.
            self.server.hub.route_bulk(self.identity, Some(shard));
        }
        !held.over
    }

    /// Forgets the shard and falls silent: the generation is over.
    pub fn end(&self) {
        self.uplink.retire();
        let mut held = self.held();
        if std::mem::replace(&mut held.over, true) {
            return;
        }
        self.server.hub.route_bulk(self.identity, None);
        if let Some(holding) = held.holding.take() {
            holding.snapshots.close();
        }
    }

    /// The version held, if a shard is.
    pub fn version(&self) -> Option<u64> {
        self.holding().map(|holding| holding.shard.version())
    }

    /// How this server introduces itself to a coordinator.
    pub fn join(&self, ready: Option<u64>) -> Join {
        let options = &self.server.options;
        Join {
            role: Role::Server(options.index),
            incarnation: self.identity.incarnation,
            generation: self.identity.generation,
            born: options.generation,
            spec_digest: options.job.spec_digest.clone(),
            capability: None,
            facts: None,
            warnings: Vec::new(),
            address: Some(self.server.address.clone()),
            ready,
        }
    }

    /// From now on what is said goes to `target`.
    pub fn connect(&self, target: Target) {
        self.uplink.connect(target);
    }

    fn tell(&self, message: ToCoordinator) {
        self.uplink.send(message);
    }

    /// After a new stream to the same coordinator: what may have been lost with the old one.
    pub fn repeat(&self) {
        if let Some(version) = self.version() {
            self.tell(ToCoordinator::Applied { version });
            self.uplink.repeat();
        }
    }

    /// Server 0's own shard, talking to the coordinator in this process.
    pub fn serve_locally(&self, downlink: &Receiver<FromCoordinator>) {
        let Some(inputs) = &self.inputs else { return };
        self.connect(Target::Local(inputs.clone()));
        self.tell(ToCoordinator::Join(self.join(None)));
        loop {
            match downlink.recv_timeout(self.server.options.timing.heartbeat_interval) {
                Ok(message) => {
                    if self.take(message).is_some() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.tell(ToCoordinator::Heartbeat),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Carries out one order; returns a release.
    pub fn take(&self, message: FromCoordinator) -> Option<Release> {
        let result = match message {
            FromCoordinator::Open { facts, manifest } => self.open(&facts, manifest.as_deref()),
            FromCoordinator::Passes(passes) => {
                if let Some(Holding { shard, .. }) = self.holding() {
                    shard.set_passes(passes);
                }
                Ok(())
            }
            FromCoordinator::Snapshot { version } => {
                self.snapshot(version);
                Ok(())
            }
            FromCoordinator::Restore { version, manifest } => self.restore(version, &manifest),
            FromCoordinator::Stalled { id, .. } => {
                let (leaves, saving) = match self.holding() {
                    // First: who waits for storage may hold a chunk.
                    Some(Holding { shard, snapshots }) => match snapshots.is_full() {
                        true => (Vec::new(), true),
                        false => (shard.missing(), false),
                    },
                    None => (Vec::new(), false),
                };
                self.tell(ToCoordinator::LeavesMissing { id, leaves, saving });
                Ok(())
            }
            FromCoordinator::Release(release) => return Some(release),
            _ => Ok(()),
        };
        if let Err(error) = result {
            self.tell(ToCoordinator::Failed {
                message: format!("server {}: {error:#}", self.server.options.index),
            });
        }
        None
    }

    fn open(&self, facts: &DataFacts, manifest: Option<&Manifest>) -> Result<()> {
        let Options {
            job,
            index,
            servers,
            ..
        } = &self.server.options;
        let layout = job.layout(facts)?;
        let plan = job.plan(facts.train_rows)?;
        let chunks = layout.shard(*index, *servers);
        let floats = layout.floats(&chunks);
        self.has_room(&layout, &floats, plan.total_steps())?;
        let (version, parameters, state) = match manifest {
            Some(manifest) => self.load(manifest, &layout, floats)?,
            None => {
                let parameters = self.first_parameters(&layout, &floats)?;
                let slots = 0..job.optimizer.slots().len();
                let state = slots
                    .map(|slot| vec![job.optimizer.initial(slot); floats.len()])
                    .collect();
                (0, parameters, state)
            }
        };
        let reports = Reports::new(&plan);
        let rules = Rules {
            learning_rate: job.learning_rate(plan.total_steps()),
            layout,
            chunks,
            tree: job.tree,
            plan,
            optimizer: job.optimizer.clone(),
            checkpoint_every: job.manifest.spec.checkpoint.every_steps.into(),
            early_stopping: job.early_stopping().is_some(),
        };
        let snapshots = Arc::new(Snapshots::default());
        let notify = self.notify(Arc::clone(&snapshots));
        let shard = Arc::new(Shard::new(rules, version, &parameters, &state, notify)?);
        self.write_snapshots(&shard, Arc::clone(&snapshots));
        let chunks = shard.chunks().len() as u32;
        self.uplink.begin(reports);
        if self.hold(Holding { shard, snapshots }) {
            self.tell(ToCoordinator::Ready { version, chunks });
        }
        Ok(())
    }

    /// Refuses a range that cannot fit in this server's memory; who knows the whole machine has looked before.
    fn has_room(&self, layout: &Layout, floats: &Range<usize>, steps: u64) -> Result<()> {
        let job = &self.server.options.job;
        let workers = job.manifest.spec.workers.replicas.into();
        let range = 4 * floats.len() as u64;
        let model = memory::Model::of(job, layout, steps);
        let needed = memory::footprint(&model, memory::Part::Server { range, workers });
        let remedy = "raise the memory limit in spec.servers.resources, use more servers, or fewer or smaller layers";
        for there in [memory::shared(), memory::of_process()] {
            memory::fit("its part of the model", needed, there.as_ref(), remedy).warning()?;
        }
        Ok(())
    }

    /// The parameters of version 0: those of the initial model, or random ones.
    fn first_parameters(&self, layout: &Layout, floats: &Range<usize>) -> Result<Vec<f32>> {
        let Options {
            job, initial_model, ..
        } = &self.server.options;
        let Some(initial) = &job.manifest.spec.initial_model else {
            let mut parameters = vec![0.0; floats.len()];
            let seed = job.manifest.spec.training.seed;
            layout.initialize(seed, floats.clone(), &mut parameters)?;
            return Ok(parameters);
        };
        let folder = initial_model.as_ref();
        let folder =
            folder.context("the job has an initial model, and no place of it was given")?;
        let model = ModelFiles::read(folder)?;
        ensure!(
            Some(&model.model.model_sha256) == initial.model_sha256.as_ref(),
            "{} holds another model than the job began with",
            folder.display()
        );
        ensure!(
            model.layout.digest() == layout.digest(),
            "the initial model has other parameters than the job's"
        );
        Ok(model.parameters[floats.clone()].to_vec())
    }

    fn load(
        &self,
        manifest: &Manifest,
        layout: &trainyard_core::layout::Layout,
        floats: std::ops::Range<usize>,
    ) -> Result<(u64, Vec<f32>, Vec<Vec<f32>>)> {
        if manifest.layout_digest != layout.digest() {
            return Err(anyhow!(
                "the checkpoint of step {} holds another model's parameters",
                manifest.step
            ));
        }
        let slice =
            load_range(self.server.storage.as_ref(), manifest, floats).with_context(|| {
                format!("the checkpoint of step {} cannot be loaded", manifest.step)
            })?;
        let wanted = self.server.options.job.optimizer.slots();
        if slice
            .slots
            .iter()
            .map(|(name, _)| name.as_str())
            .ne(wanted.iter().copied())
        {
            return Err(anyhow!(
                "the checkpoint holds the state of another optimizer"
            ));
        }
        Ok((
            manifest.step,
            slice.parameters,
            slice.slots.into_iter().map(|(_, values)| values).collect(),
        ))
    }

    /// Carries a shard's notices to whom they concern.
    fn notify(&self, snapshots: Arc<Snapshots>) -> Notify {
        let uplink = Arc::clone(&self.uplink);
        let inputs = self.inputs.clone().map(Mutex::new);
        Notify(Box::new(move |notice| match notice {
            Notice::StepReduced { step, tally } => {
                if let Some(inputs) = &inputs {
                    let inputs = inputs.lock();
                    let _ = inputs.send(Input::Event(Event::StepReduced { step, tally }));
                }
            }
            Notice::Applied(version) => uplink.send(ToCoordinator::Applied { version }),
            Notice::Snapshot(snapshot) => snapshots.offer(snapshot),
        }))
    }

    fn write_snapshots(&self, shard: &Shard, snapshots: Arc<Snapshots>) {
        let writer = saver::Writer {
            generation: self.identity.generation,
            index: self.server.options.index,
            of: self.server.options.servers,
            floats: shard.floats(),
            slots: self.server.options.job.optimizer.slots(),
        };
        let storage = Arc::clone(&self.server.storage);
        let uplink = Arc::clone(&self.uplink);
        std::thread::spawn(move || writer.run(&storage, &snapshots, &|report| uplink.send(report)));
    }

    fn snapshot(&self, version: u64) {
        let Some(Holding { shard, snapshots }) = self.holding() else {
            return;
        };
        if shard.chunks().is_empty() {
            return;
        }
        match shard.snapshot(version) {
            Some(snapshot) => snapshots.order(snapshot),
            None => self.tell(ToCoordinator::SnapshotMissed { version }),
        }
    }

    fn restore(&self, version: u64, manifest: &Manifest) -> Result<()> {
        let Some(Holding { shard, .. }) = self.holding() else {
            return Ok(());
        };
        let slice = load_range(self.server.storage.as_ref(), manifest, shard.floats())?;
        Ok(shard.restore(version, &slice.parameters)?)
    }
}

#[cfg(test)]
mod tests;
