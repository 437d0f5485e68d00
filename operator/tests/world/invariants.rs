//! What must hold after every change of any object.

use std::collections::BTreeMap;

use serde_json::Value;
use trainyard_contract::EXPORT_ATTEMPTS;

use crate::cluster::Cluster;
use crate::keys::Keys;
use crate::kubelet::text;
use crate::store::{Change, JOBS, PODS, SECRETS};

/// What happened to a pod, as far as anybody may count it.
#[derive(Clone, Debug, Default)]
struct Fate {
    job: String,
    /// It ended in a way that counts as a failure.
    failed: bool,
    /// It ended in a way that no other attempt mends.
    permanently: bool,
    /// Somebody or something else ended it.
    disturbed: bool,
    /// The operator itself deleted it, before anything else happened to it.
    by_operator: bool,
    /// The operator deleted it because the job was suspended.
    suspended: bool,
    /// It was a finisher.
    finisher: bool,
    /// It was a server that others needed: training cannot have gone on without somebody noticing.
    needed: bool,
}

/// What is remembered for the checks.
#[derive(Default)]
pub struct Watchdog {
    fates: BTreeMap<String, Fate>,
    /// At times two operators act at once: what only one of them can guarantee is not asked for.
    pub rivals: bool,
    /// Somebody has scaled or suspended a job: some failures may go unnoticed.
    pub changed: bool,
    /// Most seconds by which the operator's clock was ever off.
    pub skew: i64,
    pub keys: Keys,
}

impl Watchdog {
    /// A container ended.
    pub fn pod_ended(&mut self, uid: &str, code: i32, reason: &str, needed: bool) {
        let fate = self.fates.entry(uid.into()).or_default();
        fate.needed = needed;
        match (code, reason) {
            _ if fate.by_operator => {}
            (0, _) if fate.finisher => fate.permanently = true, // unless it has reported
            (_, "DeadlineExceeded") => fate.failed = true,
            (_, "Evicted") | (0 | 75, _) => fate.disturbed = true,
            (101 | 128.., _) => fate.failed = true,
            _ => fate.permanently = true,
        }
    }

    /// A pod was asked to go.
    pub fn pod_deleted(&mut self, uid: &str, by_operator: bool, suspended: bool) {
        let fate = self.fates.entry(uid.into()).or_default();
        fate.suspended |= by_operator && suspended;
        match by_operator {
            true if !fate.disturbed && !fate.failed && !fate.permanently => fate.by_operator = true,
            true => {}
            false => fate.disturbed |= !fate.by_operator,
        }
    }

    /// Pods of a job that failed, and those that may have been counted at all: also one that an operator has suspended, if
    /// there is another whose watch is behind, and who sees the resumed job beside the pod that is going.
    fn countable(&self, job: &str) -> (u64, u64) {
        let of_job = self.fates.values().filter(|fate| fate.job == job);
        let failed = of_job
            .clone()
            .filter(|fate| fate.failed && !fate.finisher)
            .count() as u64;
        let misread = |fate: &Fate| fate.suspended && self.rivals;
        let counts = |fate: &&Fate| fate.failed || fate.disturbed || misread(fate);
        let all = of_job.filter(counts).count() as u64;
        (failed, all)
    }

    pub fn failed_permanently_somewhere(&self) -> bool {
        let mut fates = self.fates.values();
        fates.any(|fate| fate.permanently && !fate.finisher)
    }

    /// How many servers failed, if fewer failures are counted.
    pub fn uncounted(&self, failures: &Value) -> Option<String> {
        let counted = failures.as_u64().unwrap_or(0);
        let must =
            |fate: &&Fate| fate.failed && fate.needed && !fate.disturbed && !fate.by_operator;
        let failed = self.fates.values().filter(must).count() as u64;
        (counted < failed && !self.changed)
            .then(|| format!("{failed} servers failed, but only {counted} failures are counted"))
    }

    fn failed_permanently(&self, job: &str) -> bool {
        self.fates
            .values()
            .any(|fate| fate.job == job && fate.permanently && !fate.finisher)
    }

    /// Finishers of a job that failed in any way.
    fn failed_exports(&self, job: &str) -> u64 {
        let of_job = self.fates.values().filter(|fate| fate.job == job);
        let failed = |fate: &&Fate| fate.finisher && (fate.failed || fate.permanently);
        of_job.filter(failed).count() as u64
    }
}

