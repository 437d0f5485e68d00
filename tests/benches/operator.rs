//! What the operator costs: many jobs of 1 server and 3 workers on a real API server without kubelets.
//!
//! `make bench-operator [JOBS=200]`. Beside each figure stands what the Kubeflow training-operator v1.9 needed for the same
//! on a machine of this class, with its client limits raised.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod};
use kube::api::{Api, PostParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use trainyard_crds::TrainingJob;
use trainyard_tests::apiserver::ApiServer;
use trainyard_tests::process::Process;

/// Jobs that are created at once.
const SUBMITTERS: usize = 32;
const PODS_PER_JOB: usize = 4;
/// No scenario may take longer.
const LIMIT: Duration = Duration::from_secs(300);

/// How many times as many jobs show whether costs grow with them.
const MORE: usize = 5;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let jobs: usize = number("JOBS", 200)?;
    let quiet = Duration::from_secs(number("QUIET_SECONDS", 60)? as u64);
    println!(
        "jobs of 1 server + 3 workers, API server and etcd on the same machine ({} cores)",
        cores()
    );
    let few = submitted_to_a_running_operator(jobs, quiet).await?;
    few.print();
    let before = there_before_the_operator(jobs).await?.as_secs_f64();
    println!(
        "  {jobs} jobs there before the operator starts: last pod {before:.2} s after its start ({})",
        aim(before, 2.5)
    );
    let many = submitted_to_a_running_operator(MORE * jobs, quiet).await?;
    many.print();
    many.print_growth(&few);
    Ok(())
}

/// A figure that should be at most `aim`.
fn aim(figure: f64, aim: f64) -> String {
    let verdict = if figure <= aim { "met" } else { "MISSED" };
    format!("aim {aim}: {verdict}")
}

fn number(name: &str, default: usize) -> Result<usize> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => {
            text.parse().with_context(|| format!("{name} is no number"))
        }
        _ => Ok(default),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

struct Figures {
    jobs: usize,
    submission: Duration,
    last_pod: Duration,
    writes: BTreeMap<(String, String), u64>,
    memory: u64,
    processor: Duration,
    quiet: Duration,
    quiet_writes: Vec<((String, String), u64)>,
    quiet_processor: Duration,
}

impl Figures {
    /// Writes of the operator for each job: events, or all others.
    fn writes_per_job(&self, events: bool) -> f64 {
        let is_event = |(_, resource): &(String, String)| resource == "events";
        let counted = self
            .writes
            .iter()
            .filter(|(key, _)| is_event(key) == events);
        counted.map(|(_, count)| *count as f64).sum::<f64>() / self.jobs as f64
    }

    fn print(&self) {
        // What the others needed was measured for 200 jobs.
        let share = self.jobs as f64 / 200.0;
        println!("{} jobs, submitted to a running operator", self.jobs);
        println!(
            "  API writes a job: {:.2}, and {:.2} events ({}; Kubeflow 9 and 6, without a key)",
            self.writes_per_job(false),
            self.writes_per_job(true),
            aim(self.writes_per_job(false), 10.0)
        );
        for ((verb, resource), count) in &self.writes {
            println!(
                "    {verb:5} {resource:20} {:.2}",
                *count as f64 / self.jobs as f64
            );
        }
        println!(
            "  first create to last pod: {:.2} s, of which submission {:.2} s; once submitted {:.2} s ({}; Kubeflow 8.6, 3.8 and 4.8 for 200)",
            self.last_pod.as_secs_f64(),
            self.submission.as_secs_f64(),
            self.once_submitted(),
            aim(self.once_submitted(), 2.5 * share)
        );
        let memory = self.memory as f64 / 1e6;
        println!(
            "  peak resident memory: {memory:.1} MB ({}; Kubeflow 71 for 200)",
            aim(memory, 35.5 * share.max(1.0))
        );
        let processor = self.processor.as_secs_f64();
        println!(
            "  processor time: {processor:.2} s ({}; Kubeflow 2.95 for 200)",
            aim(processor, 1.475 * share)
        );
        let quiet_writes: u64 = self.quiet_writes.iter().map(|(_, count)| count).sum();
        println!(
            "  {} s after they settled: {quiet_writes} writes but the Lease's {:?} ({}), {:.2} s of processor time",
            self.quiet.as_secs(),
            self.quiet_writes,
            aim(quiet_writes as f64, 0.0),
            self.quiet_processor.as_secs_f64()
        );
    }

