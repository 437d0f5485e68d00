//! A model of the trainer: what servers, workers and finishers do, as far as the operator can see it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::json;
use trainyard_contract::{ExitCode, ExportReport, Member, Role, Stuck};
use trainyard_operator::coordinator::Progress;

use crate::cluster::Cluster;
use crate::kubelet::{PodState, Task};
use crate::store::{Key, SERVICES};

/// Steps between two checkpoints.
const EVERY_STEPS: u64 = 50;
/// How a server that was stopped, or that finds a newer generation, ends.
const TRY_AGAIN: i32 = ExitCode::TryAgain.code() as i32;
/// Steps trained in a second.
const RATE: u64 = 10;

/// The training of a job: what its storage holds, and what its servers do.
#[derive(Clone, Debug, Default)]
pub struct Training {
    pub name: String,
    pub step: u64,
    pub checkpoint: u64,
    /// The most steps that were ever done; a lost server throws training back.
    pub peak: u64,
    pub complete: bool,
    /// Highest generation that any server was started with: older ones are refused.
    pub generation: u64,
    /// The servers that hold the state together, by index.
    group: BTreeMap<u32, String>,
    /// Generation in which each index last held state.
    pub held: BTreeMap<u32, u64>,
    /// How often the group was formed.
    pub formations: u32,
    /// Seconds in which no step was done although all servers ran.
    pub silent: bool,
    /// Whether its artifact is in the storage.
    pub exported: bool,
    ticking: bool,
}

/// What becomes of a finisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    /// It exports.
    Good,
    /// It ends like this.
    Ends(i32, &'static str, &'static str),
    /// It does not end.
    Hangs,
}

/// How finishers go.
#[derive(Default)]
pub struct Exports {
    /// The first ones; all others are good.
    pub first: VecDeque<Export>,
    /// The image is of the time when server 0 exported the artifact.
    pub by_server: bool,
}

impl Training {
    /// The digest that this job's model has, however it is trained.
    pub fn sha256(&self) -> String {
        let hex: String = self
            .name
            .bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{hex:0>64}").chars().take(64).collect()
    }

    pub fn artifact(&self) -> String {
        format!("/storage/{}/artifact", self.name)
    }

    fn message(&mut self, exports: &Exports) -> String {
        let mut report = json!({"complete": true, "step": self.step, "totalSteps": self.step, "epochs": 4,
            "modelSha256": self.sha256(),
            "metrics": {"train": {"loss": 0.25}, "validation": {"accuracy": 0.97}}});
        if exports.by_server {
            self.exported = true;
            report["artifact"] = self.artifact().into();
        }
        report.to_string()
    }
}

