//! What the operator sees of a job's pods: the few facts that decisions need, taken from the objects that watches bring.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use kube::ResourceExt;
use serde::Deserialize;
use std::collections::BTreeMap;

use crate::index::Owner;
use crate::resources::{self, labels};

/// Longest message that is taken over from a pod, in bytes.
const MAX_MESSAGE: usize = 4096;

/// A role of a job's pods.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Holds parameters.
    Server,
    /// Computes gradients.
    Worker,
}

impl Role {
    /// The role in names and labels.
    pub fn name(self) -> &'static str {
        match self {
            Role::Server => "server",
            Role::Worker => "worker",
        }
    }
}

/// A server or worker, whichever pod it runs in.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Its role.
    pub role: Role,
    /// Its index in the role, from 0.
    pub index: u32,
}

impl Member {
    /// Server 0, which hosts the coordinator.
    pub const COORDINATOR: Member = Member::server(0);

    /// A server.
    pub const fn server(index: u32) -> Self {
        let role = Role::Server;
        Member { role, index }
    }

    /// A worker.
    pub const fn worker(index: u32) -> Self {
        let role = Role::Worker;
        Member { role, index }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.role.name(), self.index)
    }
}

/// A pod of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSeen {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// Whose pod it is.
    pub member: Member,
    /// Which of the member's pods, from 0.
    pub attempt: u32,
    /// Whether it has all labels that the operator gave it.
    pub labelled: bool,
    /// Whether the container runs.
    pub running: bool,
    /// Whether it is ready.
    pub ready: bool,
    /// Address of the pod.
    pub ip: Option<String>,
    /// When its grace ends, if it was asked to go.
    pub deletion: Option<Timestamp>,
    /// How it ended, if it has.
    pub end: Option<End>,
    /// Why it does not run, as far as anybody says.
    pub trouble: Option<Trouble>,
}

impl PodSeen {
    /// Neither ended nor asked to go.
    pub fn is_active(&self) -> bool {
        self.end.is_none() && self.deletion.is_none()
    }
}

/// How a pod ended.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// Exit code of the container, if it has one.
    pub code: Option<i32>,
    /// Kubernetes' word for it: `Error`, `OOMKilled`, `Evicted`, ...
    pub reason: String,
    /// What the container or the kubelet said at the end.
    pub message: String,
    /// Whether the cluster ended it rather than the program: eviction, preemption, a lost node.
    pub disrupted: bool,
    /// How long the container ran, in seconds.
    pub lived_seconds: i64,
    /// When the container ended.
    pub finished: Option<Timestamp>,
}

impl End {
    /// What server 0 reported, if it finished the job.
    pub fn report(&self) -> Option<Report> {
        let report: Report = serde_json::from_str(&self.message).ok()?;
        (self.code == Some(0) && report.complete).then_some(report)
    }
}

/// The termination message of a server 0 that found or wrote the complete checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Always true.
    pub complete: bool,
    /// Steps applied.
    #[serde(default)]
    pub step: u64,
    /// Steps of the whole job; fewer were needed if it stopped early.
    #[serde(default)]
    pub total_steps: u64,
    /// Epochs done.
    #[serde(default)]
    pub epochs: u32,
    /// Digest of the model.
    #[serde(default, rename = "modelSha256")]
    pub model_sha256: Option<String>,
    /// URI of the artifact.
    #[serde(default)]
    pub artifact: Option<String>,
    /// Final metrics.
    #[serde(default)]
    pub metrics: ReportMetrics,
}

/// Final metrics, by name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ReportMetrics {
    /// On the training rows.
    #[serde(default)]
    pub train: BTreeMap<String, f64>,
    /// On the validation rows.
    #[serde(default)]
    pub validation: Option<BTreeMap<String, f64>>,
}

/// Why something does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// One word, as for a condition.
    pub reason: &'static str,
    /// What was said, with the name of what is missing.
    pub message: String,
}

impl Trouble {
    /// A trouble with a message of bounded length.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        let mut message = message.into();
        cut(&mut message, 1024);
        Trouble { reason, message }
    }
}

/// What the coordinator says of the training.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgressSeen {
    /// Steps applied.
    pub step: u64,
    /// Steps of the whole job, 0 while nobody knows.
    pub total_steps: u64,
    /// Epochs done.
    pub epoch: u32,
    /// Mean training loss of the epoch so far.
    pub loss: Option<f64>,
    /// Rows trained on in a second, if two reports are known.
    pub samples_per_second: Option<f64>,
    /// Metrics of the last validation.
    pub validation: BTreeMap<String, f64>,
    /// Step of the newest checkpoint.
    pub checkpoint: Option<u64>,
    /// When it was read.
    pub time: Timestamp,
}

/// An object of a job that is not a pod.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The ConfigMap with the resolved job.
    Config,
    /// The headless Service.
    Headless,
    /// The coordinator's Service.
    Coordinator,
    /// The NetworkPolicy.
    Policy,
}

impl Part {
    /// All of them, in the order in which they are made.
    pub const ALL: [Part; 4] = [
        Part::Config,
        Part::Headless,
        Part::Coordinator,
        Part::Policy,
    ];
}

