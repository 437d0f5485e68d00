//! Trains the breast-cancer example on the cluster as a user would, beside the same run on this machine, and shows where
//! the time from `kubectl apply` to the first step goes. `make demo-cluster` runs it.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde_json::Value;
use trainyard_crds::TrainingJob;
use trainyard_crds::training_job::Phase;
use trainyard_tests::cluster::{self, Namespace};

const JOB: &str = "breast-cancer";
const MANIFEST: &str = "examples/breast-cancer/job.yaml";
/// How often we look.
const LOOK: Duration = Duration::from_millis(25);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    say(
        "helm upgrade --install trainyard charts/trainyard --namespace trainyard-system --create-namespace",
    );
    cluster::operator()?;
    say(&format!("trainyard run {MANIFEST}"));
    let local = cluster::run_locally("breast-cancer/job.yaml", &[])?;
    let here = local["modelSha256"].as_str().unwrap_or_default();
    let namespace = Namespace::new("demo")?;
    // The first job finds everything in place but the page cache; the second shows a warm node.
    for title in ["cold", "warm"] {
        let seen = train(&namespace, title)
            .await
            .map_err(|error| error.context(namespace.describe(JOB)))?;
        show_times(&seen);
        let status = namespace.status(JOB)?;
        let there = status["modelSha256"].as_str().unwrap_or_default();
        println!("\nmodelSha256 here        {here}\nmodelSha256 on cluster  {there}");
        ensure!(here == there, "the model depends on who computed it");
        println!("the same bits");
        if title == "cold" {
            show_events(&namespace)?;
            // Its pods too are gone when kubectl returns: their names are free for the next one's.
            let delete = [
                "delete",
                "trainingjob",
                JOB,
                "-n",
                &namespace.name,
                "--cascade=foreground",
            ];
            say(&format!("kubectl {}", delete.join(" ")));
            cluster::kubectl(&delete)?;
        }
    }
    Ok(())
}

/// Applies the manifest and follows the job to its end, as a user would; says when each milestone was reached.
async fn train(namespace: &Namespace, title: &str) -> Result<Milestones> {
    let get = ["get", "trainingjob", JOB, "-n", &namespace.name, "--watch"];
    let apply = ["apply", "-n", &namespace.name, "-f", MANIFEST];
    say(&format!(
        "kubectl {}    # {title}\n$ kubectl {}",
        apply.join(" "),
        get.join(" ")
    ));
    let manifest = cluster::root().join(MANIFEST);
    let manifest = manifest.to_str().context("a path in UTF-8")?;
    let begin = Instant::now();
    cluster::kubectl(&["apply", "-n", &namespace.name, "-f", manifest])?;
    let applied = begin.elapsed();
    let mut watch = Command::new("kubectl").args(get).spawn()?;
    let followed = follow(namespace, begin).await;
    watch.kill()?;
    watch.wait()?;
    let mut seen = followed?;
    seen.insert(Milestone::Applied, applied);
    Ok(seen)
}

/// The parts of the way to the first step, and which of them bounds it.
fn show_times(seen: &Milestones) {
    println!("\n  {:<48} {:>6}   {:>6}", "", "part", "at");
    let mut before = Duration::ZERO;
    let mut longest = (Duration::ZERO, "");
    for (milestone, at) in seen {
        // Milestones are seen at different moments of one look; none is before the one that it follows.
        let at = (*at).max(before);
        let part = at - before;
        println!(
            "  {:<48} {:>5.2} s  {:>5.2} s",
            milestone.words(),
            part.as_secs_f64(),
            at.as_secs_f64()
        );
        if *milestone <= Milestone::FirstStep && part > longest.0 {
            longest = (part, milestone.words());
        }
        before = at;
    }
    if let Some(first) = seen.get(&Milestone::FirstStep) {
        println!(
            "  from kubectl apply to the first step: {:.2} s, bounded by \"{}\": {:.0} %",
            first.as_secs_f64(),
            longest.1,
            100.0 * longest.0.as_secs_f64() / first.as_secs_f64()
        );
    }
}

