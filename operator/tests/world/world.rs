//! A world: the cluster, the operators in it, and a hand on both.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until};
use trainyard_operator::Context;
use trainyard_operator::coordinator::{Answer, Coordinator};
use trainyard_operator::metrics::Metrics;
use trainyard_operator::plan::Settings;

use crate::cluster::Cluster;
use crate::http::client;
use crate::kubelet::{PodState, Task};
use crate::store::{JOBS, Key, PODS, Part};

/// How long a dead operator stays away.
const RESTART: Duration = Duration::from_secs(1);
/// How often a condition is looked at while it is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// What everybody shares.
pub struct Shared {
    cluster: Mutex<Cluster>,
    /// The newest version of any object.
    pub version: watch::Sender<u64>,
    deaths: watch::Sender<usize>,
    agenda: Notify,
}

impl Shared {
    /// Looks at or changes the cluster; what follows from a change happens at once.
    pub fn with<T>(&self, f: impl FnOnce(&mut Cluster) -> T) -> T {
        let mut cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        let planned = cluster.planned();
        let result = f(&mut cluster);
        cluster.react();
        let (version, deaths) = (cluster.store.version, cluster.gate.deaths());
        self.version
            .send_if_modified(|known| std::mem::replace(known, version) != version);
        self.deaths
            .send_if_modified(|known| std::mem::replace(known, deaths) != deaths);
        if cluster.planned() != planned {
            self.agenda.notify_one();
        }
        result
    }
}

struct Model(Arc<Shared>);

impl Coordinator for Model {
    fn progress<'a>(&'a self, ip: &'a str) -> Answer<'a> {
        Box::pin(async move {
            sleep(Duration::from_millis(3)).await;
            match self.0.with(|cluster| cluster.progress(ip)) {
                Some(progress) => Ok(progress),
                None => {
                    sleep(Duration::from_secs(2)).await;
                    anyhow::bail!("no answer in time")
                }
            }
        })
    }
}

/// What went wrong in a test.
pub type Outcome<T = ()> = Result<T, String>;

/// The world.
#[derive(Clone)]
pub struct World {
    pub shared: Arc<Shared>,
    operators: Arc<Mutex<Operators>>,
}

#[derive(Default)]
struct Operators {
    started: u32,
    seats: Vec<(u32, JoinHandle<()>)>,
}

/// How a job has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    pub phase: Option<String>,
    pub model_sha256: Option<String>,
    pub failures: u64,
    pub disruptions: u64,
}

impl World {
    /// A world without operators.
    pub fn new(seed: u64) -> Self {
        // The jitter of kube's watches is drawn from here.
        fastrand::seed(seed);
        let shared = Arc::new(Shared {
            cluster: Mutex::new(Cluster::new(seed)),
            version: watch::Sender::new(0),
            deaths: watch::Sender::new(0),
            agenda: Notify::new(),
        });
        let driven = Arc::clone(&shared);
        tokio::spawn(async move {
            loop {
                let next = driven.with(Cluster::advance);
                match next {
                    Some(next) => {
                        let _ = tokio::time::timeout_at(next, driven.agenda.notified()).await;
                    }
                    None => driven.agenda.notified().await,
                }
            }
        });
        let world = World {
            shared,
            operators: Arc::default(),
        };
        world.with(Cluster::provide_volumes);
        world
    }

    pub fn with<T>(&self, f: impl FnOnce(&mut Cluster) -> T) -> T {
        self.shared.with(f)
    }

    /// Starts an operator, and starts it anew whenever it dies. Returns its seat.
    pub fn start_operator(&self) -> usize {
        let mut operators = self
            .operators
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let seat = operators.seats.len();
        let world = self.clone();
        let task = tokio::spawn(async move {
            loop {
                world.operate(seat).await;
                sleep(RESTART).await;
            }
        });
        operators.seats.push((0, task));
        seat
    }

