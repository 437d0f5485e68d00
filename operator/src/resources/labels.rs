//! Labels and annotations that the operator sets.

use std::collections::BTreeMap;

use trainyard_contract::{Member, Role};

/// Name of the job.
pub const JOB: &str = "trainyard.dev/job";
/// `server`, `worker` or `finisher`.
pub const ROLE: &str = "trainyard.dev/role";
/// Index in the role.
pub const INDEX: &str = "trainyard.dev/index";
/// Which of the member's pods it is.
pub const ATTEMPT: &str = "trainyard.dev/attempt";
/// Digest of what the operator last applied, to see without a diff whether it is current.
pub const APPLIED: &str = "trainyard.dev/applied";
/// Selector of everything that the operator makes.
pub const MANAGED: &str = "app.kubernetes.io/managed-by=trainyard";

/// Labels of everything that belongs to a job.
pub fn of_job(job: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/managed-by", "trainyard"),
        ("app.kubernetes.io/name", "trainyard"),
        (JOB, job),
    ]
    .map(|(key, value)| (key.into(), value.into()))
    .into()
}

/// Labels of a pod.
pub fn of_pod(job: &str, member: Member, attempt: u32) -> BTreeMap<String, String> {
    let mut labels = of_job(job);
    labels.insert(ROLE.into(), member.role.name().into());
    labels.insert(INDEX.into(), member.index.to_string());
    labels.insert(ATTEMPT.into(), attempt.to_string());
    labels
}

/// Selector of a job's pods of a role, as `kubectl scale` and autoscalers want it.
pub fn selector(job: &str, role: Role) -> String {
    format!("{JOB}={job},{ROLE}={}", role.name())
}
