//! Scheduler, kubelets, node controller and garbage collector.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use trainyard_contract::{ExportReport, MemberCommand, Role};

use crate::cluster::Cluster;
use crate::store::{CLAIMS, CONFIG_MAPS, Change, EVENTS, JOBS, Key, PODS, seconds};

/// What a pod does on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodState {
    Pending,
    Running,
    Ended,
}

/// A pod as its node sees it.
#[derive(Clone, Debug)]
pub struct PodSim {
    pub key: Key,
    /// Uid of its job.
    pub job: String,
    pub job_name: String,
    pub role: Role,
    pub index: u32,
    pub attempt: u32,
    pub generation: u64,
    pub node: usize,
    scheduled: bool,
    pub state: PodState,
    pub ip: String,
    started: String,
    /// Exit code that it is about to end with.
    pub exiting: Option<i32>,
    /// The key that its process has found.
    pub member_key: Option<trainyard_contract::Key>,
}

impl PodSim {
    pub fn is_server(&self) -> bool {
        self.role == Role::Server
    }
}

/// Something that happens by itself, later.
#[derive(Clone, Debug)]
pub enum Task {
    Schedule(String),
    Start(String),
    Ready(String),
    /// It has run for as long as its `activeDeadlineSeconds`.
    Overdue(String),
    Exit {
        uid: String,
        code: i32,
        reason: &'static str,
        message: String,
    },
    Settle(String, &'static str),
    Remove(String),
    EvictFrom(usize),
    ForgetPodsOf(usize),
    Tick(String),
    CollectGarbage,
}

impl Task {
    pub fn exit(uid: &str, code: i32, message: String) -> Self {
        let reason = if code == 0 { "Completed" } else { "Error" };
        Task::Exit {
            uid: uid.into(),
            code,
            reason,
            message,
        }
    }
}

impl Cluster {
    pub fn perform_task(&mut self, task: Task) {
        match task {
            Task::Schedule(uid) => self.schedule(&uid),
            Task::Start(uid) => self.start(&uid),
            Task::Ready(uid) => self.ready(&uid),
            Task::Overdue(uid) => self.overdue(&uid),
            Task::Exit {
                uid,
                code,
                reason,
                message,
            } => self.exit(&uid, code, reason, &message),
            Task::Settle(uid, phase) => self.settle(&uid, phase),
            Task::Remove(uid) => self.remove_pod(&uid),
            Task::EvictFrom(node) => self.evict_from(node),
            Task::ForgetPodsOf(node) => self.forget_pods_of(node),
            Task::Tick(job) => self.tick(&job),
            Task::CollectGarbage => self.collect_garbage(),
        }
    }

    /// Nodes see what has changed of a pod.
    pub fn pod_changed(&mut self, change: &Change) {
        let object = change.object();
        let uid = text(&object["metadata"]["uid"]);
        match (&change.old, &change.new) {
            (None, Some(pod)) => {
                let Some(sim) = pod_sim(&change.key, pod) else {
                    return;
                };
                self.pods.insert(uid.clone(), sim);
                let wait = self.between(5, 300);
                self.after(wait, Task::Schedule(uid));
            }
            (Some(old), Some(new)) => {
                let asked = |pod: &Value| !pod["metadata"]["deletionTimestamp"].is_null();
                if asked(new) && !asked(old) {
                    self.terminate(&uid);
                }
            }
            _ => {
                self.pods.remove(&uid);
            }
        }
    }

    fn terminate(&mut self, uid: &str) {
        match self.pods.get(uid).map(|pod| (pod.state, pod.node)) {
            Some((PodState::Running, _)) => self.process_terminates(uid),
            Some((_, node)) if self.nodes[node] => {
                let wait = self.between(100, 1000);
                self.after(wait, Task::Remove(uid.into()));
            }
            _ => {}
        }
    }

    fn edit_pod(&mut self, uid: &str, change: impl FnOnce(&mut Value)) {
        if let Some(key) = self.pods.get(uid).map(|pod| pod.key.clone()) {
            let at = self.elapsed();
            self.store.edit(&key, at, change);
        }
    }