fn show_events(namespace: &Namespace) -> Result<()> {
    let about = format!("involvedObject.name={JOB}");
    let columns = "custom-columns=REASON:.reason,MESSAGE:.message";
    let get = [
        "get",
        "events",
        "-n",
        &namespace.name,
        "--field-selector",
        &about,
        "-o",
        columns,
    ];
    say(&format!("kubectl {}", get.join(" ")));
    print!("{}", cluster::kubectl(&get)?);
    Ok(())
}

fn say(command: &str) {
    println!("\n$ {command}");
}

/// Points on the way from the manifest to the model.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Milestone {
    Applied,
    Accepted,
    Created,
    Scheduled,
    Started,
    FirstStep,
    Succeeded,
}

impl Milestone {
    fn words(self) -> &'static str {
        match self {
            Milestone::Applied => "kubectl: read the schemas, apply",
            Milestone::Accepted => "operator: take the job up",
            Milestone::Created => "operator: create the objects and pods",
            Milestone::Scheduled => "scheduler: find nodes",
            Milestone::Started => "kubelets: network, volumes, containers",
            Milestone::FirstStep => "trainer: load libtorch and data, join, a step",
            Milestone::Succeeded => "trainer: the other steps, the artifact",
        }
    }
}

/// When each was reached, from the begin of `kubectl apply`.
type Milestones = BTreeMap<Milestone, Duration>;

async fn follow(namespace: &Namespace, begin: Instant) -> Result<Milestones> {
    let client = Client::try_default().await?;
    let jobs: Api<TrainingJob> = Api::namespaced(client.clone(), &namespace.name);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace.name);
    let of_job = ListParams::default().labels(&format!("trainyard.dev/job={JOB}"));
    let mut seen = BTreeMap::new();
    loop {
        if begin.elapsed() > cluster::LIMIT {
            bail!("the job does not end");
        }
        let status = jobs.get(JOB).await?.status.unwrap_or_default();
        let pods = pods.list(&of_job).await?.items;
        let all = |test: fn(&Pod) -> bool| pods.len() == 3 && pods.iter().all(test);
        let mut reach = |milestone, reached: bool| {
            if reached {
                seen.entry(milestone).or_insert(begin.elapsed());
            }
        };
        reach(Milestone::Accepted, status.image.is_some());
        reach(Milestone::Created, all(|_| true));
        reach(
            Milestone::Scheduled,
            all(|pod| {
                pod.spec
                    .as_ref()
                    .is_some_and(|spec| spec.node_name.is_some())
            }),
        );
        reach(Milestone::Started, all(has_started));
        reach(
            Milestone::FirstStep,
            steps(&client, namespace, &pods).await > 0
                || status.progress.is_some_and(|p| p.step > 0),
        );
        match status.phase {
            Some(Phase::Succeeded) => {
                reach(Milestone::Succeeded, true);
                return Ok(seen);
            }
            Some(Phase::Failed) => bail!("the job has failed"),
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}

fn has_started(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    let states = statuses
        .into_iter()
        .flatten()
        .filter_map(|status| status.state.as_ref());
    states
        .into_iter()
        .any(|state| state.running.is_some() || state.terminated.is_some())
}

/// Steps that server 0 says it has done.
async fn steps(client: &Client, namespace: &Namespace, pods: &[Pod]) -> u64 {
    let asked = async {
        let server = pods
            .iter()
            .find(|pod| pod.name_any().contains("-server-0-"))
            .context("server 0")?;
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}:8080/proxy/status",
            namespace.name,
            server.name_any()
        );
        let answer: Value = client
            .request(http::Request::get(path).body(Vec::new())?)
            .await?;
        anyhow::Ok(answer["step"].as_u64().unwrap_or_default())
    };
    // The way to a pod that is not there leads nowhere for a long time.
    let answer = tokio::time::timeout(Duration::from_millis(500), asked).await;
    answer.ok().and_then(Result::ok).unwrap_or_default()
}
