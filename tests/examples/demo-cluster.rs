//! Trains the breast-cancer example on the cluster as a user would, beside the same run on this machine, and shows where
//! the time from `kubectl apply` to the first step goes. `make demo-cluster` runs it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde_json::Value;
use trainyard_crds::TrainingJob;
use trainyard_crds::training_job::Phase;
use trainyard_tests::cluster::{self, Namespace};

const JOB: &str = "breast-cancer";
const MANIFEST: &str = "breast-cancer/job.yaml";
/// How often we look.
const LOOK: Duration = Duration::from_millis(25);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    say(
        "helm upgrade --install trainyard charts/trainyard --namespace trainyard-system --create-namespace",
    );
    cluster::operator()?;
    say("trainyard run examples/breast-cancer/job.yaml");
    let local = cluster::run_locally(MANIFEST, &[])?;
    let namespace = Namespace::new("demo")?;
    // The first job finds everything in place but the page cache; the second shows a warm node.
    let mut digest = Value::Null;
    for (title, name) in [("cold", JOB.to_owned()), ("warm", format!("{JOB}-2"))] {
        let mut job = cluster::example(MANIFEST)?;
        job["metadata"]["name"] = name.clone().into();
        say(&format!(
            "kubectl apply -f examples/{MANIFEST}    # {title}"
        ));
        let begin = Instant::now();
        namespace.submit(&job)?;
        let applied = begin.elapsed();
        let seen = follow(&namespace, &name, begin)
            .await
            .map_err(|error| error.context(namespace.describe(&name)))?;
        println!(
            "  {:<34} {:>7.2} s",
            "kubectl apply returned",
            applied.as_secs_f64()
        );
        for (milestone, at) in seen {
            println!("  {:<34} {:>7.2} s", milestone.words(), at.as_secs_f64());
        }
        digest = namespace.status(&name)?["modelSha256"].clone();
    }
    say(&format!("kubectl get trainingjobs -n {}", namespace.name));
    print!(
        "{}",
        cluster::kubectl(&["get", "trainingjobs", "-n", &namespace.name])?
    );
    say(&format!("kubectl get events -n {}", namespace.name));
    let columns = "custom-columns=REASON:.reason,MESSAGE:.message";
    let about = format!("involvedObject.name={JOB}");
    print!(
        "{}",
        cluster::kubectl(&[
            "get",
            "events",
            "-n",
            &namespace.name,
            "--field-selector",
            &about,
            "-o",
            columns
        ])?
    );
    println!(
        "\nmodelSha256 here        {}",
        local["modelSha256"].as_str().unwrap_or_default()
    );
    println!(
        "modelSha256 on cluster  {}",
        digest.as_str().unwrap_or_default()
    );
    if digest != local["modelSha256"] {
        bail!("the model depends on who computed it");
    }
    println!("the same bits");
    Ok(())
}

fn say(command: &str) {
    println!("\n$ {command}");
}

/// Points on the way from the manifest to the model.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Milestone {
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
            Milestone::Accepted => "the operator has taken it up",
            Milestone::Created => "all pods are created",
            Milestone::Scheduled => "all pods have a node",
            Milestone::Started => "all containers run",
            Milestone::FirstStep => "the first step is done",
            Milestone::Succeeded => "the job has succeeded",
        }
    }
}

async fn follow(
    namespace: &Namespace,
    name: &str,
    begin: Instant,
) -> Result<BTreeMap<Milestone, Duration>> {
    let client = Client::try_default().await?;
    let jobs: Api<TrainingJob> = Api::namespaced(client.clone(), &namespace.name);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace.name);
    let of_job = ListParams::default().labels(&format!("trainyard.dev/job={name}"));
    let mut seen = BTreeMap::new();
    loop {
        if begin.elapsed() > cluster::LIMIT {
            bail!("the job does not end");
        }
        let status = jobs.get(name).await?.status.unwrap_or_default();
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
