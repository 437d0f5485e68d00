//! What a run begins with: places, keys, listeners.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

use anyhow::{Result, anyhow};
use trainyard_checkpoint::{Check, Log};
use trainyard_contract::{Key, MAX_THREADS, Member, Role, pod};
use trainyard_core::control::Progress;
use trainyard_runtime::job::Job;
use trainyard_runtime::limits::Callers;
use trainyard_runtime::memory::Company;
use trainyard_runtime::net::{Listener, Timing};
use trainyard_runtime::role;
use trainyard_runtime::signals::Termination;

use super::{HTTP, Input, Place, Supervisor};
use crate::run::folder::Folder;
use crate::run::memory;
use crate::run::observer::{Observer, relay};
use crate::run::places::{self, Checkpoints};
use crate::run::policy::Restarts;
use crate::run::process::{Common, as_argument};
use crate::run::sockets::SocketFolder;
use crate::run::stuck::Silence;
use crate::run::{Options, Transport, describe, folder_of};
use crate::torch_program::TorchProgram;
use crate::ui::{Started, Ui};

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
            heard_at: now,
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
}

/// An address that nobody may take, or that has no port left: the system says "Address already in use" of both.
fn unbound(address: impl Display, error: &io::Error) -> anyhow::Error {
    anyhow!(
        "cannot listen on {address}: {error}; if every port is taken (ss -tan counts them), end what holds them or widen \
         net.ipv4.ip_local_port_range"
    )
}

/// A key that nobody else has.
fn random_key() -> Result<Key> {
    let mut random = [0; Key::BYTES];
    getrandom::fill(&mut random)?;
    Ok(Key::of_servers(random))
}