    /// Seconds from the last job's creation to the last pod's.
    fn once_submitted(&self) -> f64 {
        self.last_pod.saturating_sub(self.submission).as_secs_f64()
    }

    /// Costs of a job among many beside those of a job among few.
    fn print_growth(&self, few: &Figures) {
        let jobs = self.jobs as f64 / few.jobs as f64;
        let writes = |figures: &Figures| figures.writes_per_job(false);
        let ratio = |of: fn(&Figures) -> f64| of(self) / of(few) / jobs;
        println!("a job among {} / a job among {}", self.jobs, few.jobs);
        println!("  API writes {:.2}", writes(self) / writes(few));
        println!(
            "  processor time {:.2}, time to the last pod {:.2}",
            ratio(|f| f.processor.as_secs_f64()),
            ratio(|f| f.last_pod.as_secs_f64())
        );
        let more = self.memory.saturating_sub(few.memory) as f64;
        println!(
            "  memory {:.2}; each job more takes {:.1} kB",
            ratio(|f| f.memory as f64),
            more / (self.jobs - few.jobs) as f64 / 1e3
        );
    }
}

async fn submitted_to_a_running_operator(jobs: usize, quiet: Duration) -> Result<Figures> {
    let server = prepared().await?;
    let client = server.client().await?;
    let operator = start_operator(&server)?;
    leading(&client).await?;
    let before = operator_writes(&server).await?;
    let begin = Instant::now();
    let pods = tokio::spawn(last_pod(client.clone(), jobs * PODS_PER_JOB));
    submit(&client, jobs).await?;
    let submission = begin.elapsed();
    pods.await??;
    let last_pod = begin.elapsed();
    settle(&server).await?;
    let after = operator_writes(&server).await?;
    let memory = operator.peak_memory()?;
    let processor = operator.processor_time()?;
    tokio::time::sleep(quiet).await;
    let later = operator_writes(&server).await?;
    Ok(Figures {
        jobs,
        submission,
        last_pod,
        writes: difference(&before, &after),
        memory,
        processor,
        quiet,
        quiet_writes: difference(&after, &later).into_iter().collect(),
        quiet_processor: operator.processor_time()?.saturating_sub(processor),
    })
}

async fn there_before_the_operator(jobs: usize) -> Result<Duration> {
    let server = prepared().await?;
    let client = server.client().await?;
    submit(&client, jobs).await?;
    let begin = Instant::now();
    let pods = tokio::spawn(last_pod(client.clone(), jobs * PODS_PER_JOB));
    let _operator = start_operator(&server)?;
    pods.await??;
    Ok(begin.elapsed())
}

/// A server with the CRDs and what the jobs refer to.
async fn prepared() -> Result<ApiServer> {
    let server = ApiServer::start().await?;
    server.install_crds().await?;
    let client = server.client().await?;
    let data: ConfigMap = serde_json::from_value(
        json!({"metadata": {"name": "data"}, "data": {"x.csv": "a,b\n1,2\n"}}),
    )?;
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": "runs"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }))?;
    let parameters = PostParams::default();
    Api::<ConfigMap>::default_namespaced(client.clone())
        .create(&parameters, &data)
        .await?;
    Api::<PersistentVolumeClaim>::default_namespaced(client)
        .create(&parameters, &claim)
        .await?;
    Ok(server)
}

fn start_operator(server: &ApiServer) -> Result<Process> {
    let kubeconfig = server.folder().join("kubeconfig");
    server.write_kubeconfig(&kubeconfig)?;
    let mut command = Command::new(operator_binary()?);
    command
        .env("KUBECONFIG", kubeconfig)
        .env("RUST_LOG", "warn");
    command.args([
        "--trainer-image",
        "trainer:bench",
        "--http",
        "127.0.0.1:0",
        "--identity",
        "bench",
    ]);
    command.args(["--lease-namespace", "default"]);
    Process::start(&mut command, &server.folder().join("operator.log"))
}