    fn schedule(&mut self, uid: &str) {
        if self.pods.get(uid).is_none_or(|pod| pod.scheduled) {
            return;
        }
        let alive: Vec<usize> = (0..self.nodes.len())
            .filter(|node| self.nodes[*node])
            .collect();
        if self.full || alive.is_empty() {
            let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/3 nodes are available: 3 Insufficient cpu."});
            self.edit_pod(uid, |pod| pod["status"]["conditions"] = json!([condition]));
            return self.after(Duration::from_secs(5), Task::Schedule(uid.into()));
        }
        // Where a pod goes does not depend on when.
        let spread = self.pods.get(uid).map_or(0, |pod| {
            pod.index + pod.attempt + u32::from(pod.is_server())
        });
        let node = alive[spread as usize % alive.len()];
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.node = node;
            pod.scheduled = true;
        }
        self.edit_pod(uid, |pod| {
            pod["spec"]["nodeName"] = format!("node-{node}").into();
            pod["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "True"}]);
        });
        let wait = self.between(100, 3000);
        self.after(wait, Task::Start(uid.into()));
    }

    /// What keeps a container from being started, in the kubelet's words.
    fn hindrance(&self, pod: &PodSim) -> Option<(&'static str, &'static str)> {
        let exists = |kind, name: &str| self.store.get(&Key::new(kind, "default", name)).is_some();
        if !exists(&CONFIG_MAPS, &format!("{}-job", pod.job_name)) {
            return Some(("ContainerCreating", ""));
        }
        if self.key_of(pod).is_err() {
            return Some(("ContainerCreating", ""));
        }
        if self.registry_down {
            return Some(("ErrImagePull", "registry.example is not reachable"));
        }
        if self.secret_missing {
            return Some((
                "CreateContainerConfigError",
                "secret \"credentials\" not found",
            ));
        }
        None
    }