impl Cluster {
    pub fn check(&mut self, change: &Change) {
        self.check_secrecy(change);
        if change.key.kind == &SECRETS {
            self.check_secret(change);
        } else if change.key.kind == &PODS {
            self.check_pod(change);
        } else if change.key.kind == &JOBS
            && let (Some(old), Some(new)) = (&change.old, &change.new)
        {
            let mut broken = Vec::new();
            monotonic(old, new, &mut broken);
            conditions(old, new, &mut broken);
            self.check_counts(new, &mut broken);
            self.check_end(old, new, &mut broken);
            for what in broken {
                self.violation(format!("{}: {what}", change.key.name));
            }
        }
    }

    fn check_pod(&mut self, change: &Change) {
        let pod = change.object();
        let uid = text(&pod["metadata"]["uid"]);
        let job = text(&pod["metadata"]["ownerReferences"][0]["uid"]);
        if change.new.is_none() {
            let fate = self.watchdog.fates.entry(uid).or_default();
            fate.disturbed |= !fate.by_operator && !fate.failed && !fate.permanently;
            return;
        }
        if change.old.is_some() || job.is_empty() {
            return;
        }
        let role = text(&pod["metadata"]["labels"]["trainyard.dev/role"]);
        let fate = self.watchdog.fates.entry(uid).or_default();
        fate.job.clone_from(&job);
        fate.finisher = role == "finisher";
        let name = text(&pod["metadata"]["ownerReferences"][0]["name"]);
        let owner = self
            .job(&name)
            .filter(|owner| owner["metadata"]["uid"] == *job);
        let phase = owner
            .map(|owner| text(&owner["status"]["phase"]))
            .unwrap_or_default();
        let labels = &pod["metadata"]["labels"];
        let index = labels["trainyard.dev/index"]
            .as_str()
            .and_then(|index| index.parse::<u32>().ok());
        let mut broken = Vec::new();
        self.check_key_of_pod(pod, &job, &role, &mut broken);
        if !self.watchdog.rivals {
            if matches!(phase.as_str(), "Succeeded" | "Failed" | "Suspended") {
                broken.push(format!(
                    "pod {} is created although the job is {phase}",
                    change.key.name
                ));
            }
            if (phase == "Exporting") != (role == "finisher") {
                broken.push(format!(
                    "pod {} is created while the job is {phase}",
                    change.key.name
                ));
            }
            if role == "server"
                && let Some(index) = index
                && let Some(held) = self
                    .trainings
                    .get(&job)
                    .and_then(|training| training.held.get(&index))
            {
                let args = pod["spec"]["containers"][0]["args"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                let told = args.iter().find_map(|arg| {
                    arg.as_str()?
                        .strip_prefix("--generation=")?
                        .parse::<u64>()
                        .ok()
                });
                if told.is_none_or(|told| told <= *held) {
                    broken.push(format!(
                        "{} is told generation {told:?}; its predecessor ran in {held}",
                        change.key.name
                    ));
                }
            }
        }
        for what in broken {
            self.violation(what);
        }
    }

    /// No loss is counted twice, and nothing else is counted.
    fn check_counts(&self, job: &Value, broken: &mut Vec<String>) {
        let (failed, all) = self.watchdog.countable(&text(&job["metadata"]["uid"]));
        let restarts = &job["status"]["restarts"];
        let failures = restarts["failures"].as_u64().unwrap_or(0);
        let disruptions = restarts["disruptions"].as_u64().unwrap_or(0);
        if failures > failed {
            broken.push(format!(
                "{failures} failures are counted, but only {failed} pods failed"
            ));
        }
        let exports = job["status"]["export"]["failures"].as_u64().unwrap_or(0);
        let failed = self.watchdog.failed_exports(&text(&job["metadata"]["uid"]));
        if exports > failed {
            broken.push(format!(
                "{exports} failed exports are counted, but only {failed} finishers failed"
            ));
        }
        if failures + disruptions > all {
            broken.push(format!("{failures} failures and {disruptions} disruptions are counted, but only {all} pods were lost"));
        }
    }

    fn check_end(&self, old: &Value, new: &Value, broken: &mut Vec<String>) {
        let (before, after) = (&old["status"], &new["status"]);
        let uid = text(&new["metadata"]["uid"]);
        let terminal =
            |status: &Value| status["phase"] == "Succeeded" || status["phase"] == "Failed";
        if terminal(before) {
            for field in [
                "phase",
                "modelSha256",
                "restarts",
                "generation",
                "completionTime",
                "export",
                "artifact",
            ] {
                if before[field] != after[field] {
                    broken.push(format!(
                        "{field} changes after the end, from {} to {}",
                        before[field], after[field]
                    ));
                }
            }
            return;
        }
        if after["phase"] == "Succeeded" {
            self.check_artifact(new, broken);
            let complete = self
                .trainings
                .get(&uid)
                .filter(|training| training.complete);
            if complete.is_none_or(|training| after["modelSha256"] != training.sha256()) {
                broken.push(format!(
                    "Succeeded with {}, which no trainer reported",
                    after["modelSha256"]
                ));
            }
        }
        if after["phase"] == "Failed" {
            self.check_failure(new, broken);
        }
    }

    /// A job that succeeded says truly whether there is an artifact, and if not, why.
    fn check_artifact(&self, job: &Value, broken: &mut Vec<String>) {
        let (uid, status) = (text(&job["metadata"]["uid"]), &job["status"]);
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let Some(ready) = conditions.iter().find(|c| c["type"] == "ArtifactReady") else {
            return broken.push("Succeeded without a word about the artifact".into());
        };
        let training = self.trainings.get(&uid);
        let exported = training.is_some_and(|training| training.exported);
        let limited = !job["spec"]["activeDeadlineSeconds"].is_null();
        match (ready["status"] == "True", ready["reason"].as_str()) {
            (true, _) if !exported => broken.push("there is no artifact".into()),
            (true, _) => {}
            (false, Some("DeadlineExceeded")) if limited => {}
            (false, Some("BadInput")) if self.watchdog.failed_exports(&uid) > 0 => {}
            (false, _) if status["export"]["failures"] == EXPORT_ATTEMPTS => {}
            (false, _) => broken.push(format!("the export was given up too early: {ready}")),
        }
    }

    fn check_failure(&self, job: &Value, broken: &mut Vec<String>) {
        let uid = text(&job["metadata"]["uid"]);
        let (spec, status) = (&job["spec"], &job["status"]);
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let Some(failed) = conditions
            .iter()
            .find(|c| c["type"] == "Failed" && c["status"] == "True")
        else {
            return broken.push("Failed without a condition that says so".into());
        };
        let true_cause = match failed["reason"].as_str().unwrap_or_default() {
            "BackoffLimitExceeded" => {
                self.watchdog.countable(&uid).0 > spec["backoffLimit"].as_u64().unwrap_or(6)
            }
            "DeadlineExceeded" => {
                let start = status["startTime"]
                    .as_str()
                    .and_then(|time| time.parse::<jiff::Timestamp>().ok());
                let ran = start.map_or(0, |start| self.now().duration_since(start).as_secs());
                spec["activeDeadlineSeconds"]
                    .as_i64()
                    .is_some_and(|limit| ran + self.watchdog.skew >= limit)
            }
            "InvalidSpec" => true,
            _ => self.watchdog.failed_permanently(&uid),
        };
        if !true_cause {
            broken.push(format!("fails without a cause: {failed}"));
        }
    }
}

/// What only ever grows.
fn monotonic(old: &Value, new: &Value, broken: &mut Vec<String>) {
    let paths = [
        "/status/generation",
        "/status/startedGeneration",
        "/status/observedGeneration",
        "/status/progress/step",
        "/status/checkpoint/step",
        "/status/restarts/failures",
        "/status/restarts/disruptions",
        "/metadata/generation",
    ];
    let number =
        |object: &Value, path: &str| object.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    for path in paths {
        if number(new, path) < number(old, path) {
            broken.push(format!(
                "{path} falls from {} to {}",
                number(old, path),
                number(new, path)
            ));
        }
    }
    if number(new, "/status/observedGeneration") > number(new, "/metadata/generation") {
        broken.push("observedGeneration is ahead".into());
    }
    if number(new, "/status/startedGeneration") > number(new, "/status/generation") {
        broken.push("startedGeneration is ahead".into());
    }
    let members = |object: &Value| {
        object["status"]["restarts"]["members"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    };
    let now = members(new);
    for member in members(old) {
        let attempt = |member: &Value| member["attempt"].as_u64().unwrap_or(0);
        let same = now.iter().find(|other| other["name"] == member["name"]);
        if same.is_none_or(|same| attempt(same) < attempt(&member)) {
            broken.push(format!("the attempt of {} falls", member["name"]));
        }
    }
}

fn conditions(old: &Value, new: &Value, broken: &mut Vec<String>) {
    let of = |object: &Value| {
        object["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    };
    let before = of(old);
    for condition in of(new) {
        let Some(was) = before.iter().find(|c| c["type"] == condition["type"]) else {
            continue;
        };
        let moved = was["lastTransitionTime"] != condition["lastTransitionTime"];
        if moved && was["status"] == condition["status"] {
            broken.push(format!(
                "lastTransitionTime of {} moves without a flip",
                condition["type"]
            ));
        }
    }
}
