//! What the operator sees of a job's pods: the few facts that decisions need, taken from the objects that watches bring.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};
use trainyard_contract::pod::CONTAINER;
use trainyard_contract::{Metrics, Stuck, TERMINATION_MESSAGE_LIMIT};

use crate::owner::Owner;
use crate::resources::{self, labels};
use crate::trouble::truncate;

pub use crate::child::{Child, ChildObject};
pub use crate::trouble::Trouble;
pub use trainyard_contract::{ExportReport, Member, Report, Role};

/// How far the clocks of nodes may be apart.
const SKEW: SignedDuration = SignedDuration::from_secs(5);

/// A pod of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSeen {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub version: String,
    /// Whose pod it is.
    pub member: Member,
    /// Which of the member's pods, from 0.
    pub attempt: u32,
    /// Whether it has all labels that the operator gave it.
    pub labelled: bool,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Where it is in its life.
    pub stage: PodStage,
    /// Address of the pod.
    pub ip: Option<String>,
    /// When its grace ends, if it was asked to go.
    pub deletion: Option<Timestamp>,
}

/// Where a pod is in its life, by the container of the trainer.
#[derive(Clone, Debug, PartialEq)]
pub enum PodStage {
    /// The container has not started.
    Pending {
        /// What keeps it from starting, as far as anybody says.
        trouble: Option<Trouble>,
    },
    /// The container runs.
    Running {
        /// Since when.
        since: Option<Timestamp>,
        /// Whether it is ready.
        ready: bool,
    },
    /// The container has ended, and the pod's phase does not say so: the kubelet tells of the containers' ends first.
    Exited {
        /// Whether another container goes on, a sidecar that was injected. As long as it does, the phase stays as it is.
        sidecar: bool,
    },
    /// The pod's phase says that it has ended.
    Ended(End),
}

impl PodSeen {
    /// Neither ended nor asked to go.
    pub fn is_active(&self) -> bool {
        self.end().is_none() && self.deletion.is_none()
    }

    /// Whether the container has ever started.
    pub fn has_started(&self) -> bool {
        !matches!(self.stage, PodStage::Pending { .. })
    }

    /// Whether the container runs.
    pub fn is_running(&self) -> bool {
        matches!(self.stage, PodStage::Running { .. })
    }

    /// Whether the container runs and is ready.
    pub fn is_ready(&self) -> bool {
        matches!(self.stage, PodStage::Running { ready: true, .. })
    }

    /// Whether all that ran in it has ended.
    pub fn is_over(&self) -> bool {
        matches!(
            self.stage,
            PodStage::Exited { sidecar: false } | PodStage::Ended(_)
        )
    }

    /// Since when the container runs, if it does.
    pub fn running_since(&self) -> Option<Timestamp> {
        match self.stage {
            PodStage::Running { since, .. } => since,
            _ => None,
        }
    }

    /// How it ended, if it has.
    pub fn end(&self) -> Option<&End> {
        match &self.stage {
            PodStage::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// Why it does not start, as far as anybody says.
    pub fn trouble(&self) -> Option<&Trouble> {
        match &self.stage {
            PodStage::Pending { trouble } => trouble.as_ref(),
            _ => None,
        }
    }

    /// How long the container has run, in seconds.
    pub fn lived_seconds(&self, now: Timestamp) -> i64 {
        let since = self.running_since();
        since.map_or(0, |since| now.duration_since(since).as_secs().max(0))
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
        Report::from_message(&self.message).filter(|_| self.code == Some(0))
    }

    /// What a finisher reported, if it exported the artifact.
    pub fn export_report(&self) -> Option<ExportReport> {
        ExportReport::from_message(&self.message).filter(|_| self.code == Some(0))
    }
}

/// What the coordinator says of the training, as the status keeps it: see [`trainyard_contract::Progress`].
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
    pub validation: Metrics,
    /// Step of the newest checkpoint.
    pub checkpoint: Option<u64>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Members that do nothing for the job.
    pub stuck: Vec<Stuck>,
    /// When it was read.
    pub time: Timestamp,
}

impl ProgressSeen {
    /// What the process in a pod does not do, if it is one that does nothing.
    pub fn stuck(&self, pod: &PodSeen) -> Option<&Stuck> {
        let since = pod.running_since()?;
        let meant = |stuck: &&Stuck| {
            let seconds = i64::try_from(stuck.seconds).unwrap_or(i64::MAX);
            let ran = self.time.duration_since(since);
            stuck.member == pod.member && ran > SignedDuration::from_secs(seconds) + SKEW
        };
        self.stuck.iter().find(meant)
    }
}

/// All that is seen of a job.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Its pods, those of older attempts too.
    pub pods: Vec<PodSeen>,
    /// Its other objects, as far as they are there.
    pub children: BTreeMap<ChildObject, Child>,
    /// What the coordinator last said.
    pub progress: Option<ProgressSeen>,
    /// Since when the coordinator has not answered.
    pub silent_since: Option<Timestamp>,
    /// What the last attempt to create something came to, if it was refused.
    pub refusal: Option<Refusal>,
    /// What the pods need and is not there.
    pub missing_reference: Option<Trouble>,
    /// Pods that were looked up and are not there, by member and attempt.
    pub absent: BTreeSet<(Member, u32)>,
    /// Pods that were looked up and whose names somebody else's have.
    pub foreign: BTreeSet<(Member, u32)>,
    /// Pods that the watch has lost before they had ended, as they were last seen.
    pub removed: Vec<PodSeen>,
}

/// What became of an attempt to create something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why it was refused.
    pub trouble: Trouble,
    /// Until when the same would be refused again.
    pub until: Timestamp,
}