    fn start(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid).cloned() else {
            return;
        };
        let asked = self
            .store
            .get(&pod.key)
            .is_none_or(|pod| !pod["metadata"]["deletionTimestamp"].is_null());
        if pod.state != PodState::Pending || asked || !self.nodes[pod.node] {
            return;
        }
        if let Some((reason, message)) = self.hindrance(&pod) {
            let waiting = json!([{"name": "trainer", "ready": false,
                "state": {"waiting": {"reason": reason, "message": message}}}]);
            self.edit_pod(uid, |pod| pod["status"]["containerStatuses"] = waiting);
            return self.after(Duration::from_secs(3), Task::Start(uid.into()));
        }
        let key = self.key_of(&pod).unwrap_or_default();
        let started = seconds(self.now());
        let ip = format!("10.0.{}.{}", self.rng.u8(..), self.rng.u8(..));
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.state = PodState::Running;
            pod.ip.clone_from(&ip);
            pod.started.clone_from(&started);
            pod.member_key = key;
        }
        self.check_agreement(uid);
        self.edit_pod(uid, |object| {
            object["status"]["phase"] = "Running".into();
            object["status"]["podIP"] = ip.into();
            object["status"]["containerStatuses"] = json!([{"name": "trainer", "ready": !pod.is_server(),
                "state": {"running": {"startedAt": started}}}]);
        });
        let object = self.store.get(&pod.key);
        let limit = object.and_then(|pod| pod["spec"]["activeDeadlineSeconds"].as_u64());
        if let Some(limit) = limit {
            self.after(Duration::from_secs(limit), Task::Overdue(uid.into()));
        }
        self.process_starts(uid);
        if pod.is_server() {
            let wait = self.between(200, 1500);
            self.after(wait, Task::Ready(uid.into()));
        }
    }

    /// The kubelet asks the process to end, and tells why.
    fn overdue(&mut self, uid: &str) {
        let is_running = |pod: &PodSim| pod.state == PodState::Running && self.nodes[pod.node];
        if self.pods.get(uid).is_some_and(is_running) {
            self.exit(uid, 75, "DeadlineExceeded", "");
            self.edit_pod(uid, |pod| {
                pod["status"]["reason"] = "DeadlineExceeded".into()
            });
        }
    }

    fn ready(&mut self, uid: &str) {
        if self
            .pods
            .get(uid)
            .is_some_and(|pod| pod.state == PodState::Running && self.nodes[pod.node])
        {
            self.edit_pod(uid, |pod| {
                pod["status"]["containerStatuses"][0]["ready"] = true.into()
            });
        }
    }

    /// The container ends.
    fn exit(&mut self, uid: &str, code: i32, reason: &'static str, message: &str) {
        let finished = seconds(self.now());
        let Some(pod) = self.pods.get_mut(uid) else {
            return;
        };
        if pod.state != PodState::Running || !self.nodes[pod.node] {
            return;
        }
        pod.state = PodState::Ended;
        pod.exiting = Some(code);
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        let terminated = json!({"exitCode": code, "reason": reason, "message": message,
            "startedAt": pod.started, "finishedAt": finished});
        let needed = pod.is_server()
            && self
                .trainings
                .get(&pod.job)
                .is_some_and(|training| !training.complete);
        if pod.role == Role::Finisher
            && code == 0
            && let Some(training) = self.trainings.get_mut(&pod.job)
        {
            training.exported |= ExportReport::from_message(message).is_some();
        }
        self.watchdog.pod_ended(uid, code, reason, needed);
        self.edit_pod(uid, |pod| {
            pod["status"]["containerStatuses"] = json!([{"name": "trainer", "ready": false,
                "state": {"terminated": terminated}}]);
        });
        let wait = self.between(0, 200);
        self.after(wait, Task::Settle(uid.into(), phase));
    }

    /// The kubelet tells of the pod's end a moment after the container's.
    fn settle(&mut self, uid: &str, phase: &'static str) {
        if self.pods.get(uid).is_none_or(|pod| !self.nodes[pod.node]) {
            return;
        }
        let mut asked = false;
        self.edit_pod(uid, |pod| {
            pod["status"]["phase"] = phase.into();
            asked = !pod["metadata"]["deletionTimestamp"].is_null();
        });
        if asked {
            let wait = self.between(100, 1000);
            self.after(wait, Task::Remove(uid.into()));
        }
    }

    fn remove_pod(&mut self, uid: &str) {
        if let Some(pod) = self.pods.get(uid).cloned() {
            let at = self.elapsed();
            self.store.remove(&pod.key, at);
        }
    }

    /// The kubelet ends a pod because its node runs out of something, whether the container has started or not. It
    /// leaves alone what has ended.
    pub fn evict_pod(&mut self, name: &str) {
        let Some(uid) = self.uid_of(name) else { return };
        let Some(pod) = self.pods.get_mut(&uid) else {
            return;
        };
        match pod.state {
            _ if !pod.scheduled || !self.nodes[pod.node] => return,
            PodState::Ended => return,
            PodState::Running => self.exit(&uid, 137, "Evicted", ""),
            PodState::Pending => {
                pod.state = PodState::Ended;
                pod.exiting = Some(137);
                self.watchdog.pod_ended(&uid, 137, "Evicted", false);
            }
        }
        self.edit_pod(&uid, |pod| {
            pod["status"]["phase"] = "Failed".into();
            pod["status"]["reason"] = "Evicted".into();
            pod["status"]["message"] = "The node was low on resource: memory.".into();
            pod["status"]["conditions"] = json!([{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}]);
        });
    }

    /// The scheduler makes room for a more important pod.
    pub fn preempt_pod(&mut self, name: &str) {
        let Some(uid) = self.uid_of(name) else { return };
        self.edit_pod(&uid, |pod| {
            pod["status"]["conditions"] = json!([{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]);
        });
        self.delete(&Key::new(&PODS, "default", name), None, false);
    }

    pub fn uid_of(&self, name: &str) -> Option<String> {
        self.pods
            .iter()
            .find(|(_, pod)| pod.key.name == name)
            .map(|(uid, _)| uid.clone())
    }

    pub fn pod(&self, name: &str) -> Option<&PodSim> {
        self.pods.values().find(|pod| pod.key.name == name)
    }

    pub fn node_of(&self, name: &str) -> Option<usize> {
        self.pod(name).map(|pod| pod.node)
    }

    /// Pods of a job that have neither ended nor been asked to.
    pub fn working_pods(&self, job: &str) -> Vec<PodSim> {
        let works = |pod: &&PodSim| {
            let object = self.store.get(&pod.key);
            pod.job_name == job
                && pod.state != PodState::Ended
                && object.is_some_and(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        };
        self.pods.values().filter(works).cloned().collect()
    }

    /// Deletes an object as the API server does: pods get time to end.
    pub fn delete(&mut self, key: &Key, grace: Option<i64>, by_operator: bool) {
        let (at, now) = (self.elapsed(), self.now());
        let Some(object) = self.store.get(key).cloned() else {
            return;
        };
        if key.kind != &PODS {
            self.store.remove(key, at);
            return;
        }
        let uid = text(&object["metadata"]["uid"]);
        let owner = text(&object["metadata"]["ownerReferences"][0]["name"]);
        let suspended = self.job(&owner).is_some_and(|job| {
            job["spec"]["suspend"] == true || job["status"]["phase"] == "Suspended"
        });
        // One that does nothing is lost, whoever deletes it.
        let superfluous = by_operator && !self.hung.contains(&uid);
        self.watchdog.pod_deleted(&uid, superfluous, suspended);
        let unscheduled = self.pods.get(&uid).is_none_or(|pod| !pod.scheduled);
        let grace = grace
            .or(object["spec"]["terminationGracePeriodSeconds"].as_i64())
            .unwrap_or(30);
        let at_once = grace == 0 || unscheduled;
        let grace = if at_once { 0 } else { grace };
        // Also before it is removed at once.
        self.store.edit(key, at, |pod| {
            if pod["metadata"]["deletionTimestamp"].is_null() {
                pod["metadata"]["deletionTimestamp"] =
                    seconds(now + SignedDuration::from_secs(grace)).into();
                pod["metadata"]["deletionGracePeriodSeconds"] = grace.into();
            }
        });
        if at_once {
            self.store.remove(key, at);
        }
    }

    /// A node falls silent; after a while its pods are evicted, and later forgotten.
    pub fn lose_node(&mut self, node: usize) {
        self.note(format!("node {node} is lost"));
        self.nodes[node] = false;
        self.after(Duration::from_secs(40), Task::EvictFrom(node));
        self.after(Duration::from_secs(200), Task::ForgetPodsOf(node));
    }

    fn uids_on(&self, node: usize) -> Vec<String> {
        let on = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.node == node && pod.scheduled);
        on.map(|(uid, _)| uid.clone()).collect()
    }

    fn evict_from(&mut self, node: usize) {
        for uid in self.uids_on(node) {
            self.edit_pod(&uid, |pod| {
                let reason = json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"});
                pod["status"]["conditions"] = json!([reason]);
            });
            if let Some(key) = self.pods.get(&uid).map(|pod| pod.key.clone()) {
                self.delete(&key, None, false);
            }
        }
    }

    fn forget_pods_of(&mut self, node: usize) {
        for uid in self.uids_on(node) {
            self.remove_pod(&uid);
        }
        self.nodes[node] = true;
    }

    /// Objects whose owner is gone go too.
    fn collect_garbage(&mut self) {
        let jobs: Vec<Value> = self
            .store
            .of_kind(&JOBS)
            .map(|job| job["metadata"]["uid"].clone())
            .collect();
        let orphan = |object: &Value| {
            let owners = object["metadata"]["ownerReferences"].as_array();
            owners.is_some_and(|owners| {
                !owners.is_empty() && owners.iter().all(|owner| !jobs.contains(&owner["uid"]))
            })
        };
        let orphans: Vec<Key> = self
            .store
            .objects
            .iter()
            .filter(|(key, object)| key.kind != &EVENTS && orphan(object))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &orphans {
            self.delete(key, None, false);
        }
        if !orphans.is_empty() {
            self.after(Duration::from_secs(5), Task::CollectGarbage);
        }
    }

    /// Creates what users bring: data and a place for checkpoints.
    pub fn provide_volumes(&mut self) {
        let (at, now) = (self.elapsed(), self.now());
        for (kind, name) in [(&CONFIG_MAPS, "data"), (&CLAIMS, "runs")] {
            let _ = self.store.create(
                Key::new(kind, "default", name),
                json!({"metadata": {}}),
                at,
                now,
            );
        }
    }
}

fn pod_sim(key: &Key, pod: &Value) -> Option<PodSim> {
    let labels = &pod["metadata"]["labels"];
    let number = |name: &str| labels[name].as_str()?.parse().ok();
    let owner = &pod["metadata"]["ownerReferences"][0];
    let args = pod["spec"]["containers"][0]["args"].as_array()?;
    let args = args.iter().filter_map(Value::as_str);
    let command = MemberCommand::from_args(args).expect("arguments that the trainer understands");
    let member = command.member();
    Some(PodSim {
        key: key.clone(),
        job: text(&owner["uid"]),
        job_name: text(&owner["name"]),
        role: member.role,
        index: member.index,
        attempt: number("trainyard.dev/attempt")?,
        generation: match command {
            MemberCommand::Server(args) => args.generation.into(),
            MemberCommand::Worker(_) | MemberCommand::Finisher(_) => 0,
        },
        node: 0,
        scheduled: false,
        state: PodState::Pending,
        ip: String::new(),
        started: String::new(),
        exiting: None,
        member_key: None,
    })
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