    /// One life of an operator.
    async fn operate(&self, seat: usize) {
        let id = {
            let mut operators = self
                .operators
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            operators.started += 1;
            let id = operators.started;
            operators.seats[seat].0 = id;
            id
        };
        let scope = self.with(|cluster| {
            cluster.note(format!("operator {id} starts"));
            cluster.gate.scope.clone()
        });
        let context = Context::new(
            client(&self.shared, id),
            scope,
            Settings {
                image: "trainer:1".into(),
            },
            self.with(|cluster| Arc::clone(&cluster.clock)),
            Arc::new(Model(Arc::clone(&self.shared))),
            Arc::new(Metrics::default()),
            Some(format!("operator-{id}")),
        );
        let mut deaths = self.shared.deaths.subscribe();
        let mut run = tokio::spawn(trainyard_operator::run(
            Arc::new(context),
            std::future::pending(),
        ));
        let ended = loop {
            tokio::select! {
                ended = &mut run => break Some(ended),
                _ = deaths.changed() => {
                    if self.with(|cluster| cluster.gate.is_dead(id)) {
                        break None;
                    }
                }
            }
        };
        let how = match ended {
            None => {
                run.abort();
                let _ = run.await;
                "is killed".into()
            }
            Some(Ok(result)) => format!("ends: {result:?}"),
            Some(Err(error)) => {
                self.with(|cluster| cluster.violation(format!("operator {id} panics: {error}")));
                "panics".into()
            }
        };
        self.with(|cluster| {
            cluster.gate.kill(id);
            cluster.note(format!("operator {id} {how}"));
        });
    }

    /// The operator that has a seat now.
    pub fn operator(&self, seat: usize) -> u32 {
        self.operators
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .seats[seat]
            .0
    }

    /// Kills the operator in a seat; another takes it after a moment.
    pub fn kill_operator(&self, seat: usize) {
        let id = self.operator(seat);
        self.with(|cluster| cluster.gate.kill(id));
    }

    /// Takes an operator away for good.
    pub fn remove_operator(&self, seat: usize) {
        let operators = self
            .operators
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (id, task) = &operators.seats[seat];
        task.abort();
        let id = *id;
        drop(operators);
        self.with(|cluster| cluster.gate.kill(id));
    }

    /// Waits for something, at most for so many simulated seconds.
    pub async fn until(
        &self,
        what: &str,
        seconds: u64,
        mut is: impl FnMut(&Cluster) -> bool,
    ) -> Outcome {
        for _ in 0..seconds * 10 {
            let (met, violation) =
                self.with(|cluster| (is(cluster), cluster.violations.first().cloned()));
            match violation {
                Some(violation) => return Err(violation),
                None if met => return Ok(()),
                None => sleep(LOOK).await,
            }
        }
        Err(format!("not within {seconds} s: {what}"))
    }

    /// Lets so many seconds pass.
    pub async fn pass(&self, seconds: u64) -> Outcome {
        let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
        sleep_until(end).await;
        self.until("no invariant is broken", 1, |_| true).await
    }

    pub async fn until_phase(&self, job: &str, phase: &str, seconds: u64) -> Outcome {
        let what = format!("{job} is {phase}");
        self.until(&what, seconds, |cluster| {
            cluster
                .job(job)
                .is_some_and(|job| job["status"]["phase"] == phase)
        })
        .await
    }

    /// Waits until a job's training has done so many steps.
    pub async fn until_step(&self, job: &str, step: u64) -> Outcome {
        let what = format!("{job} has trained {step} steps");
        self.until(&what, 600, |cluster| {
            cluster
                .trainings
                .values()
                .any(|t| t.name == job && t.step >= step)
        })
        .await
    }

    /// Lets an hour pass in which nothing is written, once everything that has begun is done.
    pub async fn stays_quiet(&self) -> Outcome {
        self.pass(120).await?;
        let before = self.with(|cluster| cluster.gate.durable_writes);
        self.pass(3600).await?;
        let after = self.with(|cluster| cluster.gate.durable_writes);
        match after - before {
            0 => Ok(()),
            writes => Err(format!(
                "{writes} writes in an hour in which nothing happened"
            )),
        }
    }

    pub fn end_of(&self, job: &str) -> End {
        self.with(|cluster| {
            let status = cluster
                .job(job)
                .map(|job| job["status"].clone())
                .unwrap_or_default();
            End {
                phase: status["phase"].as_str().map(str::to_owned),
                model_sha256: status["modelSha256"].as_str().map(str::to_owned),
                failures: status["restarts"]["failures"].as_u64().unwrap_or(0),
                disruptions: status["restarts"]["disruptions"].as_u64().unwrap_or(0),
            }
        })
    }

    pub fn create_job(&self, job: Value) {
        let name = crate::kubelet::text(&job["metadata"]["name"]);
        self.create(Key::new(&JOBS, "default", &name), job);
    }

    /// Creates an object as a user does.
    pub fn create(&self, key: Key, object: Value) {
        self.with(|cluster| {
            let (at, now) = (cluster.elapsed(), cluster.now());
            let _ = cluster.store.create(key, object, at, now);
        });
    }

    /// Changes a job as a user does.
    pub fn edit_job(&self, name: &str, change: impl Fn(&mut Value)) {
        self.with(|cluster| {
            let key = Key::new(&JOBS, "default", name);
            if let Some(job) = cluster.store.get(&key).cloned() {
                let mut job = (*job).clone();
                change(&mut job);
                let at = cluster.elapsed();
                let _ = cluster.store.replace(&key, job, Part::Main, at);
            }
        });
    }

