//! What reconciles share.

use std::sync::Arc;

use jiff::Timestamp;
use kube::api::Api;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Client, Resource};
use tokio::sync::Semaphore;

use crate::coordinator::Coordinator;
use crate::index::{ChildObjects, Pods};
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::observe::ChildObject;
use crate::plan::Settings;

/// Coordinators that are asked at once.
const POLLS: usize = 16;

/// The time now, wherever it comes from.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// What reconciles share.
pub struct Context {
    pub(crate) client: Client,
    pub(crate) namespace: Option<String>,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) coordinator: Arc<dyn Coordinator>,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) pods: Pods,
    pub(crate) services: ChildObjects,
    pub(crate) config_maps: ChildObjects,
    pub(crate) policies: ChildObjects,
    pub(crate) memory: Memory,
    /// Polls at once: coordinators that do not answer must not keep reconciles waiting.
    pub(crate) polls: Semaphore,
}

impl Context {
    /// A context that knows nothing yet. `namespace` limits it to one; `instance` names the process in events.
    pub fn new(
        client: Client,
        namespace: Option<String>,
        settings: Settings,
        clock: Arc<dyn Clock>,
        coordinator: Arc<dyn Coordinator>,
        metrics: Arc<Metrics>,
        instance: Option<String>,
    ) -> Self {
        let reporter = Reporter {
            controller: "trainyard-operator".into(),
            instance,
        };
        Context {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            namespace,
            settings,
            clock,
            coordinator,
            metrics,
            pods: Pods::default(),
            services: ChildObjects::default(),
            config_maps: ChildObjects::default(),
            policies: ChildObjects::default(),
            memory: Memory::default(),
            polls: Semaphore::new(POLLS),
        }
    }

    pub(crate) fn children(&self, child: ChildObject) -> &ChildObjects {
        match child {
            ChildObject::Config => &self.config_maps,
            ChildObject::Headless | ChildObject::Coordinator => &self.services,
            ChildObject::Policy => &self.policies,
        }
    }

    /// Ready once the caches hold all that there was at the start: before, every pod would seem to be lost.
    pub(crate) async fn listed(&self) {
        self.pods.listed().await;
        self.services.listed().await;
        self.config_maps.listed().await;
        self.policies.listed().await;
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }
}