/// Takes from a pod what decisions need; none for a pod that no job owns. Whose pod it is tells its name, which nobody can
/// change, not its labels.
pub fn from_pod(pod: &Pod) -> Option<PodSeen> {
    let owner = Owner::of(&pod.metadata)?;
    let (member, attempt) = identity(&owner.name, &pod.name_any())?;
    let labelled = labels::of_pod(&owner.name, member, attempt)
        .iter()
        .all(|(name, value)| pod.labels().get(name) == Some(value));
    let status = pod.status.as_ref();
    Some(PodSeen {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        version: pod.resource_version().unwrap_or_default(),
        member,
        attempt,
        labelled,
        created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
        stage: status.map_or(PodStage::Pending { trouble: None }, stage),
        ip: status.and_then(|s| s.pod_ip.clone()),
        deletion: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
    })
}

fn stage(status: &PodStatus) -> PodStage {
    let containers = || status.container_statuses.iter().flatten();
    let trainer = containers().find(|c| c.name == CONTAINER);
    if let Some(end) = end(status, trainer) {
        return PodStage::Ended(end);
    }
    let state = trainer.and_then(|c| c.state.as_ref());
    let terminated = |c: &ContainerStatus| c.state.as_ref().is_some_and(|s| s.terminated.is_some());
    if trainer.is_some_and(terminated) {
        let sidecar = !containers().all(terminated);
        return PodStage::Exited { sidecar };
    }
    match state.and_then(|s| s.running.as_ref()) {
        Some(running) => PodStage::Running {
            since: running.started_at.as_ref().map(|time| time.0),
            ready: trainer.is_some_and(|c| c.ready),
        },
        None => PodStage::Pending {
            trouble: trouble(status, trainer),
        },
    }
}

fn identity(job: &str, pod: &str) -> Option<(Member, u32)> {
    let own = pod.strip_prefix(job)?.strip_prefix('-')?;
    let (member, attempt) = own.rsplit_once('-')?;
    let (member, attempt) = (member.parse().ok()?, attempt.parse().ok()?);
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
    // What the runtime says of a container that it found dead when the node came up again, and the kubelet of one that it
    // cannot find.
    let rebooted = matches!(
        terminated.and_then(|t| t.reason.as_deref()),
        Some("Unknown" | "ContainerStatusUnknown")
    );
    let mut message = terminated
        .and_then(|t| t.message.clone())
        .filter(|m| !m.trim().is_empty())
        .or_else(|| status.message.clone())
        .or_else(|| disruption.and_then(|c| c.message.clone()))
        .unwrap_or_default();
    truncate(&mut message, TERMINATION_MESSAGE_LIMIT);
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
            || rebooted
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Worker 0 of job `a`, as the API server has it.
    fn worker(phase: &str, state: serde_json::Value) -> PodSeen {
        pod(phase, &[(CONTAINER, state)])
    }

    /// The same with containers of these names in these states.
    fn pod(phase: &str, containers: &[(&str, serde_json::Value)]) -> PodSeen {
        let container = |(name, state): &(&str, serde_json::Value)| {
            serde_json::json!({
                "name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
            })
        };
        let containers: Vec<_> = containers.iter().map(container).collect();
        let pod = serde_json::json!({
            "metadata": {
                "name": "a-worker-0-0", "uid": "1",
                "ownerReferences": [{
                    "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "name": "a", "uid": "2",
                    "controller": true,
                }],
            },
            "status": {"phase": phase, "containerStatuses": containers},
        });
        from_pod(&serde_json::from_value(pod).expect("a pod")).expect("a pod of a job")
    }

    #[test]
    fn o08_a_node_that_was_rebooted_ended_the_pod_and_not_the_program() {
        let ended = |code: i32, reason: &str| {
            let state = serde_json::json!({"terminated": {"exitCode": code, "reason": reason}});
            let pod = worker("Failed", state);
            pod.end().expect("an end").clone()
        };
        assert!(ended(255, "Unknown").disrupted);
        assert!(ended(137, "ContainerStatusUnknown").disrupted);
        assert!(!ended(137, "Error").disrupted);
    }

    /// The kubelet tells of the container's end before it changes the pod's phase.
    #[test]
    fn o14_a_container_that_has_ended_had_begun_and_is_over_whatever_the_phase_says() {
        let state = |name: &str| match name {
            "none" => serde_json::json!({}),
            "waiting" => serde_json::json!({"waiting": {"reason": "ImagePullBackOff"}}),
            "running" => serde_json::json!({"running": {}}),
            _ => serde_json::json!({"terminated": {"exitCode": 0}}),
        };
        let seen = [
            ("Pending", "none"),
            ("Pending", "waiting"),
            ("Running", "running"),
            ("Running", "terminated"),
            ("Succeeded", "terminated"),
        ]
        .map(|(phase, name)| worker(phase, state(name)))
        .map(|pod| (pod.has_started(), pod.is_over()));
        let expected = [
            (false, false),
            (false, false),
            (true, false),
            (true, true),
            (true, true),
        ];
        assert_eq!(seen, expected);
    }

    /// The pod goes on as long as the sidecar does.
    #[test]
    fn o14_a_pod_whose_sidecar_goes_on_is_not_over() {
        let ended = || serde_json::json!({"terminated": {"exitCode": 0}});
        let stage = |sidecar| {
            let containers = [(CONTAINER, ended()), ("sidecar", sidecar)];
            pod("Running", &containers).stage
        };
        let runs = stage(serde_json::json!({"running": {}}));
        assert_eq!(runs, PodStage::Exited { sidecar: true });
        assert_eq!(stage(ended()), PodStage::Exited { sidecar: false });
    }
}