    /// Deletes an object as a user does.
    pub fn delete(&self, kind: &'static crate::store::Kind, name: &str, grace: Option<i64>) {
        self.with(|cluster| cluster.delete(&Key::new(kind, "default", name), grace, false));
    }

    /// Ends the process of a pod, whether it likes it or not.
    pub fn end_pod(&self, name: &str, code: i32, reason: &'static str) {
        self.with(|cluster| {
            if let Some(uid) = cluster.uid_of(name) {
                let message = "it went wrong".to_owned();
                cluster.perform_task(Task::Exit {
                    uid,
                    code,
                    reason,
                    message,
                });
            }
        });
    }

    /// Waits until a pod runs.
    pub async fn until_runs(&self, name: &str, seconds: u64) -> Outcome {
        self.until(&format!("pod {name} runs"), seconds, |cluster| {
            cluster
                .pods
                .values()
                .any(|pod| pod.key.name == name && pod.state == PodState::Running)
        })
        .await
    }

    /// Names and uids of all pods.
    pub fn pods(&self) -> Vec<(String, String)> {
        self.with(|cluster| {
            let pods = cluster.store.of_kind(&PODS);
            pods.map(|pod| {
                let text = crate::kubelet::text;
                (
                    text(&pod["metadata"]["name"]),
                    text(&pod["metadata"]["uid"]),
                )
            })
            .collect()
        })
    }

    /// How many pods were ever created.
    pub fn pods_created(&self) -> usize {
        self.with(|cluster| {
            let log = cluster.store.log.iter();
            log.filter(|change| change.key.kind == &PODS && change.old.is_none())
                .count()
        })
    }

    /// Uid of a pod that is there.
    pub fn uid(&self, pod: &str) -> Option<String> {
        self.pods()
            .into_iter()
            .find(|(name, _)| name == pod)
            .map(|(_, uid)| uid)
    }

    pub fn status(&self, job: &str) -> Value {
        self.with(|cluster| {
            cluster
                .job(job)
                .map(|job| job["status"].clone())
                .unwrap_or_default()
        })
    }

    /// A condition of a job: status, reason and message.
    pub fn condition(&self, job: &str, type_: &str) -> Option<(String, String, String)> {
        let status = self.status(job);
        let condition = status["conditions"]
            .as_array()?
            .iter()
            .find(|c| c["type"] == type_)?
            .clone();
        let text = |field: &str| crate::kubelet::text(&condition[field]);
        Some((text("status"), text("reason"), text("message")))
    }
}

/// A job that trains for 40 seconds.
pub fn job(name: &str, servers: u32, workers: u32) -> Value {
    json!({
        "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "task": {"binaryClassification": {}},
            "model": {"mlp": {"hidden": [8], "activation": "relu"}},
            "data": {"volume": {"configMap": {"name": "data"}}, "train": {"csv": {"uri": "a.csv", "label": "y"}}},
            "training": {"epochs": 4, "batchSize": 32, "microBatches": 8, "optimizer": {"adam": {"learningRate": 0.001}}},
            "servers": {"replicas": servers}, "workers": {"replicas": workers},
            "checkpoint": {"everySteps": 50, "storage": {"volume": {"persistentVolumeClaim": {"claimName": "runs"}}}},
        },
    })
}

/// An error unless something holds.
pub fn ensure(holds: bool, what: impl std::fmt::Debug) -> Outcome {
    match holds {
        true => Ok(()),
        false => Err(format!("does not hold: {what:?}")),
    }
}

/// Runs a test in a world of its own; what went wrong is told with all that happened.
pub fn simulate<T, F: Future<Output = Outcome<T>>>(
    seed: u64,
    test: impl FnOnce(World) -> F,
) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| error.to_string())?;
    let world = {
        let _inside = runtime.enter();
        World::new(seed)
    };
    // Behind a pointer, so that the runtime is not compiled anew for each test.
    let told: Pin<Box<dyn Future<Output = Outcome<T>> + '_>> = Box::pin(test(world.clone()));
    runtime.block_on(told).map_err(|what| {
        let log = world.with(|cluster| cluster.log.join("\n"));
        format!("{log}\nseed {seed}: {what}\n")
    })
}

/// As `simulate`, for a test that ends with it.
pub fn play<F: Future<Output = Outcome>>(test: impl FnOnce(World) -> F) {
    if let Err(what) = simulate(1, test) {
        panic!("{what}");
    }
}