/// All that is seen of a job.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Its pods, those of older attempts too.
    pub pods: Vec<PodSeen>,
    /// Its other objects that are as they should be.
    pub parts: Vec<Part>,
    /// What the coordinator last said.
    pub progress: Option<ProgressSeen>,
    /// Why the coordinator does not answer, if it has not for longer than a moment.
    pub unreachable: Option<String>,
    /// Why the last attempt to create something was refused.
    pub refused: Option<Trouble>,
    /// A server's pod is missing that may have been there in the current generation.
    pub doubtful: bool,
}

/// Takes from a pod what decisions need; none for a pod that no job owns. Whose pod it is tells its name, which nobody can
/// change, not its labels.
pub fn see(pod: &Pod) -> Option<PodSeen> {
    let owner = Owner::of(&pod.metadata)?;
    let (member, attempt) = identity(&owner.name, &pod.name_any())?;
    let labelled = labels::of_pod(&owner.name, member, attempt)
        .iter()
        .all(|(name, value)| pod.labels().get(name) == Some(value));
    let status = pod.status.as_ref();
    let container = status
        .and_then(|s| s.container_statuses.as_ref())
        .and_then(|all| all.iter().find(|c| c.name == crate::resources::CONTAINER));
    let state = container.and_then(|c| c.state.as_ref());
    let end = status.and_then(|status| end(status, container));
    Some(PodSeen {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        member,
        attempt,
        labelled,
        running: end.is_none() && state.is_some_and(|s| s.running.is_some()),
        ready: end.is_none() && container.is_some_and(|c| c.ready),
        ip: status.and_then(|s| s.pod_ip.clone()),
        deletion: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
        trouble: match end {
            None => status.and_then(|status| trouble(status, container)),
            Some(_) => None,
        },
        end,
    })
}

fn identity(job: &str, pod: &str) -> Option<(Member, u32)> {
    let mut parts = pod.strip_prefix(job)?.strip_prefix('-')?.split('-');
    let role = match parts.next()? {
        "server" => Role::Server,
        "worker" => Role::Worker,
        _ => return None,
    };
    let index = parts.next()?.parse().ok()?;
    let attempt = parts.next()?.parse().ok()?;
    let member = Member { role, index };
    (resources::pod_name(job, member, attempt) == pod).then_some((member, attempt))
}

fn end(status: &PodStatus, container: Option<&ContainerStatus>) -> Option<End> {
    let phase = status.phase.as_deref();
    if !matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    let condition = |name: &str| {
        status
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == name && c.status == "True")
    };
    let disruption = condition("DisruptionTarget");
    let terminated = container
        .and_then(|c| c.state.as_ref())
        .and_then(|s| s.terminated.as_ref());
    let lived = terminated.and_then(|t| {
        let (start, finish) = (t.started_at.as_ref()?, t.finished_at.as_ref()?);
        Some(finish.0.as_second() - start.0.as_second())
    });
    // Reasons that the kubelet gives to a pod it ended or never admitted.
    let pod_reason = status.reason.clone().filter(|reason| !reason.is_empty());
    let kubelet = matches!(
        pod_reason.as_deref(),
        Some(
            "Evicted"
                | "Preempting"
                | "Preempted"
                | "NodeLost"
                | "NodeShutdown"
                | "Shutdown"
                | "Terminated"
                | "NodeAffinity"
                | "UnexpectedAdmissionError"
                | "OutOfcpu"
                | "OutOfmemory"
                | "OutOfpods"
        )
    );
    let mut message = terminated
        .and_then(|t| t.message.clone())
        .filter(|m| !m.trim().is_empty())
        .or_else(|| status.message.clone())
        .or_else(|| disruption.and_then(|c| c.message.clone()))
        .unwrap_or_default();
    cut(&mut message, MAX_MESSAGE);
    Some(End {
        code: terminated
            .map(|t| t.exit_code)
            .or((phase == Some("Succeeded")).then_some(0)),
        reason: pod_reason
            .or_else(|| terminated.and_then(|t| t.reason.clone()))
            .or_else(|| disruption.and_then(|c| c.reason.clone()))
            .unwrap_or_else(|| phase.unwrap_or_default().into()),
        message,
        disrupted: disruption.is_some()
            || kubelet
            || (terminated.is_none() && phase == Some("Failed")),
        lived_seconds: lived.unwrap_or(0).max(0),
        finished: terminated
            .and_then(|t| t.finished_at.as_ref())
            .map(|time| time.0),
    })
}

/// What keeps a pod from running, in the kubelet's and the scheduler's words.
fn trouble(status: &PodStatus, container: Option<&ContainerStatus>) -> Option<Trouble> {
    let unscheduled = status.conditions.iter().flatten().find(|c| {
        c.type_ == "PodScheduled"
            && c.status == "False"
            && c.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unscheduled {
        let message = condition.message.clone().unwrap_or_default();
        return Some(Trouble::new("Unschedulable", message));
    }
    let waiting = container?.state.as_ref()?.waiting.as_ref()?;
    let message = waiting.message.clone().unwrap_or_default();
    let reason = match waiting.reason.as_deref()? {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            "ImagePullFailed"
        }
        "CreateContainerConfigError" => "ContainerConfigError",
        "CreateContainerError" | "RunContainerError" => "ContainerError",
        _ => return None,
    };
    Some(Trouble::new(reason, message))
}

/// Cuts a text to at most `limit` bytes, between two characters.
pub fn cut(text: &mut String, limit: usize) {
    if text.len() > limit {
        let end = (0..=limit)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(end);
    }
}