impl Cluster {
    /// A pod's process begins to run.
    pub fn process_starts(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid).cloned() else {
            return;
        };
        let training = self
            .trainings
            .entry(pod.job.clone())
            .or_insert_with(|| Training {
                name: pod.job_name.clone(),
                ..Training::default()
            });
        let mut exit = None;
        if pod.role == Role::Finisher {
            return self.export(uid, &pod.job);
        }
        if pod.is_server() {
            if training.complete {
                let message = if pod.index == 0 {
                    training.message(&self.exports)
                } else {
                    String::new()
                };
                exit = Some((0, message));
            } else if pod.generation < training.generation {
                exit = Some((TRY_AGAIN, "a newer generation exists".to_owned()));
            } else {
                training.generation = pod.generation;
            }
        }
        let starts = !std::mem::replace(&mut training.ticking, true);
        if let Some((code, message)) = exit {
            let wait = self.between(500, 2000);
            self.after(wait, Task::exit(uid, code, message));
        }
        if starts {
            self.after(Duration::from_secs(1), Task::Tick(pod.job));
        }
    }

    /// A finisher begins to run.
    fn export(&mut self, uid: &str, job: &str) {
        let Some(training) = self.trainings.get(job) else {
            return;
        };
        if !training.complete {
            let name = training.name.clone();
            return self.violation(format!(
                "a finisher of {name} runs before training is complete"
            ));
        }
        let report = ExportReport {
            exported: true,
            artifact: training.artifact(),
        };
        let wait = self.between(500, 3000);
        match self.exports.first.pop_front().unwrap_or(Export::Good) {
            Export::Good => self.after(wait, Task::exit(uid, 0, report.to_message())),
            Export::Ends(code, reason, message) => {
                let (uid, message) = (uid.into(), message.into());
                self.after(
                    wait,
                    Task::Exit {
                        uid,
                        code,
                        reason,
                        message,
                    },
                );
            }
            Export::Hangs => {}
        }
    }

    /// The attempt of server 0 that the coordinator's Service leads to.
    fn coordinator_of(&self, job: &str) -> Option<u32> {
        let key = Key::new(&SERVICES, "default", &format!("{job}-coordinator"));
        let selector = &self.store.get(&key)?["spec"]["selector"];
        selector["trainyard.dev/attempt"].as_str()?.parse().ok()
    }

    /// One second of training.
    pub fn tick(&mut self, job: &str) {
        let Some(mut training) = self.trainings.remove(job) else {
            return;
        };
        let running: Vec<(String, crate::kubelet::PodSim)> = self
            .pods
            .iter()
            .filter(|(_, pod)| {
                pod.job == job
                    && pod.role != Role::Finisher
                    && pod.state == PodState::Running
                    && self.nodes[pod.node]
            })
            .map(|(uid, pod)| (uid.clone(), pod.clone()))
            .collect();
        training.ticking = !running.is_empty();
        let wanted = self
            .job(&training.name)
            .and_then(|job| job["spec"]["servers"]["replicas"].as_u64())
            .unwrap_or(1);
        // Of two servers in one place the newer is the one that is listened to.
        let servers: BTreeMap<u32, String> = running
            .iter()
            .filter(|(_, pod)| pod.is_server() && pod.exiting.is_none())
            .map(|(uid, pod)| ((pod.index, pod.attempt), uid))
            .map(|((index, _), uid)| (index, uid.clone()))
            .collect();
        // Whoever joins finds server 0 through its Service; one that it leads away from keeps the peers that it has.
        let found = self.coordinator_of(&training.name);
        let leads = |uid: &String| Some(self.pods[uid].attempt) == found;
        let led = servers == training.group || servers.get(&0).is_some_and(leads);
        let workers = running.iter().filter(|(_, pod)| !pod.is_server()).count();
        let mut violations = Vec::new();
        if !training.complete && servers.len() as u64 == wanted && led {
            if servers != training.group {
                for (index, uid) in &servers {
                    let own = self.pods[uid].generation;
                    let held = training.held.get(index).copied().unwrap_or(0);
                    if training.group.get(index) != Some(uid) && own <= held {
                        violations.push(format!(
                            "server {index} of {} joins in generation {own}, in which its predecessor held state ({held})",
                            training.name
                        ));
                    }
                }
                training.group.clone_from(&servers);
                training.step = training.checkpoint;
                training.formations += 1;
            }
            for index in servers.keys() {
                training.held.insert(*index, training.generation);
            }
            if workers > 0 && !training.silent {
                training.step += RATE;
                training.peak = training.peak.max(training.step);
                training.checkpoint = training.step / EVERY_STEPS * EVERY_STEPS;
            }
            if training.step >= self.total_steps {
                training.complete = true;
            }
        }
        if training.complete {
            for (uid, pod) in running.iter().filter(|(_, pod)| pod.exiting.is_none()) {
                let message = if pod.is_server() && pod.index == 0 {
                    training.message(&self.exports)
                } else {
                    String::new()
                };
                let wait = self.between(200, 3000);
                self.after(wait, Task::exit(uid, 0, message));
            }
        }
        for violation in violations {
            self.violation(violation);
        }
        let ticking = training.ticking;
        self.trainings.insert(job.into(), training);
        if ticking {
            self.after(Duration::from_secs(1), Task::Tick(job.into()));
        }
    }

    /// A process is asked to end.
    pub fn process_terminates(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid).cloned() else {
            return;
        };
        if pod.exiting.is_some() || !self.nodes[pod.node] {
            return;
        }
        if self.hung.contains(uid) {
            let grace = Duration::from_secs(30);
            return self.after(grace, Task::exit(uid, 137, String::new()));
        }
        let code = match pod.role {
            Role::Worker => 0,
            Role::Finisher => TRY_AGAIN,
            Role::Server => {
                if let Some(training) = self.trainings.get_mut(&pod.job)
                    && training
                        .group
                        .get(&pod.index)
                        .is_some_and(|member| member == uid)
                {
                    training.checkpoint = training.step;
                }
                TRY_AGAIN
            }
        };
        let wait = self.between(4000, 8000);
        self.after(wait, Task::exit(uid, code, String::new()));
    }

    /// Members that do nothing, as long as their pods are there.
    fn stuck(&self, job: &str) -> Vec<Stuck> {
        let hung = self.hung.iter().filter_map(|uid| self.pods.get(uid));
        let hung = hung.filter(|pod| pod.job_name == job);
        hung.map(|pod| Stuck {
            member: Member {
                role: pod.role,
                index: pod.index,
            },
            seconds: 15,
            reason: "has been silent for 15 s".into(),
        })
        .collect()
    }

    /// What the coordinator at an address answers.
    pub fn progress(&self, ip: &str) -> Option<Progress> {
        let pod = self
            .pods
            .values()
            .find(|pod| pod.ip == ip && pod.state == PodState::Running)?;
        let training = self.trainings.get(&pod.job)?;
        (pod.is_server() && pod.index == 0 && self.nodes[pod.node] && !training.silent).then(|| {
            Progress {
                step: training.step,
                total_steps: self.total_steps,
                samples: training.step * 32,
                loss: Some(f64::NAN),
                checkpoint: Some(training.checkpoint),
                warnings: self.warnings.clone(),
                stuck: self.stuck(&training.name),
                ..Progress::default()
            }
        })
    }
}