/// The operator that was built into this bench's own target directory.
fn operator_binary() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let target = this
        .parent()
        .and_then(|deps| deps.parent())
        .context("a target directory")?;
    let binary = target.join("trainyard-operator");
    ensure!(
        binary.exists(),
        "{} is missing: cargo build -p trainyard-operator",
        binary.display()
    );
    Ok(binary)
}

async fn leading(client: &Client) -> Result<()> {
    use k8s_openapi::api::coordination::v1::Lease;
    let api: Api<Lease> = Api::default_namespaced(client.clone());
    let begin = Instant::now();
    loop {
        let holder = api
            .get_opt("trainyard-operator")
            .await?
            .and_then(|lease| lease.spec?.holder_identity);
        if holder.is_some() {
            return Ok(());
        }
        ensure!(begin.elapsed() < LIMIT, "the operator does not lead");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn submit(client: &Client, jobs: usize) -> Result<()> {
    let api: Api<TrainingJob> = Api::default_namespaced(client.clone());
    let job = |index: usize| {
        json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": format!("job-{index}")},
            "spec": {
                "task": {"binaryClassification": {}}, "model": {"mlp": {"hidden": [8]}},
                "data": {"volume": {"configMap": {"name": "data"}}, "train": {"csv": {"uri": "x.csv", "label": "b"}}},
                "training": {"epochs": 1, "batchSize": 32, "microBatches": 4, "optimizer": {"adam": {}}},
                "servers": {"replicas": 1}, "workers": {"replicas": 3},
                "checkpoint": {"storage": {"volume": {"persistentVolumeClaim": {"claimName": "runs"}}}},
            },
        })
    };
    let parameters = PostParams::default();
    stream::iter((0..jobs).map(Ok::<_, anyhow::Error>))
        .try_for_each_concurrent(SUBMITTERS, |index| {
            let (api, parameters) = (api.clone(), parameters.clone());
            let job = job(index);
            async move {
                api.create(&parameters, &serde_json::from_value(job)?)
                    .await?;
                Ok(())
            }
        })
        .await
}

/// Returns when so many pods have been created.
async fn last_pod(client: Client, wanted: usize) -> Result<()> {
    let api: Api<Pod> = Api::default_namespaced(client);
    let watch = async {
        let mut names = std::collections::BTreeSet::new();
        let mut version = "0".to_owned();
        while names.len() < wanted {
            let mut events = api
                .watch_metadata(&WatchParams::default(), &version)
                .await?
                .boxed();
            while names.len() < wanted
                && let Some(event) = events.try_next().await?
            {
                if let WatchEvent::Added(pod) = event {
                    version = pod.resource_version().unwrap_or_default();
                    names.insert(pod.name_any());
                }
            }
        }
        Ok(())
    };
    match tokio::time::timeout(LIMIT, watch).await {
        Ok(result) => result,
        Err(_) => bail!("not all pods were created"),
    }
}

/// Waits until no write happens for two seconds.
async fn settle(server: &ApiServer) -> Result<()> {
    let begin = Instant::now();
    let mut last = operator_writes(server).await?;
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = operator_writes(server).await?;
        if difference(&last, &now).is_empty() {
            return Ok(());
        }
        ensure!(
            begin.elapsed() < LIMIT,
            "writes do not end: {:?}",
            difference(&last, &now)
        );
        last = now;
    }
}

type Writes = BTreeMap<(String, String), u64>;

/// Writes to what the operator writes to; the server writes to some other things by itself.
async fn operator_writes(server: &ApiServer) -> Result<Writes> {
    const RESOURCES: [&str; 7] = [
        "trainingjobs",
        "pods",
        "services",
        "configmaps",
        "secrets",
        "networkpolicies",
        "events",
    ];
    let mut writes = Writes::new();
    for (verb, resource, count) in server.writes().await? {
        let submission = resource == "trainingjobs" && verb == "POST";
        if RESOURCES.contains(&resource.as_str()) && !submission {
            *writes.entry((verb, resource)).or_default() += count;
        }
    }
    Ok(writes)
}

fn difference(before: &Writes, after: &Writes) -> Writes {
    let more = |(key, count): (&(String, String), &u64)| {
        let more = count - before.get(key).unwrap_or(&0).min(count);
        (more > 0).then(|| (key.clone(), more))
    };
    after.iter().filter_map(more).collect()
}
